"""What tests of chunk streams share."""

from __future__ import annotations

from collections.abc import Iterable

from srsproxy.rtmp.message import Message
from srsproxy.rtmp.recording import RecordingReader

MAX = 0xFFFFFF
UNKNOWN = 0x63
"""A message type without a meaning."""


def reader(**options: int) -> RecordingReader:
    return RecordingReader(**{"max_message_size": MAX, **options})


def read(pieces: Iterable[bytes], chunks: RecordingReader | None = None) -> list[Message]:
    """All messages of a stream that comes in pieces."""
    chunks = chunks or reader()
    found: list[Message] = []
    for piece in pieces:
        chunks.receive_data(piece)
        found += iter(chunks.next_message, None)
    return found


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def header(fmt: int, stamp: int = 0, length: int = 0, *, csid: int = 4, type: int = UNKNOWN, msid: int = 1) -> bytes:
    """A one-byte basic header and a message header, without an extended timestamp."""
    fields = stamp.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([type]) + msid.to_bytes(4, "little")
    return bytes([fmt << 6 | csid]) + fields[: (11, 7, 3, 0)[fmt]]


def payloads(found: Iterable[Message]) -> list[bytes]:
    return [message.payload for message in found]


CONTINUATION = header(3)


def start(stamp: int = 0, length: int = 200, extended: bytes = b"") -> bytes:
    """The first chunk of a message that goes on."""
    return header(0, stamp, length) + extended + b"x" * 128
