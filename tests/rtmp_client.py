"""An RTMP client whose every step a test decides; it speaks to origins and to the proxy alike.

What it sends goes out at once, whether it makes sense or not. What it receives is parsed and kept in
:attr:`RtmpTestClient.messages`; methods that wait for something consume messages in their order, up to the one that
they waited for::

    client = await RtmpTestClient.connect(reactor, "127.0.0.1", port)
    status = await client.publish("live", "a")
    assert status_code(status) == "NetStream.Publish.Start"
    sent = client.send_media(3)

The steps of such a dialogue can be taken one by one, to take them wrongly: :meth:`~RtmpTestClient.handshake`,
:meth:`~RtmpTestClient.connect_app`, :meth:`~RtmpTestClient.call`, :meth:`~RtmpTestClient.send_command`,
:meth:`~RtmpTestClient.send`. Whatever does not come within :data:`PATIENCE` raises :class:`NothingCame`, and whatever
cannot come any more, because the peer has closed the connection, raises :class:`PeerClosed`; both tell what did come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Self

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from srsproxy.errors import PeerError
from srsproxy.interfaces import IStreamConnection
from srsproxy.rtmp.amf0 import AmfValue, EcmaArray, encode
from srsproxy.rtmp.chunk import ChunkReader, ChunkWriter
from srsproxy.rtmp.handshake import PACKET_SIZE, RANDOM_SIZE, ClientHandshake
from srsproxy.rtmp.message import (
    Command,
    Message,
    MessageType,
    UserControl,
    encode_command,
    parse_command,
    set_chunk_size,
    user_control,
)

Style = Literal["fmle", "haivision", "flash"]
"""How a publisher names its stream (wire-facts 2.4)."""

PATIENCE: Final = 10.0
"""Seconds after which something awaited is taken for never coming."""

HANDSHAKE_SIZE: Final = 1 + 2 * PACKET_SIZE
"""Bytes of S0, S1 and S2, and of C0, C1 and C2."""

FRAME_INTERVAL: Final = 40
"""Milliseconds between the frames of :meth:`RtmpTestClient.send_media`."""

_CONTROL_CSID = 2
_COMMAND_CSID = 3
_AUDIO_CSID = 4
_VIDEO_CSID = 6
_STREAM_CSID = 8
_MAX_MESSAGE_SIZE = 0xFFFFFF

SEQUENCE_HEADERS: Final = (
    (
        MessageType.VIDEO,
        bytes.fromhex("1700000000 0142c00affe100166742c00ad91ec04400000300040000 0300c83c48992001000568cb83cb20"),
    ),
    (MessageType.AUDIO, bytes.fromhex("af00 1208")),
)
"""As x264 and ffmpeg write them: H.264 baseline of 16x16 pixels, and AAC-LC with 44.1 kHz, mono."""


class PeerClosed(Exception):
    """The connection ended before what was awaited came."""


class NothingCame(Exception):
    """What was awaited did not come within :data:`PATIENCE`."""


def status_of(command: Command) -> dict[str, AmfValue]:
    """The information object of an ``onStatus``, ``onFCPublish`` or their like; empty if it has none."""
    objects = (argument for argument in reversed(command.arguments) if isinstance(argument, dict))
    return next(objects, {})


def status_code(command: Command) -> str:
    """The ``code`` in a command's information object; empty if it has none."""
    return str(status_of(command).get("code", ""))


def is_command(message: Message) -> bool:
    """Whether a message is a command."""
    return message.type in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3)


def is_media(message: Message) -> bool:
    """Whether a message is audio or video."""
    return message.type in (MessageType.AUDIO, MessageType.VIDEO)


def media_frame(number: int) -> tuple[MessageType, bytes]:
    """The frame with this number of an endless stream in which all frames differ: video, with a key frame in every ten,
    and audio by turns."""
    if number % 2:
        return MessageType.AUDIO, b"\xaf\x01" + b"audio %08d" % number
    nal_unit = b"\x65" if number % 20 == 0 else b"\x41"
    nal_unit += b"video %08d" % number
    first = b"\x17" if number % 20 == 0 else b"\x27"
    return MessageType.VIDEO, first + b"\x01\x00\x00\x00" + len(nal_unit).to_bytes(4, "big") + nal_unit


