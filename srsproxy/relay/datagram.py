"""PROVISIONAL (lead): the data-plane helper overwrites this file. The data plane of datagrams: one socket that all clients send to, and for each session one towards its origin.

It knows no protocol. A datagram from a client's known address goes to the origin of its flow, and one from an origin to
the address that its flow has selected, in one receive, one look-up and one send out of one shared buffer. Only those
whose first byte the receiver wants to inspect, and those from unknown addresses, are shown to the receiver instead,
which may pass them on.

Measured: the clients' socket is drained, up to a limit, but each origin's is read once per event. That a socket has
nothing more costs a quarter of relaying a datagram to find out; many datagrams share that at the busy socket, but every
one of many sockets would pay it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from srsproxy.relay.private_epoll import PrivateEpoll

if TYPE_CHECKING:
    from srsproxy.relay.private_epoll import Reactor

_log = Logger()

Address = tuple[str, int] | tuple[str, int, int, int]

MAX_DATAGRAM: Final = 64 * 1024
LISTENER_BUFFER: Final = 8 * 1024 * 1024
ORIGIN_BUFFER: Final = 1024 * 1024
CLIENT_BATCH: Final = 64
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33


class DatagramReceiver(Protocol):
    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        """A client's datagram that begins with an inspected byte, or that comes from an address without a path."""

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        """An origin's datagram that begins with an inspected byte."""


class Path:
    __slots__ = ("address", "flow", "packets")

    def __init__(self, address: Address, flow: Flow) -> None:
        self.address = address
        self.flow = flow
        self.packets = 0


class Flow:
    __slots__ = ("_path", "_paths", "_relay", "_socket", "owner", "received_bytes", "received_drops",
        "received_packets", "refusals", "sent_bytes", "sent_drops", "sent_packets")

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
    def path(self): return self._path
    @property
    def paths(self): return self._paths
    def remove_path(self, path):
        if path in self._paths:
            self._paths.remove(path)
            if self._relay.paths.get(path.address) is path: del self._relay.paths[path.address]
            if self._path is path: self._path = None
    def send_to(self, path, data): self._deliver(path, data)
    def close(self, forgotten=False):
        s, self._socket = self._socket, None
        if s is not None:
            for p in list(self._paths): self.remove_path(p)
            self._relay._flows.pop(s.fileno(), None)
            s.close()
    def add_path(self, address: Address) -> Path:
        old = self._relay.paths.get(address)
        if old is not None:
            if old.flow is self: return old
            old.flow.remove_path(old)
        path = Path(address, self)
        self._paths.append(path)
        self._relay.paths[address] = path
        return path

    def select(self, path: Path | None) -> None:
        self._path = path

    def send(self, data: bytes | memoryview) -> None:
        if self._socket is None:
            self.received_drops += 1
            return
        try:
            self._socket.send(data)
        except OSError as error:
            self.received_drops += 1
            if isinstance(error, ConnectionRefusedError):
                self.refusals += 1
            return
        self.received_packets += 1
        self.received_bytes += len(data)

    def _deliver(self, path: Path | None, data: bytes | memoryview) -> None:
        if path is None:
            self.sent_drops += 1
            return
        try:
            self._relay.transmit(data, path.address)
        except OSError:
            self.sent_drops += 1
            return
        self.sent_packets += 1
        self.sent_bytes += len(data)

    def pull(self) -> None:
        relay = self._relay
        try:
            size = self._socket.recv_into(relay.octets)
        except BlockingIOError:
            return
        except OSError:
            self.refusals += 1
            return
        if size and relay.octets[0] in relay.inspected:
            relay.receiver.origin_datagram(relay.view[:size], self)
        else:
            self._deliver(self._path, relay.view[:size])


class DatagramRelay(PrivateEpoll):
    def __init__(self, reactor: Reactor, receiver: DatagramReceiver, inspected: frozenset[int]) -> None:
        super().__init__(reactor)
        self.receiver = receiver
        self.inspected = inspected
        self.octets = bytearray(MAX_DATAGRAM)
        self.view = memoryview(self.octets)
        self.paths: dict[Address, Path] = {}
        self._flows: dict[int, Flow] = {}

    def listen(self, interface: str, port: int) -> int:
        s = self._listener = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(False)
        s.setsockopt(1, 33, LISTENER_BUFFER)
        s.setsockopt(1, 32, LISTENER_BUFFER)
        s.bind((interface, port))
        self.transmit = s.sendto
        self._open().register(s.fileno(), select.EPOLLIN)
        self._fd = s.fileno()
        return s.getsockname()[1]

    def open_flow(self, host, port):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(False)
        s.setsockopt(1, 33, ORIGIN_BUFFER)
        s.connect((host, port))
        f = self._flows[s.fileno()] = Flow(self, s)
        self._open().register(s.fileno(), select.EPOLLIN)
        return f

    def _serve(self, fd: int, event: int) -> None:
        flow = self._flows.get(fd)
        if flow is not None:
            flow.pull()
        elif fd == self._fd:
            self._drain()

    def _drain(self):
        octets, view, inspected, paths = self.octets, self.view, self.inspected, self.paths
        receive = self._listener.recvfrom_into
        for _ in range(CLIENT_BATCH):
            try:
                size, address = receive(octets)
            except OSError:
                return
            path = paths.get(address)
            if path is not None:
                path.packets += 1
                if not size or octets[0] not in inspected:
                    path.flow.send(view[:size])
                    continue
            self.receiver.client_datagram(view[:size], address, path)
        self._served += CLIENT_BATCH

    def _break_off(self, fd: int) -> None:
        pass

    def close(self):
        for f in list(self._flows.values()): f.close()
        l = getattr(self, "_listener", None)
        if l is not None: l.close()
        super().close()
