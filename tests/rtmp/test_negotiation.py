"""The client's side of an RTMP connection until its stream is known, and a player's afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, Limits
from srsproxy.rtmp.chunk import ChunkReader, ChunkWriter
from srsproxy.rtmp.events import Action, ClientEvent, Forward, MediaBegins, StreamNamed, StreamReleased
from srsproxy.rtmp.handshake import PACKET_SIZE, RANDOM_SIZE
from srsproxy.rtmp.message import (
    Command,
    Message,
    MessageType,
    UserControl,
    encode_command,
    parse_command,
    set_chunk_size,
    user_control,
)
from srsproxy.rtmp.negotiation import CREATE_STREAM_TID, ClientNegotiation, NegotiationLimits

CAPTURES = Path(__file__).parent.parent / "captures"
HANDSHAKE = b"\x03" + bytes(PACKET_SIZE) + bytes(PACKET_SIZE)
HANDSHAKE_SIZE = 1 + 2 * PACKET_SIZE
LIMITS = NegotiationLimits(message_size=131072, unidentified_bytes=262144, commands=64, amf=Limits())


def negotiation(
    limits: NegotiationLimits = LIMITS, vhosts: frozenset[str] = frozenset(), *, trusted: bool = False
) -> ClientNegotiation:
    return ClientNegotiation(limits, vhosts, accept_real_address=trusted, now_ms=0, random=bytes(RANDOM_SIZE))


def events(client: ClientNegotiation, data: bytes, step: int = 0) -> list[ClientEvent]:
    """Feed ``data``, at once or ``step`` bytes at a time; as a server does, stop where nothing more is to be parsed."""
    found: list[ClientEvent] = []
    for at in range(0, len(data), step or len(data) or 1):
        client.receive_data(data[at : at + (step or len(data))])
        while (event := client.next_event()) is not None:
            found.append(event)
        if found and isinstance(found[-1], StreamNamed) and step:
            break
    return found


def named(client: ClientNegotiation, data: bytes) -> StreamNamed:
    (event,) = events(client, data)
    assert isinstance(event, StreamNamed)
    return event


def messages(data: bytes) -> list[Message]:
    reader = ChunkReader(max_message_size=1 << 24)
    reader.receive_data(data)
    found = []
    while (message := reader.next_message()) is not None:
        found.append(message)
    return found


def commands(data: bytes) -> list[Command]:
    kinds = (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3)
    return [parse_command(message) for message in messages(data) if message.type in kinds]


def answers(client: ClientNegotiation) -> bytes:
    """What the client has been sent behind the handshake."""
    return client.data_to_send()[HANDSHAKE_SIZE:]


@dataclass
class Wire:
    """Writes what a client sends, behind a handshake."""

    data: bytes = HANDSHAKE

    def __post_init__(self) -> None:
        self.writer = ChunkWriter()

    def message(self, csid: int, kind: int, payload: bytes, msid: int = 0) -> Wire:
        self.data += self.writer.write(csid, kind, msid, payload)
        return self

    def command(self, name: str, transaction_id: float, *arguments: AmfValue, csid: int = 3, msid: int = 0) -> Wire:
        return self.message(csid, MessageType.COMMAND_AMF0, encode_command(name, transaction_id, *arguments), msid)

    def connect(self, tc_url: AmfValue = "rtmp://127.0.0.1/live", transaction_id: float = 1.0) -> Wire:
        return self.command("connect", transaction_id, {"app": "live", "tcUrl": tc_url})

    def chunk_size(self, size: int) -> Wire:
        self.message(2, MessageType.SET_CHUNK_SIZE, set_chunk_size(size))
        self.writer.chunk_size = size
        return self


# What real clients send, and what SRS answered them


@pytest.mark.parametrize(
    ("capture", "action", "key", "swallowed"),
    [
        ("rtmp_publish_ffmpeg", Action.PUBLISH, "__defaultVhost__/live/livestream", 8),
        ("rtmp_publish_busy", Action.PUBLISH, "__defaultVhost__/live/livestream", 8),
        ("rtmp_republish", Action.PUBLISH, "__defaultVhost__/live/rp1", 8),
        ("rtmp_srs_edge_publish", Action.PUBLISH, None, 6),
        ("rtmp_play_ffmpeg", Action.PLAY, "__defaultVhost__/live/livestream", 6),
        ("rtmp_play_librtmp", Action.PLAY, "__defaultVhost__/live/livestream", 6),
    ],
)
def test_recorded_clients_are_named_and_answered_as_srs_answered_them(
    capture: str, action: Action, key: str | None, swallowed: int
) -> None:
    sent = (CAPTURES / f"{capture}.c2s.bin").read_bytes()
    received = (CAPTURES / f"{capture}.s2c.bin").read_bytes()
    client = negotiation()
    event = events(client, sent)[0]
    assert isinstance(event, StreamNamed)
    assert event.action is action
    assert key is None or str(event.key) == key
    ours = messages(answers(client))
    theirs = messages(received[HANDSHAKE_SIZE:])[:swallowed]
    assert [(m.csid, m.type, m.msid) for m in ours] == [(m.csid, m.type, m.msid) for m in theirs]
    for our, their in zip(ours, theirs, strict=True):
        if our.type != MessageType.COMMAND_AMF0:
            assert our.payload == their.payload
            continue
        mine, srs = parse_command(our), parse_command(their)
        assert (mine.name, mine.transaction_id) == (srs.name, srs.transaction_id)
        if mine.name == "_result" and len(mine.arguments) > 1 and isinstance(mine.arguments[1], dict):
            connect = srs.arguments[1]
            assert isinstance(connect, dict)
            assert list(mine.arguments[1]) == list(connect)
        else:
            assert mine.arguments == srs.arguments


def relayed(pieces: list[bytes]) -> bytes:
    """What the origin gets of a client's bytes behind the handshake, as far as it was whole messages."""
    client = negotiation()
    passed = b""
    for number, piece in enumerate(pieces):
        client.receive_data(piece)
        while (event := client.next_event()) is not None:
            if isinstance(event, StreamNamed):
                passed += event.prelude
                client.watch()
            elif isinstance(event, Forward):
                passed += event.data
            elif isinstance(event, MediaBegins):
                return passed + event.data + b"".join(pieces[number + 1 :])
    return passed