class RawClient(Protocol):
    """One TCP connection, and the bytes that come. Made by :meth:`connect`.

    :ivar received: every byte that the peer has sent.
    :ivar lost: how the connection ended, ``None`` while it is open.
    """

    transport: IStreamConnection

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.received = bytearray()
        self.lost: Failure | None = None
        self._waiting: list[Deferred[None]] = []

    @classmethod
    async def connect(cls, reactor: Any, host: str, port: int) -> Self:
        """Connect over TCP; nothing is sent."""
        client = cls(reactor)
        await connectProtocol(HostnameEndpoint(reactor, host, port, timeout=PATIENCE), client)
        return client

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(reason)

    def _end(self, reason: Failure) -> None:
        if self.lost is None:
            self.lost = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    def pause(self) -> None:
        """Read nothing more, so that the peer's sending comes to a stop."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def close_write(self) -> None:
        """Send FIN; what the peer sends is still read."""
        self.transport.loseWriteConnection()

    async def close(self) -> None:
        """Close in an orderly way, and wait until it is done."""
        self.transport.loseConnection()
        await self.wait_closed()

    async def abort(self) -> None:
        """Reset the connection, and wait until it is gone."""
        self.transport.abortConnection()
        await self.wait_closed()

    async def wait_closed(self) -> bool:
        """Wait for the connection's end; whether that was orderly (FIN, not a reset)."""
        await self._wait_until(lambda: self.lost is not None, "end of the connection")
        return self.lost is not None and self.lost.check(ConnectionDone) is not None

    async def wait_received(self, size: int) -> bytes:
        """The first ``size`` bytes that the peer sent."""
        await self._wait_until(lambda: len(self.received) >= size, f"{size} bytes")
        return bytes(self.received[:size])

    async def _wait_until(self, satisfied: Callable[[], bool], what: str) -> None:
        async def wait() -> None:
            while not satisfied():
                if self.lost is not None:
                    raise PeerClosed(f"waiting for {what}; {self._told()}") from self.lost.value
                waiter: Deferred[None] = Deferred()
                self._waiting.append(waiter)
                await waiter

        try:
            await Deferred.fromCoroutine(wait()).addTimeout(PATIENCE, self._reactor)
        except DeferredTimeout:
            raise NothingCame(f"no {what} within {PATIENCE:g} s; {self._told()}") from None

    def _told(self) -> str:
        """What the peer has said, for errors."""
        return f"{len(self.received)} bytes came"


