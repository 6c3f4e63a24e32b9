"""One deadline at a time for something that has several in its life."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls back when time is up, with words that say what for.

    :param missed: called with what did not happen, and within how many seconds.
    """

    __slots__ = ("_call", "_clock", "_missed")

    def __init__(self, clock: IReactorTime, missed: Callable[[str], None]) -> None:
        self._clock = clock
        self._missed = missed
        self._call: IDelayedCall | None = None

    def expect(self, what: str, seconds: float) -> None:
        """Wait for this instead of whatever was waited for.

        :param what: told if it does not happen, such as ``no RTMP handshake``.
        """
        self.cancel()
        self._call = self._clock.callLater(seconds, self._expired, f"{what} within {seconds:g} s")

    def cancel(self) -> None:
        """Wait for nothing."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _expired(self, what: str) -> None:
        self._call = None
        self._missed(what)
