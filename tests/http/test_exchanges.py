"""One request through the proxy: what the origin is asked, and what becomes of its answer."""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel

from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.http.client import HttpClient
from srsproxy.http.exchange import Exchange
from srsproxy.http.transfer import SMALL_BODY
from srsproxy.http.upstream import OriginConnection
from srsproxy.outcome import Outcome
from srsproxy.streamkey import DEFAULT_VHOST
from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending, Endless, Gate, Response, ScriptedHttpOrigin, Step
from tests.http.proxied import CHUNKED, FILE, LIVE, OK, PLAYLIST, ProxiedOrigins, answered, chunk, comes_to_rest
from tests.rtmp_client import PeerClosed

SHORT = 0.05
"""Seconds of a deadline that a test lets pass."""

SEVERAL_BUFFERS = 8 << 20
"""Bytes that fit into no socket's buffers."""


def proxied(origins: int = 1, **settings: Any) -> ProxiedOrigins:
    return ProxiedOrigins(reactor, origins, **settings)


def assert_explained(response: Response, status: int, *secrets: str) -> str:
    """The text of an error of the proxy's own, which must not tell what is inside."""
    assert response.status == status
    assert response.field(b"Content-Type") == b"application/json"
    assert response.field(b"Access-Control-Allow-Origin") == b"*"
    content = json.loads(response.body)
    assert content.keys() == {"code", "error"}
    assert content["code"] == status
    for secret in (HOST, "scripted", "Traceback", "Error", *secrets):
        assert secret not in content["error"]
    assert isinstance(content["error"], str)
    return content["error"]


# Answers of each kind


@in_reactor
async def test_an_endless_stream_is_relayed_chunk_by_chunk_as_it_comes() -> None:
    async with proxied() as lab:
        gates = [Gate(), Gate(), Gate()]
        large = b"y" * 100_000
        lab.origin.answer(CHUNKED, chunk(b"FLV header"), gates[0], chunk(b"x"), gates[1], chunk(large), gates[2])
        client = await lab.client()
        client.request(LIVE)
        head = await client.head()
        assert head.field(b"Transfer-Encoding") == b"chunked"
        assert await client.chunk() == b"FLV header"
        assert client.unread == b""
        gates[0].open()
        assert await client.chunk() == b"x"
        gates[1].open()
        assert await client.chunk() == large
        gates[2].open()
        await client.close()
        await lab.origin.closed()
        await lab.ended("flv", Outcome.FINISHED)


@in_reactor
async def test_a_stream_that_ends_as_those_of_srs_do_gets_its_terminating_chunk() -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, chunk(b"one"), chunk(b"two"), Ending.FIN)
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        assert (await client.get(LIVE)).body == b"onetwo"
        await lab.ended("flv", Outcome.FINISHED)
        assert (await client.get(FILE)).body == b"next"


@in_reactor
async def test_a_stream_that_ends_before_its_first_chunk_is_empty() -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, Ending.FIN)
        assert (await lab.get(LIVE)).body == b""
        await lab.ended("flv", Outcome.FINISHED)


@pytest.mark.parametrize(
    ("target", "steps"),
    [
        (LIVE, (CHUNKED, chunk(b"whole"), b"5\r\nhal", Ending.FIN)),
        (LIVE, (CHUNKED, chunk(b"whole"), b"5", Ending.FIN)),
        (LIVE, (CHUNKED, chunk(b"whole"), b"5\r\nwhole", Ending.FIN)),
        (LIVE, (CHUNKED, chunk(b"whole"), b"0\r\n", Ending.FIN)),
        (LIVE, (CHUNKED, chunk(b"whole"), Ending.RST)),
        (FILE, (OK + b"Content-Length: 10\r\n\r\n", b"whole", Ending.FIN)),
        (FILE, (OK + b"Content-Length: 10\r\n\r\n", b"whole", Ending.RST)),
        (FILE, (OK + b"Content-Length: 1000000\r\n\r\n", b"whole" * 40_000, Ending.FIN)),
        (FILE, (OK + b"Content-Length: 1000000\r\n\r\n", b"whole" * 40_000, Ending.RST)),
    ],
)
@in_reactor
async def test_an_answer_that_breaks_off_is_cut_short_for_the_client_too(target: str, steps: tuple[Step, ...]) -> None:
    async with proxied() as lab:
        # A reset must not overtake what was sent before.
        gate = Gate()
        lab.origin.answer(*steps[:-1], gate, steps[-1])
        client = await lab.client()
        client.request(target)
        await client.head()
        await client.line(b"whole")
        gate.open()
        with pytest.raises(PeerClosed):
            await client.line(b"\r\n0\r\n\r\n")
        assert client.closed
        await lab.ended("flv" if target == LIVE else "ts", Outcome.ORIGIN_LOST)


@pytest.mark.parametrize("size", [0, 1, 1_000, SMALL_BODY - 1, SMALL_BODY, SMALL_BODY + 1, 1 << 20, SEVERAL_BUFFERS])
@pytest.mark.parametrize("at_once", [True, False])
@in_reactor
async def test_files_of_any_size_arrive_whole_and_both_connections_live_on(size: int, at_once: bool) -> None:
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    async with proxied() as lab:
        answer = answered(body)
        head = answer.index(b"\r\n\r\n") + 4
        cuts = [answer] if at_once else [answer[:head], answer[head : head + 1], answer[head + 1 :]]
        lab.origin.always = cuts
        client = await lab.client()
        for _ in range(3):
            response = await client.get(FILE)
            assert response.field(b"Content-Length") == b"%d" % size
            assert response.body == body
        assert len(lab.origin.connections) == 1
        await lab.ended("ts", Outcome.FINISHED, 3)


