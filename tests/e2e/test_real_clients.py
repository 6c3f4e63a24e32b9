"""Real programs through a real ``twistd srsproxy``: ffmpeg, rtmpdump and GStreamer, with nginx-rtmp as origins."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.asynchronous import in_reactor, until
from tests.processes import NginxRtmp, Program, codecs, ports_of, publish_with_ffmpeg, register, srsproxy

MEDIA = {"h264", "aac"}


@dataclass
class Cluster:
    """A proxy in front of two origins, and what is to be ended with it."""

    proxy: Program
    port: int
    origins: list[NginxRtmp]
    stack: AsyncExitStack

    def url(self, name: str) -> str:
        return f"rtmp://127.0.0.1:{self.port}/live/{name}"

    async def run(self, *command: str) -> Program:
        return await self.stack.enter_async_context(Program(reactor, command))

    async def publish(self, name: str) -> Program:
        """A publisher whose stream has started."""
        publisher = await self.stack.enter_async_context(publish_with_ffmpeg(reactor, self.url(name)))
        await self.proxy.read(f"publish __defaultVhost__/live/{name}: started")
        return publisher


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(srsproxy(reactor, folder))
        port, system_port = await ports_of(proxy)
        origins = [await stack.enter_async_context(NginxRtmp(reactor, folder / name)) for name in ("one", "two")]
        for number, origin in enumerate(origins):
            await register(reactor, system_port, f"origin{number}", str(origin.rtmp_port))
        yield Cluster(proxy, port, origins, stack)


@in_reactor
async def test_six_publishers_over_two_origins_each_play_and_are_on_exactly_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        names = {f"s{number}" for number in range(6)}
        for name in sorted(names):
            await running.publish(name)
        one, two = [await origin.published() for origin in running.origins]
        assert one | two == names
        assert not one & two
        assert len(one) == len(two) == 3
        played = [Deferred.fromCoroutine(codecs(reactor, running.url(name))) for name in names]
        assert await gatherResults(played) == [MEDIA] * 6


@in_reactor
async def test_ffmpeg_prints_why_a_second_publisher_is_refused_and_the_first_runs_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        first = await running.publish("s")
        second = await running.stack.enter_async_context(publish_with_ffmpeg(reactor, running.url("s")))
        assert await second.wait() != 0
        assert "Server error: " in second.output
        assert await codecs(reactor, running.url("s")) == MEDIA
        assert first.exit_code is None


@in_reactor
async def test_rtmpdump_plays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        await running.publish("s")
        file = tmp_path / "s.flv"
        player = await running.run("rtmpdump", "-q", "-v", "-r", running.url("s"), "-o", str(file))
        await until(reactor, lambda: file.exists() and file.stat().st_size > 20_000, "20 kB played")
        player.signal(signal.SIGINT)
        await player.wait()
        assert await codecs(reactor, str(file)) == MEDIA


def gstreamer_publisher(sink: str) -> list[str]:
    """A live stream of H.264 and AAC to ``sink``."""
    video = "videotestsrc is-live=true ! video/x-raw,width=160,height=90,framerate=15/1"
    video += " ! x264enc tune=zerolatency key-int-max=15 ! h264parse ! mux."
    audio = "audiotestsrc is-live=true ! avenc_aac ! aacparse ! mux."
    return f"gst-launch-1.0 flvmux name=mux streamable=true ! {sink} {video} {audio}".split()


@in_reactor
async def test_librtmp_publishes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        await running.run(*gstreamer_publisher(f"rtmpsink location={running.url('l')}"))
        await running.proxy.read("publish __defaultVhost__/live/l: started")
        assert await codecs(reactor, running.url("l")) == MEDIA


@in_reactor
async def test_gstreamer_publishes_and_plays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        publisher = await running.run(*gstreamer_publisher(f"rtmp2sink location={running.url('g')}"))
        await running.proxy.read("publish __defaultVhost__/live/g: started")
        assert await codecs(reactor, running.url("g")) == MEDIA
        # More than a second, so that a key frame is among them.
        play = f"gst-launch-1.0 rtmp2src location={running.url('g')} num-buffers=150 ! flvdemux name=demux"
        play += " demux.video ! queue ! h264parse ! fakesink demux.audio ! queue ! aacparse ! fakesink"
        player = await running.run(*play.split())
        assert await player.wait(30.0) == 0
        assert publisher.exit_code is None
        # An end by SIGINT is an orderly one.
        publisher.signal(signal.SIGINT)
        await running.proxy.read("publish __defaultVhost__/live/g from 127.0.0.1: finished")


@in_reactor
async def test_clients_of_a_killed_origin_are_closed_at_once_and_a_publisher_reconnects_to_the_other(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as running:
        publisher = await running.publish("s")
        home, other = running.origins
        if not await home.published():
            home, other = other, home
        home.signal(signal.SIGKILL)
        killed = reactor.seconds()
        await running.proxy.read("publish __defaultVhost__/live/s from 127.0.0.1: origin-lost")
        assert reactor.seconds() - killed < 1.0
        assert await publisher.wait() != 0
        again = await running.stack.enter_async_context(publish_with_ffmpeg(reactor, running.url("s")))
        await running.proxy.read(f"publish __defaultVhost__/live/s: started on origin 127.0.0.1:{other.rtmp_port}")
        assert await codecs(reactor, running.url("s")) == MEDIA
        assert again.exit_code is None
