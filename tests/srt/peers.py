"""SRT peers without libsrt, every step of which a test decides::

    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, "#!::r=live/s") as caller:
        await caller.connect()
        connection = await origin.connection()
        caller.send(b"...")
        await connection.heard(1)

Both acknowledge data, ask again for what is missing, and send again what they are asked for; nothing is encrypted.
They share no code with what they test.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from tests.asynchronous import until
from tests.srt import wire
from tests.srt.conversation import Conversation, UdpSocket, repeat_until
from tests.srt.wire import Handshake
from tests.webrtc.peers import Address

HOST: Final = "127.0.0.1"

REFUSAL_DELAY: Final = 0.01
"""Seconds between SRS's CONCLUSION and its SHUTDOWN for a stream that it refuses."""

# HSREQ and HSRSP of SRS 7's libsrt 1.5.1 and of ffmpeg's, as recorded.
CALLER_FLAGS: Final = 0xBF
LISTENER_FLAGS: Final = 0xB5
CALLER_LATENCY: Final = 0x00780000
LISTENER_LATENCY: Final = 0x00000078


class ScriptedCaller(Conversation):
    """A caller with a socket of its own; use it with ``async with``. See the module's text.

    :param peer: where it sends to; may be replaced.
    :param stream_id: None for a conclusion without.
    :param socket_id: its own; random if not given.
    :param number: its initial sequence number; random if not given.
    :param host: its own address; the loopback one of the peer's family if not given.
    :ivar handshakes: of the peer, in the order in which they came.
    :ivar socket: its current one.
    """

    def __init__(
        self,
        reactor: Any,
        peer: Address,
        stream_id: str | None,
        *,
        socket_id: int | None = None,
        number: int | None = None,
        host: str | None = None,
    ) -> None:
        local_id = secrets.randbits(30) if socket_id is None else socket_id
        number = secrets.randbelow(wire.SEQUENCES) if number is None else number
        super().__init__(reactor, self._send, local_id, number)
        self.peer = peer
        self.stream_id = stream_id
        self._number = number
        self._host = host or ("::1" if ":" in peer[0] else HOST)
        self.handshakes: list[Handshake] = []
        self.socket: UdpSocket
        self._sockets: list[UdpSocket] = []
        self._sharing = {local_id: self}

    def sibling(self, stream_id: str | None, *, socket_id: int | None = None) -> ScriptedCaller:
        """Another caller on the same socket, which is closed with this one's."""
        other = ScriptedCaller(self.reactor, self.peer, stream_id, socket_id=socket_id)
        other._sharing = self._sharing
        other.socket = self.socket
        self._sharing[other.local_id] = other
        return other

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for socket in self._sockets:
            await socket.close()

    def rebind(self) -> UdpSocket:
        """Go on with a new socket, as behind a NAT that has forgotten the old one. That is returned; it stays open, and
        what comes there is taken."""
        old = self.socket
        self._bind()
        return old

    def _bind(self) -> None:
        self.socket = UdpSocket(self.reactor, self._datagram_received, self._host)
        self._sockets.append(self.socket)

    # The handshake

    def induction(self, **fields: Any) -> Handshake:
        """Its INDUCTION, with other values for these fields of :class:`Handshake`."""
        handshake = Handshake(
            version=4,
            extension=2,
            initial_sequence_number=self._number,
            type=wire.INDUCTION,
            socket_id=self.local_id,
            timestamp=self.timestamp,
        )
        return replace(handshake, **fields)

    def conclusion(self, **fields: Any) -> Handshake:
        """Its CONCLUSION with the cookie of the latest induction, with other values for these fields."""
        tail = wire.latency_extension(wire.HSREQ, CALLER_FLAGS, CALLER_LATENCY)
        flags = wire.HSREQ_FLAG
        if self.stream_id is not None:
            tail += wire.stream_id_extension(self.stream_id)
            flags |= wire.CONFIG_FLAG
        cookie = next((one.cookie for one in reversed(self.handshakes) if one.type == wire.INDUCTION), 0)
        handshake = self.induction(version=5, extension=flags, type=wire.CONCLUSION, cookie=cookie, tail=tail)
        return replace(handshake, **fields)

    async def ask(self, handshake: Handshake) -> Handshake:
        """Send a handshake again and again until there is an answer, and return that."""
        count = len(self.handshakes)

        def send() -> None:
            self.send_raw(bytes(handshake))

        send()
        await repeat_until(self.reactor, lambda: len(self.handshakes) > count, send, f"an answer to {handshake}")
        return self.handshakes[count]

    async def induce(self) -> Handshake:
        """Send an INDUCTION, and return the answer."""
        return await self.ask(self.induction())

    async def call(self, **fields: Any) -> Handshake:
        """The whole handshake, with other values for these fields of the conclusion; returns the final answer."""
        await self.induce()
        answer = await self.ask(self.conclusion(**fields))
        # The answer to a second induction may come late.
        while answer.type == wire.INDUCTION:
            answer = await self.ask(self.conclusion(**fields))
        return answer

    async def connect(self, **fields: Any) -> Handshake:
        """:meth:`call`, which must be accepted."""
        answer = await self.call(**fields)
        assert answer.rejection is None, answer
        return answer

    def _send(self, packet: bytes) -> None:
        self.socket.send(packet, self.peer)

    def _datagram_received(self, packet: bytes, address: Address) -> None:
        caller = self._sharing.get(wire.destination(packet))
        if caller is not None:
            caller._take(packet)

    def _take(self, packet: bytes) -> None:
        if not wire.is_handshake(packet):
            self.packet_received(packet)
            return
        handshake = Handshake.parse(packet)
        self.handshakes.append(handshake)
        if handshake.type == wire.CONCLUSION:
            # A listener takes over the caller's initial sequence number for its own data.
            self.begin(handshake.socket_id, handshake.initial_sequence_number)


