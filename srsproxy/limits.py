"""How many connections are let in: in total, per client address, and per address before they have named a stream."""

from __future__ import annotations

from collections import Counter

from srsproxy.errors import LimitExceeded, Refused


class ConnectionLimits:
    """Counts connections of all protocols of one process. A limit of 0 is no limit.

    Connections that have not yet named a stream ("pending") cost the proxy memory and nothing yet to the sender, so
    they have a limit of their own; real clients leave that state within milliseconds.
    """

    def __init__(self, total: int, per_address: int, pending_per_address: int) -> None:
        self._total_limit = total
        self._per_address_limit = per_address
        self._pending_limit = pending_per_address
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._pending: Counter[str] = Counter()

    def admit(self, address: str) -> None:
        """Count one new, pending connection.

        :raises Refused: a limit is reached; nothing was counted.
        """
        if self._total_limit and self._total >= self._total_limit:
            raise Refused(f"PROXY_MAX_CONNECTIONS={self._total_limit} reached")
        if self._per_address_limit and self._by_address[address] >= self._per_address_limit:
            raise Refused(f"PROXY_MAX_CONNECTIONS_PER_ADDRESS={self._per_address_limit} reached by {address}")
        if self._pending_limit and self._pending[address] >= self._pending_limit:
            raise Refused(f"PROXY_MAX_PENDING_PER_ADDRESS={self._pending_limit} reached by {address}")
        self._total += 1
        self._by_address[address] += 1
        self._pending[address] += 1

    def identified(self, address: str) -> None:
        """An admitted connection has named its stream: no longer pending."""
        _decrease(self._pending, address)

    def leave(self, address: str, *, pending: bool) -> None:
        """An admitted connection is gone; ``pending`` if it never was :meth:`identified`."""
        self._total -= 1
        _decrease(self._by_address, address)
        if pending:
            _decrease(self._pending, address)


class Rate:
    """How often something may happen: ``burst`` times at once, and ``per_second`` times a second in the long run."""

    __slots__ = ("_burst", "_left", "_per_second", "_since", "_what")

    def __init__(self, what: str, per_second: float, burst: float, now: float) -> None:
        """
        :param what: names it in the error, such as ``messages``.
        :param now: seconds.
        """
        self._what = what
        self._per_second = per_second
        self._burst = self._left = burst
        self._since = now

    def spend(self, now: float) -> None:
        """It happens once.

        :raises LimitExceeded: too often.
        """
        self._left = min(self._left + (now - self._since) * self._per_second, self._burst)
        self._since = now
        if self._left < 1:
            raise LimitExceeded(f"more than {self._per_second:g} {self._what} a second")
        self._left -= 1


class Admission:
    """One connection's place within the limits, from accept to close. All methods can be called at any time."""

    __slots__ = ("_admitted", "_limits", "_pending", "address")

    def __init__(self, limits: ConnectionLimits, address: str) -> None:
        self._limits = limits
        self._admitted = False
        self._pending = True
        self.address = address

    def enter(self) -> None:
        """Take the place.

        :raises Refused: there is none.
        """
        self._limits.admit(self.address)
        self._admitted = True

    def move(self, address: str) -> None:
        """The connection turns out to come from another address: give the place up and take one there.

        :raises Refused: there is none.
        """
        self.leave()
        self.address = address
        self.enter()

    def identified(self) -> None:
        """The connection has named its stream."""
        if self._admitted and self._pending:
            self._limits.identified(self.address)
        self._pending = False

    def leave(self) -> None:
        """Give the place up."""
        if self._admitted:
            self._admitted = False
            self._limits.leave(self.address, pending=self._pending)


def _decrease(counts: Counter[str], address: str) -> None:
    """One less; addresses that reach zero are forgotten, so that the table cannot grow."""
    if counts[address] <= 1:
        del counts[address]
    else:
        counts[address] -= 1
