"""Packets over TCP: frames of two bytes of length and a packet (RFC 4571)."""

from __future__ import annotations

from typing import Final

from zope.interface import implementer

from srsproxy.errors import PeerError
from srsproxy.interfaces import IBoundary
from srsproxy.webrtc.stun import STUN_BYTES, parse

MAX_FRAME: Final = 1500
"""Bytes of a packet; SRS breaks the connection over a larger one."""

_LENGTH_SIZE: Final = 2


def first_frame(data: bytes) -> bytes | None:
    """The packet in the first frame, if all of it is there.

    :raises PeerError: it is too long.
    """
    if len(data) < _LENGTH_SIZE:
        return None
    size = _checked(int.from_bytes(data[:_LENGTH_SIZE]))
    packet = data[_LENGTH_SIZE : _LENGTH_SIZE + size]
    return packet if len(packet) == size else None


@implementer(IBoundary)
class FrameGuard:
    """Lets no frame pass that is too long, and no STUN message whole that is none: a certain malformed one ends SRS's
    process. It has no end."""

    opaque = 0
    complete = False

    __slots__ = ("_length", "_length_bytes", "_missing", "_stun")

    def __init__(self) -> None:
        self._length = self._length_bytes = self._missing = 0
        self._stun: bytearray | None = None

    def skip(self, count: int) -> None:
        """See :meth:`IBoundary.skip`; nothing is opaque."""
        if count:
            raise ValueError("nothing may be skipped")

    def inspect(self, view: memoryview) -> int:
        """See :meth:`IBoundary.inspect`."""
        at, size = 0, len(view)
        while at < size:
            if self._missing:
                at += self._take(view[at : at + self._missing])
                continue
            self._length = self._length << 8 | view[at]
            self._length_bytes += 1
            at += 1
            if self._length_bytes == _LENGTH_SIZE:
                self._missing = _checked(self._length)
                self._length = self._length_bytes = 0
                self._stun = None
                if at < size and view[at] not in STUN_BYTES:
                    continue
                self._stun = bytearray()
        return size

    def _take(self, part: memoryview) -> int:
        """Go on within a packet. The last byte of a STUN message passes only if the whole is one."""
        self._missing -= len(part)
        if self._stun is not None:
            self._stun += part
            if self._stun[0] not in STUN_BYTES:
                self._stun = None
            elif not self._missing:
                parse(bytes(self._stun))
        return len(part)


def _checked(size: int) -> int:
    if size > MAX_FRAME:
        raise PeerError(f"a frame has {size} bytes, more than {MAX_FRAME}")
    return size
