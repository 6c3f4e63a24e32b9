"""One request to an origin, and its whole answer: for what is small, and not relayed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from srsproxy.deadline import Deadline
from srsproxy.errors import DeadlineExceeded, OriginLost, OriginRejected, PeerError
from srsproxy.http.collected import CollectedBody
from srsproxy.http.head import HeadLimits, ResponseHead, parse_response, response_body
from srsproxy.http.upstream import OriginConnection

MAX_BODY: Final = 256 * 1024
"""Bytes of an answer's body. An SDP answer with all codecs has some 10 KB, and twice as much within JSON."""


async def call(
    clock: IReactorTime, connection: OriginConnection, method: bytes, request: bytes, limits: HeadLimits, seconds: float
) -> tuple[ResponseHead, bytes]:
    """Send a request and wait for the answer, whose head and body are the result. The connection is closed then.

    :param method: of the request.
    :param request: all of it.
    :param limits: of the answer's head.
    :param seconds: in which the whole answer must have come.
    :raises OriginRejected: the origin closed the connection in good order, and said nothing.
    :raises OriginLost: it broke the connection, closed it in the middle of the answer, or sent what is none.
    :raises DeadlineExceeded: it took too long.
    """
    waiting = _Call(connection.name, method, limits)
    deadline = Deadline(clock)
    deadline.expect(f"no answer from {connection.name}", seconds, waiting.too_late)
    try:
        connection.send(request, waiting)
        return await waiting.answered
    finally:
        deadline.cancel()
        connection.abort()


class _Call:
    """Receives an answer (ResponseReceiver)."""

    def __init__(self, name: str, method: bytes, limits: HeadLimits) -> None:
        self.answered: Deferred[tuple[ResponseHead, bytes]] = Deferred()
        self._name = name
        self._method = method
        self._limits = limits
        self._received = b""
        self._head: ResponseHead | None = None
        self._body = CollectedBody("the answer", 0, MAX_BODY)

    def response_received(self, data: bytes) -> None:
        try:
            self._receive(data)
        except PeerError as error:
            self._fail(_lost(f"{self._name}: its answer cannot be used", error))

    def origin_closed(self, reason: Failure) -> None:
        clean = bool(reason.check(ConnectionDone))
        if self._head is not None and clean and self._body.ends_with_connection:
            self._complete(self._head)
        elif self._head is None and not self._received and clean:
            self._fail(OriginRejected(f"{self._name}: closed the connection instead of an answer"))
        else:
            self._fail(_lost(f"{self._name}: broke off", reason.value))

    def too_late(self, what: str) -> None:
        self._fail(DeadlineExceeded(what))

    def _receive(self, data: bytes) -> None:
        if self._head is None:
            self._received += data
            head = self._read_head()
            if head is None:
                return
            self._head, data = head, self._received
            self._body = CollectedBody("the answer", response_body(head, self._method), MAX_BODY)
        self._body.receive_data(data)
        if self._body.complete:
            self._complete(self._head)

    def _read_head(self) -> ResponseHead | None:
        """The head, if it is there, without interim ones (RFC 9110, section 15.2)."""
        while (parsed := parse_response(self._received, self._limits)) is not None:
            head, size = parsed
            self._received = self._received[size:]
            if head.status >= HTTPStatus.OK:
                return head
        return None

    def _complete(self, head: ResponseHead) -> None:
        if not self.answered.called:
            self.answered.callback((head, self._body.body))

    def _fail(self, error: Exception) -> None:
        if not self.answered.called:
            self.answered.errback(error)


def _lost(text: str, cause: BaseException | None) -> OriginLost:
    error = OriginLost(text)
    error.__cause__ = cause
    return error
