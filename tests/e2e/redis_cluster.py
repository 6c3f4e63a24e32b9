"""Several real ``twistd srsproxy`` that share a real redis-server, and origins whose clients can tell them apart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Self

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.protocols.portforward import ProxyFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from srsproxy.balancer.model import Origin
from srsproxy.demo.heartbeat import Heartbeat
from srsproxy.demo.origin import DemoOrigin
from tests.asynchronous import PATIENCE
from tests.processes import NginxRtmp, Program, api_port_of, http, http_port_of, ports_of, srsproxy, srt_port_of
from tests.redis_server import RedisServer
from tests.srt.conversation import UdpSocket
from tests.srt.lossy import LossyPath
from tests.srt.programs import LibsrtOrigin
from tests.webrtc.aiortc_programs import AiortcOrigin
from tests.webrtc.peers import Address

HOST: Final = "127.0.0.1"

_reactor: Any = reactor
"""Its interfaces know nothing of :class:`Site`, nor of ports."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One of the proxies, and its ports on loopback."""

    program: Program
    rtmp_port: int
    http_port: int
    api_port: int
    system_port: int
    webrtc_port: int
    srt_port: int

    def rtmp(self, stream: str) -> str:
        return f"rtmp://{HOST}:{self.rtmp_port}/live/{stream}"

    def flv(self, stream: str) -> str:
        return f"http://{HOST}:{self.http_port}/live/{stream}.flv"

    def whip(self, stream: str) -> str:
        return f"http://{HOST}:{self.api_port}/rtc/v1/whip/?app=live&stream={stream}"

    def whep(self, stream: str) -> str:
        return f"http://{HOST}:{self.api_port}/rtc/v1/whep/?app=live&stream={stream}"

    def json(self, stream: str) -> str:
        return f"webrtc://{HOST}:{self.api_port}/live/{stream}"

    @property
    def media_address(self) -> Address:
        """Where it takes the media of WebRTC clients."""
        return HOST, self.webrtc_port

    @property
    def srt_address(self) -> Address:
        """Where it takes SRT callers."""
        return HOST, self.srt_port

    @property
    def registration(self) -> str:
        """Where it takes heartbeats."""
        return f"http://{HOST}:{self.system_port}/api/v1/srs/register"

    async def readiness(self) -> int:
        """The status of its ``/api/v1/ready``."""
        status, _ = await http(reactor, self.system_port, "GET", "/api/v1/ready")
        return status

    async def segment_of(self, stream: str) -> str:
        """The URI in its playlist of a stream of :class:`NamedOrigin`."""
        status, playlist = await http(reactor, self.http_port, "GET", f"/live/{stream}.m3u8")
        assert status == 200, playlist
        return f"/live/{playlist.splitlines()[-1]}"

    async def origin_of(self, stream: str) -> str:
        """Which :class:`NamedOrigin` it leads HTTP clients of a stream to."""
        status, name = await http(reactor, self.http_port, "GET", f"/live/{stream}.flv")
        assert status == 200, name
        return name


@dataclass
class Cluster:
    """The proxies, their Redis, and what is to be ended with them."""

    redis: RedisServer
    proxies: list[Proxy]
    stack: AsyncExitStack

    async def run(self, *command: str) -> Program:
        """A program that ends with the test."""
        return await self.stack.enter_async_context(Program(reactor, command))

    async def knows(self, server: str) -> None:
        """Wait until all proxies know an origin of this server id."""
        for proxy in self.proxies:
            await proxy.program.read(rf"origin registered: {server}-")

    async def register(self, at: Proxy, server: str, service: str = "1", **listeners: Collection[str]) -> None:
        """An origin on loopback, which any proxy knows then, announces itself at one of them."""
        heartbeat = {"ip": HOST, "server": server, "service": service, "pid": "1", **listeners}
        status, answer = await http(reactor, at.system_port, "POST", "/api/v1/srs/register", json.dumps(heartbeat))
        assert status == 200, answer

    async def start_demo_origins(self, at: Proxy, *names: str) -> list[DemoOrigin]:
        """Origins of RTMP, FLV and HLS that all proxies know."""
        origins = []
        for name in names:
            origin = DemoOrigin(reactor, name=name)
            origin.startService()
            self.stack.push_async_callback(_stopped, origin)
            await Heartbeat(reactor, at.registration, origin.registration).send()
            await self.knows(origin.registration.server)
            origins.append(origin)
        return origins

    async def start_nginx_origins(self, at: Proxy, folder: Path, *names: str) -> list[NginxRtmp]:
        """Origins of RTMP alone that all proxies know."""
        origins = []
        for name in names:
            origin = await self.stack.enter_async_context(NginxRtmp(reactor, folder / name))
            await self.register(at, name, rtmp=[str(origin.rtmp_port)])
            await self.knows(name)
            origins.append(origin)
        return origins

    async def start_named_origins(self, at: Proxy, *names: str) -> list[NamedOrigin]:
        """Origins of HTTP that all proxies know."""
        origins = []
        for name in names:
            origin = await self.stack.enter_async_context(NamedOrigin(name))
            await Heartbeat(reactor, at.registration, origin.registration).send()
            await self.knows(name)
            origins.append(origin)
        return origins

    async def start_aiortc_origins(self, at: Proxy, *names: str) -> list[AiortcOrigin]:
        """Origins of WebRTC that all proxies know."""
        origins = [await self.stack.enter_async_context(AiortcOrigin(reactor, name, at.registration)) for name in names]
        for name in names:
            await self.knows(name)
        return origins

    async def start_srt_origins(self, at: Proxy, *names: str) -> list[LibsrtOrigin]:
        """Origins of SRT that all proxies know."""
        origins = []
        for name in names:
            origin = await self.stack.enter_async_context(LibsrtOrigin(reactor))
            _, port = origin.address
            await self.register(at, name, srt=[str(port)])
            await self.knows(name)
            origins.append(origin)
        return origins


