"""Deadlines: one at a time, and no hold on whoever set them."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.task import Clock

from srsproxy.deadline import Deadline


class Waiting:
    def __init__(self, clock: Clock) -> None:
        self.deadline = Deadline(clock)
        self.missed: list[str] = []

    def expect(self, what: str, seconds: float) -> None:
        self.deadline.expect(what, seconds, self.missed.append)

    def expect_of_me(self) -> None:
        self.deadline.expect("a word", 1.0, self._too_late)

    def _too_late(self, what: str) -> None:
        self.missed.append(what)


def test_a_missed_deadline_is_told_once_with_its_time() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.expect("no handshake", 2.5)
    clock.advance(2.4)
    assert waiting.missed == []
    clock.advance(10)
    assert waiting.missed == ["no handshake within 2.5 s"]


def test_a_later_deadline_takes_the_place_of_the_one_before() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.expect("first", 1)
    waiting.expect("second", 5)
    clock.advance(4)
    assert waiting.missed == []
    clock.advance(4)
    assert waiting.missed == ["second within 5 s"]


def test_a_cancelled_deadline_is_not_told_and_can_be_cancelled_again() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.expect("first", 1)
    waiting.deadline.cancel()
    waiting.deadline.cancel()
    clock.advance(4)
    assert waiting.missed == []
    assert clock.getDelayedCalls() == []


def test_who_cancels_its_deadline_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        waiting = Waiting(Clock())
        waiting.expect_of_me()
        waiting.deadline.cancel()
        freed = weakref.ref(waiting)
        del waiting
        assert freed() is None
    finally:
        gc.enable()
