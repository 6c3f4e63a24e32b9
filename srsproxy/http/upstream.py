"""Connections to origins that carry one request after the other, and the pool of those that carry none just now."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from srsproxy.balancer.model import Endpoint
from srsproxy.dial import client_endpoint, connect
from srsproxy.http.writer import Writer
from srsproxy.interfaces import IRelayedHalf, IStreamConnection
from srsproxy.transports import raw_socket, tune

IDLE_TIMEOUT: Final = 10.0
"""Seconds for which a connection without a request is kept. SRS closes its own after 15 s; ours must go first, lest a
request meets the closing."""

MAX_IDLE: Final = 256
"""Connections kept for one endpoint; each costs some kilobytes here and a coroutine in SRS."""


class ResponseReceiver(Interface):
    """Who sent the request that a connection carries."""

    def response_received(self, data: bytes) -> None:
        """The origin sent this."""

    def origin_closed(self, reason: Failure) -> None:
        """The origin's connection has ended; it is in no pool any more."""


class OriginConnection(Protocol):
    """One connection to an origin.

    :ivar name: where it leads, for the log.
    :ivar used: whether it has carried a request before the present one.
    :ivar half: set by the receiver while a relayed direction reads from this connection.
    """

    transport: IStreamConnection
    half: IRelayedHalf | None = None

    def __init__(self, name: str, pool: Pool, stall_timeout: float) -> None:
        self.name = name
        self.used = False
        self.idle_until = 0.0
        self._pool = pool
        self._stall_timeout = stall_timeout
        self._receiver: ResponseReceiver | None = None
        self._lost: Failure | None = None

    def send(self, request: bytes, receiver: ResponseReceiver) -> None:
        """Send a request; the connection must carry none. If it has ended meanwhile, the receiver hears so at once."""
        if self._lost is not None:
            receiver.origin_closed(self._lost)
            return
        self._receiver = receiver
        self._writer.write(request)

    @property
    def is_quiet(self) -> bool:
        """Whether the origin has neither sent anything nor closed. What it has done since the reactor looked last would
        be taken for the answer to the next request."""
        if self._socket is None:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def release(self) -> None:
        """The whole answer has been received, and the origin waits for another request."""
        self._receiver = self.half = None
        self.used = True
        if self._lost is None:
            self.transport.resumeProducing()
            self._pool.put_back(self)

    def abort(self) -> None:
        """Close at once; the receiver hears nothing more."""
        self._receiver = self.half = None
        if self.transport is not None:
            self._writer.close()
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        self._socket = raw_socket(self.transport)
        self._writer = Writer(self.transport, _nothing)
        tune(self.transport, self._stall_timeout)

    def dataReceived(self, data: bytes) -> None:
        if self.half is not None:
            self.half.data_received(data)
        elif self._receiver is not None:
            self._receiver.response_received(data)
        else:
            # An answer to nothing: whatever comes next on this connection cannot be trusted.
            self._pool.discard(self)
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        self._writer.close()
        self._pool.discard(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.origin_closed(reason)


def _nothing() -> None:
    """A request has left; nobody waits for that."""


class Pool:
    """Makes connections to endpoints, and keeps those that wait for a request.

    :param reactor: makes connections, and tells the time.
    :param connect_timeout: seconds for one connection to be made.
    :param stall_timeout: see :func:`srsproxy.transports.tune`.
    """

    def __init__(self, reactor: Any, connect_timeout: float, stall_timeout: float) -> None:
        self._reactor = reactor
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        # By name of the endpoint; the one used last is at the right.
        self._idle: dict[str, deque[OriginConnection]] = {}
        self._sweep: IDelayedCall | None = None
        self._closed = False

    def take(self, name: str) -> OriginConnection | None:
        """A connection to the endpoint of this name that waits for a request, if there is one. It is the caller's."""
        waiting = self._idle.get(name)
        while waiting:
            connection = waiting.pop()
            if not waiting:
                del self._idle[name]
            if connection.is_quiet:
                return connection
            connection.transport.abortConnection()
        return None

    async def connect(self, endpoint: Endpoint) -> OriginConnection:
        """A new connection to an origin. It is the caller's.

        :raises OriginUnreachable: it cannot be made.
        """
        return await self.open(client_endpoint(self._reactor, endpoint, self._connect_timeout), str(endpoint))

    async def open(self, endpoint: IStreamClientEndpoint, name: str) -> OriginConnection:
        """As :meth:`connect`, for any endpoint."""
        connection = OriginConnection(name, self, self._stall_timeout)
        await connect(endpoint, name, connection)
        return connection

    def put_back(self, connection: OriginConnection) -> None:
        """The connection waits for a request."""
        waiting = self._idle.get(connection.name)
        if self._closed or (waiting is not None and len(waiting) >= MAX_IDLE):
            connection.transport.loseConnection()
            return
        if waiting is None:
            waiting = self._idle[connection.name] = deque()
        connection.idle_until = self._reactor.seconds() + IDLE_TIMEOUT
        waiting.append(connection)
        if self._sweep is None:
            self._sweep = self._reactor.callLater(IDLE_TIMEOUT, self._close_idle)

    def discard(self, connection: OriginConnection) -> None:
        """The connection is not to be taken any more, if it is here at all."""
        waiting = self._idle.get(connection.name)
        if waiting is not None and connection in waiting:
            waiting.remove(connection)
            if not waiting:
                del self._idle[connection.name]

    def close(self) -> None:
        """Keep nothing any more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for waiting in list(self._idle.values()):
            for connection in list(waiting):
                connection.transport.abortConnection()
        self._idle.clear()

    def _close_idle(self) -> None:
        """Close what has waited for too long."""
        self._sweep = None
        now = self._reactor.seconds()
        oldest = None
        for name, waiting in list(self._idle.items()):
            while waiting and waiting[0].idle_until <= now:
                waiting.popleft().transport.loseConnection()
            if waiting:
                oldest = min(oldest or waiting[0].idle_until, waiting[0].idle_until)
            else:
                del self._idle[name]
        if oldest is not None:
            self._sweep = self._reactor.callLater(max(oldest - now, 0.0), self._close_idle)
