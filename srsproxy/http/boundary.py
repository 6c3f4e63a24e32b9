"""Where the body of an HTTP message ends (RFC 9112, section 6), for bodies that are relayed without being held.

No I/O. Of a chunked body only the framing is looked at: the work is one per chunk, whatever its size, and no payload is
copied.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from zope.interface import implementer

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.interfaces import IBoundary

MAX_CHUNK_LINE: Final = 1024
"""Bytes of a line that announces a chunk, with its CRLF. The size takes 17 of them; what may follow are extensions,
which hardly anybody sends."""

MAX_TRAILERS: Final = 8 * 1024
"""Bytes of all fields behind the last chunk, and of the empty line that ends them: as much as a small head."""

_CRLF: Final = b"\r\n"

LAST_CHUNK: Final = b"0\r\n\r\n"
"""What ends a chunked body that has no trailers."""

# Fifteen digits keep a size below 2**60. Whitespace is only right before an extension, and a line has to end in CRLF:
# who takes less is told another story than the proxy or the server behind it (RFC 9112, sections 2.2 and 7.1.1).
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)?\r\n")


@implementer(IBoundary)
class LengthBoundary:
    """The end of a body of known length."""

    __slots__ = ("opaque",)

    def __init__(self, length: int) -> None:
        """
        :param length: bytes, not negative.
        """
        self.opaque = length

    @property
    def complete(self) -> bool:
        """See :attr:`IBoundary.complete`."""
        return not self.opaque

    def skip(self, count: int) -> None:
        """See :meth:`IBoundary.skip`."""
        self.opaque -= count

    def inspect(self, view: memoryview) -> int:
        """See :meth:`IBoundary.inspect`; accepts everything."""
        count = min(self.opaque, len(view))
        self.opaque -= count
        return count


class _Line(enum.Enum):
    """What the line is that comes next, or has begun."""

    SIZE = enum.auto()
    """That announces a chunk."""

    CHUNK_END = enum.auto()
    """That ends a chunk's data, and is empty."""

    TRAILER = enum.auto()
    """Behind the last chunk; an empty one ends the body."""


class _ChunkFraming:
    """The grammar of ``chunked-body`` (RFC 9112, section 7.1): lines, read here, between payload that is not.

    :ivar payload_left: the bytes of payload that come next, before the next line.
    :ivar complete: whether the body has ended.
    """

    __slots__ = ("_line", "_partial", "_trailers_left", "complete", "payload_left")

    def __init__(self) -> None:
        self.payload_left = 0
        self.complete = False
        self._line = _Line.SIZE
        self._partial = b""
        self._trailers_left = MAX_TRAILERS

    @property
    def between_chunks(self) -> bool:
        """Whether the body, which has not ended, has come to where a chunk would begin: :data:`LAST_CHUNK` would end it
        here."""
        return self._line is _Line.SIZE and not self._partial

    def _walk(self, view: memoryview, payload: list[memoryview]) -> int:
        """Go through the next bytes and append their payload in pieces; returns where the body ends, or they do."""
        at, size = 0, len(view)
        while at < size and not self.complete:
            if self.payload_left:
                end = min(at + self.payload_left, size)
                payload.append(view[at:end])
                self.payload_left -= end - at
                at = end
            else:
                at = self._read_line(view, at)
        return at

    def _read_line(self, view: memoryview, at: int) -> int:
        """Read one line, or as much of it as there is, from ``at`` on; returns where it ends.

        :raises PeerError: that is not the line that has to come here.
        """
        kind = self._line
        if kind is _Line.SIZE:
            limit = MAX_CHUNK_LINE
        elif kind is _Line.CHUNK_END:
            limit = len(_CRLF)
        else:
            limit = self._trailers_left
        begin = bytes(view[at : at + limit - len(self._partial)])
        end = begin.find(b"\n") + 1
        line = self._partial + (begin[:end] if end else begin)
        if not end:
            if len(line) == limit:
                if kind is _Line.CHUNK_END:
                    raise PeerError(f"a chunk's data ends in {line!r}")
                raise LimitExceeded(f"a line of chunked framing is longer than {limit} bytes")
            self._partial = line
            return at + len(begin)
        self._partial = b""
        if kind is _Line.SIZE:
            self._begin_chunk(line)
        elif kind is _Line.CHUNK_END:
            if line != _CRLF:
                raise PeerError(f"a chunk's data ends in {line!r}")
            self._line = _Line.SIZE
        else:
            if not _TRAILER.fullmatch(line):
                raise PeerError(f"no trailer field: {line!r}")
            self._trailers_left -= len(line)
            self.complete = line == _CRLF
        return at + end

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise PeerError(f"no chunk size: {line!r}")
        self.payload_left = int(match[1], 16)
        self._line = _Line.CHUNK_END if self.payload_left else _Line.TRAILER


@implementer(IBoundary)
class ChunkedBoundary(_ChunkFraming):
    """The end of a chunked body that is passed on with its framing, extensions and trailers.

    The line end behind a chunk's data counts as opaque too, so that one chunk can be passed on in one go. It is looked
    at if it is shown; if it was not one, what follows it will be no chunk, to the client either.
    """

    __slots__ = ()

    @property
    def opaque(self) -> int:
        """See :attr:`IBoundary.opaque`."""
        return self.payload_left + len(_CRLF) - len(self._partial) if self._line is _Line.CHUNK_END else 0

    def skip(self, count: int) -> None:
        """See :meth:`IBoundary.skip`."""
        payload = min(count, self.payload_left)
        self.payload_left -= payload
        if count > payload:
            ended = len(self._partial) + count - payload
            self._partial = _CRLF[:ended]
            if ended == len(_CRLF):
                self._partial = b""
                self._line = _Line.SIZE

    def inspect(self, view: memoryview) -> int:
        """See :meth:`IBoundary.inspect`.

        :raises LimitExceeded: over :data:`MAX_CHUNK_LINE` or :data:`MAX_TRAILERS`.
        """
        return self._walk(view, [])


class ChunkDecoder(_ChunkFraming):
    """The payload of a chunked body, for those who read it here or send it to somebody who knows no chunks.

    Holds no payload, so how much of it there may be is for the caller to say.

    :ivar leftover: what came behind the end of the body.
    """

    __slots__ = ("leftover",)

    def __init__(self) -> None:
        super().__init__()
        self.leftover = b""

    def receive_data(self, data: bytes) -> list[memoryview]:
        """The payload in the next bytes, in pieces of ``data``. To be called until :attr:`complete`.

        :raises PeerError: no chunked body.
        :raises LimitExceeded: over :data:`MAX_CHUNK_LINE` or :data:`MAX_TRAILERS`.
        """
        pieces: list[memoryview] = []
        self.leftover = data[self._walk(memoryview(data), pieces) :]
        return pieces