RECORDED_CLIENTS = sorted(path.name.removesuffix(".c2s.bin") for path in CAPTURES.glob("rtmp_*.c2s.bin"))


@pytest.mark.parametrize("capture", RECORDED_CLIENTS)
def test_a_clients_bytes_reach_its_origin_verbatim_in_every_split(capture: str) -> None:
    sent = (CAPTURES / f"{capture}.c2s.bin").read_bytes()
    # One recording ends within a message, which would be passed on when it is whole. Behind the first 2 kB there is
    # nothing but media, which is not parsed.
    expected = sent[HANDSHAKE_SIZE : len(sent) - (8 if capture == "rtmp_play_ffmpeg" else 0)]
    assert relayed([sent]) == expected
    assert relayed([sent[at : at + 1] for at in range(len(sent))]) == expected
    for split in range(1, min(len(sent), HANDSHAKE_SIZE + 2048)):
        assert relayed([sent[:split], sent[split:]]) == expected


def test_a_publisher_is_parsed_until_its_media_begins() -> None:
    client = negotiation()
    wire = Wire().connect().command("createStream", 2, None).command("publish", 3, None, "s", msid=1)
    named(client, wire.data)
    client.watch()
    wire.data = b""
    wire.chunk_size(4096).message(4, MessageType.DATA_AMF0, bytes(1000), msid=1)
    media = wire.writer.write(6, MessageType.VIDEO, 1, bytes(5000))
    *forwards, begins = events(client, wire.data + media + b"more")
    assert b"".join(event.data for event in forwards if isinstance(event, Forward)) == wire.data
    assert begins == MediaBegins(media + b"more")


def test_a_publishers_first_frame_over_the_limit_is_relayed() -> None:
    client = negotiation(NegotiationLimits(1024, 9999, 99, Limits()))
    wire = Wire().connect().command("createStream", 2, None).command("publish", 3, None, "s", msid=1)
    named(client, wire.data)
    client.watch()
    frame = wire.writer.write(6, MessageType.VIDEO, 1, bytes(5000))
    assert events(client, frame) == [MediaBegins(frame)]