class Connection(Conversation):
    """One caller of :class:`ScriptedSrtOrigin`.

    :ivar address: of the caller.
    :ivar conclusion: of the caller.
    :ivar answer: to that; the same for each repetition.
    """

    def __init__(
        self, reactor: Any, send: Callable[[bytes], object], address: Address, conclusion: Handshake, local_id: int
    ) -> None:
        number = conclusion.initial_sequence_number
        super().__init__(reactor, send, local_id, number)
        self.begin(conclusion.socket_id, number)
        self.address = address
        self.conclusion = conclusion
        flags = wire.HSREQ_FLAG
        tail = wire.latency_extension(wire.HSRSP, LISTENER_FLAGS, LISTENER_LATENCY)
        key = conclusion.extensions.get(wire.KMREQ)
        if key is not None:
            # The same back: the passphrase was right.
            flags |= wire.KMREQ_FLAG
            tail += wire.extension(wire.KMRSP, key)
        self.answer = replace(
            conclusion, extension=flags, socket_id=local_id, destination=conclusion.socket_id, tail=tail
        )

    @property
    def stream_id(self) -> str:
        """Of the caller."""
        return self.conclusion.stream_id


class ScriptedSrtOrigin:
    """A listener that answers as SRS's does; use it with ``async with``. See the module's text.

    :ivar connections: all that were accepted, in that order.
    :ivar rejects: the reason to reject a stream id with; None to accept it.
    :ivar refuses: stream ids that are accepted, and shut down at once: so SRS refuses.
    :ivar silent: while true, nothing is answered.
    :ivar loses: whether a datagram, in either direction, is lost.
    :ivar received: all datagrams that have come, with the addresses that they came from.
    :ivar dropped: of these, what it could do nothing with: SRS takes no packet from another address than its caller's.
    """

    def __init__(self, reactor: Any, *, host: str = HOST, first_id: int | None = None) -> None:
        self._reactor = reactor
        self._host = host
        self._next_id = 0x20000000 | secrets.randbits(28) if first_id is None else first_id
        self._secret = secrets.token_bytes(8)
        self.connections: list[Connection] = []
        self.rejects: Callable[[str], int | None] = lambda stream_id: None
        self.refuses: Container[str] = ()
        self.silent = False
        self.loses: Callable[[bytes], bool] = lambda datagram: False
        self.received: list[tuple[bytes, Address]] = []
        self.dropped: list[tuple[bytes, Address]] = []
        self._by_id: dict[int, Connection] = {}

    async def __aenter__(self) -> Self:
        self._open(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def address(self) -> Address:
        """Where it listens, or did."""
        return self._address

    async def close(self) -> None:
        """From now on datagrams are refused."""
        await self._socket.close()

    async def restart(self) -> None:
        """Come back on the same port without any connection, and without telling anyone."""
        await self.close()
        self._by_id.clear()
        self._open(self._address[1])

    def handshakes(self, type: int) -> list[Handshake]:
        """The handshakes of this type that have come."""
        parsed = [Handshake.parse(data) for data, _ in self.received if wire.is_handshake(data)]
        return [handshake for handshake in parsed if handshake.type == type]

    async def connection(self, number: int = 1) -> Connection:
        """The connection with this number, counted from 1, of :attr:`connections`."""
        await until(self._reactor, lambda: len(self.connections) >= number, f"{number} connections")
        return self.connections[number - 1]

    def _open(self, port: int) -> None:
        self._socket = UdpSocket(self._reactor, self._datagram_received, self._host, port)
        self._address = self._socket.address

    def _send(self, packet: bytes, address: Address) -> None:
        if not self.loses(packet):
            self._socket.send(packet, address)

    def _datagram_received(self, packet: bytes, address: Address) -> None:
        self.received.append((packet, address))
        if self.silent or self.loses(packet):
            return
        if wire.is_handshake(packet) and wire.destination(packet) == 0:
            answer = self._answer(Handshake.parse(packet), address)
            if answer is not None:
                self._send(bytes(answer), address)
                return
        connection = self._by_id.get(wire.destination(packet))
        if connection is None or connection.address != address:
            self.dropped.append((packet, address))
            return
        connection.packet_received(packet)
        if connection.ended:
            del self._by_id[connection.local_id]

    def _answer(self, handshake: Handshake, address: Address) -> Handshake | None:
        cookie = zlib.crc32(self._secret + repr(address).encode())
        answer = replace(handshake, destination=handshake.socket_id, tail=b"")
        if handshake.type == wire.INDUCTION:
            return replace(answer, version=5, extension=wire.MAGIC, cookie=cookie)
        if handshake.type != wire.CONCLUSION or handshake.cookie != cookie:
            return None
        if handshake.version != 5:
            return replace(answer, type=wire.REJECTION + (wire.ROGUE if handshake.version == 4 else wire.VERSION))
        known = self._connected(handshake.socket_id, address)
        if known is not None:
            return known.answer
        reason = self.rejects(handshake.stream_id)
        if reason is not None:
            return replace(answer, type=wire.REJECTION + reason)
        return self._accept(handshake, address).answer

    def _connected(self, caller_id: int, address: Address) -> Connection | None:
        for connection in self._by_id.values():
            if (connection.address, connection.remote_id) == (address, caller_id):
                return connection
        return None

    def _accept(self, conclusion: Handshake, address: Address) -> Connection:
        connection = Connection(self._reactor, partial(self._send, address=address), address, conclusion, self._next_id)
        self._next_id -= 1
        self._by_id[connection.local_id] = connection
        self.connections.append(connection)
        if connection.stream_id in self.refuses:
            self._reactor.callLater(REFUSAL_DELAY, connection.shut_down)
        return connection
