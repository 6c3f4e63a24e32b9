"""One HTTP client's connection: requests, one after the other, and an :class:`Exchange` for each.

At any time the connection does one of these:

*between requests*: the head of the next one is awaited or comes in; the connection's own deadlines hold. *in a body*:
the head is there, its body is not. *in an exchange*: the deadlines are the exchange's; what the client sends already is
kept, up to the size of a head, and then left to the kernel. *closing*: nothing it sends counts any more.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from srsproxy.address import client_address, is_within
from srsproxy.balancer.model import Endpoint
from srsproxy.clients import Client
from srsproxy.deadline import Deadline
from srsproxy.errors import DeadlineExceeded, PeerError, Refused, outcome_of
from srsproxy.http.exchange import Exchange
from srsproxy.http.forwarding import answer, client_chain, error_answer, origin_request
from srsproxy.http.head import RequestHead, keeps_alive, parse_request
from srsproxy.http.refusal import bad_request, refusal
from srsproxy.http.requestbody import RequestBody
from srsproxy.http.shared import SOURCE, Shared
from srsproxy.http.target import Kind, Target, read_target
from srsproxy.http.writer import Writer
from srsproxy.interfaces import IStreamConnection
from srsproxy.limits import Admission
from srsproxy.log import new_context_id
from srsproxy.outcome import Outcome
from srsproxy.transports import close_write, tune

LINGER: Final = 5.0
"""Seconds in which a client may read the end of the last answer, and close: closing at once, with bytes of it unread,
would reset the connection and lose the answer."""

METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""What streams, files and pages are asked for with. SRS takes anything for a GET."""

