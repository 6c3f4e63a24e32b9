"""The data plane of datagrams: one socket that all clients send to, and per session one connected to its origin.

It knows no protocol. A datagram from a known address of a client goes to the origin of its flow, and one from an origin
to the address that its flow has selected: one receive, one look-up and one send, out of one buffer that all share. Only
those whose first byte the receiver wants to inspect, and those from unknown addresses, are shown to the receiver
instead, which may send them on.

A client takes no answer but from the address that it has sent to. A socket on all addresses of the machine would answer
from the one that the kernel finds best. So that one only sees what comes to an address for the first time: then a
socket is bound to that address, where the kernel sends all that follows, and answers go out by it.

Measured: the clients' socket is drained, up to a limit, but an origin's is read once per event. To be told that there
is no more costs a quarter of relaying a datagram; many share that at the one busy socket, but each would pay it at many
sockets. Only an origin's socket that is ready again while no other is, in the midst of a burst, is drained too: looking
for events costs no less.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from srsproxy.relay.private_epoll import PrivateEpoll
from srsproxy.relay.quarantine import Quarantine
from srsproxy.relay.udpsockets import (
    PACKET_INFO_SPACE,
    Address,
    destination,
    enlarge,
    open_socket,
    share_address,
    tell_destinations,
)

if TYPE_CHECKING:
    from srsproxy.relay.private_epoll import Reactor

_log = Logger()

Transmit = Callable[["bytes | memoryview", "Address"], int]
"""How a datagram goes to a client: ``sendto`` of the socket that the client has sent to."""


MAX_DATAGRAM: Final = 64 * 1024
"""Bytes; more than UDP can carry, so that nothing is cut."""

LISTENER_BUFFER: Final = 8 * 1024 * 1024
"""Bytes asked for both buffers of the clients' socket. With the kernel's own overhead they hold 7,000 datagrams of
1,200 bytes, or 140 ms at 50,000 a second."""

ORIGIN_BUFFER: Final = 1024 * 1024
"""Bytes asked for the receive buffer of an origin's socket: 900 datagrams of 1,200 bytes, so that the key frame of a 4K
stream, which comes all at once, finds room. The kernel's usual default holds 90, less than a key frame of HD."""

CLIENT_BATCH: Final = 64
"""Datagrams taken at once from the clients' socket: as many as from the origins' sockets in one batch of events."""

BURST: Final = 16
"""Datagrams taken at once from an origin's socket in the midst of a burst."""

MAX_ENTRANCES: Final = 64
"""Addresses of this machine that have a socket of their own. In the IPv4 loopback network there are 16 million, all of
them ours."""


ORIGIN_MEMORY: Final = 35.0
"""Seconds after which SRS has forgotten a WebRTC session that fell silent: its ``stun_timeout``, and 5 s until it
looks."""


class DatagramReceiver(Protocol):
    """Decides about what is not simply relayed. ``data`` is valid during the call only, for the next datagram takes its
    place. What a call raises is logged, and costs that datagram only."""

    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        """A client's datagram from an address that has no path, or with an inspected first byte."""

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        """An origin's datagram with an inspected first byte."""


class Path:
    """An address whose datagrams belong to a flow; :meth:`Flow.add_path` makes one.

    :ivar heard_at: when the last datagram came from there, whatever became of it, in seconds of the reactor's clock;
        before that, when the path began.
    :ivar transmit: how datagrams go there.
    """

    __slots__ = ("address", "flow", "heard_at", "transmit")

    def __init__(self, address: Address, flow: Flow, transmit: Transmit, now: float) -> None:
        self.address = address
        self.flow = flow
        self.heard_at = now
        self.transmit = transmit


