"""One connection to an origin, from dialling it to the relay."""

from __future__ import annotations

import socket
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from srsproxy.balancer.model import Endpoint
from srsproxy.dial import client_endpoint, connect
from srsproxy.errors import DeadlineExceeded, OriginRejected, OriginUnreachable, PeerError, SrsProxyError
from srsproxy.interfaces import IRelayedHalf, IStreamConnection
from srsproxy.rtmp.events import OriginEvent, OriginReady
from srsproxy.rtmp.origin import OriginNegotiation
from srsproxy.transports import raw_socket, tune

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class UpstreamOwner(Interface):
    """Who uses the connection; told only after :meth:`Upstream.release`."""

    def upstream_event(self, upstream: Upstream, event: OriginEvent) -> None:
        """The origin said something."""

    def upstream_lost(self, upstream: Upstream, error: BaseException | None) -> None:
        """The connection has ended, in the way that ``error`` says. Not told after :meth:`Upstream.close`."""


class Upstream(Protocol):
    """The origin's side of a session: owns the transport and the negotiation.

    :ivar half: set by the owner while a relayed direction reads from this connection.
    """

    half: IRelayedHalf | None = None
    transport: IStreamConnection

    def __init__(self, name: str, negotiation: OriginNegotiation, owner: UpstreamOwner, stall_timeout: float) -> None:
        self.name = name
        self.chunk_size = 0
        self._negotiation = negotiation
        self._owner = owner
        self._stall_timeout = stall_timeout
        self._greeted: Deferred[None] | None = None
        self._ready: Deferred[None] | None = None
        self._released = False
        self._closed = False
        self._lost_early = False
        self._lost_by: BaseException | None = None

    async def open(self, reactor: Any, endpoint: Endpoint, connect_timeout: float, answer_timeout: float) -> None:
        """Dial the origin and bring it to where it has answered all that the client was answered already.

        :param connect_timeout: seconds for the connection, and again for the handshake.
        :param answer_timeout: seconds from the handshake to the answer to createStream.
        :raises OriginUnreachable: nothing was said to it that another origin could not be told as well.
        :raises OriginRejected: it broke off instead of answering.
        :raises DeadlineExceeded: it did not answer.
        """
        greeted: Deferred[None] = Deferred()
        ready: Deferred[None] = Deferred()
        self._greeted, self._ready = greeted, ready
        await connect(client_endpoint(reactor, endpoint, connect_timeout), self.name, self)
        opened = False
        try:
            try:
                await greeted.addTimeout(connect_timeout, reactor)
            except DeferredTimeout:
                raise OriginUnreachable(f"origin {self.name}: no RTMP handshake within {connect_timeout:g} s") from None
            try:
                await ready.addTimeout(answer_timeout, reactor)
            except DeferredTimeout:
                raise DeadlineExceeded(
                    f"origin {self.name}: no answer to createStream within {answer_timeout:g} s"
                ) from None
            opened = True
        finally:
            if not opened:
                self.abort()

    def release(self) -> None:
        """The owner is ready for what the origin says from here on."""
        self._released = True
        if self._lost_early:
            self._owner.upstream_lost(self, self._lost_by)
        elif not self._closed:
            self.transport.resumeProducing()
            self._deliver()

    def close(self) -> None:
        """End the connection in an orderly way; the owner hears nothing more."""
        self._closed = True
        if self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """End the connection at once; the owner hears nothing more."""
        self._closed = True
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        tune(self.transport, self._stall_timeout)
        self._acknowledge_quickly()
        self.transport.write(self._negotiation.start())

    def dataReceived(self, data: bytes) -> None:
        if self.half is not None:
            self.half.data_received(data)
            return
        if self._closed:
            return
        self._acknowledge_quickly()
        try:
            reply = self._negotiation.receive_data(data)
        except PeerError as error:
            self._fail(error)
            return
        if reply:
            self.transport.write(reply)
        if self._negotiation.handshaken:
            greeted, self._greeted = self._greeted, None
            if greeted is not None:
                greeted.callback(None)
        self._deliver()

    def _deliver(self) -> None:
        while not self._closed and self.half is None:
            if self.chunk_size and not self._released:
                return
            try:
                event = self._negotiation.next_event()
            except (PeerError, OriginRejected) as error:
                self._fail(error)
                return
            if event is None:
                return
            if isinstance(event, OriginReady):
                # Whoever dialled may have to wait before the owner can listen.
                self.chunk_size = event.chunk_size
                self.transport.pauseProducing()
                ready, self._ready = self._ready, None
                if ready is not None:
                    ready.callback(None)
            else:
                self._owner.upstream_event(self, event)

    def _acknowledge_quickly(self) -> None:
        """SRS writes its answers in pieces with Nagle on: each piece would wait 40 ms for our delayed acknowledgement.
        The option lasts only until the kernel thinks otherwise, so it is set at each read (tcp(7))."""
        connection = raw_socket(self.transport)
        if _QUICKACK is not None and connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.half is not None and not self._closed and reason.check(ConnectionDone):
            self.half.read_closed()
        self._end(reason.value)

    def _fail(self, error: PeerError | OriginRejected) -> None:
        self._end(error)
        self.transport.abortConnection()

    def _end(self, error: BaseException | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._greeted is not None:
            self._greeted.errback(_chain(OriginUnreachable(f"origin {self.name}: no RTMP handshake"), error))
        elif self._ready is not None:
            if isinstance(error, OriginRejected):
                self._ready.errback(_chain(OriginRejected(f"origin {self.name}", error.code), error))
            elif isinstance(error, PeerError):
                self._ready.errback(_chain(OriginUnreachable(f"origin {self.name} does not speak RTMP"), error))
            else:
                self._ready.errback(_chain(OriginRejected(f"origin {self.name}: no answer to createStream"), error))
        elif self._released:
            self._owner.upstream_lost(self, error)
        else:
            self._lost_early, self._lost_by = True, error


def _chain(error: SrsProxyError, cause: BaseException | None) -> SrsProxyError:
    error.__cause__ = cause
    return error
