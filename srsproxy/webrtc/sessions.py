"""The WebRTC sessions whose media this proxy relays, or waits for.

A session begins when an offer was answered here, or when a client comes that was answered at another proxy
(:mod:`srsproxy.webrtc.locate`). What carries its media, a UDP flow or TCP connections, comes and goes. It ends when the
client or the origin says goodbye, or when one of them says nothing for too long: nobody tells a proxy that a browser
was closed.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.model import Origin, WebRtcSession
from srsproxy.balancer.starts import Starts
from srsproxy.draining import Drain
from srsproxy.errors import DeadlineExceeded, OriginLost, Refused, in_background, outcome_of
from srsproxy.limits import Admission
from srsproxy.log import ContextLogger
from srsproxy.outcome import Outcome
from srsproxy.rounds import Rounds
from srsproxy.stats import Session
from srsproxy.webrtc.shared import SOURCE, Shared

_LOOKS_PER_TIMEOUT: Final = 6
"""How often a session is looked at within the shorter of its timeouts; it may end late by as much."""

_KEEPS_PER_LIFETIME: Final = 3
"""How often the record of a running session is renewed in the balancer within its lifetime."""

_FAREWELL: Final = 1.0
"""Seconds after a goodbye in which the client says no more if that is what it was."""

_OVER_FOR: Final = 35.0
"""Seconds in which what a client still sends for a session that is over does not begin it again. By then clients have
noticed: they give up after 30 s without an answer (RFC 7675, section 5.1)."""

_MAX_OVER: Final = 20_000
"""Sessions that are remembered for that."""

_counts = attrgetter(
    "received_bytes", "received_packets", "received_drops", "sent_bytes", "sent_packets", "sent_drops", "refusals"
)

_log = Logger()


class Traffic(Interface):
    """Counters as those of :class:`srsproxy.stats.Session`, which never become less."""

    @property
    def received_bytes(self) -> int: ...
    @property
    def received_packets(self) -> int: ...
    @property
    def received_drops(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def sent_packets(self) -> int: ...
    @property
    def sent_drops(self) -> int: ...
    @property
    def refusals(self) -> int:
        """How often the origin's machine has said that nobody listens there."""


class Carrier(Interface):
    """What carries media of a session."""

    @property
    def traffic(self) -> Traffic:
        """What it has carried so far."""

    def close(self, forgotten: bool) -> None:
        """The session is over.

        :param forgotten: the origin knows nothing of it any more.
        """