@pytest.mark.parametrize("size", [0, 1, 100_000, SEVERAL_BUFFERS])
@in_reactor
async def test_chunked_files_arrive_whole_with_their_trailers_and_both_connections_live_on(size: int) -> None:
    async with proxied() as lab:
        body = chunk(b"a" * size) + chunk(b"b") if size else b""
        lab.origin.always = [CHUNKED, body, b"0\r\nX-Sum: 1\r\n\r\n"]
        client = await lab.client()
        for _ in range(2):
            client.request(FILE)
            await client.head()
            received = b""
            while data := await client.line():
                received += data + b"\r\n"
                if data == b"0":
                    break
                received += await client.read(int(data, 16) + 2)
            assert received == body + b"0\r\n"
            assert await client.line() == b"X-Sum: 1"
            assert await client.line() == b""
        assert len(lab.origin.connections) == 1


@pytest.mark.parametrize("size", [0, 10, SEVERAL_BUFFERS])
@in_reactor
async def test_a_body_that_ends_with_the_connection_ends_so_for_the_client(size: int) -> None:
    async with proxied() as lab:
        lab.origin.answer(OK + b"\r\n", b"x" * size, Ending.FIN)
        response = await lab.get(FILE)
        assert response.body == b"x" * size
        assert response.field(b"Connection") == b"close"
        assert response.field(b"Transfer-Encoding") is None
        await lab.ended("ts", Outcome.FINISHED)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@in_reactor
