"""Relaying streams of many small writes a few milliseconds late, several writes at a time.

An encoder writes each video frame in several pieces and audio in between: a hundred and more reads and writes of the
relay a second, each of which costs as much as one ten times its size. A direction that is read that often is moved from
the pump, which serves it as soon as anything arrives, to an epoll instance of its own kind that nobody watches: it is
looked at once per flush interval. So nothing waits longer than that, and there is one system call per interval that
tells which directions have something, none per direction that has nothing. One that has become slow, or silent, goes
back to the pump, and so its next byte does not wait.

Measured against raising ``SO_RCVLOWAT`` with a timer that reads what has not been read since it last fired: less CPU at
the same interval, and that reads every silent source in vain.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Final

from srsproxy.relay.halves import BUFFER_SIZE, PumpHalf
from srsproxy.relay.model import EndReason
from srsproxy.relay.private_epoll import MAX_BATCH, serve_all
from srsproxy.relay.pump import Pump

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from srsproxy.interfaces import IRelayObserver, IStreamConnection

ENTRY_READS: Final = 64
"""A direction that is read so often within :data:`ENTRY_SPAN` is worth delaying; audio alone (47 frames a second) is
not."""

ENTRY_SPAN: Final = 1.0
"""Seconds."""

SURVEY_INTERVAL: Final = 0.5
"""Seconds between two looks for directions that are not worth it any more."""

STAY_READS: Final = 8
"""Fewer intervals than that in which a direction had something, in :data:`SURVEY_INTERVAL`, and it is not. Well below
what any stream that may enter shows, so that none goes to and fro."""


class CoalescingHalf(PumpHalf):
    """A copying direction that counts how often it is read."""

    __slots__ = ("_coalescer", "counted_since", "reads")

    def __init__(
        self,
        coalescer: Coalescer,
        now: float,
        source: socket.socket,
        sink: socket.socket,
        sink_transport: IStreamConnection,
        observer: IRelayObserver,
    ) -> None:
        self._coalescer = coalescer
        self.reads = 0
        self.counted_since = now
        super().__init__(coalescer, source, sink, sink_transport, observer)

    def pull(self) -> None:
        """As :meth:`PumpHalf.pull`."""
        super().pull()
        self.reads += 1
        if self.reads == ENTRY_READS:
            self._coalescer.consider(self)


class Coalescer:
    """Stands between the pump and the directions that it may slow down; see the module's text."""

    def __init__(self, reactor: IReactorTime, pump: Pump, flush_interval: float) -> None:
        """
        :param flush_interval: seconds, positive; 0.003 to 0.02 make sense.
        """
        self._reactor = reactor
        self._pump = pump
        self._flush_interval = flush_interval
        self._epoll: select.epoll | None = None
        self._members: dict[int, CoalescingHalf] = {}
        self._flush_call: IDelayedCall | None = None
        self._flush_due = 0.0
        self._survey_begin = 0.0
        self.buffer = pump.buffer
        self.pipes = pump.pipes

    def relay(
        self, source: socket.socket, sink: socket.socket, sink_transport: IStreamConnection, observer: IRelayObserver
    ) -> CoalescingHalf:
        """As :meth:`Pump.relay`."""
        return CoalescingHalf(self, self._reactor.seconds(), source, sink, sink_transport, observer)

    def consider(self, half: CoalescingHalf) -> None:
        """The half has been read :data:`ENTRY_READS` times since it was considered or surveyed last."""
        if not self._pump.is_reading(half):
            return  # Already delayed, or the last of these reads has ended it or filled its sink.
        now = self._reactor.seconds()
        if now - half.counted_since <= ENTRY_SPAN:
            self._enter(half, now)
        half.counted_since = now
        half.reads = 0

    def close(self) -> None:
        """As :meth:`Pump.close`, for the directions that are delayed now."""
        for half in list(self._members.values()):
            half.stop()
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    # --- Watcher

    def await_source(self, half: PumpHalf) -> None:
        """As :meth:`Pump.await_source`."""
        self._pump.await_source(half)

    def await_sink(self, half: PumpHalf) -> None:
        """As :meth:`Pump.await_sink`; a direction that is held up anyway is not delayed on top."""
        self._leave(half)
        self._pump.await_sink(half)

    def forget(self, half: PumpHalf) -> None:
        """As :meth:`Pump.forget`."""
        self._leave(half)
        self._pump.forget(half)

    def end_soon(self, half: PumpHalf, reason: EndReason) -> None:
        """As :meth:`Pump.end_soon`."""
        self._pump.end_soon(half, reason)

    # --- members

    def _enter(self, half: CoalescingHalf, now: float) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
        self._pump.forget(half)
        previous = self._members.get(half.source_fd)
        if previous is not None:
            self.end_soon(previous, EndReason.SOURCE_LOST)  # Its owner closed it and has not stopped us.
        self._epoll.register(half.source_fd, select.EPOLLIN)
        self._members[half.source_fd] = half
        if self._flush_call is None:
            self._flush_due = now
            self._survey_begin = now
            self._flush_next(now)

    def _leave(self, half: PumpHalf) -> None:
        fd = half.source_fd
        if self._members.get(fd) is half:
            del self._members[fd]
            # The kernel forgets a closed socket by itself.
            if half.source.fileno() == fd and self._epoll is not None:
                self._epoll.unregister(fd)

    def _release(self, half: CoalescingHalf) -> None:
        """Let the pump serve the half at once from now on."""
        self._leave(half)
        half.counted_since = self._reactor.seconds()
        half.reads = 0
        self._pump.await_source(half)

    # --- flushing

    def _flush_next(self, now: float) -> None:
        # By the calendar, lest the reactor's rounding adds to each interval; but nothing is made up for.
        self._flush_due += self._flush_interval
        if self._flush_due < now:
            self._flush_due = now + self._flush_interval
        self._flush_call = self._reactor.callLater(self._flush_due - now, self._flush)

    def _flush(self) -> None:
        """Move all that has arrived in the last interval."""
        self._flush_call = None
        if self._epoll is None or not self._members:
            return
        events = self._epoll.poll(0, MAX_BATCH)
        serve_all(events, self._serve, self._break_off)
        now = self._reactor.seconds()
        if now - self._survey_begin >= SURVEY_INTERVAL:
            serve_all([(fd, 0) for fd in self._members], self._survey, self._break_off)
            self._survey_begin = now
        if len(events) == MAX_BATCH:
            # There may be more, but others wait for the reactor as well.
            self._flush_call = self._reactor.callLater(0, self._flush)
        else:
            self._flush_next(now)

    def _serve(self, fd: int, _event: int) -> None:
        half = self._members.get(fd)
        if half is None:
            return
        before = half.relayed
        half.pull()
        if half.relayed - before == BUFFER_SIZE:
            # There is more than one read takes: as fast as that, waiting saves nothing and slows the stream down.
            self._release(half)

    def _break_off(self, fd: int) -> None:
        half = self._members.get(fd)
        if half is not None:
            half.end(EndReason.SOURCE_LOST)

    def _survey(self, fd: int, _event: int) -> None:
        half = self._members[fd]
        if half.counted_since > self._survey_begin:
            return  # It has entered since the last survey.
        if half.reads < STAY_READS:
            self._release(half)
        half.reads = 0
