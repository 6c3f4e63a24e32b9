"""One client's connection: what it may send, how many requests it carries, and how it ends."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock

from srsproxy.balancer.model import Origin
from srsproxy.http.client import LINGER
from srsproxy.http.transfer import SMALL_BODY
from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.certificates import pem_of_both, pem_of_certificate
from tests.http.origins import HOST, Ending, Endless, Gate, RawHttpClient, Step
from tests.http.proxied import CHUNKED, FILE, LIVE, OK, PLAYLIST, ProxiedOrigins, answered, chunk, comes_to_rest

SHORT = 0.05
"""Seconds of a deadline that a test lets pass."""

SEVERAL_BUFFERS = 8 << 20
"""Bytes that fit into no socket's buffers."""

GET = b"GET /live/s.flv HTTP/1.1\r\nHost: test\r\n"


def proxied(origins: int = 1, **settings: Any) -> ProxiedOrigins:
    return ProxiedOrigins(reactor, origins, **settings)


async def refused(client: RawHttpClient, status: int) -> str:
    """The text of the error with which the proxy refuses this client, and closes."""
    response = await client.response()
    assert response.status == status
    assert response.field(b"Connection") == b"close"
    content = json.loads(response.body)
    assert content["code"] == status
    assert await client.wait_closed()
    assert client.unread == b""
    error = content["error"]
    assert isinstance(error, str)
    return error


def unsent(client: RawHttpClient) -> int:
    """Bytes that the client could not hand to the kernel yet."""
    transport: Any = client.transport
    written = len(transport.dataBuffer) + sum(len(data) for data in transport._tempDataBuffer)
    sent: int = transport.offset
    return written - sent


# Many requests


@in_reactor
async def test_many_requests_go_through_one_connection_on_each_side() -> None:
    async with proxied() as lab:
        client = await lab.client()
        for number in range(200):
            lab.origin.answer(answered(b"%d" % number))
            assert (await client.get(f"/live/s-{number}.ts")).body == b"%d" % number
        assert len(lab.origin.connections) == 1
        await lab.ended("ts", Outcome.FINISHED, 200)


@in_reactor
async def test_requests_that_come_at_once_are_answered_in_their_order() -> None:
    async with proxied() as lab:
        client = await lab.client()
        sizes = [0, 1, 1_000, 100_000]
        for number in range(50):
            lab.origin.answer(answered(b"%d " % number + b"x" * sizes[number % 4]))
        requests = [f"GET /live/s-{number}.ts HTTP/1.1\r\nHost: test\r\n\r\n" for number in range(50)]
        client.send("".join(requests).encode())
        for number in range(50):
            assert (await client.response()).body == b"%d " % number + b"x" * sizes[number % 4]
        assert [request.target for request in lab.origin.requests] == [b"/live/s-%d.ts" % n for n in range(50)]
        assert len(lab.origin.connections) == 1


@in_reactor
async def test_streams_playlists_files_pages_and_errors_share_a_connection() -> None:
    async with proxied() as lab:
        client = await lab.client()
        lab.origin.answer(CHUNKED, chunk(b"stream"), Ending.FIN)
        lab.origin.answer(answered(b"#EXTM3U\n"))
        lab.origin.answer(answered(b"nothing", status=b"404 Not Found"))
        client.send(
            b"".join(
                b"%b HTTP/1.1\r\nHost: test\r\n\r\n" % line
                for line in (
                    b"GET /live/s.flv",
                    b"GET /api/v1/versions",
                    b"GET /live/s.m3u8",
                    b"DELETE /live/s.flv",
                    b"OPTIONS *",
                    b"GET /live/s-1.ts",
                    b"GET /nothing",
                )
            )
        )
        responses = [await client.response() for _ in range(7)]
        assert [response.status for response in responses] == [200, 200, 200, 405, 200, 404, 404]
        assert responses[0].body == b"stream"
        assert json.loads(responses[1].body)["data"]["version"] == "1.2.3"


