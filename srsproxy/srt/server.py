"""The SRT server."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from srsproxy.interfaces import IMediaServer
from srsproxy.srt.listener import Listener
from srsproxy.srt.shared import SOURCE, Shared

_log = Logger()


@implementer(IMediaServer)
class SrtServer(Service):
    """Takes callers from when it starts, and goes on when it stops, until :meth:`drain` or :meth:`abort` has ended the
    last session."""

    name = SOURCE

    def __init__(self, shared: Shared) -> None:
        self._where = shared.settings.srt_server
        self._listener = Listener(shared)
        self.port = 0

    def privilegedStartService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        Service.startService(self)
        self._listen()

    def _listen(self) -> None:
        if not self.port:
            self.port = self._listener.listen(self._where)
            # As Twisted tells it of its own listeners.
            _log.info("SrtServer starting on {port}", port=self.port)

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`."""
        return self._listener.drain()

    def abort(self) -> None:
        """See :meth:`IMediaServer.abort`."""
        self._listener.abort()
