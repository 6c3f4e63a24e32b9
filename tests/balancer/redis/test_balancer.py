"""Proxies that share a real Redis answer as one; their clients may meet any of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from zope.interface.verify import verifyObject

from srsproxy.balancer.model import MAX_KEY_LENGTH, HlsSession, Origin, Surface, WebRtcSession
from srsproxy.balancer.redis import balancer as balancer_module
from srsproxy.balancer.redis.balancer import FRESH_FOR
from srsproxy.balancer.redis.model import Place
from srsproxy.balancer.redis.records import Keys, decode_origin, encode_origin
from srsproxy.errors import LimitExceeded, NoOrigin
from srsproxy.interfaces import ILoadBalancer
from tests.asynchronous import in_reactor, until
from tests.balancer.helpers import (
    DOWN_AFTER,
    ORIGIN_LIFETIME,
    PICK_LIFETIME,
    SESSION_LIFETIME,
    make_origin,
    result_of,
)
from tests.balancer.redis.recorded import RECORDED
from tests.balancer.redis.server import Client
from tests.balancer.redis.shared import STREAM, SharingProxy, sharing

KEYS = Keys()
A = make_origin("a")
B = make_origin("b")
C = make_origin("c")
D = make_origin("d")
HTTP_ONLY = make_origin("h", http=("8080",))
WEBRTC = WebRtcSession(STREAM, "origin:client", "a", "the-password", "play")


AGE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key) - ARGV[1]
    if redis.call('PTTL', key) >= 0 then redis.call('PEXPIRE', key, left) end
    if redis.call('TYPE', key).ok == 'zset' then
        for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -ARGV[1], member) end
    end
end
"""
"""Makes all that Redis has older by some ms."""


class Sharing:
    """Makes proxies that share the Redis of the test."""

    def __init__(self, redis: Client, socket: Path) -> None:
        self._redis = redis
        self._place = Place(socket=str(socket))

    async def let_pass(self, seconds: float, *proxies: SharingProxy) -> None:
        """So much time passes in Redis and at these proxies, who look around then."""
        self._redis.command("EVAL", AGE, 0, round(seconds * 1000))
        for proxy in proxies:
            proxy.clock.advance(seconds)
            await proxy.balancer.look_around()

    @asynccontextmanager
    async def __call__(self, count: int = 2, *origins: Origin, **options: Any) -> AsyncIterator[list[SharingProxy]]:
        """:param origins: whose heartbeats have come to the first one, and are known to all."""
        async with sharing(reactor, self._place, count, **options) as proxies:
            await proxies[0].register(*origins)
            for proxy in proxies:
                await proxy.a_second_passes()
            yield proxies


@pytest.fixture
def shared(redis: Client, redis_socket: Path) -> Sharing:
    return Sharing(redis, redis_socket)


def streams(redis: Client) -> dict[str, int]:
    """By server, the number of streams that are counted at its origin."""
    listed = json.loads(redis.command("GET", KEYS.all_servers) or "[]")
    ids = [KEYS.origin_id(name) or "" for name in listed]
    return {origin_id.partition("-")[0]: redis.command("ZCARD", KEYS.streams(origin_id)) for origin_id in ids}


def nearly(ms: int, seconds: float) -> bool:
    """Whether a lifetime has begun just now."""
    return seconds - 30 < ms / 1000 <= seconds


@in_reactor
async def test_it_is_a_load_balancer(shared: Sharing) -> None:
    async with shared(1) as (one,):
        verifyObject(ILoadBalancer, one.balancer)


# Origins


@in_reactor
async def test_a_heartbeat_at_one_proxy_is_known_to_all_who_look_around(shared: Sharing) -> None:
    async with shared() as (one, other):
        await one.register(A, B)
        await other.a_second_passes()
        assert await other.balancer.origins() == await one.balancer.origins() == [A, B]


