"""Proxies whose Redis is lost, slow, or comes back empty: they go on with what they know, and write it back."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession
from srsproxy.balancer.redis.records import Keys
from srsproxy.errors import NoOrigin
from tests.asynchronous import PATIENCE, in_reactor
from tests.balancer.helpers import DOWN_AFTER, PICK_LIFETIME, make_origin, result_of
from tests.balancer.redis.shared import STREAM, SharingProxy, sharing
from tests.redis_server import RedisServer

KEYS = Keys()
A = make_origin("a")
B = make_origin("b")
C = make_origin("c")
D = make_origin("d")
ORIGINS = (A, B, C, D)
HLS = HlsSession("abc1234", STREAM, "http://example.com/live/s.m3u8")
WEBRTC = WebRtcSession(STREAM, "origin:client", "a", "the-password", "play")

TIMEOUT = 0.2
"""Seconds that Redis has for an answer, where a test lets that pass."""

SLOW = 2_000
"""Milliseconds that Redis hangs."""


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """No test leaves a traceback in the log, an error that nobody handles, or anything to be called later."""
    tracebacks: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            tracebacks.append(event)

    before = set(reactor.getDelayedCalls())
    globalLogPublisher.addObserver(observe)
    yield
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert tracebacks == []
    assert set(reactor.getDelayedCalls()) <= before


class Outage:
    """A Redis of a test's own, and proxies that share it."""

    def __init__(self, server: RedisServer, proxies: list[SharingProxy]) -> None:
        self.server = server
        self.proxies = proxies
        self._times = 0

    async def begin(self) -> None:
        """Redis is killed."""
        await self.server.kill()
        for proxy in self.proxies:
            await proxy.goes()

    async def end(self) -> None:
        """Redis is back, empty, and told what the proxies know."""
        self._times += 1
        await self.server.restart()
        for proxy in self.proxies:
            await proxy.comes(1 + self._times)

    async def a_second_passes(self) -> None:
        for proxy in self.proxies:
            await proxy.a_second_passes()


@asynccontextmanager
async def outages(folder: Path, count: int, *origins: Origin, **options: Any) -> AsyncIterator[Outage]:
    """:param origins: whose heartbeats have come to the first proxy, and are known to all."""
    async with (
        RedisServer(reactor, folder) as server,
        sharing(reactor, server.place, count, **options) as proxies,
    ):
        await proxies[0].register(*origins)
        outage = Outage(server, proxies)
        await outage.a_second_passes()
        yield outage