_ALLOW: Final = [(b"Allow", b"GET, HEAD, OPTIONS")]
_LINE_ENDS: Final = b"\r\n"
"""Some clients send one behind a request; that is not the beginning of another."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpClient(Client):
    """See the module's text.

    :param gone: called with this client when its connection is.
    :ivar persistent: whether the connection may be used on after the present request.
    """

    transport: IStreamConnection

    def __init__(self, shared: Shared, gone: Callable[[HttpClient], None]) -> None:
        self._shared = shared
        self._gone = gone
        self._buffer = b""
        self._request: RequestHead | None = None
        self._body: RequestBody | None = None
        self._exchange: Exchange | None = None
        self._addressed = False
        self._request_begun = False
        self._conversing = False
        self._paused = False
        self._finishing = False
        self._closing = False
        self._complained = False
        self.persistent = True

    # The transport

    def connectionMade(self) -> None:
        shared = self._shared
        self.context = new_context_id()
        self.writer = Writer(self.transport, self._written)
        self.deadline = Deadline(shared.reactor)
        self._secure = ISSLTransport.providedBy(self.transport)
        self._admission = Admission(shared.limits, "")
        tune(self.transport, shared.settings.stall_timeout)
        self._expect("no HTTP request", shared.settings.http_request_timeout)
        try:
            self._look_at_address()
        except Refused as error:
            self._refuse(*refusal(error), error)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._exchange is None:
            self._converse()
        if len(self._buffer) > self._shared.head_limits.max_size:
            # It waits for the end of an exchange, or for the client to read what it was answered.
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon(Outcome.FINISHED if reason.check(ConnectionDone) else Outcome.CLIENT_LOST)
        self._closing = True
        self.deadline.cancel()
        self.writer.close()
        self._admission.leave()
        self._gone(self)

    def _look_at_address(self) -> None:
        """Behind the PROXY protocol, the client's own address is known when its first bytes are, and not before.

        :raises Refused: there is no place for one more from there.
        """
        self._address = client_address(self.transport.getPeer())
        self._chain = [self._address]
        self._from_front = is_within(self._address, self._shared.settings.trusted_addresses)
        if self._address != self._admission.address:
            self._admission.move(self._address)

    # Requests

    def _converse(self) -> None:
        """Act on what the client has sent, up to where an exchange begins that takes its time."""
        if self._conversing:
            return  # An exchange was over at once; the loop that began it goes on.
        self._conversing = True
        try:
            while self._buffer and not self._closing and self._exchange is None and self.writer.clear:
                if not self._next_request():
                    break
        except Refused as error:
            self._refuse(*refusal(error), error)
        finally:
            self._conversing = False

    def _next_request(self) -> bool:
        """Read one request, and begin its exchange; whether there was a whole one."""
        try:
            if self._request is None:
                parsed = parse_request(self._buffer, self._shared.head_limits)
                if parsed is None:
                    if self._buffer.strip(_LINE_ENDS):
                        self._await_rest()
                    return False
                self._head_received(*parsed)
            if self._body is not None:
                self._buffer = self._body.receive_data(self._buffer)
                if not self._body.complete:
                    self._await_rest()
                    return False
        except PeerError as error:
            # Where the next request begins is not known any more.
            self._refuse(*bad_request(error, in_body=self._request is not None), error)
            return False
        self._request_begun = False
        request, self._request = self._request, None
        body, self._body = self._body, None
        if request is not None:
            self._begin(request, body.content if body is not None else b"")
        return True

    def _await_rest(self) -> None:
        if not self._request_begun:
            self._request_begun = True
            self._expect("no whole HTTP request", self._shared.settings.http_request_timeout)

    def _head_received(self, request: RequestHead, size: int) -> None:
        if not self._addressed:
            self._addressed = True
            self._look_at_address()
        self._buffer = self._buffer[size:]
        self._request = request
        self._body = RequestBody.of(request)
        self.persistent = keeps_alive(request) and not self._finishing
        if self._body is not None and request.minor and (request.value(b"expect") or b"").lower() == b"100-continue":
            self.writer.write(_CONTINUE)

    def _begin(self, request: RequestHead, body: bytes) -> None:
        if self._from_front:
            self._chain = client_chain(request, self._address, self._is_front)
        if request.method not in METHODS:
            self._answer_error(request, HTTPStatus.METHOD_NOT_ALLOWED, "the method must be GET, HEAD or OPTIONS")
            return
        if request.target == b"*" and request.method == b"OPTIONS":
            self._answer_options(request)
            return
        try:
            target = read_target(request.target, request.value(b"host") or b"", self._shared.settings.vhosts)
        except PeerError as error:
            self._answer_error(request, HTTPStatus.BAD_REQUEST, str(error))
            return
        if target.kind is Kind.LOCAL and request.method == b"OPTIONS":
            self._answer_options(request)
            return
        self._admission.identified()
        self._exchange = exchange = Exchange(self._shared, self, request, target, body)
        exchange.start()

    def _is_front(self, address: str) -> bool:
        return is_within(address, self._shared.settings.trusted_addresses)

    def origin_head(self, request: RequestHead, target: Target, body_length: int) -> bytes:
        """See :meth:`Asker.origin_head`."""
        playlist = target.kind is Kind.PLAYLIST
        return origin_request(
            request,
            target=target.forwarded,
            chain=self._chain,
            from_front=self._from_front,
            scheme="https" if self._secure else "http",
            authority=target.authority or self._own_authority,
            body=body_length,
            method=b"GET" if playlist and request.method == b"HEAD" else None,
            to_rewrite=playlist,
        )

    @property
    def _own_authority(self) -> bytes:
        """What a client of HTTP/1.0 means that names no host: where it has reached us."""
        here = self.transport.getHost()
        if not isinstance(here, (IPv4Address, IPv6Address)):
            return b"localhost"
        return str(Endpoint(here.host, here.port)).encode()

    @property
    def peer(self) -> str:
        """The client's own address, also if fronts that are trusted are between."""
        return self._chain[0]

    def _answer_options(self, request: RequestHead) -> None:
        """What can be done with our own pages, and in general. The origins are asked about what is theirs."""
        self.writer.write(
            answer(
                HTTPStatus.OK,
                head_only=False,
                keep_alive=self.persistent,
                request_minor=request.minor,
                fields=[*_ALLOW, (b"Access-Control-Allow-Origin", b"*")],
            )
        )
        self.answered()

    def _answer_error(self, request: RequestHead, status: HTTPStatus, text: str) -> None:
        """Answer a request that was understood, and must not be."""
        self.writer.write(
            error_answer(
                status,
                text,
                head_only=request.method == b"HEAD",
                keep_alive=self.persistent,
                request_minor=request.minor,
                extra=_ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else (),
            )
        )
        self._record(PeerError(text))
        self.answered()

    # The exchange is over (Asker)

    def answered(self) -> None:
        """See :meth:`Asker.answered`."""
        self._exchange = None
        if not self.persistent or self._finishing:
            self._close()
        elif self.writer.clear:
            self._go_on()

    def break_off(self, reset: bool) -> None:
        """See :meth:`Asker.break_off`."""
        self._exchange = None
        self._closing = True
        self.deadline.cancel()
        self.writer.close()
        if reset:
            self.transport.abortConnection()
        else:
            self._stop_lingering("")

    def _written(self) -> None:
        """The kernel has all that was written."""
        if self._exchange is None and self._request is None and not self._closing:
            self._go_on()

    def _go_on(self) -> None:
        """Wait for the next request, or take the one that has come meanwhile."""
        self._expect("no further HTTP request", self._shared.settings.http_idle_timeout)
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        self._converse()

    # Ends

    def _expect(self, what: str, seconds: float) -> None:
        self.deadline.expect(what, seconds, self._too_late)

    def _too_late(self, what: str) -> None:
        if self._exchange is not None:
            return  # The request came in time; its exchange is still looking for an origin.
        if self._request_begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time", DeadlineExceeded(what))
        else:
            self._close()

    def _refuse(self, status: int, text: str, error: Refused | PeerError | DeadlineExceeded) -> None:
        """Answer what cannot be understood or is not wanted, and close."""
        self.persistent = False
        self._record(error)
        self.writer.write(error_answer(status, text, head_only=False, keep_alive=False, request_minor=1))
        self._close()

    def _record(self, error: Refused | PeerError | DeadlineExceeded) -> None:
        """Count a request that has named no stream, and tell the first one of a connection, lest it floods the log."""
        sessions = self._shared.sessions
        session = sessions.open(SOURCE, self.context, self.peer)
        if self._complained:
            sessions.close_unsaid(session, outcome_of(error))
        else:
            self._complained = True
            sessions.close(session, outcome_of(error), error)

    def _close(self) -> None:
        """Close, but give the client the time to read what was written last."""
        self._closing = True
        self._buffer = b""
        self.writer.close()
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        close_write(self.transport)
        self.deadline.expect("the client did not close", LINGER, self._stop_lingering)

    def _stop_lingering(self, _what: str) -> None:
        # TLS waits for its peer to say goodbye as well, and a transport for its buffer to be empty.
        self.deadline.expect("the client did not go", self._shared.settings.stall_timeout, self._stop_waiting)
        self.transport.loseConnection()

    def _stop_waiting(self, _what: str) -> None:
        self.transport.abortConnection()

    def finish(self) -> None:
        """See :meth:`Client.finish`."""
        self._finishing = True
        self.persistent = False
        if self._exchange is None and self._request is None and not self._closing:
            self._close()

    def shut_down(self) -> None:
        """See :meth:`Client.shut_down`."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon(Outcome.SHUTDOWN)
        self.transport.abortConnection()
