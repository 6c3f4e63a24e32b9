"""HTTP clients of the demo origin; wire-facts 3 has what SRS does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from twisted.internet import reactor

from srsproxy.demo import flv, live
from srsproxy.demo.child import Child
from srsproxy.rtmp.events import Action
from srsproxy.streamkey import StreamKey
from tests.asynchronous import in_reactor, until
from tests.demo.helpers import House
from tests.processes import http
from tests.rtmp_client import FRAME_INTERVAL, RawClient


def dechunked(answer: bytes) -> bytes:
    """What has come of the body of an answer, all chunks of which must be whole."""
    rest = answer.partition(b"\r\n\r\n")[2]
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        body, rest = body + rest[:length], rest[length + 2 :]
    return body


async def reads_until(client: RawClient, ending: bytes) -> bytes:
    """All that has come when this has come last."""
    while not client.received.endswith(ending):
        await client.wait_received(len(client.received) + 1)
    return bytes(client.received)


@in_reactor
async def test_a_stream_is_answered_with_metadata_headers_and_frames_as_flv() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        metadata = publisher.send_metadata()
        frames = publisher.send_media(2)
        await publisher.read_to_pong()
        client = await house.http_client("GET /live/a.flv?token=1")
        frames += publisher.send_media(1)
        last = flv.tag(9, frames[2], 80)
        answer = await reads_until(client, b"%x\r\n%b\r\n" % (len(last), last))
        head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert head[0] == b"HTTP/1.1 200 OK"
        assert {b"Content-Type: video/x-flv", b"Transfer-Encoding: chunked", b"Connection: close"} <= set(head)
        video_header, audio_header = publisher.send_sequence_headers()
        tags = [(18, metadata, 0), (8, audio_header, 0), (9, video_header, 0)]
        tags += [(9, frames[0], 0), (8, frames[1], 40), (9, frames[2], 80)]
        assert dechunked(answer) == flv.HEADER + b"".join(flv.tag(*tag) for tag in tags)


@in_reactor
async def test_a_stream_that_nobody_publishes_is_not_answered_until_somebody_does() -> None:
    async with House() as house:
        client = await house.http_client("GET /live/a.flv")
        await house.origin.streams.until(lambda: house.origin.streams.players == 1)
        assert client.received == b""
        await house.publisher("a")
        await client.wait_received(1)
        assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")


@in_reactor
async def test_the_end_of_the_stream_closes_the_connection_without_an_end_of_the_body() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        client = await house.http_client("GET /live/a.flv")
        await client.wait_received(1)
        await publisher.unpublish("a")
        assert await client.wait_closed()
        assert not client.received.endswith(b"0\r\n\r\n")


@in_reactor
async def test_a_client_that_goes_away_is_no_player_any_more() -> None:
    async with House() as house:
        client = await house.http_client("GET /live/a.flv")
        await house.origin.streams.until(lambda: house.origin.streams.players == 1)
        await client.abort()
        await house.origin.streams.until(lambda: house.origin.streams.players == 0)


@in_reactor
async def test_a_slow_client_misses_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 2_000_000)
    async with House() as house:
        publisher = await house.publisher("a")
        publisher.set_chunk_size(60_000)
        slow, quick = await house.http_client("GET /live/a.flv"), await house.player("a")
        await slow.wait_received(1)
        slow.pause()
        large = b"\x27\x01" + bytes(500_000)
        for _ in range(100):
            publisher.send_message(6, 9, 1, large)
            await quick.read(lambda message: message.payload == large, "a large frame")
        slow.resume()
        key_frame = flv.tag(9, publisher.send_media(1)[0], 0)
        await reads_until(slow, key_frame + b"\r\n")
        assert len(slow.received) < 100 * len(large)


@in_reactor
async def test_the_vhost_is_that_of_the_host_header_or_of_the_query() -> None:
    async with House(vhosts=frozenset({"test.com"})) as house:
        publisher = await house.client()
        await publisher.publish("live", "a", tc_url="rtmp://test.com/live")
        publisher.send_media(1)
        for request in ("GET /live/a.flv?vhost=test.com", "GET http://test.com/live/a.flv"):
            client = await house.http_client(request)
            await client.wait_received(1)
        assert house.origin.streams.published == {StreamKey("test.com", "live", "a")}


NO_STREAMS = [
    "/",
    "/a.flv",
    "/live/a.m3u8",
    "/live/a",
    "/live/show/a.flv",
    "/live/show/a.ts",
    "/live/a.mp4",
    "/api/v1/x",
]


@pytest.mark.parametrize("path", NO_STREAMS)
@in_reactor
async def test_paths_that_are_no_stream_are_answered_with_404(path: str) -> None:
    async with House() as house:
        status, answer = await http(reactor, house.http_port, "GET", path)
        assert status == 404
        assert json.loads(answer)["code"] == 404


@in_reactor
async def test_a_published_stream_is_found_at_any_depth() -> None:
    async with House() as house:
        publisher = await house.client()
        await publisher.publish("live/show", "a")
        publisher.send_media(1)
        client = await house.http_client("GET /live/show/a.flv")
        await client.wait_received(1)


@in_reactor
async def test_other_methods_are_refused() -> None:
    async with House() as house:
        status, _ = await http(reactor, house.http_port, "POST", "/live/a.flv")
        assert status == 405


@in_reactor
async def test_what_a_hook_refuses_is_closed_without_a_byte() -> None:
    async with House() as house:
        house.origin.refuse = lambda key, action: action is Action.PLAY
        client = await house.http_client("GET /live/a.flv")
        assert await client.wait_closed()
        assert client.received == b""


@in_reactor
async def test_pages_of_other_sites_are_answered_if_they_say_that_they_are() -> None:
    async with House() as house:
        client = await house.http_client()
        with_origin = await client.get("/api/v1/versions", "Origin: http://page")
        assert with_origin.field(b"Access-Control-Allow-Origin") == b"*"
        assert with_origin.field(b"Access-Control-Allow-Credentials") == b"false"
        assert (await client.get("/api/v1/versions")).field(b"Access-Control-Allow-Origin") is None
        client.request("/live/a.flv", "Origin: http://page", method="OPTIONS")
        options = await client.response()
        assert (options.status, options.field(b"Content-Length")) == (200, b"0")
        assert options.field(b"Access-Control-Allow-Methods") == b"*"


@in_reactor
async def test_what_clients_ask_is_on_record() -> None:
    async with House() as house:
        client = await house.http_client()
        assert house.origin.http_connections == 1
        await client.get("/live/a.mp4?x=%20y", "X-Forwarded-For: 192.0.2.1")
        (visit,) = house.origin.requests
        assert (visit.peer, visit.method, visit.uri) == ("127.0.0.1", "GET", "/live/a.mp4?x=%20y")
        assert visit.headers.getRawHeaders("x-forwarded-for") == ["192.0.2.1"]


# What ffmpeg makes

FIRST_BYTES = {".ts": b"\x47", ".aac": b"\xff\xf1"}


@pytest.mark.parametrize(("extension", "content_type"), [(".ts", b"video/MP2T"), (".aac", b"audio/x-aac")])
@in_reactor
async def test_other_formats_are_remuxed_from_the_first_frame_to_the_end(extension: str, content_type: bytes) -> None:
    async with House() as house:
        client = await house.http_client(f"GET /live/a{extension}")
        await house.origin.streams.until(lambda: house.origin.streams.players == 1)
        publisher = await house.publisher("a")
        publisher.send_media(100)
        head = await client.head()
        assert head.field(b"Content-Type") == content_type
        assert head.field(b"Transfer-Encoding") == b"chunked"
        assert (await client.chunk()).startswith(FIRST_BYTES[extension])
        await publisher.unpublish("a")
        assert await client.wait_closed()
        assert not client.received.endswith(b"\r\n0\r\n\r\n")
        assert len(house.origin.children) == 0


@in_reactor
async def test_ffmpeg_waits_for_a_player_that_does_not_read_and_ends_when_it_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[Child] = []

    def pause(child: Child) -> None:
        waiting.append(child)
        child.transport.pauseProducing()

    monkeypatch.setattr(Child, "pauseProducing", pause)
    async with House() as house:
        publisher = await house.publisher("a")
        publisher.set_chunk_size(60_000)
        client = await house.http_client("GET /live/a.ts")
        publisher.send_media(100)
        await client.head()
        client.pause()
        picture = b"\x41" + b"\xff" * 500_000
        large = b"\x27\x01\x00\x00\x00" + len(picture).to_bytes(4, "big") + picture
        for _ in range(100):
            publisher.send_message(6, 9, 1, large, publisher.frames_sent * FRAME_INTERVAL)
            publisher.send_media(2)  # ffmpeg waits for sound to go with the picture
            await publisher.read_to_pong()
        assert waiting
        await client.abort()
        await until(reactor, lambda: not len(house.origin.children), "no ffmpeg")
        assert house.origin.streams.players == 0


@in_reactor
async def test_nothing_outlives_the_origin() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        for extension in (".ts", ".aac", ".mp3", ".m3u8"):
            await house.http_client(f"GET /live/a{extension}")
        publisher.send_media(10)
        await until(reactor, lambda: len(house.origin.children) == 4, "every ffmpeg runs")
        await house.origin.stopService()
        assert len(house.origin.children) == 0
        assert house.origin.streams.players == 0


@in_reactor
async def test_without_ffmpeg_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with House() as house:
        await house.publisher("a")
        for path in ("/live/a.ts", "/live/a.m3u8"):
            status, answer = await http(reactor, house.http_port, "GET", path)
            assert status == 503
            assert "ffmpeg is not installed" in json.loads(answer)["error"]


@in_reactor
async def test_versions_tell_who_the_origin_is() -> None:
    async with House() as house:
        status, answer = await http(reactor, house.http_port, "GET", "/api/v1/versions")
        told = json.loads(answer)
        registered = house.origin.registration
        assert status == 200
        assert (told["code"], told["server"], told["service"]) == (0, registered.server, registered.service)
