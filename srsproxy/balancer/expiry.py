"""A bounded table whose entries die of age; it needs no timer."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ExpiringTable(Generic[K, V]):
    """Values by key, each of which dies ``lifetime`` seconds after it was stored or renewed; ``limit`` of them at most.

    All entries have the same lifetime, so the order in which they were last touched is the order in which they die.
    That makes :meth:`expire` cost one step for each entry that dies and one more; whoever calls it before every other
    method sees no dead entry, however long nobody has asked.

    :param dropped: told each value that leaves the table: expired, removed, replaced, or evicted because the table was
        full (then it is the one that was not touched for longest).
    """

    def __init__(self, lifetime: float, limit: int, dropped: Callable[[V], None]) -> None:
        self._lifetime = lifetime
        self._limit = limit
        self._dropped = dropped
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __getitem__(self, key: K) -> V:
        return self._entries[key][0]

    def get(self, key: K) -> V | None:
        """The value of a key, or ``None``; its life is not prolonged."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    @property
    def next_deadline(self) -> float:
        """When the first entry dies; infinity if there is none."""
        for _value, deadline in self._entries.values():
            return deadline
        return math.inf

    def lives(self, now: float) -> list[tuple[K, V, float]]:
        """All keys and values, with the seconds that each has to live; the one that dies next first."""
        return [(key, value, deadline - now) for key, (value, deadline) in self._entries.items()]

    def left(self, key: K, now: float) -> float:
        """Seconds that an entry has to live; 0 if the key has none."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else entry[1] - now

    def keys(self) -> list[K]:
        """All keys, the one whose entry dies next first."""
        return list(self._entries)

    def values(self) -> list[V]:
        """All values, the one that dies next first."""
        return [value for value, _deadline in self._entries.values()]

    def store(self, key: K, value: V, now: float) -> None:
        """Set or replace a value."""
        self.remove(key)
        if len(self._entries) >= self._limit:
            self.remove(next(iter(self._entries)))
        self._entries[key] = (value, now + self._lifetime)

    def renew(self, key: K, now: float) -> None:
        """Start the life of an entry again, if the key has one."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries[key] = (entry[0], now + self._lifetime)
            self._entries.move_to_end(key)

    def remove(self, key: K) -> None:
        """Drop an entry, if the key has one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._dropped(entry[0])

    def clear(self) -> None:
        """Drop all."""
        for key in list(self._entries):
            self.remove(key)

    def expire(self, now: float) -> list[V]:
        """Drop every entry whose time has come. Returns their values."""
        expired = []
        while self._entries:
            key, (value, deadline) = next(iter(self._entries.items()))
            if now < deadline:
                break
            self.remove(key)
            expired.append(value)
        return expired
