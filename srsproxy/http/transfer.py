"""The body of an answer on its way from an origin to a client.

It goes one of these ways, whichever costs least:

- the few bytes that are still to come of a small body are copied;
- everything else is relayed, up to the end of the body;
- but a client of HTTP/1.0, which knows no chunks, gets their payload, and then the end of the connection.
"""

from __future__ import annotations

from typing import Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.deadline import Deadline
from srsproxy.http.boundary import LAST_CHUNK, ChunkDecoder, ChunkedBoundary, LengthBoundary
from srsproxy.http.head import Framing
from srsproxy.http.shared import Shared
from srsproxy.http.upstream import OriginConnection
from srsproxy.http.writer import Writer
from srsproxy.interfaces import IBoundary, IRelayedHalf, IRelayObserver, IStreamConnection
from srsproxy.relay.model import EndReason
from srsproxy.stats import Session
from srsproxy.transports import Throttle

SMALL_BODY: Final = 64 * 1024
"""Bytes still to come of a body up to which it is not worth handing two connections to the relay. So much can one
answer leave in the buffer of a client that does not read; the next request waits until it has."""

BROKE_OFF: Final = "broke off its answer"


class Sink(Interface):
    """The client's connection, as far as a body goes."""

    transport: IStreamConnection
    writer: Writer
    deadline: Deadline


class Receiver(Interface):
    """Who wants to know what becomes of the body."""

    def transferred(self, surplus: bool) -> None:
        """All of it is with the client.

        :param surplus: the connection to the origin cannot be used for another request.
        """

    def transfer_failed(self, how: str, cause: BaseException | None) -> None:
        """The origin did not send all of it: what it did, and maybe why."""

    def transfer_stalled(self, what: str) -> None:
        """Nothing of it came for too long: what, within how many seconds."""

    def client_lost(self) -> None:
        """The client's connection broke."""


