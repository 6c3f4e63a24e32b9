"""Real clients of several real proxies that share a real Redis: it does not matter which proxy a client meets."""

from __future__ import annotations

import re
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import pytest
from twisted.internet import reactor

from srsproxy.demo.heartbeat import Heartbeat
from tests.asynchronous import in_reactor, until
from tests.e2e.redis_cluster import (
    HOST,
    Proxy,
    TcpBalancer,
    UdpBalancer,
    all_of,
    becomes,
    cluster,
    proxy_program,
    started,
)
from tests.e2e.srt_cluster import ENOUGH, FOREVER, play, publish
from tests.http.origins import RawHttpClient
from tests.processes import codecs, http, publish_with_ffmpeg
from tests.redis_server import RedisServer
from tests.srt.programs import LibsrtCallers
from tests.webrtc.aiortc_programs import AiortcClient

MEDIA: Final = {"h264", "aac"}

FRAMES: Final = 30
"""Pictures that show that a stream is played: two seconds of it."""

PICTURES_IN: Final = 30.0
"""Seconds in which a player has seen so many on a slow machine."""

STREAMS: Final = 200
"""New streams that all proxies are asked for at the same time."""

ROUNDS: Final = 3
"""How often that is done."""

SOON: Final = 2.0
"""Seconds within which what one proxy has heard is known to all."""


# Publish at one proxy, play at another