async def test_answers_without_a_body_are_not_waited_for(status: bytes) -> None:
    async with proxied() as lab:
        lab.origin.answer(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        client.request(FILE)
        response = await client.response()
        assert response.first == b"HTTP/1.1 " + status
        assert response.field(b"ETag") == b"x"
        assert (await client.get(FILE)).body == b"next"
        assert len(lab.origin.connections) == 1


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@pytest.mark.parametrize(
    "answer",
    [
        answered(b"Not Found", b"Connection: Close", b"Content-Type: text/plain", status=b"404 Not Found"),
        answered(b"oops", b"X-Why: no disk", status=b"500 Internal Server Error"),
        answered(b"later", b"Retry-After: 1", status=b"503 Service Unavailable"),
        answered(b"", status=b"403 Nobody"),
    ],
)
@in_reactor
async def test_errors_of_the_origin_are_told_in_its_own_words(target: str, answer: bytes) -> None:
    async with proxied() as lab:
        lab.origin.answer(answer)
        response = await lab.get(target)
        first, *fields = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert response.first == first
        assert response.body == answer.partition(b"\r\n\r\n")[2]
        expected = [tuple(field.split(b": ")) for field in fields if not field.startswith(b"Connection")]
        assert list(response.fields) == expected


@pytest.mark.parametrize(
    ("location", "led"),
    [
        ("/live/s/", "/live/s/"),
        ("other.flv?a=b", "other.flv?a=b"),
        ("http://{origin}/live/t.flv?a=b", "/live/t.flv?a=b"),
        ("HTTP://{origin}", "/"),
        ("//{origin}/live/t.flv", "/live/t.flv"),
        ("http://other.example/live/t.flv", "http://other.example/live/t.flv"),
    ],
)
@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_redirections_to_the_origin_itself_lead_through_the_proxy(target: str, location: str, led: str) -> None:
    async with proxied() as lab:
        told = location.format(origin=f"{HOST}:{lab.origin.port}")
        lab.origin.answer(answered(b"", b"Location: " + told.encode(), status=b"302 Found"))
        response = await lab.get(target)
        assert response.first == b"HTTP/1.1 302 Found"
        assert response.field(b"Location") == led.encode()


@pytest.mark.parametrize("told", ["http://127.0.0.1/x?a=b", "http://127.0.0.1:80/x?a=b", "//127.0.0.1/x?a=b"])
@in_reactor
async def test_the_usual_port_need_not_be_told(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(origins=0) as lab, ScriptedHttpOrigin(reactor) as origin:
        await lab.proxy.add_endpoint("usual", http=[f"{HOST}:80"])
        pool = lab.proxy.http_server._shared.pool

        async def connect(endpoint: Endpoint) -> OriginConnection:
            return await pool.open(TCP4ClientEndpoint(reactor, HOST, origin.port), str(endpoint))

        monkeypatch.setattr(pool, "connect", connect)
        origin.answer(answered(b"", b"Location: " + told.encode(), status=b"302 Found"))
        origin.answer(answered(b"", b"Location: http://127.0.0.1:8/x", status=b"302 Found"))
        client = await lab.client()
        assert (await client.get(FILE)).field(b"Location") == b"/x?a=b"
        assert (await client.get(FILE)).field(b"Location") == b"http://127.0.0.1:8/x"


@in_reactor
async def test_interim_answers_are_not_told() -> None:
    async with proxied() as lab:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        lab.origin.answer(interim, interim + answered(b"body"))
        response = await lab.get(FILE)
        assert (response.status, response.body) == (200, b"body")


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02\x03garbage",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        OK + b"No colon\r\n\r\n",
        OK + b"A: " + b"x" * 20_000 + b"\r\n\r\n",
        OK + b"A: b\r\n" * 200 + b"\r\n",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        OK + b"Content-Length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
@in_reactor
async def test_an_answer_that_is_none_is_a_bad_gateway(target: str, answer: bytes) -> None:
    async with proxied() as lab:
        lab.origin.answer(answer)
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        assert_explained(await client.get(target), 502)
        await lab.origin.closed()
        assert lab.stats.ended.total() == lab.stats.ended[_format(target), Outcome.ORIGIN_LOST] == 1
        assert (await client.get(FILE)).body == b"next"


def _format(target: str) -> str:
    return {LIVE: "flv", PLAYLIST: "hls", FILE: "ts"}[target]


@pytest.mark.parametrize("chunks", [b"xyz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"1\na\n", b"1" * 2000])
@in_reactor
async def test_chunks_that_are_none_break_the_answer_off(chunks: bytes) -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"good"), gate, chunks, Gate())
        client = await lab.client()
        client.request(LIVE)
        await client.head()
        assert await client.chunk() == b"good"
        gate.open()
        await client.wait_closed()
        assert b"0\r\n\r\n" not in client.unread
        await lab.origin.closed()
        await lab.ended("flv", Outcome.ORIGIN_LOST)


# No answer


@pytest.mark.parametrize(
    ("target", "setting"),
    [
        (LIVE, "http_wait_timeout"),
        ("/live/s.aac", "http_wait_timeout"),
        (PLAYLIST, "http_origin_timeout"),
        ("/live/s-1.m4s", "http_origin_timeout"),
        (FILE, "http_origin_timeout"),
    ],
)
@in_reactor
async def test_silence_is_a_timeout_and_ends_the_origins_connection(target: str, setting: str) -> None:
    async with ProxiedOrigins(reactor, 1, **{setting: SHORT}) as lab:
        lab.origin.answer(Gate())
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        assert_explained(await client.get(target), 504)
        await lab.origin.closed()
        assert lab.stats.ended.total() == 1
        assert [outcome for _, outcome in lab.stats.ended] == [Outcome.TIMEOUT]
        assert (await client.get("/live/s.key")).body == b"next"


@in_reactor
async def test_a_stream_that_is_named_like_a_segment_and_known_is_waited_for_as_a_stream() -> None:
    async with proxied(http_wait_timeout=SHORT) as lab:
        await lab.proxy.balancer.pick("__defaultVhost__/live/s-1", Surface.HTTP)
        assert_explained(await lab.get(FILE), 504)


@in_reactor
async def test_half_a_head_is_no_answer() -> None:
    async with proxied(http_origin_timeout=SHORT) as lab:
        lab.origin.answer(OK + b"Content-Le", Gate())
        assert_explained(await lab.get(PLAYLIST), 504)
        await lab.ended("hls", Outcome.TIMEOUT)


@in_reactor
async def test_a_player_waits_for_the_publisher() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(gate, CHUNKED, chunk(b"at last"), Ending.FIN)
        client = await lab.client()
        client.request(LIVE)
        await lab.origin.asked()
        assert client.unread == b""
        gate.open()
        assert (await client.response()).body == b"at last"


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_an_orderly_end_instead_of_an_answer_is_a_refusal(target: str) -> None:
    async with proxied() as lab:
        lab.origin.answer(Ending.FIN)
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        assert_explained(await client.get(target), 403)
        assert lab.stats.ended == {(_format(target), Outcome.REJECTED_BY_ORIGIN): 1}
        assert len(lab.origin.requests) == 1
        assert (await client.get(FILE)).body == b"next"


@pytest.mark.parametrize("steps", [(Ending.RST,), (OK, Ending.FIN), (OK, Ending.RST)])
@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_a_broken_connection_instead_of_an_answer_is_a_bad_gateway(target: str, steps: tuple[Step, ...]) -> None:
    async with proxied() as lab:
        lab.origin.answer(*steps)
        assert_explained(await lab.get(target), 502)
        assert lab.stats.ended == {(_format(target), Outcome.ORIGIN_LOST): 1}


@pytest.mark.parametrize("ending", [Ending.FIN, Ending.RST])
@pytest.mark.parametrize("target", [PLAYLIST, FILE])
@in_reactor
async def test_a_request_that_meets_the_end_of_a_used_connection_is_sent_again(target: str, ending: Ending) -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(b"first"))
        lab.origin.answer(ending)
        lab.origin.answer(answered(b"second"))
        client = await lab.client()
        assert (await client.get(FILE)).body == b"first"
        assert (await client.get(target)).body == b"second"
        assert [request.connection for request in lab.origin.requests] == [
            lab.origin.connections[0],
            lab.origin.connections[0],
            lab.origin.connections[1],
        ]
        assert lab.origin.requests[1].first == lab.origin.requests[2].first


@in_reactor
async def test_a_live_stream_gets_a_connection_of_its_own() -> None:
    """SRS refuses by closing without a word: on a connection that was kept, that could be its age as well."""
    async with proxied() as lab:
        lab.origin.answer(answered(b"first"))
        lab.origin.answer(Ending.FIN)
        client = await lab.client()
        await client.get(FILE)
        assert_explained(await client.get(LIVE), 403)
        assert len(lab.origin.requests) == len(lab.origin.connections) == 2


@in_reactor
async def test_it_is_sent_again_once_and_on_a_new_connection() -> None:
    async with proxied() as lab:
        gate = Gate()
        for body in (b"a", b"b"):
            lab.origin.answer(gate, answered(body))
        clients = [await lab.client(), await lab.client()]
        for client in clients:
            client.request(FILE)
        await lab.origin.asked(2)
        gate.open()
        for client in clients:
            await client.response()
        # Two connections wait; both will end instead of answering.
        lab.origin.always = (Ending.FIN,)
        assert_explained(await clients[0].get(FILE), 403)
        assert len(lab.origin.requests) == 4
        assert len(lab.origin.connections) == 3


@in_reactor
async def test_a_request_with_a_body_is_not_sent_twice() -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(b"first"))
        lab.origin.answer(Ending.FIN)
        client = await lab.client()
        await client.get(FILE)
        client.request(FILE, body=b"body")
        assert (await client.response()).status in (403, 502)
        assert len(lab.origin.requests) == 2


