"""One attempt at an origin: asking again and again, deadlines, and who ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from srsproxy.errors import DeadlineExceeded, OriginUnreachable, SrsProxyError
from srsproxy.relay.flow import Flow
from srsproxy.srt.attempt import Attempt
from srsproxy.srt.handshake import Handshake
from srsproxy.srt.negotiation import OriginHandshake
from tests.balancer.helpers import result_of
from tests.recorded import datagrams
from tests.srt import wire

INDUCTION, INDUCTION_ANSWER, CONCLUSION, ANSWER = (one.data for one in datagrams("srt_publish_plain")[:4])

BACKLOG = 5
TOO_BUSY = bytes(replace(wire.Handshake.parse(ANSWER), type=wire.REJECTION + BACKLOG, tail=b""))

NAME = "192.0.2.1:10080"

TIMEOUT = 1.0
REPEAT = 0.1

IN_VAIN = 10
"""How often something is sent within the timeout."""


class _Flow:
    """Takes what is sent to an origin."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refusals = 0

    def send(self, data: bytes) -> None:
        """See :meth:`Flow.send`."""
        self.sent.append(data)

    @property
    def asked(self) -> list[int]:
        """Types of the handshakes that were sent."""
        return [wire.Handshake.parse(data).type for data in self.sent]


class Attempted:
    """An attempt that has begun."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.flow = _Flow()
        handshake = OriginHandshake(Handshake.parse(CONCLUSION), bytes(16))
        self._attempt = Attempt(self.clock, cast(Flow, self.flow), handshake, NAME, TIMEOUT)
        self.fired: Deferred[Handshake] = self._attempt.run()

    def say(self, packet: bytes) -> None:
        """The origin sends this."""
        self._attempt.answered(memoryview(packet))

    def refuse(self) -> None:
        """The origin's machine says that nobody listens."""
        self._attempt.refused()

    def pass_(self, seconds: float) -> None:
        """So much time passes."""
        self.clock.pump([REPEAT] * round(seconds / REPEAT))

    def failed(self, kind: type[SrsProxyError] = OriginUnreachable) -> str:
        """Why it has failed; nothing of it may be left."""
        assert not self.clock.getDelayedCalls()
        with pytest.raises(kind) as raised:
            result_of(self.fired)
        return str(raised.value)


@pytest.fixture
def attempted() -> Attempted:
    return Attempted()


def test_the_origin_is_asked_at_once_and_step_by_step(attempted: Attempted) -> None:
    assert attempted.flow.asked == [wire.INDUCTION]
    attempted.say(INDUCTION_ANSWER)
    assert attempted.flow.asked == [wire.INDUCTION, wire.CONCLUSION]
    assert not attempted.fired.called
    attempted.say(ANSWER)

    assert bytes(result_of(attempted.fired)) == ANSWER
    assert not attempted.clock.getDelayedCalls()
    assert len(attempted.flow.sent) == 2


def test_each_step_is_asked_for_again_until_it_is_answered(attempted: Attempted) -> None:
    attempted.pass_(3 * REPEAT)
    assert attempted.flow.asked == [wire.INDUCTION] * 4
    attempted.say(INDUCTION_ANSWER)
    attempted.pass_(3 * REPEAT)
    assert attempted.flow.asked == [wire.INDUCTION] * 4 + [wire.CONCLUSION] * 4
    attempted.say(ANSWER)
    attempted.pass_(TIMEOUT)

    assert len(attempted.flow.sent) == 8
    result_of(attempted.fired)


def test_each_step_has_its_deadline(attempted: Attempted) -> None:
    attempted.pass_(TIMEOUT - REPEAT)
    attempted.say(INDUCTION_ANSWER)
    attempted.pass_(TIMEOUT - REPEAT)
    assert not attempted.fired.called
    attempted.say(ANSWER)

    result_of(attempted.fired)


@pytest.mark.parametrize("induced", [False, True])
def test_an_origin_that_does_not_answer_in_time_is_given_up(attempted: Attempted, induced: bool) -> None:
    if induced:
        attempted.say(INDUCTION_ANSWER)
    before = len(attempted.flow.sent)
    attempted.pass_(TIMEOUT - 2 * REPEAT)
    assert not attempted.fired.called
    attempted.pass_(3 * REPEAT)

    what = "conclusion" if induced else "induction"
    kind = DeadlineExceeded if induced else OriginUnreachable
    assert attempted.failed(kind) == f"connect origin {NAME}: no answer to the {what} within 1 s"
    assert len(attempted.flow.sent) - before <= IN_VAIN


