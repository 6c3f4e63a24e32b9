"""The service: what it is made of, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from srsproxy.balancer.default_backend import DefaultBackend
from srsproxy.config import LoadBalancerType, Settings
from srsproxy.errors import ConfigError
from srsproxy.interfaces import IMediaServer, IStreamRelay
from srsproxy.service import Proxy, build
from srsproxy.stats import Stats


@implementer(IMediaServer)
class Server:
    """A media server whose sessions end when they are told to, or when a test says so."""

    name = "fake"

    def __init__(self) -> None:
        self.drained: Deferred[None] = Deferred()
        self.aborted = False

    def drain(self) -> Deferred[None]:
        return self.drained

    def abort(self) -> None:
        self.aborted = True
        self.drained.callback(None)


@implementer(IStreamRelay)
class Relay:
    closed = False

    def relay(
        self, source: Any, sink: Any, observer: Any, bulk: bool, boundary: Any = None, sink_clear: bool = False
    ) -> Any:
        raise AssertionError("nothing is relayed here")

    def close(self) -> None:
        self.closed = True


def running(server: Server) -> tuple[Clock, Relay, Proxy]:
    clock, relay = Clock(), Relay()
    proxy = Proxy(clock, replace(Settings(), grace_quit_timeout=5.0), Stats(), relay, [server], None)
    proxy.startService()
    return clock, relay, proxy


def test_sessions_that_end_within_the_grace_period_are_not_aborted() -> None:
    server = Server()
    clock, relay, proxy = running(server)
    stopped = proxy.stopService()
    clock.advance(4.9)
    assert not stopped.called
    assert not relay.closed
    server.drained.callback(None)
    assert stopped.called
    assert relay.closed
    assert not server.aborted
    assert clock.getDelayedCalls() == []


def test_sessions_that_outlast_the_grace_period_are_aborted() -> None:
    server = Server()
    clock, relay, proxy = running(server)
    failures: list[object] = []
    stopped = proxy.stopService()
    stopped.addErrback(failures.append)
    clock.advance(5.0)
    assert server.aborted
    assert stopped.called
    assert relay.closed
    assert failures == []


def test_an_idle_proxy_stops_at_once() -> None:
    server = Server()
    server.drained = succeed(None)
    clock, _, proxy = running(server)
    assert proxy.stopService().called
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("enabled", [False, True])
def test_the_default_backend_is_part_of_the_service_if_it_is_enabled(enabled: bool) -> None:
    proxy = build(replace(Settings(), default_backend_enabled=enabled), reactor)
    assert any(isinstance(service, DefaultBackend) for service in proxy.lasting) is enabled


def test_what_running_sessions_need_goes_on_until_the_last_has_ended() -> None:
    server = Server()
    _, _, proxy = running(server)
    needed = Service()
    needed.startService()
    proxy.lasting.append(needed)
    stopped = proxy.stopService()
    assert needed.running
    server.drained.callback(None)
    assert stopped.called
    assert not needed.running


def test_a_proxy_that_shares_is_not_ready_before_redis_has_been_there() -> None:
    alone, sharing = (build(replace(Settings(), load_balancer_type=kind), reactor) for kind in LoadBalancerType)
    alone.running = sharing.running = 1

    assert alone.hindrance() is None
    assert sharing.hindrance() == "Redis has not been of use since the start"


def test_a_proxy_that_does_not_run_wants_no_clients() -> None:
    assert build(Settings(), reactor).hindrance() == "the proxy is shutting down"


def test_a_default_backend_that_cannot_be_dialled_is_an_error_that_is_told_once() -> None:
    settings = replace(Settings(), default_backend_enabled=True, default_backend_ip="0.0.0.0")
    with pytest.raises(ConfigError, match="PROXY_DEFAULT_BACKEND") as caught:
        build(settings, reactor)
    assert caught.value.__cause__ is None