@in_reactor
async def test_the_next_request_waits_until_the_answer_before_is_whole() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(OK + b"Content-Length: 4\r\n\r\n", b"on", gate, b"e.")
        lab.origin.answer(answered(b"two"))
        client = await lab.client()
        client.request(LIVE)
        client.request(LIVE)
        await client.head()
        await client.read(2)
        assert len(lab.origin.requests) == 1
        gate.open()
        assert await client.read(2) == b"e."
        assert (await client.response()).body == b"two"


@pytest.mark.parametrize("size", [SMALL_BODY, 4 * SMALL_BODY])
@in_reactor
async def test_a_client_that_asks_and_never_reads_is_answered_up_to_what_the_kernel_takes(size: int) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"x" * size)]
        client = await lab.client()
        client.pause()
        request = GET + b"\r\n"
        sent = 0
        while sent < 20 << 20:
            client.send(request * 1_000)
            sent += len(request) * 1_000
        asked = await comes_to_rest(reactor, lambda: len(lab.origin.requests))
        assert asked * size < 3 * SEVERAL_BUFFERS
        # Nearly all of the requests are still on the client's side.
        assert unsent(client) > 8 << 20
        client.resume()
        for _ in range(asked + 10):
            assert len((await client.response()).body) == size


@in_reactor
async def test_nor_is_one_that_asks_for_one_thing_at_a_time() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"x" * SMALL_BODY)]
        client = await lab.client()
        client.pause()
        for _ in range(300):
            client.send(GET + b"\r\n")
            await lab.proxy.pause(0.001)
        assert await comes_to_rest(reactor, lambda: len(lab.origin.requests)) * SMALL_BODY < 2 * SEVERAL_BUFFERS
        client.resume()
        for _ in range(300):
            assert len((await client.response()).body) == SMALL_BODY


@in_reactor
async def test_nor_may_it_go_on_asking_once_it_is_stuck() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"x" * SMALL_BODY)]
        client = await lab.client()
        client.pause()
        request = GET + b"\r\n"
        # They fit into what is kept of a client's requests; their answers fit nowhere.
        client.send(request * 300)
        asked = await comes_to_rest(reactor, lambda: len(lab.origin.requests))
        assert asked < 300
        client.send(request * ((20 << 20) // len(request)))
        await comes_to_rest(reactor, lambda: unsent(client))
        assert unsent(client) > 8 << 20
        client.resume()
        for _ in range(asked + 10):
            assert len((await client.response()).body) == SMALL_BODY


@in_reactor
async def test_a_client_that_goes_on_asking_while_it_waits_is_stopped() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(gate, answered(b"one"))
        lab.origin.always = [answered(b"more")]
        client = await lab.client()
        request = GET + b"\r\n"
        count = (20 << 20) // len(request)
        client.send(request * count)
        await comes_to_rest(reactor, lambda: unsent(client))
        assert unsent(client) > 8 << 20
        gate.open()
        assert (await client.response()).body == b"one"
        for _ in range(100):
            assert (await client.response()).body == b"more"


@in_reactor
async def test_garbage_behind_a_good_request_is_refused_after_its_answer() -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(b"one"))
        client = await lab.client()
        client.send(GET + b"\r\n" + b"\x00garbage\r\n\r\n" + GET + b"\r\n")
        assert (await client.response()).body == b"one"
        await refused(client, 400)
        assert len(lab.origin.requests) == 1


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"1.1\r\n", True),
        (b"1.1\r\nConnection: close\r\n", False),
        (b"1.1\r\nConnection: TE, Close\r\n", False),
        (b"1.0\r\n", False),
        (b"1.0\r\nConnection: keep-alive\r\n", True),
        (b"1.0\r\nConnection: Keep-Alive\r\n", True),
    ],
)
@pytest.mark.parametrize("origins", [0, 1])
@in_reactor
async def test_the_client_says_whether_its_connection_is_kept(line: bytes, kept: bool, origins: int) -> None:
    async with proxied(origins) as lab:
        for origin in lab.origins:
            origin.always = [answered(b"body")]
        client = await lab.client()
        request = b"GET /live/s-1.ts HTTP/" + line.replace(b"\r\n", b"\r\nHost: test\r\n", 1) + b"\r\n"
        client.send(request * 2)
        response = await client.response()
        assert response.status == (200 if origins else 503)
        told = response.field(b"Connection")
        if kept:
            assert told == (None if b"1.1" in line else b"keep-alive")
            assert (await client.response()).status == response.status
        else:
            assert told == b"close"
            assert await client.wait_closed()
            assert client.unread == b""
            assert len(lab.stats.active) == 0
            assert lab.stats.ended.total() == 1


