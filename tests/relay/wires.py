"""Connections on loopback for the tests of the relay::

    client Peer  <--->  front Side  =relay=  back Side  <--->  origin Peer

The sides are what a server of the proxy would be: they own the transports that the relay is given and keep to its
contract. The peers stand for other machines. All of them live in the test's reactor.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from twisted.internet import reactor as installed_reactor
from twisted.internet import ssl
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.interfaces import IBoundary, IRelayedHalf, IRelayObserver, IStreamConnection
from srsproxy.relay.model import EndReason
from srsproxy.relay.stream import StreamRelay, build_relay
from srsproxy.transports import close_write, raw_socket
from tests import asynchronous
from tests.certificates import localhost_credentials, pem_of_certificate

reactor: Any = installed_reactor

WireT = TypeVar("WireT", bound="Wire")

KERNEL_BUFFER: Final = 64 * 1024
"""Bytes asked for each socket's two buffers, so that a stalled stream fills up soon; the kernel doubles it."""


until: Final = functools.partial(asynchronous.until, reactor)
"""Wait until something is true, see :func:`tests.asynchronous.until`."""


async def turns(count: int = 20) -> None:
    """Let the reactor go round some times: all that is ready now is dealt with."""
    for _ in range(count):
        await deferLater(reactor, 0)


async def settled(value: Callable[[], int]) -> int:
    """Wait until ``value()`` has not changed for a while (50 ms of the kernel's time), and return it."""
    last, since = value(), reactor.seconds()
    while reactor.seconds() - since < 0.05:
        await deferLater(reactor, 0.001)
        if value() != last:
            last, since = value(), reactor.seconds()
    return last


@implementer(IHalfCloseableProtocol)
class Wire(Protocol):
    """One end of a connection: keeps what it receives."""

    transport: IStreamConnection

    def __init__(self) -> None:
        self.received = bytearray()
        self.reads = 0
        self.connected_to_peer = False
        self.read_ended = False
        self.lost: BaseException | None = None

    def connectionMade(self) -> None:
        self.connected_to_peer = True
        self.transport.setTcpNoDelay(True)
        # What is below TLS, too, has a socket.
        connection = raw_socket(self.transport) or raw_socket(getattr(self.transport, "transport", None))
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)

    def dataReceived(self, data: bytes) -> None:
        self.reads += 1
        self.received += data

    def readConnectionLost(self) -> None:
        self.read_ended = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.read_ended = True
        self.lost = reason.value

    @property
    def gone(self) -> bool:
        """Whether there is no connection, yet or any more."""
        return not self.connected_to_peer or self.lost is not None

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()


class Peer(Wire):
    """A client or an origin."""

    async def receives_bytes(self, size: int) -> None:
        """Wait until that much has come in all."""
        await until(lambda: len(self.received) >= size, f"{size} bytes")

    async def receives(self, data: bytes) -> None:
        """Wait until ``data`` has come, and nothing else."""
        await self.receives_bytes(len(data))
        # Megabytes of difference are nothing to read.
        assert bool(self.received == data)


