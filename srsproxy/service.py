"""From :class:`Settings` to a running proxy: a MultiService that ``twistd srsproxy`` runs and others may compose.

A Twisted application of your own takes it in like any service::

    settings = Settings.load({}, os.environ, None)
    build(settings, reactor).setServiceParent(application)

Starting it binds all listeners; one that cannot be bound is an error of ``startService`` (with twistd: of start-up).
``stopService`` returns a Deferred: nothing more is accepted, running sessions have ``grace_quit_timeout`` to end, and
what is left then is closed.
"""

from __future__ import annotations

import os
import platform
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.application.internet import TimerService
from twisted.application.service import MultiService, Service
from twisted.application.strports import service as strports_service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

from srsproxy import __version__
from srsproxy.api.http_api import build_http_api_site
from srsproxy.api.pages import build_pages_site
from srsproxy.api.profile import build_profile_site
from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.default_backend import DefaultBackend, default_backend
from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import Origin
from srsproxy.balancer.pins import Pins
from srsproxy.balancer.policy import POLICIES
from srsproxy.balancer.redis.model import Lifetimes, Place
from srsproxy.balancer.redis.service import RedisService
from srsproxy.config import LoadBalancerType, Settings
from srsproxy.errors import ConfigError, describe, log_failure
from srsproxy.http import shared as http_shared
from srsproxy.http.local import LocalSite
from srsproxy.http.server import HttpServer
from srsproxy.interfaces import ILoadBalancer, IMediaServer, IStreamRelay
from srsproxy.limited import LimitedFactory
from srsproxy.limits import ConnectionLimits
from srsproxy.log import new_context_id
from srsproxy.relay.stream import build_relay
from srsproxy.rtmp import shared as rtmp_shared
from srsproxy.rtmp.server import RtmpServer
from srsproxy.srt import shared as srt_shared
from srsproxy.srt.cookies import Cookies
from srsproxy.srt.server import SrtServer
from srsproxy.stats import Stats
from srsproxy.values import Listener
from srsproxy.webrtc import shared as webrtc_shared
from srsproxy.webrtc.credentials import Credentials
from srsproxy.webrtc.server import WebRtcServer

_REFRESHES_PER_LIFETIME = 3
"""How often the picks of running sessions are refreshed within their idle lifetime: one late round costs nothing."""

_API_CONNECTIONS_PER_ADDRESS = 256
"""A heartbeat takes milliseconds, so this is many origins behind one address; each connection costs some kilobytes."""

_log = Logger()


def build(settings: Settings, reactor: Any = None, fatal: Callable[[ConfigError], None] | None = None) -> Proxy:
    """The whole proxy, not yet started.

    :param reactor: the global one if not given.
    :param fatal: called when it turns out, after the start, that a setting cannot be used. If not given, that is
        logged, and the proxy goes on as it can.
    :raises ConfigError: a setting asks for what cannot be.
    """
    if reactor is None:
        from twisted.internet import reactor
    secret = settings.cluster_secret.encode("utf-8", "surrogateescape") or secrets.token_hex().encode()
    keyed: list[_Keyed] = []

    def agreed(secret: bytes) -> None:
        for one in keyed:
            one.rekey(secret)

    shared = _build_shared(settings, reactor, secret, None if settings.cluster_secret else agreed, fatal or _log_fatal)
    balancer: ILoadBalancer
    if shared is not None:
        balancer = shared.balancer
    else:
        knowledge = build_knowledge(settings, reactor, random.SystemRandom())
        balancer = MemoryLoadBalancer(knowledge, POLICIES[settings.pick_policy])
    stats = Stats()
    relay = build_relay(reactor, settings.relay_flush_interval)
    limits = ConnectionLimits(
        settings.max_connections, settings.max_connections_per_address, settings.max_pending_per_address
    )
    identity = ProxyIdentity(
        server=f"srsproxy-{platform.node()}", service=new_context_id(), pid=str(os.getpid()), version=__version__
    )
    rtmp = RtmpServer(rtmp_shared.Shared(reactor, settings, balancer, relay, stats, limits))
    pins = Pins(secret, balancer, reactor)
    local = LocalSite(reactor, build_pages_site(reactor, settings.static_files, identity))
    http = HttpServer(http_shared.Shared(reactor, settings, balancer, relay, stats, limits, pins, local))
    credentials, cookies = Credentials(secret, pins), Cookies(secret)
    keyed += [pins, credentials, cookies]
    webrtc = WebRtcServer(webrtc_shared.Shared(reactor, settings, balancer, relay, stats, limits, credentials))
    srt = SrtServer(srt_shared.Shared(reactor, settings, balancer, stats, limits, cookies))
    proxy = Proxy(reactor, settings, stats, relay, [rtmp, http, webrtc, srt], shared)
    local.setServiceParent(proxy)
    proxy.listen("RTMP", settings.rtmp_server, rtmp)
    proxy.listen("HTTP", settings.http_server, http)
    webrtc.setServiceParent(proxy)
    srt.setServiceParent(proxy)
    api_site = build_http_api_site(reactor, identity, webrtc.resources())
    # A session has its own place among all; its client's connection here is short.
    api_limits = ConnectionLimits(0, settings.max_pending_per_address, 0)
    proxy.listen("HTTP API", settings.http_api, LimitedFactory(api_site, api_limits))
    system_site = build_system_site(reactor, balancer, settings.register_token, identity, proxy.hindrance)
    proxy.listen("system API", settings.system_api, _limited(system_site))
    if settings.profile is not None:
        proxy.listen("profiling", settings.profile, _limited(build_profile_site(reactor)))
    if settings.default_backend_enabled:
        proxy.lasting.append(DefaultBackend(reactor, balancer, _default_origin(settings)))
    proxy.lasting.append(_refresh_picks(settings, balancer, stats, reactor))
    return proxy


