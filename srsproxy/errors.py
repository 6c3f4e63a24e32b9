"""Every exception that srsproxy raises on purpose, and how one is told to a person.

An error keeps its cause chain: each layer that adds context raises its own error ``from`` the one below, so that
:func:`describe` can tell the whole story in one line, outermost first::

    play live/a: connect origin 127.0.0.1:19351: connection refused

The one family that parsers raise for bad input is :class:`PeerError`; any other exception out of a parser is a bug.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from srsproxy.outcome import Outcome

_MAX_CHAIN = 8
"""Causes told at the most; a longer chain is a loop or noise."""


class SrsProxyError(Exception):
    """Base of all errors of srsproxy; :attr:`outcome` is how a session ends that dies of it."""

    outcome: ClassVar[Outcome] = Outcome.INTERNAL_ERROR


class ConfigError(SrsProxyError):
    """A setting cannot be used; the text names the setting, the value and what would be right."""


class PeerError(SrsProxyError):
    """A peer sent what its protocol does not allow; the text says what."""

    outcome = Outcome.BAD_REQUEST


class LimitExceeded(PeerError):
    """A peer went over a limit of ours; the text names the limit."""


class Refused(SrsProxyError):
    """Our own policy refuses the client: too many connections, or we are shutting down."""

    outcome = Outcome.REFUSED


class DeadlineExceeded(SrsProxyError):
    """A peer did not do within its deadline what it had to do."""

    outcome = Outcome.TIMEOUT


class NoOrigin(SrsProxyError):
    """No origin is registered that could serve the stream."""

    outcome = Outcome.NO_ORIGIN


class OriginUnreachable(SrsProxyError):
    """An origin refused the connection, did not answer it, or broke off before it said anything."""

    outcome = Outcome.ORIGIN_UNREACHABLE


class OriginRejected(SrsProxyError):
    """An origin was reached and does not want this stream.

    :ivar code: the protocol's own code if the origin sent one, such as ``NetStream.Publish.BadName``; else ``None``.
    """

    outcome = Outcome.REJECTED_BY_ORIGIN

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class OriginLost(SrsProxyError):
    """An origin's connection broke while a session used it."""

    outcome = Outcome.ORIGIN_LOST


def _one(error: BaseException) -> str:
    """One error without its causes, as a person would say it."""
    if isinstance(error, SrsProxyError):
        return str(error)
    if isinstance(error, ConnectTimeout):
        return "timed out"
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError).lower()
    if isinstance(error, (ConnectError, ConnectionClosed)):
        # Twisted's own texts are sentences that end in a full stop.
        doc = (type(error).__doc__ or type(error).__name__).strip().splitlines()[0]
        return doc.rstrip(".").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def describe(error: BaseException | Failure) -> str:
    """The error and its causes in one line, outermost first, joined by ``": "``."""
    exception: BaseException | None = error.value if isinstance(error, Failure) else error
    parts: list[str] = []
    while exception is not None and len(parts) < _MAX_CHAIN:
        part = " ".join(_one(exception).split())
        if part and (not parts or parts[-1] != part):
            parts.append(part)
        hidden = None if exception.__suppress_context__ else exception.__context__
        exception = exception.__cause__ or hidden
    return ": ".join(parts)


def outcome_of(error: BaseException | Failure) -> Outcome:
    """How a session ended that died of this error."""
    exception = error.value if isinstance(error, Failure) else error
    return exception.outcome if isinstance(exception, SrsProxyError) else Outcome.INTERNAL_ERROR


def log_failure(log: Logger, doing: str, failure: Failure, level: LogLevel = LogLevel.warn) -> None:
    """Tell a failure once: one line at ``level``, and its full traceback at debug level.

    A bug of ours (anything but :class:`SrsProxyError`) is told with its traceback at ``critical`` instead.
    """
    if isinstance(failure.value, SrsProxyError):
        log.emit(level, "{doing}: {reason}", doing=doing, reason=describe(failure))
        log.debug("{doing}: traceback of the line above\n{traceback}", doing=doing, traceback=failure.getTraceback())
    else:
        log.failure("{doing}: unexpected {reason}", failure, doing=doing, reason=describe(failure))


def in_background(log: Logger, doing: str, what: Deferred[Any]) -> None:
    """Nobody waits for this; its failure is of little interest."""
    what.addErrback(lambda failure: log_failure(log, doing, failure, LogLevel.debug))
