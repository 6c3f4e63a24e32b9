"""Looking at many things again and again, a few at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_SLICES: Final = 50
"""Into so many pieces is a round cut, lest media waits for it."""

_log = Logger()
_BEGINNING: Final = _log.failureHandler("beginning a round of looks")
_LOOKING: Final = _log.failureHandler("looking at an item of a round")

T = TypeVar("T")


class Rounds(Generic[T]):
    """Looks at each item once a round, from :meth:`start` until :meth:`stop`.

    An item has its turn even if it has gone since the round began; one that comes has it in the next round. What a look
    raises is a bug, and logged; it costs neither the other items their turn nor this one its next.
    """

    __slots__ = ("_begin", "_call", "_clock", "_interval", "_items", "_left", "_look_at", "_share", "_slice")

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        items: Callable[[], Collection[T]],
        look_at: Callable[[T], None],
        begin: Callable[[], None] | None = None,
    ) -> None:
        """
        :param seconds: how long a round takes. After a start, the first begins within that time.
        :param items: gives all that there are when a round begins.
        :param look_at: is called with each.
        :param begin: is called when a round begins, before any item has its turn.
        """
        self._clock = clock
        self._interval = seconds / _SLICES
        self._items = items
        self._look_at = look_at
        self._begin = begin
        self._slice = 0
        self._share = 0
        self._left: list[T] = []
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """There is something to look at. Harmless if there was before."""
        if self._call is None:
            self._call = self._clock.callLater(self._interval, self._look_on)

    def stop(self) -> None:
        """There is nothing any more: forget all items, and cost nothing. Harmless if there was nothing before."""
        self._left.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look_on(self) -> None:
        """Look at the next few."""
        self._call = self._clock.callLater(self._interval, self._look_on)
        self._slice = (self._slice + 1) % _SLICES
        if self._slice == 0:
            self._left = list(self._items())
            self._share = math.ceil(len(self._left) / _SLICES)
            if self._begin is not None:
                with _BEGINNING:
                    self._begin()
        these, self._left = self._left[-self._share :], self._left[: -self._share]
        for item in these:
            with _LOOKING:
                self._look_at(item)
