"""A proxy in front of origins of WebRTC, in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import alsoProvides, providedBy

from srsproxy.api.http_api import build_http_api_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.model import Surface
from srsproxy.balancer.pins import Pins
from srsproxy.limits import ConnectionLimits
from srsproxy.stats import Stats, Stray
from srsproxy.values import BindAddress, Listener
from srsproxy.webrtc.credentials import Credentials
from srsproxy.webrtc.server import WebRtcServer
from srsproxy.webrtc.shared import Shared
from tests.http.origins import HOST, Response
from tests.http.proxied import ProxiedOrigins
from tests.proxy import ProxyUnderTest
from tests.webrtc.ice_client import IceClient
from tests.webrtc.peers import IcePair, WhipClient, new_ice_parameters, offer_sdp, parse_sdp
from tests.webrtc.rtc_api import RtcSession
from tests.webrtc.rtc_origin import FakeRtcOrigin

NAME = "origin.example"
KEY = "__defaultVhost__/live/a"
PUBLISH, PLAY = "/rtc/v1/whip/?app=live&stream=a", "/rtc/v1/whep/?app=live&stream=a"

SECRET = b"secret"
"""What :class:`ProxyUnderTest` has."""

STEP = 0.1
"""Seconds by which :meth:`TakenTime.pass_` goes on. Whatever comes again and again must not come more often."""


class TakenTime(Clock):
    """A reactor whose time passes only when the test says so. All else is the real one's.

    :param resolver: instead of the real one's.
    """

    def __init__(self, reactor: Any, resolver: Any = None) -> None:
        super().__init__()
        self._reactor = reactor
        self.nameResolver = resolver or reactor.nameResolver
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def pass_(self, seconds: float) -> None:
        """So much time passes, little by little, so that what is called can call something later."""
        self.pump([STEP] * round(seconds / STEP))


class Resolver:
    """Knows one name at the most (IHostnameResolver).

    :ivar asked: the names that were asked for.
    """

    def __init__(self, *addresses: str, waits: bool = False) -> None:
        """
        :param waits: answer only when :meth:`answer` is called.
        """
        self._addresses = addresses
        self._waits = waits
        self._receivers: list[tuple[Any, int]] = []
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        """See IHostnameResolver."""
        self.asked.append(name)
        receiver.resolutionBegan(None)
        self._receivers.append((receiver, portNumber))
        if not self._waits:
            self.answer()

    def answer(self) -> None:
        """Answer all who wait."""
        receivers, self._receivers = self._receivers, []
        for receiver, port in receivers:
            for address in self._addresses:
                receiver.addressResolved(IPv4Address("TCP", address, port))
            receiver.resolutionComplete()


@dataclass(frozen=True, slots=True)
class Joined:
    """A client whose offer was answered through the proxy.

    :ivar session: at the origin.
    """

    client: IceClient
    session: RtcSession
    origin: FakeRtcOrigin
    location: str


class ProxiedRtc(ProxiedOrigins):
    """Use it with ``async with``. In the end it sees to it that nothing was logged with a traceback, and that no
    session is left.

    :param origins: how many; :attr:`origin` is the first.
    :param tcp: whether the origins and the proxy take media over TCP too.
    :param settings: changes to the default settings of the proxy.
    """

    def __init__(
        self, reactor: Any, origins: int = 1, *, tcp: bool = False, time: TakenTime | None = None, **settings: Any
    ) -> None:
        if tcp:
            settings = {"webrtc_tcp_server": Listener(BindAddress(HOST, 0)), **settings}
        super().__init__(time or reactor, 0, **settings)
        self.reactor = reactor
        self.rtc_origins = [FakeRtcOrigin(reactor, f"origin-{number}", tcp=tcp) for number in range(origins)]
        self.origins.extend(self.rtc_origins)
        self._joined: list[IceClient] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.whip = WhipClient(self.reactor, self.proxy.api_port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._joined:
            await client.close()
        await super().__aexit__(kind, error, traceback)

    @property
    def origin(self) -> FakeRtcOrigin:
        """The first one."""
        return self.rtc_origins[0]

    @property
    def media_address(self) -> tuple[str, int]:
        """Where the proxy takes media over UDP."""
        return HOST, self.proxy.media_port

    def take_failures(self) -> list[Failure]:
        """What was logged with a traceback, for once."""
        failures = self._failures[:]
        self._failures.clear()
        return failures

    def second_proxy(self, limits: ConnectionLimits | None = None) -> SecondProxy:
        """One more proxy of the cluster, to be used with ``async with``.

        :param limits: of its sessions; none if not given.
        """
        return SecondProxy(self.proxy, limits or ConnectionLimits(0, 0, 0))

    def strays(self, why: Stray) -> int:
        """How many datagrams of no session were dropped for this."""
        return self.stats.strays["webrtc", why]

    async def dropped(self, why: Stray, times: int = 1) -> None:
        """Wait until so many datagrams of no session were dropped for this."""
        await self.until(lambda: self.strays(why) >= times, f"{times} x {why.value}")

    async def accepted(self, connections: int = 1) -> None:
        """Wait until the proxy has so many connections for media over TCP."""
        clients = self.proxy.webrtc_server._tcp._clients
        await self.until(lambda: len(clients) == connections, f"{connections} connections")

    async def negotiate(self, target: str = PUBLISH, *fields: str) -> Joined:
        """A client whose offer was answered, and that has sent nothing to the address in the answer."""
        negotiated = await self.whip.negotiate(target, *fields)
        return self._joined_by(negotiated.ice, negotiated.location)

    async def negotiate_json(self, path: str = "/rtc/v1/play/") -> Joined:
        """The same by SRS's JSON API, which has no locations."""
        local = new_ice_parameters()
        body = {"streamurl": "webrtc://127.0.0.1/live/a", "sdp": offer_sdp(local)}
        response = await self.whip.request("POST", path, body=json.dumps(body).encode())
        return self._joined_by(IcePair(local, parse_sdp(json.loads(response.body)["sdp"])), "")

    def _joined_by(self, ice: IcePair, location: str) -> Joined:
        candidate = ice.remote.first("udp")
        client = IceClient.open(self.reactor, ice, (candidate.host, candidate.port))
        self._joined.append(client)
        origin, session = self.owner(ice.username)
        return Joined(client, session, origin, location)

    async def join(self, target: str = PUBLISH, *fields: str) -> Joined:
        """The same with a client whose first Binding request was answered."""
        joined = await self.negotiate(target, *fields)
        await joined.client.check(use_candidate=True)
        return joined

    def sibling(self, client: IceClient, address: tuple[str, int] | None = None) -> IceClient:
        """See :meth:`IceClient.sibling`; closed in the end."""
        self._joined.append(client.sibling(address))
        return self._joined[-1]

    def stranger(self) -> IceClient:
        """A client that knows no password; closed in the end."""
        ice = IcePair(new_ice_parameters(), new_ice_parameters())
        self._joined.append(IceClient.open(self.reactor, ice, self.media_address))
        return self._joined[-1]

    async def move(self, key: str) -> None:
        """From now on the stream is picked at another origin, while its sessions stay where they are."""
        picked = await self.proxy.balancer.pick(key, Surface.RTC)
        moved = await self.proxy.balancer.pick(key, Surface.RTC, exclude=[picked.id])
        assert moved.server != picked.server

    def running(self) -> list[tuple[str | None, str]]:
        """Key and action of the sessions that the proxy knows."""
        return sorted((session.key, session.action) for session in self.stats.active)

    def owner(self, username: str) -> tuple[FakeRtcOrigin, RtcSession]:
        """The session of this name, and the origin that has it."""
        [found] = [(origin, origin.sessions[username]) for origin in self.rtc_origins if username in origin.sessions]
        return found


