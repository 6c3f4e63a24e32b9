"""One relayed direction under the pump: how its bytes get from the source's socket to the sink's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger
from zope.interface import implementer

from srsproxy.interfaces import IRelayedHalf
from srsproxy.relay.handover import SinkDrain
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import PIPE_CAPACITY, Pipe, PipePool

if TYPE_CHECKING:
    from srsproxy.interfaces import IRelayObserver, IStreamConnection

_log = Logger()


BUFFER_SIZE: Final = 64 * 1024
"""Bytes of one read in copying mode, and so the most that a direction holds for a sink that is full."""


class Watcher(Protocol):
    """What a half asks of the one that runs it, which is the pump or something between it and the pump."""

    buffer: memoryview
    """The halves' common scratch of :data:`BUFFER_SIZE` bytes; nothing stays in it from one call to the next."""

    pipes: PipePool

    def await_source(self, half: PumpHalf) -> None:
        """Call the half's ``pull`` whenever its source can be read."""

    def await_sink(self, half: PumpHalf) -> None:
        """Call the half's ``flush`` when its sink can be written; ``pull`` no more until then."""

    def forget(self, half: PumpHalf) -> None:
        """Call the half no more."""

    def end_soon(self, half: PumpHalf, reason: EndReason) -> None:
        """Call the half's ``end`` from the reactor."""


