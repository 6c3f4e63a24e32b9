"""HLS through the proxy: what playlists say, and where viewers are led by it."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from srsproxy.balancer.model import HlsSession, Surface
from srsproxy.config import LoadBalancerType
from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending, Gate, RawHttpClient, Response, ScriptedHttpOrigin, Step
from tests.http.proxied import CHUNKED, FILE, LIVE, OK, PLAYLIST, ProxiedOrigins, answered, chunk
from tests.proxy import ProxyUnderTest

KEY = "__defaultVhost__/live/s"
TYPE = b"Content-Type: application/vnd.apple.mpegurl"
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n/live/s.m3u8?hls_ctx=1i04k08r&token=a%2Fb\n"
MEDIA = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:2.000, no desc\ns-7.ts?hls_ctx=1i04k08r\n#EXTINF:2.000, no desc\ns-8.ts\n"


def proxied(origins: int = 1, **settings: Any) -> ProxiedOrigins:
    return ProxiedOrigins(reactor, origins, **settings)


def token(lab: ProxiedOrigins, origin: ScriptedHttpOrigin) -> str:
    """What a playlist of this origin says."""
    return lab.proxy.pins.token(origin.registration.server)


async def picked(lab: ProxiedOrigins, key: str = KEY) -> tuple[ScriptedHttpOrigin, ScriptedHttpOrigin]:
    """The origin that this stream has from now on, and the other one."""
    pick = await lab.proxy.balancer.pick(key, Surface.HTTP)
    first, second = lab.origins
    return (first, second) if first.registration == pick else (second, first)


def pins_in(playlist: bytes) -> set[bytes]:
    """The pins in a playlist, all of which must be whole parameters."""
    assert b"&&" not in playlist
    assert b"?&" not in playlist
    return set(re.findall(rb"[?&]spbhid=([^&\n\"]*)", playlist))


# What playlists say


@pytest.mark.parametrize("playlist", [MASTER, MEDIA])
@in_reactor
async def test_every_refresh_has_the_same_uris_and_stores_nothing(
    playlist: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[HlsSession] = []

    def save_hls(session: HlsSession) -> Deferred[HlsSession]:
        saved.append(session)
        return Deferred()

    async with proxied(2) as lab:
        monkeypatch.setattr(lab.proxy.balancer, "save_hls", save_hls)
        origin, _ = await picked(lab)
        origin.always = [answered(playlist, TYPE)]
        responses = [await lab.get(PLAYLIST + "?token=a%2Fb") for _ in range(3)]
        assert responses[0] == responses[1] == responses[2]
        assert pins_in(responses[0].body) == {token(lab, origin).encode()}
        assert [request.target for request in origin.requests] == [b"/live/s.m3u8?token=a%2Fb"] * 3
        assert saved == []


@in_reactor
async def test_where_proxies_share_what_they_know_there_is_a_record_of_the_pin_for_go_proxies() -> None:
    async with proxied(2, load_balancer_type=LoadBalancerType.REDIS) as lab:
        origin, _ = await picked(lab)
        pin = token(lab, origin)
        assert await lab.proxy.balancer.load_hls(pin) is None
        origin.always = [answered(MEDIA, TYPE)]
        assert pins_in((await lab.get(PLAYLIST)).body) == {pin.encode()}
        record = await lab.proxy.balancer.load_hls(pin)
        assert record is not None
        assert await lab.proxy.balancer.pick(record.key, Surface.HTTP) == origin.registration


@in_reactor
async def test_a_record_for_go_proxies_leads_nobody_here() -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        origin.always = [answered(b"pick")]
        gone = lab.proxy.pins.token("gone")
        # Its stream could be anywhere by now.
        await lab.proxy.balancer.save_hls(HlsSession(gone, "srsproxy-origin/x", "x"))
        await lab.proxy.balancer.pick("srsproxy-origin/x", Surface.HTTP, prefer=other.registration.server)
        assert (await lab.get(f"{FILE}?spbhid={gone}")).body == b"pick"
        assert other.requests == []


@in_reactor
async def test_uris_keep_their_parameters_and_tags_are_not_touched() -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(MEDIA, TYPE))
        response = await lab.get(PLAYLIST)
        pin = token(lab, lab.origin).encode()
        assert response.body.splitlines() == [
            b"#EXTM3U",
            b"#EXT-X-VERSION:3",
            b"#EXTINF:2.000, no desc",
            b"s-7.ts?hls_ctx=1i04k08r&spbhid=" + pin,
            b"#EXTINF:2.000, no desc",
            b"s-8.ts?spbhid=" + pin,
        ]
        assert response.field(b"Content-Length") == b"%d" % len(response.body)
        assert response.field(b"Content-Type") == TYPE.partition(b": ")[2]


@in_reactor
async def test_a_pin_in_the_request_is_not_told_to_the_origin_and_replaced_in_the_answer() -> None:
    async with proxied() as lab:
        pin = token(lab, lab.origin)
        lab.origin.answer(answered(MASTER.replace(b"&token", b"&spbhid=ABCDEFGHIJKLMNOP&token"), TYPE))
        response = await lab.get(f"{PLAYLIST}?a=b&spbhid={pin}&c=d")
        assert lab.origin.requests[0].target == b"/live/s.m3u8?a=b&c=d"
        assert b"hls_ctx=1i04k08r&token=a%2Fb&spbhid=" + pin.encode() in response.body
        assert response.body.count(b"/live/s.m3u8?") == 1


def framed(body: bytes, how: str, *fields: bytes) -> list[Step]:
    """An answer in several pieces."""
    half = len(body) // 2
    if how == "length":
        answer = answered(body, *fields)
        return [answer[:-half], answer[-half:]]
    lines = b"".join(field + b"\r\n" for field in fields)
    if how == "chunks":
        head = CHUNKED[:-2] + lines + b"\r\n"
        return [head + chunk(body[:half])[:-3], chunk(body[:half])[-3:] + chunk(body[half:]), chunk(b"")]
    return [OK + lines + b"\r\n", body[:half], body[half:], Ending.FIN]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["length", "chunks", "until close"])
@in_reactor
async def test_playlists_of_any_framing_and_coding_are_rewritten(how: str, zipped: bool) -> None:
    async with proxied() as lab:
        fields = [TYPE, b'ETag: "x"', b"Cache-Control: no-cache"]
        if zipped:
            fields.append(b"Content-Encoding: gzip")
        lab.origin.always = framed(gzip.compress(MEDIA) if zipped else MEDIA, how, *fields)
        client = await lab.client()
        for _ in range(2):
            response = await client.get(PLAYLIST, "Accept-Encoding: gzip, br", "Range: bytes=0-5")
            body = gzip.decompress(response.body) if response.field(b"Content-Encoding") == b"gzip" else response.body
            assert pins_in(body) == {token(lab, lab.origin).encode()}
            assert response.field(b"Cache-Control") == b"no-cache"
            assert response.field(b"ETag") is None
            assert response.field(b"Content-Length") == b"%d" % len(response.body)
        assert len(lab.origin.connections) == (2 if how == "until close" else 1)
        request = lab.origin.requests[0]
        assert request.field(b"Accept-Encoding") == b"gzip"
        assert request.field(b"Range") is None


@pytest.mark.parametrize("how", ["length", "chunks", "until close"])
@in_reactor
async def test_head_of_a_playlist_tells_the_length_that_get_would_bring(how: str) -> None:
    async with proxied() as lab:
        lab.origin.always = framed(MEDIA, how, TYPE)
        client = await lab.client()
        expected = len((await client.get(PLAYLIST)).body)
        client.request(PLAYLIST, method="HEAD")
        response = await client.response(to_head_request=True)
        assert response.field(b"Content-Length") == b"%d" % expected
        assert len((await client.get(PLAYLIST)).body) == expected
        assert [request.method for request in lab.origin.requests] == [b"GET"] * 3


@pytest.mark.parametrize(
    "steps",
    [
        (OK + b"Content-Length: 5000\r\n\r\n", Gate()),
        (CHUNKED, chunk(b"#EXTM3U\n" + b"x" * 5000), Gate()),
        (OK + b"\r\n#EXTM3U\n", b"x" * 5000, Gate()),
        (answered(gzip.compress(b"#EXTM3U\n" + b"x" * 5000), b"Content-Encoding: gzip"),),
        (answered(b"#EXTM3U\nno gzip\n", b"Content-Encoding: gzip"),),
        (answered(gzip.compress(MEDIA)[:-4], b"Content-Encoding: gzip"),),
        (OK + b"Content-Encoding: gzip\r\n\r\n#EXTM3U\nno gzip\n", Ending.FIN),
        (OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"#EXTM3U\n" + b"x" * 5000), Ending.FIN),
        (OK + b"Content-Length: 500\r\n\r\n", MEDIA, Ending.FIN),
        (CHUNKED, chunk(MEDIA), Ending.FIN),
        (OK + b"\r\n" + MEDIA, Ending.RST),
    ],
)
@in_reactor
async def test_a_playlist_that_is_too_long_or_broken_is_a_bad_gateway(steps: tuple[Step, ...]) -> None:
    async with proxied(http_max_playlist_size=2000, http_origin_timeout=0.2) as lab:
        lab.origin.answer(*steps)
        client = await lab.client()
        client.request(PLAYLIST)
        assert (await client.response()).status == 502
        await lab.ended("hls", Outcome.ORIGIN_LOST)
        await lab.origin.closed()


@pytest.mark.parametrize(
    "answer",
    [
        answered(MEDIA, status=b"404 Not Found"),
        answered(MEDIA, b"Location: /live/other.m3u8", status=b"302 Found"),
        answered(MEDIA, status=b"206 Partial Content"),
        answered(b"<html>no playlist</html>"),
        answered(b""),
    ],
)
@in_reactor
async def test_what_is_no_playlist_is_passed_on_untouched(answer: bytes) -> None:
    async with proxied() as lab:
        lab.origin.answer(answer)
        response = await lab.get(PLAYLIST)
        assert response.first == answer.partition(b"\r\n")[0]
        assert response.body == answer.partition(b"\r\n\r\n")[2]


@in_reactor
async def test_keys_that_name_an_origin_lead_through_the_proxy() -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        uris = [f"http://{HOST}:{origin.port}/live/a.key", f"http://{HOST}:{other.port}/live/b.key?x=y", "c.key"]
        foreign = "https://keys.example/d.key"
        lines = [f'#EXT-X-KEY:METHOD=AES-128,URI="{uri}",IV=0x1' for uri in [*uris, foreign]]
        text = "\n".join(["#EXTM3U", *lines, "s-1.ts", ""]).encode()
        origin.always = [answered(text, TYPE)]
        # A proxy that was never asked for a token does not know any origin but that of the playlist.
        await lab.proxy.pins.refresh()
        response = await lab.get(PLAYLIST)
        own, others = token(lab, origin), token(lab, other)
        found = re.findall(r'URI="([^"]*)"', response.body.decode())
        led = [f"/live/a.key?spbhid={own}", f"/live/b.key?x=y&spbhid={others}", f"c.key?spbhid={own}"]
        assert found == [*led, foreign]
        origin.always, other.always = [answered(b"own key")], [answered(b"other key")]
        assert (await lab.get(led[0])).body == b"own key"
        assert (await lab.get(led[1])).body == b"other key"
        assert other.requests[0].target == b"/live/b.key?x=y"


# Where viewers are led


@pytest.mark.parametrize(
    "target",
    ["/live/s-7.ts", "/live/s-7.m4s", "/live/s-init.mp4", "/live/s-1.key", "/live/s/video-3.m4s", "/any/x.bin"],
)
@in_reactor
async def test_a_pinned_file_is_asked_for_where_the_playlist_was(target: str) -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        origin.always, other.always = [answered(b"pick")], [answered(b"pinned")]
        for _ in range(3):
            assert (await lab.get(f"{target}?hls_ctx=x&spbhid={token(lab, other)}")).body == b"pinned"
        assert {request.target for request in other.requests} == {target.encode() + b"?hls_ctx=x"}
        assert origin.requests == []


@in_reactor
async def test_a_segment_without_a_pin_is_asked_for_at_the_streams_origin_and_is_no_stream() -> None:
    async with proxied(2) as lab:
        origin, _ = await picked(lab)
        origin.always = [answered(b"segment")]
        for number in range(20):
            assert (await lab.get(f"/live/s-{number}.ts")).body == b"segment"
        keys = [f"{KEY}-{number}" for number in range(20)]
        assert await lab.proxy.balancer.picked(keys) is None


@in_reactor
async def test_so_are_the_segments_of_a_stream_that_nobody_has_asked_for() -> None:
    async with proxied(2) as lab:
        for origin in lab.origins:
            origin.always = [answered(b"segment")]
        for number in range(20):
            await lab.get(f"/live/s-{number}.ts")
        assert sorted(len(origin.requests) for origin in lab.origins) == [0, 20]
        assert await lab.proxy.balancer.picked([f"{KEY}-{number}" for number in range(20)]) is None
        assert await lab.proxy.balancer.picked([KEY]) == KEY


@pytest.mark.parametrize("target", [FILE, PLAYLIST, "/live/s-1.m4s", "/live/s.key", "/live/s-init.mp4"])
@pytest.mark.parametrize("pin", ["AAAAAAAAAAAAAAAA", "0123456", "x", "", "../../etc", "A" * 100])
@in_reactor
async def test_a_pin_that_was_made_up_changes_nothing(target: str, pin: str) -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        origin.always = [answered(b"pick")]
        for _ in range(3):
            assert (await lab.get(f"{target}?spbhid={pin}")).body == b"pick"
        assert other.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/summaries",
        "/api/v1/clients/x.key",
        "/api/v1/clients/x.m3u8",
        "/api/v1/s.flv",
        "/api/v1/raw?rpc=raw",
        "//api/v1/summaries",
        "///api/v1/clients/x.key",
        "http://test/api/v1/summaries",
        "/rtc/v1/play/x.ts",
        "/console/ng_index.html",
        "//console/en.key",
        "/metrics",
        "//metrics",
    ],
)
@in_reactor
async def test_what_an_origin_is_controlled_by_is_not_for_viewers_whatever_their_pin(target: str) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"secret")]
        go = await lab.proxy.balancer.save_hls(HlsSession("0a1b2c3", KEY, "http://proxy/live/s.m3u8"))
        client = await lab.client()
        for pin in (None, "x", "AAAAAAAAAAAAAAAA", token(lab, lab.origin), go.spbhid):
            separator = "&" if "?" in target else "?"
            response = await client.get(target if pin is None else f"{target}{separator}spbhid={pin}")
            assert response.status == 404
            assert json.loads(response.body)["code"] == 404
        assert lab.origin.requests == []


@pytest.mark.parametrize("pin", ["x", "AAAAAAAAAAAAAAAA", "0123456", "", "%41"])
@in_reactor
async def test_a_name_that_only_a_pin_makes_an_origins_file_is_ours_if_the_pin_was_made_up(pin: str) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"file")]
        client = await lab.client()
        response = await client.get(f"/any/page.html?spbhid={pin}")
        assert response.status == 404
        assert json.loads(response.body)["code"] == 404
        assert (await client.get(f"/any/page.html?spbhid={token(lab, lab.origin)}")).body == b"file"
        assert len(lab.origin.requests) == 1
        # Who asks for a page fetches nothing of a stream.
        assert lab.stats.ended.total() == 2
        assert await lab.proxy.balancer.picked(["__defaultVhost__/any/page.html"]) is None


@in_reactor
async def test_when_the_pinned_origin_is_gone_the_streams_is_asked() -> None:
    async with proxied(2) as lab:
        origin, _ = await picked(lab)
        origin.always = [answered(b"pick")]
        gone = await lab.proxy.add_endpoint("gone", http=[f"{HOST}:1"])
        pin = lab.proxy.pins.token(gone.server)
        # It is registered, and cannot be reached.
        for _ in range(5):
            assert (await lab.get(f"{FILE}?spbhid={pin}")).body == b"pick"
        # It has restarted without HTTP.
        await lab.proxy.add_endpoint("gone", f"{HOST}:1")
        assert (await lab.get(f"{FILE}?spbhid={pin}")).body == b"pick"


@in_reactor
async def test_a_playlist_follows_the_stream() -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        origin.always = [answered(MEDIA, TYPE)]
        response = await lab.get(f"{PLAYLIST}?spbhid={token(lab, other)}")
        assert pins_in(response.body) == {token(lab, origin).encode()}
        assert other.requests == []


@in_reactor
async def test_a_playlist_of_a_stream_without_an_origin_is_where_its_viewer_was_before() -> None:
    async with proxied(2) as lab:
        for number, origin in enumerate(lab.origins * 3):
            origin.always = [answered(MEDIA, TYPE)]
            asked = len(origin.requests)
            await lab.get(f"/live/new-{number}.m3u8?spbhid={token(lab, origin)}")
            assert len(origin.requests) == asked + 1


@pytest.mark.parametrize("pooled", [True, False])
@in_reactor
async def test_a_playlist_that_the_streams_origin_does_not_have_is_where_its_viewer_was_before(pooled: bool) -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        pin = token(lab, other)
        origin.always = [answered(b"Not Found", status=b"404 Not Found")]
        other.always = [answered(MEDIA, TYPE)]
        if pooled:
            await lab.get(f"{FILE}?spbhid={pin}")
        client = await lab.client()
        for _ in range(3):
            response = await client.get(f"{PLAYLIST}?spbhid={pin}")
            assert response.status == 200
            assert pins_in(response.body) == {pin.encode()}
        assert len(other.connections) == 1
        # Who was nowhere before is told.
        assert (await client.get(PLAYLIST)).status == 404


@pytest.mark.parametrize("first", [True, False])
@in_reactor
async def test_and_that_one_may_see_a_stranger_first(first: bool) -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        pin = token(lab, other)
        origin.always = [answered(b"Not Found", status=b"404 Not Found")]
        stranger = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live/s.m3u8?hls_ctx=1i04k08r\n"
        other.answer(answered(stranger, TYPE))
        other.answer(answered(MEDIA, TYPE))
        if not first:
            # It may be that the stream's origin sees one as well, and then has lost the stream.
            origin.answer(answered(stranger, TYPE))
            other.answer(answered(MEDIA, TYPE))
        response = await lab.get(f"{PLAYLIST}?hls_ctx=1i04k08r&spbhid={pin}")
        assert response.status == 200
        assert b"spbhid=" + pin.encode() in response.body
        assert (b"s-8.ts?spbhid=" in response.body) == first
        assert len(origin.requests) == (1 if first else 2)
        assert len(other.requests) == (2 if first else 1)
        await lab.ended("hls", Outcome.FINISHED)


@in_reactor
async def test_an_id_of_a_go_proxy_names_the_stream() -> None:
    async with proxied(2) as lab:
        origin, _ = await picked(lab)
        origin.always = [answered(b"segment")]
        await lab.proxy.balancer.save_hls(HlsSession("0a1b2c3", KEY, "http://proxy/live/s.m3u8"))
        for number in range(5):
            assert (await lab.get(f"/odd/name-{number}.ts?spbhid=0a1b2c3&&hls_ctx=x")).body == b"segment"
        assert origin.requests[0].target == b"/odd/name-0.ts?hls_ctx=x"


@in_reactor
async def test_a_viewer_from_another_origin_gets_the_media_playlist_at_once() -> None:
    async with proxied() as lab:
        foreign = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live/s.m3u8?hls_ctx=1i04k08r\n"
        lab.origin.answer(answered(foreign, TYPE))
        lab.origin.answer(answered(MEDIA, TYPE))
        response = await lab.get(f"{PLAYLIST}?hls_ctx=1i04k08r&token=x")
        assert b"s-8.ts?spbhid=" in response.body
        assert [request.target for request in lab.origin.requests] == [b"/live/s.m3u8?hls_ctx=1i04k08r&token=x"] * 2
        assert len(lab.origin.connections) == 1
        await lab.ended("hls", Outcome.FINISHED)


@in_reactor
async def test_the_origin_is_asked_again_only_once() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live/s.m3u8?hls_ctx=x\n", TYPE)]
        response = await lab.get(f"{PLAYLIST}?hls_ctx=x")
        assert b"/live/s.m3u8?hls_ctx=x&spbhid=" in response.body
        assert len(lab.origin.requests) == 2


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/live/v.m3u8", "test.com"),
        ("/live/v.m3u8", "test.com:8080"),
        ("/live/v.m3u8?vhost=test.com", "other"),
        ("/test.com/live/v.m3u8", "other"),
        ("/live/v-3.ts", "test.com"),
        ("/test.com/live/v-3.ts", "other"),
        ("/live/v.flv", "test.com"),
        ("/live/v.flv?vhost=test.com", "other"),
    ],
)
@in_reactor
async def test_streams_of_vhosts_are_found_by_host_parameter_and_path(target: str, host: str) -> None:
    async with proxied(2, vhosts=frozenset({"test.com"})) as lab:
        # The stream of the same name in the default vhost is elsewhere.
        first, second = lab.origins
        await lab.proxy.balancer.pick("__defaultVhost__/live/v", Surface.HTTP, prefer=first.registration.server)
        await lab.proxy.balancer.pick("test.com/live/v", Surface.HTTP, prefer=second.registration.server)
        second.always = [answered(b"vhost")]
        assert (await lab.get(target, f"Host: {host}")).body == b"vhost"
        assert second.requests[0].field(b"Host") == host.encode()


# Two proxies


@in_reactor
async def test_two_proxies_with_one_secret_give_out_and_honour_the_same_tokens() -> None:
    async with proxied(2) as lab, ProxyUnderTest(reactor) as second:
        for origin in lab.origins:
            await second.balancer.register(origin.registration)
        origin, other = await picked(lab)
        # The second one would choose the other origin.
        await second.balancer.pick(KEY, Surface.HTTP, prefer=other.registration.server)
        origin.answer(answered(MEDIA, TYPE))
        playlist = (await lab.get(PLAYLIST)).body
        uri = playlist.splitlines()[-1].decode()
        origin.answer(answered(b"segment"))
        client = await RawHttpClient.connect(reactor, HOST, second.http_port)
        response: Response = await client.get(f"/live/{uri}")
        assert response.body == b"segment"
        assert other.requests == []
        origin.always = other.always = [answered(MEDIA, TYPE)]
        assert pins_in((await client.get(PLAYLIST)).body) == {second.pins.token(other.registration.server).encode()}
        assert second.pins.token(origin.registration.server) == token(lab, origin)
        await client.close()


@in_reactor
async def test_a_player_and_a_viewer_of_one_stream_are_led_to_one_origin() -> None:
    async with proxied(2) as lab:
        origin, other = await picked(lab)
        origin.answer(CHUNKED, chunk(b"FLV"), Ending.FIN)
        origin.answer(answered(MEDIA, TYPE))
        assert (await lab.get(LIVE)).body == b"FLV"
        assert pins_in((await lab.get(PLAYLIST)).body) == {token(lab, origin).encode()}
        assert other.requests == []
