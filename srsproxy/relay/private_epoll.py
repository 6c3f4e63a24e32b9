"""An epoll instance of the data plane's own, which the reactor watches as one descriptor.

Twisted's dispatch costs 5 to 10 microseconds a descriptor and event; so it is paid once per batch of events.
"""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_log = Logger()
_RELAYING: Final = _log.failureHandler("relaying")
_BREAKING_OFF: Final = _log.failureHandler("breaking off")

MAX_BATCH: Final = 64
"""Events taken at once: 1 ms of work, or 3 ms if all are bulk, for which the reactor's other descriptors wait. More
would save nothing: by then what the reactor costs is shared by enough events."""


class Reactor(IReactorFDSet, IReactorTime):
    """What the relay needs of a reactor."""


def serve_all(
    events: Iterable[tuple[int, int]], serve: Callable[[int, int], None], break_off: Callable[[int], None]
) -> None:
    """Call ``serve(number, event)`` for each event of a batch, and ``break_off(number)`` if it raised: a bug that one
    direction runs into must neither end the others nor, by escaping to the reactor, all. It is logged."""
    remaining = iter(events)
    fd = -1
    while True:
        done = False
        # Entered once per batch rather than once per event, because it costs as much as half a system call.
        with _RELAYING:
            for fd, event in remaining:
                serve(fd, event)
            done = True
        if done:
            return
        with _BREAKING_OFF:
            break_off(fd)


@implementer(IReadDescriptor)
class PrivateEpoll(ABC):
    """Has its sockets served, a batch at a time, when the reactor finds some ready. It is open to the reactor from the
    first :meth:`_open` until :meth:`close`."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._epoll: select.epoll | None = None
        self._served = 0

    def _open(self) -> select.epoll:
        """The instance to register sockets with."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        return self._epoll

    def close(self) -> None:
        """Watch nothing any more, and release the descriptor. A batch that is being served goes on to its end."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    @abstractmethod
    def _serve(self, fd: int, event: int) -> None:
        """The socket of this number is ready for ``event``, or was when the batch began: others, served before it, may
        have closed it since and even have opened another of its number. Whoever does more than one event's work adds to
        :attr:`_served`."""

    @abstractmethod
    def _break_off(self, fd: int) -> None:
        """:meth:`_serve` has raised."""

    # --- IReadDescriptor

    def fileno(self) -> int:
        """The number of the private epoll instance."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """How the reactor names the data plane."""
        return "relay"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor shuts down."""
        self.close()

    def doRead(self) -> None:
        """Some sockets are ready: serve them."""
        self._served = 0
        # Others get ready meanwhile; looking again costs a tenth of coming back through the reactor.
        while self._served < MAX_BATCH and self._epoll is not None:
            events = self._epoll.poll(0, MAX_BATCH)
            if not events:
                return
            self._served += len(events)
            serve_all(events, self._serve, self._break_off)
