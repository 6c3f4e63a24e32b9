"""The client's side of ICE and media over UDP and TCP, every step of which a test decides::

    client = await IceClient.open(reactor, ice, ("127.0.0.1", port))
    await client.check(use_candidate=True)
    client.send(rtp(1))
    await client.wait_received(1)

A request that must stay without an answer is sent with :meth:`send_check`, and then something else is awaited that the
peer does later: a peer on loopback handles the datagrams of one socket in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from twisted.internet.defer import maybeDeferred

from tests.asynchronous import until
from tests.rtmp_client import RawClient
from tests.webrtc.peers import (
    BINDING_REQUEST,
    BINDING_RESPONSE,
    ICE_CONTROLLING,
    PRIORITY,
    USE_CANDIDATE,
    USERNAME,
    Address,
    Datagrams,
    FrameReader,
    IcePair,
    Stun,
    frame,
    new_transaction_id,
    parse_stun,
    stun,
)

_HOST_PRIORITY: Final = 0x6EFFFFFF.to_bytes(4, "big")
_TIE_BREAKER: Final = bytes(range(8))


def rtp(number: int, size: int = 100, ssrc: int = 0x11223344) -> bytes:
    """An RTP packet with this sequence number, of so many bytes."""
    header = b"\x80\x60" + (number % 65536).to_bytes(2, "big") + bytes(4) + ssrc.to_bytes(4, "big")
    return header + number.to_bytes(8, "big") * (size // 8)


DTLS_CLIENT_HELLO: Final = b"\x16\xfe\xff" + bytes(8) + b"\x00\x20\x01" + bytes(31)
"""A datagram with the first byte and the size that a DTLS handshake has."""

RTCP_RECEIVER_REPORT: Final = b"\x80\xc9\x00\x01\x11\x22\x33\x44"


class _Ice:
    """What is the same over UDP and TCP.

    :ivar ice: may be replaced.
    :ivar received: every packet of the peer that was no STUN, in order.
    :ivar bindings: every STUN message of the peer, in order.
    """

    def __init__(self, reactor: Any, ice: IcePair) -> None:
        self._reactor = reactor
        self.ice = ice
        self.received: list[bytes] = []
        self.bindings: list[Stun] = []

    def send(self, packet: bytes) -> None:
        """Send a packet as it is."""
        raise NotImplementedError

    def send_check(
        self,
        *,
        use_candidate: bool = False,
        username: str | None = None,
        password: str | None = None,
        transaction_id: bytes | None = None,
    ) -> bytes:
        """Send a Binding request as RFC 8445, section 7.2.2, has it.

        :param username: instead of the right one.
        :param password: to sign it with, instead of the peer's.
        :returns: the transaction id.
        """
        transaction_id = transaction_id or new_transaction_id()
        attributes = [
            (USERNAME, (username or self.ice.username).encode()),
            (PRIORITY, _HOST_PRIORITY),
            (ICE_CONTROLLING, _TIE_BREAKER),
        ]
        if use_candidate:
            attributes.append((USE_CANDIDATE, b""))
        self.send(stun(BINDING_REQUEST, transaction_id, attributes, password or self.ice.remote.pwd))
        return transaction_id

    async def check(
        self,
        *,
        use_candidate: bool = False,
        username: str | None = None,
        password: str | None = None,
        transaction_id: bytes | None = None,
        signed_with: str | None = None,
    ) -> Stun:
        """Send a Binding request, and await the response, which must be right.

        :param signed_with: what the response must be signed with, if not with the peer's password.
        """
        transaction_id = self.send_check(
            use_candidate=use_candidate, username=username, password=password, transaction_id=transaction_id
        )
        return await self.answered(transaction_id, signed_with=signed_with)

    async def answered(self, transaction_id: bytes, *, signed_with: str | None = None) -> Stun:
        """The response to a request, which must be right."""
        await self.wait_until(lambda: self.responses(transaction_id))
        response = self.responses(transaction_id)[0]
        assert response.is_signed_with(signed_with or self.ice.remote.pwd)
        assert response.has_right_fingerprint()
        return response

    def responses(self, transaction_id: bytes) -> list[Stun]:
        """The responses to a request that have come."""
        return [
            message
            for message in self.bindings
            if (message.type, message.transaction_id) == (BINDING_RESPONSE, transaction_id)
        ]

    async def wait_received(self, count: int) -> list[bytes]:
        """The first ``count`` packets of :attr:`received`."""
        await self.wait_until(lambda: len(self.received) >= count)
        return self.received[:count]

    async def wait_until(self, true: Callable[[], object]) -> None:
        """Wait until what has come makes this true."""
        await until(self._reactor, true, f"{len(self.bindings)} STUN messages and {len(self.received)} others came")

    def _came(self, packet: bytes) -> None:
        if packet and packet[0] < 2:
            self.bindings.append(parse_stun(packet))
        else:
            self.received.append(packet)


class IceClient(_Ice):
    """A client with a UDP socket; made by :meth:`open`, to be used with ``async with`` or closed.

    :ivar peer: where it sends to; may be replaced.
    :ivar sources: where each packet came from.
    """

    def __init__(self, reactor: Any, ice: IcePair, peer: Address) -> None:
        super().__init__(reactor, ice)
        self.peer = peer
        self.sources: list[Address] = []

    @classmethod
    def open(cls, reactor: Any, ice: IcePair, peer: Address) -> Self:
        """With a new socket on loopback, IPv6 if the peer's address is."""
        client = cls(reactor, ice, peer)
        client._bind()
        return client

    def _bind(self) -> None:
        interface = "::1" if ":" in self.peer[0] else "127.0.0.1"
        self._socket = self._reactor.listenUDP(0, Datagrams(self._datagram_received), interface)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def address(self) -> Address:
        """Of its own socket."""
        host = self._socket.getHost()
        return host.host, host.port

    def send(self, packet: bytes) -> None:
        """Send a datagram as it is."""
        self._socket.write(packet, self.peer)

    def sibling(self, peer: Address | None = None) -> Self:
        """Another one with the same credentials and a socket of its own: as if another candidate pair."""
        return type(self).open(self._reactor, self.ice, peer or self.peer)

    async def rebind(self) -> None:
        """Go on with a new socket, as behind a NAT that has forgotten the old one."""
        old = self._socket
        self._bind()
        await maybeDeferred(old.stopListening)

    async def close(self) -> None:
        """Close the socket."""
        await maybeDeferred(self._socket.stopListening)

    def _datagram_received(self, datagram: bytes, address: Address) -> None:
        self.sources.append(address)
        self._came(datagram)


class IceTcpClient(_Ice):
    """A client with a TCP connection, on which every packet is a frame of RFC 4571; made by :meth:`connect`, to be used
    with ``async with``.

    :ivar connection: for sending bytes as they are, and for how it ends.
    """

    def __init__(self, reactor: Any, ice: IcePair, connection: FramedConnection) -> None:
        super().__init__(reactor, ice)
        self.connection = connection
        connection.packet_received = self._came

    @classmethod
    async def connect(cls, reactor: Any, ice: IcePair, peer: Address) -> Self:
        """Connect; nothing is sent."""
        return cls(reactor, ice, await FramedConnection.connect(reactor, *peer))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.connection.lost is None:
            await self.connection.abort()

    def send(self, packet: bytes) -> None:
        """Send a packet in a frame."""
        self.connection.send(frame(packet))


class FramedConnection(RawClient):
    """A connection of which the peer's bytes are frames.

    :ivar packet_received: is called with every packet.
    """

    packet_received: Callable[[bytes], None]

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._frames = FrameReader()

    def dataReceived(self, data: bytes) -> None:
        for packet in self._frames.read(data):
            self.packet_received(packet)
        super().dataReceived(data)
