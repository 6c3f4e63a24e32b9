"""What failures and successes teach about an origin."""

from __future__ import annotations

import pytest

from srsproxy.balancer.health import Health, OriginHealth

SET_ASIDE = 10.0


@pytest.fixture
def health() -> OriginHealth:
    return OriginHealth(SET_ASIDE, down_after=3)


def fail(health: OriginHealth, *times: float) -> None:
    for now in times:
        health.failed("a", now)


def test_an_unknown_origin_is_healthy(health: OriginHealth) -> None:
    assert health.state("a", 0) is Health.HEALTHY


def test_one_failure_makes_a_suspect_for_the_time_to_set_aside(health: OriginHealth) -> None:
    fail(health, 100)
    assert health.state("a", 100) is Health.SUSPECT
    assert health.state("a", 109.9) is Health.SUSPECT
    assert health.state("a", 110) is Health.HEALTHY
    assert health.state("b", 100) is Health.HEALTHY


def test_failures_in_a_row_make_it_down_for_the_time_after_the_last(health: OriginHealth) -> None:
    fail(health, 0, 1)
    assert health.state("a", 1) is Health.SUSPECT
    fail(health, 2)
    assert health.state("a", 2) is Health.DOWN
    assert health.state("a", 11.9) is Health.DOWN
    assert health.state("a", 12) is Health.HEALTHY


def test_a_success_clears_everything(health: OriginHealth) -> None:
    fail(health, 0, 1, 2)
    assert health.succeeded("a")
    assert health.state("a", 2) is Health.HEALTHY
    assert not health.succeeded("a")
    fail(health, 3, 4)
    assert health.state("a", 4) is Health.SUSPECT


def test_failures_far_apart_are_not_in_a_row(health: OriginHealth) -> None:
    fail(health, 0, 10, 20, 30, 40)
    assert health.state("a", 40) is Health.SUSPECT


def test_an_origin_that_was_down_is_down_again_at_the_first_failure(health: OriginHealth) -> None:
    fail(health, 0, 1, 2)
    assert health.state("a", 500) is Health.HEALTHY
    fail(health, 500)
    assert health.state("a", 500) is Health.DOWN


@pytest.mark.parametrize("failures", [1, 3])
def test_on_trial_it_gets_one_stream_and_is_a_suspect_until_the_verdict(health: OriginHealth, failures: int) -> None:
    fail(health, *[0] * failures)
    health.tried("a", 10)
    assert health.state("a", 10) is Health.SUSPECT
    assert health.state("a", 19.9) is Health.SUSPECT
    # No verdict came: the next stream tries again.
    assert health.state("a", 20) is Health.HEALTHY


def test_a_success_on_trial_makes_it_healthy(health: OriginHealth) -> None:
    fail(health, 0, 0, 0)
    health.tried("a", 10)
    health.succeeded("a")
    assert health.state("a", 10) is Health.HEALTHY


def test_a_failure_on_trial_counts_as_one_more_in_the_row(health: OriginHealth) -> None:
    fail(health, 0, 0)
    health.tried("a", 10)
    fail(health, 12)
    assert health.state("a", 12) is Health.DOWN
    assert health.state("a", 22) is Health.HEALTHY


def test_a_stream_that_goes_to_a_healthy_or_a_down_origin_is_no_trial(health: OriginHealth) -> None:
    health.tried("a", 0)
    assert health.state("a", 0) is Health.HEALTHY
    fail(health, 0, 0, 0)
    health.tried("a", 5)
    assert health.state("a", 5) is Health.DOWN
    assert health.state("a", 10) is Health.HEALTHY


def test_a_forgotten_origin_begins_healthy(health: OriginHealth) -> None:
    fail(health, 0, 0, 0)
    health.forget("a")
    assert health.state("a", 0) is Health.HEALTHY
    fail(health, 1)
    assert health.state("a", 1) is Health.SUSPECT


def test_a_single_failure_is_enough_if_so_configured() -> None:
    health = OriginHealth(SET_ASIDE, down_after=1)
    fail(health, 0)
    assert health.state("a", 0) is Health.DOWN
