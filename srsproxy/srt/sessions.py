"""The callers that origins have taken, and whose media this proxy relays.

A session ends when the caller or the origin says so (SHUTDOWN), when one of them says nothing for too long, or when the
origin's machine says that nobody listens there any more. Then the proxy tells whoever has not said it: so a caller
connects anew at once, and is led to another origin if it must be.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.starts import Starts
from srsproxy.draining import Drain
from srsproxy.errors import (
    OriginLost,
    OriginRejected,
    Refused,
    in_background,
    outcome_of,
)
from srsproxy.limits import Admission
from srsproxy.outcome import Outcome
from srsproxy.relay.flow import Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.rounds import Rounds
from srsproxy.srt.packet import destination_socket_id, shutdown
from srsproxy.srt.session import CallerId, SrtSession, Taken
from srsproxy.srt.shared import Shared, send
from srsproxy.stats import Session

_LOOKS_PER_TIMEOUT: Final = 6
"""How often a session is looked at within its idle timeout; it may end late by as much."""

_VERDICT: Final = 10.0
"""Seconds. SRS takes every caller, and then asks its hooks: if it ends a publisher within this, or a player that it has
not sent any media, it has refused the stream. It ends a publisher that sends no media after 5 s."""

_NO_MEDIA: Final = 1000
"""Bytes: less than a packet of media, and more than what an origin sends to a player in that time without any."""

_GONE_FOR: Final = 10.0
"""Seconds in which the caller of a session that is over is told so again whenever it sends something. After five
without an answer it has noticed by itself."""

_OVER_FOR: Final = 120.0
"""Seconds in which a caller that was answered for good gets no other answer: as long as its cookie is taken. Else a
conclusion that comes late would begin the session again, without a caller."""

_MAX_GONE: Final = 20_000
"""Sessions that are remembered for each of the two; half a kilobyte each."""

_log = Logger()


class Sessions:
    """All sessions of this proxy."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clock = shared.reactor
        self._by_caller: dict[CallerId, SrtSession] = {}
        self._by_number: dict[int, list[SrtSession]] = {}
        self._gone = ExpiringTable[tuple[Address, int], int](_GONE_FOR, _MAX_GONE, lambda _: None)
        self._verdicts = ExpiringTable[CallerId, bytes](_OVER_FOR, _MAX_GONE, lambda _: None)
        self._drain = Drain()
        idle = shared.settings.srt_idle_timeout
        self._starts = Starts(shared.balancer)
        self._rounds = Rounds(
            self._clock, idle / _LOOKS_PER_TIMEOUT, self._by_caller.values, self._look_at, self._starts.learn
        )

    def get(self, caller_id: CallerId) -> SrtSession | None:
        """The session of this caller."""
        return self._by_caller.get(caller_id)

    def verdict(self, caller_id: CallerId) -> bytes | None:
        """What a caller was told for good, if it was: that it is rejected, or that its session is over."""
        self._verdicts.expire(self._clock.seconds())
        return self._verdicts.get(caller_id)

    def decide(self, caller_id: CallerId, verdict: bytes) -> None:
        """From now on, the caller is told this whenever it sends its conclusion."""
        now = self._clock.seconds()
        self._verdicts.expire(now)
        self._verdicts.store(caller_id, verdict, now)

    @property
    def draining(self) -> bool:
        """Whether no more may begin."""
        return self._drain.begun

    def begin(
        self,
        caller_id: CallerId,
        transmit: Transmit,
        taken: Taken,
        record: Session,
        admission: Admission,
    ) -> None:
        """An origin has taken the caller: tell it so, and relay its media.

        :param transmit: how to send to the caller.
        :raises Refused: another session cannot be told from it.
        """
        address, _, _ = caller_id
        number = taken.answer.socket_id
        for other in self._by_number.get(number, [])[:]:
            if other.path.address != address:
                continue
            if other.origin.server != taken.origin.server:
                raise Refused(f"{other.origin.id} has given its socket id to another session of the caller's address")
            # No origin gives an id to two callers: it was restarted, or has long forgotten the other one.
            self.fail(other, OriginLost(f"{other.origin.id}: has another session in its place"))
        path = taken.flow.add_path(address, transmit, number)
        taken.flow.select(path)
        session = SrtSession(caller_id, taken, path, record, admission, self._clock.seconds())
        taken.flow.owner = session
        self._gone.remove((address, number))
        self._by_caller[caller_id] = session
        self._by_number.setdefault(number, []).append(session)
        self._rounds.start()
        admission.identified()
        session.log.info("{what}: started on {origin}", what=record.doing, origin=taken.origin.id)
        session.tell(taken.answer)
        session.count()
        session.watch()

    # What comes from callers, beyond handshakes and media

    def left(self, session: SrtSession) -> None:
        """The caller has sent SHUTDOWN."""
        self._end(session, Outcome.FINISHED, tell_caller=False)

    def shown(self, session: SrtSession, data: memoryview) -> None:
        """One of the caller's datagrams was shown, as asked for."""
        if not session.trail.note(data, self._clock.seconds()):
            session.watch()
        session.relay(data)

    def claimed(self, data: memoryview, address: Address, transmit: Transmit) -> bool:
        """A datagram has come from an address that no session with its destination has. If it is from the caller of
        one, the caller has moved. If a session with that address is over, the caller has not heard so.

        :param transmit: how to answer it.
        :returns: whether it was of use.
        """
        now, number = self._clock.seconds(), destination_socket_id(data)
        for session in self._by_number.get(number, []):
            if session.has_moved(data, address, now):
                session.move(address, transmit)
                self.shown(session, data)
                return True
        self._gone.expire(now)
        caller = self._gone.get((address, number))
        if caller is None:
            return False
        send(transmit, shutdown(caller), address)
        return True

    # What comes from origins

    def dismissed(self, session: SrtSession) -> None:
        """The origin has sent SHUTDOWN."""
        session.count()
        origin, publishes = session.origin.id, session.record.action == "publish"
        if self._clock.seconds() - session.begun < _VERDICT and (publishes or session.record.sent < _NO_MEDIA):
            rejected = OriginRejected(f"origin {origin}: took the caller, and then sent SHUTDOWN")
            self._end(session, Outcome.REJECTED_BY_ORIGIN, rejected, tell_origin=False)
        elif publishes:
            self._end(session, Outcome.ORIGIN_LOST, OriginLost(f"{origin}: sent SHUTDOWN"), tell_origin=False)
        else:
            self._end(session, Outcome.FINISHED, tell_origin=False)

    def refused(self, session: SrtSession) -> None:
        """The origin's machine says that nobody listens there."""
        if session.refused():
            self._lost(session)

    # Their end

    def fail(self, session: SrtSession, error: BaseException) -> None:
        """End a session by an error."""
        self._end(session, outcome_of(error), error)

    def drain(self) -> Deferred[None]:
        """Let no more begin; fires when the last one has ended."""
        drained = self._drain.wait()
        self._tell_drained()
        return drained

    def abort(self) -> None:
        """End all."""
        for session in list(self._by_caller.values()):
            self._end(session, Outcome.SHUTDOWN)

    def _end(
        self,
        session: SrtSession,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        tell_caller: bool = True,
        tell_origin: bool = True,
    ) -> None:
        session.close(tell_caller=tell_caller, tell_origin=tell_origin)
        session.count()
        self.decide(session.caller_id, session.farewell())
        del self._by_caller[session.caller_id]
        same = self._by_number[session.number]
        same.remove(session)
        if not same:
            del self._by_number[session.number]
        if tell_caller:
            now = self._clock.seconds()
            self._gone.expire(now)
            self._gone.store((session.path.address, session.number), session.caller_socket_id, now)
        session.admission.leave()
        self._shared.log.close(session.record, outcome, error)
        self._tell_drained()

    def _tell_drained(self) -> None:
        if not self._by_caller:
            self._rounds.stop()
            self._drain.tell()

    def _look_at(self, session: SrtSession) -> None:
        """End a session whose time has come."""
        if session.record.outcome is not None:
            return
        now = self._clock.seconds()
        answered, refused = session.count()
        if answered:
            session.answered_at = now
        idle = self._shared.settings.srt_idle_timeout
        if now - session.path.heard_at >= idle:
            self._end(session, Outcome.CLIENT_LOST)
        elif now - session.answered_at >= idle:
            self.fail(session, OriginLost(f"{session.origin.id}: sent nothing for {idle:g} s"))
        elif refused and not answered:
            self._lost(session)
        elif not answered and self._starts.is_over(session.origin):
            self.fail(session, OriginLost(f"{session.origin.id}: was restarted"))
        else:
            session.watch()

    def _lost(self, session: SrtSession) -> None:
        in_background(_log, "report a lost origin", self._shared.balancer.report_failure(session.origin))
        self.fail(session, OriginLost(f"{session.origin.id}: does not listen for SRT any more"))
