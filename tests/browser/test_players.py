"""hls.js and mpegts.js in headless Chromium play what ffmpeg publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from srsproxy.demo.heartbeat import Heartbeat
from srsproxy.demo.hls import Segments
from srsproxy.demo.origin import DemoOrigin
from tests.asynchronous import PATIENCE, in_reactor
from tests.browser.chromium import shown
from tests.processes import Program, http_port_of, live_source, ports_of, srsproxy


@asynccontextmanager
async def served_streams(folder: Path, segments: Segments = Segments.TS) -> AsyncIterator[str]:
    """A proxy with one origin, to which ``live/a`` is published; where players find it: ``http://127.0.0.1:18080``.

    :param folder: for the proxy's files.
    :param segments: what the origin's HLS is made of.
    """
    origin = DemoOrigin(reactor, name="a", segments=segments)
    origin.startService()
    try:
        async with srsproxy(reactor, folder) as proxy:
            rtmp_port, system_port = await ports_of(proxy)
            register = f"http://127.0.0.1:{system_port}/api/v1/srs/register"
            await Heartbeat(reactor, register, origin.registration).send()
            # What browsers decode; ffmpeg would keep the colours of its test picture.
            encoder = ("ffmpeg", *live_source(60.0), "-pix_fmt", "yuv420p")
            async with Program(reactor, (*encoder, f"rtmp://127.0.0.1:{rtmp_port}/live/a")):
                await origin.streams.until(lambda: bool(origin.streams.published)).addTimeout(PATIENCE, reactor)
                yield f"http://127.0.0.1:{await http_port_of(proxy)}"
    finally:
        await origin.stopService()


def plays(seen: dict[str, Any]) -> bool:
    """Whether more than one segment of a second was played, at 15 frames a second, with sound."""
    picture = seen["size"] == [160, 90] and seen["frames"] >= 20
    return bool(picture and seen["audioBytes"] > 0 and seen["seconds"] >= 1.5)


@pytest.mark.parametrize("player", ["flv", "ts"])
@in_reactor
async def test_mpegts_js_plays(tmp_path: Path, player: str) -> None:
    async with (
        served_streams(tmp_path) as streams,
        shown(reactor, tmp_path, "player.html", player=player, url=f"{streams}/live/a.{player}") as page,
    ):
        await page.reported("playing", plays)


@pytest.mark.parametrize("segments", Segments)
@in_reactor
async def test_hls_js_plays(tmp_path: Path, segments: Segments) -> None:
    async with (
        served_streams(tmp_path, segments) as streams,
        shown(reactor, tmp_path, "player.html", player="hls", url=f"{streams}/live/a.m3u8") as page,
    ):
        await page.reported("playing", plays)


@pytest.mark.parametrize(("player", "path"), [("flv", "live/no/such.flv"), ("hls", "live/none.m3u8")])
@in_reactor
async def test_a_player_sees_why_a_stream_is_refused(tmp_path: Path, player: str, path: str) -> None:
    async with (
        served_streams(tmp_path) as streams,
        shown(reactor, tmp_path, "player.html", player=player, url=f"{streams}/{path}") as page,
    ):
        with pytest.raises(AssertionError, match="'playing' was not reported"):
            await page.reported("playing", plays)
        error = await page.reported("error")
        assert error.details["status"] == 404
