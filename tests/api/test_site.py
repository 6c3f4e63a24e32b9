"""What holds for every low-rate HTTP surface: limits, and what is not HTTP."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.web.resource import Resource
from twisted.web.server import Request

from srsproxy.api.site import MAX_BODY, REQUEST_TIMEOUT, ApiRequest, ApiResource, ApiSite, json_answer, resource_tree
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor
from tests.balancer.helpers import logging


class Echo(ApiResource):
    """Answers with the size of what it was sent."""

    allowedMethods = (b"GET", b"POST")

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def render_POST(self, request: ApiRequest) -> bytes:
        self.sizes.append(len(request.body))
        return json_answer(request, {"size": len(request.body)})

    def render_GET(self, request: Request) -> bytes:
        raise KeyError("oops")


def listening(root: Resource, clock: Clock | None = None) -> SiteUnderTest:
    return SiteUnderTest(reactor, ApiSite(resource_tree({"a/echo": root, "a/other": Echo()}), clock or Clock()))


@pytest.fixture
def echo() -> Echo:
    return Echo()


@in_reactor
async def test_a_body_may_be_as_long_as_the_limit(echo: Echo) -> None:
    async with listening(echo) as site:
        response = await site.answer(http_request("POST", "/a/echo", b"x" * MAX_BODY))
        assert response.json == {"size": MAX_BODY}


@in_reactor
async def test_a_body_that_is_declared_too_long_is_refused_before_it_is_sent(echo: Echo) -> None:
    async with listening(echo) as site:
        client = await site.client()
        headers = {"Content-Length": str(MAX_BODY + 1), "Connection": "keep-alive"}
        client.send(http_request("POST", "/a/echo", headers=headers))
        response = await client.response()
        assert response.status == 413
        assert response.headers["connection"] == "close"
        assert response.error == "the body is longer than 65536 bytes"


@in_reactor
async def test_a_client_that_sends_such_a_body_all_the_same_sees_one_answer_and_an_orderly_end(echo: Echo) -> None:
    async with listening(echo) as site:
        response = await site.answer(http_request("POST", "/a/echo", b"x" * (20 * MAX_BODY)))
        assert response.status == 413
        assert response.error
        assert echo.sizes == []


@in_reactor
async def test_a_refused_client_is_not_asked_to_continue(echo: Echo) -> None:
    async with listening(echo) as site:
        client = await site.client()
        headers = {"Content-Length": "99999999", "Expect": "100-continue"}
        client.send(http_request("POST", "/a/echo", headers=headers))
        assert (await client.response()).status == 413
        client.close_write()
        await client.wait_closed()
        assert client.received == b""


@in_reactor
async def test_a_client_that_asks_first_is_told_to_continue(echo: Echo) -> None:
    async with listening(echo) as site:
        client = await site.client()
        client.send(http_request("POST", "/a/echo", headers={"Content-Length": "3", "Expect": "100-continue"}))
        assert (await client.response(has_body=False)).status == 100
        client.send(b"abc")
        assert (await client.response()).json == {"size": 3}


@in_reactor
async def test_chunks_are_counted(echo: Echo) -> None:
    head = http_request("POST", "/a/echo", headers={"Transfer-Encoding": "chunked"})
    head = head.replace(b"Content-Length: 0\r\n", b"")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with listening(echo) as site:
        assert (await site.answer(head + chunk * 4 + b"0\r\n\r\n")).json == {"size": MAX_BODY}
        response = await site.answer(head + chunk * 4 + b"1\r\nx\r\n0\r\n\r\n")
        assert response.status == 413
        assert response.error
        # The refusal does not wait for the end of a body that has none.
        client = await site.client()
        client.send(head + chunk * 5)
        assert (await client.response()).status == 413
        assert echo.sizes == [MAX_BODY]


@in_reactor
async def test_what_follows_a_refused_request_is_not_served(echo: Echo) -> None:
    long = http_request("POST", "/a/echo", b"x" * (MAX_BODY + 1), {"Connection": "keep-alive"})
    async with listening(echo) as site:
        client = await site.client()
        client.send(long + http_request("POST", "/a/echo", b"abc"))
        assert (await client.response()).status == 413
        await client.wait_closed()
        assert client.received == b""
        assert echo.sizes == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1 more\r\n\r\n",
        b"POST /a/echo HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /a/echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /a/echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /a/echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /a/echo HTTP/1.1\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        b"POST /a/echo HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"\x03" + bytes(1536),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 4,
    ],
)
@in_reactor
async def test_what_is_not_http_ends_the_connection_and_nothing_else(garbage: bytes, echo: Echo) -> None:
    clock = Clock()
    with logging() as logged:
        async with listening(echo, clock) as site:
            client = await site.client()
            client.send(garbage)
            client.close_write()
            await client.wait_closed()
            assert bytes(client.received) in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert (await site.answer(http_request("POST", "/a/echo", b"abc"))).json == {"size": 3}
    assert echo.sizes == [3]
    assert logged.at(LogLevel.critical) == []


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST /a/ec",
        b"POST /a/echo HTTP/1.1\r\nHost:",
        http_request("POST", "/a/echo", headers={"Content-Length": "9"}),
    ],
)
@in_reactor
async def test_a_request_that_does_not_arrive_in_time_ends_the_connection(beginning: bytes, echo: Echo) -> None:
    clock = Clock()
    async with listening(echo, clock) as site:
        client = await site.client()
        client.send(beginning)
        # One more client, so that the bytes above have been read when it is answered.
        await site.answer(http_request("POST", "/a/echo", b"abc"))
        clock.advance(REQUEST_TIMEOUT - 0.1)
        await site.answer(http_request("POST", "/a/echo", b"abc"))
        assert client.lost is None
        clock.advance(0.1)
        await client.wait_closed()
        assert client.received == b""


@in_reactor
async def test_bytes_that_trickle_in_do_not_prolong_the_time(echo: Echo) -> None:
    clock = Clock()
    request = http_request("POST", "/a/echo", headers={"X": "y" * 100})
    async with listening(echo, clock) as site:
        client = await site.client()
        for byte in request[:5]:
            client.send(bytes([byte]))
            await site.answer(http_request("POST", "/a/echo", b"abc"))
            assert client.lost is None
            clock.advance(REQUEST_TIMEOUT / 5)
        await client.wait_closed()


@in_reactor
async def test_the_time_begins_again_with_each_answer(echo: Echo) -> None:
    clock = Clock()
    request = http_request("POST", "/a/echo", b"abc", {"Connection": "keep-alive"})
    async with listening(echo, clock) as site:
        client = await site.client()
        for _ in range(3):
            client.send(request)
            assert (await client.response()).status == 200
            clock.advance(REQUEST_TIMEOUT - 1)
        assert client.lost is None
        clock.advance(1)
        await client.wait_closed()


@in_reactor
async def test_a_refused_client_that_never_ends_is_cut_off(echo: Echo) -> None:
    clock = Clock()
    async with listening(echo, clock) as site:
        client = await site.client()
        client.send(http_request("POST", "/a/echo", headers={"Content-Length": "99999999"}))
        assert (await client.response()).status == 413
        clock.advance(REQUEST_TIMEOUT)
        await client.wait_closed()


@in_reactor
async def test_a_resource_that_fails_is_one_error_and_a_traceback_in_the_log(echo: Echo) -> None:
    with logging() as logged:
        async with listening(echo) as site:
            response = await site.answer(http_request("GET", "/a/echo"))
    assert response.status == 500
    assert response.error == "answer a request: KeyError: 'oops'"
    assert len(logged.at(LogLevel.critical)) == 1


@in_reactor
async def test_resources_are_where_they_were_put_and_nowhere_else(echo: Echo) -> None:
    async with listening(echo) as site:
        statuses = [
            (await site.answer(http_request("POST", path))).status
            for path in ("/a/echo", "/a/other", "/", "/a", "/a/", "/a/echo/", "/a/echo/x", "/echo", "/a//echo", "*x")
        ]
    assert statuses == [200, 200] + [404] * 8


@in_reactor
async def test_requests_are_logged_at_debug_level_on_one_line(echo: Echo) -> None:
    with logging() as logged:
        async with listening(echo) as site:
            await site.answer(http_request("POST", "/a/echo"))
            await site.answer(http_request("POST", "/%0aforged"))
            await site.answer(http_request("POST", "/a/echo", b"x" * (MAX_BODY + 1)))
    lines = logged.at(LogLevel.debug)
    assert len(lines) == 3
    assert "/a/echo" in lines[0]
    assert "200" in lines[0]
    assert "\n" not in lines[1]
    assert "413" in lines[2]
    assert not logged.at(LogLevel.info)


def test_an_idle_site_leaves_the_clock_alone() -> None:
    clock = Clock()
    site = ApiSite(resource_tree({}), clock)
    site.doStart()
    assert clock.getDelayedCalls() == []
    site.doStop()


def test_only_the_protocol_with_our_limits_is_offered_over_tls() -> None:
    assert ApiSite(resource_tree({}), Clock()).acceptableProtocols() == [b"http/1.1"]