class MediaSession:
    """One session, from the answer to an offer until its outcome.

    :ivar negotiated: what is known of it.
    :ivar origin: where it is.
    :ivar record: its record in the statistics; up to date after :meth:`count`.
    :ivar admission: its place within the limits.
    :ivar begun: when, in seconds.
    :ivar carried: whether the client has come.
    :ivar leaving: whether one of the peers has said goodbye.
    :ivar heard_at: when the client was known to have sent something last.
    :ivar answered_at: the same of the origin.
    :ivar kept_at: when its record in the balancer was renewed last.
    :ivar refusals: how often the origin's machine has said that nobody listens there.
    """

    __slots__ = (
        "_carriers",
        "_past",
        "admission",
        "answered_at",
        "begun",
        "carried",
        "heard_at",
        "kept_at",
        "leaving",
        "negotiated",
        "origin",
        "record",
        "refusals",
    )

    def __init__(
        self, negotiated: WebRtcSession, origin: Origin, record: Session, admission: Admission, now: float
    ) -> None:
        self.negotiated = negotiated
        self.origin = origin
        self.record = record
        self.admission = admission
        self.begun = self.heard_at = self.answered_at = self.kept_at = now
        self.carried = False
        self.leaving = False
        self.refusals = 0
        self._carriers: list[Carrier] = []
        self._past: tuple[int, ...] = (0,) * 7

    @property
    def username(self) -> str:
        """What its client calls it in STUN."""
        return self.negotiated.ufrag

    @property
    def log(self) -> ContextLogger:
        """For lines about it."""
        return ContextLogger(SOURCE, self.record.context)

    def carry(self, carrier: Carrier, now: float) -> None:
        """One more carrier is there."""
        if not self.carried:
            self.carried = True
            self.heard_at = self.answered_at = now
            self.log.info("{what}: started on {origin}", what=self.record.doing, origin=self.origin.id)
        self.leaving = False
        self._carriers.append(carrier)

    def drop(self, carrier: Carrier) -> None:
        """A carrier has closed by itself. Without any, an origin ends the session, or soon will."""
        if carrier in self._carriers:
            self._carriers.remove(carrier)
            self._past = _sums(self._past, _counts(carrier.traffic))
            self.leaving = not self._carriers
            self.count()  # What the client says from now on tells that it is still there.

    def close(self, forgotten: bool) -> None:
        """Close all carriers."""
        carriers, self._carriers = self._carriers, []
        for carrier in carriers:
            self._past = _sums(self._past, _counts(carrier.traffic))
            carrier.close(forgotten)

    def count(self) -> tuple[bool, bool, bool]:
        """Bring the record up to date. Returns whether since the last time the client has sent anything, whether the
        origin has, and whether the origin's machine has refused anything."""
        record = self.record
        before = record.received + record.received_drops, record.sent + record.sent_drops, self.refusals
        (
            record.received,
            record.received_packets,
            record.received_drops,
            record.sent,
            record.sent_packets,
            record.sent_drops,
            self.refusals,
        ) = _sums(self._past, *[_counts(carrier.traffic) for carrier in self._carriers])
        now = record.received + record.received_drops, record.sent + record.sent_drops, self.refusals
        return now[0] > before[0], now[1] > before[1], now[2] > before[2]