@pytest.mark.parametrize("capture", ["rtmp_publish_ffmpeg", "rtmp_play_librtmp", "rtmp_republish"])
def test_any_split_of_what_a_client_sends_gives_the_same_answers_and_the_same_name(capture: str) -> None:
    sent = (CAPTURES / f"{capture}.c2s.bin").read_bytes()[: HANDSHAKE_SIZE + 700]
    whole = negotiation()
    (event,) = events(whole, sent)
    assert isinstance(event, StreamNamed)
    expected = whole.data_to_send()
    for split in range(1, len(sent)):
        client = negotiation()
        found = events(client, sent[:split])
        if not found:
            found = events(client, sent[split:])
        assert isinstance(found[0], StreamNamed)
        assert (found[0].key, found[0].create_stream_tid) == (event.key, event.create_stream_tid)
        assert client.data_to_send() == expected
        assert event.prelude.startswith(found[0].prelude)
    client = negotiation()
    (byte_by_byte,) = events(client, sent, step=1)
    assert isinstance(byte_by_byte, StreamNamed)
    assert byte_by_byte.key == event.key
    assert client.data_to_send() == expected


# Which command names the stream


def test_the_name_of_releasestream_counts_and_not_the_one_of_publish() -> None:
    wire = Wire().connect().command("releaseStream", 2, None, "rel1").command("FCPublish", 3, None, "fcp2")
    wire.command("createStream", 4, None).command("publish", 5, None, "pub3", "live", msid=1)
    assert str(named(negotiation(), wire.data).key) == "__defaultVhost__/live/rel1"


def test_an_fcpublish_behind_createstream_names_the_stream_and_is_left_to_the_origin_to_answer() -> None:
    client = negotiation()
    wire = Wire().connect().command("createStream", 2, None).command("FCPublish", 3, None, "hav")
    event = named(client, wire.data)
    assert (event.action, str(event.key)) == (Action.PUBLISH, "__defaultVhost__/live/hav")
    assert [c.transaction_id for c in commands(answers(client)) if c.name == "_result"] == [1.0, 2.0]
    assert event.create_stream_tid == 2


@pytest.mark.parametrize("name", ["publish", "play"])
def test_a_stream_named_without_createstream_gets_one_of_ours_before_it(name: str) -> None:
    wire = Wire().connect().command(name, 0, None, "s", csid=5, msid=1)
    event = named(negotiation(), wire.data)
    assert event.create_stream_tid == CREATE_STREAM_TID
    sent = commands(event.prelude)
    assert [c.name for c in sent] == ["connect", "createStream", name]
    assert sent[1].transaction_id == CREATE_STREAM_TID


@pytest.mark.parametrize(("arguments", "limited"), [((), False), ((-2000.0, -1.0), False), ((0.0, 5000.0), True)])
def test_a_play_with_a_duration_is_known_to_end(arguments: tuple[float, ...], limited: bool) -> None:
    wire = Wire().connect().command("createStream", 2, None).command("play", 3, None, "s", *arguments)
    assert named(negotiation(), wire.data).limited is limited


def test_the_last_createstream_is_where_the_origins_answers_are_cut() -> None:
    wire = Wire().connect()
    for transaction_id in (2, 3, 4):
        wire.command("createStream", transaction_id, None)
    assert named(negotiation(), wire.command("play", 5, None, "s").data).create_stream_tid == 4


# What SRS accepts, and the Go proxy did not


def test_setchunksize_before_connect_is_obeyed_and_reaches_the_origin() -> None:
    wire = Wire().chunk_size(4096).connect(tc_url="rtmp://127.0.0.1/live?" + "x" * 1000)
    event = named(negotiation(), wire.command("createStream", 2, None).command("play", 3, None, "s").data)
    assert event.prelude == wire.data[HANDSHAKE_SIZE:]


@pytest.mark.parametrize("transaction_id", [0.0, 7.0, 1e9])
def test_any_transaction_id_of_connect_is_answered_with_1_as_srs_does(transaction_id: float) -> None:
    client = negotiation()
    events(client, Wire().connect(transaction_id=transaction_id).data)
    result = commands(answers(client))[0]
    assert (result.name, result.transaction_id) == ("_result", 1.0)


