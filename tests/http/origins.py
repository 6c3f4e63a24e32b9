"""An HTTP origin that answers as a test has scripted it, and an HTTP client whose every byte a test decides.

Both have their own reading of HTTP: they share no code with what they test. Each piece of an answer is sent in a turn
of the reactor of its own, and a :class:`Gate` holds an answer back for as long as the test wants::

    async with ScriptedHttpOrigin(reactor) as origin:
        gate = Gate()
        origin.answer(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nab", gate, b"cd")
        origin.answer(b"HTTP/1.1 200 OK\\r\\n\\r\\nuntil the end", Ending.FIN)
        origin.answer(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n", Endless(b"1\\r\\na\\r\\n"))
        ...
        request = await origin.asked()  # the first
        gate.open()
        await origin.closed(1)

Silence is a gate that is never opened. A request for which nothing was scripted gets :attr:`ScriptedHttpOrigin.always`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, TypeAlias

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.balancer.model import Origin
from srsproxy.interfaces import IStreamConnection
from tests.asynchronous import until
from tests.rtmp_client import RawClient

HOST: Final = "127.0.0.1"

_END_OF_HEAD: Final = b"\r\n\r\n"

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or of a response.

    :ivar first: its first line.
    :ivar fields: in their order, names as they were sent.
    """

    first: bytes
    fields: Fields

    def field(self, name: bytes) -> bytes | None:
        """The value of a field that there must be at most once; names are compared in any case."""
        values = self.all(name)
        assert len(values) <= 1, f"{name!r} more than once: {values}"
        return values[0] if values else None

    def all(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name."""
        return [value for field, value in self.fields if field.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Request(Head):
    """A request as it has come.

    :ivar connection: the one that it came on; equal for requests that shared one.
    """

    body: bytes
    connection: OriginConnection

    @property
    def method(self) -> bytes:
        """The first word."""
        return self.first.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The second word."""
        return self.first.split(b" ")[1]


@dataclass(frozen=True, slots=True)
class Response(Head):
    """A whole response; its body without any framing."""

    body: bytes

    @property
    def status(self) -> int:
        """The number in the first line."""
        return status_of(self)


def status_of(head: Head) -> int:
    """The number in the first line of a response."""
    return int(head.first.split(b" ")[1])


def parse_head(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The first line and the fields of a head, given without the blank line at its end."""
    first, *lines = data.split(b"\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon, f"no field: {line!r}"
        fields.append((name, value.strip(b" \t")))
    return first, fields


# The origin


class Gate:
    """A place in an answer where it waits until the test lets it go on.

    :ivar reached: whether an answer has come to it.
    """

    def __init__(self) -> None:
        self.reached = False
        self._opened = False
        self._waiting: list[Callable[[], None]] = []

    def open(self) -> None:
        """Let go on whoever is here or comes later."""
        self._opened = True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def pass_through(self, go_on: Callable[[], None]) -> None:
        """An answer is here."""
        self.reached = True
        if self._opened:
            go_on()
        else:
            self._waiting.append(go_on)


@implementer(IPullProducer)
class Endless:
    """The same bytes over and over, as fast as the peer reads them, until its connection ends or the test says so.

    :ivar sent: bytes that the connection has taken; its buffers hold a small part of them.
    """

    def __init__(self, piece: bytes) -> None:
        self.sent = 0
        self._piece = piece
        self._go_on: Callable[[], None] | None = None

    def begin(self, transport: IStreamConnection, go_on: Callable[[], None]) -> None:
        """An answer has come to this."""
        self._transport = transport
        self._go_on = go_on
        transport.registerProducer(self, False)

    def end(self) -> None:
        """Go on with what follows, behind a whole piece."""
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._transport.unregisterProducer()
            go_on()

    def resumeProducing(self) -> None:
        self._transport.write(self._piece)
        self.sent += len(self._piece)

    def stopProducing(self) -> None:
        self._go_on = None


class Ending(Enum):
    """How an answer ends if the connection is not kept."""

    FIN = auto()
    RST = auto()


Step: TypeAlias = bytes | Gate | Endless | Ending


class OriginConnection(Protocol):
    """One connection to a :class:`ScriptedHttpOrigin`.

    :ivar received: every byte that has come.
    :ivar lost: how it ended: ``ConnectionDone`` for a FIN, ``ConnectionLost`` for a reset; ``None`` while it is open.
    """

    transport: IStreamConnection

    def __init__(self, origin: ScriptedHttpOrigin) -> None:
        self._origin = origin
        self._unread = b""
        self._unanswered = 0
        self._steps: deque[Step] | None = None
        self.received = bytearray()
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        while self._read_request():
            self._unanswered += 1
        if self._steps is None:
            self._answer_next()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def _read_request(self) -> bool:
        data, end, rest = self._unread.partition(_END_OF_HEAD)
        if not end:
            return False
        first, fields = parse_head(data)
        length = int(Head(first, fields).field(b"Content-Length") or 0)
        if len(rest) < length:
            return False
        self._unread = rest[length:]
        self._origin.requests.append(Request(first, fields, rest[:length], self))
        return True

    def _answer_next(self) -> None:
        self._steps = None
        if self._unanswered:
            self._unanswered -= 1
            self._steps = deque(self._origin.next_answer())
            self._take_step()

    def _take_step(self) -> None:
        if self.lost is not None:
            return
        if not self._steps:
            self._answer_next()
            return
        match self._steps.popleft():
            case bytes(piece):
                self.transport.write(piece)
                self._origin.reactor.callLater(0, self._take_step)
            case Gate() as gate:
                gate.pass_through(self._take_step)
            case Endless() as endless:
                endless.begin(self.transport, self._take_step)
            case Ending.FIN:
                self.transport.loseConnection()
            case Ending.RST:
                self.transport.abortConnection()


class ScriptedHttpOrigin:
    """See the module's text; use it with ``async with``.

    :ivar requests: all that have come, on any connection.
    :ivar connections: all that there ever were.
    :ivar always: what a request is answered with when nothing else was scripted; silence if not set.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.requests: list[Request] = []
        self.connections: list[OriginConnection] = []
        self.always: Sequence[Step] = (Gate(),)
        self._answers: deque[Sequence[Step]] = deque()

    async def __aenter__(self) -> ScriptedHttpOrigin:
        factory = Factory.forProtocol(self._accept)
        factory.noisy = False
        self._listening = self.reactor.listenTCP(0, factory, interface=HOST)
        self.port: int = self._listening.getHost().port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await maybeDeferred(self._listening.stopListening)
        for connection in self.connections:
            if connection.lost is None:
                connection.transport.abortConnection()
        await self.closed(len(self.connections))

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return sum(connection.lost is None for connection in self.connections)

    @property
    def registration(self) -> Origin:
        """What its heartbeats would say."""
        address = f"{HOST}:{self.port}"
        return Origin(ip=HOST, server=f"scripted-{self.port}", service="service", pid="1", http=(address,))

    def answer(self, *steps: Step) -> None:
        """The answer to the next request that has none yet, on whichever connection it comes. The connection is kept
        behind it, unless the last step is an :class:`Ending`."""
        self._answers.append(steps)

    def next_answer(self) -> Sequence[Step]:
        """The steps for a request that has come."""
        return self._answers.popleft() if self._answers else self.always

    async def asked(self, count: int = 1) -> Request:
        """The request with this number, counted from 1, when it has come as a whole."""
        await until(self.reactor, lambda: len(self.requests) >= count, f"{count} requests")
        return self.requests[count - 1]

    async def closed(self, count: int = 1) -> None:
        """Wait until so many connections have ended."""

        def ended() -> bool:
            return len(self.connections) - self.open_connections >= count

        await until(self.reactor, ended, f"{count} connections closed")

    def _accept(self) -> OriginConnection:
        self.connections.append(OriginConnection(self))
        return self.connections[-1]


# The client


class RawHttpClient(RawClient):
    """One connection of an HTTP client. What it inherits sends bytes as they are, half-closes, resets and pauses; what
    it reads is consumed in its order.

    Reading raises :class:`tests.rtmp_client.PeerClosed` if the connection ends before what was awaited is whole, and
    :class:`tests.rtmp_client.NothingCame` if that does not come.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._consumed = 0

    @property
    def unread(self) -> bytes:
        """What has come and was not consumed."""
        return bytes(self.received[self._consumed :])

    @property
    def closed(self) -> bool:
        """Whether the connection has ended; :attr:`lost` says how."""
        return self.lost is not None

    def request(self, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> None:
        """Send a request. ``fields``: further lines of its head, without line ends; ``Host`` replaces the usual one."""
        lines = list(fields)
        if not any(line.lower().startswith("host:") for line in lines):
            lines.insert(0, "Host: test")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines])
        self.send(head.encode("utf-8", "surrogateescape") + _END_OF_HEAD + body)

    async def get(self, target: str, *fields: str) -> Response:
        """Send a GET request, and read the whole response."""
        self.request(target, *fields)
        return await self.response()

    async def read(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        await self._wait_until(lambda: len(self.received) - self._consumed >= size, f"{size} more bytes")
        return self._consume(size)

    async def line(self, ending: bytes = b"\r\n") -> bytes:
        """What comes before the next line end; both are consumed."""
        await self._wait_until(lambda: self.received.find(ending, self._consumed) >= 0, f"{ending!r}")
        line = self._consume(self.received.index(ending, self._consumed) - self._consumed)
        self._consume(len(ending))
        return line

    async def head(self) -> Head:
        """The head of the next response."""
        return Head(*parse_head(await self.line(_END_OF_HEAD)))

    async def chunk(self) -> bytes:
        """The next chunk of a body; empty for the last one, with which the trailers are consumed."""
        size = int((await self.line()).partition(b";")[0], 16)
        data = await self.read(size)
        if size:
            assert await self.read(2) == b"\r\n"
        else:
            while await self.line():
                continue
        return data

    async def chunked(self, size: int) -> bytes:
        """Whole chunks with at least ``size`` bytes in all, or up to the end of the body if that has fewer."""
        data = b""
        while len(data) < size and (chunk := await self.chunk()):
            data += chunk
        return data

    async def response(self, *, to_head_request: bool = False) -> Response:
        """The next response, whose framing must be plain; that may be an interim one (1xx)."""
        head = await self.head()
        status = status_of(head)
        length, coding = head.field(b"Content-Length"), head.field(b"Transfer-Encoding")
        body = b""
        if to_head_request or status < 200 or status in (204, 304):
            pass
        elif coding is not None:
            assert coding.lower() == b"chunked", coding
            assert length is None, "a length besides chunks"
            while chunk := await self.chunk():
                body += chunk
        elif length is not None:
            body = await self.read(int(length))
        else:
            await self.wait_closed()
            body = self._consume(len(self.received) - self._consumed)
        return Response(head.first, head.fields, body)

    def _consume(self, size: int) -> bytes:
        begin, self._consumed = self._consumed, self._consumed + size
        return bytes(self.received[begin : self._consumed])
