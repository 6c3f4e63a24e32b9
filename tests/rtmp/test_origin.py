"""The origin's side of an RTMP connection: what is swallowed, passed on, and noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import OriginRejected, PeerError
from srsproxy.rtmp.amf0 import AmfValue
from srsproxy.rtmp.chunk import ChunkReader, ChunkWriter
from srsproxy.rtmp.events import (
    Action,
    Answer,
    MediaBegins,
    OriginEvent,
    OriginReady,
    PublishedAgain,
    PublishReleased,
    Started,
    StreamNamed,
    ToldRejection,
)
from srsproxy.rtmp.handshake import PACKET_SIZE, RANDOM_SIZE
from srsproxy.rtmp.message import MessageType, encode_command, on_status, set_chunk_size
from srsproxy.rtmp.origin import OriginNegotiation
from srsproxy.streamkey import StreamKey

CAPTURES = Path(__file__).parent.parent / "captures"
HANDSHAKE = b"\x03" + bytes(PACKET_SIZE) + bytes(PACKET_SIZE)
HANDSHAKE_SIZE = len(HANDSHAKE)
PRELUDE = b"what the client said"


def negotiation(
    action: Action = Action.PUBLISH,
    tid: float = 4.0,
    *,
    real_address: str | None = None,
    max_message_size: int = 131072,
) -> OriginNegotiation:
    named = StreamNamed(action, StreamKey("__defaultVhost__", "live", "s"), PRELUDE, tid)
    return OriginNegotiation(
        named, real_address=real_address, now_ms=0, random=bytes(RANDOM_SIZE), max_message_size=max_message_size
    )


def feed(origin: OriginNegotiation, *pieces: bytes) -> list[OriginEvent]:
    found: list[OriginEvent] = []
    for piece in pieces:
        origin.receive_data(piece)
        while (event := origin.next_event()) is not None:
            found.append(event)
    return found


def command(name: str, tid: float, *arguments: AmfValue, writer: ChunkWriter | None = None) -> bytes:
    payload = encode_command(name, tid, *arguments)
    return (writer or ChunkWriter()).write(3, MessageType.COMMAND_AMF0, 0, payload)


def status(level: str, code: str, description: str = "why") -> bytes:
    return ChunkWriter(60000).write(5, MessageType.COMMAND_AMF0, 1, on_status(level, code, description))


CHUNK_SIZE = ChunkWriter().write(2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(60000))
READY = HANDSHAKE + CHUNK_SIZE + command("_result", 4, None, 1.0)
PUBLISH_START = status("status", "NetStream.Publish.Start")
PLAY_START = status("status", "NetStream.Play.Start")


def boundary(capture: bytes) -> int:
    """Where the answers begin that the client must see: behind the one to createStream, the only one with a number."""
    reader = ChunkReader(max_message_size=1 << 20)
    reader.receive_data(capture[HANDSHAKE_SIZE:])
    while (message := reader.next_message()) is not None:
        if message.type == MessageType.COMMAND_AMF0 and len(message.payload) == 29:
            return HANDSHAKE_SIZE + message.end
    raise AssertionError("no answer to createStream")


def passed_on(events: list[OriginEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, (Answer, MediaBegins)))


# Recorded SRS


@pytest.mark.parametrize(
    ("capture", "action", "tid", "outcome"),
    [
        ("rtmp_publish_ffmpeg", Action.PUBLISH, 4.0, Started),
        ("rtmp_publish_busy", Action.PUBLISH, 4.0, None),
        ("rtmp_republish", Action.PUBLISH, 4.0, Started),
        ("rtmp_srs_edge_publish", Action.PUBLISH, 2.0, Started),
        ("rtmp_play_ffmpeg", Action.PLAY, 2.0, MediaBegins),
        ("rtmp_play_librtmp", Action.PLAY, 2.0, MediaBegins),
    ],
)
def test_srs_is_passed_on_unchanged_from_the_boundary_in_every_split(
    capture: str, action: Action, tid: float, outcome: type[OriginEvent] | None
) -> None:
    recorded = (CAPTURES / f"{capture}.s2c.bin").read_bytes()[: HANDSHAKE_SIZE + 4400]
    start = boundary(recorded)
    whole = feed(negotiation(action, tid), recorded)
    assert whole[0] == OriginReady(60000)
    assert (outcome is None) == (not any(isinstance(event, (Started, MediaBegins)) for event in whole))
    assert outcome is None or any(isinstance(event, outcome) for event in whole)
    for split in (*range(1, 20), *range(HANDSHAKE_SIZE - 5, len(recorded))):
        origin = negotiation(action, tid)
        events = feed(origin, recorded[:split])
        raw = bool(events) and isinstance(events[-1], MediaBegins)
        if not raw:
            events += feed(origin, recorded[split:])
        passed = passed_on(events) + (recorded[split:] if raw else b"")
        assert recorded[start:].startswith(passed)
        # Only a message that is not whole may be held back.
        assert len(recorded) - start - len(passed) < 200
        assert [type(e) for e in events if not isinstance(e, Answer)][:2] == [
            type(e) for e in whole if not isinstance(e, Answer)
        ][:2]


def test_the_release_of_a_recorded_publisher_is_noticed_when_it_is_confirmed() -> None:
    recorded = (CAPTURES / "rtmp_republish.s2c.bin").read_bytes()
    events = feed(negotiation(), recorded)
    kinds = [type(event) for event in events if not isinstance(event, Answer)]
    # Played back without a proxy in between, the second publish has reached the same origin.
    assert kinds == [OriginReady, Started, PublishReleased, PublishedAgain]
    released = events.index(PublishReleased())
    last = events[released - 1]
    assert isinstance(last, Answer)
    assert b"onFCUnpublish" in last.data


# The dialogue


def test_the_prelude_follows_the_handshake() -> None:
    origin = negotiation()
    assert len(origin.start()) == 1 + PACKET_SIZE
    assert origin.receive_data(HANDSHAKE[:-1])[PACKET_SIZE:] == b""
    assert not origin.handshaken
    assert origin.receive_data(HANDSHAKE[-1:]).endswith(PRELUDE)
    assert origin.handshaken


def test_the_real_address_goes_before_the_handshake() -> None:
    assert negotiation(real_address="192.0.2.7").start().startswith(b"\xf3\x00\x04\xc0\x00\x02\x07\x03")


def test_another_chunk_size_of_the_origin_is_told_and_used() -> None:
    small = ChunkWriter().write(2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(4096))
    assert feed(negotiation(), HANDSHAKE + small + command("_result", 4, None, 1.0)) == [OriginReady(4096)]


def test_answers_with_other_transaction_ids_and_without_a_stream_id_are_no_boundary() -> None:
    others = command("_result", 2, None, None) + command("_result", 4, None, None) + command("onBWDone", 0, None)
    assert feed(negotiation(), HANDSHAKE + others + command("_result", 3, None, 1.0)) == []


def test_an_origin_that_interleaves_is_cut_where_no_message_is_unfinished() -> None:
    other = ChunkWriter(128).write(7, MessageType.DATA_AMF0, 0, bytes(200))
    begun, ended = other[: 12 + 128], other[12 + 128 :]
    origin = negotiation()
    assert feed(origin, HANDSHAKE + begun + command("_result", 4, None, 1.0)) == []
    after = status("status", "NetStream.Publish.Start")
    assert feed(origin, ended + after)[:2] == [OriginReady(128), Answer(after, 128)]


@pytest.mark.parametrize(
    "refusal",
    [
        command("_error", 1, None, {"level": "error", "code": "NetConnection.Connect.Rejected", "description": "why"}),
        status("error", "NetConnection.Connect.Rejected"),
    ],
)
def test_a_refusal_before_the_client_can_see_it_is_raised_with_its_reason(refusal: bytes) -> None:
    with pytest.raises(OriginRejected, match=r"NetConnection\.Connect\.Rejected \(why\)") as caught:
        feed(negotiation(), HANDSHAKE + CHUNK_SIZE + refusal)
    assert caught.value.code == "NetConnection.Connect.Rejected"


def test_a_refusal_that_the_client_has_seen_is_told() -> None:
    told = status("error", "NetStream.Publish.BadName")
    events = feed(negotiation(), READY + told)
    assert events[1:] == [Answer(told, 60000), ToldRejection("NetStream.Publish.BadName", "why")]


def test_garbage_instead_of_a_handshake_is_a_peer_error() -> None:
    with pytest.raises(PeerError):
        feed(negotiation(), b"SSH-2.0-OpenSSH\r\n")


# Publishers


def test_a_createstream_after_publish_releases_the_stream_as_well() -> None:
    events = feed(negotiation(), READY + PUBLISH_START + command("_result", 9, None, 1.0))
    assert [type(event) for event in events if not isinstance(event, Answer)] == [OriginReady, Started, PublishReleased]


def test_other_answers_to_a_publisher_release_nothing() -> None:
    events = feed(negotiation(), READY + PUBLISH_START + command("_result", 9, None, None))
    assert [type(event) for event in events if not isinstance(event, Answer)] == [OriginReady, Started]


# Players


@pytest.mark.parametrize("kind", [MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA_AMF0, MessageType.AGGREGATE])
def test_media_or_metadata_end_the_parsing(kind: MessageType) -> None:
    media = ChunkWriter(60000).write(6, kind, 1, b"\x02\x00\x0aonMetaData", 5) + b"half a mess"
    events = feed(negotiation(Action.PLAY), READY + PLAY_START + media)
    assert events[-1] == MediaBegins(media)


def test_the_sample_access_message_is_no_media() -> None:
    access = ChunkWriter(60000).write(5, MessageType.DATA_AMF0, 1, b"\x02\x00\x11|RtmpSampleAccess\x01\x01\x01\x01")
    assert feed(negotiation(Action.PLAY), READY + PLAY_START + access)[-1] == Answer(access, 60000)


def test_what_does_not_parse_is_relayed_to_a_player_and_fails_a_publisher() -> None:
    fresh_continuation = b"\xc9not a message"
    assert feed(negotiation(Action.PLAY), READY + PLAY_START + fresh_continuation)[-1] == MediaBegins(
        fresh_continuation
    )
    with pytest.raises(PeerError):
        feed(negotiation(), READY + PUBLISH_START + fresh_continuation)


def test_a_first_frame_over_the_limit_is_relayed_to_a_player() -> None:
    frame = ChunkWriter(60000).write(6, MessageType.VIDEO, 1, bytes(5000))
    origin = negotiation(Action.PLAY, max_message_size=1024)
    assert feed(origin, READY + PLAY_START, frame)[-1] == MediaBegins(frame)


@given(st.binary(max_size=400), st.lists(st.integers(1, 100), max_size=8), st.sampled_from(Action), st.booleans())
def test_any_bytes_in_any_split_raise_nothing_but_the_documented_errors(
    noise: bytes, cuts: list[int], action: Action, ready: bool
) -> None:
    data = (READY if ready else HANDSHAKE) + noise
    origin = negotiation(action, max_message_size=1024)
    at = 0
    try:
        for cut in [*cuts, len(data)]:
            if any(isinstance(event, MediaBegins) for event in feed(origin, data[at : at + cut])):
                return
            at += cut
    except (PeerError, OriginRejected):
        pass
