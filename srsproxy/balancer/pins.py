"""Which origin a client was sent to, told by a token in what it got: in the URIs of a playlist
(:mod:`srsproxy.http.playlist`), in the user name of a WebRTC session (:mod:`srsproxy.webrtc.credentials`).

A token is a keyed hash of the origin's ``server``, which survives a restart of the origin. So it is the same in every
refresh and at every proxy with the same secret, tells nobody an address, and lets nobody choose one: a client that
makes one up finds an origin only by guessing 80 bits. What it does find is what it may ask for anyway. So nothing is
gained from how long a look-up takes, and tokens are found in a dict.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.model import HlsSession, Origin, Surface
from srsproxy.errors import in_background
from srsproxy.interfaces import ILoadBalancer

TOKEN_LENGTH: Final = 16
"""Characters of a token, 5 bits each."""

REFRESH_INTERVAL: Final = 1.0
"""Seconds between two reloads of the table. Whoever makes up tokens costs no more than that; a viewer whose origin has
registered since the last one is served by the pick of its stream."""

MAX_KEPT: Final = 2_000
"""Origins whose token and addresses are kept because computing them takes a while; twice as many as a balancer has."""

_FOLDER: Final = "srsproxy-origin"
"""What is before the token in the name of an origin's own stream. Names of others have a vhost, an app and a stream."""

_RENEWALS_PER_LIFETIME: Final = 12
"""How often within its lifetime the record of a pin is renewed at the most. If Redis loses it, it is missed no longer
than that."""

_HTTP_PORT: Final = ":80"

_log = Logger()


def is_token(pin: str) -> bool:
    """Whether this may be a token: ids of Go proxies have another length."""
    return len(pin) == TOKEN_LENGTH