# Origins that are not there


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_without_an_origin_the_service_is_unavailable(target: str) -> None:
    async with proxied(origins=0) as lab:
        client = await lab.client()
        assert_explained(await client.get(target), 503)
        assert_explained(await client.get(target), 503)
        assert lab.stats.ended == {(_format(target), Outcome.NO_ORIGIN): 2}


@in_reactor
async def test_an_origin_without_http_is_none() -> None:
    async with proxied(origins=0) as lab:
        await lab.proxy.add_endpoint("rtmp-only", "127.0.0.1:1935")
        assert_explained(await lab.get(LIVE), 503, "rtmp-only")


async def unreachable(lab: ProxiedOrigins, name: str) -> str:
    """Register an origin whose port nobody listens at; returns its address."""
    gone = ScriptedHttpOrigin(reactor)
    async with gone:
        pass
    await lab.proxy.add_endpoint(name, http=[f"{HOST}:{gone.port}"])
    return f"{HOST}:{gone.port}"


@in_reactor
async def test_an_origin_that_cannot_be_reached_is_followed_by_the_next() -> None:
    async with proxied(origins=0) as lab:
        await unreachable(lab, "gone")
        async with ScriptedHttpOrigin(reactor) as origin:
            await lab.proxy.balancer.pick("/live/s", Surface.HTTP)
            await lab.proxy.balancer.register(origin.registration)
            origin.always = [answered(b"here")]
            assert (await lab.get(LIVE)).body == b"here"
            assert (await lab.get("/live/other.flv")).body == b"here"


@in_reactor
async def test_if_none_can_be_reached_that_is_a_bad_gateway() -> None:
    async with proxied(origins=0) as lab:
        ports = [(await unreachable(lab, name)).rpartition(":")[2] for name in ("gone-1", "gone-2")]
        for target in (LIVE, PLAYLIST, FILE):
            assert_explained(await lab.get(target), 502, "gone", *ports)
        assert {outcome for _, outcome in lab.stats.ended} == {Outcome.ORIGIN_UNREACHABLE}


@in_reactor
async def test_an_origin_may_announce_several_addresses() -> None:
    async with proxied(origins=0) as lab:
        dead = await unreachable(lab, "a")
        async with ScriptedHttpOrigin(reactor) as origin:
            await lab.proxy.add_endpoint("a", http=[dead, f"{HOST}:{origin.port}"])
            origin.always = [answered(b"here")]
            client = await lab.client()
            for _ in range(3):
                assert (await client.get(FILE)).body == b"here"
            assert len(origin.connections) == 1
            assert (await client.get(LIVE)).body == b"here"


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """This process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE, "/api/v1/versions"])
@in_reactor
async def test_what_the_proxy_lacks_is_not_the_origins_fault(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(2) as lab:
        reported = lab.failures_reported(monkeypatch)
        client = await lab.client()
        with no_descriptors_left():
            assert_explained(await client.get(target), 503)
        assert reported == []
        assert {outcome for _, outcome in lab.stats.ended} == {Outcome.REFUSED}
        for origin in lab.origins:
            origin.always = [answered(b"there is one again")]
        assert (await client.get(target)).status == 200


@asynccontextmanager
async def origin_that_accepts_nothing(lab: ProxiedOrigins) -> AsyncIterator[None]:
    """Register an origin that is dialled in vain for as long as one likes: its kernel's queue is full."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(3):
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(listening.getsockname())
        await lab.proxy.add_endpoint("full", http=[f"{HOST}:{listening.getsockname()[1]}"])
        yield


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_a_client_that_leaves_while_its_origin_is_dialled_ends_that(
    target: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(origins=0) as lab, origin_that_accepts_nothing(lab):
        reported = lab.failures_reported(monkeypatch)
        # It is the first one to be tried.
        await lab.proxy.balancer.pick(f"{DEFAULT_VHOST}/live/s", Surface.HTTP)
        await lab.proxy.balancer.pick(f"{DEFAULT_VHOST}/live/s-1", Surface.HTTP)
        async with ScriptedHttpOrigin(reactor) as next_one:
            await lab.proxy.balancer.register(next_one.registration)
            pool = lab.proxy.http_server._shared.pool
            dialled: list[Deferred[OriginConnection]] = []
            connect = pool.connect

            def dial(endpoint: Endpoint) -> Deferred[OriginConnection]:
                dialled.append(Deferred.fromCoroutine(connect(endpoint)))
                return dialled[-1]

            monkeypatch.setattr(pool, "connect", dial)
            writers = set(reactor.getWriters())
            client = await lab.client()
            client.request(f"{target}?spbhid={lab.proxy.pins.token('full')}" if pinned else target)
            await lab.until(lambda: dialled, "dialling")
            assert not dialled[0].called
            await client.abort()
            await lab.until(lambda: lab.stats.ended, "the end of the session")
            assert {outcome for _, outcome in lab.stats.ended} == {Outcome.CLIENT_LOST}
            (dialling,) = dialled
            assert dialling.called
            assert set(reactor.getWriters()) <= writers
            assert reported == []
            assert next_one.connections == []


# What the origin is asked


@in_reactor
async def test_the_origin_gets_the_request_line_and_the_fields_as_they_came() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"")]
        target = "/live/a%20b.flv?token=a%2Fb&&vhost=test.com&flag&x=%zz;y"
        await lab.get(
            target, "host: Test.Example:8080", "x-ODD: a b ", "Cookie: a=b", "Cookie: c=d", "Origin: http://o"
        )
        request = await lab.origin.asked()
        assert request.first == f"GET {target} HTTP/1.1".encode()
        assert request.fields == [
            (b"Host", b"Test.Example:8080"),
            (b"x-ODD", b"a b"),
            (b"Cookie", b"a=b"),
            (b"Cookie", b"c=d"),
            (b"Origin", b"http://o"),
            (b"X-Forwarded-For", b"127.0.0.1"),
            (b"X-Real-IP", b"127.0.0.1"),
            (b"X-Forwarded-Proto", b"http"),
        ]
        assert request.body == b""