# Methods and targets


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "X"])
@pytest.mark.parametrize("target", [LIVE, FILE, PLAYLIST, "/index.html"])
@in_reactor
async def test_other_methods_are_not_allowed_and_the_connection_lives_on(method: str, target: str) -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        client.request(target, method=method, body=b"some body")
        response = await client.response()
        assert response.status == 405
        assert response.field(b"Allow") == b"GET, HEAD, OPTIONS"
        assert json.loads(response.body)["code"] == 405
        assert (await client.get(FILE)).body == b"next"
        assert len(lab.origin.requests) == 1
        assert lab.stats.ended["http", Outcome.BAD_REQUEST] == 1


@in_reactor
async def test_connect_is_not_allowed() -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.request("example.com:443", method="CONNECT")
        assert (await client.response()).status == 405


@pytest.mark.parametrize("target", ["*", "/", "/api/v1/versions"])
@in_reactor
async def test_options_of_our_own_need_no_origin(target: str) -> None:
    async with proxied(origins=0) as lab:
        client = await lab.client()
        for _ in range(2):
            client.request(target, method="OPTIONS")
            response = await client.response()
            assert response.status == 200
            assert response.field(b"Allow") == b"GET, HEAD, OPTIONS"
            assert response.body == b""


@pytest.mark.parametrize(
    "target", ["*", "live/s.flv", "/live/../s.flv", "/live/s.flv#x", "ftp://test/live/s.flv", "http://a@b/live/s.flv"]
)
@in_reactor
async def test_targets_that_mean_nothing_are_bad_requests(target: str) -> None:
    async with proxied() as lab:
        client = await lab.client()
        response = await client.get(target)
        assert response.status == 400
        assert json.loads(response.body)["error"]
        assert lab.origin.requests == []
        lab.origin.answer(answered(b"next"))
        assert (await client.get(FILE)).body == b"next"


# What is told of bad requests


@pytest.mark.parametrize("request_", ["DELETE /live/s.flv", "GET /live/../s.flv"])
@in_reactor
async def test_what_a_front_forwards_and_is_refused_is_told_of_its_client(request_: str) -> None:
    async with proxied(trusted_addresses=(ip_network("127.0.0.0/8"),)) as lab:
        method, target = request_.split()
        # Each request that a front forwards may be another client's.
        for client, number in ((await lab.client(), 7), (await lab.client(), 8)):
            lab.origin.answer(answered(b"fine"))
            await client.get(FILE, "X-Forwarded-For: 192.0.2.1")
            client.request(target, f"X-Forwarded-For: 192.0.2.{number}", method=method)
            assert (await client.response()).status in (400, 405)
        told = [line for _, line in lab.told(Outcome.BAD_REQUEST.value)]
        assert len(told) == 2
        assert "from 192.0.2.7: " in told[0]
        assert "from 192.0.2.8: " in told[1]