@in_reactor
async def test_rtmp_streams_are_played_by_rtmp_flv_and_hls_at_another_proxy(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        a, b = running.proxies
        origins = await running.start_demo_origins(a, "one", "two")
        for name in ("s", "t"):
            await running.stack.enter_async_context(publish_with_ffmpeg(reactor, a.rtmp(name)))
            await a.program.read(f"publish __defaultVhost__/live/{name}: started")
        assert sum(len(origin.streams.published) for origin in origins) == 2
        file = tmp_path / "t.flv"
        dump = await running.run("rtmpdump", "-q", "-v", "-r", b.rtmp("t"), "-o", str(file))
        async with TcpBalancer(running.proxies) as balancer:
            hls = f"http://{HOST}:{balancer.listening_port}/live/s.m3u8"
            played = [codecs(reactor, url) for url in (b.rtmp("s"), b.flv("s"), b.flv("t"), hls)]
            assert await all_of(*played) == [MEDIA] * 4
        await until(reactor, lambda: file.exists() and file.stat().st_size > 20_000, "20 kB played")
        dump.signal(signal.SIGINT)
        await dump.wait()
        assert await codecs(reactor, str(file)) == MEDIA


async def get(at: Proxy, target: str) -> bytes:
    """A playlist or segment that must be there."""
    client = await RawHttpClient.connect(reactor, HOST, at.http_port)
    response = await client.get(target)
    await client.close()
    assert response.status == 200
    return response.body


async def playlist(at: Proxy, target: str) -> str:
    return (await get(at, target)).decode()


def uris(text: str) -> list[str]:
    return re.findall(r"^[^#\n].*", text, re.MULTILINE)


def pins(text: str) -> set[str]:
    return set(re.findall(r"[?&]spbhid=([^&\n]+)", text))


@in_reactor
async def test_hls_playlists_from_any_proxy_have_the_same_token_and_lead_to_segments_through_any(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as running:
        a, b = running.proxies
        origins = await running.start_demo_origins(a, "one", "two")
        await running.stack.enter_async_context(publish_with_ffmpeg(reactor, a.rtmp("s")))
        await a.program.read("publish __defaultVhost__/live/s: started")
        (master_uri,) = uris(await playlist(a, "/live/s.m3u8"))
        refreshed = [await playlist(at, master_uri) for at in (a, b, a, b)]
        assert len({frozenset(pins(text)) for text in refreshed}) == 1
        (token,) = pins(refreshed[0])
        assert f"spbhid={token}" in master_uri
        for text, at in zip(refreshed, (b, a, b, a), strict=True):
            segment = await get(at, urljoin(master_uri, uris(text)[-1]))
            assert len(segment) > 1000
        (home,) = [origin for origin in origins if origin.requests]
        assert home.streams.published


@in_reactor
async def test_srt_streams_are_played_at_another_proxy(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        a, b = running.proxies
        origins = await running.start_srt_origins(a, "one", "two")
        names = [f"s{number}" for number in range(4)]
        stack = running.stack
        players = await stack.enter_async_context(LibsrtCallers(reactor, b.srt_address, [*map(play, names)]))
        await players.all_connected()
        publishers = LibsrtCallers(reactor, a.srt_address, [*map(publish, names)], *FOREVER)
        await stack.enter_async_context(publishers)
        for number in range(len(names)):
            told = await players.received(ENOUGH, caller=number)
            assert (told["missing"], told["wrong"]) == (0, 0)
        for name in names:
            (home,) = [origin for origin in origins if origin.events("accepted", stream_id=publish(name))]
            assert home.events("accepted", stream_id=play(name))


@in_reactor
async def test_webrtc_streams_are_played_at_another_proxy_and_sessions_move_between_proxies(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        balancer = await stack.enter_async_context(UdpBalancer((HOST, 9)))
        candidate = f"{HOST}:{balancer.address[1]}"
        running = await stack.enter_async_context(cluster(tmp_path, PROXY_RTC_CANDIDATE=candidate))
        a, b = running.proxies
        await running.start_aiortc_origins(a, "one", "two")
        # Signalling at one proxy, media through the other from the beginning.
        balancer.lead_to(b)
        publishers = [AiortcClient(reactor, "publish", url) for url in (a.whip("s"), a.json("t"))]
        for client in publishers:
            await stack.enter_async_context(client)
        for client in publishers:
            await client.told("connected")
        # From here on, the publishers move.
        balancer.lead_to(a)
        players = [AiortcClient(reactor, "play", url, "--frames", "1000000") for url in (b.json("s"), b.whep("t"))]
        for client in players:
            await stack.enter_async_context(client)
        for client in players:
            await client.played(FRAMES, PICTURES_IN)
        # Now all do.
        balancer.lead_to(b)
        for client in players:
            await client.played(FRAMES, PICTURES_IN)
        for client in players + publishers:
            assert not client.events("failed") + client.events("wrong") + client.events("closed")


# Picks


@in_reactor
async def test_new_streams_asked_for_at_all_proxies_at_the_same_time_have_one_origin_each(tmp_path: Path) -> None:
    async with cluster(tmp_path, proxies=4) as running:
        names = ("one", "two", "three")
        await running.start_named_origins(running.proxies[0], *names)
        shares: Counter[str] = Counter()
        for number in range(ROUNDS):
            streams = [f"s{number}-{stream}" for stream in range(STREAMS)]
            asked = [proxy.origin_of(stream) for stream in streams for proxy in running.proxies]
            answers = await all_of(*asked)
            per_stream = [set(answers[at : at + 4]) for at in range(0, len(answers), 4)]
            assert {len(origins) for origins in per_stream} == {1}
            shares.update(origin for origins in per_stream for origin in origins)
        assert min(shares[name] for name in names) > ROUNDS * STREAMS / len(names) / 2


@in_reactor
async def test_an_origin_is_used_at_all_proxies_soon_after_its_heartbeat_at_one_also_when_it_was_restarted(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as running:
        a, b = running.proxies
        status, _ = await http(reactor, b.http_port, "GET", "/live/s.flv")
        assert status == 503
        begin = reactor.seconds()
        (origin,) = await running.start_named_origins(a, "one")
        assert await b.origin_of("s") == "one"
        assert reactor.seconds() - begin < SOON
        begin = reactor.seconds()
        await Heartbeat(reactor, b.registration, origin.restarted("2")).send()
        for proxy in running.proxies:
            await proxy.program.read("origin one-1-1 restarted: one-2-1")
        assert reactor.seconds() - begin < SOON
        assert await a.origin_of("s") == "one"
        await becomes(
            lambda: running.redis.command("GET", "srs-proxy-url:__defaultVhost__/live/s"), "srs-proxy-server:one-2-1"
        )


# Starting


@in_reactor
@pytest.mark.parametrize(
    ("setting", "value"), [("PROXY_REDIS_PASSWORD", "wrong"), ("PROXY_REDIS_DB", "99")], ids=["password", "db"]
)
async def test_a_login_that_redis_refuses_at_the_start_ends_the_process_and_names_the_setting(
    tmp_path: Path, setting: str, value: str
) -> None:
    async with AsyncExitStack() as stack:
        redis = RedisServer(reactor, tmp_path / "redis", password="right")
        await stack.enter_async_context(redis)
        login = {"PROXY_REDIS_PASSWORD": "right", setting: value}
        proxy, _ = await proxy_program(stack, tmp_path, redis, **login)
        assert await proxy.wait() == 1
        (told,) = [line for line in proxy.output.splitlines() if setting in line]
        assert "refused by Redis at" in told
        assert "wrong" not in proxy.output.replace("WRONGPASS", "")


@in_reactor
async def test_a_proxy_waits_for_redis_and_is_not_ready_before_it_has_come(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        redis = RedisServer(reactor, tmp_path / "redis")
        proxy = await started(*await proxy_program(stack, tmp_path, redis))
        await proxy.program.read("Redis at .* is lost: ")
        for _ in range(10):
            assert await proxy.readiness() == 503
        await stack.enter_async_context(redis)
        await becomes(proxy.readiness, 200)
        assert len(re.findall("Redis at .* is lost", proxy.program.output)) == 1
        assert len(re.findall("Redis at .* is there", proxy.program.output)) == 1
