"""A small media origin: RTMP publish and play, live streams over HTTP, and HLS, towards its clients like SRS.

It is a Twisted service. It listens on the loopback interface only, and obeys whoever runs it, so that a test can have
the origin that it needs::

    origin = DemoOrigin(reactor, name="a")
    origin.refuse = lambda key, action: action is Action.PUBLISH
    origin.startService()
    ... origin.rtmp_address, origin.streams.published, origin.visits ...
    await origin.stopService()
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from srsproxy import __version__
from srsproxy.api.versions import ProxyIdentity
from srsproxy.balancer.model import Origin
from srsproxy.demo.child import Children
from srsproxy.demo.hls import Segments
from srsproxy.demo.http_site import HttpVisit, build_http_site
from srsproxy.demo.live import Streams
from srsproxy.demo.rtmp import RtmpFactory, Visit
from srsproxy.log import new_context_id
from srsproxy.rtmp.events import Action
from srsproxy.streamkey import StreamKey

HOST: Final = "127.0.0.1"

MAX_VISITS: Final = 1000
"""Records of RTMP clients and of HTTP requests that are kept, the latest ones; a few hundred bytes each."""


class DemoOrigin(Service):
    """See the module's text.

    :param vhosts: the vhosts that it has besides the default one.
    :param rtmp_port: 0 for one that is free; so ``http_port``.
    :param segments: what its HLS is made of.
    :ivar streams: what is published and played now. HLS plays a stream as well, once it was asked for.
    :ivar visits: what its RTMP clients have said, the latest last.
    :ivar requests: what its HTTP clients have asked, the latest last.
    :ivar children: every ffmpeg that makes HLS or a live stream for a player.
    :ivar refuse: asked before each publish and play; if it says so, the connection is closed, as SRS does when a hook
        says so.
    :ivar silent: RTMP connections are accepted and never answered.
    :ivar record: keep every byte in :attr:`Visit.received`.
    """

    name: str

    def __init__(
        self,
        reactor: Any,
        *,
        name: str,
        rtmp_port: int = 0,
        http_port: int = 0,
        vhosts: frozenset[str] = frozenset(),
        segments: Segments = Segments.TS,
    ) -> None:
        self.name = name
        self.reactor = reactor
        self.vhosts = vhosts
        self.segments = segments
        self.streams = Streams()
        self.visits: deque[Visit] = deque(maxlen=MAX_VISITS)
        self.requests: deque[HttpVisit] = deque(maxlen=MAX_VISITS)
        self.children = Children(reactor)
        self.refuse: Callable[[StreamKey, Action], bool] | None = None
        self.silent = False
        self.record = False
        self.identity = ProxyIdentity(f"demo-{name}", new_context_id(), str(os.getpid()), __version__)
        self._rtmp = _Listener(reactor, rtmp_port, RtmpFactory(self))
        self._http = _Listener(reactor, http_port, build_http_site(self))

    @property
    def rtmp_address(self) -> str:
        """Where RTMP clients connect, such as ``127.0.0.1:1935``; known once the service runs."""
        return self._rtmp.address

    @property
    def http_address(self) -> str:
        """Where HTTP clients connect; known once the service runs."""
        return self._http.address

    @property
    def connections(self) -> int:
        """How many RTMP clients are connected."""
        return len(self._rtmp.protocols)

    @property
    def http_connections(self) -> int:
        """How many HTTP clients are connected."""
        return len(self._http.protocols)

    @property
    def registration(self) -> Origin:
        """What its heartbeats say."""
        return Origin(
            ip=HOST,
            server=self.identity.server,
            service=self.identity.service,
            pid=self.identity.pid,
            device_id=self.name,
            rtmp=(self.rtmp_address,),
            http=(self.http_address,),
        )

    def startService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: a port is taken.
        """
        Service.startService(self)
        self._rtmp.open()
        self._http.open()

    def stopService(self) -> Deferred[None]:
        """Go away at once, like a process that is killed: all connections are reset. Fires when they are gone, and all
        child processes have ended."""
        Service.stopService(self)
        closed = [Deferred.fromCoroutine(listener.close()) for listener in (self._rtmp, self._http)]
        return gatherResults(closed).addCallback(lambda _: Deferred.fromCoroutine(self.children.kill()))

    def refuses(self, key: StreamKey, action: Action) -> bool:
        """What :attr:`refuse` says."""
        return self.refuse is not None and self.refuse(key, action)


class _Connection(ProtocolWrapper):
    """One connection, known to its listener."""

    factory: _Listener

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.connection_ended()


class _Listener(WrappingFactory[_Connection]):
    """A port of the loopback interface, and the connections to it."""

    noisy = False
    protocol = _Connection

    def __init__(self, reactor: Any, number: int, factory: IProtocolFactory) -> None:
        super().__init__(factory)
        self._reactor = reactor
        self._number = number
        self._port: Any = None
        self._closed: Deferred[None] | None = None

    @property
    def address(self) -> str:
        if not self._number:
            raise ValueError("the origin was not started")
        return f"{HOST}:{self._number}"

    def open(self) -> None:
        self._port = self._reactor.listenTCP(self._number, self, interface=HOST)
        # Whoever knows the address finds the origin there again after it was stopped and started.
        self._number = self._port.getHost().port

    async def close(self) -> None:
        """Stop listening, and reset all connections; returns when they are gone."""
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        closed: Deferred[None] = Deferred()
        self._closed = closed
        for connection in tuple(self.protocols):
            connection.transport.abortConnection()
        self.connection_ended()
        await closed

    def connection_ended(self) -> None:
        if self._closed is not None and not self._closed.called and not self.protocols:
            self._closed.callback(None)