@in_reactor
async def test_of_the_bad_requests_of_one_connection_the_first_is_told_and_all_are_counted() -> None:
    async with proxied() as lab:
        for number in range(1, 4):
            client = await lab.client()
            for method, target in (("DELETE", LIVE), ("GET", "/live/../s.flv"), ("PUT", FILE)):
                client.request(target, method=method)
                assert (await client.response()).status in (400, 405)
            client.send(b"garbage\r\n\r\n")
            assert await refused(client, 400)
            assert len(lab.told(Outcome.BAD_REQUEST.value)) == number
            assert lab.stats.ended == {("http", Outcome.BAD_REQUEST): 4 * number}


# Smuggling and limits

BAD_REQUESTS = {
    "both lengths": GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other way": GET + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": GET + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": GET + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": GET + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": GET + b"Content-Length: +3\r\n\r\nabc",
    "a long length": GET + b"Content-Length: 1000000000000000000000003\r\n\r\nabc",
    "two codings": GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an obscure coding": GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": GET.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunk size": GET + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a negative chunk size": GET + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk that goes on": GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "a bare LF behind a chunk size": GET + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    "bare LFs": GET.replace(b"\r\n", b"\n") + b"\n",
    "one bare LF": GET + b"X: y\nZ: w\r\n\r\n",
    "a bare CR": GET + b"X: y\rZ: w\r\n\r\n",
    "a folded field": GET + b"X: y\r\n z\r\n\r\n",
    "a folded first field": b"GET /live/s.flv HTTP/1.1\r\n X: y\r\nHost: test\r\n\r\n",
    "a blank before the colon": GET + b"Content-Length : 3\r\n\r\nabc",
    "no colon": GET + b"nonsense\r\n\r\n",
    "no name": GET + b": x\r\n\r\n",
    "a NUL": GET + b"X: a\0b\r\n\r\n",
    "no host": b"GET /live/s.flv HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "no version": b"GET /live/s.flv\r\n\r\n",
    "too many words": b"GET /live/s.flv more HTTP/1.1\r\n\r\n",
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "RTMP": b"\x03" + bytes(1536),
}


@pytest.mark.parametrize("request_", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
@pytest.mark.parametrize("step", [0, 7])
@in_reactor
async def test_what_could_be_read_in_two_ways_is_refused_and_forwarded_to_nobody(request_: bytes, step: int) -> None:
    async with proxied() as lab:
        client = await lab.client()
        data = request_ + GET + b"\r\n"
        for at in range(0, len(data), step or len(data)):
            client.send(data[at : at + (step or len(data))])
        assert await refused(client, 400)
        assert lab.origin.requests == []
        assert lab.stats.ended == {("http", Outcome.BAD_REQUEST): 1}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b".flv HTTP/1.1\r\nHost: test\r\n\r\n", 431),
        (GET + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /live/s.flv HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /live/s.flv HTTP/1.2\r\nHost: test\r\n\r\n", 505),
        (b"GET /live/s.flv HTTP/0.9\r\n\r\n", 505),
    ],
)
@in_reactor
async def test_what_is_too_large_or_another_version_is_told_so(request_: bytes, status: int) -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.send(request_)
        assert await refused(client, status)
        assert lab.origin.requests == []


@in_reactor
async def test_a_head_may_be_as_large_as_the_setting_says() -> None:
    async with proxied(http_max_head_size=2000) as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        for size, status in ((2000, 200), (2001, 431)):
            head = GET + b"X: \r\n\r\n"
            client.send(head.replace(b"X: ", b"X: " + b"y" * (size - len(head))))
            assert (await client.response()).status == status


@in_reactor
async def test_a_client_that_is_refused_sees_why_even_if_it_goes_on_sending() -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.send(GET + b"nonsense\r\n\r\n" + b"x" * SEVERAL_BUFFERS)
        assert await refused(client, 400)


