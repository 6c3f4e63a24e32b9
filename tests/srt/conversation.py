"""What scripted SRT peers have in common: a UDP socket, and data in both directions of a connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import DatagramProtocol

from tests.asynchronous import until
from tests.srt import wire
from tests.webrtc.peers import Address

RETRANSMISSION: Final = 0.25
"""Seconds after which what has no answer is sent again; libsrt's for handshakes."""


async def repeat_until(reactor: Any, true: Callable[[], object], send: Callable[[], object], what: str) -> None:
    """Wait until ``true()``, calling ``send()`` again and again meanwhile."""
    sent = reactor.seconds()

    def look() -> bool:
        nonlocal sent
        if true():
            return True
        if reactor.seconds() - sent > RETRANSMISSION:
            sent = reactor.seconds()
            send()
        return False

    await until(reactor, look, what)


class Conversation:
    """Data in both directions between two socket ids.

    :ivar local_id: socket id of this side, which the peer's packets are sent to.
    :ivar remote_id: of the peer.
    :ivar acknowledges: whether data is acknowledged.
    :ivar datagrams: all packets of the peer but handshakes, in the order in which they came.
    :ivar ended: whether the peer's SHUTDOWN has come.
    """

    def __init__(self, reactor: Any, send: Callable[[bytes], object], local_id: int, number: int) -> None:
        self.reactor = reactor
        self.send_raw = send
        self.local_id = local_id
        self.remote_id = 0
        self.acknowledges = True
        self.datagrams: list[bytes] = []
        self.ended = False
        self._begin = reactor.seconds()
        self._first = self._next = number
        self._sent: dict[int, bytes] = {}
        self._expected = 0
        self._heard: dict[int, bytes] = {}
        self._acks = 0

    @property
    def timestamp(self) -> int:
        """Microseconds since it began."""
        return int((self.reactor.seconds() - self._begin) * 1_000_000)

    @property
    def payloads(self) -> list[bytes]:
        """What has come, in order of sequence numbers, each once."""
        numbers = sorted(self._heard, key=partial(wire.distance, self._expected))
        return [self._heard[number] for number in numbers]

    def controls(self, type: int) -> list[bytes]:
        """The control packets of this type that have come."""
        return [packet for packet in self.datagrams if wire.control_type(packet) == type]

    def send(self, payload: bytes) -> int:
        """Send a data packet; returns its sequence number."""
        number, message = self._next, wire.distance(self._first, self._next) + 1
        self._next = wire.after(number)
        packet = wire.data_packet(number, message, self.remote_id, payload, timestamp=self.timestamp)
        self._sent[number] = packet
        self.send_raw(packet)
        return number

    def send_control(self, type: int, *, info: int = 0, body: bytes = bytes(4)) -> None:
        """Send a control packet."""
        self.send_raw(wire.control(type, self.remote_id, info=info, timestamp=self.timestamp, body=body))

    def shut_down(self) -> None:
        """Send SHUTDOWN."""
        self.send_control(wire.SHUTDOWN)

    async def heard(self, count: int) -> list[bytes]:
        """The first ``count`` of :attr:`payloads`."""
        await until(self.reactor, lambda: len(self._heard) >= count, f"{len(self._heard)} of {count} payloads")
        return self.payloads[:count]

    async def acknowledged(self, number: int) -> None:
        """Wait until the peer has acknowledged this data packet, and send again what it has not."""
        await repeat_until(
            self.reactor, lambda: number not in self._sent, self._send_again, f"acknowledgement of {number}"
        )

    async def end(self) -> None:
        """Wait for the peer's SHUTDOWN."""
        await until(self.reactor, lambda: self.ended, "SHUTDOWN")

    def begin(self, remote_id: int, first_number: int) -> None:
        """The peer's socket id and its initial sequence number are known."""
        self.remote_id = remote_id
        self._expected = first_number

    def packet_received(self, packet: bytes) -> None:
        """A packet has come that is no handshake."""
        self.datagrams.append(packet)
        match wire.control_type(packet):
            case None:
                self._data_received(wire.word(packet, 0), packet[wire.HEADER_SIZE :])
            case wire.ACK:
                self._acknowledged(wire.word(packet, wire.HEADER_SIZE))
                if len(packet) > wire.HEADER_SIZE + 4:
                    self.send_control(wire.ACKACK, info=wire.word(packet, 4))
            case wire.NAK:
                for number in wire.read_loss_list(packet[wire.HEADER_SIZE :]):
                    if number in self._sent:
                        self.send_raw(self._sent[number])
            case wire.SHUTDOWN:
                self.ended = True

    def _data_received(self, number: int, payload: bytes) -> None:
        before = self._expected
        self._heard[number] = payload
        while self._expected in self._heard:
            self._expected = wire.after(self._expected)
        if not self.acknowledges:
            return
        if self._expected == before and wire.distance(before, number) > 0:
            self.send_control(wire.NAK, body=wire.loss_list(before, wire.after(number, -1)))
        self._acks += 1
        self.send_control(wire.ACK, info=self._acks, body=wire.ack_body(self._expected))

    def _send_again(self) -> None:
        for packet in self._sent.values():
            self.send_raw(packet)

    def _acknowledged(self, number: int) -> None:
        for sent in [sent for sent in self._sent if wire.distance(sent, number) > 0]:
            del self._sent[sent]


class UdpSocket(DatagramProtocol):
    """A socket that gives every datagram to a function, with the address that it came from.

    :ivar address: its own.
    :ivar came: how many datagrams have come.
    """

    def __init__(self, reactor: Any, received: Callable[[bytes, Address], object], host: str, port: int = 0) -> None:
        self._received = received
        self.came = 0
        self._listening = reactor.listenUDP(port, self, host)
        self._is_open = True
        bound = self._listening.getHost()
        self.address: Address = bound.host, bound.port

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram, unless the socket is closed."""
        if self._is_open:
            self._listening.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self.came += 1
        # An IPv6 address comes with flow and scope.
        self._received(datagram, addr[:2])

    async def close(self) -> None:
        """From now on datagrams are refused."""
        self._is_open = False
        await maybeDeferred(self._listening.stopListening)
