"""Looking at all sessions a few at a time, and waiting for the last to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from srsproxy.draining import Drain
from srsproxy.rounds import Rounds

ROUND = 50.0
"""Seconds of a round."""

SLICE = 1.0
"""Seconds between two looks."""


class Watched:
    """Numbers that are looked at."""

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.items = dict.fromkeys(range(count))
        self.seen: list[int] = []
        self.began = 0
        self.on_look: Callable[[int], None] = lambda _: None
        self.rounds = Rounds(self.clock, ROUND, self.items.keys, self.look_at, self.begin)

    def begin(self) -> None:
        self.began += 1

    def look_at(self, item: int) -> None:
        self.seen.append(item)
        self.on_look(item)

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds / SLICE)):
            self.clock.advance(SLICE)

    def pass_slice(self) -> list[int]:
        """What is looked at in the next slice."""
        before = len(self.seen)
        self.pass_(SLICE)
        return self.seen[before:]


def watch(count: int) -> Watched:
    """So many items; the next slice is the first of a round."""
    watched = Watched(count)
    watched.rounds.start()
    watched.pass_(ROUND - SLICE)
    return watched


@pytest.mark.parametrize("count", [1, 49, 50, 51, 149, 1000])
def test_every_item_is_looked_at_once_in_each_round(count: int) -> None:
    watched = watch(count)
    for turns in (1, 2, 3):
        watched.pass_(ROUND)
        assert Counter(watched.seen) == Counter(dict.fromkeys(watched.items, turns))


def test_the_first_round_begins_one_round_after_the_start() -> None:
    watched = watch(1)
    assert (watched.began, watched.seen) == (0, [])
    watched.pass_(SLICE)
    assert (watched.began, watched.seen) == (1, [0])


def test_a_round_has_begun_before_an_item_has_its_turn() -> None:
    watched = watch(1)
    begun: list[int] = []
    watched.on_look = lambda _: begun.append(watched.began)
    watched.pass_(2 * ROUND)

    assert begun == [1, 2]


@pytest.mark.parametrize(("count", "most"), [(1, 1), (50, 1), (51, 2), (1000, 20)])
def test_items_are_looked_at_a_few_at_a_time(count: int, most: int) -> None:
    watched = watch(count)

    assert max(len(watched.pass_slice()) for _ in range(50)) == most


def test_an_item_that_comes_within_a_round_is_looked_at_in_the_next() -> None:
    watched = watch(100)
    watched.pass_(SLICE)
    watched.items[100] = None
    watched.pass_(ROUND - SLICE)
    assert 100 not in watched.seen
    watched.pass_(ROUND)
    assert watched.seen.count(100) == 1


def test_an_item_that_goes_within_a_round_has_its_turn() -> None:
    watched = watch(100)
    first = watched.pass_slice()
    gone = next(item for item in watched.items if item not in first)
    del watched.items[gone]
    watched.pass_(2 * ROUND)

    assert watched.seen.count(gone) == 1


def test_a_look_that_fails_is_logged_as_a_bug_and_costs_nobody_a_turn() -> None:
    watched = watch(100)

    def fail(item: int) -> None:
        if item == 98:
            raise ZeroDivisionError("98")

    watched.on_look = fail
    with capturedLogs() as events:
        watched.pass_(2 * ROUND)

    assert Counter(watched.seen) == Counter(dict.fromkeys(watched.items, 2))
    assert [(event["log_level"], event["log_failure"].type) for event in events] == [
        (LogLevel.critical, ZeroDivisionError)
    ] * 2


def test_a_round_whose_beginning_fails_is_a_round() -> None:
    clock = Clock()
    seen: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    rounds = Rounds(clock, ROUND, lambda: [1], seen.append, fail)
    rounds.start()
    with capturedLogs() as events:
        clock.pump([SLICE] * 100)

    assert seen == [1, 1]
    assert [event["log_failure"].type for event in events] == [ZeroDivisionError] * 2


def test_rounds_need_no_beginning() -> None:
    clock = Clock()
    seen: list[int] = []
    rounds = Rounds(clock, ROUND, lambda: [1, 2], seen.append)
    rounds.start()
    with capturedLogs() as events:
        clock.pump([SLICE] * 51)

    assert sorted(seen) == [1, 2]
    assert events == []


def test_a_second_start_changes_nothing() -> None:
    watched = watch(100)
    watched.rounds.start()
    assert len(watched.clock.getDelayedCalls()) == 1
    watched.pass_(ROUND)
    assert Counter(watched.seen) == Counter(list(watched.items))


def test_what_is_stopped_looks_at_nothing_and_waits_for_nothing() -> None:
    watched = watch(100)
    seen = watched.pass_slice()
    watched.rounds.stop()
    watched.rounds.stop()
    assert watched.clock.getDelayedCalls() == []
    watched.pass_(2 * ROUND)
    assert watched.seen == seen


def test_rounds_can_be_stopped_before_they_start() -> None:
    watched = Watched(1)
    watched.rounds.stop()

    assert watched.clock.getDelayedCalls() == []


def test_what_was_left_of_a_round_is_forgotten_by_a_stop() -> None:
    watched = watch(100)
    seen = set(watched.pass_slice())
    watched.rounds.stop()
    watched.items.clear()
    watched.items[100] = None
    watched.rounds.start()
    watched.pass_(ROUND)

    assert set(watched.seen) == seen | {100}


def test_a_look_can_stop_the_rounds_and_start_them_again() -> None:
    watched = watch(1)
    watched.on_look = lambda _: watched.rounds.stop()
    watched.pass_(SLICE)
    assert watched.clock.getDelayedCalls() == []

    def stop_and_start(_: int) -> None:
        watched.rounds.stop()
        watched.rounds.start()

    watched.on_look = stop_and_start
    watched.rounds.start()
    watched.pass_(2 * ROUND)
    assert len(watched.clock.getDelayedCalls()) == 1
    assert watched.seen == [0, 0, 0]


# Draining


def test_all_who_wait_are_told_once_that_no_session_is_left() -> None:
    drain = Drain()
    told: list[None] = []
    drain.wait().addCallback(told.append)
    drain.wait().addCallback(told.append)
    assert told == []
    drain.tell()
    drain.tell()
    assert told == [None, None]


def test_a_drain_has_begun_from_when_somebody_waits() -> None:
    drain = Drain()
    drain.tell()
    assert not drain.begun
    waiting = drain.wait()
    assert drain.begun
    assert not waiting.called
    drain.tell()
    assert waiting.called
    assert drain.begun


def test_who_waits_again_when_told_is_told_the_next_time() -> None:
    drain = Drain()
    told: list[None] = []

    def wait_again(_: None) -> None:
        drain.wait().addCallback(told.append)

    drain.wait().addCallback(wait_again)
    drain.tell()
    assert told == []
    drain.tell()
    assert told == [None]
