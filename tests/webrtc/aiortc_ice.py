"""ICE as SRS does it, for aiortc: a lite agent (RFC 8445, section 2.5), and one UDP or TCP port for all sessions.

aiortc has a full ICE agent with a socket of its own per session. What stands for an SRS origin must not have that: a
proxy relays to the one port that the origin announces, and the origin must never find another way to the client.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from typing import Any, Final, Literal, TypeAlias, cast

from aioice import Candidate, Connection, stun
from aiortc import RTCPeerConnection

Address: TypeAlias = tuple[str, int]

Transport: TypeAlias = Literal["udp", "tcp"]

_STUN_FIRST_BYTES: Final = (0, 1)
"""Of requests and responses that belong to ICE (RFC 7983)."""

_ALPHABET: Final = string.ascii_lowercase + string.digits


def random_string(length: int) -> str:
    """As SRS makes them for its ufrag, its ice-pwd and its tokens."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class SharedPort(asyncio.DatagramProtocol):
    """The port of all sessions, over UDP, or over TCP in frames (RFC 4571).

    A packet belongs to the session of its source address; a STUN request of an address that has none yet belongs to
    the session that its USERNAME names.

    :ivar transport: which of the two.
    :ivar address: where it listens.
    """

    transport: Transport = "udp"
    address: Address

    def __init__(self) -> None:
        self._by_ufrag: dict[str, LiteAgent] = {}
        self._by_address: dict[Address, LiteAgent] = {}
        self._connections: dict[Address, asyncio.StreamWriter] = {}

    @classmethod
    async def bind(cls, host: str, port: int, transport: Transport) -> SharedPort:
        """Listen there; port 0 is any that is free."""
        if transport == "udp":
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=(host, port))
            return protocol
        shared = cls()
        shared.transport = transport
        server = await asyncio.start_server(shared._connected, host, port)
        shared.address = server.sockets[0].getsockname()
        return shared

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._datagrams = cast("asyncio.DatagramTransport", transport)
        self.address = transport.get_extra_info("sockname")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address: Address = writer.get_extra_info("peername")
        self._connections[address] = writer
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                self.datagram_received(await reader.readexactly(length), address)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            del self._connections[address]
            writer.close()

    def add(self, agent: LiteAgent) -> None:
        """Take what is for this agent from now on."""
        self._by_ufrag[agent.local_username] = agent

    def remove(self, agent: LiteAgent) -> None:
        """Forget this agent, and the addresses of its client."""
        self._by_ufrag.pop(agent.local_username, None)
        self._by_address = {address: other for address, other in self._by_address.items() if other is not agent}

    def is_taken(self, ufrag: str) -> bool:
        """Whether a session has this ufrag."""
        return ufrag in self._by_ufrag

    def send(self, data: bytes, address: Address) -> None:
        """Send one packet, unless the connection has gone."""
        if self.transport == "udp":
            self._datagrams.sendto(data, address)
        elif address in self._connections:
            self._connections[address].write(len(data).to_bytes(2) + data)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        address: Address = (addr[0], addr[1])
        agent = self._by_address.get(address)
        if not data or data[0] not in _STUN_FIRST_BYTES:
            if agent is not None:
                agent.received.put_nowait(data)
            return
        try:
            request = stun.parse_message(data)
        except ValueError:
            return
        if request.message_class != stun.Class.REQUEST or request.message_method != stun.Method.BINDING:
            return
        if agent is None:
            ufrag, _, _ = request.attributes.get("USERNAME", "").partition(":")
            agent = self._by_ufrag.get(ufrag)
        if agent is not None and agent.accepts(request):
            self._by_address[address] = agent
            agent.checked(request, address)


class LiteAgent(Connection):
    """The origin's end of one session: it answers checks, makes none, and sends to where the last good one came from.

    What a client offers as its candidates is of no interest to it.

    :raises ValueError: ``ufrag`` or ``password`` have letters or lengths that SRS does not take.
    """

    def __init__(self, port: SharedPort, ufrag: str | None, password: str | None) -> None:
        ufrag, password = ufrag or random_string(8), password or random_string(32)
        if not re.fullmatch(r"[a-zA-Z0-9+/]{4,32}", ufrag) or not re.fullmatch(r"[a-zA-Z0-9+/]{22,32}", password):
            raise ValueError("bad ICE credentials")
        if port.is_taken(ufrag):
            ufrag = random_string(8)
        super().__init__(ice_controlling=False, local_username=ufrag, local_password=password)
        self._port = port
        self._candidates: list[Candidate] = []
        self._checked_or_closed = asyncio.Event()
        self.received: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.client_address: Address | None = None

    def attach(self, peer: RTCPeerConnection) -> None:
        """Be the ICE agent of ``peer``, which has transceivers that share one transport, and no description yet."""
        transport = peer.getTransceivers()[0].receiver.transport.transport
        transport.iceGatherer._connection = transport._connection = self
        transport._recv, transport._send = self.recv, self.send

    def accepts(self, request: stun.Message) -> bool:
        """Whether it is from someone who knows the password and means this session."""
        means_us = request.attributes.get("USERNAME", "").startswith(f"{self.local_username}:")
        return means_us and request.check_message_integrity(self.local_password.encode())

    def checked(self, request: stun.Message, address: Address) -> None:
        """Answer a request that it accepts."""
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        response.attributes["USERNAME"] = request.attributes["USERNAME"]
        response.attributes["XOR-MAPPED-ADDRESS"] = address
        response.add_message_integrity(self.local_password.encode())
        self._port.send(bytes(response), address)
        self.client_address = address
        self._checked_or_closed.set()

    @property
    def local_candidates(self) -> list[Candidate]:
        """The shared port, once candidates were asked for: that is when aiortc may start."""
        return self._candidates

    async def gather_candidates(self) -> None:
        host, port = self._port.address
        transport = self._port.transport
        self._candidates = [Candidate("0", 1, transport, 2130706431, host, port, "host", generation=0)]
        if transport == "tcp":
            self._candidates[0].tcptype = "passive"
        self._port.add(self)

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        return

    async def connect(self) -> None:
        await self._checked_or_closed.wait()
        if self.client_address is None:
            raise ConnectionError("closed before a client came")

    async def send(self, data: bytes) -> None:
        if self.client_address is None:
            raise ConnectionError("no client yet")
        self._port.send(data, self.client_address)

    async def recv(self) -> bytes:
        data = await self.received.get()
        if data is None:
            raise ConnectionError("closed")
        return data

    async def close(self) -> None:
        self._port.remove(self)
        self._checked_or_closed.set()
        self.received.put_nowait(None)
        await super().close()