@in_reactor
async def test_forty_origins_that_register_at_both_proxies_at_once_are_known_to_both(shared: Sharing) -> None:
    """G51: of forty, Go proxies keep nine."""
    origins = [make_origin(f"vid-{number}") for number in range(40)]
    async with shared() as proxies:
        await gatherResults([proxies[number % 2].balancer.register(origin) for number, origin in enumerate(origins)])
        for proxy in proxies:
            await proxy.a_second_passes()
            assert set(await proxy.balancer.origins()) == set(origins)


@in_reactor
async def test_a_proxy_that_was_never_told_asks_before_it_says_that_there_is_no_origin(shared: Sharing) -> None:
    async with shared() as (one, other):
        await one.register(A)
        await one.pick()
        assert await other.pick() == A


@in_reactor
async def test_a_proxy_that_is_asked_as_soon_as_it_has_found_redis_knows_the_origins(
    shared: Sharing, redis_socket: Path
) -> None:
    async with shared(1, A):
        late = SharingProxy(reactor, Place(socket=str(redis_socket)))
        asked: list[Deferred[Origin]] = []
        late.when_up = lambda: asked.append(late.pick())
        late.store.start()
        try:
            await late.comes()
            assert await asked[0] == A
        finally:
            await late.close()


@in_reactor
async def test_what_an_origin_announces_anew_is_known_to_the_other_proxy(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        await other.pick()
        changed = make_origin("a", rtmp=("1936",))
        one.clock.advance(10)
        other.clock.advance(10)
        await one.register(changed)
        await other.balancer.look_around()
        assert await other.pick() == changed


@in_reactor
async def test_the_restart_of_an_origin_at_one_proxy_is_one_at_the_other(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        assert await other.pick() == A
        restarted = make_origin("a", service="s2", pid="2")
        await one.register(restarted)
        await other.a_second_passes()
        assert await other.balancer.origins() == [restarted]
        assert await other.pick() == await one.pick() == restarted


@in_reactor
async def test_the_restart_of_an_origin_is_seen_by_who_asks_for_its_streams(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        assert await other.pick() == A
        restarted = make_origin("a", service="s2", pid="2")
        await one.register(restarted)
        other.clock.advance(FRESH_FOR)
        assert await other.pick() == restarted


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@in_reactor
async def test_of_two_starts_that_a_go_proxy_lists_the_one_with_the_latest_heartbeat_counts(
    shared: Sharing, redis: Client, order: tuple[int, int]
) -> None:
    starts = [make_origin("a", service="s1"), make_origin("a", service="s2")]
    for origin, left in zip(starts, (100_000, 300_000), strict=True):
        redis.command("SET", KEYS.server(origin.id), encode_origin(origin, datetime.now(UTC)), "PX", left)
    redis.command("SET", KEYS.all_servers, json.dumps([KEYS.server(starts[number].id) for number in order]))
    async with shared(1) as (one,):
        for _ in range(3):
            assert await one.balancer.origins() == starts[1:]
            assert await one.pick() == starts[1]
            await one.a_second_passes()


@in_reactor
async def test_an_origin_whose_heartbeats_redis_does_not_take_stays(shared: Sharing, redis: Client) -> None:
    async with shared(1, A) as (one,):
        await shared.let_pass(ORIGIN_LIFETIME - 20, one)
        async with shared(1) as (late,):
            redis.command("CONFIG", "SET", "maxmemory", 1)
            try:
                await late.register(A)
            finally:
                redis.command("CONFIG", "SET", "maxmemory", 0)
            await shared.let_pass(20, one, late)
            assert await one.balancer.origins() == []
            assert await late.balancer.origins() == [A]


@in_reactor
async def test_an_origin_that_sends_no_heartbeats_is_gone_everywhere(shared: Sharing) -> None:
    async with shared(2, A, B) as proxies:
        one, other = proxies
        await shared.let_pass(ORIGIN_LIFETIME / 2, *proxies)
        await one.register(B)
        await other.balancer.look_around()
        await shared.let_pass(ORIGIN_LIFETIME / 2 - FRESH_FOR - 1, *proxies)
        assert set(await one.balancer.origins()) == set(await other.balancer.origins()) == {A, B}
        await shared.let_pass(1 + FRESH_FOR, *proxies)
        assert await one.balancer.origins() == await other.balancer.origins() == [B]


@in_reactor
async def test_a_proxy_that_comes_late_misses_a_heartbeat_when_all_others_do(shared: Sharing) -> None:
    async with shared(1, A, B) as (one,):
        await shared.let_pass(ORIGIN_LIFETIME - 20, one)
        async with shared(1) as (late,):
            assert set(await late.balancer.origins()) == {A, B}
            await late.register(B)
            await shared.let_pass(20, one, late)
            assert await late.balancer.origins() == await one.balancer.origins() == [B]
            assert await late.pick() == B


@in_reactor
async def test_more_origins_than_all_proxies_may_have_are_refused(
    shared: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer_module, "MAX_ORIGINS", 1)
    async with shared(2, A) as (one, other):
        with pytest.raises(LimitExceeded, match="1 origins are registered already"):
            await other.register(B)
        await other.register(A)
        assert await one.balancer.origins() == [A]


@in_reactor
async def test_all_who_look_around_at_once_get_the_same_answer(shared: Sharing) -> None:
    async with shared(1) as (one,):
        one.store.asked.clear()
        await gatherResults([one.balancer.look_around() for _ in range(10)])
        assert one.store.asked == ["EVALSHA"]


@in_reactor
async def test_one_who_gives_up_waiting_for_an_answer_takes_it_from_nobody(shared: Sharing) -> None:
    async with shared(2) as (one, other):
        await other.register(A)
        looks = [one.balancer.look_around() for _ in range(3)]
        for look in looks[:2]:
            look.addErrback(lambda failure: failure.trap(CancelledError) and None)
            look.cancel()
        await looks[2]
        assert await one.balancer.origins() == [A]


# Streams


@in_reactor
async def test_a_stream_has_the_same_origin_at_every_proxy_and_for_every_protocol(shared: Sharing) -> None:
    origins = [Origin("192.0.2.1", name, "s1", "1", "", **{one.value: ("1935",) for one in Surface}) for name in "abcd"]
    async with shared(4, *origins) as proxies:
        picked = [await proxy.pick(surface=surface) for proxy in proxies for surface in Surface]
        assert len(set(picked)) == 1


@in_reactor
async def test_two_hundred_new_streams_asked_at_four_proxies_at_once_have_one_origin_each(shared: Sharing) -> None:
    """G51: two Go proxies choose different origins for 23 of 60 streams."""
    async with shared(4, A, B, C, D, policy="random") as proxies:
        for attempt in range(20):
            asked = [
                gatherResults([proxy.pick(f"live/{attempt}-{number}") for proxy in proxies]) for number in range(200)
            ]
            answers = await gatherResults(asked)
            assert [len(set(answer)) for answer in answers] == [1] * 200
        assert len({answer[0] for answer in answers}) == 4


@in_reactor
async def test_a_known_stream_is_no_question_to_redis_while_the_answer_is_fresh(shared: Sharing) -> None:
    async with shared(1, A, B) as (one,):
        first = await one.pick()
        one.store.asked.clear()
        for _ in range(10):
            assert result_of(one.pick()) == first
            one.clock.advance(FRESH_FOR / 11)
        assert result_of(one.balancer.picked([STREAM])) == STREAM
        assert one.store.asked == []
        one.clock.advance(FRESH_FOR / 10)
        assert await one.pick() == first
        assert one.store.asked == ["EVALSHA"]


@in_reactor
async def test_new_streams_go_to_the_origin_with_the_fewest_of_all_proxies(shared: Sharing, redis: Client) -> None:
    async with shared(2, A, B, C, D) as (one, other):
        for number in range(20):
            await one.pick(f"one/{number}")
        await other.a_second_passes()
        for number in range(20):
            await other.pick(f"other/{number}")
        assert streams(redis) == {"a": 10, "b": 10, "c": 10, "d": 10}
        await one.register(make_origin("e"))
        await one.a_second_passes()
        assert {(await one.pick(f"more/{number}")).server for number in range(10)} == {"e"}


@in_reactor
async def test_streams_that_ended_do_not_count(shared: Sharing, redis: Client) -> None:
    async with shared(2, A) as (one, other):
        for number in range(10):
            await one.pick(f"old/{number}")
        await one.register(B)
        await shared.let_pass(PICK_LIFETIME, one, other)
        picked = Counter([(await other.pick(f"new/{number}")).server for number in range(10)])
        assert picked == {"a": 5, "b": 5}


@in_reactor
async def test_the_preferred_origin_takes_a_new_stream_and_no_other(shared: Sharing) -> None:
    async with shared(2, A, B, C) as (one, other):
        assert await one.balancer.pick("live/1", Surface.RTMP, prefer="c") == C
        assert await one.balancer.pick("live/2", Surface.RTMP, prefer="c") == C
        assert await other.balancer.pick("live/2", Surface.RTMP, prefer="b") == C
        assert await one.balancer.pick("live/3", Surface.RTMP, prefer="x") != C


@in_reactor
async def test_a_stream_is_not_moved_for_a_client_of_a_surface_that_its_origin_lacks(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        await one.pick()
        await one.register(make_origin("s", srt=("10080",), rtmp=("1935",)))
        await other.a_second_passes()
        with pytest.raises(NoOrigin, match=f"origin {A.id} has the stream and does not announce srt"):
            await other.pick(surface=Surface.SRT)
        assert await other.pick() == A
        assert (await other.pick("live/new", Surface.SRT)).server == "s"


@in_reactor
async def test_it_says_why_there_is_no_origin(shared: Sharing) -> None:
    async with shared(2) as (one, other):
        with pytest.raises(NoOrigin, match="no origin is registered"):
            await one.pick()
        await one.register(A, HTTP_ONLY)
        with pytest.raises(NoOrigin, match="no origin announces srt"):
            await one.pick(surface=Surface.SRT)
        with pytest.raises(NoOrigin, match="the only origin with rtmp was tried"):
            await one.pick(exclude=(A.id,))
        assert await other.balancer.picked([STREAM]) is None


@in_reactor
async def test_a_key_that_is_too_long_is_refused_and_not_kept(shared: Sharing, redis: Client) -> None:
    async with shared(1, A) as (one,):
        key = "k" * (MAX_KEY_LENGTH + 1)
        with pytest.raises(LimitExceeded):
            await one.pick(key)
        assert redis.command("EXISTS", KEYS.pick(key)) == 0
        assert await one.pick(key[1:]) == A


@in_reactor
async def test_a_name_that_is_not_utf_8_has_its_origin_at_every_proxy(shared: Sharing) -> None:
    key = b"live/\xff\xc3\xbc".decode(errors="surrogateescape")
    async with shared(2, A, B, policy="random") as (one, other):
        assert await other.pick(key) == await one.pick(key)
        assert await other.balancer.picked([key]) == key


@in_reactor
async def test_a_stream_moves_off_an_origin_that_a_client_tried_in_vain_at_every_proxy(
    shared: Sharing, redis: Client
) -> None:
    async with shared(2, A) as (one, other):
        assert await one.pick() == await other.pick() == A
        await one.register(B)
        await other.a_second_passes()
        assert await other.pick(exclude=(A.id,)) == B
        assert await other.pick() == B
        await one.a_second_passes()
        assert await one.pick() == B
        assert streams(redis) == {"a": 0, "b": 1}


@in_reactor
async def test_proxies_that_give_up_an_origin_at_once_move_its_streams_to_the_same_ones(
    shared: Sharing, redis: Client
) -> None:
    keys = [f"live/{number}" for number in range(50)]
    async with shared(4, A, policy="random") as proxies:
        await gatherResults([proxy.pick(key) for key in keys for proxy in proxies])
        await proxies[0].register(B, C, D)
        for proxy in proxies:
            await proxy.a_second_passes()
            for _ in range(DOWN_AFTER):
                await proxy.balancer.report_failure(A)
        moved = await gatherResults(
            [gatherResults([proxy.pick(key, exclude=(A.id,)) for proxy in proxies]) for key in keys]
        )
        assert [len(set(answer)) for answer in moved] == [1] * len(keys)
        assert {answer[0] for answer in moved} == {B, C, D}
        counted = streams(redis)
        assert counted["a"] == 0
        assert sum(counted.values()) == len(keys)


@in_reactor
async def test_a_proxy_that_cannot_reach_an_origin_moves_its_streams_for_all(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        await other.pick()
        await one.register(B)
        await one.a_second_passes()
        for _ in range(DOWN_AFTER):
            await one.balancer.report_failure(A)
        assert await one.pick() == B
        await other.a_second_passes()
        assert await other.pick() == B


@in_reactor
async def test_a_stream_does_not_wander_when_no_proxy_can_reach_any_origin(shared: Sharing) -> None:
    async with shared(2, A, B, C, D, policy="random") as proxies:
        first = await proxies[0].pick()
        for proxy in proxies:
            for origin in (A, B, C, D):
                for _ in range(DOWN_AFTER):
                    await proxy.balancer.report_failure(origin)
        for _ in range(10):
            for proxy in proxies:
                await proxy.a_second_passes()
                assert await proxy.pick() == first


@in_reactor
async def test_a_pick_that_redis_has_lost_is_told_anew(shared: Sharing, redis: Client) -> None:
    async with shared(2, A) as (one, other):
        await one.pick()
        await one.register(B, C, D)
        await one.balancer.report_failure(A)
        await shared.let_pass(FRESH_FOR, one, other)
        redis.command("DEL", KEYS.pick(STREAM), KEYS.streams(A.id))
        assert await one.pick() == A
        assert redis.command("GET", KEYS.pick(STREAM)) == KEYS.server(A.id)
        assert await other.pick() == A
        assert streams(redis) == {"a": 1, "b": 0, "c": 0, "d": 0}


@in_reactor
async def test_streams_keep_their_origins_when_redis_loses_all_until_the_next_heartbeats(
    shared: Sharing, redis: Client
) -> None:
    keys = [f"live/{number}" for number in range(20)]
    async with shared(2, A, B, C, D, policy="random") as (one, other):
        before = [await one.pick(key) for key in keys]
        assert [await other.pick(key) for key in keys] == before
        redis.command("FLUSHALL")
        for proxy in (one, other):
            await proxy.a_second_passes()
            assert [await proxy.pick(key) for key in keys] == before
        await other.register(A, B, C, D)
        for proxy in (one, other):
            await proxy.a_second_passes()
            assert [await proxy.pick(key) for key in keys] == before
        async with shared(1) as (late,):
            assert [await late.pick(key) for key in keys] == before


@in_reactor
async def test_an_origin_that_works_again_takes_streams(shared: Sharing) -> None:
    async with shared(1, A, B) as (one,):
        await one.balancer.report_failure(A)
        assert {await one.pick(f"live/{number}") for number in range(4)} == {B}
        await one.balancer.report_success(A)
        assert await one.pick("live/5") == A


@in_reactor
async def test_a_pick_lives_while_any_proxy_asks_for_it_or_refreshes_it(shared: Sharing) -> None:
    async with shared(2, A) as (one, other):
        for key in ("asked", "refreshed", "idle"):
            await one.pick(key)
        await one.register(B)
        await shared.let_pass(PICK_LIFETIME - 1, one, other)
        assert await other.pick("asked") == A
        await other.balancer.refresh(["refreshed", "never-seen"])
        await shared.let_pass(2, one, other)
        assert await one.balancer.picked(["never-seen", "idle", "refreshed", "asked"]) == "refreshed"
        assert [await one.pick(key) for key in ("asked", "refreshed")] == [A, A]
        assert await one.pick("idle") == B


@in_reactor
async def test_more_streams_than_one_call_takes_are_refreshed(shared: Sharing, redis: Client) -> None:
    keys = [f"live/{number}" for number in range(501)]
    async with shared(1, A) as (one,):
        await gatherResults([one.pick(key) for key in keys])
        await shared.let_pass(PICK_LIFETIME / 2, one)
        await one.balancer.refresh(keys)
        assert all(nearly(redis.command("PTTL", KEYS.pick(key)), PICK_LIFETIME) for key in keys)


@in_reactor
async def test_asking_which_stream_is_picked_picks_nothing_and_keeps_nothing_alive(
    shared: Sharing, redis: Client
) -> None:
    async with shared(2, A) as (one, other):
        assert await other.balancer.picked(["live/1", "live/2"]) is None
        await one.pick("live/2")
        assert await other.balancer.picked(["live/1", "live/2"]) == "live/2"
        await shared.let_pass(PICK_LIFETIME / 2, one, other)
        assert await other.balancer.picked(["live/1", "live/2"]) == "live/2"
        assert redis.command("PTTL", KEYS.pick("live/2")) <= PICK_LIFETIME * 500
        assert redis.command("EXISTS", KEYS.pick("live/1")) == 0


@in_reactor
async def test_a_pinned_client_finds_its_origin_at_every_proxy(shared: Sharing) -> None:
    async with shared(2, A, HTTP_ONLY) as (one, other):
        assert await other.balancer.pinned(STREAM, "a", Surface.RTMP) == A
        assert await other.balancer.pinned(STREAM, "a", Surface.HTTP) is None
        assert await other.balancer.pinned(STREAM, "x", Surface.RTMP) is None
        restarted = make_origin("a", service="s2")
        await one.register(restarted)
        await other.a_second_passes()
        assert await other.balancer.pinned(STREAM, "a", Surface.RTMP) == restarted
        for _ in range(DOWN_AFTER):
            await other.balancer.report_failure(restarted)
        assert await other.balancer.pinned(STREAM, "a", Surface.RTMP) is None


@in_reactor
async def test_pinned_clients_keep_the_pick_of_their_stream_alive_with_few_questions(
    shared: Sharing, redis: Client
) -> None:
    async with shared(2, A) as (one, other):
        await one.pick()
        for _ in range(3):
            await shared.let_pass(PICK_LIFETIME / 2, one, other)
            other.store.asked.clear()
            for _ in range(20):
                assert result_of(other.balancer.pinned(STREAM, "a", Surface.RTMP)) == A
            assert len(other.store.asked) == 1
            await until(reactor, lambda: nearly(redis.command("PTTL", KEYS.pick(STREAM)), PICK_LIFETIME), "renewed")
        assert streams(redis) == {"a": 1}


# Sessions


@in_reactor
async def test_an_hls_session_that_began_at_one_proxy_goes_on_at_the_other(shared: Sharing) -> None:
    session = HlsSession("abc1234", STREAM, "http://example.com/live/s.m3u8")
    async with shared() as (one, other):
        assert await one.balancer.save_hls(session) == session
        for _ in range(3):
            await shared.let_pass(SESSION_LIFETIME - 1, one, other)
            assert await other.balancer.load_hls("abc1234") == session
        assert await other.balancer.load_hls("unknown") is None
        await shared.let_pass(SESSION_LIFETIME, one, other)
        assert await other.balancer.load_hls("abc1234") is None


@in_reactor
async def test_all_proxies_name_the_same_id_in_the_playlists_of_a_stream(shared: Sharing) -> None:
    """In Go proxies on Redis, the id changes at each refresh (G29)."""
    async with shared(4) as proxies:
        sessions = [HlsSession(f"id-{number}", STREAM, f"http://{number}/") for number in range(len(proxies))]
        kept = await gatherResults(
            [proxy.balancer.save_hls(session) for proxy, session in zip(proxies, sessions, strict=True)]
        )
        assert len(set(kept)) == 1
        for proxy in proxies:
            assert await proxy.balancer.load_hls(kept[0].spbhid) == kept[0]
            assert await proxy.balancer.save_hls(HlsSession("new", STREAM, "http://new/")) == kept[0]


@in_reactor
async def test_the_id_of_another_streams_hls_session_is_refused(shared: Sharing) -> None:
    async with shared() as (one, other):
        await one.balancer.save_hls(HlsSession("abc", "live/1", "http://1/"))
        with pytest.raises(ValueError, match="'abc' is that of another stream"):
            await other.balancer.save_hls(HlsSession("abc", "live/2", "http://2/"))


@in_reactor
async def test_a_webrtc_client_that_moves_to_another_proxy_is_known_there_for_as_long_as_it_stays(
    shared: Sharing,
) -> None:
    """G38: what Go proxies know of a client is gone after 120 s, however long it stays."""
    async with shared() as (one, other):
        await one.balancer.save_webrtc(WEBRTC)
        for _ in range(4):
            await shared.let_pass(SESSION_LIFETIME - 1, one, other)
            assert await one.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
        await shared.let_pass(SESSION_LIFETIME - 1, one, other)
        assert await other.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
        await shared.let_pass(SESSION_LIFETIME, one, other)
        assert await other.balancer.load_webrtc(WEBRTC.ufrag) is None
        assert await one.balancer.load_webrtc(WEBRTC.ufrag) is None


@in_reactor
async def test_a_webrtc_session_that_is_over_is_so_at_every_proxy(shared: Sharing) -> None:
    async with shared() as (one, other):
        await one.balancer.save_webrtc(WEBRTC)
        assert await other.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
        await other.balancer.drop_webrtc(WEBRTC.ufrag)
        assert await one.balancer.load_webrtc(WEBRTC.ufrag) is None
        await other.balancer.drop_webrtc("unknown")


# What is in Redis


@in_reactor
async def test_what_a_go_proxy_knows_is_known(shared: Sharing, redis: Client) -> None:
    for key, entry in RECORDED.items():
        redis.command("SET", key, entry.value, *(() if entry.left < 0 else ("PX", entry.left)))
    origins = {decode_origin(RECORDED[name].value) for name in json.loads(RECORDED[KEYS.all_servers].value)}
    picks = {name: entry.value for name, entry in RECORDED.items() if name.startswith(KEYS.pick(""))}
    async with shared(2) as proxies:
        for proxy in proxies:
            assert set(await proxy.balancer.origins()) == origins
            for name, record in picks.items():
                key = name.removeprefix(KEYS.pick(""))
                assert (await proxy.pick(key)).id == KEYS.origin_id(record)
                assert await proxy.balancer.picked([key]) == key
            for spbhid in ("8852af4", "809c562", "d9c4da4"):
                session = await proxy.balancer.load_hls(spbhid)
                assert session is not None
                assert session.spbhid == spbhid
                assert await proxy.balancer.save_hls(HlsSession("new", session.key, "http://new/")) is not None
            assert await proxy.balancer.load_webrtc("614wop7v:QXzF") is None


@pytest.mark.parametrize("rubbish", ["", "x", "{", "[]", "{}", "null", "[" * 2_000, "\udcff", '{"spbhid":1}', None])
@in_reactor
async def test_rubbish_in_redis_does_no_harm(shared: Sharing, redis: Client, rubbish: str | None) -> None:
    keys = [KEYS.all_servers, KEYS.server(B.id), KEYS.pick(STREAM), KEYS.hls(STREAM), KEYS.spbhid("abc")]
    keys += [KEYS.webrtc(WEBRTC.ufrag), KEYS.ufrag(WEBRTC.ufrag), KEYS.streams(A.id)]
    for key in keys:
        if rubbish is None:
            redis.put_another_type(key)
        else:
            redis.command("SET", key, rubbish)
    session = HlsSession("abc", STREAM, "http://example.com/live/s.m3u8")
    async with shared(2) as (one, other):
        assert await one.balancer.origins() == []
        with pytest.raises(NoOrigin):
            await one.pick()
        await one.register(A)
        assert await other.balancer.picked([STREAM]) is None
        assert await other.balancer.load_hls("abc") is None
        assert await other.balancer.load_webrtc(WEBRTC.ufrag) is None
        await other.a_second_passes()
        assert await other.balancer.origins() == [A]
        assert await other.pick() == A
        assert await other.balancer.save_hls(session) == session
        await other.balancer.save_webrtc(WEBRTC)
        assert await one.pick() == A
        assert await one.balancer.load_hls("abc") == session
        assert await one.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
        assert streams(redis) == {"a": 1}


@in_reactor
async def test_an_origin_in_redis_that_nobody_may_register_is_none(shared: Sharing, redis: Client) -> None:
    async with shared(2, A) as (one, other):
        too_long = make_origin("x" * 200)
        assert await other.pick() == A
        redis.command("SET", KEYS.server(too_long.id), encode_origin(too_long, datetime.now(UTC)), "PX", 100_000)
        redis.command("SET", KEYS.all_servers, json.dumps([KEYS.server(too_long.id), KEYS.server(A.id)]))
        redis.command("SET", KEYS.pick(STREAM), KEYS.server(too_long.id))
        await one.a_second_passes()
        await other.a_second_passes()
        assert await other.balancer.origins() == [A]
        assert await other.pick() == A
        assert redis.command("GET", KEYS.pick(STREAM)) == KEYS.server(A.id)
        assert await one.pick() == A


@in_reactor
async def test_proxies_with_different_prefixes_share_nothing(shared: Sharing, redis: Client) -> None:
    session = HlsSession("abc", STREAM, "http://example.com/live/s.m3u8")
    async with shared(1, A, prefix="stage") as (stage,), shared(1, B, prefix="live") as (live,):
        for proxy in (stage, live):
            await proxy.pick()
            await proxy.balancer.save_webrtc(WEBRTC)
            await proxy.a_second_passes()
        await stage.balancer.save_hls(session)
        await stage.balancer.drop_webrtc(WEBRTC.ufrag)
        assert await stage.pick() == A
        assert await live.pick() == B
        assert await live.balancer.load_hls("abc") is None
        assert await live.balancer.load_webrtc(WEBRTC.ufrag) == WEBRTC
        assert {key.partition(":")[0] for key in redis.command("KEYS", "*")} == {"stage", "live"}


@in_reactor
async def test_without_memory_left_in_redis_a_proxy_goes_on_alone(shared: Sharing, redis: Client) -> None:
    session = HlsSession("abc", STREAM, "http://example.com/live/s.m3u8")
    async with shared(1, A, B) as (one,):
        redis.command("CONFIG", "SET", "maxmemory", 1)
        try:
            await one.register(C)
            assert set(await one.balancer.origins()) == {A, B, C}
            picked = await one.pick()
            assert await one.balancer.save_hls(session) == session
            await one.balancer.save_webrtc(WEBRTC)
        finally:
            redis.command("CONFIG", "SET", "maxmemory", 0)
        assert await one.pick() == picked
