"""HLS players of the demo origin; wire-facts 4 has what SRS does."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet import reactor

from srsproxy.demo import hls
from srsproxy.demo.hls import Segments
from srsproxy.rtmp.events import Action
from tests.asynchronous import in_reactor, until
from tests.demo.helpers import House
from tests.http.origins import RawHttpClient, Response
from tests.rtmp_client import RtmpTestClient

PLAYLIST = b"application/vnd.apple.mpegurl"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """How many files and folders of this pattern there are where temporary ones are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda pattern: len(list(tmp_path.glob(pattern)))


async def first_playlist(
    house: House, client: RawHttpClient, publisher: RtmpTestClient, target: str = "/live/a.m3u8"
) -> Response:
    """The answer to the first request for a stream's playlist, which has segments then, and not too many for it."""
    asked = len(house.origin.requests)
    client.request(target)
    await until(reactor, lambda: len(house.origin.requests) > asked, "the request")
    publisher.send_media(100)
    return await client.response()


def lines(response: Response) -> list[str]:
    return response.body.decode().splitlines()


@in_reactor
async def test_a_player_gets_a_master_with_its_context_then_playlists_and_segments() -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        master = await first_playlist(house, client, publisher, "/live/a.m3u8?token=1&x=y")
        assert (master.status, master.field(b"Content-Type")) == (200, PLAYLIST)
        begin, stream, media = lines(master)
        assert (begin, stream) == ("#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1")
        assert (match := re.fullmatch(r"/live/a\.m3u8\?hls_ctx=([0-9a-z]{8})&token=1&x=y", media))
        playlist = await client.get(media)
        assert (playlist.status, playlist.field(b"Content-Type")) == (200, PLAYLIST)
        assert lines(playlist)[:2] == ["#EXTM3U", "#EXT-X-VERSION:3"]
        segments = [line for line in lines(playlist) if not line.startswith("#")]
        assert segments
        assert all(re.fullmatch(rf"a-[0-9]+\.ts\?hls_ctx={match[1]}", segment) for segment in segments)
        segment = await client.get(f"/live/{segments[0]}")
        assert (segment.status, segment.field(b"Content-Type")) == (200, b"video/MP2T")
        assert segment.field(b"Content-Length") == str(len(segment.body)).encode()
        assert segment.body[::188] == b"\x47" * (len(segment.body) // 188)


@in_reactor
async def test_a_context_of_another_origin_is_adopted() -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        target = "/live/a.m3u8?hls_ctx=12345678&token=1"
        master = await first_playlist(house, client, publisher, target)
        assert lines(master)[2:] == ["/live/a.m3u8?hls_ctx=12345678"]
        assert "a-0.ts?hls_ctx=12345678" in lines(await client.get(target))


@in_reactor
async def test_only_the_latest_contexts_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls, "MAX_CONTEXTS", 2)
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        await first_playlist(house, client, publisher)
        for context in ("1", "2", "3"):
            await client.get(f"/live/a.m3u8?hls_ctx={context}")
        known = {context: lines(await client.get(f"/live/a.m3u8?hls_ctx={context}"))[1] for context in ("3", "2", "1")}
        assert ["STREAM-INF" in line for line in known.values()] == [False, False, True]


@in_reactor
async def test_the_playlist_slides_and_files_that_it_lost_go_in_time(files: Callable[[str], int]) -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        (media,) = lines(await first_playlist(house, client, publisher))[2:]
        assert files("*/0.ts") == 1
        publisher.send_media(1000)
        await until(reactor, lambda: not files("*/0.ts"), "the first segment goes")
        assert (await client.get("/live/a-0.ts")).status == 404
        playlist = lines(await client.get(media))
        assert "#EXT-X-MEDIA-SEQUENCE:0" not in playlist
        assert sum(line.startswith("#EXTINF") for line in playlist) == 5


@in_reactor
async def test_the_key_of_encrypted_segments_has_the_origins_own_address() -> None:
    async with House(segments=Segments.ENCRYPTED_TS) as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        (media,) = lines(await first_playlist(house, client, publisher))[2:]
        playlist = (await client.get(media)).body.decode()
        method = re.search('^#EXT-X-KEY:METHOD=AES-128,URI="(.*?)",IV=0x[0-9a-f]{32}$', playlist, re.MULTILINE)
        assert method
        assert method[1] == f"http://{house.origin.http_address}/live/a-0.key"
        key = await client.get("/live/a-0.key")
        assert (key.field(b"Content-Type"), len(key.body)) == (b"application/octet-stream", 16)
        segment = await client.get("/live/a-0.ts")
        assert len(segment.body) % 16 == 0
        assert segment.body[:188:188] != b"\x47"


