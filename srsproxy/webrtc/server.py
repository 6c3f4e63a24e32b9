"""The WebRTC server: signalling, and media over UDP and TCP, of one set of sessions."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from zope.interface import implementer

from srsproxy.interfaces import IMediaServer
from srsproxy.webrtc.locate import Locator
from srsproxy.webrtc.media import Media
from srsproxy.webrtc.negotiation import Negotiator
from srsproxy.webrtc.sessions import Sessions
from srsproxy.webrtc.shared import SOURCE, Shared
from srsproxy.webrtc.signalling import signalling_resources
from srsproxy.webrtc.tcp import TcpServer


@implementer(IMediaServer)
class WebRtcServer(Service):
    """Takes media from when it starts, and goes on when it stops, until :meth:`drain` or :meth:`abort` has ended the
    last session."""

    name = SOURCE

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sessions = Sessions(shared)
        locator = Locator(shared, self._sessions)
        self._media = Media(shared, self._sessions, locator)
        self._tcp = TcpServer(shared, self._sessions, locator)
        self._tcp_port: IListeningPort | None = None
        self._listening = False

    @property
    def media_port(self) -> int:
        """Where media is taken over UDP, once the service has started."""
        return self._shared.media_port

    @property
    def media_tcp_port(self) -> int | None:
        """The same over TCP; ``None`` if it is not."""
        return self._shared.media_tcp_port

    def resources(self) -> Mapping[str, Resource]:
        """What the HTTP API has of WebRTC, by path."""
        return signalling_resources(Negotiator(self._shared, self._sessions), self._shared.settings)

    def privilegedStartService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: an address cannot be had.
        """
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        Service.startService(self)
        self._listen()

    def stopService(self) -> Deferred[None]:
        """Take no further connections."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_listening())

    async def _stop_listening(self) -> None:
        port, self._tcp_port = self._tcp_port, None
        stopped = port.stopListening() if port is not None else None
        if stopped is not None:
            await stopped

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        settings = self._shared.settings
        self._shared.media_port = self._media.listen(settings.webrtc_server)
        if settings.webrtc_tcp_server is not None:
            self._listen_tcp(settings.webrtc_tcp_server.endpoint_description())

    def _listen_tcp(self, description: str) -> None:
        failures: list[Failure] = []

        def listening(port: IListeningPort) -> None:
            self._tcp_port = port
            # A Unix socket has none: then no client is told of TCP.
            self._shared.media_tcp_port = getattr(port.getHost(), "port", None)

        serverFromString(self._shared.reactor, description).listen(self._tcp).addCallbacks(listening, failures.append)
        for failure in failures:
            failure.raiseException()

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`."""
        return gatherResults([self._sessions.drain(), self._tcp.drain()]).addCallback(lambda _: self._close())

    def abort(self) -> None:
        """See :meth:`IMediaServer.abort`."""
        self._sessions.abort()
        self._tcp.abort()

    def _close(self) -> None:
        self._media.close()
        self._shared.pool.close()
