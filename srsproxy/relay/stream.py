"""The room's front door: the relay that moves the bytes of one direction of a connection."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, cast

from zope.interface import implementer

from srsproxy.interfaces import IStreamRelay
from srsproxy.relay.handover import raw_socket
from srsproxy.relay.portable import PortableHalf

if TYPE_CHECKING:
    from twisted.internet.interfaces import ITransport

    from srsproxy.interfaces import IRelayedHalf, IRelayObserver
    from srsproxy.relay.handover import SocketTransport, StreamTransport
    from srsproxy.relay.pump import Pump, Reactor


@implementer(IStreamRelay)
class StreamRelay:
    """Gives each direction to the pump if it can take it, and to Twisted's transports if not."""

    def __init__(self, reactor: Reactor, pump: Pump | None) -> None:
        self._reactor = reactor
        self._pump = pump

    def relay(self, source: ITransport, sink: ITransport, observer: IRelayObserver, bulk: bool) -> IRelayedHalf:
        """See :meth:`IStreamRelay.relay`."""
        if self._pump is not None:
            source_socket = raw_socket(source)
            sink_socket = raw_socket(sink)
            if source_socket is not None and sink_socket is not None:
                return self._pump.relay(source_socket, sink_socket, cast("SocketTransport", sink), observer, bulk)
        return PortableHalf(self._reactor, cast("StreamTransport", source), cast("StreamTransport", sink), observer)

    def close(self) -> None:
        """See :meth:`IStreamRelay.close`."""
        if self._pump is not None:
            self._pump.close()


def build_relay(reactor: Reactor) -> StreamRelay:
    """The best relay that this platform has: the pump where there is epoll, else Twisted's transports alone."""
    if not hasattr(select, "epoll"):
        return StreamRelay(reactor, None)
    # The pump's module needs epoll to be imported.
    from srsproxy.relay.pump import Pump

    return StreamRelay(reactor, Pump(reactor))
