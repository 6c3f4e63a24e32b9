"""The room's front door: the relay that moves the bytes of one direction of a connection."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from zope.interface import implementer

from srsproxy.interfaces import IStreamRelay
from srsproxy.relay.portable import PortableHalf
from srsproxy.transports import raw_socket

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from srsproxy.interfaces import IBoundary, IRelayedHalf, IRelayObserver, IStreamConnection
    from srsproxy.relay.coalescing import Coalescer
    from srsproxy.relay.private_epoll import Reactor
    from srsproxy.relay.pump import Pump


@implementer(IStreamRelay)
class StreamRelay:
    """Gives each direction to the pump if it can take it, and to Twisted's transports if not."""

    def __init__(self, reactor: IReactorTime, pump: Pump | None, coalescer: Coalescer | None) -> None:
        self._reactor = reactor
        self._pump = pump
        self._coalescer = coalescer

    def relay(
        self,
        source: IStreamConnection,
        sink: IStreamConnection,
        observer: IRelayObserver,
        bulk: bool,
        boundary: IBoundary | None = None,
        sink_clear: bool = False,
    ) -> IRelayedHalf:
        """See :meth:`IStreamRelay.relay`."""
        if self._pump is not None:
            source_socket = raw_socket(source)
            sink_socket = raw_socket(sink)
            if source_socket is not None and sink_socket is not None:
                if self._coalescer is not None and not bulk and boundary is None:
                    return self._coalescer.relay(source_socket, sink_socket, sink, observer)
                to_drain = None if sink_clear else sink
                return self._pump.relay(source_socket, sink_socket, to_drain, observer, bulk, boundary)
        return PortableHalf(self._reactor, source, sink, observer, boundary)

    def close(self) -> None:
        """See :meth:`IStreamRelay.close`."""
        if self._coalescer is not None:
            self._coalescer.close()
        if self._pump is not None:
            self._pump.close()


def build_relay(reactor: Reactor, flush_interval: float = 0.0) -> StreamRelay:
    """The best relay that this platform has: the pump where there is epoll, else Twisted's transports alone.

    :param flush_interval: seconds that small writes of a fast stream (not a ``bulk`` one) may wait for company, which
        saves most of the relay's CPU at some latency; 0 relays all at once. Without a pump it means nothing.
    """
    if not hasattr(select, "epoll"):
        return StreamRelay(reactor, None, None)
    # These can only be imported where there is epoll.
    from srsproxy.relay.coalescing import Coalescer
    from srsproxy.relay.pump import Pump

    pump = Pump(reactor)
    return StreamRelay(reactor, pump, Coalescer(reactor, pump, flush_interval) if flush_interval > 0 else None)