def test_acks_and_data_messages_before_createstream_are_passed_on_and_not_answered() -> None:
    client = negotiation()
    wire = Wire().connect().message(2, MessageType.ACK, bytes(4)).message(4, MessageType.DATA_AMF0, b"\x02\x00\x01x")
    wire.command("createStream", 2, None).command("publish", 3, None, "s", msid=1)
    assert named(client, wire.data).prelude == wire.data[HANDSHAKE_SIZE:]
    assert len(commands(answers(client))) == 3


@pytest.mark.parametrize("csid", [3, 63, 64, 128, 319, 320, 65599])
def test_commands_are_read_on_every_chunk_stream(csid: int) -> None:
    wire = Wire().connect().command("createStream", 2, None, csid=csid)
    wire.command("publish", 3, None, "s", csid=csid, msid=1)
    event = named(negotiation(), wire.data)
    assert event.prelude == wire.data[HANDSHAKE_SIZE:]


def test_amf3_commands_are_read() -> None:
    wire = Wire().connect().command("createStream", 2, None)
    wire.message(8, MessageType.COMMAND_AMF3, b"\x00" + encode_command("play", 3, None, "s"), msid=1)
    assert named(negotiation(), wire.data).action is Action.PLAY


def test_unknown_commands_are_answered_before_createstream_and_not_after_it() -> None:
    client = negotiation()
    wire = Wire().connect().command("_checkbw", 2, None).command("createStream", 3, None)
    events(client, wire.command("_checkbw", 4, None).command("getStreamLength", 5, None, "s").data)
    results = [c for c in commands(answers(client)) if c.name == "_result"]
    assert [(c.transaction_id, c.arguments[1]) for c in results[1:]] == [(2.0, None), (3.0, 1.0)]


def test_fmle_commands_are_answered_with_undefined() -> None:
    client = negotiation()
    events(client, Wire().connect().command("releaseStream", 2, None, "s").command("FCPublish", 3, None, "s").data)
    results = [c for c in commands(answers(client)) if c.name == "_result"][1:]
    assert [c.arguments for c in results] == [(None, UNDEFINED), (None, UNDEFINED)]


def test_a_ping_is_answered() -> None:
    client = negotiation()
    ping = user_control(UserControl.PING_REQUEST, 4711)
    events(client, Wire().connect().message(2, MessageType.USER_CONTROL, ping).data)
    assert messages(answers(client))[-1].payload == user_control(UserControl.PING_RESPONSE, 4711)


def test_the_object_encoding_is_echoed() -> None:
    client = negotiation()
    connect: dict[str, AmfValue] = {"tcUrl": "rtmp://127.0.0.1/live", "objectEncoding": 3.0}
    events(client, Wire().command("connect", 1, connect).data)
    information = commands(answers(client))[0].arguments[1]
    assert isinstance(information, dict)
    assert information["objectEncoding"] == 3.0


def test_a_configured_vhost_keeps_its_name() -> None:
    wire = Wire().connect("rtmp://test.com/live").command("createStream", 2, None).command("play", 3, None, "s")
    assert str(named(negotiation(vhosts=frozenset({"test.com"})), wire.data).key) == "test.com/live/s"


def test_a_trusted_fronts_real_address_is_taken_and_is_no_part_of_the_prelude() -> None:
    client = negotiation(trusted=True)
    wire = Wire().connect().command("createStream", 2, None).command("play", 3, None, "s")
    event = named(client, b"\xf3\x00\x04\xc0\x00\x02\x07" + wire.data)
    assert client.real_address == "192.0.2.7"
    assert event.prelude == wire.data[HANDSHAKE_SIZE:]


# What is refused


@pytest.mark.parametrize(
    "wire",
    [
        Wire().command("connect", 1),
        Wire().command("connect", 1, {"app": "live"}),
        Wire().connect(tc_url=""),
        Wire().connect(tc_url=5.0),
        Wire()
        .connect(tc_url="rtmp://127.0.0.1:99999/live")
        .command("createStream", 2, None)
        .command("play", 3, None, "s"),
        Wire().connect().command("createStream", 2, None).command("publish", 5),
        Wire().connect().command("createStream", 2, None).command("publish", 5, None),
        Wire().connect().command("createStream", 2, None).command("play", 5, None, 7.0),
        Wire().connect().command("createStream", 2, None).command("play", 5, None, ""),
        Wire().connect().command("releaseStream", 2),
        Wire().connect().message(3, MessageType.COMMAND_AMF0, b"\x02\x00\x07publish\x00\x40\x14"),
        Wire().connect().message(2, MessageType.SET_CHUNK_SIZE, set_chunk_size(127)),
        Wire(b"GET / HTTP/1.1\r\n\r\n"),
        Wire(b"\xf3\x00\x04\xc0\x00\x02\x07" + HANDSHAKE),
    ],
)
def test_what_srs_closes_for_is_a_peer_error(wire: Wire) -> None:
    with pytest.raises(PeerError):
        events(negotiation(), wire.data)