@in_reactor
async def test_it_may_be_slow_to_read_it() -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.pause()
        client.send(GET + b"nonsense\r\n\r\n")
        await lab.ended("http", Outcome.BAD_REQUEST)
        for _ in range(3):
            await lab.proxy.pause(0.01)
            client.send(b"more")
        client.resume()
        assert await refused(client, 400)


# Time


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r", b"\r\n\r\n"])
@in_reactor
async def test_a_silent_connection_is_closed(sent: bytes) -> None:
    async with proxied(http_request_timeout=SHORT) as lab:
        client = await lab.client()
        client.send(sent)
        assert await client.wait_closed()
        assert client.unread == b""
        assert lab.stats.ended == {}


@pytest.mark.parametrize(
    "sent", [GET, b"G", GET + b"Content-Length: 5\r\n\r\nabc", GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"]
)
@pytest.mark.parametrize("first", [True, False])
@in_reactor
async def test_a_request_that_does_not_come_in_time_is_refused(sent: bytes, first: bool) -> None:
    async with proxied(http_request_timeout=SHORT) as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        if not first:
            await client.get(FILE)
        client.send(sent)
        assert await refused(client, 408)
        assert lab.stats.ended["http", Outcome.TIMEOUT] == 1


@in_reactor
async def test_more_bytes_do_not_give_a_request_more_time() -> None:
    async with proxied(http_request_timeout=4 * SHORT) as lab:
        client = await lab.client()
        client.send(GET + b"X: ")
        begin = reactor.seconds()
        while client.received == b"" and not client.closed:
            client.send(b"y")
            await lab.proxy.pause(SHORT / 10)
        assert reactor.seconds() - begin < 10 * SHORT
        assert await refused(client, 408)


@in_reactor
async def test_a_connection_that_is_not_used_any_more_is_closed() -> None:
    async with proxied(http_idle_timeout=SHORT) as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        for _ in range(2):
            await client.get(FILE)
        assert await client.wait_closed()
        assert client.unread == b""


@pytest.mark.parametrize("sent", [b"\r\n", b"\r\n\r\n", b"\r"])
@in_reactor
async def test_a_line_end_behind_a_request_does_not_begin_another(sent: bytes) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        client.send(GET + b"\r\n" + sent)
        assert (await client.response()).body == b"fine"
        clock.advance(lab.proxy.settings.http_idle_timeout)
        assert await client.wait_closed()
        assert client.unread == b""
        await lab.ended("flv", Outcome.FINISHED)


@in_reactor
async def test_but_what_comes_behind_it_does() -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        client.send((GET + b"\r\n\r\n") * 2 + b"G")
        for _ in range(2):
            assert (await client.response()).body == b"fine"
        clock.advance(lab.proxy.settings.http_request_timeout)
        assert await refused(client, 408)


@in_reactor
async def test_the_deadlines_of_a_connection_do_not_hold_while_an_origin_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with proxied(http_request_timeout=SHORT, http_idle_timeout=SHORT) as lab:
        pick = lab.proxy.balancer.pick
        waiting: list[Deferred[None]] = []

        def slow_pick(*arguments: Any, **others: Any) -> Deferred[Origin]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: pick(*arguments, **others))

        monkeypatch.setattr(lab.proxy.balancer, "pick", slow_pick)
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        for _ in range(2):
            client.request(LIVE)
            await lab.until(lambda: waiting, "the question")
            await lab.proxy.pause(2 * SHORT)
            waiting.pop().callback(None)
            assert (await client.response()).body == b"fine"


@in_reactor
async def test_nor_do_they_while_a_stream_plays() -> None:
    async with proxied(http_request_timeout=SHORT, http_idle_timeout=SHORT, http_wait_timeout=SHORT) as lab:
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"one"), gate, chunk(b"two"), Ending.FIN)
        client = await lab.client()
        client.request(LIVE)
        await client.head()
        assert await client.chunk() == b"one"
        await lab.proxy.pause(3 * SHORT)
        gate.open()
        assert await client.chunked(10) == b"two"


