"""Offers that get no answer, and what becomes of those whose client or proxy goes away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol, serverFromString

from srsproxy.api.site import MAX_BODY as MAX_OFFER
from srsproxy.balancer.model import Surface, WebRtcSession
from srsproxy.errors import OriginUnreachable
from srsproxy.http.call import MAX_BODY as MAX_ANSWER
from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending, Endless, Gate, RawHttpClient
from tests.webrtc.peers import IceParameters, new_ice_parameters, offer_sdp
from tests.webrtc.proxied import KEY, PLAY, PUBLISH, ProxiedRtc, TakenTime, error, offer


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ((Ending.FIN,), 403, "has refused the offer"),
        ((Ending.RST,), 502, "cannot be used"),
        ((b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",), 502, "cannot be used"),
        ((b"HTTP/1.1 201 Created\r\nContent-", Ending.FIN), 502, "cannot be used"),
        ((b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nv=0", Ending.FIN), 502, "cannot be used"),
        ((b"\x16\x03\x01\x02\x00", Ending.FIN), 502, "cannot be used"),
        ((b"garbage\r\n\r\n", Ending.FIN), 502, "cannot be used"),
        ((b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nv=0",), 502, "cannot be used"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), 502, "cannot be used"),
        ((b"HTTP/1.1 201 Created\r\n\r\n", b"x" * (MAX_ANSWER + 1), Ending.FIN), 502, "cannot be used"),
        ((b"HTTP/1.1 201 Created\r\n\r\n", Endless(b"x" * 65536)), 502, "cannot be used"),
    ],
)
@in_reactor
async def test_an_origin_that_gives_no_answer_is_told_as_what_it_is(answer: Any, status: int, text: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.answer(*answer)

        told = error(await proxied.whip.offer(PUBLISH, offer()))

        assert told[0] == status
        assert text in told[1]
        assert HOST not in told[1]
        outcome = Outcome.REJECTED_BY_ORIGIN if status == 403 else Outcome.ORIGIN_LOST
        await proxied.ended("webrtc", outcome)
        assert proxied.told(f"publish {KEY}")


@in_reactor
async def test_an_origin_that_keeps_silent_is_not_waited_for_for_ever() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_origin_timeout=5.0) as proxied:
        gate = Gate()
        proxied.origin.answer(b"HTTP/1.1 201 Created\r\n", gate)
        client = await RawHttpClient.connect(reactor, HOST, proxied.proxy.api_port)
        client.request(PUBLISH, method="POST", body=offer().encode())
        await proxied.until(lambda: gate.reached, "the request")
        time.pass_(4.9)
        assert not client.received
        time.pass_(0.2)

        assert error(await client.response())[0] == 504
        await proxied.ended("webrtc", Outcome.TIMEOUT)
        await proxied.origin.closed()
        await client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 No Way\r\nContent-Type: text/plain\r\nX-Why: hook\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 409 Conflict\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nWWW-Authenticate: Bearer\r\n\r\nno!",
    ],
)
@in_reactor
async def test_errors_of_the_origin_are_passed_on(answer: bytes) -> None:
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.answer(answer, Ending.FIN)

        response = await proxied.whip.offer(PUBLISH, offer())

        head, _, _ = answer.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        assert response.first == first
        assert response.body == b"no!"
        for name, value in (field.split(b": ") for field in fields):
            if name not in (b"Transfer-Encoding", b"Content-Length"):
                assert response.field(name) == value
        assert response.field(b"Access-Control-Allow-Origin") == b"*"
        await proxied.ended("webrtc", Outcome.REJECTED_BY_ORIGIN)
        assert proxied.told(first.decode().removeprefix("HTTP/1.1 "))


@in_reactor
async def test_an_interim_response_is_not_the_answer() -> None:
    async with ProxiedRtc(reactor) as proxied:
        body = offer().encode()
        proxied.origin.answer(
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nLocation: /\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        )

        assert (await proxied.whip.offer(PUBLISH, offer())).status == 201


@in_reactor
async def test_an_origin_whose_answer_cannot_be_used_is_told_that_its_session_is_not_wanted() -> None:
    async with ProxiedRtc(reactor) as proxied:
        location = b"/rtc/v1/whip/?action=delete&token=1&session=a:b"
        proxied.origin.answer(b"HTTP/1.1 201 Created\r\nLocation: %b\r\nContent-Length: 3\r\n\r\nv=0" % location)

        assert error(await proxied.whip.offer(PUBLISH, offer(), "Authorization: Bearer x"))[0] == 502

        deleted = await proxied.origin.asked(2)
        assert (deleted.method, deleted.target, deleted.body) == (b"DELETE", location, b"")
        assert deleted.field(b"Authorization") == b"Bearer x"


@in_reactor
async def test_an_origin_that_cannot_be_reached_is_passed_over() -> None:
    async with ProxiedRtc(reactor, origins=2) as proxied:
        gone, other = proxied.rtc_origins
        await proxied.proxy.balancer.pick(KEY, Surface.RTC, prefer="origin-0")
        await gone.close_api()

        joined = await proxied.join(PUBLISH)

        assert joined.origin is other
        assert proxied.told("trying the next origin")


@in_reactor
async def test_when_no_origin_can_be_reached_the_client_is_told_so() -> None:
    async with ProxiedRtc(reactor) as proxied:
        await proxied.origin.close_api()

        assert error(await proxied.whip.offer(PUBLISH, offer()))[0] == 502
        await proxied.ended("webrtc", Outcome.ORIGIN_UNREACHABLE)


@in_reactor
async def test_without_an_origin_that_announces_webrtc_there_is_no_answer() -> None:
    async with ProxiedRtc(reactor, origins=0) as proxied:
        await proxied.proxy.add_endpoint("rtmp", "1935")

        status, text = error(await proxied.whip.offer(PUBLISH, offer()))

        assert (status, text) == (503, "there is no origin server for this stream")
        await proxied.ended("webrtc", Outcome.NO_ORIGIN)


@pytest.mark.parametrize("listeners", [{"api": ()}, {"rtc": ()}])
@in_reactor
async def test_an_origin_that_lacks_a_part_of_webrtc_is_not_asked(listeners: dict[str, Any]) -> None:
    async with ProxiedRtc(reactor) as proxied:
        await proxied.proxy.balancer.register(replace(proxied.origin.registration, **listeners))

        assert error(await proxied.whip.offer(PUBLISH, offer()))[0] in (502, 503)
        assert not proxied.origin.requests


@pytest.mark.parametrize(
    "sdp", ["", "garbage", "v=0\r\n", "a=ice-ufrag:ab", offer().replace("ice-pwd", "ice-xyz"), "\0"]
)
@in_reactor
async def test_an_offer_without_ice_credentials_is_refused_here(sdp: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        status, text = error(await proxied.whip.offer(PUBLISH, sdp))

        assert status == 400
        assert "ICE" in text
        assert not proxied.origin.requests
        assert not proxied.stats.active


@in_reactor
async def test_an_offer_that_is_too_large_is_refused() -> None:
    async with ProxiedRtc(reactor) as proxied:
        sdp = offer() + "a=x\r\n" * (MAX_OFFER // 5)

        response = await proxied.whip.offer(PUBLISH, sdp)

        assert error(response)[0] == 413
        assert not proxied.origin.requests


@in_reactor
async def test_a_stream_name_that_is_too_long_is_refused() -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.offer(f"{PUBLISH}{'x' * 2000}", offer())

        assert 400 <= response.status < 500
        assert not proxied.origin.requests


@in_reactor
async def test_a_client_that_has_left_before_the_answer_costs_the_origin_nothing() -> None:
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.gate = gate = Gate()
        client = await RawHttpClient.connect(reactor, HOST, proxied.proxy.api_port)
        client.request(PUBLISH, method="POST", body=offer().encode())
        await proxied.until(lambda: gate.reached, "the request")
        await client.abort()
        gate.open()

        await proxied.until(lambda: proxied.origin.ended, "the end of the session")
        assert not proxied.origin.sessions
        await proxied.ended("webrtc", Outcome.CLIENT_LOST)


@in_reactor
async def test_sessions_count_within_the_limits_until_they_end() -> None:
    async with ProxiedRtc(reactor, max_connections=2) as proxied:
        joined = await proxied.join(PUBLISH)
        await proxied.negotiate(PLAY)
        assert error(await proxied.whip.offer(PLAY, offer())) == (503, "the proxy takes no more connections")
        assert len(proxied.origin.requests) == 2

        await proxied.whip.delete(joined.location)
        await proxied.negotiate(PLAY)


@in_reactor
async def test_offers_that_fail_take_no_place_within_the_limits() -> None:
    async with ProxiedRtc(reactor, max_connections=1, max_pending_per_address=1) as proxied:
        for answer in (Ending.FIN, Ending.RST):
            proxied.origin.answer(answer)
            error(await proxied.whip.offer(PUBLISH, offer()))

        await proxied.join(PUBLISH)


@in_reactor
async def test_a_client_that_never_comes_is_not_waited_for_for_ever() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_idle_timeout=60.0, webrtc_start_timeout=30.0) as proxied:
        await proxied.negotiate(PUBLISH)
        time.pass_(29.8)
        assert proxied.stats.ended.total() == 0
        time.pass_(6)

        await proxied.ended("webrtc", Outcome.TIMEOUT)


@in_reactor
async def test_when_the_proxy_is_to_end_it_answers_no_more_offers() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        await proxied.negotiate(PLAY)
        drained = proxied.proxy.webrtc_server.drain()

        assert error(await proxied.whip.offer(PLAY, offer()))[0] == 503
        assert proxied.stats.ended["webrtc", Outcome.SHUTDOWN] == 1
        await joined.client.check()
        assert not drained.called
        await proxied.whip.delete(joined.location)
        await drained


@in_reactor
async def test_an_origin_is_told_when_a_session_that_it_has_begun_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def save(session: WebRtcSession) -> Deferred[None]:
        return fail(OriginUnreachable("no balancer"))

    async with ProxiedRtc(reactor) as proxied:
        monkeypatch.setattr(proxied.proxy.balancer, "save_webrtc", save)

        assert error(await proxied.whip.offer(PUBLISH, offer()))[0] == 502
        await proxied.until(lambda: proxied.origin.ended, "the end of the session")
        assert not proxied.origin.sessions
        assert not proxied.stats.active


@in_reactor
async def test_a_name_that_two_origins_have_given_is_that_of_the_first_session() -> None:
    ice = new_ice_parameters()
    async with ProxiedRtc(reactor, origins=2) as proxied:
        one, other = proxied.rtc_origins
        answers = []
        for origin in (one, other):
            local = IceParameters("same", "p" * 32)
            origin.answer(
                b"HTTP/1.1 201 Created\r\nLocation: /rtc/v1/whip/?session=same\r\n\r\n" + offer_sdp(local).encode(),
                Ending.FIN,
            )
            answers.append(await proxied.whip.offer(PLAY, offer_sdp(ice)))
            await proxied.move(KEY)

        assert answers[0].status == 201
        assert error(answers[1])[0] == 503
        assert len(proxied.stats.active) == 1
        await proxied.until(
            lambda: [request.method for request in (*one.requests, *other.requests)].count(b"DELETE") == 1, "a DELETE"
        )


@in_reactor
async def test_a_session_of_the_same_name_at_the_same_origin_takes_the_place_of_the_first() -> None:
    async with ProxiedRtc(reactor) as proxied:
        ice, local = new_ice_parameters(), IceParameters("same", "p" * 32)
        for _ in range(2):
            proxied.origin.answer(
                b"HTTP/1.1 201 Created\r\nLocation: /x\r\n\r\n" + offer_sdp(local).encode(), Ending.FIN
            )
            assert (await proxied.whip.offer(PLAY, offer_sdp(ice))).status == 201

        await proxied.ended("webrtc", Outcome.FINISHED)
        assert len(proxied.stats.active) == 1


@in_reactor
async def test_an_offer_that_is_answered_when_the_proxy_is_to_end_is_taken_back() -> None:
    async with ProxiedRtc(reactor) as proxied:
        proxied.origin.gate = gate = Gate()
        client = await RawHttpClient.connect(reactor, HOST, proxied.proxy.api_port)
        client.request(PUBLISH, method="POST", body=offer().encode())
        await proxied.until(lambda: gate.reached, "the request")
        await proxied.proxy.webrtc_server.drain()
        gate.open()

        assert error(await client.response())[0] == 503
        await proxied.until(lambda: proxied.origin.ended, "the end of the session")
        await client.close()


@in_reactor
async def test_a_bug_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def pick(*_: object, **__: object) -> Deferred[None]:
        return fail(RuntimeError("a bug"))

    async with ProxiedRtc(reactor, max_connections=1) as proxied:
        with monkeypatch.context() as patched:
            patched.setattr(proxied.proxy.balancer, "pick", pick)
            assert error(await proxied.whip.offer(PUBLISH, offer())) == (500, "the proxy failed")
        assert [failure.type for failure in proxied.take_failures()] == [RuntimeError]

        await proxied.join(PUBLISH)


@in_reactor
async def test_a_client_that_has_come_by_no_address_must_say_one(tmp_path: Path) -> None:
    async with ProxiedRtc(reactor) as proxied:
        path = str(tmp_path / "api")
        proxied.proxy.listening(await serverFromString(reactor, f"unix:{path}").listen(proxied.proxy.api))
        for host, status in (("test", 503), ("192.0.2.1", 201)):
            client = RawHttpClient(reactor)
            await connectProtocol(UNIXClientEndpoint(reactor, path), client)
            client.request(PUBLISH, f"Host: {host}", method="POST", body=offer().encode())
            assert (await client.response()).status == status
            await client.close()

        assert len(proxied.origin.requests) == 1
