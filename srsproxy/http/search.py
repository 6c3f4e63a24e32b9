"""From what a request means to a connection that can carry it.

The quick way is one question to the balancer, and a connection from the pool. Whatever needs more than that (a token
that is not known, a name that may mean several streams, a new connection, an origin that cannot be reached) takes the
long way, which is a coroutine.
"""

from __future__ import annotations

from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.balancer.pins import is_token
from srsproxy.balancer.routing import reach_origin
from srsproxy.errors import OriginUnreachable, PeerError, Refused, describe
from srsproxy.http.shared import SOURCE, Shared
from srsproxy.http.target import Kind, Target
from srsproxy.http.upstream import OriginConnection
from srsproxy.log import ContextLogger
from srsproxy.stats import Session

PLAY = "play"
"""What a session does that gets a live stream; others fetch something."""

_FETCH = "fetch"


class Seeker(Interface):
    """Who wants the connection."""

    def connection_found(self, connection: OriginConnection) -> None:
        """Here it is; it is the seeker's."""

    def search_failed(self, failure: Failure) -> None:
        """There is none, or :meth:`connection_found` raised this."""


class Search:
    """Looks for a connection, and again if the first one turns out to be of no use.

    :ivar kind: what is asked for; what the target says, or better.
    :ivar origin: where the last connection leads; ``None`` if to our own pages, or if nothing was found yet.
    """

    __slots__ = (
        "_fresh",
        "_pending",
        "_seeker",
        "_server",
        "_session",
        "_shared",
        "_target",
        "_unclaimed",
        "kind",
        "origin",
    )

    def __init__(self, shared: Shared, target: Target, session: Session, seeker: Seeker, *, fresh: bool) -> None:
        """
        :param fresh: take no connection from the pool: what is sent cannot be sent again if it turns out to be closed.
        """
        self._shared = shared
        self._target = target
        self._session = session
        self._seeker: Seeker | None = seeker
        self._fresh = fresh
        self._pending: Deferred[None] | None = None
        self._server: str | None = None
        self._unclaimed: OriginConnection | None = None
        self.kind = target.kind
        self.origin: Origin | None = None

    def begin(self) -> None:
        """Look for the first time."""
        shared, target = self._shared, self._target
        if self.kind is Kind.LOCAL:
            self._take_long_way(None)
            return
        self._stream_is(target.key)
        self._server = shared.pins.server(target.pin) if target.pin is not None else None
        if self._server is None and (target.pin is not None or len(target.keys) > 1):
            self._take_long_way(None)
        else:
            self._await(self._choice(target.key))

    def repeat(self) -> None:
        """Look for another connection to the same place."""
        self._chosen(self.origin)

    def renew(self) -> None:
        """Look for a new connection to the same place: the last one came from the pool, and was not alive any more."""
        self._take_long_way(self.origin, fresh=True)

    @property
    def leads_elsewhere(self) -> bool:
        """Whether the viewer was pinned to another origin than the last connection leads to."""
        return self._server is not None and self.origin is not None and self.origin.server != self._server

    def go_elsewhere(self) -> None:
        """Look for a connection to that one: the stream's origin does not have what is asked for."""
        server, self._server = self._server, None
        if server is not None:
            self._await(self._shared.balancer.pinned(self._key, server, Surface.HTTP))

    def cancel(self) -> None:
        """Look no more; the seeker hears nothing."""
        self._seeker = None
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        if self._unclaimed is not None:
            self._unclaimed.abort()

    # The quick way

    def _choice(self, key: str) -> Deferred[Origin | None] | Deferred[Origin]:
        """The origin to ask; ``None`` if the one that the viewer is pinned to cannot be.

        A file is where the playlist was that named it. A playlist is where the stream is now, as far as anybody knows:
        the origin of the viewer's last one may have lost the stream, and would serve what it has left of it.
        """
        balancer, server = self._shared.balancer, self._server
        if server is not None and self.kind is not Kind.PLAYLIST:
            return balancer.pinned(key, server, Surface.HTTP)
        return balancer.pick(key, Surface.HTTP, prefer=server)

    def _await(self, choice: Deferred[Origin | None] | Deferred[Origin]) -> None:
        looking = choice.addCallback(self._chosen).addErrback(self._failed)
        if not looking.called:
            self._pending = looking

    def _chosen(self, origin: Origin | None) -> None:
        self._pending = None
        # A live stream ends with its connection; and a refusal on a connection that was kept could be its age.
        if origin is not None and self.kind is not Kind.LIVE and not self._fresh:
            for endpoint in origin.dial(Surface.HTTP):
                connection = self._shared.pool.take(str(endpoint))
                if connection is not None:
                    self._found(connection, origin)
                    return
        self._take_long_way(origin)

    # The long way

    def _take_long_way(self, first: Origin | None, fresh: bool = False) -> None:
        """
        :param first: the origin to try first.
        :param fresh: take no connection from the pool.
        """
        way = self._to_ourselves(fresh) if self.kind is Kind.LOCAL else self._to_origin(first, fresh)
        looking = Deferred.fromCoroutine(way).addErrback(self._failed)
        if not looking.called:
            self._pending = looking

    async def _to_ourselves(self, fresh: bool) -> None:
        pool, local = self._shared.pool, self._shared.local
        connection = None if fresh else pool.take(local.name)
        if connection is None:
            if not local.running:
                raise Refused("the proxy shuts down")
            try:
                connection = await pool.open(local.endpoint, local.name)
            except OriginUnreachable as error:
                raise Refused("too many requests for our own pages at once") from error
        self._found(connection, None)

    async def _to_origin(self, first: Origin | None, fresh: bool) -> None:
        shared = self._shared
        if first is None:
            first = await self._resolve()
            if self.kind is Kind.LOCAL:
                await self._to_ourselves(fresh)
                return
        fresh = fresh or self._fresh or self.kind is Kind.LIVE

        async def attempt(origin: Origin, endpoint: Endpoint) -> tuple[OriginConnection, Origin]:
            connection = None if fresh else shared.pool.take(str(endpoint))
            # Kept at once: while the balancer is told of the success, the client may leave.
            self._unclaimed = connection = connection or await shared.pool.connect(endpoint)
            return connection, origin

        connection, origin = await reach_origin(
            shared.balancer, self._key, Surface.HTTP, attempt, self._origin_failed, first
        )
        self._unclaimed = None
        self._found(connection, origin)

    async def _resolve(self) -> Origin | None:
        """Find out which stream is meant, and which origin the viewer is pinned to, if it is."""
        shared, target = self._shared, self._target
        if target.pin is not None and self._server is None:
            self._server = await shared.pins.resolve(target.pin)
            record = None if is_token(target.pin) else await shared.balancer.load_hls(target.pin)
            if record is not None:
                # Given out by a Go proxy: it names the stream.
                self._stream_is(record.key)
                return None
            if self._server is None and target.needs_pin:
                self.kind = Kind.LOCAL
                self._session.key = None
                if not target.forwarded.isascii():
                    raise PeerError("the request target is not ASCII")
                return None
        if len(target.keys) > 1:
            key = await shared.balancer.picked(target.keys) or target.key
            self.kind = target.kind_of(key)
            self._stream_is(key)
        return None if self._server is None else await self._choice(self._key)

    def _origin_failed(self, error: OriginUnreachable) -> None:
        log = ContextLogger(SOURCE, self._session.context)
        log.warn("{what}: {reason}; trying the next origin", what=self._session.doing, reason=describe(error))

    # Both

    @property
    def _key(self) -> str:
        return self._session.key or self._target.key

    def _stream_is(self, key: str) -> None:
        self._session.key = key
        self._session.action = PLAY if self.kind is Kind.LIVE else _FETCH

    def _found(self, connection: OriginConnection, origin: Origin | None) -> None:
        self._pending = None
        self.origin = origin
        if origin is not None:
            self._session.origin = origin.id
        if self._seeker is None:
            connection.abort()
        else:
            self._seeker.connection_found(connection)

    def _failed(self, failure: Failure) -> None:
        self._pending = None
        if self._seeker is not None:
            self._seeker.search_failed(failure)
