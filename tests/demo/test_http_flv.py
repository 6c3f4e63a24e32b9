"""HTTP clients of the demo origin; wire-facts 3 has what SRS does."""

from __future__ import annotations

import json

import pytest
from twisted.internet import reactor

from srsproxy.demo import flv, live
from srsproxy.streamkey import StreamKey
from tests.asynchronous import in_reactor
from tests.demo.helpers import House
from tests.processes import http
from tests.rtmp_client import RawClient


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


@pytest.mark.parametrize("path", ["/", "/a.flv", "/live/a.m3u8", "/live/a", "/live/show/a.flv", "/api/v1/nothing"])
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
async def test_versions_tell_who_the_origin_is() -> None:
    async with House() as house:
        status, answer = await http(reactor, house.http_port, "GET", "/api/v1/versions")
        told = json.loads(answer)
        registered = house.origin.registration
        assert status == 200
        assert (told["code"], told["server"], told["service"]) == (0, registered.server, registered.service)