@pytest.mark.parametrize(
    "path", ["/live/a.m3u8", "/live/a-0.ts", "/live/a-0.key", "/live/a-init.mp4", "/live/b.m3u8", "/a.m3u8"]
)
@in_reactor
async def test_what_is_not_there_is_answered_with_404(path: str) -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        await publisher.unpublish("a")
        assert (await client.get(path)).status == 404


@in_reactor
async def test_other_files_of_the_folder_are_not_served() -> None:
    async with House(segments=Segments.ENCRYPTED_TS) as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        await first_playlist(house, client, publisher)
        for path in ("/live/a-key_info", "/live/a-../key_info", "/live/a-x/../0.ts", "/live/a-99.ts"):
            assert (await client.get(path)).status == 404


@in_reactor
async def test_a_stream_whose_name_looks_like_a_segments_is_live() -> None:
    async with House() as house:
        await house.publisher("a-1")
        await house.http_client("GET /live/a-1.ts")
        await house.origin.streams.until(lambda: house.origin.streams.players == 1)


@in_reactor
async def test_head_is_answered_without_a_body() -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        await first_playlist(house, client, publisher)
        client.request("/live/a-0.ts", method="HEAD")
        head = await client.response(to_head_request=True)
        assert head.field(b"Content-Length") == str(len((await client.get("/live/a-0.ts")).body)).encode()


@in_reactor
async def test_vhosts_do_not_matter() -> None:
    async with House(vhosts=frozenset({"test.com"})) as house:
        publisher, client = await house.client(), await house.http_client()
        await publisher.publish("live", "a", tc_url="rtmp://test.com/live")
        publisher.send_sequence_headers()
        assert (await first_playlist(house, client, publisher)).status == 200


@in_reactor
async def test_what_a_hook_refuses_is_closed_without_a_byte() -> None:
    async with House() as house:
        await house.publisher("a")
        house.origin.refuse = lambda key, action: action is Action.PLAY
        client = await house.http_client("GET /live/a.m3u8")
        assert await client.wait_closed()
        assert client.received == b""


@in_reactor
async def test_a_stream_that_ends_before_its_first_frame_has_no_playlist(files: Callable[[str], int]) -> None:
    async with House() as house:
        publisher = await house.client()
        await publisher.publish("live", "a")
        client = await house.http_client("GET /live/a.m3u8")
        await house.origin.streams.until(lambda: house.origin.streams.players == 1)
        await publisher.unpublish("a")
        assert (await client.response()).status == 404
        assert files("*") == 0


@in_reactor
async def test_the_end_of_the_publish_leaves_nothing_and_the_next_one_begins_anew(files: Callable[[str], int]) -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        (media,) = lines(await first_playlist(house, client, publisher))[2:]
        assert files("*") == 1
        await publisher.unpublish("a")
        assert (await client.get(media)).status == 404
        await until(reactor, lambda: not len(house.origin.children), "no ffmpeg")
        assert files("*") == 0
        assert house.origin.streams.players == 0
        again = await first_playlist(house, client, await house.publisher("a"), media)
        assert "#EXT-X-MEDIA-SEQUENCE:0" in lines(again)


@in_reactor
async def test_a_next_publisher_need_not_wait_for_the_end_of_ffmpeg() -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        (media,) = lines(await first_playlist(house, client, publisher))[2:]
        await publisher.unpublish("a")
        again = await first_playlist(house, client, await house.publisher("a"), media)
        assert "#EXT-X-MEDIA-SEQUENCE:0" in lines(again)


@in_reactor
async def test_an_ffmpeg_that_fails_is_replaced_by_the_next_request() -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        publisher.send_media(1)
        client.request("/live/a.m3u8")
        await until(reactor, lambda: len(house.origin.children) == 1, "ffmpeg runs")
        await house.origin.children.kill()
        assert (await client.response()).status == 404
        assert house.origin.streams.players == 0
        assert (await first_playlist(house, client, publisher)).status == 200


@in_reactor
async def test_a_stopped_origin_leaves_no_folder(files: Callable[[str], int]) -> None:
    async with House() as house:
        publisher, client = await house.publisher("a"), await house.http_client()
        await first_playlist(house, client, publisher)
        await house.origin.stopService()
        assert len(house.origin.children) == 0
        assert files("*") == 0