@pytest.mark.parametrize(
    "target", ["/live/\udcff.flv?a=\udcfe", "/live/\udce4\udcbd\udca0-1.ts", "/live/\udcff.m3u8?\udcff"]
)
@in_reactor
async def test_raw_bytes_in_the_name_of_a_stream_go_through(target: str) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"stream")]
        assert (await lab.get(target)).body == b"stream"
        assert lab.origin.requests[0].target == target.encode("utf-8", "surrogateescape")


@in_reactor
async def test_an_absolute_form_names_the_host() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"")]
        await lab.get("http://test.com:81/live/s.flv?a=b", "Host: other.com")
        request = await lab.origin.asked()
        assert request.target == b"/live/s.flv?a=b"
        assert request.all(b"Host") == [b"test.com:81"]


@in_reactor
async def test_what_concerns_one_connection_ends_there() -> None:
    async with proxied() as lab:
        dropped = [
            b"Connection: close",
            b"Keep-Alive: timeout=5",
            b"Upgrade: h2c",
            b"Proxy-Authenticate: x",
            b"X-Hop: 1",
        ]
        dropped[0] = b"Connection: X-Hop, keep-alive"
        lab.origin.always = [answered(b"body", *dropped, b"X-End: 1")]
        fields = ["Connection: keep-alive, X-Own", "X-Own: 1", "Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x"]
        client = await lab.client()
        response = await client.get(FILE, *fields, "Upgrade: websocket", "X-End: 1")
        request = await lab.origin.asked()
        names = [name.lower() for name, _ in request.fields]
        assert names == [b"host", b"x-end", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto"]
        assert response.fields == [(b"X-End", b"1"), (b"Content-Length", b"4")]
        assert not client.closed


@pytest.mark.parametrize("trusted", [True, False])
@in_reactor
async def test_what_a_front_says_about_the_client_counts_if_the_front_is_trusted(trusted: bool) -> None:
    networks = (ip_network("127.0.0.0/8"),) if trusted else ()
    async with proxied(trusted_addresses=networks) as lab:
        gate = Gate()
        lab.origin.always = [gate, answered(b"")]
        client = await lab.client()
        told = ["X-Forwarded-For: 198.51.100.9, 192.0.2.7", "X-Real-IP: 9.9.9.9", "X-Forwarded-Proto: https"]
        client.request(LIVE, *told)
        request = await lab.origin.asked()
        expected = (
            [b"192.0.2.7, 127.0.0.1", b"192.0.2.7", b"https"] if trusted else [b"127.0.0.1", b"127.0.0.1", b"http"]
        )
        names = (b"X-Forwarded-For", b"X-Real-IP", b"X-Forwarded-Proto")
        assert [request.field(name) for name in names] == expected
        assert {session.peer for session in lab.stats.active} == {expected[1].decode()}
        gate.open()
        await client.response()


@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_options_are_the_origins(target: str) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"", b"Connection: Close", b"Access-Control-Allow-Origin: *", b"Server: SRS/7")]
        client = await lab.client()
        for _ in range(2):
            client.request(target, "Origin: http://o", method="OPTIONS")
            response = await client.response()
            assert response.field(b"Access-Control-Allow-Origin") == b"*"
            assert response.body == b""
        assert [request.method for request in lab.origin.requests] == [b"OPTIONS"] * 2


@pytest.mark.parametrize("body", [(), (chunk(b"media"), Endless(chunk(b"x" * 1000)))])
@in_reactor
async def test_head_of_a_stream_gets_the_head_and_leaves_the_body(body: tuple[Step, ...]) -> None:
    async with proxied() as lab:
        head = OK + b"Connection: Close\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n\r\n"
        lab.origin.answer(head, *body, Gate())
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        client.request(LIVE, method="HEAD")
        response = await client.response(to_head_request=True)
        assert response.first == b"HTTP/1.1 200 OK"
        assert response.field(b"Content-Type") == b"video/x-flv"
        await lab.origin.closed()
        assert (await client.get(FILE)).body == b"next"
        assert lab.stats.ended["flv", Outcome.FINISHED] == 1


@pytest.mark.parametrize("sent", [b"", b"the body all the same"])
@in_reactor
async def test_head_of_a_file_tells_its_length(sent: bytes) -> None:
    async with proxied() as lab:
        lab.origin.answer(OK + b"Content-Length: 21\r\nContent-Type: video/MP2T\r\n\r\n" + sent)
        lab.origin.answer(answered(b"next"))
        client = await lab.client()
        client.request(FILE, method="HEAD")
        response = await client.response(to_head_request=True)
        assert response.field(b"Content-Length") == b"21"
        assert (await client.get(FILE)).body == b"next"


