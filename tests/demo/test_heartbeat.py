"""Heartbeats of demo origins, towards the real register API."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.model import Origin
from srsproxy.demo import heartbeat
from srsproxy.demo.heartbeat import Heartbeat, HeartbeatFailed, HeartbeatRefused
from srsproxy.demo.origin import DemoOrigin
from srsproxy.errors import describe
from tests.asynchronous import in_reactor

TCP_REACTOR: Any = reactor

ORIGIN = Origin(
    ip="127.0.0.1", server="vid-1", service="s", pid="7", device_id="dev", rtmp=("1935", "127.0.0.1:1936"), http=("80",)
)


class Registered:
    """Takes registrations in a balancer's place."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def register(self, origin: Origin) -> Deferred[None]:
        self.origins.append(origin)
        for count, waiting in self._waiting:
            if len(self.origins) == count:
                waiting.callback(None)
        return succeed(None)

    def times(self, count: int) -> Deferred[None]:
        """Fires at the registration with this number."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((count, waiting))
        return waiting.addTimeout(10.0, reactor)


@asynccontextmanager
async def listening(factory: IProtocolFactory) -> AsyncIterator[str]:
    """A port on which ``factory`` listens; its address."""
    port = TCP_REACTOR.listenTCP(0, factory, interface="127.0.0.1")
    try:
        host: Any = port.getHost()
        yield f"127.0.0.1:{host.port}"
    finally:
        await maybeDeferred(port.stopListening)


def system_api(balancer: Any, token: str = "") -> IProtocolFactory:
    return build_system_site(reactor, balancer, token, ProxyIdentity("proxy", "1", "2", "1.0.0"), lambda: None)


class Unfinished(Protocol):
    """Begins an answer and says nothing more."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


class BreakingOff(Protocol):
    """Closes instead of answering."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@in_reactor
async def test_the_proxy_learns_all_that_the_origin_announces() -> None:
    registered = Registered()
    async with listening(system_api(registered)) as address:
        await Heartbeat(reactor, f"http://{address}/api/v1/srs/register", ORIGIN).send()
    assert registered.origins == [ORIGIN]


@in_reactor
async def test_a_demo_origin_announces_where_it_listens() -> None:
    registered = Registered()
    origin = DemoOrigin(reactor, name="a")
    origin.startService()
    async with listening(system_api(registered)) as address:
        await Heartbeat(reactor, f"http://{address}/api/v1/srs/register", origin.registration).send()
    await origin.stopService()
    assert registered.origins[0].rtmp == (origin.rtmp_address,)
    assert registered.origins[0].http == (origin.http_address,)
    assert registered.origins[0].device_id == "a"


@in_reactor
async def test_the_service_sends_at_its_start_and_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    registered = Registered()
    async with listening(system_api(registered)) as address:
        service = Heartbeat(reactor, f"http://{address}/api/v1/srs/register", ORIGIN)
        third = registered.times(3)
        service.startService()
        await third
        await service.stopService()
        assert set(registered.origins) == {ORIGIN}


@in_reactor
async def test_a_refused_heartbeat_tells_the_proxys_reason() -> None:
    async with listening(system_api(Registered(), token="secret")) as address:
        url = f"http://{address}/api/v1/srs/register/wrong"
        with pytest.raises(HeartbeatRefused, match=r"answered 403 .*token"):
            await Heartbeat(reactor, url, ORIGIN).send()


@in_reactor
async def test_a_proxy_that_is_not_there_is_an_error_that_says_so() -> None:
    async with listening(Factory()) as address:
        pass
    with pytest.raises(HeartbeatFailed) as raised:
        await Heartbeat(reactor, f"http://{address}/register", ORIGIN).send()
    assert re.fullmatch(f"POST http://{address}/register: connection.* refused.*", describe(raised.value))


@pytest.mark.parametrize("proxy", [Protocol, Unfinished])
@in_reactor
async def test_a_proxy_that_does_not_answer_is_an_error_after_a_time(
    monkeypatch: pytest.MonkeyPatch, proxy: type[Protocol]
) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT", 0.05)
    async with listening(Factory.forProtocol(proxy)) as address:
        with pytest.raises(HeartbeatFailed, match=r"no answer within 0\.05 s"):
            await Heartbeat(reactor, f"http://{address}/register", ORIGIN).send()


@in_reactor
async def test_the_service_tells_failures_in_the_log_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    told: list[LogEvent] = []
    twice: Deferred[None] = Deferred()

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            told.append(event)
            if len(told) == 2:
                twice.callback(None)

    globalLogPublisher.addObserver(observe)
    try:
        async with listening(Factory.forProtocol(BreakingOff)) as address:
            service = Heartbeat(reactor, f"http://{address}/register", ORIGIN)
            service.startService()
            await twice.addTimeout(10.0, reactor)
            await service.stopService()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert told[0]["doing"] == f"register {ORIGIN}"
    assert told[0]["reason"].startswith(f"POST http://{address}/register: ")
