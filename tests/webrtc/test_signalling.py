"""WHIP and WHEP through the proxy: what an offer asks for, what reaches the origin, and what comes back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending, RawHttpClient, Request
from tests.webrtc.proxied import KEY, PLAY, PUBLISH, ProxiedRtc, error, offer

CAPTURES: Final = Path(__file__).parent.parent / "captures"

OWN: Final = "abcdefgh"


def query_of(request: Request) -> str:
    """The query that the origin was asked with."""
    return request.target.decode().partition("?")[2]


@in_reactor
async def test_nothing_but_candidates_changes_in_a_recorded_answer() -> None:
    recorded = (CAPTURES / "whip.response.http").read_bytes()
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.answer(recorded, Ending.FIN)

        response = await proxied.whip.offer(PUBLISH, offer())

        _, _, sdp = recorded.partition(b"\r\n\r\n")
        lines = [line for line in sdp.splitlines(keepends=True) if b" tcp " not in line]
        rewritten = b"".join(lines).replace(b" 127.0.0.1 28001 ", b" 127.0.0.1 %d " % proxied.proxy.media_port)
        assert response.body == rewritten
        assert response.first == b"HTTP/1.1 201 Created"
        assert response.field(b"Location") == (
            b"/rtc/v1/whip/?action=delete&token=142136gzm&app=live&stream=rtcpub&session=033ty1w4:ftWT"
        )
        assert response.field(b"Content-Type") == b"application/sdp"
        assert response.field(b"Content-Length") == b"%d" % len(rewritten)


@pytest.mark.parametrize(
    ("target", "asked", "key", "action"),
    [
        ("/rtc/v1/whip/?app=live&stream=a", "/rtc/v1/whip/?", "__defaultVhost__/live/a", "publish"),
        ("/rtc/v1/whip?app=live&stream=a", "/rtc/v1/whip/?", "__defaultVhost__/live/a", "publish"),
        ("/rtc/v1/whip/?app=x&stream=y&action=play", "/rtc/v1/whip/?", "__defaultVhost__/x/y", "play"),
        ("/rtc/v1/whip-play/?stream=a", "/rtc/v1/whip-play/?", "__defaultVhost__/live/a", "play"),
        ("/rtc/v1/whip-play?stream=a", "/rtc/v1/whip-play/?", "__defaultVhost__/live/a", "play"),
        ("/rtc/v1/whep/?app=x", "/rtc/v1/whep/?", "__defaultVhost__/x/livestream", "play"),
        ("/rtc/v1/whep", "/rtc/v1/whep/?", "__defaultVhost__/live/livestream", "play"),
        ("/rtc/v1/whip/", "/rtc/v1/whip/?", "__defaultVhost__/live/livestream", "publish"),
        ("/rtc/v1/whep/x/y?stream=a.flv", "/rtc/v1/whip/?", "__defaultVhost__/live/a", "publish"),
        ("/rtc/v1/whip/?stream=a&vhost=test.com", "/rtc/v1/whip/?", "test.com/live/a", "publish"),
        ("/rtc/v1/whip/?stream=a&vhost=unknown.org", "/rtc/v1/whip/?", "__defaultVhost__/live/a", "publish"),
    ],
)
@in_reactor
async def test_a_target_means_what_it_means_to_srs(target: str, asked: str, key: str, action: str) -> None:
    async with ProxiedRtc(reactor, vhosts=frozenset({"test.com"})) as proxied:
        joined = await proxied.negotiate(target)

        assert joined.session.action == action
        assert proxied.running() == [(key, action)]
        assert proxied.origin.requests[0].target.decode().startswith(asked)
        assert await proxied.proxy.balancer.picked([key]) == key


@in_reactor
async def test_the_vhost_of_host_counts() -> None:
    async with ProxiedRtc(reactor, vhosts=frozenset({"test.com"})) as proxied:
        await proxied.whip.offer(PUBLISH, offer(), "Host: test.com:80")

        assert proxied.running() == [("test.com/live/a", "publish")]
        assert proxied.origin.requests[0].field(b"Host") == b"test.com:80"


@in_reactor
async def test_the_query_goes_to_the_origin_as_it_is_behind_credentials_of_the_proxy() -> None:
    query = "app=live&stream=a&token=%20x%2F+/&secret=1"
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(f"/rtc/v1/whip/?{query}")

        [request] = proxied.origin.requests
        ufrag, pwd = joined.session.local.ufrag, joined.session.local.pwd
        assert query_of(request) == f"ice-ufrag={ufrag}&ice-pwd={pwd}&{query}"
        assert joined.client.ice.remote == replace(joined.session.local, candidates=joined.client.ice.remote.candidates)


@in_reactor
async def test_every_session_has_credentials_of_its_own_that_name_its_origin() -> None:
    async with ProxiedRtc(reactor) as proxied:
        one, other = [(await proxied.negotiate(PLAY)).session.local for _ in range(2)]

        token = proxied.proxy.pins.token("origin-0")
        assert one.ufrag.endswith(token)
        assert other.ufrag.endswith(token)
        assert (len(one.ufrag), len(one.pwd)) == (24, 32)
        assert one.ufrag != other.ufrag
        assert one.pwd != other.pwd


@in_reactor
async def test_a_client_cannot_choose_credentials() -> None:
    async with ProxiedRtc(reactor) as proxied:
        for parameters in (f"ice-ufrag={OWN}", f"ice-pwd={OWN * 3}", f"ice-ufrag={OWN}&ice-pwd={OWN * 3}"):
            status, text = error(await proxied.whip.offer(f"{PUBLISH}&{parameters}", offer()))

            assert status == 400
            assert "are chosen by the proxy" in text
        assert not proxied.origin.requests


@in_reactor
async def test_the_record_of_a_session_is_saved_for_other_proxies() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PLAY)

        record = await proxied.proxy.balancer.load_webrtc(joined.session.username)
        assert record is not None
        assert (record.key, record.server, record.ice_pwd, record.action) == (
            KEY,
            "origin-0",
            joined.session.local.pwd,
            "play",
        )


@in_reactor
async def test_what_the_client_says_of_itself_reaches_the_origin() -> None:
    async with ProxiedRtc(reactor) as proxied:
        sdp = offer()
        await proxied.whip.offer(
            PUBLISH,
            sdp,
            "Host: media.example:8080",
            "Authorization: Bearer abc",
            "User-Agent: client/1",
            "Origin: http://page.example",
            "X-Forwarded-For: 198.51.100.1",
            "Accept-Encoding: gzip",
        )

        [request] = proxied.origin.requests
        assert request.method == b"POST"
        assert request.body == sdp.encode()
        assert request.field(b"Host") == b"media.example:8080"
        assert request.field(b"Authorization") == b"Bearer abc"
        assert request.field(b"User-Agent") == b"client/1"
        assert request.field(b"Origin") == b"http://page.example"
        assert request.field(b"Content-Type") == b"application/sdp"
        assert request.field(b"X-Forwarded-For") == b"127.0.0.1"
        assert request.field(b"X-Real-IP") == b"127.0.0.1"
        assert request.field(b"Accept-Encoding") == b"identity"


@in_reactor
async def test_a_trusted_front_tells_who_the_client_is() -> None:
    async with ProxiedRtc(reactor, trusted_addresses=(ip_network("127.0.0.0/8"),)) as proxied:
        await proxied.whip.offer(PUBLISH, offer(), "X-Forwarded-For: 192.0.2.9, 198.51.100.1")

        [request] = proxied.origin.requests
        assert request.field(b"X-Forwarded-For") == b"198.51.100.1, 127.0.0.1"
        assert request.field(b"X-Real-IP") == b"198.51.100.1"
        assert [session.peer for session in proxied.stats.active] == ["198.51.100.1"]


@in_reactor
async def test_fields_of_the_answer_reach_the_client() -> None:
    async with ProxiedRtc(reactor) as proxied:
        body = offer().encode()
        proxied.origin.answer(
            b'HTTP/1.1 201 Made\r\nlocation: /x\r\nETag: "1"\r\nLink: <a>\r\nLink: <b>\r\nConnection: close\r\n'
            b"Access-Control-Allow-Origin: http://only\r\nContent-Type: application/sdp; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        )

        response = await proxied.whip.offer(PUBLISH, offer())

        assert response.first == b"HTTP/1.1 201 Made"
        assert response.field(b"Location") == b"/x"
        assert response.field(b"ETag") == b'"1"'
        assert response.all(b"Link") == [b"<a>", b"<b>"]
        assert response.field(b"Content-Type") == b"application/sdp; charset=utf-8"
        assert response.field(b"Access-Control-Allow-Origin") == b"*"
        assert b"Location" in (response.field(b"Access-Control-Expose-Headers") or b"")


@pytest.mark.parametrize("authority", ["{host}:{port}", "LOCALHOST:{port}"])
@in_reactor
async def test_an_absolute_location_leads_back_through_the_proxy(authority: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        origin = proxied.origin
        location = f"http://{authority.format(host=HOST, port=origin.port)}/rtc/v1/whip/?session=+/:x"
        if authority.startswith("LOCALHOST"):
            await proxied.proxy.balancer.register(replace(origin.registration, api=(f"localhost:{origin.port}",)))
        body = offer()
        origin.answer(
            f"HTTP/1.1 201 Created\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

        response = await proxied.whip.offer(PUBLISH, offer())

        assert response.field(b"Location") == b"/rtc/v1/whip/?session=+/:x"
        assert response.field(b"Content-Type") == b"application/sdp"


@in_reactor
async def test_offers_can_follow_each_other_on_one_connection() -> None:
    async with ProxiedRtc(reactor) as proxied:
        client = await RawHttpClient.connect(reactor, HOST, proxied.proxy.api_port)
        for _ in range(2):
            client.request(PLAY, method="POST", body=offer().encode())
            assert (await client.response()).status == 201
        await client.close()

        assert len(proxied.origin.sessions) == 2


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/rtc/v1/whip/?app=live", "POST, DELETE, PATCH, OPTIONS"),
        ("/rtc/v1/whep", "POST, DELETE, PATCH, OPTIONS"),
        ("/rtc/v1/play/", "POST, OPTIONS"),
        ("/rtc/v1/publish", "POST, OPTIONS"),
    ],
)
@in_reactor
async def test_pages_of_any_site_may_ask(path: str, methods: str) -> None:
    async with ProxiedRtc(reactor, origins=0) as proxied:
        response = await proxied.whip.request(
            "OPTIONS",
            path,
            "Origin: http://page.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,x-my",
        )

        assert (response.status, response.body) == (200, b"")
        assert response.field(b"Access-Control-Allow-Origin") == b"*"
        assert response.field(b"Access-Control-Allow-Methods") == methods.encode()
        assert response.field(b"Access-Control-Allow-Headers") == b"authorization,x-my"
        assert response.field(b"Access-Control-Max-Age") is not None
        assert response.field(b"Allow") == methods.encode()


@pytest.mark.parametrize("wanted", ["", "a b", "x\x01"])
@in_reactor
async def test_header_names_that_are_none_are_not_echoed(wanted: str) -> None:
    async with ProxiedRtc(reactor, origins=0) as proxied:
        response = await proxied.whip.request("OPTIONS", PUBLISH, f"Access-Control-Request-Headers: {wanted}")

        assert response.field(b"Access-Control-Allow-Headers") == b"Authorization, Content-Type, If-Match"
        assert response.field(b"Accept-Post") == b"application/sdp"


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
@pytest.mark.parametrize("path", ["/rtc/v1/whip/", "/rtc/v1/play/"])
@in_reactor
async def test_other_methods_are_not_allowed(method: str, path: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.request(method, path)

        assert response.status == 405
        assert b"POST" in (response.field(b"Allow") or b"")
        assert response.field(b"Access-Control-Allow-Origin") == b"*"
        assert not proxied.origin.requests


@pytest.mark.parametrize("path", ["/rtc/v1/whipx/", "/rtc/v1/", "/rtc/v2/whip/"])
@in_reactor
async def test_other_paths_are_not_there(path: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        assert (await proxied.whip.offer(path, offer())).status == 404
        assert not proxied.origin.requests


@in_reactor
async def test_a_request_with_two_hosts_is_refused() -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.offer(PUBLISH, offer(), "Host: test.com", "Host: other.com")

        assert error(response)[0] == 400
        assert not proxied.origin.requests