# Limits on connections


@in_reactor
async def test_more_connections_than_there_may_be_are_told_so() -> None:
    async with proxied(max_connections=1) as lab:
        lab.origin.always = [answered(b"fine")]
        first = await lab.client()
        await first.get(FILE)
        assert await refused(await lab.client(), 503)
        assert lab.stats.ended["http", Outcome.REFUSED] == 1
        await first.close()
        assert (await lab.get(FILE)).body == b"fine"


@in_reactor
async def test_connections_that_have_asked_for_a_stream_are_not_pending() -> None:
    async with proxied(max_pending_per_address=1) as lab:
        lab.origin.always = [answered(b"fine")]
        clients = []
        for _ in range(3):
            clients.append(await lab.client())
            await clients[-1].get(FILE)
        silent = await lab.client()
        await lab.proxy.pause(0)
        assert await refused(await lab.client(), 503)
        assert not silent.closed


# Other listeners

# Twisted's TLS endpoints use what pyOpenSSL has deprecated.
twisteds_own_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def listen(lab: ProxiedOrigins, description: str) -> int:
    return lab.proxy.listening(await serverFromString(reactor, description).listen(lab.proxy.http_server))


async def tls_endpoint(lab: ProxiedOrigins, folder: Path) -> IStreamClientEndpoint:
    (folder / "localhost.pem").write_bytes(pem_of_both())
    port = await listen(lab, rf"tls:{folder}:0:interface=\:\:1")
    options = ssl.optionsForClientTLS("localhost", trustRoot=ssl.Certificate.loadPEM(pem_of_certificate()))
    return wrapClientTLS(options, TCP6ClientEndpoint(reactor, "::1", port))


async def use(lab: ProxiedOrigins, client: RawHttpClient) -> None:
    """Everything that there is, on one connection."""
    gate = Gate()
    endless = Endless(chunk(b"x" * 10_000))
    lab.origin.answer(answered(b"#EXTM3U\ns-1.ts\n"))
    lab.origin.answer(answered(b"y" * SEVERAL_BUFFERS))
    lab.origin.answer(CHUNKED, chunk(b"one"), gate, chunk(b"two"), Ending.FIN)
    lab.origin.answer(CHUNKED, endless)
    assert (await client.get(PLAYLIST)).body.startswith(b"#EXTM3U\ns-1.ts?spbhid=")
    assert (await client.get(FILE)).body == b"y" * SEVERAL_BUFFERS
    assert json.loads((await client.get("/api/v1/versions")).body)["code"] == 0
    client.request(LIVE)
    await client.head()
    assert await client.chunk() == b"one"
    gate.open()
    assert await client.chunked(10) == b"two"
    client.request(LIVE)
    await client.head()
    client.pause()
    stalled = await comes_to_rest(reactor, lambda: endless.sent)
    client.resume()
    assert len(await client.read(2 * stalled)) == 2 * stalled
    await client.close()
    await lab.until(lambda: lab.origin.open_connections <= 1, "the end of the stream")


@twisteds_own_warnings
@in_reactor
async def test_tls_clients_get_everything(tmp_path: Path) -> None:
    async with proxied() as lab:
        await use(lab, await lab.client(await tls_endpoint(lab, tmp_path)))
        assert lab.origin.requests[0].field(b"X-Forwarded-Proto") == b"https"
        assert lab.origin.requests[0].field(b"X-Forwarded-For") == b"::1"


@twisteds_own_warnings
@in_reactor
async def test_a_tls_client_is_told_why_it_is_refused(tmp_path: Path) -> None:
    async with proxied() as lab:
        client = await lab.client(await tls_endpoint(lab, tmp_path))
        client.send(b"garbage\r\n\r\n")
        assert await refused(client, 400)