@pytest.mark.parametrize(
    ("wire", "limits"),
    [
        (Wire().connect().message(4, MessageType.DATA_AMF0, bytes(1025)), NegotiationLimits(1024, 9999, 99, Limits())),
        (Wire().connect().message(4, MessageType.DATA_AMF0, bytes(900)), NegotiationLimits(1024, 900, 99, Limits())),
        (Wire().connect().command("a", 2, None).command("b", 3, None), NegotiationLimits(1024, 9999, 2, Limits())),
        (Wire().command("connect", 1, {"a": {"b": {}}}), NegotiationLimits(1024, 9999, 9, Limits(max_depth=2))),
        (Wire().command("connect", 1, *[1.0] * 20), NegotiationLimits(1024, 9999, 9, Limits(max_items=20))),
    ],
)
def test_each_limit_is_enforced(wire: Wire, limits: NegotiationLimits) -> None:
    with pytest.raises(LimitExceeded):
        events(negotiation(limits), wire.data)


def test_the_fourth_createstream_is_refused() -> None:
    wire = Wire().connect()
    for transaction_id in range(2, 6):
        wire.command("createStream", transaction_id, None)
    with pytest.raises(LimitExceeded):
        events(negotiation(), wire.data)


def test_nothing_is_answered_before_connect() -> None:
    client = negotiation()
    events(client, Wire().command("createStream", 1, None).command("play", 2, None, "s").data)
    assert answers(client) == b""
    assert not client.connected


def test_a_refusal_is_an_error_status_on_the_stream() -> None:
    client = negotiation()
    events(client, Wire().connect().data)
    client.data_to_send()
    client.refuse("NetStream.Failed", "no origin")
    reader = ChunkReader(max_message_size=1 << 16, chunk_size=60000)
    reader.receive_data(client.data_to_send())
    message = reader.next_message()
    assert message is not None
    assert (message.csid, message.msid) == (5, 1)
    status = parse_command(message).arguments[1]
    assert isinstance(status, dict)
    assert (status["level"], status["code"], status["description"]) == ("error", "NetStream.Failed", "no origin")


# Another stream on the same connection


def playing(*, name: str = "a") -> tuple[ClientNegotiation, Wire]:
    client, wire = negotiation(), Wire()
    wire.connect().command("createStream", 2, None).command("play", 3, None, name, csid=8, msid=1)
    named(client, wire.data)
    client.watch()
    wire.data = b""
    return client, wire


def test_a_player_that_asks_for_another_stream_is_released_and_named_again() -> None:
    client, wire = playing()
    assert events(client, wire.command("closeStream", 0, None, csid=8, msid=1).data) == [Forward(wire.data)]
    wire.data = b""
    (released,) = events(client, wire.command("play", 4, None, "b", csid=8, msid=1).data)
    assert isinstance(released, StreamReleased)
    assert client.next_event() is None
    client.resume()
    event = client.next_event()
    assert isinstance(event, StreamNamed)
    assert str(event.key) == "__defaultVhost__/live/b"
    assert [c.name for c in commands(event.prelude)] == ["connect", "createStream", "play"]
    assert event.create_stream_tid == CREATE_STREAM_TID


def test_a_player_that_asks_for_its_stream_again_is_left_to_its_origin() -> None:
    client, wire = playing()
    (forward,) = events(client, wire.command("play", 4, None, "a.flv", csid=8, msid=1).data)
    assert forward == Forward(wire.data)


