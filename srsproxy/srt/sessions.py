"""The callers that origins have taken, and whose media this proxy relays.

A session ends when the caller or the origin says so (SHUTDOWN), when one of them says nothing for too long, or when the
origin's machine says that nobody listens there any more. Then the proxy tells whoever has not said it: so a caller
connects anew at once, and is led to another origin if it must be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.model import Origin
from srsproxy.balancer.starts import Starts
from srsproxy.draining import Drain
from srsproxy.errors import (
    LimitExceeded,
    OriginLost,
    OriginRejected,
    PeerError,
    Refused,
    in_background,
    outcome_of,
)
from srsproxy.limits import Admission, Rate
from srsproxy.log import ContextLogger
from srsproxy.outcome import Outcome
from srsproxy.relay.flow import Flow, Path, Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.rounds import Rounds
from srsproxy.srt.handshake import Handshake
from srsproxy.srt.negotiation import OriginHandshake
from srsproxy.srt.packet import destination_socket_id, shutdown
from srsproxy.srt.roaming import Trail
from srsproxy.srt.shared import SOURCE, Shared, send
from srsproxy.stats import Session

CallerId = tuple[Address, int, int]
"""By which handshakes know a caller: its address, its socket id and its initial sequence number."""

_LOOKS_PER_TIMEOUT: Final = 6
"""How often a session is looked at within its idle timeout; it may end late by as much."""

_VERDICT: Final = 5.0
"""Seconds. SRS takes every caller, and then asks its hooks: if it sends SHUTDOWN within this, and no media, it has
refused the stream."""

_NO_MEDIA: Final = 1000
"""Bytes: less than a packet of media, and more than what an origin sends in that time without any."""

_GONE_FOR: Final = 10.0
"""Seconds in which the caller of a session that is over is told so again whenever it sends something. After five
without an answer it has noticed by itself."""

_MAX_GONE: Final = 20_000
"""Sessions that are remembered for that."""

_SILENCE: Final = 0.25
"""Seconds without a word from a caller's address after which it may have another one."""

