"""An origin of WebRTC that behaves as SRS does: its HTTP API, its UDP socket and its TCP listener (wire-facts 5).

A request is answered as SRS answers it, unless the test has scripted something else::

    async with FakeRtcOrigin(reactor) as origin:
        origin.answer(Ending.FIN)  # closes without a word
        origin.answer(Gate())  # keeps silent
        origin.answer(b"HTTP/1.1 403 Forbidden\\r\\nContent-Length: 0\\r\\n\\r\\n")

Media goes where the latest Binding request of a session came from. An address that has asked for one session belongs
to it until the session ends, whatever username a later request has; what comes from an address that never asked is
dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from srsproxy.balancer.model import Origin
from srsproxy.interfaces import IStreamConnection
from tests.asynchronous import until
from tests.http.origins import HOST
from tests.webrtc.peers import (
    BINDING_REQUEST,
    BINDING_RESPONSE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Address,
    Datagrams,
    FrameReader,
    Stun,
    frame,
    parse_stun,
    stun,
    xor_address,
)
from tests.webrtc.rtc_api import RtcApi, RtcSession

MAX_TCP_PACKET: Final = 1500
"""Bytes; SRS resets a connection with a larger one."""


class FakeRtcOrigin(RtcApi):
    """See the module's text; use it with ``async with``.

    :param server: its name in the registration; made of its port if not given.
    :param tcp: whether it listens for media on TCP too.
    :ivar dropped: datagrams that it could do nothing with, and where they came from.
    :ivar tcp_connections: all that there ever were for media.
    """

    def __init__(self, reactor: Any, server: str = "", *, tcp: bool = False) -> None:
        super().__init__(reactor, ["udp", "tcp"] if tcp else ["udp"])
        self._server = server
        self._tcp = tcp
        self.dropped: list[tuple[bytes, Address]] = []
        self._owners: dict[Address, RtcSession] = {}
        self.tcp_connections: list[TcpConnection] = []

    async def __aenter__(self) -> FakeRtcOrigin:
        await super().__aenter__()
        self.open_udp(0)
        self.tcp_port = 0
        if self._tcp:
            factory = Factory.forProtocol(self._accept_tcp)
            factory.noisy = False
            self._tcp_listening = self.reactor.listenTCP(0, factory, interface=HOST)
            self.tcp_port = self._tcp_listening.getHost().port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close_udp()
        if self._tcp:
            await maybeDeferred(self._tcp_listening.stopListening)
            for connection in self.tcp_connections:
                if connection.lost is None:
                    connection.transport.abortConnection()
            await self.until(lambda: all(connection.lost for connection in self.tcp_connections), "end of media")
        await super().__aexit__(kind, error, traceback)

    @property
    def registration(self) -> Origin:
        """What its heartbeats would say."""
        rtc = [f"udp://{HOST}:{self.udp_port}"]
        if self._tcp:
            rtc.append(f"tcp://{HOST}:{self.tcp_port}")
        return Origin(
            ip=HOST,
            server=self._server or f"rtc-{self.port}",
            service="service",
            pid="1",
            api=(f"{HOST}:{self.port}",),
            rtc=tuple(rtc),
        )

    async def until(self, true: Callable[[], object], what: str) -> None:
        """Wait until ``true()``."""
        await until(self.reactor, true, what)

    # Media

    def open_udp(self, port: int) -> None:
        """Listen for media; 0 for any port."""
        self._udp_listening = self.reactor.listenUDP(port, Datagrams(self._datagram_received), HOST)
        self.udp_port: int = self._udp_listening.getHost().port

    async def close_udp(self) -> None:
        """From now on datagrams are refused."""
        await maybeDeferred(self._udp_listening.stopListening)

    async def close_tcp(self) -> None:
        """From now on connections for media are refused."""
        await maybeDeferred(self._tcp_listening.stopListening)

    async def restart(self) -> None:
        """Come back on the same ports without any session, and without their telling anyone."""
        await self.close_udp()
        for session in list(self.sessions.values()):
            self.forget(session)
        self.open_udp(self.udp_port)

    def forget(self, session: RtcSession) -> None:
        """A session is over; its client is not told."""
        super().forget(session)
        session.send = None
        self._owners = {address: owner for address, owner in self._owners.items() if owner is not session}
        for connection in self.tcp_connections:
            if connection.session is session:
                connection.transport.loseConnection()

    def send_media(self, session: RtcSession, data: bytes) -> None:
        """Send a packet to where the latest Binding request of a session came from."""
        assert session.send is not None, "nobody has asked for it yet"
        session.send(data)

    async def session(self, number: int = 1) -> RtcSession:
        """The session with this number, counted from 1, of those that there are."""
        await self.until(lambda: len(self.sessions) >= number, f"{number} sessions")
        return list(self.sessions.values())[number - 1]

    async def bound(self, session: RtcSession, count: int = 1) -> None:
        """Wait until so many Binding requests have come for a session."""
        await self.until(lambda: len(session.bindings) >= count, f"{count} Binding requests")

    async def heard(self, session: RtcSession, count: int = 1) -> list[bytes]:
        """The first ``count`` packets of media of a session."""
        await self.until(lambda: len(session.media) >= count, f"{count} packets of media")
        return session.media[:count]

    def _datagram_received(self, data: bytes, address: Address) -> None:
        """A datagram has come: SRS looks for its address first, and for its username only if the address is new."""
        session = self._owners.get(address)
        request = _binding_request(data)
        if session is None and request is not None:
            session = self.sessions.get(request.username)
        if session is None:
            self.dropped.append((data, address))
        elif request is None:
            session.media.append(data)
        else:
            if address not in self._owners:
                self._owners[address] = session
                session.addresses.append(address)
            session.send = partial(self._udp_listening.write, addr=address)
            self.answer_binding(session, request, address)

    def answer_binding(self, session: RtcSession, request: Stun, address: Address) -> None:
        """A Binding request has come for a session. Its integrity is not looked at."""
        session.bindings.append(request)
        attributes = [
            (USERNAME, request.username.encode()),
            (XOR_MAPPED_ADDRESS, xor_address(address, request.transaction_id)),
        ]
        self.send_media(session, stun(BINDING_RESPONSE, request.transaction_id, attributes, session.local.pwd))

    def _accept_tcp(self) -> TcpConnection:
        self.tcp_connections.append(TcpConnection(self))
        return self.tcp_connections[-1]


class TcpConnection(Protocol):
    """A connection of the TCP listener of an origin: the first frame must be a Binding request with a known username.

    :ivar session: ``None`` until that has come.
    :ivar lost: how it ended; ``None`` while it is open.
    """

    transport: IStreamConnection

    def __init__(self, origin: FakeRtcOrigin) -> None:
        self._origin = origin
        self._frames = FrameReader()
        self.session: RtcSession | None = None
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        for packet in self._frames.read(data):
            self._packet_received(packet)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def _packet_received(self, packet: bytes) -> None:
        request = _binding_request(packet)
        if self.session is None and request is not None:
            self.session = self._origin.sessions.get(request.username)
        if self.session is None:
            self.transport.loseConnection()
        elif len(packet) > MAX_TCP_PACKET:
            self.transport.abortConnection()
        elif request is None:
            self.session.media.append(packet)
        else:
            self.session.send = self._send
            peer = self.transport.getPeer()
            self._origin.answer_binding(self.session, request, (peer.host, peer.port))

    def _send(self, packet: bytes) -> None:
        self.transport.write(frame(packet))


def _binding_request(data: bytes) -> Stun | None:
    """The request that this is, if it is one and has a username."""
    try:
        message = parse_stun(data)
    except ValueError:
        return None
    return message if message.type == BINDING_REQUEST and message.value(USERNAME) is not None else None