@implementer(IRelayObserver)
class Transfer:
    """See the module's text. Whoever made it passes on what the origin's connection tells.

    :param framing: how the origin's body ends.
    :param chunks: whether the client knows them.
    :param endless: it is a live stream, which takes as long as it takes, and which SRS ends by closing between two
        chunks (wire-facts 3). Anything else has to go on and on, up to its proper end.
    :ivar ends_with_connection: whether the client knows the end of the body by that of its connection only.
    """

    __slots__ = (
        "_boundary",
        "_connection",
        "_decoder",
        "_endless",
        "_half",
        "_receiver",
        "_session",
        "_shared",
        "_sink",
        "_throttle",
        "ends_with_connection",
    )

    def __init__(
        self,
        shared: Shared,
        connection: OriginConnection,
        sink: Sink,
        session: Session,
        receiver: Receiver,
        framing: int | Framing,
        *,
        chunks: bool,
        endless: bool,
    ) -> None:
        self._shared = shared
        self._connection = connection
        self._sink = sink
        self._session = session
        self._receiver: Receiver | None = receiver
        self._endless = endless
        self._half: IRelayedHalf | None = None
        self._throttle: Throttle | None = None
        self._boundary: IBoundary | None = None
        self._decoder: ChunkDecoder | None = None
        if isinstance(framing, int):
            self._boundary = LengthBoundary(framing)
        elif framing is Framing.CHUNKED and chunks:
            self._boundary = ChunkedBoundary()
        elif framing is Framing.CHUNKED:
            self._decoder = ChunkDecoder()
        self.ends_with_connection = self._boundary is None

    def begin(self, data: bytes) -> tuple[bytes, bool]:
        """What of the bytes that came with the answer's head belongs to the client, and whether more came than that.

        :raises PeerError: they are no such body.
        """
        if self._decoder is not None:
            return b"".join(self._decoder.receive_data(data)), True
        if self._boundary is None:
            return data, False
        own = self._boundary.inspect(memoryview(data)) if data and not self._boundary.complete else 0
        return data[:own], own < len(data)

    def go_on(self, surplus: bool) -> None:
        """The head, and what :meth:`begin` gave, are with the client: see to the rest.

        :param surplus: what :meth:`begin` told.
        """
        if self._is_complete:
            self._complete(surplus)
        elif self._decoder is not None:
            self._throttle = Throttle(self._connection.transport)
            self._sink.writer.lend()
            self._sink.transport.registerProducer(self._throttle, True)
            self._watch_progress()
        elif isinstance(self._boundary, LengthBoundary) and self._boundary.opaque <= SMALL_BODY:
            self._watch_progress()
        else:
            self._relay()

    def receive(self, data: bytes) -> None:
        """The origin sent this, and it is not relayed.

        :raises PeerError: it is no such body.
        """
        own, surplus = self.begin(data)
        self._session.sent += len(own)
        self._sink.writer.write(own)
        if self._is_complete:
            self._complete(surplus)

    def origin_closed(self, reason: Failure) -> None:
        """The origin's connection has ended."""
        clean = bool(reason.check(ConnectionDone))
        if self._half is not None and clean:
            self._half.read_closed()
        elif clean and self._endless and self._decoder is not None and self._decoder.between_chunks:
            self._complete(surplus=True)
        else:
            self._fail(BROKE_OFF, reason.value)

    def stop(self) -> None:
        """End it here; the receiver hears nothing more."""
        self._receiver = None
        half = self._half
        if half is not None:
            clear = half.bypasses_sink
            rest = half.stop()
            self._forget_half(half, clear)
            if rest:
                self._session.sent += len(rest)
                self._sink.writer.write(rest)
        if self._throttle is not None:
            self._throttle = None
            self._sink.transport.unregisterProducer()
            self._sink.writer.take_back()

    @property
    def _is_complete(self) -> bool:
        framing = self._boundary or self._decoder
        return framing is not None and framing.complete

    def _complete(self, surplus: bool) -> None:
        receiver = self._receiver
        self.stop()
        if receiver is not None:
            receiver.transferred(surplus)

    def _fail(self, how: str, cause: BaseException | None) -> None:
        receiver = self._receiver
        self.stop()
        if receiver is not None:
            receiver.transfer_failed(how, cause)

    def _watch_progress(self) -> None:
        """End it if nothing comes for too long. The kernel watches the client, so its slowness is not the origin's."""
        if self._endless:
            self._sink.deadline.cancel()
            return
        before = self._so_far

        def look(what: str) -> None:
            if self._so_far != before or self._is_blocked:
                self._watch_progress()
            elif self._receiver is not None:
                self._receiver.transfer_stalled(what)

        self._sink.deadline.expect("nothing of the body came", self._shared.settings.stall_timeout, look)

    @property
    def _so_far(self) -> int:
        return self._session.sent + (self._half.relayed if self._half is not None else 0)

    @property
    def _is_blocked(self) -> bool:
        """Whether it is the client that takes no more."""
        if self._half is not None:
            return bool(self._half.blocked)
        return self._throttle is not None and self._throttle.paused

    # The relay (IRelayObserver)

    def _relay(self) -> None:
        self._watch_progress()
        connection, sink = self._connection, self._sink
        connection.transport.pauseProducing()
        clear = sink.writer.lend()
        self._half = connection.half = self._shared.relay.relay(
            connection.transport, sink.transport, self, bulk=True, boundary=self._boundary, sink_clear=clear
        )

    def relay_ended(self, half: IRelayedHalf, reason: EndReason) -> None:
        self._forget_half(half, half.bypasses_sink)
        boundary = self._boundary
        match reason:
            case EndReason.COMPLETE:
                self._complete(half.surplus)
            case EndReason.EOF if boundary is None:
                self._complete(surplus=True)
            case EndReason.EOF if self._endless and isinstance(boundary, ChunkedBoundary) and boundary.between_chunks:
                self._session.sent += len(LAST_CHUNK)
                self._sink.writer.write(LAST_CHUNK)
                self._complete(surplus=True)
            case EndReason.SINK_LOST if self._receiver is not None:
                self._receiver.client_lost()
            case _:
                self._fail(f"{BROKE_OFF} ({reason.value})", None)

    def _forget_half(self, half: IRelayedHalf, clear: bool) -> None:
        self._session.sent += half.relayed
        self._half = None
        self._connection.half = None
        self._sink.writer.take_back(clear)
