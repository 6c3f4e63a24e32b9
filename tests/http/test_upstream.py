"""Connections to origins, and the pool of those that wait for a request."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from srsproxy.balancer.model import Endpoint, Origin
from srsproxy.errors import OriginUnreachable
from srsproxy.http import upstream
from srsproxy.http.upstream import IDLE_TIMEOUT, OriginConnection, Pool
from srsproxy.transports import raw_socket
from tests.asynchronous import in_reactor, until
from tests.http.origins import HOST, Ending, Gate, ScriptedHttpOrigin
from tests.http.origins import OriginConnection as ScriptedConnection
from tests.http.proxied import PLAYLIST, ProxiedOrigins, answered

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
ANSWER = answered(b"body")


class TimedReactor(Clock):
    """Connects like the real reactor; the test makes the time pass."""

    connectTCP = reactor.connectTCP  # noqa: N815  # the name is Twisted's


class Receiver:
    """Keeps what a connection tells."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Failure | None = None

    def response_received(self, data: bytes) -> None:
        self.received += data

    def origin_closed(self, reason: Failure) -> None:
        self.closed = reason


class PoolUnderTest:
    """A pool and an origin."""

    def __init__(self, origin: ScriptedHttpOrigin) -> None:
        self.origin = origin
        self.clock = TimedReactor()
        self.pool = Pool(self.clock, connect_timeout=5.0, stall_timeout=5.0)
        self.endpoint = Endpoint(HOST, origin.port)

    def take(self) -> OriginConnection | None:
        return self.pool.take(str(self.endpoint))

    async def used(self, count: int = 1) -> list[OriginConnection]:
        """So many new connections, each of which has carried a request."""
        connections = []
        for _ in range(count):
            self.origin.answer(ANSWER)
            connections.append(await self.pool.connect(self.endpoint))
            await ask(connections[-1])
        return connections

    async def waiting(self, count: int = 1) -> list[OriginConnection]:
        """The same; they are in the pool, the last one was released last."""
        connections = await self.used(count)
        for connection in connections:
            connection.release()
        return connections


async def ended(connection: OriginConnection) -> None:
    transport: Any = connection.transport
    await until(reactor, lambda: not transport.connected, "the end of the connection")


async def ask(connection: OriginConnection) -> None:
    receiver = Receiver()
    connection.send(REQUEST, receiver)
    await until(reactor, lambda: receiver.received == ANSWER, "the answer")


@asynccontextmanager
async def pooling() -> AsyncIterator[PoolUnderTest]:
    async with ScriptedHttpOrigin(reactor) as origin:
        under_test = PoolUnderTest(origin)
        yield under_test
        under_test.pool.close()
        assert under_test.clock.getDelayedCalls() == []
        await origin.closed(len(origin.connections))


@in_reactor
async def test_a_connectionthat_was_released_carries_the_next_request() -> None:
    async with pooling() as under_test:
        assert under_test.take() is None
        (connection,) = await under_test.waiting()
        assert connection.used
        under_test.origin.answer(ANSWER)
        assert under_test.take() is connection
        assert under_test.take() is None
        await ask(connection)
        assert len(under_test.origin.connections) == 1
        connection.abort()


@in_reactor
async def test_a_new_connectionhas_carried_nothing() -> None:
    async with pooling() as under_test:
        connection = await under_test.pool.connect(under_test.endpoint)
        assert not connection.used
        assert connection.name == f"{HOST}:{under_test.origin.port}"
        connection.abort()


@in_reactor
async def test_the_one_that_was_used_last_is_taken_first() -> None:
    async with pooling() as under_test:
        first, second = await under_test.waiting(2)
        assert under_test.take() is second
        second.release()
        assert under_test.take() is second
        assert under_test.take() is first
        first.abort()
        second.abort()


@in_reactor
async def test_connections_are_kept_by_where_they_lead() -> None:
    async with pooling() as under_test:
        await under_test.waiting()
        assert under_test.pool.take(f"{HOST}:1") is None
        assert under_test.pool.take(f"localhost:{under_test.origin.port}") is None


@in_reactor
async def test_one_that_waits_for_too_long_is_closed_and_no_other() -> None:
    async with pooling() as under_test:
        await under_test.waiting(2)
        under_test.clock.advance(IDLE_TIMEOUT / 2)
        (third,) = await under_test.waiting()
        under_test.clock.advance(IDLE_TIMEOUT / 2)
        await under_test.origin.closed(2)
        assert under_test.origin.open_connections == 1
        for connection in under_test.origin.connections[:2]:
            assert connection.lost is not None
            assert connection.lost.check(ConnectionDone)
        assert under_test.take() is third
        third.release()
        under_test.clock.advance(IDLE_TIMEOUT)
        await under_test.origin.closed(3)
        assert under_test.take() is None
        assert under_test.clock.getDelayedCalls() == []


@in_reactor
async def test_one_that_is_used_now_and_then_is_kept() -> None:
    async with pooling() as under_test:
        (connection,) = await under_test.waiting()
        for _ in range(5):
            under_test.clock.advance(IDLE_TIMEOUT * 0.9)
            assert under_test.take() is connection
            under_test.origin.answer(ANSWER)
            await ask(connection)
            connection.release()


@in_reactor
async def test_one_that_carries_a_request_is_not_closed() -> None:
    async with pooling() as under_test:
        (connection,) = await under_test.waiting()
        assert under_test.take() is connection
        under_test.clock.advance(2 * IDLE_TIMEOUT)
        under_test.origin.answer(ANSWER)
        await ask(connection)
        connection.abort()