async def is_closed_all_the_same(lab: ProxiedOrigins, client: RawHttpClient, clock: Clock) -> None:
    """The client is asked for the end of the connection, and does not notice: the proxy waits for that, not longer."""
    clock.advance(0.9 * lab.proxy.settings.stall_timeout)
    # Not sooner than that: the client may be reading the rest.
    await lab.proxy.pause(0.01)
    assert lab.proxy.http_server._clients
    clock.advance(0.2 * lab.proxy.settings.stall_timeout)
    await lab.deserted()
    client.resume()
    assert not await client.wait_closed()


@pytest.mark.parametrize("begun", [True, False])
@twisteds_own_warnings
@in_reactor
async def test_a_tls_client_that_never_says_goodbye_is_closed_when_its_time_is_up(tmp_path: Path, begun: bool) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        lab.origin.always = [answered(b"fine")]
        client = await lab.client(await tls_endpoint(lab, tmp_path))
        client.send(GET + b"\r\n" + (b"G" if begun else b""))
        assert (await client.response()).body == b"fine"
        client.pause()
        settings = lab.proxy.settings
        clock.advance(settings.http_request_timeout if begun else settings.http_idle_timeout)
        clock.advance(LINGER)
        await is_closed_all_the_same(lab, client, clock)
        assert lab.stats.ended["http", Outcome.TIMEOUT] == begun


@twisteds_own_warnings
@in_reactor
async def test_so_is_one_whose_stream_breaks_off(tmp_path: Path) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"begin"), gate, Ending.RST)
        client = await lab.client(await tls_endpoint(lab, tmp_path))
        client.request(LIVE)
        await client.line(b"begin")
        client.pause()
        gate.open()
        await lab.ended("flv", Outcome.ORIGIN_LOST)
        await is_closed_all_the_same(lab, client, clock)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@twisteds_own_warnings
