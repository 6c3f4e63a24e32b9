"""What audio, video and metadata messages hold, and the FLV file format made of them (Adobe, "FLV 10.1", annex E)."""

from __future__ import annotations

from srsproxy.rtmp import amf0
from srsproxy.rtmp.message import Message, MessageType

HEADER = b"FLV\x01\x05\x00\x00\x00\x09" + bytes(4)
"""Announces audio and video, like SRS; with the size of the tag before the first one, which is none."""

_TAG_HEADER_SIZE = 11
_AVC, _HEVC, _AV1 = 7, 12, 13
_AAC = 10
_EXTENDED_AUDIO = 9
"""Where enhanced RTMP puts a codec's four letters in place of a sound format."""

_SET_DATA_FRAME = amf0.encode("@setDataFrame")
_ON_META_DATA = amf0.encode("onMetaData")


def tag(type: int, payload: bytes, timestamp: int) -> bytes:
    """One FLV tag, with its size behind it. ``timestamp``: milliseconds, 32 bits."""
    header = b"".join(
        (
            bytes([type]),
            len(payload).to_bytes(3, "big"),
            (timestamp & 0xFFFFFF).to_bytes(3, "big"),
            bytes([timestamp >> 24 & 0xFF]),
            bytes(3),  # stream id, always 0
        )
    )
    return header + payload + (_TAG_HEADER_SIZE + len(payload)).to_bytes(4, "big")


def is_key_frame(frame: Message) -> bool:
    """Whether a decoder can start here. Enhanced RTMP keeps the frame type in the same bits."""
    return frame.type == MessageType.VIDEO and frame.payload[0] >> 4 & 0b0111 == 1


def is_sequence_header(frame: Message) -> bool:
    """Whether this is a decoder's configuration and no picture or sound."""
    first, second = frame.payload[0], frame.payload[1:2]
    if frame.type == MessageType.VIDEO:
        if first & 0x80:  # enhanced RTMP: the packet type is here, 0 for a sequence start
            return first & 0x0F == 0
        return first & 0x0F in (_AVC, _HEVC, _AV1) and second == b"\x00"
    if frame.type == MessageType.AUDIO:
        if first >> 4 == _EXTENDED_AUDIO:
            return first & 0x0F == 0
        return first >> 4 == _AAC and second == b"\x00"
    return False


def metadata(message: Message) -> bytes | None:
    """The metadata that a publisher sends, as players get it; ``None`` for any other message."""
    if message.type == MessageType.DATA_AMF0:
        payload = message.payload
    elif message.type == MessageType.DATA_AMF3:
        payload = message.payload.removeprefix(b"\x00")
    else:
        return None
    payload = payload.removeprefix(_SET_DATA_FRAME)
    return payload if payload.startswith(_ON_META_DATA) else None
