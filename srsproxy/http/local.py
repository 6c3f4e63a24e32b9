"""The proxy's own pages, asked for like those of an origin.

Static files and the health check are served by :mod:`twisted.web`, which has a protocol of its own for a whole
connection; a client, though, may ask for a page and for a stream on one. So the site listens on a Unix socket of its
own, and is one more place to send a request to.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamClientEndpoint

from srsproxy.values import TCP_BACKLOG


class LocalSite(Service):
    """Serves ``site`` to this process while it runs.

    :param site: an HTTP site.
    """

    name = "local site"

    def __init__(self, reactor: Any, site: IProtocolFactory) -> None:
        self._reactor = reactor
        self._site = site
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._address = ""
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        Service.startService(self)
        if sys.platform == "linux":
            # In the abstract namespace, so that nothing is left behind whatever becomes of the process (unix(7)). Who
            # finds it can only ask for what anybody can ask the proxy for.
            self._address = f"\0srsproxy-{secrets.token_hex()}"
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="srsproxy-")  # its mode is 0700
            self._address = str(Path(self._folder.name) / "site")
        self._port = self._reactor.listenUNIX(self._address, self._site, backlog=TCP_BACKLOG)

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
        if not self.running:
            raise ValueError("the service does not run")
        return UNIXClientEndpoint(self._reactor, self._address)
