"""Media over TCP, in frames as RFC 4571 has them.

The first frame is a STUN Binding request, which names the session and shows that the client is its client, as over UDP
(:mod:`srsproxy.webrtc.media`). Then a connection to the session's origin is made, and all bytes are relayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.address import client_address
from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.clients import Client, ClientFactory
from srsproxy.deadline import Deadline
from srsproxy.dial import client_endpoint, connect
from srsproxy.errors import (
    DeadlineExceeded,
    LimitExceeded,
    OriginUnreachable,
    PeerError,
    Refused,
    SrsProxyError,
    outcome_of,
)
from srsproxy.interfaces import IRelayedHalf, IRelayObserver, IStreamConnection
from srsproxy.limits import Admission
from srsproxy.log import new_context_id
from srsproxy.relay.model import EndReason
from srsproxy.stats import Stray
from srsproxy.transports import tune
from srsproxy.webrtc.framing import FrameGuard, first_frame
from srsproxy.webrtc.locate import Locator
from srsproxy.webrtc.sessions import MediaSession, Sessions
from srsproxy.webrtc.shared import SOURCE, Shared
from srsproxy.webrtc.stun import StunMessage, parse, verify_integrity

FIRST_FRAME_TIMEOUT: Final = 10.0
"""Seconds within which the first frame must have come; clients send it at once."""


MAX_EARLY: Final = 128 * 1024
"""Bytes that a client may send before its origin is connected to. It is not read any more by then, but TLS may deliver
what has been read already; clients send a frame and wait for the answer."""


class _Stray(PeerError):
    """A connection of no session. A browser whose session is over makes 16 of them a second for a while."""


@dataclass(slots=True)
class _Traffic:
    """What a connection has carried (Traffic). Of packets it knows nothing."""

    received_bytes: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    sent_packets: int = 0
    received_drops: int = 0
    sent_drops: int = 0
    refusals: int = 0


class _Upstream(Protocol):
    """The origin's side of a connection."""

    transport: IStreamConnection

    def __init__(self, client: TcpClient, stall_timeout: float) -> None:
        self._client: TcpClient | None = client
        self._stall_timeout = stall_timeout
        self.half: IRelayedHalf | None = None

    def connectionMade(self) -> None:
        tune(self.transport, self._stall_timeout)
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.half is not None:
            self.half.data_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.half is not None and reason.check(ConnectionDone):
            self.half.read_closed()
        client, self._client = self._client, None
        if client is not None:
            client.origin_gone()

    def close(self) -> None:
        """Close once all is written. The client hears nothing more."""
        self._client = self.half = None
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once. The client hears nothing more."""
        self._client = self.half = None
        if self.transport is not None:
            self.transport.abortConnection()


@implementer(IRelayObserver)
class TcpClient(Client):
    """One client's connection (Carrier)."""

    transport: IStreamConnection

    def __init__(
        self,
        shared: Shared,
        sessions: Sessions,
        locator: Locator,
        connected: set[str],
        gone: Callable[[TcpClient], None],
    ) -> None:
        """
        :param connected: names of the sessions that have a connection.
        """
        self._shared = shared
        self._sessions = sessions
        self._locator = locator
        self._connected = connected
        self._gone = gone
        self._name: str | None = None
        self._address = ""
        self._deadline = Deadline(shared.reactor)
        self._admission = Admission(shared.limits, "")
        self._buffer = b""
        self._seeking: Deferred[None] | None = None
        self._session: MediaSession | None = None
        self._upstream: _Upstream | None = None
        self._inward: IRelayedHalf | None = None
        self._outward: IRelayedHalf | None = None
        self._past = _Traffic()
        self._closing = False

    # The transport

    def connectionMade(self) -> None:
        self.context = new_context_id()
        tune(self.transport, self._shared.settings.stall_timeout)
        self._deadline.expect("no STUN request", FIRST_FRAME_TIMEOUT, self._too_late)
        self._look_at_address()

    def dataReceived(self, data: bytes) -> None:
        if self._inward is not None:
            self._inward.data_received(data)
        elif not self._closing:
            self._buffer += data
            if len(self._buffer) > MAX_EARLY:
                self._refuse(LimitExceeded(f"more than {MAX_EARLY} bytes before there is a connection to the origin"))
            elif self._seeking is None:
                self._read_first_frame()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inward is not None and reason.check(ConnectionDone):
            self._inward.read_closed()
        self._end()
        self._admission.leave()
        self._gone(self)

    def _look_at_address(self) -> None:
        """Behind the PROXY protocol, the client's own address is known when its first bytes are, and not before."""
        self._address = client_address(self.transport.getPeer())
        if self._address != self._admission.address:
            try:
                self._admission.move(self._address)
            except Refused as error:
                self._refuse(error)

    # The first frame

    def _read_first_frame(self) -> None:
        self._look_at_address()
        if self._closing:
            return
        try:
            frame = first_frame(self._buffer)
            if frame is None:
                return
            request = parse(frame)
            if not request.is_binding_request or request.username is None:
                raise PeerError("the first frame is no STUN Binding request with a name")
        except PeerError as error:
            self._refuse(error)
            return
        self.transport.pauseProducing()
        self._deadline.cancel()
        self._seeking = Deferred.fromCoroutine(self._begin(request, request.username, frame))
        self._seeking.addErrback(self._failed)

    async def _begin(self, request: StunMessage, username: str, frame: bytes) -> None:
        """Find the session, connect to its origin, and begin to relay.

        :raises SrsProxyError: that cannot be.
        """
        session = self._sessions.get(username)
        if session is None:
            found = self._locator.refuses(request, frame) or await self._locator.locate(request, frame, self._address)
            if isinstance(found, Stray):
                raise _Stray(f"the STUN request is of no session: {found.value}")
            session = found
        elif not verify_integrity(frame, request, session.negotiated.ice_pwd):
            raise _Stray("the STUN request has not the integrity of its session")
        if session.username in self._connected:
            # A browser tries as many as it has addresses, and uses one. SRS gets confused by another, and its process
            # may even end when two of one session end together.
            raise _Stray("the session has a connection already")
        self._name = session.username
        self._connected.add(self._name)
        settings = self._shared.settings
        endpoint = tcp_endpoint(session.origin)
        if endpoint is None:
            raise OriginUnreachable(f"origin {session.origin.id} announces no WebRTC over TCP")
        upstream = _Upstream(self, settings.stall_timeout)
        await connect(
            client_endpoint(self._shared.reactor, endpoint, settings.origin_connect_timeout), str(endpoint), upstream
        )
        if session.record.outcome is not None:
            upstream.abort()
            raise Refused("the session has ended")
        try:
            self._relay(session, upstream)
        except PeerError:
            upstream.abort()
            raise

    def _relay(self, session: MediaSession, upstream: _Upstream) -> None:
        """
        :raises PeerError: the client has sent more already, which is not to be passed on.
        """
        guard = FrameGuard()
        guard.inspect(memoryview(self._buffer))
        self._admission.identified()
        self._session, self._upstream = session, upstream
        session.carry(self, self._shared.reactor.seconds())
        first, self._buffer = self._buffer, b""
        self._past.received_bytes += len(first)
        upstream.transport.write(first)
        relay = self._shared.relay.relay
        # SRS writes each packet by itself, so that there is not much to read at once in either direction.
        self._inward = relay(self.transport, upstream.transport, self, bulk=False, boundary=guard)
        self._outward = upstream.half = relay(upstream.transport, self.transport, self, bulk=False)

    # Ends

    def _too_late(self, what: str) -> None:
        self._refuse(DeadlineExceeded(what))

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._refuse(failure)

    def _refuse(self, error: SrsProxyError | Failure) -> None:
        """Close a connection before it carries a session. What anyone can bring about does not fill the log."""
        log = self._shared.log
        record = log.open(SOURCE, self.context, self._address)
        cause = error.value if isinstance(error, Failure) else error
        if isinstance(cause, (PeerError, DeadlineExceeded, Refused)):
            log.close_unsaid(record, outcome_of(error))
        else:
            log.close(record, outcome_of(error), error)
        self._end()
        self.transport.abortConnection()

    def origin_gone(self) -> None:
        """The origin has closed the connection, or broken it."""
        self._end()
        self.transport.loseConnection()

    def relay_ended(self, half: IRelayedHalf, reason: EndReason) -> None:
        """See :class:`IRelayObserver`. A connection that is closed one way has no use for the other."""
        self._end()
        if reason in (EndReason.EOF, EndReason.SOURCE_LOST):
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def _end(self) -> None:
        """Let go of all. What comes later changes nothing any more."""
        self._closing = True
        self._buffer = b""
        self._deadline.cancel()
        seeking, self._seeking = self._seeking, None
        if seeking is not None:
            seeking.cancel()
        name, self._name = self._name, None
        if name is not None:
            self._connected.discard(name)
        self._past = self.traffic
        for half in (self._inward, self._outward):
            if half is not None:
                half.stop()
        self._inward = self._outward = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        session, self._session = self._session, None
        if session is not None:
            session.drop(self)

    def finish(self) -> None:
        """See :meth:`Client.finish`. A connection of a session ends with it."""
        if self._session is None:
            self.shut_down()

    def shut_down(self) -> None:
        """See :meth:`Client.shut_down`."""
        self._end()
        if self.transport is not None:
            self.transport.abortConnection()

    # The session's side (Carrier)

    @property
    def traffic(self) -> _Traffic:
        """What was carried so far."""
        return _Traffic(
            self._past.received_bytes + (self._inward.relayed if self._inward is not None else 0),
            self._past.sent_bytes + (self._outward.relayed if self._outward is not None else 0),
        )

    def close(self, forgotten: bool) -> None:
        """See :meth:`Carrier.close`."""
        self._end()
        self.transport.loseConnection()


def tcp_endpoint(origin: Origin) -> Endpoint | None:
    """Where an origin takes media over TCP, if it does."""
    return next((endpoint for endpoint in origin.dial(Surface.RTC) if endpoint.transport == "tcp"), None)


class TcpServer(ClientFactory[TcpClient]):
    """Protocol factory of these clients."""

    name = SOURCE

    def __init__(self, shared: Shared, sessions: Sessions, locator: Locator) -> None:
        super().__init__()
        self._shared = shared
        self._sessions = sessions
        self._locator = locator
        self._connected: set[str] = set()

    def new_client(self) -> TcpClient:
        return TcpClient(self._shared, self._sessions, self._locator, self._connected, self.gone)
