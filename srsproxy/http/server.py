"""The HTTP server: accepts clients, and ends them when the proxy ends."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from zope.interface import implementer

from srsproxy.clients import ClientFactory
from srsproxy.http.client import HttpClient
from srsproxy.http.shared import SOURCE, Shared


@implementer(IProtocolNegotiationFactory)
class HttpServer(ClientFactory[HttpClient]):
    """Protocol factory of HTTP clients."""

    name = SOURCE

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`; then the connections to origins that carry no request are closed as well."""
        return super().drain().addCallback(lambda _: self._shared.pool.close())

    def acceptableProtocols(self) -> list[bytes]:
        """What is offered to TLS clients that ask (ALPN); to those that are offered nothing, Twisted says goodbye."""
        return [b"http/1.1"]

    def new_client(self) -> HttpClient:
        return HttpClient(self._shared, self.gone)