@implementer(IRelayedHalf)
class PumpHalf:
    """A direction that copies: one read into the shared buffer, one write out of it.

    It is in one of four states::

        draining --> reading <--> blocked --> over        (every state can go over)

    *draining*: the sink's transport still has bytes of its own to write; *reading*: the source is watched and
    nothing is held; *blocked*: the sink took less than was read, the rest is held and only the sink is watched (and the
    source for its breaking); *over*: ended or stopped, nothing is held or watched.
    """

    __slots__ = (
        "_drain",
        "_observer",
        "_receive",
        "_residue",
        "_send",
        "_watcher",
        "relayed",
        "sink",
        "sink_fd",
        "source",
        "source_fd",
    )

    def __init__(
        self,
        watcher: Watcher,
        source: socket.socket,
        sink: socket.socket,
        sink_transport: IStreamConnection | None,
        observer: IRelayObserver,
    ) -> None:
        self._watcher = watcher
        self.source = source
        self.sink = sink
        # Kept because a closed socket does not tell its number any more, and the watcher's tables go by numbers.
        self.source_fd = source.fileno()
        self.sink_fd = sink.fileno()
        self._observer: IRelayObserver | None = observer
        self._residue = b""
        self.relayed = 0
        self._receive: Callable[[memoryview], int] = source.recv_into
        self._send = sink.send
        self._drain: SinkDrain | None = None
        if sink_transport is None:
            watcher.await_source(self)
        else:
            self._drain = SinkDrain(sink_transport, self._drained, self._lost_while_draining)
            self._drain.start()

    # --- IRelayedHalf

    @property
    def surplus(self) -> bool:
        """See :attr:`IRelayedHalf.surplus`; nothing is beyond a boundary here."""
        return False

    @property
    def blocked(self) -> bool:
        """See :attr:`IRelayedHalf.blocked`."""
        return self._drain is not None or bool(self._residue)

    @property
    def bypasses_sink(self) -> bool:
        """See :attr:`IRelayedHalf.bypasses_sink`."""
        return self._drain is None

    def stop(self) -> bytes:
        """See :meth:`IRelayedHalf.stop`."""
        if self._observer is None:
            return b""
        residue = self._take_residue()
        self._finish()
        return residue

    def data_received(self, data: bytes) -> None:
        """Never right here: the source's transport is paused, and the pump reads its socket."""
        raise RuntimeError("the source of this relayed direction is read by the pump, yet its transport read it too")

    def read_closed(self) -> None:
        """Never right here, as :meth:`data_received`."""
        raise RuntimeError("the source of this relayed direction is read by the pump, yet its transport saw its end")

    # --- handing over

    def _drained(self) -> None:
        self._drain = None
        self._watcher.await_source(self)

    def _lost_while_draining(self) -> None:
        self._drain = None
        # The transport says so in the middle of its own going away, or in our constructor.
        self._watcher.end_soon(self, EndReason.SINK_LOST)

    # --- moving bytes; called by the watcher

    def pull(self) -> None:
        """The source can be read (or has ended, or broke): move what it has to the sink."""
        buffer = self._watcher.buffer
        try:
            count = self._receive(buffer)
        except BlockingIOError:
            return
        except OSError:
            self.end(EndReason.SOURCE_LOST)
            return
        if not count:
            self.end(EndReason.EOF)
            return
        try:
            sent = self._send(buffer[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end(EndReason.SINK_LOST)
            return
        self.relayed += sent
        if sent != count:
            self._residue = bytes(buffer[sent:count])
            self._watcher.await_sink(self)

    def flush(self) -> None:
        """The sink can be written again: move what is held to it."""
        try:
            sent = self._send(self._residue)
        except BlockingIOError:
            return
        except OSError:
            self.end(EndReason.SINK_LOST)
            return
        self.relayed += sent
        self._residue = self._residue[sent:]
        if not self._residue:
            self._delivered()

    def _delivered(self) -> None:
        """All that was held for the sink is with it now."""
        self._watcher.await_source(self)

    def end(self, reason: EndReason) -> None:
        """The direction is over: let go of everything and tell the observer, unless it is over already."""
        observer = self._observer
        if observer is None:
            return
        self._drop_residue()
        self._finish()
        with _log.failureHandler("telling that a relayed direction ended"):
            observer.relay_ended(self, reason)

    def _finish(self) -> None:
        self._observer = None
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        self._watcher.forget(self)

    def _take_residue(self) -> bytes:
        residue, self._residue = self._residue, b""
        return residue

    def _drop_residue(self) -> None:
        self._residue = b""


class SplicingHalf(PumpHalf):
    """A direction whose bytes stay in the kernel: from the source to a pipe, from the pipe to the sink.

    The pipe is the pool's, shared by all; only one that could not be emptied into the sink is taken, until it is
    empty.
    """

    __slots__ = ("_held", "_pipe")

    def __init__(
        self,
        watcher: Watcher,
        source: socket.socket,
        sink: socket.socket,
        sink_transport: IStreamConnection | None,
        observer: IRelayObserver,
    ) -> None:
        self._pipe: Pipe | None = None
        self._held = 0
        super().__init__(watcher, source, sink, sink_transport, observer)

    @property
    def blocked(self) -> bool:
        """See :attr:`IRelayedHalf.blocked`."""
        return self._pipe is not None or super().blocked

    def pull(self) -> None:
        """As :meth:`PumpHalf.pull`."""
        pipe = self._watcher.pipes.borrow()
        if pipe is None:
            super().pull()
        else:
            self._splice(pipe, PIPE_CAPACITY)

    def _splice(self, pipe: Pipe, most: int) -> int:
        """Move up to ``most`` bytes through the pipe that was borrowed; returns how many left the source for the sink
        or the pipe."""
        # The sockets are asked for their numbers each time: one that its owner closed says -1, where a remembered
        # number could by now be somebody else's connection.
        try:
            count = os.splice(self.source.fileno(), pipe.write_end, most, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return 0
        except OSError:
            self.end(EndReason.SOURCE_LOST)
            return 0
        if not count:
            self.end(EndReason.EOF)
            return 0
        try:
            sent = os.splice(pipe.read_end, self.sink.fileno(), count, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._watcher.pipes.take().close()  # It is not empty.
            self.end(EndReason.SINK_LOST)
            return 0
        self.relayed += sent
        if sent != count:
            self._pipe = self._watcher.pipes.take()
            self._held = count - sent
            self._watcher.await_sink(self)
        return count

    def flush(self) -> None:
        """As :meth:`PumpHalf.flush`."""
        pipe = self._pipe
        if pipe is None:
            super().flush()
            return
        try:
            sent = os.splice(pipe.read_end, self.sink.fileno(), self._held, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.end(EndReason.SINK_LOST)
            return
        self.relayed += sent
        self._held -= sent
        if not self._held:
            self._pipe = None
            self._watcher.pipes.give_back(pipe)
            self._delivered()

    def _take_residue(self) -> bytes:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return super()._take_residue()
        residue = pipe.read(self._held)
        self._held = 0
        self._watcher.pipes.give_back(pipe)
        return residue

    def _drop_residue(self) -> None:
        super()._drop_residue()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