def test_messages_of_a_resumed_player_are_written_anew_so_that_the_next_origin_can_read_them() -> None:
    client, wire = playing()
    events(client, wire.command("releaseStream", 4, None, "b").data)
    client.resume()
    assert client.next_event() is None
    # A header of type 3 repeats all of the one before it, which the next origin has never seen.
    repeated = b"\xc3" + encode_command("FCPublish", 5, None, "bbbb")
    wire.data = (
        wire.writer.write(3, MessageType.COMMAND_AMF0, 0, encode_command("FCPublish", 5, None, "bbbb")) + repeated
    )
    events(client, wire.data)
    wire.data = b""
    (event,) = events(client, wire.command("publish", 6, None, "b", csid=8, msid=1).data)
    assert isinstance(event, StreamNamed)
    names = [c.name for c in commands(event.prelude)]
    assert names == ["connect", "releaseStream", "FCPublish", "FCPublish", "createStream", "publish"]


def publishing(wire: Wire) -> ClientNegotiation:
    """A publisher whose bytes are relayed raw; ``wire`` has been read."""
    client = negotiation()
    named(client, wire.data)
    client.watch()
    wire.data = b""
    assert isinstance(events(client, wire.writer.write(6, MessageType.VIDEO, 1, b"key frame"))[-1], MediaBegins)
    return client


def test_a_resumed_publishers_prelude_tells_the_next_origin_its_chunk_size() -> None:
    wire = Wire().chunk_size(4096).connect().command("createStream", 2, None).command("publish", 3, None, "a", msid=1)
    client = publishing(wire)
    long = "b" * 1000
    wire.command("releaseStream", 4, None, long).command("FCPublish", 5, None, long).command("createStream", 6, None)
    client.resume(wire.data[:10])
    assert events(client, wire.data[10:]) == []
    wire.data = b""
    event = named(client, wire.command("publish", 7, None, long, msid=1).data)
    assert event.create_stream_tid == 6
    reread = messages(event.prelude)
    assert [parse_command(m).name for m in reread if m.type == MessageType.COMMAND_AMF0] == [
        "connect",
        "releaseStream",
        "FCPublish",
        "createStream",
        "publish",
    ]
    media = wire.writer.write(6, MessageType.VIDEO, 1, bytes(5000))
    client.watch()
    assert events(client, media) == [MediaBegins(media)]


def test_a_chunk_size_set_between_publish_and_media_is_known_when_the_publisher_resumes() -> None:
    wire = Wire().connect().command("createStream", 2, None).command("publish", 3, None, "a", msid=1)
    client = negotiation()
    named(client, wire.data)
    client.watch()
    wire.data = b""
    events(client, wire.chunk_size(4096).data + wire.writer.write(6, MessageType.VIDEO, 1, b"key frame"))
    wire.data = b""
    client.resume()
    long = "b" * 1000
    event = named(client, wire.command("publish", 4, None, long, msid=1).data)
    assert str(event.key).endswith(long)


def test_a_resumed_publisher_is_answered_with_the_chunk_size_that_its_last_origin_announced() -> None:
    client = publishing(Wire().connect().command("createStream", 2, None).command("publish", 3, None, "a", msid=1))
    client.data_to_send()
    client.announce_chunk_size(128)
    client.resume()
    client.refuse("NetStream.Failed", "d" * 300)
    reader = ChunkReader(max_message_size=1 << 16, chunk_size=60000)
    reader.receive_data(client.data_to_send())
    assert reader.next_message() is not None
    status = reader.next_message()
    assert status is not None
    assert b"d" * 300 in status.payload


# Anything at all


@given(st.binary(max_size=600), st.lists(st.integers(1, 200), max_size=12), st.booleans())
def test_any_bytes_in_any_split_raise_nothing_but_peer_errors_and_bounded_memory(
    noise: bytes, cuts: list[int], connected: bool
) -> None:
    data = (Wire().connect().data if connected else HANDSHAKE) + noise
    client = negotiation(NegotiationLimits(1024, 2048, 16, Limits()))
    at = 0
    try:
        for cut in [*cuts, len(data)]:
            client.receive_data(data[at : at + cut])
            at += cut
            while (event := client.next_event()) is not None:
                if isinstance(event, StreamNamed):
                    assert len(event.prelude) <= 2048 + len(data)
                    client.watch()
                elif isinstance(event, MediaBegins):
                    return
                elif isinstance(event, StreamReleased):
                    client.resume()
    except PeerError:
        pass