class TestWithoutRedis:
    @in_reactor
    async def test_nothing_is_known_before_redis_has_been_there_but_heartbeats(self, tmp_path: Path) -> None:
        server = RedisServer(reactor, tmp_path)
        async with sharing(reactor, server.place, 0):
            proxy = SharingProxy(reactor, server.place)
            proxy.store.start()
            try:
                assert not proxy.balancer.is_ready
                with pytest.raises(NoOrigin):
                    await proxy.pick()
                await proxy.register(A)
                assert await proxy.pick() == A
                assert not proxy.balancer.is_ready
                async with server:
                    await proxy.comes()
                    assert proxy.balancer.is_ready
                    assert await server.command("GET", KEYS.pick(STREAM)) is None
                    await proxy.tells_guesses()
                    assert await server.command("GET", KEYS.pick(STREAM)) == KEYS.server(A.id)
            finally:
                await proxy.close()

    @in_reactor
    async def test_known_streams_keep_their_origins_at_every_proxy_that_has_served_them(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, *ORIGINS, policy="random") as outage:
            one, other = outage.proxies
            keys = [f"live/{number}" for number in range(50)]
            before = [await one.pick(key) for key in keys]
            assert [await other.pick(key) for key in keys] == before
            await outage.begin()
            for proxy in outage.proxies:
                assert [result_of(proxy.pick(key)) for key in keys] == before
                assert proxy.balancer.is_ready
                for _ in range(3):
                    proxy.clock.advance(PICK_LIFETIME / 2)
                    for origin in ORIGINS:
                        result_of(proxy.balancer.register(origin))
                    result_of(proxy.balancer.refresh(keys))
                assert [result_of(proxy.pick(key)) for key in keys] == before

    @in_reactor
    async def test_new_streams_get_the_same_origins_at_all_proxies_which_are_told_when_redis_is_back(
        self, tmp_path: Path
    ) -> None:
        keys = [f"new/{number}" for number in range(100)]
        async with outages(tmp_path, 3, *ORIGINS) as outage:
            await outage.begin()
            answers = [[result_of(proxy.pick(key)) for key in keys] for proxy in outage.proxies]
            assert answers[0] == answers[1] == answers[2]
            assert set(answers[0]) == set(ORIGINS)
            await outage.end()
            for proxy in outage.proxies:
                assert [await proxy.pick(key) for key in keys] == answers[0]
            for proxy in outage.proxies:
                await proxy.tells_guesses()
                assert [await proxy.pick(key) for key in keys] == answers[0]
            stored = await outage.server.command("MGET", *map(KEYS.pick, keys))
            assert stored == [KEYS.server(origin.id) for origin in answers[0]]

    @in_reactor
    async def test_what_redis_had_goes_before_what_was_chosen_without_it(self, tmp_path: Path) -> None:
        keys = [f"live/{number}" for number in range(60)]
        async with outages(tmp_path, 2, *ORIGINS, policy="random") as outage:
            publisher, viewer = outage.proxies
            published = [await publisher.pick(key) for key in keys]
            await outage.begin()
            assert [result_of(viewer.pick(key)) for key in keys] != published
            await outage.end()
            assert [await publisher.pick(key) for key in keys] == published
            await viewer.tells_guesses()
            await publisher.tells_guesses()
            for proxy in outage.proxies:
                assert [await proxy.pick(key) for key in keys] == published

    @in_reactor
    async def test_an_origin_that_cannot_be_reached_is_left(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, A, B) as outage:
            one, _ = outage.proxies
            dead = await one.pick()
            (alive,) = {A, B} - {dead}
            await outage.begin()
            assert result_of(one.pick(exclude=(dead.id,))) == alive
            assert result_of(one.pick()) == alive
            for _ in range(DOWN_AFTER):
                await one.balancer.report_failure(dead)
            assert {result_of(one.pick(f"new/{number}")) for number in range(20)} == {alive}
            await outage.end()
            assert {await proxy.pick() for proxy in outage.proxies} == {alive}

    @in_reactor
    async def test_sessions_go_on(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, A) as outage:
            one, other = outage.proxies
            await one.balancer.save_hls(HLS)
            await one.balancer.save_webrtc(WEBRTC)
            assert await other.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
            assert await other.balancer.load_hls(HLS.spbhid) == HLS
            await outage.begin()
            for proxy in outage.proxies:
                assert result_of(proxy.balancer.load_webrtc(WEBRTC.ufrag)) == WEBRTC
                assert result_of(proxy.balancer.load_hls(HLS.spbhid)) == HLS
                assert result_of(proxy.balancer.save_hls(HlsSession("new", STREAM, "http://new/"))) == HLS
                assert result_of(proxy.balancer.pinned(STREAM, "a", Surface.RTMP)) == A
            result_of(one.balancer.drop_webrtc(WEBRTC.ufrag))
            assert result_of(one.balancer.load_webrtc(WEBRTC.ufrag)) is None

    @in_reactor
    async def test_heartbeats_are_kept(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, A) as outage:
            one, other = outage.proxies
            await outage.begin()
            restarted = make_origin("a", service="s2")
            for origin in (restarted, B):
                result_of(one.balancer.register(origin))
            result_of(other.balancer.register(C))
            assert result_of(one.balancer.origins()) == [restarted, B]
            assert result_of(other.balancer.origins()) == [A, C]
            await outage.end()
            await outage.a_second_passes()
            for proxy in outage.proxies:
                assert set(await proxy.balancer.origins()) == {restarted, B, C}


