"""The process ends in time, whatever hangs."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from twisted.application.service import Service

_STDERR = 2

Handler = Callable[[int, FrameType | None], Any]


class ForcedExit(Service):
    """Ends the process a given time after it was told to stop, with the stacks of all threads on standard error.

    The time runs in a thread of faulthandler's own, written in C, so it runs out even while the reactor, or a thread
    that it waits for, does nothing any more. It starts with the signal and not only with ``stopService``, which a
    hanging reactor never calls.

    :param timeout: seconds.
    """

    def __init__(self, reactor: Any, timeout: float) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._armed = False

    def startService(self) -> None:
        """Also wait for the signals by which twistd is stopped."""
        Service.startService(self)
        # Twisted installs its own handlers when the reactor starts; ours goes before them.
        self._reactor.callWhenRunning(self._catch_signals)

    def stopService(self) -> None:
        """The time starts to run, if it does not yet."""
        Service.stopService(self)
        self._arm()

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, partial(self._signalled, handler))

    def _signalled(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        # Twisted's handler knows no second time.
        if not self._armed:
            self._arm()
            handler(number, frame)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            # twistd replaces sys.stderr by an object without a descriptor. Zero is no time for faulthandler.
            faulthandler.dump_traceback_later(max(self._timeout, 0.001), exit=True, file=_STDERR)