class Proxy(MultiService):
    """The running proxy: its listeners, and an orderly end for the sessions of its media servers.

    :ivar lasting: services that run until the last session has ended.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        stats: Stats,
        relay: IStreamRelay,
        servers: Sequence[IMediaServer],
        shared: RedisService | None,
    ) -> None:
        MultiService.__init__(self)
        self._shared = shared
        self.lasting: list[Service] = [shared] if shared is not None else []
        self.stats = stats
        self._reactor = reactor
        self._grace = settings.grace_quit_timeout
        self._relay = relay
        self._servers = servers

    def listen(self, surface: str, listener: Listener, factory: IProtocolFactory) -> None:
        """Add a listener, bound when the service starts; one that cannot be bound is an error then."""
        port = strports_service(listener.endpoint_description(), factory, self._reactor)
        port.setName(surface)
        port.setServiceParent(self)

    def hindrance(self) -> str | None:
        """Why no clients should be sent to this proxy, if there is a reason."""
        if not self.running:
            return "the proxy is shutting down"
        if self._shared is not None and not self._shared.balancer.is_ready:
            return "Redis has not been of use since the start"
        return None

    def startService(self) -> None:
        for service in self.lasting:
            service.startService()
        MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """Accept nothing more and let running sessions end, for as long as the settings give them."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await MultiService.stopService(self)
        drained = DeferredList([server.drain() for server in self._servers])
        if not drained.called:
            _log.info(
                "{count} sessions are running; they have {grace:g} s to end",
                count=len(self.stats.active),
                grace=self._grace,
            )
        grace = self._reactor.callLater(self._grace, self._abort)
        await drained
        if grace.active():
            grace.cancel()
        self._relay.close()
        for service in reversed(self.lasting):
            await maybeDeferred(service.stopService)

    def _abort(self) -> None:
        for server in self._servers:
            server.abort()


def _limited(site: IProtocolFactory) -> LimitedFactory:
    return LimitedFactory(site, ConnectionLimits(0, _API_CONNECTIONS_PER_ADDRESS, 0))


class _Keyed(Protocol):
    """What the secret of the cluster is for."""

    def rekey(self, secret: bytes) -> None: ...


def _log_fatal(error: ConfigError) -> None:
    _log.critical("{reason}", reason=describe(error))


def _build_shared(
    settings: Settings,
    reactor: Any,
    secret: bytes,
    agreed: Callable[[bytes], None] | None,
    fatal: Callable[[ConfigError], None],
) -> RedisService | None:
    """What shares the state of this proxy with others, if the settings ask for that.

    :raises ConfigError: it cannot be.
    """
    if settings.load_balancer_type is not LoadBalancerType.REDIS:
        return None
    place = Place(
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_username,
        password=settings.redis_password,
        db=settings.redis_db,
        socket=settings.redis_socket,
        tls=settings.redis_tls,
        ca=settings.redis_ca,
        sentinels=settings.redis_sentinels,
        master=settings.redis_sentinel_master,
    )
    lifetimes = Lifetimes(
        origin=settings.origin_lifetime,
        pick=settings.pick_lifetime,
        hls=settings.hls_lifetime,
        webrtc=settings.webrtc_lifetime,
    )
    chance = random.SystemRandom()
    return RedisService(
        reactor,
        place,
        settings.redis_key_prefix,
        build_knowledge(settings, reactor, chance),
        lifetimes,
        POLICIES[settings.pick_policy],
        settings.redis_timeout,
        chance,
        secret.decode("utf-8", "surrogateescape"),
        agreed,
        fatal,
    )


def build_knowledge(settings: Settings, clock: IReactorTime, chance: random.Random) -> Knowledge:
    """What a proxy with these settings knows when it begins: nothing."""
    return Knowledge(
        clock,
        origin_lifetime=settings.origin_lifetime,
        pick_lifetime=settings.pick_lifetime,
        hls_lifetime=settings.hls_lifetime,
        webrtc_lifetime=settings.webrtc_lifetime,
        set_aside=settings.origin_set_aside,
        down_after=settings.origin_down_after,
        random=chance,
    )


def _default_origin(settings: Settings) -> Origin:
    return default_backend(
        ip=settings.default_backend_ip,
        rtmp=settings.default_backend_rtmp,
        http=settings.default_backend_http,
        api=settings.default_backend_api,
        rtc=settings.default_backend_rtc,
        srt=settings.default_backend_srt,
        random=random.SystemRandom(),
    )


def _refresh_picks(settings: Settings, balancer: ILoadBalancer, stats: Stats, clock: Any) -> TimerService:
    """Streams with running sessions keep their origin however long nobody else asks for them."""

    async def refresh() -> None:
        if keys := set(stats.keys_in_use()):
            await balancer.refresh(keys)

    def tick() -> Deferred[None]:
        refreshed = Deferred.fromCoroutine(refresh())
        return refreshed.addErrback(lambda failure: log_failure(_log, "refresh the picks of running sessions", failure))

    timer = TimerService(settings.pick_lifetime / _REFRESHES_PER_LIFETIME, tick)
    timer.clock = clock
    return timer