class TestRedisComesBackEmpty:
    @in_reactor
    async def test_origins_have_what_is_left_of_their_time(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, A, B) as outage:
            one, other = outage.proxies
            await outage.begin()
            for proxy in outage.proxies:
                proxy.clock.advance(100)
            result_of(other.balancer.register(B))
            await outage.end()
            left = [await outage.server.command("PTTL", KEYS.server(origin.id)) for origin in (A, B)]
            assert [round(ms / 1000, -1) for ms in left if isinstance(ms, int)] == [200, 300]
            for proxy in (one, other):
                assert set(await proxy.balancer.origins()) == {A, B}

    @in_reactor
    async def test_sessions_are_written_back_by_whoever_knows_them(self, tmp_path: Path) -> None:
        later = HlsSession("later12", "live/later", "http://example.com/later.m3u8")
        ended = WebRtcSession(STREAM, "o:ended", "a", "password", "play")
        roaming = WebRtcSession("live/later", "o:later", "a", "another-password", "publish")
        async with outages(tmp_path, 2, A) as outage:
            one, other = outage.proxies
            await one.balancer.save_hls(HLS)
            await one.balancer.save_webrtc(WEBRTC)
            await one.balancer.save_webrtc(ended)
            await other.balancer.drop_webrtc(ended.ufrag)
            assert await one.balancer.load_webrtc(ended.ufrag) is None
            await outage.begin()
            result_of(one.balancer.save_hls(later))
            result_of(one.balancer.save_webrtc(roaming))
            await outage.end()
            for session in (HLS, later):
                assert await other.balancer.load_hls(session.spbhid) == session
            for known in (WEBRTC, roaming):
                assert await other.balancer.load_webrtc(known.ufrag) == known
            assert await other.balancer.load_webrtc(ended.ufrag) is None

    @in_reactor
    async def test_newer_facts_are_not_overwritten(self, tmp_path: Path) -> None:
        restarted, changed = make_origin("a", service="s2"), make_origin("b", rtmp=("1936",))
        newer_hls = HlsSession("newer12", STREAM, "http://example.com/newer.m3u8")
        newer_webrtc = WebRtcSession(STREAM, WEBRTC.ufrag, "b", "another-password", "play")
        async with outages(tmp_path / "1", 2, A, B) as outage:
            one, other = outage.proxies
            assert await one.balancer.pick(STREAM, Surface.RTMP, prefer="a") == await other.pick() == A
            await one.pick("live/of-one")
            await one.balancer.save_hls(HLS)
            await one.balancer.save_webrtc(WEBRTC)
            await outage.begin()
            for proxy in outage.proxies:
                proxy.clock.advance(50)
            async with outages(tmp_path / "2", 1, restarted, changed) as elsewhere:
                (first,) = elsewhere.proxies
                await first.balancer.pick(STREAM, Surface.RTMP, prefer="b")
                await first.balancer.save_hls(newer_hls)
                await first.balancer.save_webrtc(newer_webrtc)
                await elsewhere.server.command("SAVE")
            (tmp_path / "2" / "dump.rdb").rename(tmp_path / "1" / "dump.rdb")
            await outage.end()
            for proxy in outage.proxies:
                assert set(await proxy.balancer.origins()) == {restarted, changed}
                assert await proxy.pick() == changed
                assert await proxy.balancer.load_hls(newer_hls.spbhid) == newer_hls
                assert await proxy.balancer.save_hls(HLS) == newer_hls
                assert await proxy.balancer.load_webrtc(WEBRTC.ufrag) == newer_webrtc

    @in_reactor
    async def test_streams_that_parted_meanwhile_are_together_at_once_and_stay_so(self, tmp_path: Path) -> None:
        keys = [f"live/{number}" for number in range(20)]
        async with outages(tmp_path, 2, A, B) as outage:
            one, other = outage.proxies
            for key in keys:
                assert await one.pick(key) == await other.pick(key)
            await outage.begin()
            for key in keys:
                only_seen_by_other = result_of(other.pick(key))
                assert result_of(other.pick(key, exclude=(only_seen_by_other.id,))) != result_of(one.pick(key))
            await outage.end()
            together = await gatherResults([one.pick(key) for key in keys])
            assert await gatherResults([other.pick(key) for key in keys]) == together
            await outage.begin()
            for proxy in outage.proxies:
                assert [result_of(proxy.pick(key)) for key in keys] == together

    @in_reactor
    async def test_a_stream_that_is_asked_for_before_all_is_written_back_keeps_its_origin(self, tmp_path: Path) -> None:
        keys = [f"live/{number}" for number in range(100)]
        answers: list[Deferred[Origin]] = []
        async with outages(tmp_path, 2, *ORIGINS, policy="random") as outage:
            one, other = outage.proxies
            before = await gatherResults([one.pick(key) for key in keys])
            await outage.begin()
            one.when_up = lambda: answers.extend(one.pick(key) for key in keys)
            await outage.end()
            assert await gatherResults(answers) == before
            assert [await proxy.pick(key) for proxy in (one, other) for key in keys] == before * 2

    @in_reactor
    async def test_a_session_that_is_asked_for_before_all_is_written_back_goes_on(self, tmp_path: Path) -> None:
        answers: list[Deferred[Any]] = []
        async with outages(tmp_path, 2, A) as outage:
            one, other = outage.proxies
            await one.balancer.save_webrtc(WEBRTC)
            await one.balancer.save_hls(HLS)
            await outage.begin()

            def ask() -> None:
                answers.append(one.balancer.load_webrtc(WEBRTC.ufrag))
                answers.append(one.balancer.load_hls(HLS.spbhid))

            one.when_up = ask
            await outage.end()
            assert await gatherResults(answers) == [WEBRTC, HLS]
            assert await other.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
            assert await other.balancer.load_hls(HLS.spbhid) == HLS

    @in_reactor
    async def test_streams_are_counted_at_their_origins_again(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, A, B) as outage:
            one, other = outage.proxies
            for number in range(10):
                await one.pick(f"live/{number}")
            await outage.begin()
            await outage.end()
            counted = [await outage.server.command("ZCARD", KEYS.streams(origin.id)) for origin in (A, B)]
            assert counted == [5, 5]
            await other.tells_guesses()
            await other.register(C)
            await outage.a_second_passes()
            assert {await other.pick(f"new/{number}") for number in range(5)} == {C}

    @in_reactor
    async def test_outage_after_outage(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 2, *ORIGINS) as outage:
            one, other = outage.proxies
            before = await one.pick()
            for number in range(3):
                await outage.begin()
                during = [result_of(proxy.pick(f"new/{number}")) for proxy in outage.proxies]
                assert during[0] == during[1]
                await outage.end()
                assert {await proxy.pick() for proxy in (one, other)} == {before}
            for number in range(3):
                assert await one.pick(f"new/{number}") == await other.pick(f"new/{number}")


