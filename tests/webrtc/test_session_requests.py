"""DELETE and PATCH of sessions through the proxy."""

from __future__ import annotations

from typing import Final

import pytest
from twisted.internet import reactor

from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending
from tests.webrtc.proxied import KEY, PLAY, PUBLISH, ProxiedRtc, TakenTime, error, offer
from tests.webrtc.rtc_api import Credentials

FRAGMENT: Final = "Content-Type: application/trickle-ice-sdpfrag"


@in_reactor
async def test_delete_ends_a_session_at_the_origin_and_here() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)

        response = await proxied.whip.delete(joined.location)

        assert (response.status, response.body) == (200, b"")
        assert proxied.origin.ended == [joined.session]
        assert (await proxied.origin.asked(2)).target == joined.location.encode()
        await proxied.ended("webrtc", Outcome.FINISHED)
        assert await proxied.proxy.balancer.load_webrtc(joined.session.username) is None
        await proxied.join(PUBLISH)


@in_reactor
async def test_delete_with_a_wrong_token_ends_nothing() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        wrong = joined.location.replace(joined.session.token, "wrong")

        status, text = error(await proxied.whip.delete(wrong))

        assert status == 403
        assert "has not ended the session" in text
        assert proxied.stats.ended.total() == 0
        await joined.client.check()