@pytest.mark.parametrize("chunked", [True, False])
@in_reactor
async def test_a_body_reaches_the_origin_and_what_follows_is_the_next_request(chunked: bool) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 7"
        body = b"3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nX: y\r\n\r\n" if chunked else b"abcdefg"
        request = b"GET /live/s.key HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n" + body
        for data in (request, *(request[at : at + 1] for at in range(len(request)))):
            client.send(data)
        client.request(FILE)
        for _ in range(3):
            assert (await client.response()).body == b"fine"
        assert [request.body for request in lab.origin.requests] == [b"abcdefg", b"abcdefg", b""]
        assert [request.all(b"Transfer-Encoding") for request in lab.origin.requests] == [[]] * 3
        # SRS closes behind them.
        assert len(lab.origin.connections) == 3


@in_reactor
async def test_a_client_that_waits_to_be_told_to_send_its_body_is_told() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        client.send(b"GET /live/s.key HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await client.response()).status == 100
        client.send(b"body")
        assert (await client.response()).body == b"fine"
        request = await lab.origin.asked()
        assert request.body == b"body"
        assert request.field(b"Expect") is None


@in_reactor
async def test_a_client_of_http_1_0_knows_no_such_word() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"fine")]
        client = await lab.client()
        client.send(b"GET /live/s.key HTTP/1.0\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
        assert (await client.response()).body == b"fine"


@pytest.mark.parametrize("framing", [b"Content-Length: 65537", b"Transfer-Encoding: chunked"])
@in_reactor
async def test_a_body_that_is_too_large_is_refused(framing: bytes) -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.send(b"GET /live/s.key HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n")
        if b"chunked" in framing:
            client.send(chunk(b"x" * 60_000) + chunk(b"x" * 6_000))
        assert_explained(await client.response(), 413)
        assert await client.wait_closed()
        assert lab.origin.requests == []


# What the client is answered


@in_reactor
async def test_the_head_of_an_answer_arrives_as_the_origin_sent_it() -> None:
    async with proxied() as lab:
        fields = [
            b"content-TYPE: video/x-flv",
            b"Access-Control-Allow-Origin: *",
            b"Access-Control-Allow-Credentials: false",
            b"Set-Cookie: a=b; Path=/",
            b"Set-Cookie: c=d",
            b"Cache-Control: no-cache",
            b'ETag: W/"x"',
            b"Server: SRS/7.0.18(Hang)",
            b"X-Empty:",
        ]
        first = b"HTTP/1.1 203 As You Like"
        lab.origin.answer(b"\r\n".join([first, b"Connection: Close", *fields, b"\r\n"]), Ending.FIN)
        response = await lab.get(LIVE)
        assert response.first == first
        expected = [tuple(field.split(b": ")) if b": " in field else (b"X-Empty", b"") for field in fields]
        assert response.fields == [*expected, (b"Connection", b"close")]


@pytest.mark.parametrize("extension", ["aac", "mp3", "ts", "flv", "key", "mpd", "m4s", "m4a", "m4v", "vtt"])
@in_reactor
async def test_every_kind_of_media_is_asked_for_at_the_origin(extension: str) -> None:
    async with proxied() as lab:
        lab.origin.answer(answered(b"media", b"Content-Type: audio/x-aac"))
        response = await lab.get(f"/live/s.{extension}")
        assert response.body == b"media"
        assert response.field(b"Content-Type") == b"audio/x-aac"


@in_reactor
async def test_a_player_of_http_1_0_gets_a_stream_without_chunks() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"one"), gate, chunk(b"t"), b"2;x\r\nwo\r", b"\n", Ending.FIN)
        client = await lab.client()
        client.send(b"GET /live/s.flv HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = await client.head()
        assert head.field(b"Transfer-Encoding") is None
        assert head.field(b"Connection") == b"close"
        assert await client.read(3) == b"one"
        gate.open()
        assert await client.read(3) == b"two"
        assert await client.wait_closed()
        assert client.unread == b""
        await lab.ended("flv", Outcome.FINISHED)


@in_reactor
async def test_so_does_the_last_chunk_end_it() -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED + chunk(b"one") + chunk(b""))
        client = await lab.client()
        client.send(b"GET /live/s.flv HTTP/1.0\r\n\r\n")
        assert (await client.response()).body == b"one"


@pytest.mark.parametrize("rest", [(b"5\r\nhal", Ending.FIN), (b"xyz\r\n", Gate()), (Ending.RST,)])
@in_reactor
async def test_without_chunks_too_a_stream_that_breaks_off_is_a_lost_origin(rest: tuple[Step, ...]) -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"one"), gate, *rest)
        client = await lab.client()
        client.send(b"GET /live/s.flv HTTP/1.0\r\n\r\n")
        await client.head()
        assert await client.read(3) == b"one"
        gate.open()
        await client.wait_closed()
        # An orderly end would be that of the stream.
        assert client.lost is not None
        assert not client.lost.check(ConnectionDone)
        await lab.ended("flv", Outcome.ORIGIN_LOST)


@in_reactor
async def test_a_broken_answer_without_a_length_is_a_broken_connection() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(OK + b"\r\n", b"one", gate, Ending.RST)
        client = await lab.client()
        client.request(FILE)
        await client.head()
        assert await client.read(3) == b"one"
        gate.open()
        await client.wait_closed()
        assert client.lost is not None
        assert not client.lost.check(ConnectionDone)