async def _stopped(origin: DemoOrigin) -> None:
    await origin.stopService()


@asynccontextmanager
async def cluster(folder: Path, proxies: int = 2, **environ: str) -> AsyncIterator[Cluster]:
    """
    :param environ: settings of all proxies.
    """
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer(reactor, folder / "redis"))
        running = Cluster(redis, [], stack)
        programs = [await proxy_program(stack, folder, redis, **environ) for _ in range(proxies)]
        running.proxies = [await started(*program) for program in programs]
        for proxy in running.proxies:
            await becomes(proxy.readiness, 200)
        yield running


async def proxy_program(stack: AsyncExitStack, folder: Path, redis: RedisServer, **environ: str) -> tuple[Program, int]:
    """A proxy that has just been started, and its port for WebRTC, which it does not tell.

    :param environ: its settings, besides those that lead it to Redis.
    """
    socket = UdpSocket(reactor, lambda _datagram, _address: None, HOST)
    _, port = socket.address
    await socket.close()
    shared = {"PROXY_LOAD_BALANCER_TYPE": "redis", "PROXY_REDIS_SOCKET": str(redis.socket)}
    listener = {"PROXY_WEBRTC_SERVER": f"{HOST}:{port}"}
    return await stack.enter_async_context(srsproxy(reactor, folder, **shared, **listener, **environ)), port


async def started(program: Program, webrtc_port: int) -> Proxy:
    """The same, once it listens."""
    rtmp_port, system_port = await ports_of(program)
    return Proxy(
        program,
        rtmp_port,
        await http_port_of(program),
        await api_port_of(program),
        system_port,
        webrtc_port,
        await srt_port_of(program),
    )


async def becomes(ask: Any, wanted: object, patience: float = PATIENCE) -> None:
    """Ask again and again until the answer is the wanted one.

    :param ask: a function without arguments whose result is awaited.
    """
    begin = reactor.seconds()
    while (answer := await ask()) != wanted:
        assert reactor.seconds() - begin < patience, f"{answer!r}, not {wanted!r}, after {patience:g} s"
        await deferLater(reactor, 0.01)


async def all_of(*asked: Any) -> list[Any]:
    """The results of coroutines that run at the same time."""
    return await gatherResults([Deferred.fromCoroutine(one) for one in asked], consumeErrors=True)


class NamedOrigin(Resource):
    """An origin of HTTP that answers every request with its own name; use it with ``async with``. Its playlists have
    one segment."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    async def __aenter__(self) -> Self:
        site = Site(self)
        site.noisy = False
        self._port = _reactor.listenTCP(0, site, interface=HOST, backlog=1000)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await maybeDeferred(self._port.stopListening)

    @property
    def registration(self) -> Origin:
        """What its heartbeats say."""
        port = self._port.getHost().port
        return Origin(ip=HOST, server=self._name, service="1", pid="1", http=(str(port),))

    def restarted(self, service: str) -> Origin:
        """What they say when it has been started again."""
        return replace(self.registration, service=service)

    def render_GET(self, request: Request) -> bytes:
        if not request.path.endswith(b".m3u8"):
            return self._name.encode()
        request.setHeader(b"Content-Type", b"application/vnd.apple.mpegurl")
        return b"#EXTM3U\n#EXTINF:1,\n0.ts\n"


class UdpBalancer(LossyPath):
    """A load balancer of UDP that leads its clients to one proxy, until it leads them to another."""

    def __init__(self, target: Address) -> None:
        super().__init__(reactor, target, seed=0, loss=0.0, delayed=0.0)

    def lead_to(self, proxy: Proxy) -> None:
        """From now on, all go there."""
        self._target = proxy.media_address


class TcpBalancer(ProxyFactory):
    """A load balancer of HTTP that leads each connection to the proxy that had none for longest; use it with
    ``async with``.

    :ivar listening_port: where it listens.
    """

    noisy = False

    def __init__(self, proxies: list[Proxy]) -> None:
        super().__init__(HOST, 0)
        self._targets = cycle(proxies)

    async def __aenter__(self) -> Self:
        self._listening = _reactor.listenTCP(0, self, interface=HOST)
        self.listening_port = int(self._listening.getHost().port)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await maybeDeferred(self._listening.stopListening)

    def buildProtocol(self, addr: Any) -> Any:
        # The connection to the target is made when the protocol is.
        self.port = next(self._targets).http_port
        return super().buildProtocol(addr)