class Pins:
    """Tokens of origins, and the table of registered origins by their tokens, which is reloaded when a token is not in
    it.

    An origin that is gone stays in the table until then, which does no harm: the balancer tells that it is gone.

    :param secret: what all proxies in front of the same origins share.
    :param balancer: knows the origins; the table has no more entries than it has.
    :param clock: tells the time, in seconds.
    """

    def __init__(self, secret: bytes, balancer: ILoadBalancer, clock: IReactorTime) -> None:
        self._secret = secret
        self._balancer = balancer
        self._clock = clock
        self._tokens: dict[str, str] = {}
        self._servers: dict[str, str] = {}
        self._authorities: dict[str, str] = {}
        self._reloaded_at: float | None = None
        self._waiting: list[Deferred[None]] = []

    def rekey(self, secret: bytes) -> None:
        """Use another secret from now on."""
        self._secret = secret
        self._tokens.clear()
        self._servers, self._authorities = {}, {}
        self._reloaded_at = None

    def token(self, server: str) -> str:
        """The token of an origin, registered or not: 16 lower-case letters and digits, which are
        URI characters as well as ICE ones (RFC 8839, section 5.4)."""
        token = self._tokens.get(server)
        if token is None:
            digest = hmac.digest(self._secret, server.encode(), "sha256")
            token = b32encode(digest).decode("ascii")[:TOKEN_LENGTH].lower()
            if len(self._tokens) >= MAX_KEPT:
                self._tokens.clear()
            self._tokens[server] = token
        return token

    def server(self, token: str) -> str | None:
        """The ``server`` of the origin with this token, as far as the table knows."""
        return self._servers.get(token)

    async def resolve(self, pin: str) -> str | None:
        """The same, if need be after a reload of the table.

        :param pin: the value of the pinning parameter. One that is no token is a Go proxy's, whose record
            :meth:`ILoadBalancer.load_hls` has.
        """
        if is_token(pin) and pin not in self._servers:
            await self.refresh()
        return self._servers.get(pin)

    def authority(self, name: bytes) -> str | None:
        """The token of the registered origin that announces its HTTP server or API at this authority.

        :param name: ``host``, or ``host:port`` unless the port is 80; an IPv6 address is in brackets.
        """
        return self._authorities.get(_normalized(name))

    def pinning(self, origin: Origin) -> Callable[[bytes | None], bytes | None]:
        """The tokens for the URIs of a playlist from this origin; see :func:`srsproxy.http.playlist.rewrite`.

        The addresses that this origin announces are known to be its own even if the table is not that new.
        """
        own = self.token(origin.server).encode("ascii")

        def pin(authority: bytes | None) -> bytes | None:
            if authority is None or _normalized(authority) in _authorities(origin):
                return own
            token = self.authority(authority)
            return None if token is None else token.encode("ascii")

        return pin

    def refresh(self) -> Deferred[None]:
        """Reload the table, unless that was done less than :data:`REFRESH_INTERVAL` ago. All who ask while a reload
        runs wait for the same one.

        A reload that fails, as the balancer says, leaves the table as it was.
        """
        if not self._waiting:
            now = self._clock.seconds()
            # The clock may have been set back.
            if self._reloaded_at is not None and 0 <= now - self._reloaded_at < REFRESH_INTERVAL:
                return succeed(None)
            self._reloaded_at = now
        # Each has a Deferred of its own, so that one who cancels his does not take it from the others.
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._balancer.origins().addCallback(self._reload).addBoth(self._tell)
        return waiting

    def _reload(self, origins: list[Origin]) -> None:
        self._servers = {self.token(origin.server): origin.server for origin in origins}
        self._authorities = {name: self.token(origin.server) for origin in origins for name in _authorities(origin)}

    def _tell(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(result)


class PinRecords:
    """What lets Go proxies serve the segments that our playlists name, if they share a Redis with us.

    A Go proxy that is asked for a segment with a pin looks for the HLS session with this id, and then for the origin of
    the stream that the session names. So each origin whose playlists we give out has an HLS session with its token as
    id, of a stream of its own, which is picked for this origin and which no client can name.

    :param clock: tells the time, in seconds.
    :param lifetime: seconds that HLS sessions and picks live at least.
    """

    def __init__(self, balancer: ILoadBalancer, pins: Pins, clock: IReactorTime, lifetime: float) -> None:
        self._balancer = balancer
        self._pins = pins
        self._clock = clock
        # Ids of origins by their tokens.
        self._kept = ExpiringTable[str, str](lifetime / _RENEWALS_PER_LIFETIME, MAX_KEPT, lambda _: None)

    def keep(self, origin: Origin) -> None:
        """A viewer gets a playlist of this origin: see to it that a Go proxy finds what it needs. The viewer does not
        wait for that; his player has to read the playlist before it asks for a segment."""
        now = self._clock.seconds()
        self._kept.expire(now)
        token = self._pins.token(origin.server)
        if self._kept.get(token) != origin.id:
            self._kept.store(token, origin.id, now)
            in_background(_log, "keep the record of a pin", Deferred.fromCoroutine(self._keep(origin, token)))

    async def _keep(self, origin: Origin, token: str) -> None:
        key = f"{_FOLDER}/{token}"
        picked = await self._balancer.pick(key, Surface.HTTP, prefer=origin.server)
        if picked.server != origin.server:
            # Go proxies pick another one while an origin is away.
            await self._balancer.pick(key, Surface.HTTP, {picked.id}, prefer=origin.server)
        await self._balancer.save_hls(HlsSession(token, key, key))


@lru_cache(maxsize=MAX_KEPT)
def _authorities(origin: Origin) -> frozenset[str]:
    """Where the origin says that its files, or its API, can be had by HTTP."""
    surfaces = (Surface.HTTP, Surface.API)
    return frozenset(str(endpoint).lower() for surface in surfaces for endpoint in origin.dial(surface))


def _normalized(authority: bytes) -> str:
    """With the port, and in lower case (RFC 3986, section 6.2)."""
    name = authority.decode("utf-8", "surrogateescape").lower()
    return name if name.rpartition(":")[2].isdecimal() else name + _HTTP_PORT
