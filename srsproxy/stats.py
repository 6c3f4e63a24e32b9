"""Counters, and the record of each running session; every session ends with exactly one :class:`Outcome`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from srsproxy.outcome import Outcome

_MAX_SHOWN = 200
"""Characters of a stream key in the log; clients choose them, and choose long ones if they mean harm."""


@dataclass(slots=True, eq=False)
class Session:
    """One client connection, from accept to outcome.

    :ivar peer: the client's address as a person writes it; the real one when a trusted front told it.
    :ivar key: the stream it uses, ``vhost/app/stream``; ``None`` before it named one.
    :ivar action: ``publish`` or ``play``; empty before it named a stream.
    :ivar origin: id of the origin that serves it; ``None`` before.
    :ivar received: bytes from the client that reached the origin.
    :ivar sent: bytes from the origin that reached the client.
    :ivar started: seconds of the clock of whoever opened it.
    """

    protocol: str
    context: str
    peer: str
    started: float
    key: str | None = None
    action: str = ""
    origin: str | None = None
    received: int = 0
    sent: int = 0
    outcome: Outcome | None = None

    @property
    def doing(self) -> str:
        """What the client does, for the log."""
        return f"{self.action} {self.key[:_MAX_SHOWN]}" if self.key is not None else "connection"


@dataclass(slots=True)
class Stats:
    """What this process has served since it started."""

    active: set[Session] = field(default_factory=set)
    opened: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)

    def open(self, protocol: str, context: str, peer: str, now: float) -> Session:
        """Begin the record of one session."""
        session = Session(protocol, context, peer, now)
        self.active.add(session)
        self.opened[protocol] += 1
        return session

    def end(self, session: Session, outcome: Outcome) -> None:
        """Close the record. A second call would be a bug and raises ``ValueError``."""
        if session.outcome is not None:
            raise ValueError(f"session {session.context} has ended as {session.outcome.value} already")
        session.outcome = outcome
        self.active.discard(session)
        self.ended[session.protocol, outcome] += 1
        self.received[session.protocol] += session.received
        self.sent[session.protocol] += session.sent

    def keys_in_use(self) -> Iterator[str]:
        """Stream keys of running sessions; a key may come several times."""
        return (session.key for session in self.active if session.key is not None)
