"""A Go proxy and one of ours in front of the same origins: what the Go proxy asked Redis then, asked again.

Each had an origin that sent its heartbeats there, and a publisher; then viewers came to the other proxy, of RTMP and of
HLS, and those of HLS were led to and fro, as by a load balancer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from twisted.internet import reactor

from srsproxy.balancer.model import Surface
from srsproxy.balancer.pins import PinRecords, Pins
from srsproxy.balancer.redis.model import Place
from srsproxy.balancer.redis.records import decode_origin
from tests.asynchronous import in_reactor, until
from tests.balancer.helpers import SESSION_LIFETIME
from tests.balancer.redis.server import Client
from tests.balancer.redis.shared import SharingProxy, sharing
from tests.recorded import CAPTURES

RECORDED: Final = json.loads((CAPTURES / "redis_go_pair.json").read_text())
OURS: Final = decode_origin(RECORDED["our_origin"])
THEIRS: Final = decode_origin(RECORDED["heartbeat"][0][2])


class Pair:
    """Our proxy; and the Go proxy, as Redis saw it."""

    def __init__(self, redis: Client, socket: Path) -> None:
        self._redis = redis
        self._place = Place(socket=str(socket))

    def go(self, step: str) -> list[Any]:
        """The Go proxy does this; the answers that it gets."""
        return [self._redis.command(*command) for command in RECORDED[step]]

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[SharingProxy]:
        """Both are there, and have had a heartbeat."""
        async with sharing(reactor, self._place, 1) as (proxy,):
            await proxy.register(OURS)
            self.go("heartbeat")
            await proxy.a_second_passes()
            yield proxy


@pytest.fixture
def pair(redis: Client, redis_socket: Path) -> Pair:
    return Pair(redis, redis_socket)


@in_reactor
async def test_each_knows_the_origin_that_sends_its_heartbeats_to_the_other(pair: Pair) -> None:
    async with pair() as proxy:
        assert set(await proxy.balancer.origins()) == {OURS, THEIRS}
        _, listed, ours, theirs, _ = pair.go("heartbeat")
        assert decode_origin(ours) == OURS
        assert decode_origin(theirs) == THEIRS
        assert len(json.loads(listed)) == 2
        await proxy.register(OURS)
        assert len(json.loads(pair.go("heartbeat")[1])) == 2


@in_reactor
async def test_a_stream_that_is_published_at_ours_is_played_at_the_go_proxy(pair: Pair) -> None:
    async with pair() as proxy:
        await proxy.balancer.pick("__defaultVhost__/live/ours", Surface.RTMP, prefer=OURS.server)
        assert decode_origin(pair.go("play")[-1]) == OURS


@in_reactor
async def test_a_stream_that_is_published_at_the_go_proxy_is_played_at_ours(pair: Pair) -> None:
    async with pair() as proxy:
        assert pair.go("publish")[0] is None
        assert await proxy.pick("__defaultVhost__/live/theirs") == THEIRS


@in_reactor
async def test_segments_in_a_playlist_of_the_go_proxy_are_had_from_ours(pair: Pair) -> None:
    async with pair() as proxy:
        pair.go("publish")
        spbhid = json.loads(pair.go("playlist")[2])["spbhid"]
        session = await proxy.balancer.load_hls(spbhid)
        assert session is not None
        assert session.key == "__defaultVhost__/live/theirs"
        assert await proxy.pick(session.key, Surface.HTTP) == THEIRS


@in_reactor
async def test_segments_in_a_playlist_of_ours_are_had_from_the_go_proxy(pair: Pair, redis: Client) -> None:
    async with pair() as proxy:
        pins = Pins(b"secret", proxy.balancer, proxy.clock)
        assert pins.token(OURS.server) == RECORDED["pin"]
        PinRecords(proxy.balancer, pins, proxy.clock, SESSION_LIFETIME).keep(OURS)
        record = RECORDED["segment"][0][1]
        await until(reactor, lambda: redis.command("EXISTS", record), "the record of the pin")
        found, pick, origin = pair.go("segment")
        stream = json.loads(found)["stream_url"]
        assert RECORDED["segment"][1][1].endswith(f":{stream}")
        assert pick == RECORDED["segment"][2][1]
        assert decode_origin(origin) == OURS
