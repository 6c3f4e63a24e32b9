"""A direction under the pump that carries one message and ends with it, so that both connections live on.

What the boundary declares opaque is spliced, like all of an unbounded direction; the rest is shown to the boundary
first. Where much opaque follows a little framing, the framing is only looked at, and spliced together with what follows
it; else it is read together with that, and copied. Opaque bytes are never read together with what follows them; so what
follows a message of known length stays in the kernel, for whoever reads the connection next.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from srsproxy.errors import PeerError
from srsproxy.relay.halves import PumpHalf, SplicingHalf, Watcher
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import PIPE_CAPACITY

if TYPE_CHECKING:
    from srsproxy.interfaces import IBoundary, IRelayObserver, IStreamConnection

MIN_SPLICE: Final = 16 * 1024
"""Opaque bytes from which on splicing is worth it: measured, copying so many costs the same."""

FRAMING_READ: Final = 16 * 1024
"""Bytes read when the next ones must be seen, and what follows was small the last time: several messages' worth of
small chunks at once, and of a large one the most that is not dearer to copy than to splice."""

FRAMING_LOOK: Final = 64
"""Bytes looked at when what follows was large the last time: more than the size of a chunk takes."""


class _Reader:
    """Receives from a socket what the boundary has seen, or will have seen before it is passed on.

    :ivar seen: bytes that the boundary was shown and that are still in the socket.
    :ivar surplus: see :attr:`IRelayedHalf.surplus`.
    """

    __slots__ = ("_boundary", "_receive", "seen", "surplus")

    def __init__(self, source: socket.socket, boundary: IBoundary) -> None:
        self._receive = source.recv_into
        self._boundary = boundary
        self.seen = 0
        self.surplus = False

    @property
    def known(self) -> int:
        """How many of the next bytes belong to the message."""
        known: int = self.seen + self._boundary.opaque
        return known

    def look(self, buffer: memoryview) -> int:
        """Show the next bytes to the boundary without taking them; returns how many there were.

        :raises PeerError: they belong to no message.
        """
        count = self._receive(buffer, FRAMING_LOOK, socket.MSG_PEEK)
        if count:
            self.seen = self._boundary.inspect(buffer[:count])
        return count

    def taken(self, count: int) -> None:
        """So many of the known bytes have left the socket."""
        seen = min(count, self.seen)
        self.seen -= seen
        self._boundary.skip(count - seen)

    def __call__(self, buffer: memoryview) -> int:
        """How many bytes of the message are in ``buffer`` now, as ``recv_into``.

        :raises PeerError: what was received belongs to no message.
        """
        known = self.known
        count: int = self._receive(buffer, min(known or FRAMING_READ, len(buffer)))
        if known:
            self.taken(count)
            return count
        within = self._boundary.inspect(buffer[:count]) if count else 0
        self.surplus = within < count
        return within


class BoundedHalf(SplicingHalf):
    """A direction that ends with a message."""

    __slots__ = ("_boundary", "_looks", "_reader", "_splices")

    def __init__(
        self,
        watcher: Watcher,
        source: socket.socket,
        sink: socket.socket,
        sink_transport: IStreamConnection | None,
        observer: IRelayObserver,
        boundary: IBoundary,
        splices: bool,
    ) -> None:
        """
        :param splices: whether to splice what is opaque, rather than to copy all.
        """
        self._boundary = boundary
        self._splices = splices
        self._looks = False
        self._reader = _Reader(source, boundary)
        super().__init__(watcher, source, sink, sink_transport, observer)
        self._receive = self._reader

    @property
    def surplus(self) -> bool:
        """See :attr:`IRelayedHalf.surplus`."""
        return self._reader.surplus

    def pull(self) -> None:
        """As :meth:`PumpHalf.pull`."""
        reader = self._reader
        try:
            if self._looks and not reader.known and not self._look():
                return
            known = reader.known
            pipe = self._watcher.pipes.borrow() if self._splices and known >= MIN_SPLICE else None
            if pipe is not None:
                reader.taken(self._splice(pipe, min(known, PIPE_CAPACITY)))
            else:
                PumpHalf.pull(self)  # Reads with the reader.
                self._looks = self._splices and self._boundary.opaque >= MIN_SPLICE
        except PeerError:
            self.end(EndReason.MALFORMED)
            return
        if self._is_over():
            self.end(EndReason.COMPLETE)

    def _look(self) -> bool:
        """Look at the framing that comes next; whether there was any.

        :raises PeerError: it is none.
        """
        try:
            count = self._reader.look(self._watcher.buffer)
        except BlockingIOError:
            return False
        except OSError:
            self.end(EndReason.SOURCE_LOST)
            return False
        if not count:
            self.end(EndReason.EOF)
        return bool(count)

    def _is_over(self) -> bool:
        return self._boundary.complete and not self._reader.seen and not self._residue and self._pipe is None

    def _delivered(self) -> None:
        if self._is_over():
            self.end(EndReason.COMPLETE)
        else:
            super()._delivered()
