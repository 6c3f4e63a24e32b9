"""What the data plane of datagrams relays: the flow of one session, and the paths by which its client is reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from srsproxy.relay.udpsockets import Address

if TYPE_CHECKING:
    import socket

    from srsproxy.relay.datagram import DatagramRelay

Transmit = Callable[[bytes | memoryview, Address], int]
"""How a datagram goes to a client: ``sendto`` of the socket that the client has sent to. Returns its size, in bytes."""

Route = Address | tuple[Address, int]
"""What a client's datagrams are told from others by: where they come from, or that and the number in them."""


class Path:
    """Where a client's datagrams come from that belong to a flow; :meth:`Flow.add_path` makes one.

    :ivar address: where they come from.
    :ivar number: the one that they carry, if flows of one address are told apart by it.
    :ivar route: what the relay finds the path by.
    :ivar heard_at: when the last datagram came from there, whatever became of it, in seconds of the reactor's clock;
        before that, when the path began.
    :ivar transmit: how datagrams go there.
    """

    __slots__ = ("address", "flow", "heard_at", "number", "route", "transmit")

    def __init__(self, address: Address, number: int, route: Route, flow: Flow, transmit: Transmit, now: float) -> None:
        self.address = address
        self.number = number
        self.route = route
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

    def add_path(self, address: Address, transmit: Transmit | None = None, number: int = 0) -> Path:
        """Let what comes from this address with this number belong to this flow. If it belonged to another, that one
        loses the path, and has no return path any more if this was it.

        :param transmit: how datagrams go there; as :attr:`DatagramRelay.entrance` was when the receiver was shown what
            has come from there. If not given, as it is now.
        :param number: of 32 bits, unsigned. A relay that tells flows apart by their addresses alone pays no heed to it.
        :returns: the new path, not selected; or the one there is, if that belongs to this flow already.
        :raises ValueError: the flow is closed.
        """
        if self._socket is None:
            raise ValueError("a closed flow has no paths")
        relay = self._relay
        transmit = transmit or relay.entrance
        route = relay.route(address, number)
        path = relay.routes.get(route) or relay.shown_next.get(route)
        if path is not None:
            if path.flow is self:
                path.transmit = transmit
                return path
            path.flow.remove_path(path)
        path = relay.routes[route] = Path(address, number, route, self, transmit, relay.seconds())
        self._paths.append(path)
        return path

    def remove_path(self, path: Path) -> None:
        """Let what comes that way be unknown. A path that this flow does not have, or no longer, is none to remove."""
        if path not in self._paths:
            return
        self._paths.remove(path)
        self._relay.forget(path)
        if self._path is path:
            self._path = None

    def show_next(self, path: Path) -> None:
        """Let the receiver be shown the next datagram that comes that way, whatever it is, instead of relaying it; only
        that one. Nothing is shown of a path that this flow does not have, or loses before."""
        if path in self._paths:
            self._relay.forget(path)
            self._relay.shown_next[path.route] = path

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
            sent = self._socket.send(data)
        except OSError as error:
            # Of an ICMP error that answered an earlier datagram the kernel tells instead of sending this one.
            self.refusals += isinstance(error, ConnectionRefusedError)
            self.received_drops += 1
        else:
            self.received_packets += 1
            self.received_bytes += sent

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
            self._relay.forget(path)
        self._paths.clear()
        self._path = None
        self.owner = None
        # Nor does it know a port that it has not had anything from.
        self._relay.retire(connected, forgotten or not self.received_packets)

    def pull(self, limit: int) -> None:
        """Relay datagrams from the origin: as many as there are, but no more than ``limit``."""
        relay = self._relay
        octets, inspected = relay.octets, relay.inspected_of_origins
        for _ in range(limit):
            if self._socket is None:
                return
            try:
                size = self._socket.recv_into(octets)
            except BlockingIOError:
                # There is no more. Or not even one, when the event was of a closed socket of the same number, or the
                # datagram's checksum is wrong.
                return
            except OSError:
                # An ICMP error; it has been told now, so that it does not keep the socket ready.
                self.refusals += 1
                relay.receiver.origin_refused(self)
                return
            if size and octets[0] in inspected and (size == 1 or octets[1] in inspected[octets[0]]):
                relay.receiver.origin_datagram(relay.view[:size], self)
            else:
                self._deliver(self._path, relay.view[:size])

    def _deliver(self, path: Path | None, data: bytes | memoryview) -> None:
        if path is None:
            self.sent_drops += 1
            return
        try:
            sent = path.transmit(data, path.address)
        except OSError:
            self.sent_drops += 1
        else:
            self.sent_packets += 1
            self.sent_bytes += sent
