"""The fast data plane of streams: all relayed sockets in one private epoll instance.

Sockets are watched by number, and a number has up to two roles at once: the *source* of one direction, and the *sink*
that another direction waits for. The interest registered with epoll follows from the roles:

======================  ============  ==============================================
table                   asks for      because
======================  ============  ==============================================
``_reading[number]``    EPOLLIN       the direction relays
``_blocked[number]``    nothing       its sink is full; a broken source is told anyway
``_sinks[number]``      EPOLLOUT      what the direction holds can go out again
======================  ============  ==============================================
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Final

from srsproxy.relay.bounded import BoundedHalf
from srsproxy.relay.halves import BUFFER_SIZE, PumpHalf, SplicingHalf
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import PipePool
from srsproxy.relay.private_epoll import PrivateEpoll, Reactor

if TYPE_CHECKING:
    from srsproxy.interfaces import IBoundary, IRelayObserver, IStreamConnection

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_BROKEN: Final = select.EPOLLERR | select.EPOLLHUP


class Pump(PrivateEpoll):
    """Runs relayed directions, see the module's text."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor)
        self._closed = False
        self._masks: dict[int, int] = {}
        self._reading: dict[int, PumpHalf] = {}
        self._blocked: dict[int, PumpHalf] = {}
        self._sinks: dict[int, PumpHalf] = {}
        self.buffer = memoryview(bytearray(BUFFER_SIZE))
        self.pipes = PipePool()

    def relay(
        self,
        source: socket.socket,
        sink: socket.socket,
        sink_transport: IStreamConnection | None,
        observer: IRelayObserver,
        bulk: bool,
        boundary: IBoundary | None,
    ) -> PumpHalf:
        """Relay from one socket to another once the sink's transport, if it is given, has written what it has; see
        ``IStreamRelay``."""
        splices = bulk and hasattr(os, "splice")
        if boundary is not None:
            return BoundedHalf(self, source, sink, sink_transport, observer, boundary, splices)
        half = SplicingHalf if splices else PumpHalf
        return half(self, source, sink, sink_transport, observer)

    def close(self) -> None:
        """Stop all directions, without telling their observers, and release the descriptors."""
        self._closed = True
        for half in [*self._reading.values(), *self._blocked.values()]:
            half.stop()
        self.pipes.close()
        super().close()

    # --- PrivateEpoll

    def _serve(self, fd: int, event: int) -> None:
        half = self._reading.get(fd)
        if event == _IN and half is not None:
            half.pull()
            return
        held = self._sinks.get(fd)
        if held is not None:
            held.flush()
            if event & _BROKEN and self._sinks.get(fd) is held:
                # Hang-up and error are told whatever is asked for: to wait on would be a busy loop.
                held.end(EndReason.SINK_LOST)
        if event == _OUT:
            return
        half = self._reading.get(fd)  # Again: delivering may have ended it.
        if half is not None:
            # Reading tells data, end of stream and error apart, and in their order.
            half.pull()
            return
        half = self._blocked.get(fd)
        if half is not None and event & _BROKEN:
            if half.source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                half.end(EndReason.SOURCE_LOST)
            else:
                # Shut down in both directions in good order, and told so over and over; there may be more to read once
                # the sink takes it, so only stop listening.
                self._unregister(fd)

    def _break_off(self, fd: int) -> None:
        for roles, reason in (
            (self._reading, EndReason.SOURCE_LOST),
            (self._blocked, EndReason.SOURCE_LOST),
            (self._sinks, EndReason.SINK_LOST),
        ):
            half = roles.get(fd)
            if half is not None:
                half.end(reason)

    def is_reading(self, half: PumpHalf) -> bool:
        """Whether the half waits for its source here."""
        return self._reading.get(half.source_fd) is half

    # --- Watcher

    def await_source(self, half: PumpHalf) -> None:
        """The half holds nothing: call its ``pull`` when its source can be read."""
        if self._closed:
            half.stop()
            return
        fd = half.source_fd
        if half.source.fileno() != fd:
            half.end(EndReason.SOURCE_LOST)  # Its owner closed it and has not stopped us.
            return
        self._evict(half.source, fd)
        self._blocked.pop(fd, None)
        self._reading[fd] = half
        self._watch(half.source, fd)
        if self._sinks.get(half.sink_fd) is half:
            del self._sinks[half.sink_fd]
            self._watch(half.sink, half.sink_fd)

    def await_sink(self, half: PumpHalf) -> None:
        """The half holds something: call its ``flush`` when its sink can be written, and do not read its source."""
        self._reading.pop(half.source_fd, None)
        self._blocked[half.source_fd] = half
        self._watch(half.source, half.source_fd)
        self._evict(half.sink, half.sink_fd)
        self._sinks[half.sink_fd] = half
        self._watch(half.sink, half.sink_fd)

    def forget(self, half: PumpHalf) -> None:
        """Call the half no more."""
        for roles, sock, fd in (
            (self._reading, half.source, half.source_fd),
            (self._blocked, half.source, half.source_fd),
            (self._sinks, half.sink, half.sink_fd),
        ):
            if roles.get(fd) is half:
                del roles[fd]
                self._watch(sock, fd)

    def end_soon(self, half: PumpHalf, reason: EndReason) -> None:
        """End the half from the reactor, not from within whatever is going on now."""
        self._reactor.callLater(0, half.end, reason)

    # --- epoll

    def _evict(self, sock: socket.socket, fd: int) -> None:
        """Forget halves with another socket of this number: its owner closed it and did not stop them."""
        for roles in (self._reading, self._blocked, self._sinks):
            half = roles.get(fd)
            if half is not None and (half.sink if roles is self._sinks else half.source) is not sock:
                del roles[fd]
                self._masks.pop(fd, None)
                self.end_soon(half, EndReason.SINK_LOST if roles is self._sinks else EndReason.SOURCE_LOST)

    def _watch(self, sock: socket.socket, fd: int) -> None:
        """Make epoll's interest in a socket follow from its roles."""
        if sock.fileno() != fd:
            # Closed: the kernel has forgotten it by itself, and its number may be another's by now.
            self._masks.pop(fd, None)
            return
        blocked = fd in self._sinks
        if fd in self._reading:
            mask = _IN | _OUT if blocked else _IN
        elif blocked:
            mask = _OUT
        elif fd in self._blocked:
            mask = 0
        else:
            self._unregister(fd)
            return
        current = self._masks.get(fd)
        if mask == current:
            return
        epoll = self._open()
        if current is None:
            epoll.register(fd, mask)
        else:
            epoll.modify(fd, mask)
        self._masks[fd] = mask

    def _unregister(self, fd: int) -> None:
        if self._masks.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)
