"""Ports towards origins that must not be used for another session yet."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

MAX_QUARANTINED: Final = 1024
"""Sockets of closed flows kept at the most, each of them a descriptor: 29 flows closed a second in the long run."""

_SHARE: Final = 8
"""Of the descriptors that the process may have, one in so many at the most: they are also wanted for clients."""


class Quarantine:
    """Holds the ports of closed flows. Their sockets stay connected, but nobody reads them and their buffers are the
    smallest: so what the origin goes on sending is dropped without further ado, whereas the datagrams to a port where
    nobody is connected to the origin would each be answered with an ICMP error."""

    def __init__(self, clock: IReactorTime, span: float) -> None:
        self._clock = clock
        self._span = span
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MAX_QUARANTINED if allowed == resource.RLIM_INFINITY else min(MAX_QUARANTINED, allowed // _SHARE)
        self._kept: deque[tuple[float, socket.socket]] = deque()
        self._release_call: IDelayedCall | None = None

    def add(self, connected: socket.socket) -> None:
        """Keep the socket for the span; if there are too many, the oldest one goes."""
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        # What it still holds is held no longer than it takes to read; there is hardly room for more now.
        with contextlib.suppress(OSError):
            while True:
                connected.recv(1)
        if len(self._kept) >= self._most:
            self.release_oldest()
        self._kept.append((self._clock.seconds() + self._span, connected))
        if self._release_call is None:
            self._release_call = self._clock.callLater(self._span, self._release)

    def release_oldest(self) -> bool:
        """Free a port before its time; ``False`` if there is none."""
        if not self._kept:
            return False
        self._kept.popleft()[1].close()
        return True

    def close(self) -> None:
        """Free all."""
        while self.release_oldest():
            pass
        if self._release_call is not None:
            self._release_call.cancel()
            self._release_call = None

    def _release(self) -> None:
        self._release_call = None
        now = self._clock.seconds()
        while self._kept and self._kept[0][0] <= now:
            self.release_oldest()
        if self._kept:
            self._release_call = self._clock.callLater(self._kept[0][0] - now, self._release)