class SecondProxy:
    """Another WebRTC server with the same balancer and secret as that of a proxy, which knows nothing of its sessions;
    use it with ``async with``. In the end it sees to it that no session is left."""

    def __init__(self, first: ProxyUnderTest, limits: ConnectionLimits, **settings: Any) -> None:
        """
        :param settings: other than those of the first.
        """
        self.stats = Stats()
        credentials = Credentials(SECRET, Pins(SECRET, first.balancer, first.reactor))
        self.server = WebRtcServer(
            Shared(
                first.reactor,
                replace(first.settings, **settings),
                first.balancer,
                first.relay,
                self.stats,
                limits,
                credentials,
            )
        )
        self._reactor = first.reactor

    async def __aenter__(self) -> Self:
        identity = ProxyIdentity(server="second", service="service", pid="2", version="1.2.3")
        site = build_http_api_site(self._reactor, identity, self.server.resources())
        self._listening = self._reactor.listenTCP(0, site, interface=HOST)
        self.whip = WhipClient(self._reactor, self._listening.getHost().port)
        self.server.startService()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await maybeDeferred(self._listening.stopListening)
        await maybeDeferred(self.server.stopService)
        drained = self.server.drain()
        self.server.abort()
        await drained
        if kind is None:
            assert self.stats.active == set()

    @property
    def media_address(self) -> tuple[str, int]:
        """Where it takes media over UDP."""
        return HOST, self.server.media_port

    def strays(self, why: Stray) -> int:
        """How many datagrams of no session were dropped for this."""
        return self.stats.strays["webrtc", why]


def offer() -> str:
    """A new offer."""
    return offer_sdp(new_ice_parameters())


def error(response: Response) -> tuple[int, str]:
    """Status and text of an answer that the proxy has made itself."""
    told = json.loads(response.body)
    assert response.field(b"Content-Type") == b"application/json"
    assert response.field(b"Access-Control-Allow-Origin") == b"*"
    assert told["code"] == response.status
    return response.status, told["error"]
