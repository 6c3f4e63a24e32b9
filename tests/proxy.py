"""A proxy and its origins in this process, on loopback, for tests that see both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from srsproxy.api.http_api import build_http_api_site
from srsproxy.api.pages import build_pages_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import Origin
from srsproxy.balancer.pins import Pins
from srsproxy.balancer.policy import POLICIES
from srsproxy.config import Settings
from srsproxy.demo.origin import DemoOrigin
from srsproxy.http import shared as http_shared
from srsproxy.http.local import LocalSite
from srsproxy.http.server import HttpServer
from srsproxy.interfaces import IStreamConnection
from srsproxy.limits import ConnectionLimits
from srsproxy.outcome import Outcome
from srsproxy.relay.stream import build_relay
from srsproxy.rtmp.chunk import ChunkReader, ChunkWriter
from srsproxy.rtmp.handshake import RANDOM_SIZE, ServerHandshake
from srsproxy.rtmp.message import Command, MessageType, encode_command, parse_command, set_chunk_size
from srsproxy.rtmp.server import RtmpServer
from srsproxy.rtmp.shared import Shared
from srsproxy.service import build_knowledge
from srsproxy.srt import shared as srt_shared
from srsproxy.srt.cookies import Cookies
from srsproxy.srt.server import SrtServer
from srsproxy.stats import Stats
from srsproxy.values import BindAddress
from srsproxy.webrtc import shared as webrtc_shared
from srsproxy.webrtc.credentials import Credentials
from srsproxy.webrtc.server import WebRtcServer
from tests.asynchronous import until
from tests.rtmp_client import RtmpTestClient


@implementer(IHalfCloseableProtocol)
class ScriptedOrigin(Protocol):
    """Shakes hands and answers the first createStream, and then does what a test makes of it. A half-closed connection
    stays open."""

    transport: IStreamConnection

    def connectionMade(self) -> None:
        self._handshake = ServerHandshake(now_ms=0, random=bytes(RANDOM_SIZE))
        self._reader = ChunkReader(max_message_size=1 << 20)
        self._writer = ChunkWriter(60000)

    def dataReceived(self, data: bytes) -> None:
        if not self._handshake.done:
            self.transport.write(self._handshake.receive_data(data))
            data = self._handshake.unconsumed
            if self._handshake.done:
                self.transport.write(ChunkWriter().write(2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(60000)))
        self._reader.receive_data(data)
        while (message := self._reader.next_message()) is not None:
            if message.type == MessageType.COMMAND_AMF0:
                self.heard(parse_command(message))

    def heard(self, command: Command) -> None:
        """The proxy said this."""
        if command.name == "createStream":
            self.say(encode_command("_result", command.transaction_id, None, 1.0))

    def say(self, command: bytes) -> None:
        """Send a command."""
        self.transport.write(self._writer.write(5, MessageType.COMMAND_AMF0, 1, command))

    def readConnectionLost(self) -> None:
        """The proxy has closed its side."""

    def writeConnectionLost(self) -> None:
        """Nothing more can be said."""


class ProxyUnderTest:
    """An RTMP and an HTTP server with a balancer of their own, and demo origins; use it with ``async with``.

    :param settings: changes to the default settings.
    """

    def __init__(self, reactor: Any, **settings: Any) -> None:
        self.reactor = reactor
        local = BindAddress("127.0.0.1", 0)
        self.settings = replace(Settings(), **{"webrtc_server": local, "srt_server": local, **settings})
        self.stats = Stats()
        self.origins: list[DemoOrigin] = []
        self.balancer = MemoryLoadBalancer(
            build_knowledge(self.settings, reactor, random.Random(1)), POLICIES[self.settings.pick_policy]
        )
        self.relay = build_relay(reactor, self.settings.relay_flush_interval)
        limits = ConnectionLimits(
            self.settings.max_connections,
            self.settings.max_connections_per_address,
            self.settings.max_pending_per_address,
        )
        self.server = RtmpServer(Shared(reactor, self.settings, self.balancer, self.relay, self.stats, limits))
        self.pins = Pins(b"secret", self.balancer, reactor)
        identity = ProxyIdentity(server="proxy", service="service", pid="1", version="1.2.3")
        self.local = LocalSite(reactor, build_pages_site(reactor, self.settings.static_files, identity))
        self.http_server = HttpServer(
            http_shared.Shared(
                reactor, self.settings, self.balancer, self.relay, self.stats, limits, self.pins, self.local
            )
        )
        self.webrtc_server = WebRtcServer(
            webrtc_shared.Shared(
                reactor, self.settings, self.balancer, self.relay, self.stats, limits, Credentials(b"secret", self.pins)
            )
        )
        self.srt_server = SrtServer(
            srt_shared.Shared(reactor, self.settings, self.balancer, self.stats, limits, Cookies(b"secret"))
        )
        self.api = build_http_api_site(reactor, identity, self.webrtc_server.resources())
        self._ports: list[IListeningPort] = []
        self._clients: list[RtmpTestClient] = []
        self._scripted: list[Protocol] = []

    async def __aenter__(self) -> ProxyUnderTest:
        self.port = self.listen("127.0.0.1")
        self.http_port = self.listening(self.reactor.listenTCP(0, self.http_server, interface="127.0.0.1"))
        self.local.startService()
        self.webrtc_server.startService()
        self.srt_server.startService()
        self.api_port = self.listening(self.reactor.listenTCP(0, self.api, interface="127.0.0.1"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            if client.lost is None:
                await client.abort()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        await self.webrtc_server.stopService()
        await maybeDeferred(self.srt_server.stopService)
        for server in (self.server, self.http_server, self.webrtc_server, self.srt_server):
            drained = server.drain()
            server.abort()
            await drained
        await self.local.stopService()
        self.relay.close()
        for scripted in self._scripted:
            cast(IStreamConnection, scripted.transport).abortConnection()
        for origin in self.origins:
            if origin.running:
                await origin.stopService()

    def listen(self, interface: str) -> int:
        """One more port for clients; its number."""
        return self.listening(self.reactor.listenTCP(0, self.server, interface=interface))

    def listening(self, port: IListeningPort) -> int:
        """A port that was opened for :attr:`server`, to be closed in the end; its number."""
        self._ports.append(port)
        address = port.getHost()
        return address.port if isinstance(address, (IPv4Address, IPv6Address)) else 0

    async def add_origin(self, name: str, **parameters: Any) -> DemoOrigin:
        """Start a demo origin and register it."""
        origin = DemoOrigin(self.reactor, name=name, **parameters)
        origin.startService()
        self.origins.append(origin)
        await self.balancer.register(origin.registration)
        return origin

    async def add_endpoint(self, name: str, *rtmp: str, http: Sequence[str] = (), ip: str = "127.0.0.1") -> Origin:
        """Register an origin that is no demo origin, by what it announces."""
        origin = Origin(ip=ip, server=name, service="service", pid="1", rtmp=rtmp, http=tuple(http))
        await self.balancer.register(origin)
        return origin

    @property
    def media_port(self) -> int:
        """Where WebRTC media goes over UDP."""
        return self.webrtc_server.media_port

    @property
    def media_tcp_port(self) -> int | None:
        """The same over TCP, if the settings say so."""
        return self.webrtc_server.media_tcp_port

    @property
    def srt_port(self) -> int:
        """Where SRT callers come."""
        return self.srt_server.port

    def scripted(self, protocol: type[Protocol]) -> int:
        """Listen with a protocol that stands for an origin; the port."""

        def build() -> Protocol:
            self._scripted.append(protocol())
            return self._scripted[-1]

        factory = Factory.forProtocol(build)
        factory.noisy = False
        return self.listening(self.reactor.listenTCP(0, factory, interface="127.0.0.1"))

    async def client(self, host: str = "127.0.0.1", port: int | None = None) -> RtmpTestClient:
        """A client connected to the proxy; closed in the end if the test has not."""
        client = await RtmpTestClient.connect(self.reactor, host, port or self.port)
        self._clients.append(client)
        return client

    async def ended(self, outcome: Outcome, times: int = 1, protocol: str = "rtmp") -> None:
        """Wait until so many sessions have ended like this."""
        await until(self.reactor, lambda: self.stats.ended[protocol, outcome] >= times, f"{times} x {outcome.value}")

    def pause(self, seconds: float) -> Deferred[None]:
        """For what must not happen meanwhile."""
        return deferLater(self.reactor, seconds)
