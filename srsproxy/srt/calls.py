"""From a caller's conclusion to an origin that has taken it, or to a rejection.

A listener answers a conclusion once and for all (draft-sharabayko-srt, section 4.3.1.2): a caller that repeats it,
because the answer was lost or takes its time, gets the same answer again, or nothing while there is none.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from srsproxy.address import plain_address
from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.balancer.routing import reach_origin
from srsproxy.dial import resolve, unreachable
from srsproxy.errors import (
    LimitExceeded,
    OriginRejected,
    OriginUnreachable,
    PeerError,
    Refused,
    describe,
    log_failure,
    outcome_of,
)
from srsproxy.limits import Admission, Rate
from srsproxy.log import ContextLogger, new_context_id
from srsproxy.outcome import Outcome
from srsproxy.relay.datagram import DatagramRelay
from srsproxy.relay.flow import Flow, Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.srt.attempt import Abandoned, Attempt
from srsproxy.srt.handshake import (
    DATAGRAM,
    LEGACY_VERSION,
    VERSION,
    Handshake,
    RejectionReason,
    encode_peer_ip,
    rejection,
    stream_id,
)
from srsproxy.srt.negotiation import OriginHandshake
from srsproxy.srt.packet import shutdown
from srsproxy.srt.session import CallerId, Taken
from srsproxy.srt.sessions import Sessions
from srsproxy.srt.shared import SOURCE, Shared, send
from srsproxy.srt.streamid import BadMode, StreamTarget, read_stream_id
from srsproxy.stats import Session

_LINES_PER_SECOND: Final = 10
_LINES_AT_ONCE: Final = 100
"""Rejections that are warnings in the log. Some programs call again and again as fast as they can."""

_REASONS: Final = {
    Outcome.BAD_REQUEST: RejectionReason.BAD_REQUEST,
    Outcome.REFUSED: RejectionReason.OVERLOAD,
    Outcome.NO_ORIGIN: RejectionReason.DOWN,
    Outcome.ORIGIN_UNREACHABLE: RejectionReason.DOWN,
    Outcome.TIMEOUT: RejectionReason.DOWN,
}
"""What a caller is told of how it ended. Of a bug of ours it is told that the server has failed."""

_log = Logger()


class _Unacceptable(PeerError):
    """A conclusion that libsrt's listeners reject before anybody looks at the stream id.

    :ivar reason: with which they do so.
    """

    def __init__(self, text: str, reason: RejectionReason) -> None:
        super().__init__(text)
        self.reason = reason


class _ShuttingDown(Refused):
    """The proxy is to end."""


class _Call:
    """A caller that waits for an answer to its conclusion.

    :ivar record: its record in the statistics.
    :ivar asked: the origin that was asked last, unless it has said anything.
    :ivar flow: to that origin.
    :ivar answer: by which the origin has rejected it; ``None`` if none has.
    :ivar taking: what leads to an answer.
    """

    __slots__ = ("admission", "answer", "asked", "caller_id", "conclusion", "flow", "record", "taking", "transmit")

    def __init__(
        self, conclusion: Handshake, caller_id: CallerId, transmit: Transmit, record: Session, admission: Admission
    ) -> None:
        self.conclusion = conclusion
        self.caller_id = caller_id
        self.transmit = transmit
        self.record = record
        self.admission = admission
        self.asked: Origin | None = None
        self.flow: Flow | None = None
        self.answer: bytes | None = None
        self.taking: Deferred[None] | None = None

    def failed(self, error: OriginUnreachable) -> None:
        """An origin has not answered."""
        log = ContextLogger(SOURCE, self.record.context)
        log.warn("{what}: {reason}; trying the next origin", what=self.record.doing, reason=describe(error))


class Calls:
    """See the module's text.

    :param relay: has the flows to the origins.
    """

    def __init__(self, shared: Shared, relay: DatagramRelay, sessions: Sessions) -> None:
        self._shared = shared
        self._clock = shared.reactor
        self._relay = relay
        self._sessions = sessions
        self._waiting: dict[CallerId, _Call] = {}
        self._abandoned: set[Abandoned] = set()
        self._lines = Rate("lines", _LINES_PER_SECOND, _LINES_AT_ONCE, self._clock.seconds())

    def concluded(self, conclusion: Handshake, address: Address, transmit: Transmit) -> None:
        """A caller has sent its conclusion, with a cookie that it has got from a proxy.

        :param transmit: how to answer it.
        """
        caller_id = address, conclusion.socket_id, conclusion.initial_sequence_number
        session = self._sessions.get(caller_id)
        if session is not None:
            session.concluded()
            return
        verdict = self._sessions.verdict(caller_id)
        if verdict is not None:
            send(transmit, verdict, address)
        elif caller_id not in self._waiting:
            peer = plain_address(address[0])
            record = self._shared.log.open(SOURCE, new_context_id(), peer)
            admission = Admission(self._shared.limits, peer)
            call = self._waiting[caller_id] = _Call(conclusion, caller_id, transmit, record, admission)
            call.taking = Deferred.fromCoroutine(self._take(call))
            call.taking.addErrback(self._reject, call).addErrback(
                lambda failure: log_failure(_log, "reject a caller", failure)
            )

    def hang_up(self) -> None:
        """Reject all who wait, and wait for nobody."""
        for call in list(self._waiting.values()):
            if call.taking is not None:
                call.taking.cancel()
        for abandoned in list(self._abandoned):
            abandoned.close()

    async def _take(self, call: _Call) -> None:
        """Have an origin take the caller.

        :raises SrsProxyError: none does.
        """
        if self._sessions.draining:
            raise _ShuttingDown("the proxy is shutting down")
        call.admission.enter()
        target = _read(call.conclusion, self._shared.settings.vhosts)
        call.record.key = str(target.key)
        call.record.action = target.action
        seconds = self._shared.settings.srt_handshake_timeout
        try:
            taken = await Deferred.fromCoroutine(self._reach(call, call.record.key)).addTimeout(seconds, self._clock)
        except DeferredTimeout:
            if call.asked is not None:
                await self._shared.balancer.report_failure(call.asked)
            raise OriginUnreachable(f"no origin has answered within {seconds:g} s") from None
        call.record.origin = taken.origin.id
        if taken.answer.is_rejection:
            call.answer = taken.handshake.answer_to_caller(taken.answer)
            raise OriginRejected(f"origin {taken.origin.id}: {_told(taken.answer.rejection_reason)}")
        try:
            self._sessions.begin(call.caller_id, call.transmit, taken, call.record, call.admission)
        except BaseException:
            taken.flow.send(shutdown(taken.answer.socket_id))
            raise
        del self._waiting[call.caller_id]

    async def _reach(self, call: _Call, key: str) -> Taken:
        """
        :raises NoOrigin: none is registered.
        :raises OriginUnreachable: none answers.
        :raises Refused: this machine has not got what it takes.
        """
        settings = self._shared.settings
        address, _, _ = call.caller_id

        async def attempt(origin: Origin, endpoint: Endpoint) -> Taken:
            call.asked = origin
            host = await resolve(self._clock, endpoint, settings.srt_origin_timeout)
            try:
                flow = self._relay.open_flow(host, endpoint.port)
            except OSError as error:
                raise unreachable(str(endpoint), error) from error
            call.flow = flow
            handshake = OriginHandshake(call.conclusion, encode_peer_ip(address[0]))
            attempted = Attempt(self._clock, flow, handshake, str(endpoint), settings.srt_origin_timeout)
            flow.owner = attempted
            try:
                answer = await attempted.run()
            except BaseException:
                if handshake.cookie is None:
                    flow.close(forgotten=True)
                else:
                    call.asked = call.flow = None
                    self._abandoned.add(Abandoned(self._clock, flow, handshake, self._abandoned.discard))
                raise
            call.asked = None
            self._shared.encryption = handshake.encryption
            return Taken(origin, flow, handshake, answer)

        return await reach_origin(self._shared.balancer, key, Surface.SRT, attempt, call.failed)

    def _reject(self, failure: Failure, call: _Call) -> None:
        """The caller has not been taken: tell it why."""
        if failure.check(CancelledError):
            failure = Failure(_ShuttingDown("the proxy is shutting down"))
        if call.flow is not None:
            call.flow.close(forgotten=True)
        address, _, _ = call.caller_id
        answer = call.answer or rejection(call.conclusion, _reason(failure))
        del self._waiting[call.caller_id]
        self._sessions.decide(call.caller_id, answer)
        send(call.transmit, answer, address)
        call.admission.leave()
        self._shared.log.close(call.record, outcome_of(failure), failure, self._level())

    def _level(self) -> LogLevel:
        """How important it is that one more caller was rejected."""
        level: LogLevel = LogLevel.warn
        try:
            self._lines.spend(self._clock.seconds())
        except LimitExceeded:
            level = LogLevel.debug
        return level


def _read(conclusion: Handshake, vhosts: frozenset[str]) -> StreamTarget:
    """Which stream the caller means.

    :raises PeerError: none, or its handshake is unacceptable.
    """
    if conclusion.version not in (LEGACY_VERSION, VERSION):
        raise _Unacceptable(f"the handshake has version {conclusion.version}", RejectionReason.VERSION)
    if conclusion.version == LEGACY_VERSION and conclusion.extension != DATAGRAM:
        raise _Unacceptable("the handshake is not SRT's", RejectionReason.ROGUE)
    try:
        conclusion.check_parameters()
        named = stream_id(conclusion.parse_extensions()) if conclusion.version == VERSION else None
    except PeerError as error:
        raise _Unacceptable("the handshake cannot be used", RejectionReason.ROGUE) from error
    return read_stream_id(named, vhosts)


def _reason(failure: Failure) -> RejectionReason:
    """What the caller is told of an error of ours."""
    error = failure.value
    if isinstance(error, _Unacceptable):
        return error.reason
    if isinstance(error, BadMode):
        return RejectionReason.BAD_MODE
    if isinstance(error, _ShuttingDown):
        return RejectionReason.DOWN
    return _REASONS.get(outcome_of(failure), RejectionReason.ISE)


def _told(reason: int) -> str:
    """A reason of an origin, for the log."""
    try:
        return f"rejected the caller, {RejectionReason(reason).name} ({reason})"
    except ValueError:
        return f"rejected the caller ({reason})"
