"""The data plane of last resort: one direction relayed through Twisted's own transports.

For TLS, for platforms without epoll, and for transports that are no sockets. The protocol of the source passes on what
it receives; the sink, by being the consumer of its half, slows the source down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from srsproxy.errors import PeerError
from srsproxy.interfaces import IRelayedHalf
from srsproxy.relay.model import EndReason

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from srsproxy.interfaces import IBoundary, IRelayObserver, IStreamConnection

_log = Logger()


@implementer(IRelayedHalf, IPushProducer)
class PortableHalf:
    """One direction; at most the sink's write buffer (64 KB) and one read of the source are held for a sink that is
    full, and they are held by the sink's transport, so :meth:`stop` has nothing to return.

    What the sink's transport was given counts as being with the sink, also for :attr:`EndReason.COMPLETE`. A TLS
    transport that is paused then may still deliver to its protocol what it has decrypted already.
    """

    bypasses_sink = False
    """See :attr:`IRelayedHalf.bypasses_sink`."""

    __slots__ = (
        "_boundary",
        "_observer",
        "_reactor",
        "_sink",
        "_sink_lost",
        "_source",
        "blocked",
        "relayed",
        "surplus",
    )

    def __init__(
        self,
        reactor: IReactorTime,
        source: IStreamConnection,
        sink: IStreamConnection,
        observer: IRelayObserver,
        boundary: IBoundary | None = None,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._sink = sink
        self._observer: IRelayObserver | None = observer
        self._boundary = boundary
        self._sink_lost = False
        self.blocked = False
        self.relayed = 0
        self.surplus = False
        source.resumeProducing()
        sink.registerProducer(self, True)

    # --- IRelayedHalf

    def stop(self) -> bytes:
        """See :meth:`IRelayedHalf.stop`."""
        if self._observer is not None:
            self._observer = None
            self._source.pauseProducing()
            self._sink.unregisterProducer()
        return b""

    def data_received(self, data: bytes) -> None:
        """See :meth:`IRelayedHalf.data_received`; at the boundary the half ends, telling the observer, before this
        returns."""
        boundary = self._boundary
        if boundary is None:
            self.relayed += len(data)
            self._sink.write(data)
        else:
            self._pass_within(boundary, data)

    def _pass_within(self, boundary: IBoundary, data: bytes) -> None:
        try:
            count = boundary.inspect(memoryview(data))
        except PeerError:
            self._source.pauseProducing()
            self._end(EndReason.MALFORMED)
            return
        if count < len(data):
            self.surplus = True
            data = data[:count]
        self.relayed += count
        self._sink.write(data)
        if boundary.complete:
            self._source.pauseProducing()
            self._end(EndReason.COMPLETE)

    def read_closed(self) -> None:
        """See :meth:`IRelayedHalf.read_closed`."""
        self._end(EndReason.EOF)

    # --- IPushProducer, as the sink sees its half

    def pauseProducing(self) -> None:
        """The sink has more than it likes."""
        self.blocked = True
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """The sink's buffer is empty."""
        self.blocked = False
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        """The sink is going away, or was gone before it was asked."""
        self._sink_lost = True
        self._source.pauseProducing()
        self._reactor.callLater(0, self._tell, EndReason.SINK_LOST)

    def _end(self, reason: EndReason) -> None:
        """The source has no more for the sink; but if the sink is lost, that is what will be told."""
        if self._observer is not None and not self._sink_lost:
            self._sink.unregisterProducer()
            self._tell(reason)

    def _tell(self, reason: EndReason) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            with _log.failureHandler("telling that a relayed direction ended"):
                observer.relay_ended(self, reason)