class Sessions:
    """All sessions of this proxy."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clock = shared.reactor
        self._sessions: dict[str, MediaSession] = {}
        self._over = ExpiringTable[str, None](_OVER_FOR, _MAX_OVER, lambda _: None)
        settings = shared.settings
        self._starts = Starts(shared.balancer)
        self._rounds = Rounds(
            shared.reactor,
            min(settings.webrtc_idle_timeout, settings.webrtc_start_timeout) / _LOOKS_PER_TIMEOUT,
            self._sessions.values,
            self._look_at,
            self._starts.learn,
        )
        self._keep_after = settings.webrtc_lifetime / _KEEPS_PER_LIFETIME
        self._drain = Drain()

    def get(self, username: str) -> MediaSession | None:
        """The session of this name."""
        return self._sessions.get(username)

    def is_over(self, username: str) -> bool:
        """Whether the session of this name has ended here not long ago, and its client may not have noticed."""
        self._over.expire(self._clock.seconds())
        return username in self._over

    def admit(self, peer: str) -> Admission:
        """A place for a session of this client, which is left with the session.

        :param peer: IP address of the client.
        :raises Refused: there is none, or the proxy is to end.
        """
        if self._drain.begun:
            raise Refused("the proxy is shutting down")
        admission = Admission(self._shared.limits, peer)
        admission.enter()
        return admission

    def begin(self, negotiated: WebRtcSession, origin: Origin, admission: Admission, context: str) -> MediaSession:
        """Begin a session. One of the same name ends: its client has begun anew.

        :param context: id for its lines in the log.
        :raises Refused: the name is that of a session at another origin, or the proxy is to end.
        """
        if self._drain.begun:
            raise Refused("the proxy is shutting down")
        before = self._sessions.get(negotiated.ufrag)
        if before is not None:
            if before.origin.server != origin.server:
                raise Refused("another session has this name")
            self.end(before, Outcome.FINISHED)
        admission.identified()
        record = self._shared.log.open(SOURCE, context, admission.address)
        record.key = negotiated.key or None
        record.action = negotiated.action
        record.origin = origin.id
        session = MediaSession(negotiated, origin, record, admission, self._clock.seconds())
        self._over.remove(negotiated.ufrag)
        self._sessions[negotiated.ufrag] = session
        self._rounds.start()
        return session

    def end(
        self,
        session: MediaSession,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        forgotten: bool = False,
        stays_over: bool = True,
    ) -> None:
        """End a session; harmless if it has ended.

        :param forgotten: the origin knows nothing of it any more.
        :param stays_over: the client cannot begin it again.
        """
        if session.record.outcome is not None:
            return
        del self._sessions[session.username]
        session.close(forgotten)
        session.count()
        session.admission.leave()
        if stays_over:
            now = self._clock.seconds()
            self._over.expire(now)
            self._over.store(session.username, None, now)
        self._shared.log.close(session.record, outcome, error)
        self._tell_drained()

    def fail(self, session: MediaSession, error: BaseException) -> None:
        """End a session by an error."""
        self.end(session, outcome_of(error), error)

    def goodbye(self, session: MediaSession) -> None:
        """A peer of the session has said that it leaves. The session ends as soon as the client is silent."""
        if not session.leaving:
            session.leaving = True
            self._count(session, self._clock.seconds())
            self._clock.callLater(_FAREWELL, self._look_at, session)

    def drain(self) -> Deferred[None]:
        """Let no more begin; fires when the last one has ended. Those whose client has not come end now."""
        drained = self._drain.wait()
        for session in list(self._sessions.values()):
            if not session.carried:
                self.end(session, Outcome.SHUTDOWN)
        self._tell_drained()
        return drained

    def abort(self) -> None:
        """End all."""
        for session in list(self._sessions.values()):
            self.end(session, Outcome.SHUTDOWN)

    def _tell_drained(self) -> None:
        """If no session is left, nobody looks at any, and those who wait for that are told."""
        if not self._sessions:
            self._rounds.stop()
            self._drain.tell()

    # Looking at them

    def _count(self, session: MediaSession, now: float) -> tuple[bool, bool, bool]:
        """As :meth:`MediaSession.count`."""
        heard, answered, refused = session.count()
        if heard:
            session.heard_at = now
        if answered:
            session.answered_at = now
        return heard, answered, refused

    def _look_at(self, session: MediaSession) -> None:
        """End a session whose time has come."""
        if session.record.outcome is not None:
            return
        now = self._clock.seconds()
        heard, answered, refused = self._count(session, now)
        settings, origin = self._shared.settings, session.origin
        idle = settings.webrtc_idle_timeout
        if session.leaving and not heard:
            # Whoever can send from the client's address may have said so. If the client is still there, it comes back.
            self.end(session, Outcome.FINISHED, stays_over=False)
            return
        if heard:
            session.leaving = False
        if not session.carried:
            if now - session.begun >= settings.webrtc_start_timeout:
                what = f"the client did not come within {settings.webrtc_start_timeout:g} s of its answer"
                # It may be served by another proxy, and come here from there.
                self.end(session, Outcome.TIMEOUT, DeadlineExceeded(what), stays_over=False)
        elif now - session.heard_at >= idle:
            self.end(session, Outcome.CLIENT_LOST, stays_over=False)
        elif now - session.answered_at >= idle:
            self.fail(session, OriginLost(f"{origin.id}: sent nothing for {idle:g} s"))
        elif refused and not answered:
            in_background(_log, "report an origin that refuses media", self._shared.balancer.report_failure(origin))
            self.fail(session, OriginLost(f"{origin.id}: does not listen for media any more"))
        elif not answered and self._starts.is_over(origin):
            self.fail(session, OriginLost(f"{origin.id}: was restarted"))
        elif not heard or now - session.kept_at >= self._keep_after:
            # Of a silent client, another proxy may know that it has left.
            session.kept_at = now
            in_background(_log, "renew the record of a session", Deferred.fromCoroutine(self._keep(session, heard)))

    async def _keep(self, session: MediaSession, heard: bool) -> None:
        """Renew the session's record in the balancer, lest the client is unknown when it comes to another proxy."""
        balancer = self._shared.balancer
        if await balancer.load_webrtc(session.username) is not None:
            return
        if heard:
            await balancer.save_webrtc(session.negotiated)
        else:
            # Another proxy was told that it is over.
            self.end(session, Outcome.FINISHED)


def _sums(*counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*counts, strict=True)))