class TestSlowRedis:
    @in_reactor
    async def test_every_call_is_answered_at_the_deadline_and_later_ones_at_once(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 1, *ORIGINS, timeout=TIMEOUT) as outage:
            (one,) = outage.proxies
            known = await one.pick()
            await one.balancer.save_hls(HLS)
            await one.balancer.save_webrtc(WEBRTC)
            one.clock.advance(10)
            ticks: list[float] = []
            ticking = LoopingCall(lambda: ticks.append(reactor.seconds()))
            await outage.server.pause(SLOW)
            ticked = ticking.start(0.01)
            begin = reactor.seconds()
            asked: list[Deferred[Any]] = [
                one.pick(),
                *(one.pick(f"new/{number}") for number in range(100)),
                one.balancer.register(A),
                one.balancer.origins(),
                one.balancer.picked([STREAM, "live/unknown"]),
                one.balancer.pinned(STREAM, "a", Surface.RTMP),
                one.balancer.refresh([STREAM]),
                one.balancer.save_hls(HLS),
                one.balancer.load_hls(HLS.spbhid),
                one.balancer.save_webrtc(WEBRTC),
                one.balancer.load_webrtc(WEBRTC.ufrag),
                one.balancer.drop_webrtc("o:other"),
                one.balancer.look_around(),
            ]
            answers = await gatherResults(asked)
            took = reactor.seconds() - begin
            assert answers[0] == known
            assert TIMEOUT * 0.9 < took < TIMEOUT * 3
            assert not one.store.up
            begin = reactor.seconds()
            for number in range(100):
                result_of(one.pick(f"more/{number}"))
            assert result_of(one.pick()) == known
            assert result_of(one.balancer.load_hls(HLS.spbhid)) == HLS
            assert result_of(one.balancer.load_webrtc(WEBRTC.ufrag)) == WEBRTC
            result_of(one.balancer.register(B))
            assert reactor.seconds() - begin < TIMEOUT
            await one.comes(2)
            ticking.stop()
            await ticked
            assert max(later - earlier for earlier, later in pairwise(ticks)) < TIMEOUT
            assert await one.pick() == known
            await one.tells_guesses()
            assert await outage.server.command("GET", KEYS.pick("more/1")) is not None

    @in_reactor
    async def test_a_pick_does_not_wait_for_answer_after_answer(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 1, *ORIGINS) as outage:
            (one,) = outage.proxies
            known = await one.pick()
            await one.a_second_passes()
            await outage.server.pause(SLOW // 10)
            asked = [one.pick(), one.pick("new/1"), one.pick("new/2", exclude=(A.id,))]
            one.clock.advance(PATIENCE)
            picked = [result_of(pick) for pick in asked]
            assert one.store.up
            assert picked[0] == known
            assert await gatherResults([one.pick(key) for key in (STREAM, "new/1", "new/2")]) == picked

    @in_reactor
    async def test_a_proxy_leaves_while_redis_hangs(self, tmp_path: Path) -> None:
        async with outages(tmp_path, 1, A) as outage:
            (one,) = outage.proxies
            await outage.server.pause(SLOW)
            asked: list[Deferred[Any]] = [one.pick("new/1"), one.balancer.look_around()]
            await one.close()
            assert (await gatherResults(asked))[0] == A
