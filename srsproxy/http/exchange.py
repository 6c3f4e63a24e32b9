r"""One request and its answer: from the request's head to the last byte of the body.

A request takes these steps; each can be the last::

    choose --> reach --> wait --> answer
        \_______________/ ^          \__ a playlist that has to be asked for again
       a pooled connection \_____________/

*choose*: which origin, by the token that a playlist gave the viewer, or else by the stream's pick. *reach*: a new
connection, to that origin or, if it cannot be reached, to the next. *wait*: for the head of the answer. *answer*: the
head is with the client, and the body is on its way (:mod:`srsproxy.http.transfer`); a playlist is collected first.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from srsproxy.deadline import Deadline
from srsproxy.errors import (
    DeadlineExceeded,
    OriginLost,
    OriginRejected,
    PeerError,
    outcome_of,
)
from srsproxy.http.collected import CollectedPlaylist
from srsproxy.http.forwarding import client_response, error_answer, relocated
from srsproxy.http.head import Framing, RequestHead, ResponseHead, keeps_alive, parse_response, response_body
from srsproxy.http.playlist import is_master_for_stranger
from srsproxy.http.refusal import refusal
from srsproxy.http.search import PLAY, Search
from srsproxy.http.shared import SOURCE, Shared
from srsproxy.http.target import Kind, Target
from srsproxy.http.transfer import BROKE_OFF, Transfer
from srsproxy.http.upstream import OriginConnection
from srsproxy.http.writer import Writer
from srsproxy.interfaces import IStreamConnection
from srsproxy.log import ContextLogger
from srsproxy.outcome import Outcome
from srsproxy.stats import Session

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


class Exchange:
    """See the module's text. It is over when it has called ``answered`` or ``break_off`` of its asker, which may be
    from within :meth:`start`, or when it was told to :meth:`abandon`."""

    __slots__ = (
        "_asked_again",
        "_asked_elsewhere",
        "_asker",
        "_body",
        "_connection",
        "_playlist",
        "_received",
        "_request",
        "_request_bytes",
        "_response",
        "_search",
        "_shared",
        "_take",
        "_target",
        "_transfer",
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
        self._asked_elsewhere = False
        self._asked_again = False
        self._playlist: CollectedPlaylist | None = None
        self._transfer: Transfer | None = None
        self.session: Session = shared.sessions.open(target.format or SOURCE, asker.context, asker.peer)
        self._search = Search(shared, target, self.session, self, fresh=bool(body))

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
        self._asker.deadline.expect(f"no answer from {self._name}", seconds, self._too_late)
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
        if connection is None:
            return
        clean = bool(reason.check(ConnectionDone))
        if self._transfer is not None:
            self._transfer.origin_closed(reason)
        elif self._playlist is not None and self._playlist.ends_with_connection and clean:
            try:
                self._answer_playlist(self._playlist, surplus=True)
            except PeerError as error:
                self._lost(UNUSABLE, error)
        elif self._playlist is not None or self._received:
            self._lost(BROKE_OFF, reason.value)
        elif connection.used:
            # It was closed while our request was on its way to it. Nothing was done about it, so it can be sent again.
            self._search.renew()
        elif clean and self._search.origin is not None:
            # SRS's only word for: a hook refuses, not allowed, no such vhost (wire-facts 3).
            self._fail(OriginRejected(f"{self._name}: closed the connection instead of an answer"))
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
        if self._search.kind is Kind.PLAYLIST and self._request.method != b"OPTIONS":
            if head.status == HTTPStatus.OK:
                self._begin_collecting(head, rest)
                return
            if head.status == HTTPStatus.NOT_FOUND and not self._asked_elsewhere and self._search.leads_elsewhere:
                self._asked_elsewhere = True
                self._leave_connection(surplus=True)
                self._search.go_elsewhere()
                return
        framing = response_body(head, self._request.method)
        played = self.session.action == PLAY and head.status < HTTPStatus.BAD_REQUEST
        if played:
            self._log.info("{what}: started on {origin}", what=self.session.doing, origin=self.session.origin)
        transfer = Transfer(
            self._shared,
            self._required_connection,
            self._asker,
            self.session,
            self,
            framing,
            chunks=bool(self._request.minor),
            endless=played,
        )
        if transfer.ends_with_connection:
            self._asker.persistent = False
            framing = Framing.UNTIL_CLOSE
        own, surplus = transfer.begin(rest)
        self._transfer = transfer
        self._take = Exchange._pass_on
        self._begin(None if self._request.method == b"HEAD" else framing, own)
        transfer.go_on(surplus)

    def _begin(self, framing: int | Framing | None, body: bytes, *, rewritten: bool = False) -> None:
        """Write the head, and what is there of the body. ``framing`` is ``None`` if the origin's head has the length of
        a body that it was not asked for."""
        head = client_response(
            self._response,
            framing=framing,
            keep_alive=self._asker.persistent,
            request_minor=self._request.minor,
            replaced=self._relocated(),
            rewritten=rewritten,
        )
        data = head + body if body else head
        self.session.sent += len(data)
        self._asker.writer.write(data)

    def _relocated(self) -> list[tuple[bytes, bytes]]:
        """A redirection to the origin itself, led through the proxy."""
        location = self._response.value(b"location")
        if location is None or self._connection is None:
            return []
        authority = self._connection.name.encode()
        return [(b"Location", relocated(location, [authority, authority.removesuffix(b":80")]))]

    def _pass_on(self, data: bytes) -> None:
        """Take what the relay does not."""
        if self._transfer is not None:
            self._transfer.receive(data)

    # A playlist

    def _begin_collecting(self, head: ResponseHead, rest: bytes) -> None:
        limit = self._shared.settings.http_max_playlist_size
        self._playlist = CollectedPlaylist(head, response_body(head, b"GET"), limit)
        self._take = Exchange._collect
        self._collect(rest)

    def _collect(self, data: bytes) -> None:
        playlist = self._playlist
        if playlist is None:
            raise ValueError("no playlist is collected")
        surplus = playlist.receive_data(data)
        if playlist.complete:
            self._answer_playlist(playlist, surplus)
        else:
            seconds = self._shared.settings.http_origin_timeout
            self._asker.deadline.expect("nothing more of the playlist came", seconds, self._too_late)

    def _answer_playlist(self, playlist: CollectedPlaylist, surplus: bool) -> None:
        origin = self._search.origin
        if origin is None:
            raise ValueError("a playlist without an origin")
        text = playlist.text()
        if not self._asked_again and is_master_for_stranger(text, self._target.forwarded):
            # The viewer comes from another origin. This one has learnt of it now, and gives the media playlist next.
            self._asked_again = True
            self._playlist = None
            self._leave_connection(surplus)
            self._search.repeat()
            return
        body = playlist.rewritten(text, self._shared.pins.pinning(origin))
        if self._shared.pin_records is not None:
            self._shared.pin_records.keep(origin)
        self._begin(len(body), b"" if self._request.method == b"HEAD" else body, rewritten=True)
        self.transferred(surplus)

    # The body is on its way (Receiver)

    def transferred(self, surplus: bool) -> None:
        self._leave_connection(surplus)
        status = self._response.status
        if status < HTTPStatus.BAD_REQUEST or self._search.kind is Kind.LOCAL:
            self._end(Outcome.FINISHED)
        else:
            told = f"{self._name}: {status} {self._response.reason.decode('latin-1')}"
            # Viewers ask for segments that are gone already, and for playlists that are not there yet.
            level = LogLevel.warn if self.session.action == PLAY else LogLevel.info
            self._end(Outcome.REJECTED_BY_ORIGIN, OriginRejected(told, str(status)), level)
        self._asker.answered()

    def transfer_failed(self, how: str, cause: BaseException | None) -> None:
        self._lost(how, cause)

    def transfer_stalled(self, what: str) -> None:
        self._fail(DeadlineExceeded(f"{self._name}: {what}"))

    def client_lost(self) -> None:
        self._end(Outcome.CLIENT_LOST)
        self._asker.break_off(reset=True)

    # Ends

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
        if self._transfer is not None:
            self._asker.break_off(reset=self._transfer.ends_with_connection)
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

    def _end(
        self, outcome: Outcome, error: BaseException | Failure | None = None, level: LogLevel = LogLevel.warn
    ) -> None:
        if self._transfer is not None:
            self._transfer.stop()
        if error is not None or self.session.action == PLAY:
            self._shared.sessions.close(self.session, outcome, error, level)
        else:
            self._shared.sessions.close_unsaid(self.session, outcome)
        self._search.cancel()
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
        return "the proxy's own pages" if self._search.kind is Kind.LOCAL else f"origin {self.session.origin}"

    @property
    def _log(self) -> ContextLogger:
        return ContextLogger(SOURCE, self.session.context)


def _stays(response: ResponseHead) -> bool:
    """Whether the origin waits for another request. SRS says that it closes, and does what the request said, which was
    nothing of the kind."""
    return keeps_alive(response) or (response.value(b"server") or b"").startswith(b"SRS/")
