"""How an error is told: its chain in one line, its traceback only at debug level, once."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import provider

from srsproxy.errors import (
    DeadlineExceeded,
    LimitExceeded,
    NoOrigin,
    OriginLost,
    OriginRejected,
    OriginUnreachable,
    PeerError,
    Refused,
    SrsProxyError,
    describe,
    log_failure,
    outcome_of,
)
from srsproxy.outcome import Outcome


def chained(error: BaseException, *causes: BaseException) -> BaseException:
    """``error`` with ``causes`` below it."""
    for upper, lower in zip((error, *causes), causes, strict=False):
        upper.__cause__ = lower
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NoOrigin("no origin is registered"), "no origin is registered"),
        (
            chained(OriginUnreachable("connect origin 127.0.0.1:19351"), ConnectionRefusedError("Connection refused")),
            "connect origin 127.0.0.1:19351: connection was refused by other side",
        ),
        (
            chained(
                OriginUnreachable("connect origin a"),
                ConnectionRefusedError(osError=111),
            ),
            "connect origin a: connection refused",
        ),
        (
            chained(OriginUnreachable("connect origin a"), TimeoutError()),
            "connect origin a: timed out",
        ),
        (chained(OriginLost("lost"), ConnectionDone()), "lost: connection was closed cleanly"),
        (chained(OriginUnreachable("a"), OSError(101, "Network is unreachable")), "a: network is unreachable"),
        (chained(OriginUnreachable("a"), OriginUnreachable("a"), PeerError("b")), "a: b"),
        (chained(SrsProxyError("two\nlines"), ValueError()), "two lines: ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_the_causes_are_told_in_one_line_outermost_first(error: BaseException, told: str) -> None:
    assert describe(error) == told
    assert describe(Failure(error)) == told


def test_a_chain_without_end_is_told_all_the_same() -> None:
    one, two = PeerError("one"), PeerError("two")
    one.__cause__, two.__cause__ = two, one
    assert describe(one).startswith("one: two: one")


def test_a_suppressed_context_is_not_told_and_another_is() -> None:
    def fail(suppress: bool) -> BaseException:
        try:
            try:
                raise KeyError("inner")
            except KeyError:
                if suppress:
                    raise PeerError("outer") from None
                raise PeerError("outer")  # noqa: B904 - the implicit context is what is tested
        except PeerError as error:
            return error

    assert describe(fail(suppress=True)) == "outer"
    assert describe(fail(suppress=False)) == "outer: KeyError: 'inner'"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PeerError(""), Outcome.BAD_REQUEST),
        (LimitExceeded(""), Outcome.BAD_REQUEST),
        (Refused(""), Outcome.REFUSED),
        (DeadlineExceeded(""), Outcome.TIMEOUT),
        (NoOrigin(""), Outcome.NO_ORIGIN),
        (OriginUnreachable(""), Outcome.ORIGIN_UNREACHABLE),
        (OriginRejected("", None), Outcome.REJECTED_BY_ORIGIN),
        (OriginLost(""), Outcome.ORIGIN_LOST),
        (ValueError(""), Outcome.INTERNAL_ERROR),
    ],
)
def test_each_error_is_one_outcome(error: BaseException, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome
    assert outcome_of(Failure(error)) is outcome


def logged(error: BaseException) -> list[LogEvent]:
    events: list[LogEvent] = []

    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    try:
        raise error
    except type(error):
        log_failure(Logger("srsproxy.test", observer=observer), "play live/a", Failure())
    return events


def test_an_expected_error_is_one_line_and_its_traceback_is_for_debug() -> None:
    line, traceback = logged(NoOrigin("no origin is registered"))
    assert line["log_level"] is LogLevel.warn
    assert (line["doing"], line["reason"]) == ("play live/a", "no origin is registered")
    assert "log_failure" not in line
    assert traceback["log_level"] is LogLevel.debug
    assert "in logged" in traceback["traceback"]


def test_a_bug_is_told_with_its_traceback() -> None:
    (event,) = logged(ZeroDivisionError("division by zero"))
    assert event["log_level"] is LogLevel.critical
    assert event["log_failure"].check(ZeroDivisionError)
