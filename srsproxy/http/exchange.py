r"""One request and its answer: from the request's head to the last byte of the body.

A request takes these steps; each can be the last::

    choose --> reach --> wait --> answer
        \_______________/ ^          \__ a playlist that has to be asked for again
       a pooled connection \_____________/

*choose*: which origin, by the token that a playlist gave the viewer, or else by the stream's pick. *reach*: a new
connection, to that origin or, if it cannot be reached, to the next. *wait*: for the head of the answer. *answer*: the
head is with the client, and the body is on its way: by the relay, or through one of the methods that take what the
origin sends.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.deadline import Deadline
from srsproxy.errors import (
    DeadlineExceeded,
    OriginLost,
    OriginRejected,
    PeerError,
    outcome_of,
)
from srsproxy.http.boundary import LAST_CHUNK, ChunkDecoder, ChunkedBoundary, LengthBoundary
from srsproxy.http.collected import CollectedPlaylist
from srsproxy.http.forwarding import client_response, error_answer, relocated
from srsproxy.http.head import Framing, RequestHead, ResponseHead, keeps_alive, parse_response, response_body
from srsproxy.http.playlist import is_master_for_stranger
from srsproxy.http.refusal import refusal
from srsproxy.http.search import PLAY, Search
from srsproxy.http.shared import SOURCE, Shared
from srsproxy.http.target import Kind, Target
from srsproxy.http.upstream import OriginConnection
from srsproxy.http.writer import Writer
from srsproxy.interfaces import IBoundary, IRelayedHalf, IRelayObserver, IStreamConnection
from srsproxy.log import ContextLogger
from srsproxy.outcome import Outcome
from srsproxy.relay.model import EndReason
from srsproxy.stats import Session
from srsproxy.transports import Throttle

SMALL_BODY: Final = 64 * 1024
"""Bytes still to come of a body up to which it is not worth handing two connections to the relay. So much can one
answer leave in the buffer of a client that does not read; the next request waits until it has."""

BROKE_OFF: Final = "broke off its answer"
UNUSABLE: Final = "its answer cannot be used"


class Asker(Interface):
    """The client's connection, as its exchange sees it.

    :ivar persistent: whether it may be used on after this exchange.
    """

    transport: IStreamConnection
    writer: Writer
    deadline: Deadline
    context: str
    persistent: bool

    @property
    def peer(self) -> str:
        """The client's address."""

    def origin_head(self, request: RequestHead, target: Target, body_length: int) -> bytes:
        """The head of the request for an origin."""

    def answered(self) -> None:
        """The exchange is over, and all of the answer is written."""

    def break_off(self, reset: bool) -> None:
        """The exchange is over in the middle of an answer, which the client has to notice.

        :param reset: an orderly end of the connection would look like that of the answer.
        """


