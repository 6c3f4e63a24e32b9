"""The proxy's own pages, asked for like those of an origin.

Static files and the health check are served by :mod:`twisted.web`, which has a protocol of its own for a whole
connection; a client, though, may ask for a page and for a stream on one. So the site listens on a private Unix socket,
and is one more place to send a request to.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamClientEndpoint

from srsproxy.values import TCP_BACKLOG

_SOCKET_NAME = "site"


class LocalSite(Service):
    """Serves ``site`` to this process while it runs.

    :param site: an HTTP site.
    """

    name = "local site"

    def __init__(self, reactor: Any, site: IProtocolFactory) -> None:
        self._reactor = reactor
        self._site = site
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        Service.startService(self)
        self._folder = tempfile.TemporaryDirectory(prefix="srsproxy-")  # its mode is 0700
        self._port = self._reactor.listenUNIX(
            str(Path(self._folder.name) / _SOCKET_NAME), self._site, backlog=TCP_BACKLOG
        )

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        port, self._port = self._port, None
        folder, self._folder = self._folder, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        if folder is not None:
            folder.cleanup()

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """Where to send requests.

        :raises ValueError: the service does not run.
        """
        if self._folder is None:
            raise ValueError("the service does not run")
        return UNIXClientEndpoint(self._reactor, str(Path(self._folder.name) / _SOCKET_NAME))