class Flow:
    """The datagrams of one session; :meth:`DatagramRelay.open_flow` makes one. No method raises ``OSError``: what the
    kernel does not take, for whatever reason, is counted as a drop.

    :ivar owner: for the receiver's own use; forgotten when the flow is closed.
    :ivar received_packets: datagrams sent to the origin, of :attr:`received_bytes` in all.
    :ivar received_drops: datagrams for the origin that the kernel did not take.
    :ivar sent_packets: datagrams sent to the client, of :attr:`sent_bytes` in all.
    :ivar sent_drops: datagrams for the client that the kernel did not take, or for which there was no path.
    :ivar refusals: how often the network has told that the origin's address takes nothing.
    """

    __slots__ = (
        "_path",
        "_paths",
        "_relay",
        "_socket",
        "owner",
        "received_bytes",
        "received_drops",
        "received_packets",
        "refusals",
        "sent_bytes",
        "sent_drops",
        "sent_packets",
    )

    def __init__(self, relay: DatagramRelay, connected: socket.socket) -> None:
        self._relay = relay
        self._socket: socket.socket | None = connected
        self._path: Path | None = None
        self._paths: list[Path] = []
        self.owner: object = None
        self.received_packets = 0
        self.received_bytes = 0
        self.received_drops = 0
        self.sent_packets = 0
        self.sent_bytes = 0
        self.sent_drops = 0
        self.refusals = 0

    @property
    def path(self) -> Path | None:
        """The return path, which the origin's datagrams take; without one they are dropped."""
        return self._path

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths, in the order in which they were added."""
        return tuple(self._paths)

    def add_path(self, address: Address, transmit: Transmit | None = None) -> Path:
        """Let what comes from this address belong to this flow. If it belonged to another, that one loses the path, and
        has no return path any more if this was it.

        :param transmit: how datagrams go there; as :attr:`DatagramRelay.entrance` was when the receiver was shown what
            has come from there. If not given, as it is now.
        :returns: the new path, not selected; or the one there is, if the address belongs to this flow already.
        :raises ValueError: the flow is closed.
        """
        if self._socket is None:
            raise ValueError("a closed flow has no paths")
        routes = self._relay.routes
        path = routes.get(address)
        if path is not None:
            if path.flow is self:
                path.transmit = transmit or self._relay.entrance
                return path
            path.flow.remove_path(path)
        path = routes[address] = Path(address, self, transmit or self._relay.entrance, self._relay.seconds())
        self._paths.append(path)
        return path

    def remove_path(self, path: Path) -> None:
        """Let the path's address be unknown. A path that this flow does not have, or no longer, is none to remove."""
        if path not in self._paths:
            return
        self._paths.remove(path)
        del self._relay.routes[path.address]
        if self._path is path:
            self._path = None

    def select(self, path: Path | None) -> None:
        """Make this the return path.

        :raises ValueError: the flow does not have it, or no longer.
        """
        if path is not None and path not in self._paths:
            raise ValueError("a path of this flow is needed")
        self._path = path

    def send(self, data: bytes | memoryview) -> None:
        """Send a datagram to the origin; after :meth:`close` it is dropped."""
        if self._socket is None:
            self.received_drops += 1
            return
        try:
            self._socket.send(data)
        except OSError as error:
            # Of an ICMP error that answered an earlier datagram the kernel tells instead of sending this one.
            self.refusals += isinstance(error, ConnectionRefusedError)
            self.received_drops += 1
        else:
            self.received_packets += 1
            self.received_bytes += len(data)

    def send_to(self, path: Path, data: bytes | memoryview) -> None:
        """Send a datagram to the client; it is dropped if the flow does not have the path, or no longer, because then
        the address may be another client's."""
        self._deliver(path if path in self._paths else None, data)

    def close(self, forgotten: bool = False) -> None:
        """Relay nothing any more. The origin may take datagrams from the same port for this session's until it has
        forgotten the session, so the port stays taken for that time.

        :param forgotten: the origin has forgotten the session already.
        """
        connected, self._socket = self._socket, None
        if connected is None:
            return
        for path in self._paths:
            del self._relay.routes[path.address]
        self._paths.clear()
        self._path = None
        self.owner = None
        # Nor does it know a port that it has not had anything from.
        self._relay.retire(connected, forgotten or not self.received_packets)

    def pull(self, limit: int) -> None:
        """Relay datagrams from the origin: as many as there are, but no more than ``limit``."""
        relay = self._relay
        for _ in range(limit):
            if self._socket is None:
                return
            try:
                size = self._socket.recv_into(relay.octets)
            except BlockingIOError:
                # There is no more. Or not even one, when the event was of a closed socket of the same number, or the
                # datagram's checksum is wrong.
                return
            except OSError:
                # An ICMP error; it has been told now, so that it does not keep the socket ready.
                self.refusals += 1
                return
            if size and relay.octets[0] in relay.inspected:
                relay.receiver.origin_datagram(relay.view[:size], self)
            else:
                self._deliver(self._path, relay.view[:size])

    def _deliver(self, path: Path | None, data: bytes | memoryview) -> None:
        if path is None:
            self.sent_drops += 1
            return
        try:
            path.transmit(data, path.address)
        except OSError:
            self.sent_drops += 1
        else:
            self.sent_packets += 1
            self.sent_bytes += len(data)


