"""Real proxies whose Redis dies, comes back empty, or hangs: sessions go on, and new streams are served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.asynchronous import in_reactor, until
from tests.e2e.redis_cluster import HOST, Cluster, UdpBalancer, all_of, becomes, cluster
from tests.e2e.srt_cluster import ENOUGH, FOREVER, play, publish
from tests.processes import Program, http, publish_with_ffmpeg
from tests.redis_server import RedisServer
from tests.srt.programs import LibsrtCallers
from tests.webrtc.aiortc_programs import AiortcClient

OUTAGE: Final = 4.0
"""Seconds without Redis."""

PAUSE: Final = 2000
"""Milliseconds for which Redis answers nobody."""

DEADLINE: Final = 1.0
"""Seconds that Redis has for an answer, by default."""

LATE: Final = 0.5
"""Seconds that an answer may take besides on a busy machine."""

FRAMES: Final = 30
"""Pictures that show that a stream is played: two seconds of it."""

PICTURES_IN: Final = 30.0
"""Seconds in which a player has seen so many on a slow machine."""

HTTP_ORIGINS: Final = ("http1", "http2", "http3")
OTHER_ORIGINS: Final = 6

KNOWN: Final = 20
"""Streams that had an origin before."""


@dataclass
class Load:
    """Clients that are to be served all the time, each stream published at one proxy and played at another.

    :ivar picks: the origins of HTTP streams.
    """

    running: Cluster
    file: Path
    programs: list[Program]
    srt: LibsrtCallers
    viewer: AiortcClient
    picks: dict[str, str] = field(default_factory=dict)

    async def goes_on(self) -> None:
        """All who play get more, and nothing was amiss so far."""
        packets, size = self.srt.events("received")[-1]["packets"], self.file.stat().st_size
        await self.viewer.played(FRAMES, PICTURES_IN)
        told = await self.srt.received(packets + ENOUGH)
        assert (told["missing"], told["wrong"]) == (0, 0)
        await until(reactor, lambda: self.file.stat().st_size > size + 20_000, "20 kB more are played")
        for program in self.programs:
            assert program.exit_code is None
            assert not any(f'{{"event": "{trouble}"' in program.output for trouble in ("failed", "wrong", "closed"))

    async def agrees(self, stream: str) -> None:
        """All proxies, asked at the same time, have the same origin for a stream: the one that it always had."""
        first, *others = await all_of(*(proxy.origin_of(stream) for proxy in self.running.proxies))
        assert {*others, self.picks.setdefault(stream, first)} == {first}


@asynccontextmanager
async def load(folder: Path) -> AsyncIterator[Load]:
    """Two proxies that are busy."""
    async with AsyncExitStack() as stack:
        balancer = await stack.enter_async_context(UdpBalancer((HOST, 9)))
        candidate = f"{HOST}:{balancer.address[1]}"
        running = await stack.enter_async_context(cluster(folder, PROXY_RTC_CANDIDATE=candidate))
        a, b = running.proxies
        balancer.lead_to(b)
        await running.start_aiortc_origins(a, "rtc1", "rtc2")
        await running.start_srt_origins(b, "srt1", "srt2")
        await running.start_nginx_origins(a, folder, "rtmp1", "rtmp2")
        await running.start_named_origins(b, *HTTP_ORIGINS)
        encoder = await stack.enter_async_context(publish_with_ffmpeg(reactor, a.rtmp("s"), OUTAGE + 120.0))
        await a.program.read("publish __defaultVhost__/live/s: started")
        file = folder / "s.flv"
        dump = await running.run("rtmpdump", "-q", "-v", "-r", b.rtmp("s"), "-o", str(file))
        sender = await stack.enter_async_context(LibsrtCallers(reactor, a.srt_address, [publish("t")], *FOREVER))
        await sender.all_connected()
        receiver = await stack.enter_async_context(LibsrtCallers(reactor, b.srt_address, [play("t")]))
        publisher = await stack.enter_async_context(AiortcClient(reactor, "publish", a.json("u")))
        await publisher.told("connected")
        viewer = AiortcClient(reactor, "play", b.whep("u"), "--frames", "1000000")
        await (await stack.enter_async_context(viewer)).told("connected")
        await receiver.received(1)
        await until(reactor, file.exists, "something is played")
        yield Load(running, file, [encoder, dump, sender, receiver, publisher, viewer], receiver, viewer)


async def segment(port: int, uri: str) -> str:
    """A segment of HLS: the name of its origin."""
    status, name = await http(reactor, port, "GET", uri)
    assert status == 200, name
    return name


@in_reactor
async def test_while_redis_is_gone_all_goes_on_and_proxies_agree_and_an_empty_one_is_told_all(tmp_path: Path) -> None:
    async with load(tmp_path) as served:
        redis, proxies = served.running.redis, served.running.proxies
        for number in range(KNOWN):
            await served.agrees(f"before{number}")
        uris = [await proxy.segment_of("before0") for proxy in proxies]
        await served.goes_on()

        await redis.kill()
        begin = reactor.seconds()
        for proxy in proxies:
            await proxy.program.read("Redis at .* is lost")
        asked = 0
        while reactor.seconds() - begin < OUTAGE:
            await served.agrees(f"during{asked}")
            await served.agrees(f"before{asked % KNOWN}")
            for proxy, uri in zip(reversed(proxies), uris, strict=True):
                assert await proxy.segment_of("before0") == uri
                assert await segment(proxy.http_port, uri) == served.picks["before0"]
                assert await proxy.readiness() == 200
            asked += 1
        await served.goes_on()

        await redis.restart()
        await until_restored(redis, served.picks)
        for stream in served.picks:
            await served.agrees(stream)
        assert [await proxy.segment_of("before0") for proxy in proxies] == uris
        await served.goes_on()
        assert asked > 5 * OUTAGE
        assert set(served.picks.values()) == set(HTTP_ORIGINS)


async def until_restored(redis: RedisServer, picks: dict[str, str]) -> None:
    """Wait until Redis has these picks, all origins, and the WebRTC sessions of the load."""
    keys = [f"srs-proxy-url:__defaultVhost__/live/{stream}" for stream in (*picks, "s", "t", "u")]
    wanted = [f"srs-proxy-server:{origin}-1-1" for origin in picks.values()]

    async def restored() -> tuple[list[Any], int, int]:
        found = await redis.command("MGET", *keys)
        listed = await redis.command("GET", "srs-proxy-all-servers")
        sessions = await redis.command("KEYS", "srsproxy-webrtc:*")
        assert isinstance(found, list)
        assert isinstance(sessions, list)
        *named, rtmp, srt, webrtc = found
        origins = len(json.loads(listed)) if isinstance(listed, str) else 0
        return [*named, bool(rtmp and srt and webrtc)], origins, len(sessions)

    await becomes(restored, ([*wanted, True], len(HTTP_ORIGINS) + OTHER_ORIGINS, 2))


async def timed(asked: Coroutine[Any, Any, Any]) -> tuple[float, Any]:
    """How many seconds an answer takes, and the answer."""
    begin = reactor.seconds()
    answer = await asked
    return reactor.seconds() - begin, answer


@in_reactor
async def test_while_redis_hangs_requests_are_answered_at_the_deadline_and_proxies_stay_awake(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        await running.start_named_origins(running.proxies[0], *HTTP_ORIGINS)
        known = [f"known{number}" for number in range(KNOWN)]
        streams = [*known, *(f"new{number}" for number in range(KNOWN))]

        async def origins(streams: list[str]) -> list[list[tuple[float, str]]]:
            """The answers of each proxy, all asked at the same time."""
            asked = [timed(proxy.origin_of(stream)) for proxy in running.proxies for stream in streams]
            answers = await all_of(*asked)
            return [answers[: len(streams)], answers[len(streams) :]]

        before, _ = await origins(known)
        await running.redis.pause(PAUSE)
        begin = reactor.seconds()
        during = Deferred.fromCoroutine(origins(streams))
        slowest = 0.0
        while reactor.seconds() - begin < PAUSE / 1000:
            for proxy in running.proxies:
                seconds, _ = await timed(http(reactor, proxy.system_port, "GET", "/api/v1/versions"))
                slowest = max(slowest, seconds)
        assert slowest < LATE
        one, other = await during
        assert max(seconds for seconds, _ in one + other) < DEADLINE + LATE
        picks = [origin for _, origin in one]
        assert picks == [origin for _, origin in other]
        assert picks[:KNOWN] == [origin for _, origin in before]
        for proxy in running.proxies:
            await proxy.program.read("Redis at .* is lost.*no answer(?s:.*)Redis at .* is there")
        for answers in await origins(streams):
            assert [origin for _, origin in answers] == picks