@implementer(IRelayObserver)
class Exchange:
    """See the module's text. It is over when it has called ``answered`` or ``break_off`` of its asker, which may be
    from within :meth:`start`, or when it was told to :meth:`abandon`."""

    __slots__ = (
        "_again",
        "_asker",
        "_begun",
        "_body",
        "_boundary",
        "_connection",
        "_decoder",
        "_half",
        "_playlist",
        "_received",
        "_request",
        "_request_bytes",
        "_response",
        "_search",
        "_shared",
        "_take",
        "_target",
        "session",
    )

    def __init__(self, shared: Shared, asker: Asker, request: RequestHead, target: Target, body: bytes) -> None:
        self._shared = shared
        self._asker = asker
        self._request = request
        self._target = target
        self._body = body
        self._request_bytes = b""
        self._connection: OriginConnection | None = None
        self._take: Callable[[Exchange, bytes], None] = Exchange._wait
        self._received = b""
        self._again = False
        self._begun = False
        self._boundary: IBoundary | None = None
        self._half: IRelayedHalf | None = None
        self.session: Session = shared.sessions.open(target.format or SOURCE, asker.context, asker.peer)
        self._search = Search(shared, target, self.session, self)

    def start(self) -> None:
        """Go through all steps."""
        self._search.begin()

    # Choosing an origin, and reaching it (Seeker)

    def connection_found(self, connection: OriginConnection) -> None:
        self._connection = connection
        if not self._request_bytes:
            head = self._asker.origin_head(self._request, self._target, len(self._body))
            self._request_bytes = head + self._body
        settings = self._shared.settings
        seconds = settings.http_wait_timeout if self._search.kind is Kind.LIVE else settings.http_origin_timeout
        self._asker.deadline.expect(f"no answer from {connection.name}", seconds, self._too_late)
        self._take, self._received = Exchange._wait, b""
        connection.send(self._request_bytes, self)

    def search_failed(self, failure: Failure) -> None:
        self._fail(failure)

    # The origin's side (ResponseReceiver)

    def response_received(self, data: bytes) -> None:
        try:
            self._take(self, data)
        except PeerError as error:
            self._lost(UNUSABLE, error)

    def origin_closed(self, reason: Failure) -> None:
        connection, self._connection = self._connection, None
        clean = bool(reason.check(ConnectionDone))
        if connection is None:
            return
        if self._half is not None:
            if clean:
                self._half.read_closed()
            else:
                self._stop_relay()
                self._lost(BROKE_OFF, reason.value)
        elif self._begun or self._take is not Exchange._wait:
            self._closed_in_body(reason)
        elif connection.used and not self._received and not self._body:
            # It was closed while our request was on its way to it. Nothing was done about it, so it can be sent again.
            self._search.renew()
        elif clean and not self._received and self._search.origin is not None:
            # SRS's only word for: a hook refuses, not allowed, no such vhost (wire-facts 3).
            self._fail(OriginRejected(f"{connection.name}: closed the connection instead of an answer"))
        else:
            self._lost(BROKE_OFF, reason.value)

    def _closed_in_body(self, reason: Failure) -> None:
        clean = reason.check(ConnectionDone)
        if self._take is Exchange._collect and self._playlist.ends_with_connection and clean:
            try:
                self._answer_playlist(surplus=True)
            except PeerError as error:
                self._lost(UNUSABLE, error)
        elif self._take is Exchange._dechunk and clean and self._decoder.between_chunks:
            self._end_dechunked()
        else:
            self._lost(BROKE_OFF, reason.value)

    def _lost(self, how: str, cause: BaseException | None) -> None:
        error = OriginLost(f"{self._name}: {how}")
        error.__cause__ = cause
        self._fail(error)

    # The answer

    def _wait(self, data: bytes) -> None:
        """Read the answer's head."""
        received = self._received + data if self._received else data
        while (parsed := parse_response(received, self._shared.head_limits)) is not None:
            head, used = parsed
            received = received[used:]
            if head.status >= HTTPStatus.OK:
                self._received = b""
                self._head_received(head, received)
                return
            if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise PeerError("it switches protocols, and was not asked to")
        self._received = received

    def _head_received(self, head: ResponseHead, rest: bytes) -> None:
        self._response = head
        playlist = self._search.kind is Kind.PLAYLIST and self._request.method != b"OPTIONS"
        if playlist and head.status == HTTPStatus.NOT_FOUND and not self._again and self._search.leads_elsewhere:
            self._again = True
            self._leave_connection(surplus=True)
            self._search.go_elsewhere()
            return
        if playlist and head.status == HTTPStatus.OK:
            self._playlist = CollectedPlaylist(
                head, response_body(head, b"GET"), self._shared.settings.http_max_playlist_size
            )
            self._take = Exchange._collect
            self._collect(rest)
            return
        framing = response_body(head, self._request.method)
        if framing is Framing.CHUNKED and not self._request.minor:
            self._begin(Framing.UNTIL_CLOSE)
            self._begin_dechunking(rest)
            return
        own = len(rest)
        if framing is not Framing.UNTIL_CLOSE:
            self._boundary = LengthBoundary(framing) if isinstance(framing, int) else ChunkedBoundary()
            own = self._boundary.inspect(memoryview(rest)) if not self._boundary.complete else 0
        self._begin(None if self._request.method == b"HEAD" else framing, rest[:own])
        if self._boundary is None or not self._boundary.complete:
            if isinstance(framing, int) and self._boundary is not None and self._boundary.opaque <= SMALL_BODY:
                self._take = Exchange._copy
            else:
                self._start_relay()
        else:
            self._complete(surplus=own < len(rest))

    def _begin(self, framing: int | Framing | None, body: bytes = b"", *, rewritten: bool = False) -> None:
        """Write the head, and what is there of the body. ``framing`` is ``None`` if the origin's head has the length of
        a body that it was not asked for."""
        if framing is Framing.UNTIL_CLOSE:
            self._asker.persistent = False
        self._begun = True
        head = client_response(
            self._response,
            framing=framing,
            keep_alive=self._asker.persistent,
            request_minor=self._request.minor,
            replaced=self._relocated(),
            rewritten=rewritten,
        )
        self._write(head + body if body else head)

    def _relocated(self) -> list[tuple[bytes, bytes]]:
        """A redirection to the origin itself, led through the proxy."""
        location = self._response.value(b"location")
        if location is None or self._connection is None:
            return []
        authority = self._connection.name.encode()
        return [(b"Location", relocated(location, [authority, authority.removesuffix(b":80")]))]

    def _write(self, data: bytes) -> None:
        self.session.sent += len(data)
        self._asker.writer.write(data)

    def _copy(self, data: bytes) -> None:
        """Take the rest of a small body."""
        if self._boundary is None:
            raise ValueError("a body of no known length is relayed")
        own = self._boundary.inspect(memoryview(data))
        self._write(data[:own] if own < len(data) else data)
        if self._boundary.complete:
            self._complete(surplus=own < len(data))

    def _begin_dechunking(self, rest: bytes) -> None:
        """A client of HTTP/1.0 knows no chunks: it gets a body that ends with the connection."""
        self._decoder = ChunkDecoder()
        self._take = Exchange._dechunk
        self._tell_started()
        self._asker.writer.lend()
        self._asker.transport.registerProducer(Throttle(self._required_connection.transport), True)
        self._dechunk(rest)

    def _dechunk(self, data: bytes) -> None:
        """Take chunks, pass on what is in them."""
        self._write(b"".join(self._decoder.receive_data(data)))
        if self._decoder.complete:
            self._end_dechunked()

    def _end_dechunked(self) -> None:
        self._complete(surplus=True)

    def _collect(self, data: bytes) -> None:
        """Take a playlist."""
        surplus = self._playlist.receive_data(data)
        if self._playlist.complete:
            self._answer_playlist(surplus)

    def _answer_playlist(self, surplus: bool) -> None:
        origin = self._search.origin
        if origin is None:
            raise ValueError("a playlist without an origin")
        text = self._playlist.text()
        if not self._again and is_master_for_stranger(text, self._target.forwarded):
            # The viewer comes from another origin. This one has learnt of it now, and gives the media playlist next.
            self._again = True
            self._leave_connection(surplus)
            self._search.repeat()
            return
        body = self._playlist.rewritten(text, self._shared.pins.pinning(origin))
        self._begin(len(body), b"" if self._request.method == b"HEAD" else body, rewritten=True)
        self._complete(surplus)

    # The relay (IRelayObserver)

    def _start_relay(self) -> None:
        asker, connection = self._asker, self._required_connection
        self._tell_started()
        connection.transport.pauseProducing()
        clear = asker.writer.lend()
        self._half = connection.half = self._shared.relay.relay(
            connection.transport, asker.transport, self, bulk=True, boundary=self._boundary, sink_clear=clear
        )

    def _tell_started(self) -> None:
        """From here on a live stream takes as long as it takes; anything else has to go on and on."""
        if self.session.action == PLAY:
            self._asker.deadline.cancel()
            self._log.info("{what}: started on {origin}", what=self.session.doing, origin=self.session.origin)
        else:
            self._watch_progress(0)

    def _watch_progress(self, before: int) -> None:
        def look(what: str) -> None:
            so_far = self.session.sent + (self._half.relayed if self._half is not None else 0)
            if so_far == before:
                self._too_late(what)
            else:
                self._watch_progress(so_far)

        self._asker.deadline.expect("nothing of the body went on", self._shared.settings.stall_timeout, look)

    def relay_ended(self, half: IRelayedHalf, reason: EndReason) -> None:
        self._forget_half(half, half.bypasses_sink)
        match reason:
            case EndReason.COMPLETE:
                self._complete(half.surplus)
            case EndReason.EOF if self._boundary is None:
                self._complete(surplus=True)
            case EndReason.EOF if isinstance(self._boundary, ChunkedBoundary) and self._boundary.between_chunks:
                # So ends a live stream of SRS (wire-facts 3).
                self._write(LAST_CHUNK)
                self._complete(surplus=True)
            case EndReason.SINK_LOST:
                self._end(Outcome.CLIENT_LOST)
                self._asker.break_off(reset=True)
            case _:
                self._lost(f"{BROKE_OFF} ({reason.value})", None)

    def _stop_relay(self) -> None:
        half = self._half
        if half is not None:
            clear = half.bypasses_sink
            rest = half.stop()
            self._forget_half(half, clear)
            if rest:
                self._write(rest)

    def _forget_half(self, half: IRelayedHalf, clear: bool) -> None:
        self.session.sent += half.relayed
        self._half = None
        if self._connection is not None:
            self._connection.half = None
        self._asker.writer.take_back(clear)

    # Ends

    def _complete(self, surplus: bool) -> None:
        """The whole answer is with the client.

        :param surplus: the connection to the origin cannot be used for another request.
        """
        self._leave_connection(surplus)
        self._end(Outcome.FINISHED)
        self._asker.answered()

    def _leave_connection(self, surplus: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # SRS closes after a request with a body, and sends the body of an answer to HEAD (wire-facts 3).
        if surplus or self._body or self._request.method == b"HEAD" or not _stays(self._response):
            connection.abort()
        else:
            connection.release()

    def _too_late(self, what: str) -> None:
        self._fail(DeadlineExceeded(what))

    def _fail(self, error: BaseException | Failure) -> None:
        """End by an error: tell the client why if it has not got the head of an answer yet."""
        if self.session.outcome is not None:
            return
        self._end(outcome_of(error), error)
        if self._begun:
            # A body without a boundary ends with the connection.
            self._asker.break_off(reset=self._boundary is None)
        else:
            status, text = refusal(error.value if isinstance(error, Failure) else error)
            self._asker.writer.write(
                error_answer(
                    status,
                    text,
                    head_only=self._request.method == b"HEAD",
                    keep_alive=self._asker.persistent,
                    request_minor=self._request.minor,
                )
            )
            self._asker.answered()

    def abandon(self, outcome: Outcome) -> None:
        """The client is gone, or is to go: end at once. The asker is told nothing."""
        if self.session.outcome is None:
            self._end(outcome)

    def _end(self, outcome: Outcome, error: BaseException | Failure | None = None) -> None:
        self._stop_relay()
        if error is not None or self.session.action == PLAY:
            self._shared.sessions.close(self.session, outcome, error)
        else:
            self._shared.sessions.close_unsaid(self.session, outcome)
        self._search.cancel()
        if self._take is Exchange._dechunk:
            self._asker.transport.unregisterProducer()
            self._asker.writer.take_back()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    @property
    def _required_connection(self) -> OriginConnection:
        if self._connection is None:
            raise ValueError(f"session {self.session.context} has no origin")
        return self._connection

    @property
    def _name(self) -> str:
        return f"origin {self.session.origin}"

    @property
    def _log(self) -> ContextLogger:
        return ContextLogger(SOURCE, self.session.context)


def _stays(response: ResponseHead) -> bool:
    """Whether the origin waits for another request. SRS says that it closes, and does what the request said, which was
    nothing of the kind."""
    return keeps_alive(response) or (response.value(b"server") or b"").startswith(b"SRS/")