class DatagramRelay(PrivateEpoll):
    """Relays datagrams between clients and origins, see the module's text. What it shows is for its flows, save
    :meth:`listen`, :meth:`open_flow`, :meth:`close` and this:

    :ivar entrance: how datagrams go to the client whose datagram the receiver was shown last.
    """

    def __init__(
        self,
        reactor: Reactor,
        receiver: DatagramReceiver,
        inspected: frozenset[int],
        quarantine: float = ORIGIN_MEMORY,
    ) -> None:
        """
        :param inspected: first bytes of the datagrams that the receiver is shown; an empty datagram has none.
        :param quarantine: seconds after which origins have forgotten a session.
        """
        super().__init__(reactor)
        self._quarantine = Quarantine(reactor, quarantine)
        self.seconds = reactor.seconds
        # What clients send to: sockets by number; the one on all addresses; how to send by those on one address.
        self._entrances: dict[int, socket.socket] = {}
        self._everywhere: socket.socket | None = None
        self._by_local_address: dict[Address, Transmit] = {}
        self._flows: dict[int, Flow] = {}
        self._last_served = -1
        self._closed = False
        self.receiver = receiver
        self.inspected = inspected
        self.octets = bytearray(MAX_DATAGRAM)
        self.view = memoryview(self.octets)
        self.routes: dict[Address, Path] = {}
        self.entrance: Transmit = _not_listening

    def listen(self, interface: str, port: int) -> int:
        """Take clients' datagrams that come to this address, an IP literal; can be called once.

        :returns: the port, which the system chooses for 0.
        :raises CannotListenError: it is taken, or not an address of this machine.
        """
        try:
            listener = open_socket(interface, port, socket.socket.bind)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
        received, sent = self._enter(listener)
        if min(received, sent) < LISTENER_BUFFER:
            _log.info(
                "UDP buffers of {received} and {sent} bytes instead of {asked} will lose datagrams under load:"
                " raise net.core.rmem_max and net.core.wmem_max (sysctl)",
                received=received,
                sent=sent,
                asked=LISTENER_BUFFER,
            )
        if ipaddress.ip_address(interface).is_unspecified:
            tell_destinations(listener)
            self._everywhere = listener
        self.entrance = listener.sendto
        bound: int = listener.getsockname()[1]
        return bound

    def _enter(self, listener: socket.socket) -> tuple[int, int]:
        """Take what comes to this socket. Returns the sizes of its buffers, in bytes."""
        received = enlarge(listener, socket.SO_RCVBUF, LISTENER_BUFFER)
        sent = enlarge(listener, socket.SO_SNDBUF, LISTENER_BUFFER)
        self._entrances[listener.fileno()] = listener
        self._open().register(listener, select.EPOLLIN)
        return received, sent

    def open_flow(self, host: str, port: int) -> Flow:
        """A flow to the origin at this address, an IP literal, without any path yet.

        :raises OSError: there is no route, no descriptor or no port left, or the relay is closed.
        """
        if self._closed:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        while True:
            try:
                connected = open_socket(host, port, socket.socket.connect)
                break
            except OSError as error:
                # Rather risk that an origin mixes up sessions than refuse one.
                exhausted = error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN)
                if not exhausted or not self._quarantine.release_oldest():
                    raise
        enlarge(connected, socket.SO_RCVBUF, ORIGIN_BUFFER)
        self._open().register(connected, select.EPOLLIN)
        flow = self._flows[connected.fileno()] = Flow(self, connected)
        return flow

    def retire(self, connected: socket.socket, forgotten: bool) -> None:
        """The socket's flow is closed."""
        del self._flows[connected.fileno()]
        if self._epoll is not None:
            self._epoll.unregister(connected)
        if forgotten or self._closed:
            connected.close()
        else:
            self._quarantine.add(connected)

    def close(self) -> None:
        """Close all flows and stop listening, for good."""
        self._closed = True
        super().close()
        for flow in list(self._flows.values()):
            flow.close()
        self._quarantine.close()
        for entrance in self._entrances.values():
            entrance.close()
        self._entrances.clear()
        self._everywhere = None

    # --- PrivateEpoll

    def _serve(self, fd: int, event: int) -> None:
        flow = self._flows.get(fd)
        if flow is not None:
            if fd == self._last_served:
                flow.pull(BURST)
                self._served += BURST - 1
            else:
                flow.pull(1)
                self._last_served = fd
            return
        self._last_served = -1
        entrance = self._entrances.get(fd)
        if entrance is not None and entrance is self._everywhere:
            self._pull_first(entrance)
        elif entrance is not None:
            self._pull_clients(entrance)

    def _break_off(self, fd: int) -> None:
        """The receiver failed at one datagram, which is gone; it may do better with the next."""

    def _pull_clients(self, listener: socket.socket) -> None:
        receive, octets, view, inspected, routes = (
            listener.recvfrom_into,
            self.octets,
            self.view,
            self.inspected,
            self.routes,
        )
        entrance, now = listener.sendto, self.seconds()
        for _ in range(CLIENT_BATCH):
            try:
                size, address = receive(octets)
            except OSError:
                # There is no more, or the receiver has closed the relay.
                return
            path = routes.get(address)
            if path is not None:
                path.heard_at = now
                if not size or octets[0] not in inspected:
                    path.flow.send(view[:size])
                    continue
            self.entrance = entrance
            self.receiver.client_datagram(view[:size], address, path)
        self._served += CLIENT_BATCH

    def _pull_first(self, everywhere: socket.socket) -> None:
        """As :meth:`_pull_clients`, for what comes to addresses that have no socket of their own yet."""
        now = self.seconds()
        for _ in range(CLIENT_BATCH):
            try:
                size, control, _, address = everywhere.recvmsg_into([self.octets], PACKET_INFO_SPACE)
            except OSError:
                return
            entrance = self._entrance_at(everywhere, control)
            path = self.routes.get(address)
            if path is not None:
                path.heard_at = now
                if not size or self.octets[0] not in self.inspected:
                    path.flow.send(self.view[:size])
                    continue
            self.entrance = entrance
            self.receiver.client_datagram(self.view[:size], address, path)
        self._served += CLIENT_BATCH

    def _entrance_at(self, everywhere: socket.socket, control: list[tuple[int, int, bytes]]) -> Transmit:
        """How to answer a datagram with these control messages: by a socket on the address that it went to, which is
        opened if there is none; or as the kernel finds best."""
        where = destination(everywhere, control)
        if where is None:
            return everywhere.sendto
        known = self._by_local_address.get(where)
        if known is not None:
            return known
        if len(self._by_local_address) >= MAX_ENTRANCES:
            return everywhere.sendto
        try:
            entrance = share_address(everywhere, where)
        except OSError:
            # Such as a broadcast, or no descriptor is left.
            return everywhere.sendto
        self._enter(entrance)
        self._by_local_address[where] = entrance.sendto
        return entrance.sendto


def _not_listening(data: bytes | memoryview, address: Address) -> int:
    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
