"""The RTMP chunk stream (Adobe, "RTMP 1.0", section 5.3), one direction of a connection behind its handshake.

:class:`ChunkReader` turns bytes into messages and knows at which byte each message ended, so that a caller can stop
between two messages and pass the rest on untouched. It reads what SRS reads, since a byte that means one thing here and
another in the origin would let a client talk past us:

* a chunk stream may begin with a type 1 header (librtmp does), not with type 2 or 3;
* within a message a type 0 header is an error, and one of type 1 or 2 continues it if the length stays the same;
* Abort does nothing, and neither does an empty message of any type;
* an extended timestamp is absolute, even in a type 1 or 2 header, where the specification has it as a delta;
* chunks repeat it within a message, but four bytes that differ from the message's timestamp are payload, because some
  writers leave it out. If the timestamp is 0 it must be there.

All of this was tried on SRS 7.0.18.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp.message import Message, MessageType, parse_set_chunk_size

__all__ = ["DEFAULT_CHUNK_SIZE", "MAX_CHUNK_STREAMS", "MIN_CHUNK_SIZE", "ChunkReader", "ChunkWriter", "Message"]

DEFAULT_CHUNK_SIZE = 128
"""Bytes of payload in a chunk until a SetChunkSize says otherwise."""

MAX_CHUNK_STREAMS = 64
"""Chunk streams that one peer may use; each costs about 400 bytes of state. Encoders use 3 to 6 of the 65598."""

MIN_CHUNK_SIZE = 128
"""The smallest chunk size that SRS takes from its clients."""

_INTERLEAVED = 2
"""Unfinished messages of full size that may wait at once: a video frame with other messages between its chunks."""

_MIN_CSID = 2
_MAX_CSID = 65599
_MAX_24_BIT = 0xFFFFFF
_TIMESTAMP_MASK = 0x7FFFFFFF
"""SRS keeps 31 bits of a timestamp, and so compares 31 bits."""

_CONTINUATION = 3
_HEADER_SIZES = (11, 7, 3)
"""Bytes of message header types 0, 1 and 2."""


class _Header(NamedTuple):
    """What a message header says, with what it leaves out taken from the header before it on its chunk stream."""

    timestamp: int = 0
    delta: int = 0
    """The three-byte timestamp field. A message that begins with a type 3 header adds it to the timestamp again."""

    length: int = 0
    type: int = 0
    msid: int = 0

    @property
    def extended(self) -> bool:
        """Whether a timestamp of four bytes follows this header, and the type 3 headers after it."""
        return self.delta == _MAX_24_BIT


_NO_HEADER = _Header()


@dataclass(slots=True)
class _ChunkStream:
    """The state of one chunk stream, and the message on it that is not finished."""

    header: _Header = _NO_HEADER
    partial: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Feed :meth:`receive_data`, then take messages from :meth:`next_message` until there is none.

    SetChunkSize takes effect by itself; it is returned like any other message. So are empty messages, which a caller
    should ignore as SRS does.

    Memory is bounded by the limits: payloads of unfinished messages by twice ``max_message_size``, and about as much
    again for the bytes behind the last message (more if chunks are smaller than their headers), plus what one read
    brings.

    :param max_message_size: bytes of payload that a message may have.
    :param min_chunk_size: the smallest chunk size that the peer may set; :data:`MIN_CHUNK_SIZE` for clients.
    :param chunk_size: the peer's current chunk size. To begin in the middle of a connection, between two messages, it
        is enough to know this, if the next header on each chunk stream is of type 0 or 1. SRS writes only type 0.
    :ivar chunk_size: the peer's current chunk size.
    """

    def __init__(self, *, max_message_size: int, min_chunk_size: int = 1, chunk_size: int = DEFAULT_CHUNK_SIZE) -> None:
        self.chunk_size = chunk_size
        self._max_message_size = max_message_size
        self._min_chunk_size = min_chunk_size
        self._streams: dict[int, _ChunkStream] = {}
        self._unfinished = 0
        """Payload bytes in all partial messages; a message is partial only if it has some."""
        self._buffer = bytearray()
        """The input from offset ``_base``, which is at or before the end of the last message, to what came last."""
        self._base = 0
        self._position = 0
        """Index in the buffer of the next chunk to parse."""
        self._boundary = 0
        """Index in the buffer of the end of the last message."""
        self._clean_boundary = True

    @property
    def at_boundary(self) -> bool:
        """Whether the chunk stream can be cut at the end of the last message that was returned.

        It cannot if another message had begun before that end and was not finished, which only happens to peers that
        interleave chunk streams.
        """
        return self._clean_boundary

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived."""
        # What was returned is dropped here and not message by message, so that a read full of small messages is cheap.
        self._drop(self._boundary)
        self._buffer += data

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._base += count
        self._position -= count
        self._boundary = max(self._boundary - count, 0)

    def next_message(self) -> Message | None:
        """The next message, or ``None`` until more has arrived.

        :raises PeerError: the peer breaks the chunk protocol. The reader cannot go on.
        :raises LimitExceeded: a message, all unfinished ones together, or the number of chunk streams is too large.
        """
        while (csid := self._read_chunk()) is not None:
            stream = self._streams[csid]
            header = stream.header
            if len(stream.partial) < header.length:
                continue
            payload = bytes(stream.partial)
            stream.partial.clear()
            self._unfinished -= len(payload)
            self._boundary = self._position
            self._clean_boundary = not self._unfinished
            if header.type == MessageType.SET_CHUNK_SIZE and payload:
                self._set_chunk_size(parse_set_chunk_size(payload))
            return Message(csid, header.type, header.msid, header.timestamp, payload, self._base + self._position)
        return None

    def _set_chunk_size(self, size: int) -> None:
        if size < self._min_chunk_size:
            raise PeerError(f"SetChunkSize to {size}, which is less than {self._min_chunk_size}")
        self.chunk_size = size

    def _read_chunk(self) -> int | None:
        """Parse one chunk; returns its chunk stream. ``None``, and nothing is changed, if it has not all arrived."""
        at = self._position
        if at == len(self._buffer):
            return None
        fmt, csid = divmod(self._buffer[at], 64)
        at += 1
        if csid < _MIN_CSID:
            # 0 and 1 announce one or two more bytes, the latter with the low byte first.
            start, at = at, at + csid + 1
            if at > len(self._buffer):
                return None
            csid = 64 + int.from_bytes(self._buffer[start:at], "little")

        stream = self._streams.get(csid) or self._fresh_stream(csid, fmt)
        if stream.partial and fmt == 0:
            raise PeerError(f"type 0 header within a message on chunk stream {csid}")
        parsed = self._read_message_header(fmt, stream, at)
        if parsed is None:
            return None
        header, at = parsed
        if stream.partial and header.length != stream.header.length:
            raise PeerError(f"message on chunk stream {csid} changes its length")
        size = min(self.chunk_size, header.length - len(stream.partial))
        if len(self._buffer) - at < size:
            return None

        self._streams[csid] = stream
        stream.header = header
        stream.partial += self._buffer[at : at + size]
        self._unfinished += size
        if self._unfinished > _INTERLEAVED * self._max_message_size:
            raise LimitExceeded(f"unfinished messages of {self._unfinished} bytes")
        self._position = at + size
        return csid

    def _fresh_stream(self, csid: int, fmt: int) -> _ChunkStream:
        if fmt > 1:
            raise PeerError(f"type {fmt} header begins chunk stream {csid}")
        if len(self._streams) == MAX_CHUNK_STREAMS:
            raise LimitExceeded(f"more than {MAX_CHUNK_STREAMS} chunk streams")
        return _ChunkStream()

    def _read_message_header(self, fmt: int, stream: _ChunkStream, at: int) -> tuple[_Header, int] | None:
        """The message header of type ``fmt`` at index ``at``, and the index behind it; ``None`` if it is cut short."""
        header = stream.header
        if fmt != _CONTINUATION:
            start, at = at, at + _HEADER_SIZES[fmt]
            if at > len(self._buffer):
                return None
            fields = self._buffer[start:at]
            header = header._replace(delta=int.from_bytes(fields[:3], "big"))
            if fmt <= 1:
                length = int.from_bytes(fields[3:6], "big")
                if length > self._max_message_size:
                    raise LimitExceeded(f"message of {length} bytes (limit {self._max_message_size})")
                header = header._replace(length=length, type=fields[6])
            if fmt == 0:
                header = header._replace(timestamp=0, msid=int.from_bytes(fields[7:], "little"))
        if header.extended:
            return self._read_extended_timestamp(header, at, within_message=bool(stream.partial))
        if fmt != _CONTINUATION or not stream.partial:
            header = header._replace(timestamp=(header.timestamp + header.delta) & _TIMESTAMP_MASK)
        return header, at

    def _read_extended_timestamp(self, header: _Header, at: int, *, within_message: bool) -> tuple[_Header, int] | None:
        """The four bytes at index ``at``, if they are a timestamp; returns as :meth:`_read_message_header` does."""
        stamp = self._buffer[at : at + 4]
        if stamp:
            stamp[0] &= _TIMESTAMP_MASK >> 24
        # Compared as far as it has arrived: a writer that leaves it out may have nothing more to send.
        expected = within_message and header.timestamp
        if expected and not expected.to_bytes(4, "big").startswith(stamp):
            return header, at
        if len(stamp) < 4:
            return None
        return header._replace(timestamp=int.from_bytes(stamp, "big")), at + 4


class ChunkWriter:
    """Writes messages as SRS does: a type 0 header, then type 3 chunks, one message after the other.

    So what it writes has no state at the borders between messages, and needs none to be read.

    :ivar chunk_size: bytes of payload in a chunk. To be changed after a SetChunkSize message was written.
    """

    def __init__(self, chunk_size: int = DEFAULT_CHUNK_SIZE) -> None:
        self.chunk_size = chunk_size

    def write(self, csid: int, type: int, msid: int, payload: bytes | memoryview, timestamp: int = 0) -> bytes:
        """One message as chunks.

        :param payload: at most 0xffffff bytes.
        :param timestamp: milliseconds, 0 to 0xffffffff.
        :raises ValueError: there is no such chunk stream.
        :raises OverflowError: another number does not fit its field.
        """
        length = len(payload)
        extended = timestamp.to_bytes(4, "big") if timestamp >= _MAX_24_BIT else b""
        header = b"".join(
            (
                _basic_header(0, csid),
                min(timestamp, _MAX_24_BIT).to_bytes(3, "big"),
                length.to_bytes(3, "big"),
                type.to_bytes(1, "big"),
                msid.to_bytes(4, "little"),
                extended,
            )
        )
        size = self.chunk_size
        if length <= size:
            return header + payload
        continuation = _basic_header(_CONTINUATION, csid) + extended
        view = memoryview(payload)
        parts: list[bytes | memoryview] = [header, view[:size]]
        for start in range(size, length, size):
            parts += (continuation, view[start : start + size])
        return b"".join(parts)


def _basic_header(fmt: int, csid: int) -> bytes:
    """One to three bytes (section 5.3.1.1)."""
    if not _MIN_CSID <= csid <= _MAX_CSID:
        raise ValueError(f"chunk stream {csid} is not between {_MIN_CSID} and {_MAX_CSID}")
    if csid < 64:
        return bytes([fmt << 6 | csid])
    if csid < 64 + 256:
        return bytes([fmt << 6, csid - 64])
    return bytes([fmt << 6 | 1]) + (csid - 64).to_bytes(2, "little")
