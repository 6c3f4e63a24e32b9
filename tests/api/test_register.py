"""Heartbeats over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.web.server import Site

from srsproxy.api.register import REFUSAL_INTERVAL
from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import Origin
from srsproxy.errors import SrsProxyError
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor
from tests.balancer.helpers import logging, make_balancer, result_of

CAPTURES = Path(__file__).parents[1] / "captures"
IDENTITY = ProxyIdentity("srsproxy-1", "abc", "4711", "1.2.3")
PATH = "/api/v1/srs/register"
HEARTBEAT = {"ip": "192.0.2.1", "server": "vid-1", "service": "s1", "pid": "1", "rtmp": ["1935"]}
BODY = json.dumps(HEARTBEAT).encode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def balancer(clock: Clock) -> MemoryLoadBalancer:
    return make_balancer(clock)


def listening(balancer: MemoryLoadBalancer, clock: Clock, token: str = "") -> SiteUnderTest:
    site: Site = build_system_site(clock, balancer, token, IDENTITY, lambda: None)
    return SiteUnderTest(reactor, site)


def servers(balancer: MemoryLoadBalancer) -> list[str]:
    return [origin.server for origin in result_of(balancer.origins())]


@in_reactor
async def test_the_heartbeats_that_srs_sent_are_taken_byte_for_byte(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        client = await site.client()
        client.send((CAPTURES / "heartbeat_full.http").read_bytes())
        response = await client.response()
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert response.body == b'{"code":0,"pid":"4711"}'
        assert servers(balancer) == ["vid-53g0u8r"]
    async with listening(balancer, clock, token="tok123") as site:
        client = await site.client()
        client.send((CAPTURES / "heartbeat_min.http").read_bytes())
        assert (await client.response()).body == b'{"code":0,"pid":"4711"}'
        assert servers(balancer) == ["vid-53g0u8r", "vid-3mb9rg0"]


@in_reactor
async def test_one_connection_may_carry_many_heartbeats(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        client = await site.client()
        for _ in range(3):
            client.send(http_request("POST", PATH, BODY, {"Connection": "Keep-Alive"}))
            assert (await client.response()).json["code"] == 0
        client.send(http_request("POST", PATH, BODY, {"Connection": "Keep-Alive"}) * 2)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        assert client.lost is None


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense", ""],
)
@in_reactor
async def test_the_content_type_does_not_matter(content_type: str, balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        response = await site.answer(http_request("POST", PATH, BODY, {"Content-Type": content_type}))
        assert response.status == 200
        assert servers(balancer) == ["vid-1"]


@in_reactor
async def test_a_query_is_ignored(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        assert (await site.answer(http_request("POST", f"{PATH}?k=v", BODY))).status == 200


@in_reactor
async def test_a_chunked_body_is_taken(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        client = await site.client()
        client.send(f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        client.send(b"%x\r\n%s\r\n" % (10, BODY[:10]))
        client.send(b"%x;ext=1\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY) - 10, BODY[10:]))
        assert (await client.response()).json["code"] == 0
        assert servers(balancer) == ["vid-1"]


# G47: the Go proxy takes any method, and writes {"code":0} after its error.


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"\xff\xfe\x00", "the body is no JSON"),
        (b"[" * 60_000, "nested too deep"),
        (b"1" * 60_000, "the body is no JSON"),
        (b"[]", "the heartbeat is no JSON object"),
        (b"{}", "ip: missing"),
        (json.dumps({**HEARTBEAT, "ip": ""}).encode(), "ip: empty"),
        (json.dumps({**HEARTBEAT, "rtmp": ["x"]}).encode(), "rtmp: 'x' is no listener"),
        (json.dumps({**HEARTBEAT, "rtmp": []}).encode(), "set `ports on` in the heartbeat of SRS"),
        (BODY + b"x", "the body is no JSON"),
    ],
)
@in_reactor
async def test_a_bad_heartbeat_is_one_error_and_registers_nothing(
    body: bytes, error: str, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    async with listening(balancer, clock) as site:
        response = await site.answer(http_request("POST", PATH, body))
        assert response.status == 400
        assert error in response.error
        assert servers(balancer) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "BREW"])
@in_reactor
async def test_any_other_method_is_405(method: str, balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        response = await site.answer(http_request(method, PATH, BODY))
        assert response.status == 405
        assert response.headers["allow"] == "post"
        assert method == "HEAD" or response.error == "the method must be POST"
        assert servers(balancer) == []


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1/srs", "/api/v1/srs/register/", PATH + "/tok123", "//" + PATH])
@in_reactor
async def test_any_other_path_is_404(path: str, balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock) as site:
        response = await site.answer(http_request("POST", path, BODY))
        assert response.status == 404
        assert response.error == "nothing is here"
        assert servers(balancer) == []


@pytest.mark.parametrize(
    "path", [PATH, PATH + "/", PATH + "/tok12", PATH + "/tok1234", PATH + "/tok123/", PATH + "/%ff"]
)
@in_reactor
async def test_without_the_right_token_nobody_registers(path: str, balancer: MemoryLoadBalancer, clock: Clock) -> None:
    async with listening(balancer, clock, token="tok123") as site:
        response = await site.answer(http_request("POST", path, BODY))
        assert response.status == 403
        assert "token" in response.error
        assert "tok123" not in response.error
        assert servers(balancer) == []
        assert (await site.answer(http_request("POST", f"{PATH}/tok123", BODY))).status == 200
        assert (await site.answer(http_request("GET", f"{PATH}/tok123"))).status == 405


@in_reactor
async def test_neither_token_nor_wrong_token_is_logged(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    with logging() as logged:
        async with listening(balancer, clock, token="secret") as site:
            await site.answer(http_request("POST", f"{PATH}/secret", BODY))
            await site.answer(http_request("POST", f"{PATH}/secre", BODY))
    lines = [line for level in LogLevel.iterconstants() for line in logged.at(level)]
    assert any("/api/v1/srs/register" in line for line in lines)
    assert not any("secre" in line for line in lines)


@in_reactor
async def test_a_balancer_that_fails_is_503_and_says_why(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    error = SrsProxyError("save origin")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    monkeypatch.setattr(balancer, "register", lambda _origin: fail(error))
    with logging() as logged:
        async with listening(balancer, clock) as site:
            response = await site.answer(http_request("POST", PATH, BODY))
    assert response.status == 503
    assert response.error == "register origin vid-1-s1-1: save origin: connection refused"
    assert logged.at(LogLevel.warn) == [response.error]


@in_reactor
async def test_a_bug_is_500_and_logged_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    monkeypatch.setattr(balancer, "register", lambda _origin: fail(KeyError("oops")))
    with logging() as logged:
        async with listening(balancer, clock) as site:
            response = await site.answer(http_request("POST", PATH, BODY))
    assert response.status == 500
    assert "KeyError" in response.error
    assert "Traceback" not in response.error
    assert len(logged.at(LogLevel.critical)) == 1


@in_reactor
async def test_a_bug_in_the_resource_itself_is_500_too(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    def broken(_origin: Origin) -> Any:
        raise KeyError("oops")

    monkeypatch.setattr(balancer, "register", broken)
    with logging() as logged:
        async with listening(balancer, clock) as site:
            response = await site.answer(http_request("POST", PATH, BODY))
    assert response.status == 500
    assert "KeyError" in response.error
    assert len(logged.at(LogLevel.critical)) == 1


@in_reactor
async def test_an_answer_waits_for_a_slow_balancer(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    asked = Deferred[Origin]()
    registered = Deferred[None]()

    def register(origin: Origin) -> Deferred[None]:
        asked.callback(origin)
        return registered

    monkeypatch.setattr(balancer, "register", register)
    async with listening(balancer, clock) as site:
        client = await site.client()
        client.send(http_request("POST", PATH, BODY))
        assert (await asked).server == "vid-1"
        registered.callback(None)
        assert (await client.response()).json == {"code": 0, "pid": "4711"}


@in_reactor
async def test_a_client_that_left_before_the_answer_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    asked = Deferred[None]()
    registered = Deferred[None]()

    def register(_origin: Origin) -> Deferred[None]:
        asked.callback(None)
        return registered

    with logging() as logged:
        async with listening(balancer, clock) as site:
            with monkeypatch.context() as slow:
                slow.setattr(balancer, "register", register)
                client = await site.client()
                client.send(http_request("POST", PATH, BODY))
                await asked
                await client.abort()
            # By the time this is answered, the site has seen the other connection's end.
            assert (await site.answer(http_request("POST", PATH, BODY))).status == 200
            registered.callback(None)
            # Nothing was raised on the way to a client that is not there.
            await registered
    assert logged.at(LogLevel.critical) == []


@in_reactor
async def test_refusals_of_one_address_are_told_once_in_a_while(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    bad = http_request("POST", PATH, b"{}")
    with logging() as logged:
        async with listening(balancer, clock) as site:
            for _ in range(3):
                await site.answer(bad)
            clock.advance(REFUSAL_INTERVAL)
            await site.answer(bad)
            await site.answer(bad)
    assert logged.at(LogLevel.warn) == ["heartbeat from 127.0.0.1 refused: ip: missing"] * 2
    assert logged.at(LogLevel.debug).count("heartbeat from 127.0.0.1 refused: ip: missing") == 3


@in_reactor
async def test_repeated_heartbeats_are_told_at_debug_level_only(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    with logging() as logged:
        async with listening(balancer, clock) as site:
            for _ in range(3):
                await site.answer(http_request("POST", PATH, BODY))
    assert logged.at(LogLevel.info) == ["origin registered: vid-1-s1-1 at 192.0.2.1 (rtmp 1935)"]
    assert len([line for line in logged.at(LogLevel.debug) if PATH in line]) == 3
