"""Child processes whose output is kept, and which do not outlive their parent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IPushProducer
from twisted.internet.process import Process
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.errors import SrsProxyError

MAX_OUTPUT: Final = 64 * 1024
"""Bytes kept of what a child writes, the latest ones: enough for what it says when it fails."""

STOP_TIMEOUT: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""


class NoSuchProgram(SrsProxyError):
    """A program is not installed, or not in the PATH."""


def find_program(name: str) -> str:
    """The path of a program.

    :raises NoSuchProgram: it cannot be found.
    """
    path = shutil.which(name)
    if path is None:
        raise NoSuchProgram(f"{name} is not installed, or not in the PATH")
    return path


@implementer(IPushProducer)
class Child(ProcessProtocol):
    """A child process. It is a producer for whoever takes its standard output.

    :param take_output: gets what it writes to its standard output; kept in :attr:`output` if not given.
    :ivar status: its exit status, or the number of the signal that ended it as a negative number; ``None`` while it
        runs.
    """

    transport: Process

    def __init__(self, reactor: Any, take_output: Callable[[bytes], None] | None = None) -> None:
        self._reactor = reactor
        self._take_output = take_output or self._keep_output
        self._output = bytearray()
        self._errors = bytearray()
        self.status: int | None = None
        self._waiting: list[Deferred[int]] = []

    @classmethod
    def start(
        cls,
        reactor: Any,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        take_output: Callable[[bytes], None] | None = None,
    ) -> Child:
        """Start a program.

        :param arguments: the program's name or path, and what follows it.
        :param environment: this process's own if not given.
        :param folder: where it works; this process's own if not given.
        :raises NoSuchProgram: it cannot be found.
        """
        path = find_program(arguments[0])
        child = cls(reactor, take_output)
        reactor.spawnProcess(child, path, arguments, environment, None if folder is None else str(folder))
        return child

    @property
    def output(self) -> str:
        """What it wrote to its standard output."""
        return self._output.decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        """What it wrote to its standard error."""
        return self._errors.decode("utf-8", "replace")

    def ended(self) -> Deferred[int]:
        """Fires with :attr:`status` when the process has ended and all that it wrote has been read."""
        waiting: Deferred[int] = Deferred()
        if self.status is None:
            self._waiting.append(waiting)
        else:
            waiting.callback(self.status)
        return waiting

    async def stop(self) -> None:
        """End the process, by SIGTERM or, if that takes too long, by SIGKILL; returns when it has ended."""
        self._signal("TERM")
        try:
            await self.ended().addTimeout(STOP_TIMEOUT, self._reactor)
        except DeferredTimeout:
            self._signal("KILL")
            await self.ended()

    def kill(self) -> None:
        """End the process at once, if it still runs."""
        self._signal("KILL")
        # The end of its output must be noticed.
        self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """Do not read what it writes, so that it has to wait."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody takes its output any more."""
        self.kill()

    def outReceived(self, data: bytes) -> None:
        self._take_output(data)

    def errReceived(self, data: bytes) -> None:
        _append(self._errors, data)

    def processEnded(self, reason: Failure) -> None:
        self.status = 0
        if isinstance(reason.value, ProcessTerminated):
            signal, code = reason.value.signal, reason.value.exitCode
            self.status = code if signal is None else -signal
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # whoever waited may have given up
                waiter.callback(self.status)

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def _keep_output(self, data: bytes) -> None:
        _append(self._output, data)


class Children:
    """Child processes that are killed together."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running: set[Child] = set()

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def start(self, arguments: Sequence[str], folder: Path | None, take_output: Callable[[bytes], None]) -> Child:
        """Start one more; see :meth:`Child.start`."""
        child = Child.start(self._reactor, arguments, folder=folder, take_output=take_output)
        self._running.add(child)
        child.ended().addCallback(lambda _: self._running.discard(child))
        return child

    async def kill(self) -> None:
        """Kill all; returns when they have ended."""
        for child in tuple(self._running):
            child.kill()
            await child.ended()


def _append(kept: bytearray, data: bytes) -> None:
    kept += data
    del kept[:-MAX_OUTPUT]
