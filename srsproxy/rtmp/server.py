"""The RTMP server: accepts clients, and ends them when the proxy ends."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from zope.interface import implementer

from srsproxy.interfaces import IMediaServer
from srsproxy.outcome import Outcome
from srsproxy.rtmp.session import RtmpClient
from srsproxy.rtmp.shared import SOURCE, Shared


@implementer(IMediaServer)
class RtmpServer(Factory):
    """Protocol factory of RTMP clients."""

    name = SOURCE
    noisy = False

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clients: set[RtmpClient] = set()
        self._drained: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> RtmpClient:
        client = RtmpClient(self._shared, self._gone)
        self._clients.add(client)
        return client

    def _gone(self, client: RtmpClient) -> None:
        self._clients.discard(client)
        self._tell_drained()

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`. Clients that have not named a stream have nothing to finish."""
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        for client in list(self._clients):
            if client.session.key is None:
                client.shut_down(Outcome.REFUSED)
        self._tell_drained()
        return drained

    def abort(self) -> None:
        """See :meth:`IMediaServer.abort`."""
        for client in list(self._clients):
            client.shut_down(Outcome.SHUTDOWN)

    def _tell_drained(self) -> None:
        if not self._clients:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)
