"""Which start of an origin is registered."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from srsproxy.balancer.model import Origin
from srsproxy.balancer.starts import Starts
from tests.balancer.helpers import ORIGIN_LIFETIME, logging, make_balancer, make_origin, result_of

FIRST, SECOND = make_origin(pid="1"), make_origin(pid="2")
OTHER = make_origin("vid-2")


def test_nothing_is_over_before_anything_was_learnt() -> None:
    balancer = make_balancer(Clock())
    result_of(balancer.register(SECOND))

    assert not Starts(balancer).is_over(FIRST)


def test_a_start_is_over_when_another_one_is_registered() -> None:
    balancer = make_balancer(Clock())
    starts = Starts(balancer)
    for registered, over in ((FIRST, False), (OTHER, False), (SECOND, True)):
        result_of(balancer.register(registered))
        starts.learn()
        assert starts.is_over(FIRST) is over
    assert not starts.is_over(SECOND)
    assert not starts.is_over(OTHER)


def test_what_has_changed_is_known_when_it_was_learnt_again() -> None:
    balancer = make_balancer(Clock())
    starts = Starts(balancer)
    result_of(balancer.register(FIRST))
    starts.learn()
    result_of(balancer.register(SECOND))

    assert not starts.is_over(FIRST)
    starts.learn()
    assert starts.is_over(FIRST)


def test_a_start_is_not_over_because_its_heartbeat_is_missing() -> None:
    clock = Clock()
    balancer = make_balancer(clock)
    starts = Starts(balancer)
    result_of(balancer.register(FIRST))
    clock.advance(ORIGIN_LIFETIME + 1)
    starts.learn()

    assert not starts.is_over(FIRST)


def test_what_was_learnt_stays_while_the_balancer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    balancer = make_balancer(Clock())
    starts = Starts(balancer)
    result_of(balancer.register(SECOND))
    starts.learn()
    monkeypatch.setattr(balancer, "origins", lambda: fail(OSError("the store is away")))
    with logging() as log:
        starts.learn()

    assert starts.is_over(FIRST)
    assert len([line for line in log.at(LogLevel.critical) if "look for restarted origins" in line]) == 1


def test_what_was_learnt_stays_until_the_balancer_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    balancer = make_balancer(Clock())
    starts = Starts(balancer)
    result_of(balancer.register(FIRST))
    starts.learn()
    answer: Deferred[list[Origin]] = Deferred()
    monkeypatch.setattr(balancer, "origins", lambda: answer)
    starts.learn()
    assert not starts.is_over(FIRST)
    answer.callback([SECOND])

    assert starts.is_over(FIRST)