@implementer(IPullProducer)
class Flood:
    """Keeps a peer sending for as long as its kernel takes it: blocks that differ from each other."""

    BLOCK: Final = 8 * 1024

    def __init__(self, peer: Peer) -> None:
        self.sent = bytearray()
        self._peer = peer
        peer.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        block = len(self.sent).to_bytes(8, "big") * (self.BLOCK // 8)
        self.sent += block
        self._peer.transport.write(block)

    def stopProducing(self) -> None:
        pass

    def end(self) -> None:
        """Send no further block."""
        self._peer.transport.unregisterProducer()

    async def stalls(self) -> None:
        """Wait until nobody takes any more."""
        await settled(lambda: len(self.sent))


async def fill_up(line: Line) -> bytes:
    """Stall the origin and send, a little at a time, until the relay has to hold something; returns what was sent."""
    line.origin.transport.pauseProducing()
    half = line.front.half
    assert half is not None
    sent = bytearray()
    while await settled(lambda: half.relayed) == len(sent):
        while half.relayed == len(sent):
            piece = len(sent).to_bytes(4, "big") * 1024
            line.client.write(piece)
            sent += piece
            await turns(5)
    return bytes(sent)


@implementer(IRelayObserver)
class Side(Wire):
    """A proxy's end of a connection, the source of one direction and the sink of another.

    :ivar half: the direction that reads from here.
    :ivar feeding: the direction that writes to here.
    :ivar ended: what the relay has told about :attr:`half`.
    :ivar forgetful: does not stop its directions when its connection is lost, as it ought to.
    :ivar passes_eof: closes the sink for writing when the direction has ended.
    :ivar following: boundaries of messages that are relayed each from within the end of the one before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.half: IRelayedHalf | None = None
        self.feeding: Side | None = None
        self.ended: list[EndReason] = []
        self.forgetful = False
        self.passes_eof = True
        self.following: list[IBoundary] = []
        self.other: Side | None = None
        self._pause_at: int | None = None

    def pause_at(self, size: int) -> None:
        """Pause within ``dataReceived``, as a parser does that has seen enough, once ``size`` bytes have come."""
        self._pause_at = size

    def dataReceived(self, data: bytes) -> None:
        if self.half is not None:
            self.half.data_received(data)
            return
        super().dataReceived(data)
        if self._pause_at is not None and len(self.received) >= self._pause_at:
            self._pause_at = None
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.half is not None:
            self.half.read_closed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self.forgetful:
            return
        if self.half is not None and reason.check(ConnectionDone):
            self.half.read_closed()
        for side in (self, self.feeding):
            if side is not None:
                side.stop()

    def relay_to(self, sink: Side, relay: StreamRelay, bulk: bool, boundary: IBoundary | None = None) -> IRelayedHalf:
        """Have all that comes from now on relayed; :attr:`received` holds what came before."""
        self.other = sink
        sink.feeding = self
        told = len(self.ended)
        self.half = half = relay.relay(self.transport, sink.transport, self, bulk, boundary)
        assert len(self.ended) == told
        self._relay, self._bulk = relay, bulk
        return half

    def relay_ended(self, half: IRelayedHalf, reason: EndReason) -> None:
        assert half is self.half
        self.half = None
        self.ended.append(reason)
        if self.other is None:
            return
        if reason is EndReason.EOF and self.passes_eof:
            close_write(self.other.transport)
        if reason is EndReason.COMPLETE and self.following:
            self.relay_to(self.other, self._relay, self._bulk, self.following.pop(0))

    def stop(self) -> bytes:
        half, self.half = self.half, None
        return b"" if half is None else half.stop()

    async def ends(self) -> EndReason:
        """Wait for the observer's call."""
        await until(lambda: self.ended, "the end of the direction")
        await turns()
        (reason,) = self.ended
        return reason


@implementer(ILogObserver)
class FailureLog:
    """Collects what is logged with a traceback."""

    def __init__(self, failures: list[Failure]) -> None:
        self._failures = failures

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._failures.append(event["log_failure"])


class Line:
    """A client, an origin and what is between them."""

    def __init__(self, client: Peer, front: Side, back: Side, origin: Peer) -> None:
        self.client = client
        self.front = front
        self.back = back
        self.origin = origin

    @property
    def wires(self) -> list[Wire]:
        return [self.client, self.front, self.back, self.origin]


class Lines:
    """Makes lines and a relay, and sees that nothing of them is left in the end; use it with ``async with``.

    :param portable: relay through Twisted's transports even where the pump could.
    :param tls_client: TLS between client and front.
    :param tls_origin: TLS between back and origin.
    :param behind_haproxy: the client's connection begins with a PROXY header.
    :ivar failures: what was logged with a traceback; a test that expects some takes it out.
    """

    def __init__(
        self,
        bulk: bool = False,
        portable: bool = False,
        tls_client: bool = False,
        tls_origin: bool = False,
        behind_haproxy: bool = False,
        flush_interval: float = 0.0,
        relay: StreamRelay | None = None,
    ) -> None:
        self.bulk = bulk
        self.tls_client = tls_client
        self.tls_origin = tls_origin
        self.portable = portable or tls_client or tls_origin
        self.behind_haproxy = behind_haproxy
        if relay is None:
            relay = StreamRelay(reactor, None, None) if portable else build_relay(reactor, flush_interval)
        self.relay = relay
        self.failures: list[Failure] = []
        self._log = FailureLog(self.failures)
        self._lines: list[Line] = []
        self._ports: list[IListeningPort] = []

    async def __aenter__(self) -> Self:
        globalLogPublisher.addObserver(self._log)
        self._fronts: list[Side] = []
        self._origins: list[Peer] = []
        self._front_port = await self._listen(self._fronts, Side, self.tls_client)
        self._origin_port = await self._listen(self._origins, Peer, self.tls_origin)
        # Counted behind the first use of the reactor's listeners, which keep a descriptor in reserve.
        self._descriptors = len(os.listdir("/proc/self/fd")) - len(self._ports)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.front.stop()
            line.back.stop()
        wires = [wire for line in self._lines for wire in line.wires if not wire.gone]
        for wire in wires:
            wire.abort()
        await until(lambda: all(wire.gone for wire in wires), "the end of all connections")
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self.relay.close()
        globalLogPublisher.removeObserver(self._log)
        if kind is None:
            assert [failure.getTraceback() for failure in self.failures] == []
            await until(lambda: len(os.listdir("/proc/self/fd")) == self._descriptors, "the end of all descriptors")

    async def line(self) -> Line:
        """A client connected to a front, and a back connected to an origin; nothing is relayed yet."""
        client = await self._connect(Peer(), self._front_port, self.tls_client)
        if self.behind_haproxy:
            client.write(b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 1935\r\n")
        await until(lambda: self._fronts, "the accepted client")
        back = await self._connect(Side(), self._origin_port, self.tls_origin)
        await until(lambda: self._origins, "the accepted origin")
        front = self._fronts.pop()
        if self.behind_haproxy:
            await until(lambda: front.transport.getPeer().host == "192.0.2.1", "the header")
        line = Line(client, front, back, self._origins.pop())
        for ends in ((client, front), (back, line.origin)):
            # Whoever stops reading during a TLS handshake stops it, too; so see that it is over.
            for one, other in (ends, ends[::-1]):
                one.write(b"!")
                await until(functools.partial(len, other.received), "the first byte")
                other.received.clear()
        self._lines.append(line)
        return line

    async def relayed(self, there: bool = True, back: bool = False) -> Line:
        """A line that is relayed from the client to the origin (``there``), or ``back``, or both."""
        line = await self.line()
        for wanted, source, sink in ((there, line.front, line.back), (back, line.back, line.front)):
            if wanted:
                source.transport.pauseProducing()
                source.relay_to(sink, self.relay, self.bulk)
        return line

    async def _listen(self, accepted: list[WireT], wire: type[WireT], tls: bool) -> int:
        def accept() -> WireT:
            accepted.append(wire())
            return accepted[-1]

        factory = Factory.forProtocol(accept)
        factory.noisy = False
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if self.behind_haproxy and wire is Side:
            endpoint = proxyEndpoint(endpoint)
        if tls:
            key, certificate = localhost_credentials()
            # Its annotations want pyOpenSSL's own classes, which pyOpenSSL has deprecated.
            make_options: Any = ssl.CertificateOptions
            options = make_options(privateKey=key, certificate=certificate)
            port = await endpoint.listen(TLSMemoryBIOFactory(options, False, factory))
        else:
            port = await endpoint.listen(factory)
        self._ports.append(port)
        number: int = port.getHost().port
        return number

    async def _connect(self, wire: WireT, port: int, tls: bool) -> WireT:
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        if tls:
            authority = ssl.Certificate.loadPEM(pem_of_certificate())
            endpoint = wrapClientTLS(ssl.optionsForClientTLS("localhost", trustRoot=authority), endpoint)
        await connectProtocol(endpoint, wire)
        return wire
