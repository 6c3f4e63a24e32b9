"""Real WebRTC through a real ``twistd srsproxy``: aiortc publishes and plays by WHIP, WHEP and SRS's JSON API."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.processes import Program, api_port_of, ports_of, srsproxy
from tests.webrtc.aiortc_programs import AiortcClient, AiortcOrigin

SECRET: Final = {"PROXY_CLUSTER_SECRET": "a secret of these tests"}

FRAMES: Final = 30
"""Pictures that show that a stream is played: two seconds of it."""

FOREVER: Final = ("--frames", "1000000")

ENOUGH: Final = 30.0
"""Seconds in which a player has seen so many on a slow machine; and in which a client that hears nothing has asked once
more whether its peer is still there, which it does every five (RFC 7675)."""


@dataclass
class Cluster:
    """A proxy in front of two origins, and what is to be ended with it."""

    proxy: Program
    api_port: int
    system_port: int
    origins: list[AiortcOrigin]
    stack: AsyncExitStack

    def whip(self, stream: str) -> str:
        return f"http://127.0.0.1:{self.api_port}/rtc/v1/whip/?app=live&stream={stream}"

    def whep(self, stream: str) -> str:
        return f"http://127.0.0.1:{self.api_port}/rtc/v1/whep/?app=live&stream={stream}"

    def json(self, stream: str) -> str:
        return f"webrtc://127.0.0.1:{self.api_port}/live/{stream}"

    async def publish(self, url: str) -> AiortcClient:
        """A publisher that is connected."""
        publisher = await self.stack.enter_async_context(AiortcClient(reactor, "publish", url))
        await publisher.told("connected")
        return publisher

    async def play(self, url: str, *options: str) -> AiortcClient:
        return await self.stack.enter_async_context(AiortcClient(reactor, "play", url, *options))

    def offers(self, stream: str) -> list[list[str]]:
        """What each origin was asked to do with a stream; the one that was asked for less first."""
        told = [origin.events("session", stream=f"live/{stream}") for origin in self.origins]
        return sorted([session["action"] for session in sessions] for sessions in told)

    async def ended(self, stream: str, why: str) -> None:
        """All sessions of a stream have ended at their origin, for this reason."""
        for origin in self.origins:
            for session in origin.events("session", stream=f"live/{stream}"):
                await origin.told("ended", session=session["session"], why=why)


@asynccontextmanager
async def cluster(folder: Path, **environ: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(srsproxy(reactor, folder, **SECRET, **environ))
        _, system_port = await ports_of(proxy)
        register = f"http://127.0.0.1:{system_port}/api/v1/srs/register"
        origins = [await stack.enter_async_context(AiortcOrigin(reactor, name, register)) for name in ("one", "two")]
        for name in ("one", "two"):
            await proxy.read(f"origin registered: {name}")
        yield Cluster(proxy, await api_port_of(proxy), system_port, origins, stack)


def media_ports(client: AiortcClient) -> set[int]:
    """The ports that a client was answered; all are of the address at which it has reached the proxy."""
    (answer,) = client.events("answer")
    candidates = [line.split() for line in answer["candidates"]]
    assert {(transport, host) for _, _, transport, _, host, *_ in candidates} == {("udp", "127.0.0.1")}
    return {int(port) for _, _, _, _, _, port, *_ in candidates}


@in_reactor
async def test_streams_are_played_as_published_from_one_origin_each_and_deletion_reaches_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        publishers = [await running.publish(running.whip(name)) for name in ("a", "b")]
        players = [await running.play(url) for url in (running.whep("a"), f"{running.whip('b')}&action=play")]
        for player in players:
            assert await player.wait(ENOUGH) == 0, player.output
            await player.told("deleted", status=200)
        for publisher in publishers:
            publisher.signal(signal.SIGTERM)
            assert await publisher.wait() == 0, publisher.output
            await publisher.told("deleted", status=200)
        (port,) = set.union(*map(media_ports, publishers + players))
        assert port not in {origin.rtc_port for origin in running.origins}
        for name in ("a", "b"):
            assert running.offers(name) == [[], ["publish", "play"]]
            await running.ended(name, "deleted")
            for action in ("publish", "play"):
                await running.proxy.read(f"{action} __defaultVhost__/live/{name} from 127.0.0.1: finished")


@in_reactor
async def test_the_json_api_leads_to_the_same_origin_as_whip_and_sessions_end_with_their_clients(
    tmp_path: Path,
) -> None:
    # The proxy looks every second, not every five, whether a session is over that was not deleted.
    async with cluster(tmp_path, PROXY_WEBRTC_IDLE_TIMEOUT="6s") as running:
        publisher = await running.publish(running.json("a"))
        for url in (running.json("a"), running.whep("a")):
            player = await running.play(url)
            assert await player.wait(ENOUGH) == 0, player.output
            assert media_ports(player) == media_ports(publisher)
        publisher.signal(signal.SIGTERM)
        assert await publisher.wait() == 0, publisher.output
        assert running.offers("a") == [[], ["publish", "play", "play"]]
        await running.proxy.read("publish __defaultVhost__/live/a from 127.0.0.1: finished")


@in_reactor
async def test_sessions_go_on_through_a_proxy_that_has_never_heard_of_them(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        publisher = await running.publish(running.whip("a"))
        player = await running.play(running.whep("a"), *FOREVER)
        await player.played(FRAMES, ENOUGH)
        (media_port,) = media_ports(player)
        running.proxy.signal(signal.SIGKILL)
        await running.proxy.wait()
        ports = {"HTTP_API": running.api_port, "WEBRTC_SERVER": media_port, "SYSTEM_API": running.system_port}
        addresses = {f"PROXY_{surface}": f"127.0.0.1:{port}" for surface, port in ports.items()}
        async with srsproxy(reactor, tmp_path, **SECRET, **addresses):
            await player.played(FRAMES, ENOUGH)
            for client in (player, publisher):
                assert not client.events("failed")
                client.signal(signal.SIGTERM)
                await client.told("deleted", status=200)
            await running.ended("a", "deleted")
