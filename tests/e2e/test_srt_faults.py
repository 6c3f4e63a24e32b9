"""Real SRT through a real ``twistd srsproxy``, while packets are lost, origins are silent or die, and proxies end."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor, until
from tests.e2e.srt_cluster import DOWN, ENOUGH, FOREVER, HOST, Player, Publisher, cluster, play, publish
from tests.processes import Program, ports_of, register_srt, srsproxy, srt_port_of
from tests.srt.conversation import UdpSocket
from tests.srt.lossy import LossyPath

ONE_ATTEMPT: Final = 1000
"""Milliseconds for which the proxy waits for an origin before it tries another."""

TIMED_OUT: Final = 16
"""Reject reason of libsrt (srt.h)."""

ENDED: Final = -signal.SIGTERM
"""How twistd exits after an orderly stop by that signal."""

SECRET: Final = {"PROXY_CLUSTER_SECRET": "a secret of these tests"}


@asynccontextmanager
async def silent_origin() -> AsyncIterator[UdpSocket]:
    """A socket that takes everything, and answers nothing."""
    origin = UdpSocket(reactor, lambda _datagram, _address: None, HOST)
    try:
        yield origin
    finally:
        await origin.close()


# Origins that do not answer


@in_reactor
async def test_a_hundred_callers_are_connected_in_time_although_one_origin_of_three_is_silent(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running, silent_origin() as silent:
        await running.register("silent", silent.address)
        callers = await running.call(*(play(f"s{number}") for number in range(100)))
        told = await callers.all_connected()
        assert silent.came
        milliseconds = sorted(event["milliseconds"] for event in told)
        # Those of the two that answer need not wait for those of the third.
        assert milliseconds[60] < ONE_ATTEMPT
        assert milliseconds[-1] < 3000
        assert not callers.events("rejected")


# Networks that lose packets


@in_reactor
@pytest.mark.parametrize("where", ["callers", "origin"])
async def test_media_is_complete_and_in_order_if_packets_are_lost_and_late(tmp_path: Path, where: str) -> None:
    async with cluster(tmp_path, origins=0) as running:
        origin = await running.start_origin()
        options = ("--latency", "1000", *FOREVER)
        streams = [f"s{number}" for number in range(5)]
        target = running.address if where == "callers" else origin.address
        async with LossyPath(reactor, target, seed=5) as lossy:
            await running.register("origin", lossy.address if where == "origin" else origin.address)
            at = lossy.address if where == "callers" else running.address
            players = await running.call(*map(play, streams), options=options, at=at)
            await players.all_connected()
            publishers = await running.call(*map(publish, streams), options=options, at=at)
            await publishers.all_connected()
            for name in streams:
                for receiver, who in (
                    (origin, {"stream_id": publish(name)}),
                    (players, {"caller": streams.index(name)}),
                ):
                    told = await receiver.received(ENOUGH, **who)
                    assert (told["missing"], told["wrong"]) == (0, 0)
            assert lossy.lost > 100
            assert lossy.late > 100


# Ends of proxies and of origins


@in_reactor
async def test_at_sigterm_sessions_have_their_grace_and_are_then_shut_down(tmp_path: Path) -> None:
    async with cluster(tmp_path, PROXY_GRACE_QUIT_TIMEOUT="2s") as running:
        callers = await running.call(publish("s"), play("s"), options=FOREVER)
        await callers.all_connected()
        await callers.received(ENOUGH, caller=1)
        running.proxy.signal(signal.SIGTERM)
        await running.proxy.read("2 sessions are running; they have 2 s to end")
        so_far = callers.events("received", caller=1)[-1]["packets"]
        late = await running.call(play("s"))
        assert (await late.told("rejected"))["reason"] == DOWN
        told = await callers.received(so_far + ENOUGH, caller=1)
        assert (told["missing"], told["wrong"]) == (0, 0)
        assert not callers.events("closed")
        assert await running.proxy.wait() == ENDED
        ended = time.monotonic()
        for number in (0, 1):
            await callers.told("closed", caller=number)
        for stream_id in (publish("s"), play("s")):
            await running.origin_of(stream_id).told("closed", stream_id=stream_id)
        assert time.monotonic() - ended < 1.0
        for action in ("publish", "play"):
            await running.proxy.read(f"{action} __defaultVhost__/live/s from 127.0.0.1: shutdown")


@in_reactor
async def test_callers_of_a_killed_origin_are_told_and_call_again_at_the_other(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        callers = await running.call(publish("s"), play("s"), options=FOREVER)
        await callers.all_connected()
        await callers.received(ENOUGH, caller=1)
        home = running.origin_of(publish("s"))
        (other,) = [origin for origin in running.origins if origin is not home]
        home.signal(signal.SIGKILL)
        killed = time.monotonic()
        for number in (0, 1):
            await callers.told("closed", caller=number)
        # By themselves they notice after five seconds.
        assert time.monotonic() - killed < 2.0
        again = await running.call(publish("s"), play("s"), options=FOREVER)
        for told in await again.all_connected():
            assert told["milliseconds"] < 1000
        await again.received(ENOUGH, caller=1)
        for stream_id in (publish("s"), play("s")):
            assert other.events("accepted", stream_id=stream_id)
        await running.proxy.read("publish __defaultVhost__/live/s from 127.0.0.1: origin-lost")


@in_reactor
async def test_callers_of_a_killed_proxy_reconnect_to_the_next_at_its_port(tmp_path: Path) -> None:
    async with cluster(tmp_path, origins=1) as running:
        (origin,) = running.origins
        async with Publisher(running.url(publish("s"))), Player(running.url(play("s"))) as player:
            await until(reactor, lambda: player.reception.packets >= ENOUGH, "media is played")
            running.proxy.signal(signal.SIGKILL)
            await running.proxy.wait()
            async with replacement(tmp_path, running.port) as (proxy, system_port):
                await register_srt(reactor, system_port, "origin0", origin.address[1])
                await proxy.read("publish __defaultVhost__/live/s: started")
                await proxy.read("play __defaultVhost__/live/s: started")
                played = player.reception.packets
                await until(reactor, lambda: player.reception.packets >= played + ENOUGH, "media is played again")
                assert player.reception.wrong == 0


@asynccontextmanager
async def replacement(folder: Path, port: int, **environ: str) -> AsyncIterator[tuple[Program, int]]:
    """Another proxy at the same port, and where it takes heartbeats."""
    async with srsproxy(reactor, folder, PROXY_SRT_SERVER=f"{HOST}:{port}", **environ) as proxy:
        await srt_port_of(proxy)
        _, system_port = await ports_of(proxy)
        yield proxy, system_port


@in_reactor
@pytest.mark.parametrize("secret", [SECRET, {}], ids=["the same secret", "another secret"])
async def test_a_proxy_that_begins_in_the_middle_of_a_handshake(tmp_path: Path, secret: dict[str, str]) -> None:
    patience = {"PROXY_SRT_ORIGIN_TIMEOUT": "20s", "PROXY_SRT_HANDSHAKE_TIMEOUT": "20s"}
    async with cluster(tmp_path, origins=0, **secret, **patience) as running, silent_origin() as silent:
        origin = await running.start_origin()
        await running.register("silent", silent.address)
        waiting = await running.call(play("s"), options=("--connect-timeout", "8000" if secret else "3000"))
        await until(reactor, lambda: silent.came, "the caller has concluded")
        running.proxy.signal(signal.SIGKILL)
        await running.proxy.wait()
        async with replacement(tmp_path, running.port, **secret) as (_, system_port):
            await register_srt(reactor, system_port, "live", origin.address[1])
            if secret:
                # It knows the cookie.
                await waiting.all_connected()
            else:
                assert (await waiting.told("rejected"))["reason"] == TIMED_OUT
            next_one = await running.call(play("s"))
            (told,) = await next_one.all_connected()
            assert told["milliseconds"] < 1000
