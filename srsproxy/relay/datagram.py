"""The data plane of datagrams: one socket that all clients send to, and per session one connected to its origin.

It knows no protocol. A datagram from a known address of a client goes to the origin of its flow, and one from an origin
to the address that its flow has selected: one receive, one look-up and one send, out of one buffer that all share.
Where several flows may share an address, a number at a certain place in the clients' datagrams tells them apart. Only
those whose first two bytes the receiver wants to inspect, and those from unknown addresses, are shown to the receiver
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
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from srsproxy.relay.flow import Flow, Path
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
    from srsproxy.relay.flow import Route, Transmit
    from srsproxy.relay.private_epoll import Reactor

_log = Logger()

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

_NUMBER_SIZE: Final = 4


Inspected = Mapping[int, Container[int]]
"""By first byte, second bytes of datagrams."""


class DatagramReceiver(Protocol):
    """Decides about what is not simply relayed. ``data`` is valid during the call only, for the next datagram takes its
    place. What a call raises is logged, and costs that datagram only."""

    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        """A client's datagram that belongs to no path, is to be inspected, or is the next to be shown of its path
        (:meth:`Flow.show_next`)."""

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        """An origin's datagram that is to be inspected."""

    def origin_refused(self, flow: Flow) -> None:
        """The network has told, while nothing was sent, that the origin's address takes nothing."""


class DatagramRelay(PrivateEpoll):
    """Relays datagrams between clients and origins, see the module's text. What it shows is for its flows, save
    :meth:`listen`, :meth:`open_flow`, :meth:`close` and this:

    :ivar entrance: how datagrams go to the client whose datagram has come last.
    """

    def __init__(
        self,
        reactor: Reactor,
        receiver: DatagramReceiver,
        inspected: Inspected,
        inspected_of_origins: Inspected,
        quarantine: float = ORIGIN_MEMORY,
        number_at: int | None = None,
    ) -> None:
        """
        :param inspected: which datagrams of clients the receiver is shown. Of a single byte only that one counts; an
            empty datagram has none.
        :param inspected_of_origins: the same of origins.
        :param quarantine: seconds after which origins have forgotten a session.
        :param number_at: where in clients' datagrams there is a number, of 32 bits in network byte order, that tells
            flows of one address apart; a datagram too short for it belongs to none. Without it, all that comes from
            one address belongs to one flow.
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
        self.inspected_of_origins = inspected_of_origins
        self.octets = bytearray(MAX_DATAGRAM)
        self.view = memoryview(self.octets)
        # Each path is in one of these; in the latter until it is shown.
        self.routes: dict[Route, Path] = {}
        self.shown_next: dict[Route, Path] = {}
        # The number of the datagram in the buffer, in network byte order as it is there, and the size from which on a
        # datagram has one. Measured: a view of the number costs half of what unpacking it does.
        at, self._numbered = (0, MAX_DATAGRAM + 1) if number_at is None else (number_at, number_at + _NUMBER_SIZE)
        self._number = self.view[at : at + _NUMBER_SIZE].cast("I")
        self.entrance: Transmit = _not_listening

    def listen(self, interface: str, port: int) -> int:
        """Take clients' datagrams that come to this address, an IP literal; can be called once.

        :returns: the port, which the system chooses for 0.
        :raises CannotListenError: it is taken, or not an address of this machine, or there is no descriptor left.
        """
        try:
            listener = open_socket(interface, port, socket.socket.bind)
            received, sent = self._enter(listener)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
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
        """Take what comes to this socket. Returns the sizes of its buffers, in bytes.

        :raises OSError: as :meth:`_watch`.
        """
        received = enlarge(listener, socket.SO_RCVBUF, LISTENER_BUFFER)
        sent = enlarge(listener, socket.SO_SNDBUF, LISTENER_BUFFER)
        self._watch(listener)
        self._entrances[listener.fileno()] = listener
        return received, sent

    def _watch(self, opened: socket.socket) -> None:
        """Be told when this socket has something to read.

        :raises OSError: the kernel has no room for that; the socket is closed.
        """
        try:
            self._open().register(opened, select.EPOLLIN)
        except OSError:
            opened.close()
            raise

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
        self._watch(connected)
        flow = self._flows[connected.fileno()] = Flow(self, connected)
        return flow

    def route(self, address: Address, number: int) -> Route:
        """What the flow of a datagram that comes from there with that number is found by."""
        return address if self._numbered > MAX_DATAGRAM else (address, socket.htonl(number))

    def forget(self, path: Path) -> None:
        """The path is gone from :attr:`routes` or :attr:`shown_next`, wherever it was."""
        self.routes.pop(path.route, None)
        self.shown_next.pop(path.route, None)

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
        if entrance is None:
            return
        self.entrance = entrance.sendto
        first = entrance is self._everywhere
        self._pull_clients(partial(self._receive_first, entrance) if first else entrance.recvfrom_into)

    def _break_off(self, fd: int) -> None:
        """The receiver failed at one datagram, which is gone; it may do better with the next."""

    def _pull_clients(self, receive: Callable[[bytearray], tuple[int, Address]]) -> None:
        octets, view, inspected, routes = self.octets, self.view, self.inspected, self.routes
        number, numbered, now = self._number, self._numbered, self.seconds()
        for _ in range(CLIENT_BATCH):
            try:
                size, address = receive(octets)
            except OSError:
                # There is no more, or the receiver has closed the relay.
                return
            route = address if size < numbered else (address, number[0])
            path = routes.get(route)
            if path is not None:
                path.heard_at = now
                if not size or octets[0] not in inspected or (size > 1 and octets[1] not in inspected[octets[0]]):
                    path.flow.send(view[:size])
                    continue
            elif route in self.shown_next:
                path = routes[route] = self.shown_next.pop(route)
                path.heard_at = now
            self.receiver.client_datagram(view[:size], address, path)
        self._served += CLIENT_BATCH

    def _receive_first(self, everywhere: socket.socket, octets: bytearray) -> tuple[int, Address]:
        """As ``everywhere.recvfrom_into``, for what comes to addresses that have no socket of their own yet."""
        size, control, _, address = everywhere.recvmsg_into([octets], PACKET_INFO_SPACE)
        self.entrance = self._entrance_at(everywhere, control)
        return size, address

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
            self._enter(entrance)
        except OSError:
            # Such as a broadcast, or no descriptor is left.
            return everywhere.sendto
        self._by_local_address[where] = entrance.sendto
        return entrance.sendto


def _not_listening(data: bytes | memoryview, address: Address) -> int:
    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