@in_reactor
async def test_streams_to_tls_clients_end_stop_and_break_off_like_others(tmp_path: Path, version: str) -> None:
    async with proxied() as lab:
        endpoint = await tls_endpoint(lab, tmp_path)

        async def player(*steps: Step) -> RawHttpClient:
            lab.origin.answer(CHUNKED, chunk(b"begin"), *steps)
            client = await lab.client(endpoint)
            client.send(f"GET /live/s.flv HTTP/{version}\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            await client.line(b"begin")
            return client

        ending = Gate()
        client = await player(ending, chunk(b"end"), Ending.FIN)
        ending.open()
        assert await client.wait_closed()
        assert client.unread.endswith(b"3\r\nend\r\n0\r\n\r\n" if version == "1.1" else b"end")
        breaking = Gate()
        client = await player(chunk(b"x"), breaking, b"5\r\nhal", Ending.RST)
        breaking.open()
        await client.wait_closed()
        assert b"0\r\n\r\n" not in client.unread
        endless = Endless(chunk(b"x" * 10_000))
        client = await player(endless)
        client.pause()
        stalled = await comes_to_rest(reactor, lambda: endless.sent)
        client.resume()
        await lab.until(lambda: endless.sent > 2 * stalled, "the stream goes on")
        await client.abort()
        await lab.origin.closed(3)
        ends = {outcome: lab.stats.ended["flv", outcome] for outcome in (Outcome.FINISHED, Outcome.ORIGIN_LOST)}
        assert ends == {Outcome.FINISHED: 1, Outcome.ORIGIN_LOST: 1}


@in_reactor
async def test_unix_socket_clients_get_everything(tmp_path: Path) -> None:
    async with proxied() as lab:
        await listen(lab, f"unix:{tmp_path / 'http'}")
        await use(lab, await lab.client(UNIXClientEndpoint(reactor, str(tmp_path / "http"))))


@in_reactor
async def test_behind_the_proxy_protocol_the_clients_own_address_counts() -> None:
    async with proxied(max_connections_per_address=1) as lab:
        port = await listen(lab, "haproxy:tcp:0:interface=127.0.0.1")
        endpoint = TCP4ClientEndpoint(reactor, HOST, port)
        for number, at_once in ((7, True), (8, False)):
            client = await lab.client(endpoint)
            client.send(b"PROXY TCP4 192.0.2.%d 127.0.0.1 40000 8080\r\n" % number)
            if not at_once:
                await lab.proxy.pause(0)
            lab.origin.answer(answered(b"fine"))
            await client.get(FILE)
        assert [request.field(b"X-Forwarded-For") for request in lab.origin.requests] == [b"192.0.2.7", b"192.0.2.8"]
        third = await lab.client(endpoint)
        third.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 8080\r\n" + GET + b"\r\n")
        assert await refused(third, 503)
        await client.close()
        await use(lab, await _from(lab, endpoint, 8))


async def _from(lab: ProxiedOrigins, endpoint: IStreamClientEndpoint, number: int) -> RawHttpClient:
    client = await lab.client(endpoint)
    client.send(b"PROXY TCP4 192.0.2.%d 127.0.0.1 40000 8080\r\n" % number)
    return client


@in_reactor
async def test_what_the_proxy_protocol_told_is_trusted_as_an_address_is() -> None:
    async with proxied(trusted_addresses=(ip_network("192.0.2.0/24"),)) as lab:
        port = await listen(lab, "haproxy:tcp:0:interface=127.0.0.1")
        lab.origin.always = [answered(b"fine")]
        client = await _from(lab, TCP4ClientEndpoint(reactor, HOST, port), 7)
        await client.get(FILE, "X-Forwarded-For: 198.51.100.1")
        assert lab.origin.requests[0].field(b"X-Forwarded-For") == b"198.51.100.1, 192.0.2.7"


# Anything at all


def pieces() -> st.SearchStrategy[list[bytes]]:
    """Bytes that resemble requests more or less, cut anywhere."""
    fragments = st.sampled_from(
        [
            GET,
            b"\r\n",
            b"\n",
            b"GET ",
            b"OPTIONS * HTTP/1.1\r\n",
            b"HEAD /live/s.m3u8 HTTP/1.0\r\n",
            b"GET /api/v1/versions HTTP/1.1\r\n",
            b"POST /live/s-1.ts?spbhid=0123456789abcdef HTTP/1.1\r\n",
            b"Host: a\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"5\r\nabcde\r\n0\r\n\r\n",
            b"abcde",
            b"X: \xff\r\n",
            b" folded\r\n",
        ]
    )
    return st.lists(st.one_of(fragments, fragments, st.binary(max_size=40)), max_size=12).flatmap(_cut)


def _cut(fragments: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    data = b"".join(fragments)
    cuts = st.lists(st.integers(0, len(data)), max_size=4).map(sorted)
    return cuts.map(lambda at: [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)])


@in_reactor
async def test_any_bytes_get_http_or_an_end_and_no_other_error() -> None:
    drawn: list[list[bytes]] = []

    @given(pieces())
    @hypothesis_settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck))
    def draw(data: list[bytes]) -> None:
        drawn.append(data)

    draw()
    async with proxied(http_request_timeout=SHORT, http_idle_timeout=SHORT) as lab:
        lab.origin.always = [answered(b"#EXTM3U\n")]
        clients = []
        for data in drawn:
            client = await lab.client()
            clients.append(client)
            for piece in data:
                client.send(piece)
                await lab.proxy.pause(0)
        for client in clients:
            await client.wait_closed()
            while client.unread:
                assert (await client.line()).startswith(b"HTTP/1.1 ")
                head = await client.line(b"\r\n\r\n")
                if b"Content-Length: " in head:
                    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                    # None of them has a body if the request was HEAD.
                    if client.unread and not client.unread.startswith(b"HTTP/1.1 "):
                        await client.read(length)
        assert {outcome for _, outcome in lab.stats.ended} <= set(Outcome) - {Outcome.INTERNAL_ERROR}
