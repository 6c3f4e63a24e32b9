"""What the payloads of audio, video and metadata hold, and FLV tags."""

from __future__ import annotations

import pytest

from srsproxy.demo import flv
from srsproxy.rtmp.amf0 import EcmaArray, encode
from srsproxy.rtmp.message import Message, MessageType


def audio(payload: str) -> Message:
    return Message(4, MessageType.AUDIO, 1, 0, bytes.fromhex(payload))


def video(payload: str) -> Message:
    return Message(6, MessageType.VIDEO, 1, 0, bytes.fromhex(payload))


def test_a_tag_has_its_type_size_and_time_before_and_its_whole_size_behind_its_data() -> None:
    tag = flv.tag(9, b"data", 0x01020304)
    assert tag == bytes.fromhex("09 000004 020304 01 000000") + b"data" + bytes.fromhex("0000000f")


def test_the_file_header_announces_audio_and_video_and_is_followed_by_an_empty_tag_size() -> None:
    assert b"FLV" + bytes.fromhex("01 05 00000009 00000000") == flv.HEADER


@pytest.mark.parametrize(
    "payload",
    ["1700", "1c00", "1d00", "9068766331", "af00", "9067617631"],
    ids=["AVC", "HEVC", "AV1", "hvc1", "AAC", "av1"],
)
def test_sequence_headers_are_recognized_in_the_old_and_the_enhanced_form(payload: str) -> None:
    kind = audio if payload == "af00" else video
    assert flv.is_sequence_header(kind(payload))


@pytest.mark.parametrize("payload", ["1701", "2701", "17", "22ff", "9168766331", "a168766331"])
def test_pictures_are_no_sequence_headers(payload: str) -> None:
    assert not flv.is_sequence_header(video(payload))


@pytest.mark.parametrize("payload", ["af01", "2fff", "af", "914d703461"])
def test_sounds_are_no_sequence_headers(payload: str) -> None:
    assert not flv.is_sequence_header(audio(payload))


def test_the_configuration_of_enhanced_audio_is_a_sequence_header() -> None:
    assert flv.is_sequence_header(audio("904f707573"))


@pytest.mark.parametrize(
    ("payload", "key"), [("1701", True), ("2701", False), ("9168766331", True), ("a168766331", False)]
)
def test_key_frames_are_told_from_others(payload: str, key: bool) -> None:
    assert flv.is_key_frame(video(payload)) is key


def test_sound_is_never_a_key_frame() -> None:
    assert not flv.is_key_frame(audio("1701"))


METADATA = encode("onMetaData", EcmaArray({"width": 16.0}))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (MessageType.DATA_AMF0, encode("@setDataFrame") + METADATA),
        (MessageType.DATA_AMF0, METADATA),
        (MessageType.DATA_AMF3, b"\x00" + encode("@setDataFrame") + METADATA),
    ],
)
def test_metadata_is_what_follows_set_data_frame(kind: MessageType, payload: bytes) -> None:
    assert flv.metadata(Message(4, kind, 1, 0, payload)) == METADATA


@pytest.mark.parametrize(
    "message",
    [
        Message(4, MessageType.DATA_AMF0, 1, 0, encode("@setDataFrame", "onCuePoint")),
        Message(4, MessageType.DATA_AMF0, 1, 0, b""),
        Message(4, MessageType.AUDIO, 1, 0, METADATA),
    ],
)
def test_other_messages_are_no_metadata(message: Message) -> None:
    assert flv.metadata(message) is None
