"""Real encoders and players at the demo origin."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from twisted.internet import reactor

from srsproxy.demo.hls import Segments
from tests.asynchronous import in_reactor
from tests.demo.helpers import House
from tests.processes import Program, codecs, publish_with_ffmpeg

MEDIA = {"h264", "aac"}


def url(house: House) -> str:
    return f"rtmp://{house.origin.rtmp_address}/live/a"


async def published(house: House) -> None:
    await house.origin.streams.until(lambda: bool(house.origin.streams.published)).addTimeout(20.0, reactor)


@in_reactor
async def test_what_ffmpeg_publishes_plays_with_both_codecs_in_every_way() -> None:
    async with House() as house, publish_with_ffmpeg(reactor, url(house)):
        await published(house)
        http = f"http://{house.origin.http_address}/live/a"
        assert await codecs(reactor, url(house)) == MEDIA
        assert await codecs(reactor, f"{http}.flv") == MEDIA
        assert await codecs(reactor, f"{http}.ts") == MEDIA
        assert await codecs(reactor, f"{http}.m3u8") == MEDIA
        assert await codecs(reactor, f"{http}.aac") == {"aac"}
        async with Program(reactor, ("ffprobe", "-hide_banner", f"{http}.mp3")) as probe:
            await probe.read("Audio: mp3")


@pytest.mark.parametrize("segments", [Segments.ENCRYPTED_TS, Segments.FMP4])
@in_reactor
async def test_hls_plays_with_both_codecs(segments: Segments) -> None:
    async with House(segments=segments) as house, publish_with_ffmpeg(reactor, url(house)):
        await published(house)
        assert await codecs(reactor, f"http://{house.origin.http_address}/live/a.m3u8") == MEDIA


@in_reactor
async def test_ffmpeg_ends_its_stream_in_an_orderly_way() -> None:
    async with House() as house, publish_with_ffmpeg(reactor, url(house)) as publisher:
        await published(house)
        player = await house.player("a")
        await player.read_media(5)
        house.origin.record = True
        publisher.signal(signal.SIGINT)
        await house.origin.streams.until(lambda: not house.origin.streams.published)
        assert b"FCUnpublish" in house.origin.visits[0].received


@in_reactor
async def test_rtmpdump_plays_for_the_time_that_it_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "a.flv"
    async with House() as house, publish_with_ffmpeg(reactor, url(house)):
        await published(house)
        command = ("rtmpdump", "-q", "-v", "-r", url(house), "-o", str(file), "-B", "1")
        async with Program(reactor, command) as player:
            await player.wait(20.0)
        assert await codecs(reactor, str(file)) == MEDIA


@in_reactor
async def test_gstreamer_publishes_and_plays() -> None:
    source = "videotestsrc is-live=true ! video/x-raw,width=160,height=90,framerate=15/1"
    encoder = "x264enc tune=zerolatency key-int-max=15 ! h264parse ! flvmux streamable=true"
    async with House() as house:
        publish = f"gst-launch-1.0 {source} ! {encoder} ! rtmp2sink location={url(house)}"
        play = f"gst-launch-1.0 rtmp2src location={url(house)} num-buffers=20 ! flvdemux ! h264parse ! fakesink"
        async with Program(reactor, publish.split()):
            await published(house)
            async with Program(reactor, play.split()) as player:
                assert await player.wait(20.0) == 0