@in_reactor
async def test_a_stalled_player_of_http_1_0_stops_the_origin() -> None:
    async with proxied() as lab:
        endless = Endless(chunk(b"x" * 1000))
        lab.origin.answer(CHUNKED, endless)
        client = await lab.client()
        client.send(b"GET /live/s.flv HTTP/1.0\r\n\r\n")
        await client.head()
        client.pause()
        stalled = await comes_to_rest(reactor, lambda: endless.sent)
        client.resume()
        await lab.until(lambda: endless.sent > 2 * stalled, "the stream goes on")
        await client.abort()
        await lab.origin.closed()
        await lab.ended("flv", Outcome.CLIENT_LOST)


# Who leaves


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("target", [LIVE, PLAYLIST, FILE])
@in_reactor
async def test_a_client_that_leaves_a_silent_origin_leaves_nothing_behind(target: str, orderly: bool) -> None:
    async with proxied() as lab:
        for count in range(1, 31):
            client = await lab.client()
            client.request(target)
            await lab.origin.asked(count)
            await (client.close() if orderly else client.abort())
        await lab.origin.closed(30)
        assert lab.origin.open_connections == 0
        outcome = Outcome.FINISHED if orderly else Outcome.CLIENT_LOST
        assert lab.stats.ended == {(_format(target), outcome): 30}


@in_reactor
async def test_a_client_that_leaves_while_its_origin_is_chosen_or_reached_asks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with proxied() as lab:
        asked: list[Deferred[Origin]] = []

        def pick(*arguments: Any, **others: Any) -> Deferred[Origin]:
            asked.append(Deferred())
            return asked[-1]

        monkeypatch.setattr(lab.proxy.balancer, "pick", pick)
        client = await lab.client()
        client.request(LIVE)
        await lab.until(lambda: asked, "the pick")
        await client.abort()
        await lab.ended("flv", Outcome.CLIENT_LOST)
        assert lab.origin.connections == []


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@in_reactor
async def test_a_client_that_leaves_in_mid_stream_ends_the_origins_connection(orderly: bool, version: str) -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, chunk(b"x"), Gate())
        client = await lab.client()
        client.send(f"GET /live/s.flv HTTP/{version}\r\nHost: test\r\n\r\n".encode())
        await client.line(b"x")
        await (client.close() if orderly else client.abort())
        await lab.origin.closed()
        await lab.ended("flv", Outcome.FINISHED if orderly else Outcome.CLIENT_LOST)


@pytest.mark.parametrize("target", [LIVE, FILE, PLAYLIST])
@in_reactor
async def test_a_client_that_leaves_in_mid_body_ends_the_origins_connection(target: str) -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(OK + b"Content-Length: 1000\r\n\r\n#EXTM3U\n", gate)
        client = await lab.client()
        client.request(target)
        await lab.until(lambda: gate.reached, "half the body")
        await client.abort()
        await lab.origin.closed()
        await lab.ended(_format(target), Outcome.CLIENT_LOST)


async def ask_for_all_kinds(lab: ProxiedOrigins, target: str, method: str) -> None:
    """Ten requests whose answers are of all kinds, from clients that leave in two ways; then the origin closes too."""
    kinds: list[tuple[Step, ...]] = [
        (answered(b"x"),),
        (answered(b"x" * 100_000),),
        (CHUNKED, chunk(b"x" * 100_000), Ending.FIN),
        (CHUNKED, chunk(b"x"), chunk(b"")),
        (CHUNKED, chunk(b"x"), b"5\r\nx", Ending.FIN),
        (OK + b"\r\n", Ending.FIN),
        (Ending.FIN,),
        (Ending.RST,),
        (b"garbage",),
        (Gate(),),
    ]
    clients = []
    for steps in kinds:
        lab.origin.answer(*steps)
        clients.append(await lab.client())
        clients[-1].request(target, method=method)
    for number, client in enumerate(clients):
        await client.wait_received(1)
        await (client.close() if number % 2 else client.abort())
    await lab.until(lambda: not lab.stats.active, "the end of all sessions")
    for connection in lab.origin.connections:
        connection.transport.loseConnection()
    await lab.origin.closed(len(lab.origin.connections))


@in_reactor
async def test_nothing_is_left_of_two_hundred_requests_of_all_kinds() -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(reactor.getReaders()) + len(reactor.getWriters())

    async with proxied(http_wait_timeout=SHORT, http_origin_timeout=SHORT) as lab:
        # The first ones open what the relay keeps.
        await ask_for_all_kinds(lab, LIVE, "GET")
        await comes_to_rest(reactor, lambda: sum(held()))
        before, pending = held(), len(reactor.getDelayedCalls())
        for round_ in range(20):
            target = (LIVE, FILE, PLAYLIST)[round_ % 3]
            await ask_for_all_kinds(lab, target, "HEAD" if round_ % 7 == 6 else "GET")
        await lab.until(lambda: held() <= before, f"as many as before: {before}")
        assert held()[1] <= before[1]
        assert len(reactor.getDelayedCalls()) <= pending + 1  # the pool may have its one