class RtmpTestClient(RawClient):
    """See the module's text.

    :ivar messages: every message that the peer has sent, consumed by a method that waits or not.
    :ivar chunk_writer: writes what the methods send; :meth:`set_chunk_size` keeps it right.
    :ivar frames_sent: how many frames :meth:`send_media` has sent.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.messages: list[Message] = []
        self.chunk_writer = ChunkWriter()
        self.frames_sent = 0
        self._reader = ChunkReader(max_message_size=_MAX_MESSAGE_SIZE)
        self._consumed = 0
        self._last_transaction = 0
        self._shaken_hands = False
        self._connected_app: str | None = None

    def dataReceived(self, data: bytes) -> None:
        chunks_begin = max(0, HANDSHAKE_SIZE - len(self.received))
        try:
            self._reader.receive_data(data[chunks_begin:])
            while (message := self._reader.next_message()) is not None:
                self.messages.append(message)
        except PeerError as error:
            self._end(Failure(error))
            self.transport.abortConnection()
        super().dataReceived(data)

    # Sending

    def send_message(self, csid: int, type: int, msid: int, payload: bytes, timestamp: int = 0) -> None:
        """Send one message, with a full header."""
        self.send(self.chunk_writer.write(csid, type, msid, payload, timestamp))

    def send_command(
        self, name: str, transaction_id: float, *arguments: AmfValue, csid: int = _COMMAND_CSID, msid: int = 0
    ) -> None:
        """Send one command. ``arguments`` begins with the command object, usually ``None``."""
        self.send_message(csid, MessageType.COMMAND_AMF0, msid, encode_command(name, transaction_id, *arguments))

    def set_chunk_size(self, size: int) -> None:
        """Announce a chunk size and use it from here on."""
        self.send_message(_CONTROL_CSID, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(size))
        self.chunk_writer.chunk_size = size

    def send_metadata(self, **properties: AmfValue) -> bytes:
        """Send ``@setDataFrame onMetaData``; returns what players get: the payload without ``@setDataFrame``."""
        payload = encode("onMetaData", EcmaArray({"width": 16.0, "height": 16.0, **properties}))
        self.send_message(_AUDIO_CSID, MessageType.DATA_AMF0, 1, encode("@setDataFrame") + payload)
        return payload

    def send_sequence_headers(self) -> list[bytes]:
        """Send the sequence headers of H.264 and AAC; returns their payloads."""
        return [self._send_frame(kind, payload) for kind, payload in SEQUENCE_HEADERS]

    def send_media(self, count: int) -> list[bytes]:
        """Send the next ``count`` frames of :func:`media_frame`; returns their payloads."""
        payloads = []
        for _ in range(count):
            payloads.append(self._send_frame(*media_frame(self.frames_sent)))
            self.frames_sent += 1
        return payloads

    def _send_frame(self, kind: MessageType, payload: bytes) -> bytes:
        csid = _VIDEO_CSID if kind is MessageType.VIDEO else _AUDIO_CSID
        self.send_message(csid, kind, 1, payload, self.frames_sent * FRAME_INTERVAL)
        return payload

    # Waiting

    async def next_message(self) -> Message:
        """The next message, whatever it is."""
        return await self.read(lambda message: True, "a message")

    async def read(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The next message that is ``wanted``; those before it are consumed.

        :param what: names it in errors.
        """
        found: list[Message] = []

        def find() -> bool:
            for message in self._unconsumed():
                if wanted(message):
                    found.append(message)
                    return True
            return False

        await self._wait_until(find, what)
        return found[0]

    async def read_until(self, name: str, transaction_id: float | None = None) -> Command:
        """The next command of this name, and of this transaction id if one is given."""
        what = name if transaction_id is None else f"{name} to transaction {transaction_id:g}"

        def matches(message: Message) -> bool:
            if not is_command(message):
                return False
            command = parse_command(message)
            return command.name == name and transaction_id in (None, command.transaction_id)

        return parse_command(await self.read(matches, what))

    async def read_status(self) -> Command:
        """The next ``onStatus``, whatever it says."""
        return await self.read_until("onStatus")

    async def read_media(self, count: int) -> list[Message]:
        """The next ``count`` audio and video messages, sequence headers included."""
        return [await self.read(is_media, f"{count} media messages") for _ in range(count)]

    async def read_to_pong(self) -> list[Message]:
        """Ping the peer; returns what came before its answer, so that an empty list proves that it said nothing."""
        begin = self._consumed
        self.send_message(_CONTROL_CSID, MessageType.USER_CONTROL, 0, user_control(UserControl.PING_REQUEST, 1))
        pong = user_control(UserControl.PING_RESPONSE, 1)
        await self.read(lambda message: message.payload == pong, "the answer to a ping")
        return self.messages[begin : self._consumed - 1]

    def _unconsumed(self) -> Iterator[Message]:
        """The messages that have come, each consumed as it is yielded."""
        while self._consumed < len(self.messages):
            self._consumed += 1
            yield self.messages[self._consumed - 1]

    def _told(self) -> str:
        said = [parse_command(message) for message in self.messages if is_command(message)]
        commands = ", ".join(f"{command.name} {status_code(command)}".strip() for command in said)
        return f"{super()._told()}, {len(self.messages)} messages, commands: {commands or 'none'}"

    # Dialogues

    async def handshake(self) -> None:
        """The simple handshake, to its end."""
        handshake = ClientHandshake(now_ms=0, random=bytes(RANDOM_SIZE))
        self.send(handshake.start())
        self.send(handshake.receive_data(await self.wait_received(HANDSHAKE_SIZE)))
        self._shaken_hands = True

    async def call(self, name: str, *arguments: AmfValue, csid: int = _COMMAND_CSID, msid: int = 0) -> Command:
        """Send a command with a new transaction id; returns the ``_result`` to it. ``arguments`` follow the ``null``
        in place of a command object."""
        transaction_id = self.next_transaction()
        self.send_command(name, transaction_id, None, *arguments, csid=csid, msid=msid)
        return await self.read_until("_result", transaction_id)

    def next_transaction(self) -> float:
        """A transaction id that this client has not used."""
        self._last_transaction += 1
        return float(self._last_transaction)

    async def connect_app(self, app: str, tc_url: str | None = None, **properties: AmfValue) -> Command:
        """Shake hands if that was not done, and connect to ``app``; returns the answer.

        :param tc_url: ``rtmp://127.0.0.1/<app>`` if not given.
        :param properties: more properties of the command object, or others.
        """
        if not self._shaken_hands:
            await self.handshake()
        self._connected_app = app
        command_object: dict[str, AmfValue] = {
            "app": app,
            "type": "nonprivate",
            "flashVer": "FMLE/3.0 (compatible; srsproxy tests)",
            "tcUrl": f"rtmp://127.0.0.1/{app}" if tc_url is None else tc_url,
            **properties,
        }
        self.send_command("connect", self.next_transaction(), command_object)
        return await self.read_until("_result")

    async def publish(self, app: str, name: str, style: Style = "fmle", tc_url: str | None = None) -> Command:
        """Publish a stream, after connecting if that was not done; returns the ``onStatus``, whatever it says.

        :raises PeerClosed: the peer refused without a word.
        """
        await self._connect_once(app, tc_url)
        await self.name_stream(name, style)
        return await self.send_publish(name)

    async def name_stream(self, name: str, style: Style = "fmle") -> None:
        """All that a publisher says before ``publish``, with the answers."""
        if style == "fmle":
            await self.call("releaseStream", name)
            await self.call("FCPublish", name)
        await self.call("createStream")
        if style == "haivision":
            await self.call("FCPublish", name)

    async def send_publish(self, name: str) -> Command:
        """The ``publish`` command; returns the ``onStatus``, whatever it says."""
        self.send_command("publish", self.next_transaction(), None, name, "live", csid=_STREAM_CSID, msid=1)
        return await self.read_status()

    async def unpublish(self, name: str) -> Command:
        """FCUnpublish and deleteStream, as FMLE-style publishers end; returns the ``onFCUnpublish``."""
        self.send_command("FCUnpublish", self.next_transaction(), None, name)
        answer = await self.read_until("onFCUnpublish")
        await self.call("deleteStream", 1.0)
        return answer

    async def play(self, app: str, name: str, *arguments: AmfValue, tc_url: str | None = None) -> Command:
        """Play a stream, after connecting if that was not done; returns the ``onStatus`` behind Play.Reset.

        :param arguments: what follows the name in the command: start, duration, reset.
        :raises PeerClosed: the peer refused without a word.
        """
        await self._connect_once(app, tc_url)
        await self.call("createStream")
        self.send_command("play", self.next_transaction(), None, name, *arguments, csid=_STREAM_CSID, msid=1)
        status = await self.read_status()
        return await self.read_status() if status_code(status) == "NetStream.Play.Reset" else status

    async def _connect_once(self, app: str, tc_url: str | None) -> None:
        if self._connected_app is None:
            await self.connect_app(app, tc_url)
        elif self._connected_app != app:
            raise ValueError(f"this client is connected to {self._connected_app}, not to {app}")
