"""Waiting until the last session of a server that lets no more begin has ended."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Drain:
    """Those who wait for the last session to end.

    :ivar begun: whether anybody has ever waited; then no more sessions begin.
    """

    __slots__ = ("_waiting", "begun")

    def __init__(self) -> None:
        self.begun = False
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Fires at the next :meth:`tell`, which whoever calls this calls at once if there is no session."""
        self.begun = True
        drained: Deferred[None] = Deferred()
        self._waiting.append(drained)
        return drained

    def tell(self) -> None:
        """There is no session. Harmless if nobody waits."""
        waiting, self._waiting = self._waiting, []
        for drained in waiting:
            drained.callback(None)
