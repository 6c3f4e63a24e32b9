"""A direction under the pump that carries one message and ends with it, so that both connections live on.

What the boundary declares opaque is spliced, like all of an unbounded direction; the rest is copied, a little at a
time, and shown to the boundary first. Opaque bytes are never read together with what follows them; so what follows a
message of known length stays in the kernel, for whoever reads the connection next.
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
"""Bytes read when the next ones must be seen. The framing is a few of them, and the payload behind it is copied: with
small chunks that is several at once, and of a large one the most that is not dearer to copy than to splice."""


class _BoundedRead:
    """Receives from a socket what the boundary has seen, or will have seen before it is passed on.

    :ivar surplus: see :attr:`IRelayedHalf.surplus`.
    """

    __slots__ = ("_boundary", "_receive", "surplus")

    def __init__(self, source: socket.socket, boundary: IBoundary) -> None:
        self._receive = source.recv_into
        self._boundary = boundary
        self.surplus = False

    def __call__(self, buffer: memoryview) -> int:
        """How many bytes of the message are in ``buffer`` now, as ``recv_into``.

        :raises PeerError: what was received belongs to no message.
        """
        boundary = self._boundary
        count = self._receive(buffer, min(boundary.opaque or FRAMING_READ, len(buffer)))
        if not count:
            return 0
        within = boundary.inspect(buffer[:count])
        if within < count:
            self.surplus = True
        return within


class BoundedHalf(SplicingHalf):
    """A direction that ends with a message."""

    __slots__ = ("_boundary", "_read", "_splices")

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
        super().__init__(watcher, source, sink, sink_transport, observer)
        self._boundary = boundary
        self._splices = splices
        self._receive = self._read = _BoundedRead(source, boundary)

    @property
    def surplus(self) -> bool:
        """See :attr:`IRelayedHalf.surplus`."""
        return self._read.surplus

    def pull(self) -> None:
        """As :meth:`PumpHalf.pull`."""
        boundary = self._boundary
        opaque = boundary.opaque
        pipe = self._watcher.pipes.borrow() if self._splices and opaque >= MIN_SPLICE else None
        if pipe is not None:
            boundary.skip(self._splice(pipe, min(opaque, PIPE_CAPACITY)))
        else:
            try:
                PumpHalf.pull(self)  # Reads with _BoundedRead.
            except PeerError:
                self.end(EndReason.MALFORMED)
                return
        if boundary.complete and not self._residue and self._pipe is None:
            self.end(EndReason.COMPLETE)

    def _delivered(self) -> None:
        if self._boundary.complete:
            self.end(EndReason.COMPLETE)
        else:
            super()._delivered()
