"""What the tests of balancers and of the API share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import Origin
from srsproxy.balancer.policy import POLICIES

T = TypeVar("T")

ORIGIN_LIFETIME = 300.0
PICK_LIFETIME = 120.0
SESSION_LIFETIME = 60.0
SET_ASIDE = 10.0
DOWN_AFTER = 3


def result_of(deferred: Deferred[T]) -> T:
    """What a Deferred that has fired holds: its result, or its error raised."""
    outcomes: list[Any] = []
    deferred.addBoth(outcomes.append)
    assert outcomes, "the Deferred has not fired"
    if isinstance(outcomes[0], Failure):
        outcomes[0].raiseException()
    result: T = outcomes[0]
    return result


def make_origin(server: str = "vid-1", service: str = "s1", pid: str = "1", **listeners: tuple[str, ...]) -> Origin:
    """An origin with RTMP, unless other listeners are given."""
    return Origin("192.0.2.1", server, service, pid, "", **(listeners or {"rtmp": ("1935",)}))


def make_knowledge(clock: IReactorTime, seed: int = 1) -> Knowledge:
    """Nothing yet, with the lifetimes above, and chances that are the same in every run."""
    return Knowledge(
        clock,
        origin_lifetime=ORIGIN_LIFETIME,
        pick_lifetime=PICK_LIFETIME,
        hls_lifetime=SESSION_LIFETIME,
        webrtc_lifetime=SESSION_LIFETIME,
        set_aside=SET_ASIDE,
        down_after=DOWN_AFTER,
        random=Random(seed),
    )


def make_balancer(clock: Clock, policy: str = "least-streams") -> MemoryLoadBalancer:
    """A balancer that begins with :func:`make_knowledge`."""
    return MemoryLoadBalancer(make_knowledge(clock), POLICIES[policy])


@implementer(ILogObserver)
class Logged:
    """The log while a test runs."""

    def __init__(self) -> None:
        self._events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self._events.append(event)

    def at(self, level: LogLevel) -> list[str]:
        """The lines of our own at this level, in order."""
        return [
            formatEvent(event)
            for event in self._events
            if event["log_level"] is level and event["log_namespace"].startswith("srsproxy")
        ]


@contextmanager
def logging() -> Iterator[Logged]:
    """Collects the log."""
    logged = Logged()
    globalLogPublisher.addObserver(logged)
    try:
        yield logged
    finally:
        globalLogPublisher.removeObserver(logged)
