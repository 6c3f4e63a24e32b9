"""One deadline at a time for something that has several in its life."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls back when time is up, with words that say what for.

    It knows whom to call only while it runs: an owner that is let go of must not hang in a cycle until the garbage
    collector comes by.
    """

    __slots__ = ("_call", "_clock", "_missed", "_seconds", "_what")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._missed: Callable[[str], None] | None = None

    def expect(self, what: str, seconds: float, missed: Callable[[str], None]) -> None:
        """Wait for this instead of whatever was waited for.

        :param what: told if it does not happen, such as ``no RTMP handshake``.
        :param missed: called with what did not happen within how many seconds.
        """
        self._what, self._seconds, self._missed = what, seconds, missed
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._expired)
        else:
            self._call.reset(seconds)  # costs a fraction of a new one

    def cancel(self) -> None:
        """Wait for nothing."""
        self._missed = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _expired(self) -> None:
        self._call = None
        missed, self._missed = self._missed, None
        if missed is not None:
            missed(f"{self._what} within {self._seconds:g} s")
