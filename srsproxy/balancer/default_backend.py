"""The built-in origin of ``PROXY_DEFAULT_BACKEND_*``. It sends no heartbeats; the proxy registers it in its place."""

from __future__ import annotations

from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from srsproxy.balancer.model import Origin, parse_heartbeat
from srsproxy.errors import ConfigError, PeerError, log_failure
from srsproxy.interfaces import ILoadBalancer

REFRESH_INTERVAL: Final = 30.0
"""Seconds between two registrations, as in the Go proxy; a fraction of any sensible lifetime of an origin."""

_log = Logger()


def default_backend(*, ip: str, rtmp: str, http: str, api: str, rtc: str, srt: str, random: Random) -> Origin:
    """The origin that the settings describe: one listener for each surface, or an empty text for none.

    Its ids are new ones, as those of any origin that starts; as in the Go proxy, ``server`` begins with ``default-``.

    :raises ConfigError: it could not be dialled, or has no listener at all.
    """
    listeners = {"rtmp": rtmp, "http": http, "api": api, "rtc": rtc, "srt": srt}
    ids = {name: f"{random.getrandbits(28):07x}" for name in ("server", "service", "pid")}
    heartbeat = {"ip": ip, **ids, **{surface: [listener] for surface, listener in listeners.items() if listener}}
    heartbeat["server"] = f"default-{ids['server']}"
    try:
        return parse_heartbeat(heartbeat)
    except PeerError as error:
        raise ConfigError(f"PROXY_DEFAULT_BACKEND_*: {error}") from None


class DefaultBackend(Service):
    """Registers an origin now and every :data:`REFRESH_INTERVAL` seconds, for as long as the service runs.

    A balancer that does not take it (a Redis that is away, say) is told in the log, and asked again the next time.
    """

    def __init__(self, clock: IReactorTime, balancer: ILoadBalancer, origin: Origin) -> None:
        self._balancer = balancer
        self._origin = origin
        self._refresh = LoopingCall(self._register)
        self._refresh.clock = clock

    def startService(self) -> None:
        Service.startService(self)
        self._refresh.start(REFRESH_INTERVAL)

    def stopService(self) -> None:
        Service.stopService(self)
        self._refresh.stop()

    def _register(self) -> Deferred[None]:
        registered: Deferred[None] = self._balancer.register(self._origin)
        return registered.addErrback(lambda failure: log_failure(_log, "register the default backend", failure))
