"""Datagrams on loopback for the tests of their relay::

    Peer (a client)  <--->  DatagramRelay  <--->  Peer (an origin)

The peers are plain sockets, which are read when a test looks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from srsproxy.relay.datagram import DatagramRelay
from srsproxy.relay.flow import Flow, Path
from srsproxy.relay.udpsockets import Address
from tests import asynchronous
from tests.relay.wires import FailureLog

reactor: Any = installed_reactor

INSPECTED: Final = {first: frozenset(b"?!") for first in b"?!"}
"""What begins with two of these is shown."""

until: Final = functools.partial(asynchronous.until, reactor)


class PeersTime(Clock):
    """A reactor that watches descriptors as the real one does, but whose time is the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.addReader = reactor.addReader
        self.removeReader = reactor.removeReader


class Peer:
    """A client or an origin.

    :ivar received: what has come, see :meth:`look`.
    :ivar senders: where each of that came from.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        self.socket.bind((host, port))
        self.address: Address = self.socket.getsockname()
        self.received: list[bytes] = []
        self.senders: list[Address] = []

    @property
    def host(self) -> str:
        return self.address[0]

    @property
    def port(self) -> int:
        return self.address[1]

    def send(self, data: bytes, to: Any) -> None:
        self.socket.sendto(data, to)

    def look(self) -> int:
        """Read all that has come; tells how much there is in all."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self.socket.recvfrom(100_000)
                self.received.append(data)
                self.senders.append(sender)
        return len(self.received)

    async def receives(self, *datagrams: bytes) -> None:
        """Wait until these have come, and nothing else; then forget them."""
        await until(lambda: self.look() >= len(datagrams), f"{len(datagrams)} datagrams")
        assert self.received == list(datagrams)
        self.received = []

    def close(self) -> None:
        self.socket.close()


class Recorder:
    """Keeps what the relay shows, and then does what a test wants (DatagramReceiver)."""

    def __init__(self) -> None:
        self.from_clients: list[tuple[bytes, Address, Path | None]] = []
        self.from_origins: list[tuple[bytes, Flow]] = []
        self.refused: list[Flow] = []
        self.on_client: Callable[[memoryview, Address, Path | None], None] = lambda data, address, path: None
        self.on_origin: Callable[[memoryview, Flow], None] = lambda data, flow: None

    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        self.from_clients.append((bytes(data), address, path))
        self.on_client(data, address, path)

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        self.from_origins.append((bytes(data), flow))
        self.on_origin(data, flow)

    def origin_refused(self, flow: Flow) -> None:
        self.refused.append(flow)


class Datagrams:
    """A relay that listens, and peers; sees that nothing of them is left in the end. Use it with ``async with``.

    :param interface: that the relay listens on.
    :param host: where the peers are.
    :param own_time: the relay's time is :attr:`time`.
    :param number_at: see the relay.
    :ivar failures: what was logged with a traceback; a test that expects some takes it out.
    """

    def __init__(
        self,
        interface: str = "127.0.0.1",
        host: str = "127.0.0.1",
        own_time: bool = False,
        number_at: int | None = None,
    ) -> None:
        self.host = host
        self.time = PeersTime()
        self.receiver = Recorder()
        relays_reactor: Any = self.time if own_time else reactor
        self.relay = DatagramRelay(relays_reactor, self.receiver, INSPECTED, INSPECTED, number_at=number_at)
        self.failures: list[Failure] = []
        self._log = FailureLog(self.failures)
        self._interface = interface
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        globalLogPublisher.addObserver(self._log)
        self._descriptors = descriptors()
        self.port = self.relay.listen(self._interface, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for peer in self._peers:
            peer.close()
        self.relay.close()
        globalLogPublisher.removeObserver(self._log)
        if kind is None:
            assert [failure.getTraceback() for failure in self.failures] == []
            assert descriptors() == self._descriptors
            assert not self.time.getDelayedCalls()

    @property
    def to(self) -> tuple[str, int]:
        """Where the peers reach the relay."""
        return self.host, self.port

    def peer(self, port: int = 0) -> Peer:
        self._peers.append(Peer(self.host, port))
        return self._peers[-1]

    def flow(self, origin: Peer, *clients: Peer) -> Flow:
        """A flow from and to the clients; the first one's path is the return path."""
        flow = self.relay.open_flow(origin.host, origin.port)
        for client in clients:
            flow.add_path(client.address)
        if clients:
            flow.select(flow.paths[0])
        return flow

    def session(self) -> tuple[Peer, Flow, Peer]:
        """A client, its flow, and the origin."""
        client, origin = self.peer(), self.peer()
        return client, self.flow(origin, client), origin


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def fail() -> None:
    """What a receiver with a bug does."""
    raise ZeroDivisionError
