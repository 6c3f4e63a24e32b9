"""The built-in origin."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from srsproxy.balancer.default_backend import REFRESH_INTERVAL, DefaultBackend, default_backend
from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.errors import ConfigError, SrsProxyError
from tests.balancer.helpers import ORIGIN_LIFETIME, logging, make_balancer, result_of


def make(**changes: str) -> Origin:
    settings = {"ip": "127.0.0.1", "rtmp": "1935", "http": "", "api": "1985", "rtc": "8000", "srt": "10080", **changes}
    return default_backend(**settings, random=Random(1))


def test_the_settings_become_an_origin() -> None:
    origin = make()
    assert origin.dial(Surface.RTMP) == (Endpoint("127.0.0.1", 1935),)
    assert origin.dial(Surface.HTTP) == ()
    assert origin.dial(Surface.API) == (Endpoint("127.0.0.1", 1985),)
    assert origin.dial(Surface.RTC) == (Endpoint("127.0.0.1", 8000, "udp"),)
    assert origin.dial(Surface.SRT) == (Endpoint("127.0.0.1", 10080, "udp"),)


def test_its_ids_are_new_at_every_start() -> None:
    random = Random(1)
    settings = {"ip": "127.0.0.1", "rtmp": "1935", "http": "", "api": "", "rtc": "", "srt": ""}
    first, second = (default_backend(**settings, random=random) for _ in range(2))
    assert first.server.startswith("default-")
    assert first.server != second.server
    assert first.service != second.service


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ip": "0.0.0.0"}, r"PROXY_DEFAULT_BACKEND_\*: ip: '0.0.0.0' is every address"),
        ({"srt": "tcp://1.2.3.4:5"}, r"PROXY_DEFAULT_BACKEND_\*: srt: "),
        ({"rtmp": "", "api": "", "rtc": "", "srt": ""}, "no listener"),
    ],
)
def test_settings_that_make_no_origin_are_a_config_error(changes: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)


def test_it_is_registered_for_as_long_as_the_service_runs() -> None:
    clock = Clock()
    balancer = make_balancer(clock)
    origin = make()
    service = DefaultBackend(clock, balancer, origin)
    service.startService()
    for _ in range(int(2 * ORIGIN_LIFETIME / REFRESH_INTERVAL)):
        assert result_of(balancer.origins()) == [origin]
        clock.advance(REFRESH_INTERVAL)
    service.stopService()
    assert clock.getDelayedCalls() == []
    clock.advance(ORIGIN_LIFETIME)
    assert result_of(balancer.origins()) == []


def test_it_can_be_stopped_and_started_again() -> None:
    clock = Clock()
    balancer = make_balancer(clock)
    service = DefaultBackend(clock, balancer, make())
    service.startService()
    service.stopService()
    clock.advance(ORIGIN_LIFETIME)
    service.startService()
    assert len(result_of(balancer.origins())) == 1
    service.stopService()


def test_a_balancer_that_is_away_is_told_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    balancer = make_balancer(clock)
    service = DefaultBackend(clock, balancer, make())
    with monkeypatch.context() as away, logging() as logged:
        away.setattr(balancer, "register", lambda _origin: fail(SrsProxyError("Redis is away")))
        service.startService()
    assert logged.at(LogLevel.warn) == ["register the default backend: Redis is away"]
    clock.advance(REFRESH_INTERVAL)
    assert len(result_of(balancer.origins())) == 1
    service.stopService()