@in_reactor
async def test_clients_and_exchanges_are_freed_without_the_garbage_collector() -> None:
    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, (HttpClient, Exchange, OriginConnection))]

    async with proxied(http_wait_timeout=SHORT) as lab:
        gc.collect()
        assert alive() == []
        gc.disable()
        try:
            steps: list[tuple[Step, ...]] = [
                (CHUNKED, chunk(b"x"), Ending.FIN),
                (CHUNKED, chunk(b"x"), b"5\r\n", Ending.FIN),
                (Ending.FIN,),
                (Ending.RST,),
                (Gate(),),
                (b"garbage",),
            ]
            for answer in steps:
                lab.origin.answer(*answer)
                client = await lab.client()
                client.request(LIVE)
                await client.wait_received(1)
                await client.close()
            lab.origin.answer(CHUNKED, chunk(b"x"), Gate())
            client = await lab.client()
            client.request(LIVE)
            await client.line(b"x")
            await client.abort()
            await lab.until(lambda: not alive(), "all are freed")
        finally:
            gc.enable()


# Backpressure


@in_reactor
async def test_a_stalled_player_stops_the_origin_and_nobody_else() -> None:
    async with proxied() as lab:
        streams = [Endless(chunk(b"x" * 10_000)) for _ in range(21)]
        players = []
        for stream in streams:
            lab.origin.answer(CHUNKED, stream)
            players.append(await lab.client())
            players[-1].request(LIVE)
            await players[-1].head()
            if stream is not streams[-1]:
                players[-1].pause()

        def sent_to_stalled() -> int:
            return sum(stream.sent for stream in streams[:-1])

        stalled = await comes_to_rest(reactor, sent_to_stalled)
        *_, reader = players
        received = 0
        while received < SEVERAL_BUFFERS:
            received += len(await reader.chunk())
        assert sent_to_stalled() == stalled
        players[0].resume()
        assert len(await players[0].read(SEVERAL_BUFFERS)) == SEVERAL_BUFFERS


@in_reactor
async def test_a_hundred_stalled_players_disturb_nobody() -> None:
    async with proxied() as lab:
        for _ in range(100):
            lab.origin.answer(CHUNKED, *[chunk(b"x" * 100_000)] * 8, Gate())
            client = await lab.client()
            client.request(LIVE)
            await client.head()
            client.pause()
        lab.origin.answer(CHUNKED, *[chunk(b"y" * 100_000)] * 80, Ending.FIN)
        assert (await lab.get(LIVE)).body == b"y" * 8_000_000


# Ends of the proxy


@in_reactor
async def test_draining_lets_an_answer_end_and_closes_what_is_idle() -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(answered(b"idle"))
        lab.origin.answer(CHUNKED, chunk(b"one"), gate, chunk(b"two"), Ending.FIN)
        idle, player = await lab.client(), await lab.client()
        await idle.get(FILE)
        player.request(LIVE)
        await player.head()
        drained = lab.proxy.http_server.drain()
        assert await idle.wait_closed()
        assert not drained.called
        gate.open()
        assert await player.chunked(10) == b"onetwo"
        assert await player.wait_closed()
        await drained
        await lab.origin.closed(len(lab.origin.connections))


@in_reactor
async def test_draining_does_not_wait_for_a_request_that_has_not_come_as_a_whole() -> None:
    async with proxied() as lab:
        client = await lab.client()
        client.send(b"GET /live/s.flv HTTP/1.1\r\n")
        await lab.proxy.pause(0.01)
        await lab.proxy.http_server.drain()
        assert await client.wait_closed()


@in_reactor
async def test_aborting_ends_all_with_that_outcome() -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, chunk(b"one"), Gate())
        lab.origin.answer(Gate())
        clients = [await lab.client(), await lab.client()]
        clients[0].request(LIVE)
        await clients[0].head()
        clients[1].request(LIVE)
        await lab.origin.asked(2)
        lab.proxy.http_server.abort()
        for client in clients:
            await client.wait_closed()
        await lab.origin.closed(2)
        await lab.ended("flv", Outcome.SHUTDOWN, 2)


@in_reactor
async def test_bytes_are_counted() -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, chunk(b"x" * 100_000), Ending.FIN)
        client = await lab.client()
        await client.get(LIVE)
        assert lab.stats.sent["flv"] == len(client.received)


@in_reactor
async def test_a_play_is_told_in_the_log_and_a_segment_is_not() -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"x")]
        await lab.get(LIVE)
        await lab.get("/live/s.m4s")
        told = [line for line in lab.lines if "/live/s" in line]
        assert len(told) == 2
        assert "play __defaultVhost__/live/s: started on " in told[0]
        assert "play __defaultVhost__/live/s from 127.0.0.1: finished" in told[1]


@pytest.mark.parametrize(
    ("target", "level"),
    [(LIVE, LogLevel.warn), (PLAYLIST, LogLevel.info), (FILE, LogLevel.info), ("/live/s.m4s", LogLevel.info)],
)
@pytest.mark.parametrize("status", ["404 Not Found", "503 Busy"])
@in_reactor
async def test_an_error_of_the_origin_is_told_in_the_log_with_its_status(
    target: str, level: LogLevel, status: str
) -> None:
    async with proxied() as lab:
        lab.origin.always = [answered(b"no", status=status.encode())]
        assert (await lab.get(target)).status == int(status[:3])
        assert {outcome for _, outcome in lab.stats.ended} == {Outcome.REJECTED_BY_ORIGIN}
        ((told, line),) = lab.told(f"{DEFAULT_VHOST}/live/s")
        assert told is level
        assert f"{Outcome.REJECTED_BY_ORIGIN.value}: origin " in line
        assert f": {status}" in line


@in_reactor
async def test_an_error_of_a_page_of_ours_is_nobodys_rejection() -> None:
    async with proxied() as lab:
        assert (await lab.get("/nothing")).status == 404
        await lab.ended("http", Outcome.FINISHED)
