"""SRS's own API through the proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from twisted.internet import reactor

from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import Ending
from tests.webrtc.proxied import KEY, ProxiedRtc, error, offer

CAPTURES: Final = Path(__file__).parent.parent / "captures"

JSON: Final = "Content-Type: application/json"


def json_offer(url: str = "webrtc://127.0.0.1/live/a", **members: object) -> bytes:
    """A body for SRS's JSON API."""
    return json.dumps({"streamurl": url, "sdp": offer(), **members}).encode()


@pytest.mark.parametrize(
    ("path", "asked", "action"),
    [
        ("/rtc/v1/play/", "/rtc/v1/play/", "play"),
        ("/rtc/v1/play", "/rtc/v1/play/", "play"),
        ("/rtc/v1/publish/?a=b", "/rtc/v1/publish/?a=b", "publish"),
        ("/rtc/v1/publish", "/rtc/v1/publish/", "publish"),
    ],
)
@in_reactor
async def test_the_json_api_is_passed_on(path: str, asked: str, action: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        body = json_offer("webrtc://media.example/live/a?vhost=unknown", tid="x", clientip=None)

        response = await proxied.whip.request("POST", path, JSON, body=body)

        [request] = proxied.origin.requests
        assert (request.target, request.body) == (asked.encode(), body)
        [session] = proxied.origin.sessions.values()
        answer = json.loads(response.body)
        assert answer.pop("sdp").splitlines()[1:4]
        assert answer == {
            "code": 0,
            "server": "vid-53g0u8r",
            "service": "service",
            "pid": "1",
            "sessionid": session.username,
        }
        assert response.status == 200
        assert response.field(b"Content-Type") == b"application/json"
        assert response.field(b"Content-Length") == b"%d" % len(response.body)
        assert proxied.running() == [(KEY, action)]


@in_reactor
async def test_nothing_but_candidates_changes_in_a_recorded_json_answer() -> None:
    recorded = (CAPTURES / "rtc_play_legacy.response.http").read_bytes()
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.answer(recorded, Ending.FIN)

        response = await proxied.whip.request("POST", "/rtc/v1/play/", JSON, body=json_offer())

        before, after = json.loads(recorded.partition(b"\r\n\r\n")[2]), json.loads(response.body)
        lines = [line for line in before["sdp"].splitlines(keepends=True) if " tcp " not in line]
        before["sdp"] = "".join(lines).replace(" 127.0.0.1 28001 ", f" 127.0.0.1 {proxied.proxy.media_port} ")
        assert after == before
        assert list(after) == list(before)


@in_reactor
async def test_the_vhost_of_a_stream_url_counts() -> None:
    async with ProxiedRtc(reactor, vhosts=frozenset({"test.com"})) as proxied:
        await proxied.whip.request(
            "POST", "/rtc/v1/play/", JSON, body=json_offer("webrtc://127.0.0.1/live/a?vhost=test.com")
        )

        assert proxied.running() == [("test.com/live/a", "play")]


@in_reactor
async def test_a_code_of_the_json_api_is_passed_on() -> None:
    async with ProxiedRtc(reactor) as proxied:
        body = b'{"code": 400 , "data":"\\u00fc"}'
        proxied.origin.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        response = await proxied.whip.request("POST", "/rtc/v1/publish/", JSON, body=json_offer())

        assert (response.status, response.body) == (200, body)
        await proxied.ended("webrtc", Outcome.REJECTED_BY_ORIGIN)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 50_000,
        b'{"sdp": "v=0"}',
        b'{"streamurl": "webrtc://h/live/a"}',
        b'{"streamurl": 1, "sdp": 2}',
        b'{"streamurl": "webrtc://h/live/a", "sdp": "v=0"}',
        b'{"streamurl": "webrtc://h:99999/live/a", "sdp": "v=0"}',
        json_offer("webrtc"),
        json_offer("\ud800://h/live/a"),
        json_offer(sdp=1),
    ],
)
@in_reactor
async def test_a_json_offer_that_is_none_is_refused_here(body: bytes) -> None:
    async with ProxiedRtc(reactor) as proxied:
        assert error(await proxied.whip.request("POST", "/rtc/v1/play/", JSON, body=body))[0] == 400
        assert not proxied.origin.requests


@pytest.mark.parametrize(
    "body", [b"", b"no JSON", b"[]", b"{}", b'{"code":0}', b'{"code":0,"sdp":"v=0"}', b'{"sdp":1}']
)
@in_reactor
async def test_an_answer_of_the_json_api_that_is_none_is_told_so(body: bytes) -> None:
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        assert error(await proxied.whip.request("POST", "/rtc/v1/play/", JSON, body=json_offer()))[0] == 502
        await proxied.ended("webrtc", Outcome.ORIGIN_LOST)


@in_reactor
async def test_jsonp_is_refused() -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.request("POST", "/rtc/v1/play/?callback=x", JSON, body=json_offer())

        assert error(response)[0] == 400
        assert not proxied.origin.requests
