"""The record of each session of one server, and its line in the log."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from srsproxy.errors import log_failure
from srsproxy.log import ContextLogger
from srsproxy.outcome import Outcome
from srsproxy.stats import Session, Stats


class SessionLog:
    """Opens and closes the records of a server's sessions.

    :param source: the server's name in logs.
    :param clock: tells the time, in seconds.
    """

    def __init__(self, source: str, stats: Stats, clock: IReactorTime) -> None:
        self._source = source
        self._stats = stats
        self._clock = clock

    def open(self, protocol: str, context: str, peer: str) -> Session:
        """Begin the record of a session.

        :param protocol: under which it is counted.
        :param context: id of the connection that it belongs to.
        """
        return self._stats.open(protocol, context, peer, self._clock.seconds())

    def close(
        self,
        session: Session,
        outcome: Outcome,
        error: BaseException | Failure | None,
        level: LogLevel = LogLevel.warn,
    ) -> None:
        """End the record, and say so in the log: once, in one line.

        :param level: for the error; of a session that has not named a stream it is told at level ``info`` at the most.
        """
        self._stats.end(session, outcome)
        log = ContextLogger(self._source, session.context)
        if error is not None:
            failure = error if isinstance(error, Failure) else Failure(error)
            doing = f"{session.doing} from {session.peer}: {outcome.value}"
            log_failure(log, doing, failure, level if session.key is not None else min(level, LogLevel.info))
            return
        told = "{doing} from {peer}: {outcome} after {seconds:.1f} s, {received} bytes in, {sent} bytes out"
        if session.received_drops or session.sent_drops:
            told += ", {received_drops} packets in and {sent_drops} out dropped"
        log.emit(
            LogLevel.debug if session.key is None else LogLevel.info,
            told,
            doing=session.doing,
            peer=session.peer,
            outcome=outcome.value,
            seconds=self._clock.seconds() - session.started,
            received=session.received,
            sent=session.sent,
            received_drops=session.received_drops,
            sent_drops=session.sent_drops,
        )

    def close_unsaid(self, session: Session, outcome: Outcome) -> None:
        """End the record of one of very many short sessions, such as a request for a segment that was answered well: a
        line for each would cost more than the session, and hide the others."""
        self._stats.end(session, outcome)