@pytest.mark.parametrize("ending", ["loseConnection", "abortConnection"])
@in_reactor
async def test_one_that_the_origin_closes_is_forgotten(ending: str) -> None:
    async with pooling() as under_test:
        kept, closed = await under_test.waiting(2)
        getattr(under_test.origin.connections[1].transport, ending)()
        await ended(closed)
        assert under_test.take() is kept
        assert under_test.take() is None
        kept.abort()


@in_reactor
async def test_one_whose_origin_speaks_without_being_asked_is_closed() -> None:
    async with pooling() as under_test:
        await under_test.waiting()
        under_test.origin.connections[0].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await under_test.origin.closed()
        assert under_test.take() is None


def socket_of(connection: ScriptedConnection) -> socket.socket:
    handle = raw_socket(connection.transport)
    assert handle is not None
    return handle


def speak(connection: socket.socket) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")


def close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("act", [speak, close])
@in_reactor
async def test_what_its_origin_did_since_the_reactor_looked_counts(act: Callable[[socket.socket], None]) -> None:
    async with pooling() as under_test:
        kept, first, second = await under_test.waiting(3)
        for other_end in under_test.origin.connections[1:]:
            act(socket_of(other_end))
        # Nothing of that was told to anybody: the reactor has not come round.
        assert under_test.take() is kept
        assert under_test.take() is None
        await ended(first)
        await ended(second)
        under_test.origin.answer(ANSWER)
        await ask(kept)
        kept.abort()


@in_reactor
async def test_if_that_is_so_of_all_there_is_none() -> None:
    async with pooling() as under_test:
        await under_test.waiting(2)
        for other_end in under_test.origin.connections:
            close(socket_of(other_end))
        assert under_test.take() is None
        (connection,) = await under_test.waiting()
        assert under_test.take() is connection
        connection.abort()


@in_reactor
async def test_one_that_has_ended_is_not_kept() -> None:
    async with pooling() as under_test:
        (connection,) = await under_test.used()
        under_test.origin.connections[0].transport.loseConnection()
        await ended(connection)
        connection.release()
        assert under_test.take() is None


@in_reactor
async def test_no_more_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "MAX_IDLE", 2)
    async with pooling() as under_test:
        await under_test.waiting(3)
        await under_test.origin.closed(1)
        assert under_test.origin.open_connections == 2


@in_reactor
async def test_a_closed_pool_keeps_nothing() -> None:
    async with pooling() as under_test:
        await under_test.waiting(2)
        (used,) = await under_test.used()
        under_test.take()
        under_test.take()
        under_test.pool.close()
        used.release()
        await ended(used)
        assert under_test.take() is None
        for connection in under_test.origin.connections:
            connection.transport.abortConnection()


@pytest.mark.parametrize(("ending", "reason"), [(Ending.FIN, ConnectionDone), (Ending.RST, ConnectionLost)])
@in_reactor
async def test_the_end_of_a_connectionis_told_to_who_uses_it(ending: Ending, reason: type[Exception]) -> None:
    async with pooling() as under_test:
        under_test.origin.answer(b"HTTP/1.1 200", ending)
        connection = await under_test.pool.connect(under_test.endpoint)
        receiver = Receiver()
        connection.send(REQUEST, receiver)
        await until(reactor, lambda: receiver.closed, "the end")
        assert receiver.closed is not None
        assert receiver.closed.check(reason)


@in_reactor
async def test_who_aborts_hears_nothing_more() -> None:
    async with pooling() as under_test:
        gate = Gate()
        under_test.origin.answer(ANSWER, gate, ANSWER)
        connection = await under_test.pool.connect(under_test.endpoint)
        receiver = Receiver()
        connection.send(REQUEST, receiver)
        await until(reactor, lambda: receiver.received, "the answer")
        connection.abort()
        gate.open()
        await ended(connection)
        assert receiver.received == ANSWER
        assert receiver.closed is None


@in_reactor
async def test_a_request_on_a_connectionthat_has_ended_meanwhile_is_told_so() -> None:
    async with pooling() as under_test:
        connection = await under_test.pool.connect(under_test.endpoint)
        await until(reactor, lambda: under_test.origin.connections, "the connection")
        under_test.origin.connections[0].transport.loseConnection()
        await ended(connection)
        receiver = Receiver()
        connection.send(REQUEST, receiver)
        assert receiver.closed is not None
        assert receiver.closed.check(ConnectionDone)


@in_reactor
async def test_a_connectionthat_ends_while_the_balancer_is_told_of_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ProxiedOrigins(reactor) as lab:
        told: list[Deferred[None]] = []

        def report_success(origin: Origin) -> Deferred[None]:
            told.append(Deferred())
            return told[-1]

        monkeypatch.setattr(lab.proxy.balancer, "report_success", report_success)
        client = await lab.client()
        client.request(PLAYLIST)
        await lab.until(lambda: told and lab.origin.connections, "the connection")
        lab.origin.connections[0].transport.loseConnection()
        await lab.origin.closed()
        await lab.proxy.pause(0.01)
        told[0].callback(None)
        assert (await client.response()).status in (403, 502)


@in_reactor
async def test_an_endpoint_where_nobody_listens_is_unreachable() -> None:
    async with pooling() as under_test:
        await under_test.origin.__aexit__(None, None, None)
        with pytest.raises(OriginUnreachable, match=f"connect origin {HOST}:{under_test.origin.port}"):
            await under_test.pool.connect(under_test.endpoint)


@in_reactor
async def test_a_request_larger_than_the_kernel_takes_arrives_whole() -> None:
    async with pooling() as under_test:
        under_test.origin.answer(ANSWER)
        connection = await under_test.pool.connect(under_test.endpoint)
        receiver = Receiver()
        body = bytes(range(256)) * 40_000
        connection.send(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body, receiver)
        await until(reactor, lambda: receiver.received == ANSWER, "the answer")
        assert under_test.origin.requests[0].body == body
        connection.abort()
