"""RTMP messages: commands and protocol control."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp import amf0
from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, EcmaArray, Limits
from srsproxy.rtmp.chunk import ChunkReader
from srsproxy.rtmp.message import (
    LIMIT_DYNAMIC,
    Command,
    Message,
    MessageType,
    UserControl,
    encode_command,
    on_status,
    parse_command,
    parse_set_chunk_size,
    peer_bandwidth,
    set_chunk_size,
    user_control,
    window_ack,
)
from tests.recorded import rtmp
from tests.strategies import amf_values

PUBLISH = b"\x02\x00\x07publish\x00\x40\x14\x00\x00\x00\x00\x00\x00"


def message(payload: bytes, type: int = MessageType.COMMAND_AMF0) -> Message:
    return Message(csid=3, type=type, msid=0, timestamp=0, payload=payload)


def recorded_messages(name: str) -> list[Message]:
    reader = ChunkReader(max_message_size=0xFFFFFF)
    reader.receive_data(rtmp(name).chunks)
    return list(iter(reader.next_message, None))


def recorded_commands(name: str) -> list[Command]:
    return [parse_command(m) for m in recorded_messages(name) if m.type == MessageType.COMMAND_AMF0]


def test_a_command_has_a_name_a_transaction_id_and_arguments() -> None:
    payload = PUBLISH + b"\x05\x02\x00\x01s\x02\x00\x04live"
    assert parse_command(message(payload)) == Command("publish", 5.0, (None, "s", "live"))
    assert encode_command("publish", 5, None, "s", "live") == payload


def test_a_publish_of_only_name_and_transaction_id_is_a_command_without_arguments() -> None:
    """The Go proxy dies of it (wire-facts G5)."""
    assert parse_command(message(PUBLISH)) == Command("publish", 5.0, ())


def test_an_amf3_command_is_amf0_behind_a_zero_byte() -> None:
    assert parse_command(message(b"\x00" + PUBLISH, MessageType.COMMAND_AMF3)) == Command("publish", 5.0, ())


@pytest.mark.parametrize("payload", [b"", PUBLISH, b"\x11\x0a"])
def test_an_amf3_command_without_the_zero_byte_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerError, match="not in AMF0 encoding"):
        parse_command(message(payload, MessageType.COMMAND_AMF3))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "no name"),
        ((1.0, 1.0), "no name"),
        ((None,), "no name"),
        (("publish",), "command 'publish' has no transaction id"),
        (("publish", "5"), "no transaction id"),
        (("publish", True), "no transaction id"),
        (("publish", None, 5.0), "no transaction id"),
    ],
    ids=repr,
)
def test_a_command_without_name_or_transaction_id_is_refused(values: tuple[AmfValue, ...], said: str) -> None:
    with pytest.raises(PeerError, match=said):
        parse_command(message(amf0.encode(*values)))


def test_an_error_does_not_tell_more_than_a_person_would_read() -> None:
    with pytest.raises(PeerError) as caught:
        parse_command(message(amf0.encode("x" * 0xFFFF)))
    assert len(str(caught.value)) < 200


def test_a_command_cut_short_at_any_length_is_refused_unless_it_is_complete_in_itself() -> None:
    payload = encode_command("play", 4, None, "s", -2000)
    complete = {
        len(encode_command("play", 4, *arguments)) for arguments in [(), (None,), (None, "s"), (None, "s", -2000)]
    }
    for size in range(len(payload) + 1):
        if size in complete:
            assert parse_command(message(payload[:size])).name == "play"
        else:
            with pytest.raises(PeerError):
                parse_command(message(payload[:size]))


def test_bytes_behind_a_command_are_more_arguments_or_an_error() -> None:
    assert parse_command(message(PUBLISH + b"\x06")).arguments == (UNDEFINED,)
    with pytest.raises(PeerError, match="0xff"):
        parse_command(message(PUBLISH + b"\xff"))


def test_the_limits_of_a_command_can_be_set() -> None:
    payload = encode_command("connect", 1, {"app": "live"})
    assert parse_command(message(payload), limits=Limits(max_items=4)).name == "connect"
    with pytest.raises(LimitExceeded):
        parse_command(message(payload), limits=Limits(max_items=3))


def test_on_status_carries_an_information_object() -> None:
    payload = on_status("error", "NetStream.Publish.BadName", "busy", clientid="ASAICiss")
    assert parse_command(message(payload)) == Command(
        "onStatus",
        0.0,
        (
            None,
            {"level": "error", "code": "NetStream.Publish.BadName", "description": "busy", "clientid": "ASAICiss"},
        ),
    )


def test_control_payloads_are_what_srs_sends() -> None:
    after_connect = recorded_messages("play_ffmpeg.s2c")
    assert [(m.csid, m.type, m.msid, m.payload) for m in after_connect[:3]] == [
        (2, MessageType.WINDOW_ACK, 0, window_ack(2500000)),
        (2, MessageType.PEER_BANDWIDTH, 0, peer_bandwidth(2500000, LIMIT_DYNAMIC)),
        (2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(60000)),
    ]
    assert (2, MessageType.USER_CONTROL, 0, user_control(UserControl.STREAM_BEGIN, 1)) in [
        (m.csid, m.type, m.msid, m.payload) for m in after_connect
    ]


def test_user_control_takes_as_many_values_as_the_event_has() -> None:
    assert user_control(UserControl.SET_BUFFER_LENGTH, 1, 3000) == b"\x00\x03\x00\x00\x00\x01\x00\x00\x0b\xb8"
    assert user_control(UserControl.PING_RESPONSE, 0xFFFFFFFF) == b"\x00\x07\xff\xff\xff\xff"


@pytest.mark.parametrize("size", [1, 127, 128, 60000, 65537, 0x7FFFFFFF])
def test_chunk_sizes_survive(size: int) -> None:
    assert parse_set_chunk_size(set_chunk_size(size)) == size


def test_bytes_behind_a_chunk_size_are_ignored() -> None:
    assert parse_set_chunk_size(b"\x00\x00\x10\x00behind") == 4096


@pytest.mark.parametrize(
    "payload", [b"", b"\x00\x10\x00", b"\x00\x00\x00\x00", b"\x80\x00\x10\x00", b"\xff\xff\xff\xff"]
)
def test_a_chunk_size_that_cannot_be_is_refused(payload: bytes) -> None:
    """SRS 7.0.18 closes on all of them, but for the empty one, which the chunk reader never parses."""
    with pytest.raises(PeerError, match="SetChunkSize"):
        parse_set_chunk_size(payload)


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (
            "publish_ffmpeg.c2s",
            "connect releaseStream FCPublish createStream _checkbw publish FCUnpublish deleteStream",
        ),
        ("publish_ffmpeg.s2c", "_result onBWDone _result _result _result onFCPublish onStatus"),
        ("publish_busy.s2c", "_result onBWDone _result _result _result onFCPublish"),
        ("play_ffmpeg.c2s", "connect createStream _checkbw getStreamLength play"),
        ("play_librtmp.c2s", "connect createStream FCSubscribe _checkbw play"),
        ("play_librtmp.s2c", "_result onBWDone _result onStatus onStatus"),
        ("srs_edge_publish.c2s", "connect createStream publish"),
    ],
)
def test_recorded_commands_are_understood(name: str, commands: str) -> None:
    assert [command.name for command in recorded_commands(name)] == commands.split()


def test_the_arguments_of_recorded_commands_are_understood() -> None:
    play = recorded_commands("play_librtmp.c2s")[-1]
    assert play.arguments[0] is None
    assert play.arguments[2:] == (-1000.0, 2000.0)
    connected = recorded_commands("publish_ffmpeg.s2c")[0]
    assert connected.transaction_id == 1.0
    information = connected.arguments[1]
    assert isinstance(information, dict)
    assert information["code"] == "NetConnection.Connect.Success"
    assert isinstance(information["data"], EcmaArray)
    released = recorded_commands("publish_ffmpeg.s2c")[2]
    assert released == Command("_result", 2.0, (None, UNDEFINED))


@given(st.text(), st.floats(allow_nan=False), st.lists(amf_values, max_size=3))
def test_commands_survive_being_written_and_read(name: str, tid: float, arguments: list[AmfValue]) -> None:
    assert parse_command(message(encode_command(name, tid, *arguments))) == Command(name, tid, tuple(arguments))


@given(st.binary(), st.sampled_from([MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3]))
def test_bad_input_gives_nothing_but_a_peer_error(payload: bytes, type: MessageType) -> None:
    for candidate in (payload, PUBLISH + payload, b"\x00" + PUBLISH + payload):
        try:
            parse_command(message(candidate, type))
        except PeerError:
            continue