@in_reactor
async def test_a_delete_that_the_origin_refuses_ends_nothing() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        proxied.origin.answer(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 2\r\n\r\nno", Ending.FIN)

        response = await proxied.whip.delete(joined.location)

        assert (response.status, response.body) == (412, b"no")
        assert not proxied.stats.ended
        assert await proxied.proxy.balancer.load_webrtc(joined.session.username) is not None


@in_reactor
async def test_delete_without_a_session_goes_to_the_origin_of_the_stream() -> None:
    async with ProxiedRtc(reactor, origins=2) as proxied:
        joined = await proxied.join(PUBLISH)

        assert (await proxied.whip.delete(PUBLISH)).status == 200

        assert (await joined.origin.asked(2)).target == PUBLISH.encode()
        assert not proxied.stats.ended


@in_reactor
async def test_delete_of_a_session_that_is_over_is_answered_by_its_origin() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        for _ in range(2):
            assert (await proxied.whip.delete(joined.location)).status == 200

        assert [request.method for request in proxied.origin.requests] == [b"POST", b"DELETE", b"DELETE"]


@pytest.mark.parametrize(
    "target",
    [
        "/rtc/v1/whip/?action=delete&token=x&session=nobody:knows",
        "/rtc/v1/whip/?action=delete&token=x&session=nobody",
        f"/rtc/v1/whip/?action=delete&token=x&session={'a' * 24}:b",
        f"/rtc/v1/whip/?action=delete&token=x&session={'x' * 5000}:b",
        "/rtc/v1/whip/?session=",
        "/rtc/v1/whip/",
        "/rtc/v1/whip",
    ],
)
@in_reactor
async def test_delete_of_a_session_that_nobody_knows_is_told_so(target: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        assert error(await proxied.whip.delete(target)) == (404, "there is no such session")
        assert not proxied.origin.requests


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_delete_goes_to_the_origin_of_the_session_although_its_stream_has_moved(
    credentials: Credentials,
) -> None:
    async with ProxiedRtc(reactor, origins=2) as proxied:
        for origin in proxied.rtc_origins:
            origin.credentials = credentials
        joined = await proxied.join(PLAY)
        await proxied.move(KEY)
        moved = await proxied.join(PLAY)
        assert moved.origin is not joined.origin

        async with proxied.second_proxy() as second:
            assert (await second.whip.delete(joined.location)).status == 200

        assert joined.origin.ended == [joined.session]
        assert not moved.origin.ended


@pytest.mark.parametrize("encoded", ["%3A", "%3a"])
@in_reactor
async def test_a_percent_encoded_session_is_ended_too(encoded: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        session = joined.session.username
        location = joined.location.replace(session, session.replace("+/", "%2B%2f").replace(":", encoded))

        assert (await proxied.whip.delete(location)).status == 200

        assert (await proxied.origin.asked(2)).target == joined.location.encode()
        assert proxied.origin.ended == [joined.session]
        await proxied.ended("webrtc", Outcome.FINISHED)


@in_reactor
async def test_delete_at_an_origin_that_is_gone_is_told_so() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        await proxied.origin.close_api()

        assert error(await proxied.whip.delete(joined.location))[0] == 502


@pytest.mark.parametrize("credentials", [Credentials.HONOURED, Credentials.IGNORED])
@in_reactor
async def test_delete_at_an_origin_that_is_not_registered_any_more_is_told_so(credentials: Credentials) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, origin_lifetime=10.0) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        joined = await proxied.negotiate(PUBLISH)
        time.pass_(11)

        assert error(await second.whip.delete(joined.location))[0] == 502


@in_reactor
async def test_patch_is_not_for_srs() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        status, text = error(await proxied.whip.request("PATCH", joined.location, FRAGMENT, body=b"a=candidate:"))

        assert (status, text) == (405, "the origin server changes no session")
        request = await proxied.origin.asked(2)
        assert (request.method, request.body) == (b"PATCH", b"a=candidate:")
        await joined.client.check()


@in_reactor
async def test_patch_is_passed_on_to_an_origin_that_knows_it() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        proxied.origin.answer(b'HTTP/1.1 204 No Content\r\nETag: "2"\r\n\r\n', Ending.FIN)

        response = await proxied.whip.request(
            "PATCH",
            joined.location,
            "Content-Type: application/trickle-ice-sdpfrag; charset=utf-8",
            'If-Match: "1"',
            body=b"a=candidate:",
        )

        assert (response.status, response.body, response.field(b"ETag")) == (204, b"", b'"2"')
        assert (await proxied.origin.asked(2)).field(b"If-Match") == b'"1"'
        assert proxied.stats.ended.total() == 0


@in_reactor
async def test_a_session_that_an_origin_makes_of_a_patch_is_taken_back() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        proxied.origin.answer(
            b"HTTP/1.1 201 Created\r\nLocation: /rtc/v1/whip/?token=1&session=a:b\r\nContent-Length: 0\r\n\r\n"
        )

        status, _ = error(await proxied.whip.request("PATCH", joined.location, FRAGMENT, body=offer().encode()))

        assert status == 405
        patched, deleted = await proxied.origin.asked(2), await proxied.origin.asked(3)
        assert (deleted.method, deleted.target) == (b"DELETE", b"/rtc/v1/whip/?token=1&session=a:b")
        # What the origin might make of it cannot be used.
        path, _, query = patched.target.decode().partition("?")
        chosen, own = query.split("&action=")
        assert chosen.startswith("ice-ufrag=")
        assert joined.session.local.ufrag not in chosen
        assert f"{path}?action={own}" == joined.location
        await joined.client.check()


@in_reactor
async def test_candidates_in_the_answer_to_a_patch_are_those_of_the_proxy() -> None:
    line = "a=candidate:0 1 udp 2130706431 10.0.0.1 8000 typ host\r\n"
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        body = f"a=ice-ufrag:x\r\na=ice-pwd:y\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n{line}"
        proxied.origin.answer(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

        response = await proxied.whip.request("PATCH", joined.location, FRAGMENT, body=b"a=ice-ufrag:z")

        assert response.body.decode() == body.replace("10.0.0.1 8000", f"{HOST} {proxied.proxy.media_port}")


@pytest.mark.parametrize("fields", [(), ("Content-Type: application/sdp",)])
@in_reactor
async def test_a_patch_that_srs_would_take_for_an_offer_is_refused(fields: tuple[str, ...]) -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.request("PATCH", PUBLISH, *fields, body=offer().encode())

        assert error(response)[0] == 415
        assert response.field(b"Accept-Patch") == b"application/trickle-ice-sdpfrag"
        assert not proxied.origin.requests