def test_repeated_inductions_do_not_prolong_the_deadline(attempted: Attempted) -> None:
    attempted.say(INDUCTION_ANSWER)
    for _ in range(IN_VAIN + 1):
        attempted.pass_(REPEAT)
        attempted.say(INDUCTION_ANSWER)

    assert "no answer to the conclusion" in attempted.failed(DeadlineExceeded)
    assert wire.INDUCTION not in attempted.flow.asked[1:]


@pytest.mark.parametrize("induced", [False, True])
def test_an_origin_that_refuses_is_given_up_before_it_is_asked_again(attempted: Attempted, induced: bool) -> None:
    if induced:
        attempted.say(INDUCTION_ANSWER)
    asked = len(attempted.flow.sent)
    attempted.flow.refusals = 1
    attempted.pass_(REPEAT)

    kind = DeadlineExceeded if induced else OriginUnreachable
    assert attempted.failed(kind) == f"connect origin {NAME}: connection refused"
    assert len(attempted.flow.sent) == asked


def test_a_rejection_is_an_answer(attempted: Attempted) -> None:
    rejection = bytes(replace(wire.Handshake.parse(ANSWER), type=wire.REJECTION + wire.BADSECRET, tail=b""))
    attempted.say(rejection)

    assert result_of(attempted.fired).rejection_reason == wire.BADSECRET
    assert not attempted.clock.getDelayedCalls()


@pytest.mark.parametrize("packet", [b"", b"\x80\0", ANSWER[:63], ANSWER[:12] + bytes(4) + ANSWER[16:], bytes(64)])
def test_what_is_no_answer_changes_nothing(attempted: Attempted, packet: bytes) -> None:
    attempted.say(packet)
    attempted.say(INDUCTION_ANSWER)
    attempted.say(packet)
    assert attempted.flow.asked == [wire.INDUCTION, wire.CONCLUSION]
    attempted.say(ANSWER)

    result_of(attempted.fired)


def test_an_answer_in_the_wrong_order_is_waited_for_again(attempted: Attempted) -> None:
    attempted.say(ANSWER)
    assert not attempted.fired.called
    attempted.say(INDUCTION_ANSWER)
    attempted.say(ANSWER)

    result_of(attempted.fired)


def test_an_answer_that_comes_again_is_of_no_interest(attempted: Attempted) -> None:
    attempted.say(INDUCTION_ANSWER)
    attempted.say(ANSWER)
    attempted.say(ANSWER)
    attempted.say(INDUCTION_ANSWER)

    assert bytes(result_of(attempted.fired)) == ANSWER
    assert not attempted.clock.getDelayedCalls()


def test_an_answer_that_comes_too_late_is_of_no_interest(attempted: Attempted) -> None:
    attempted.say(INDUCTION_ANSWER)
    attempted.pass_(TIMEOUT + REPEAT)
    attempted.say(ANSWER)

    assert "no answer to the conclusion" in attempted.failed(DeadlineExceeded)


def test_an_attempt_that_is_given_up_asks_no_more(attempted: Attempted) -> None:
    attempted.fired.cancel()
    attempted.pass_(2 * TIMEOUT)

    assert not attempted.clock.getDelayedCalls()
    assert attempted.flow.asked == [wire.INDUCTION]
    with pytest.raises(CancelledError):
        result_of(attempted.fired)


def test_a_refusal_ends_it_at_once(attempted: Attempted) -> None:
    attempted.refuse()

    assert attempted.failed() == f"connect origin {NAME}: connection refused"


def test_an_origin_that_is_too_busy_is_asked_again(attempted: Attempted) -> None:
    attempted.say(INDUCTION_ANSWER)
    attempted.say(TOO_BUSY)
    attempted.pass_(3 * REPEAT)
    assert attempted.flow.asked == [wire.INDUCTION] + [wire.CONCLUSION] * 4
    attempted.say(ANSWER)

    assert bytes(result_of(attempted.fired)) == ANSWER


def test_an_origin_that_stays_too_busy_is_believed(attempted: Attempted) -> None:
    attempted.say(INDUCTION_ANSWER)
    for _ in range(IN_VAIN + 1):
        attempted.say(TOO_BUSY)
        attempted.pass_(REPEAT)

    assert bytes(result_of(attempted.fired)) == TOO_BUSY
    assert not attempted.clock.getDelayedCalls()
