"""Counters, and the record of each running session; every session ends with exactly one :class:`Outcome`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from srsproxy.outcome import Outcome

_MAX_SHOWN = 200
"""Characters of a stream key in the log; clients choose them, and choose long ones if they mean harm."""


class Stray(Enum):
    """Why a datagram of no session was dropped."""

    UNKNOWN_ADDRESS = "unknown-address"
    """It came from where no session is."""

    MALFORMED = "malformed"
    """It is not what its first byte says."""

    UNEXPECTED = "unexpected"
    """It is nothing that a client says to a proxy."""

    UNKNOWN_SESSION = "unknown-session"
    """No session has the name that it gives."""

    BAD_INTEGRITY = "bad-integrity"
    """It is not from the client of the session that it names."""

    BAD_COOKIE = "bad-cookie"
    """Its handshake cookie was not given to its address, or is too old."""

    BUSY = "busy"
    """More sessions are being looked for than may be, or there is no place for one more."""


@dataclass(slots=True, eq=False)
class Session:
    """One client connection, from accept to outcome.

    :ivar peer: the client's address as a person writes it; the real one when a trusted front told it.
    :ivar key: the stream it uses, ``vhost/app/stream``; ``None`` before it named one.
    :ivar action: ``publish`` or ``play``; empty before it named a stream.
    :ivar origin: id of the origin that serves it; ``None`` before.
    :ivar received: bytes from the client that reached the origin.
    :ivar sent: bytes from the origin that reached the client.
    :ivar received_packets: datagrams from the client that reached the origin; so ``sent_packets``. 0 for streams.
    :ivar received_drops: datagrams from the client that were lost here; so ``sent_drops``.
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
    received_packets: int = 0
    sent_packets: int = 0
    received_drops: int = 0
    sent_drops: int = 0
    outcome: Outcome | None = None

    @property
    def doing(self) -> str:
        """What the client does, for the log."""
        return f"{self.action} {self.key[:_MAX_SHOWN]}" if self.key is not None else "connection"


@dataclass(slots=True)
class Stats:
    """What this process has served since it started.

    :ivar strays: datagrams of no session, by protocol and by why they were dropped.
    """

    active: set[Session] = field(default_factory=set)
    opened: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received_packets: Counter[str] = field(default_factory=Counter)
    sent_packets: Counter[str] = field(default_factory=Counter)
    received_drops: Counter[str] = field(default_factory=Counter)
    sent_drops: Counter[str] = field(default_factory=Counter)
    strays: Counter[tuple[str, Stray]] = field(default_factory=Counter)

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
        self.received_packets[session.protocol] += session.received_packets
        self.sent_packets[session.protocol] += session.sent_packets
        self.received_drops[session.protocol] += session.received_drops
        self.sent_drops[session.protocol] += session.sent_drops

    def keys_in_use(self) -> Iterator[str]:
        """Stream keys of running sessions; a key may come several times."""
        return (session.key for session in self.active if session.key is not None)