_CLAIMS_PER_SECOND: Final = 0.1
_CLAIMS_AT_ONCE: Final = 16
"""How often what comes from another address is looked at whether it is the caller's, lest somebody guesses on and
on."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """That an origin has taken a caller.

    :ivar answer: the origin's, to the conclusion.
    :ivar handshake: by which it has taken it.
    """

    origin: Origin
    flow: Flow
    handshake: OriginHandshake
    answer: Handshake


class SrtSession:
    """One session, from when an origin has taken the caller until its outcome.

    :ivar caller_id: by which handshakes know the caller.
    :ivar number: the origin's socket id, which all that the caller sends has for its destination.
    :ivar path: where the caller is.
    :ivar origin: which has taken it.
    :ivar record: its record in the statistics; up to date after :meth:`count`.
    :ivar admission: its place within the limits.
    :ivar trail: how far the caller had come when it was last looked at.
    :ivar begun: when, in seconds.
    :ivar heard_at: when the caller was known to have sent something last.
    :ivar answered_at: the same of the origin.
    """

    __slots__ = (
        "_claims",
        "_counted",
        "_flow",
        "_handshake",
        "admission",
        "answered_at",
        "begun",
        "caller_id",
        "heard_at",
        "number",
        "origin",
        "path",
        "record",
        "trail",
    )

    def __init__(
        self, caller_id: CallerId, taken: Taken, path: Path, record: Session, admission: Admission, now: float
    ) -> None:
        self._flow = taken.flow
        self._handshake = taken.handshake
        self._counted = 0, 0, 0
        self.caller_id = caller_id
        self.number = taken.answer.socket_id
        self.path = path
        self.origin = taken.origin
        self.record = record
        self.admission = admission
        self.trail = Trail()
        self._claims = Rate("claims", _CLAIMS_PER_SECOND, _CLAIMS_AT_ONCE, now)
        self.begun = self.heard_at = self.answered_at = now

    @property
    def caller_socket_id(self) -> int:
        """The destination of all that the origin sends."""
        return self.caller_id[1]

    @property
    def log(self) -> ContextLogger:
        """For lines about it."""
        return ContextLogger(SOURCE, self.record.context)

    # What the caller and the origin send beyond media

    def concluded(self) -> None:
        """The caller has repeated its conclusion, since the answer has not arrived yet: ask the origin for it again."""
        self._flow.send(self._handshake.request)

    def answered(self, data: memoryview) -> None:
        """The origin has sent a handshake: its answer once more."""
        try:
            answer = self._handshake.receive(data)
        except PeerError:
            return
        if answer is not None:
            self.tell(answer)

    def tell(self, answer: Handshake) -> None:
        """Let the caller have the origin's answer."""
        self._flow.send_to(self.path, self._handshake.answer_to_caller(answer))

    def relay(self, data: memoryview) -> None:
        """Pass on what the caller has sent."""
        self._flow.send(data)

    # Where the caller is

    def watch(self) -> None:
        """Have the next datagram of the caller shown, for the trail."""
        self._flow.show_next(self.path)

    def has_moved(self, data: memoryview, now: float) -> bool:
        """Whether the caller has sent this from elsewhere, because it has another address now. While it still sends
        from the one that is known, it has not.

        :param now: seconds.
        """
        if now - self.path.heard_at < _SILENCE:
            return False
        try:
            self._claims.spend(now)
        except LimitExceeded:
            return False
        return self.trail.leads_to(data, now)

    def move(self, address: Address, transmit: Transmit) -> None:
        """The caller has another address now."""
        before, self.path = self.path, self._flow.add_path(address, transmit, self.number)
        self._flow.select(self.path)
        self._flow.remove_path(before)
        what, was = self.record.doing, before.address
        self.log.info("{what}: the caller has moved from {was} to {now}", what=what, was=was, now=address)

    # Its end

    def count(self) -> tuple[bool, bool, bool]:
        """Bring the record up to date. Returns whether since the last time the caller has sent anything, whether the
        origin has, and whether the origin's machine has refused anything."""
        flow, record = self._flow, self.record
        record.received, record.received_packets = flow.received_bytes, flow.received_packets
        record.sent, record.sent_packets = flow.sent_bytes, flow.sent_packets
        record.received_drops, record.sent_drops = flow.received_drops, flow.sent_drops
        before, self._counted = (
            self._counted,
            (
                flow.received_packets + flow.received_drops,
                flow.sent_packets + flow.sent_drops,
                flow.refusals,
            ),
        )
        heard, answered, refused = (now > then for now, then in zip(self._counted, before, strict=True))
        return heard, answered, refused

    def close(self, *, tell_caller: bool, tell_origin: bool) -> None:
        """Relay nothing any more.

        :param tell_caller: that it is over. The same for the origin.
        """
        if tell_caller:
            self._flow.send_to(self.path, shutdown(self.caller_socket_id))
        if tell_origin:
            self._flow.send(shutdown(self.number))
        # A socket id is not used twice, so whoever has the port next takes nothing that is meant for this caller.
        self._flow.close(forgotten=True)


class Sessions:
    """All sessions of this proxy."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clock = shared.reactor
        self._by_caller: dict[CallerId, SrtSession] = {}
        self._by_number: dict[int, list[SrtSession]] = {}
        self._gone = ExpiringTable[tuple[Address, int], int](_GONE_FOR, _MAX_GONE, lambda _: None)
        self._drain = Drain()
        idle = shared.settings.srt_idle_timeout
        self._starts = Starts(shared.balancer)
        self._rounds = Rounds(
            self._clock, idle / _LOOKS_PER_TIMEOUT, self._by_caller.values, self._look_at, self._starts.learn
        )

    def get(self, caller_id: CallerId) -> SrtSession | None:
        """The session of this caller."""
        return self._by_caller.get(caller_id)

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
            if session.has_moved(data, now):
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
        if self._clock.seconds() - session.begun < _VERDICT and session.record.sent < _NO_MEDIA:
            error = OriginRejected(f"origin {session.origin.id}: has taken the caller, and then sent SHUTDOWN")
            self._end(session, Outcome.REJECTED_BY_ORIGIN, error, tell_origin=False)
        else:
            self._end(session, Outcome.FINISHED, tell_origin=False)

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
        heard, answered, refused = session.count()
        if heard:
            session.heard_at = now
        if answered:
            session.answered_at = now
        idle = self._shared.settings.srt_idle_timeout
        if now - session.heard_at >= idle:
            self._end(session, Outcome.CLIENT_LOST)
        elif now - session.answered_at >= idle:
            self.fail(session, OriginLost(f"{session.origin.id}: sent nothing for {idle:g} s"))
        elif refused and not answered:
            in_background(_log, "report a lost origin", self._shared.balancer.report_failure(session.origin))
            self.fail(session, OriginLost(f"{session.origin.id}: does not listen for SRT any more"))
        elif not answered and self._starts.is_over(session.origin):
            self.fail(session, OriginLost(f"{session.origin.id}: was restarted"))
        else:
            session.watch()
