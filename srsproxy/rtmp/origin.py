"""The origin's side of an RTMP connection: handshake, prelude, and its answers (sans-I/O).

Theory of operation. One :class:`OriginNegotiation` lives as long as the connection to the origin::

    HANDSHAKE -> DIALOGUE -> WATCHING -> (player: MediaBegins, the rest is relayed raw)

The origin gets the client's own bytes. Its answers up to the ``_result`` of the client's last createStream have been
given to the client already and are swallowed (DIALOGUE); from that message boundary on, the client gets the origin's
bytes unchanged (wire-facts 2.6). They are still parsed while they are few: for a player until media begins, for a
publisher all along, because that is where a released stream shows.
"""

from __future__ import annotations

from enum import Enum, auto

from srsproxy.errors import OriginRejected, PeerError
from srsproxy.rtmp.events import (
    Action,
    Answer,
    MediaBegins,
    OriginEvent,
    OriginReady,
    PublishedAgain,
    PublishReleased,
    Started,
    StreamNamed,
    ToldRejection,
)
from srsproxy.rtmp.handshake import ClientHandshake, real_address_prefix
from srsproxy.rtmp.message import MEDIA, Command, Message, MessageType, parse_command
from srsproxy.rtmp.recording import RecordingReader


class _State(Enum):
    HANDSHAKE = auto()
    DIALOGUE = auto()
    WATCHING = auto()
    RAW = auto()


class OriginNegotiation:
    """See the module's text. Send :meth:`start` and what :meth:`receive_data` returns; drain :meth:`next_event`.

    :param real_address: the client's IPv4 address for SRS's real-address prefix, or ``None`` for no prefix.
    :param now_ms: milliseconds, for the handshake's time field only.
    :param random: 1528 random bytes for the handshake.
    :param max_message_size: bytes of one message that is parsed.
    """

    def __init__(
        self, named: StreamNamed, *, real_address: str | None, now_ms: int, random: bytes, max_message_size: int
    ) -> None:
        self._action = named.action
        self._prelude = named.prelude
        self._create_stream_tid = named.create_stream_tid
        self._prefix = real_address_prefix(real_address) if real_address is not None else b""
        self._handshake: ClientHandshake | None = ClientHandshake(now_ms=now_ms, random=random)
        self._input = RecordingReader(max_message_size=max_message_size)
        self._state = _State.HANDSHAKE
        self._pending: list[OriginEvent] = []
        self._answered = False
        self._started = False
        self._released = False

    @property
    def handshaken(self) -> bool:
        """The origin has completed its part of the handshake: it is alive and speaks RTMP."""
        return self._handshake is None

    def start(self) -> bytes:
        """The first bytes for the origin."""
        return self._prefix + (self._handshake.start() if self._handshake is not None else b"")

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the origin; returns bytes for it.

        :raises PeerError: this is no RTMP handshake.
        """
        reply = b""
        if self._handshake is not None:
            reply = self._handshake.receive_data(data)
            if not self._handshake.done:
                return reply
            data = self._handshake.unconsumed
            self._handshake = None
            self._state = _State.DIALOGUE
            reply += self._prelude
            self._prelude = b""
        self._input.receive_data(data)
        return reply

    def next_event(self) -> OriginEvent | None:
        """What the origin says, or ``None`` if more bytes are needed or the rest is for the relay.

        :raises OriginRejected: the origin refused before the client could see it.
        :raises PeerError: the origin does not speak RTMP.
        """
        while True:
            if self._pending:
                return self._pending.pop(0)
            if self._state in (_State.HANDSHAKE, _State.RAW):
                return None
            try:
                message = self._input.next_message()
            except PeerError:
                if self._state is _State.DIALOGUE or self._action is Action.PUBLISH:
                    raise
                # What SRS sends to players of a publisher with a chunk stream id above 63 does not parse, and a large
                # first frame may be over our limit. Neither is ours to judge: relay it.
                return self._go_raw()
            if message is None:
                return None
            command = _command(message)
            if self._state is _State.DIALOGUE:
                self._dialogue(message, command)
            elif self._action is Action.PLAY and self._is_media(message):
                return self._go_raw()
            else:
                self._pending.append(Answer(self._input.take(message), self._input.chunk_size))
                if command is not None:
                    self._watch(command)

    def _dialogue(self, message: Message, command: Command | None) -> None:
        """Swallow answers that the client has had, up to the ``_result`` of its last createStream."""
        self._input.take(message)
        if command is not None:
            self._hear(command)
        # An origin that interleaves chunk streams may be in the middle of another message, of which the client must not
        # see half.
        if self._answered and self._input.at_boundary:
            self._state = _State.WATCHING
            self._pending.append(OriginReady(self._input.chunk_size))

    def _hear(self, command: Command) -> None:
        if command.name == "_error" or (command.name == "onStatus" and _status(command).get("level") == "error"):
            status = _status(command)
            code, description = status.get("code", command.name), status.get("description", "no reason given")
            raise OriginRejected(f"{code} ({description})", code)
        if command.name == "_result" and command.transaction_id == self._create_stream_tid and _is_stream_id(command):
            self._answered = True

    def _watch(self, command: Command) -> None:
        """Events behind an answer that has been passed on."""
        status = _status(command)
        code = status.get("code", "")
        if command.name == "onStatus" and status.get("level") == "error":
            self._pending.append(ToldRejection(code, status.get("description", "")))
        elif command.name == "onStatus" and code in ("NetStream.Publish.Start", "NetStream.Play.Start"):
            self._pending.append(PublishedAgain() if self._started and self._action is Action.PUBLISH else Started())
            self._started = True
        elif self._action is Action.PUBLISH and self._started and not self._released and _releases(command):
            self._released = True
            self._pending.append(PublishReleased())

    def _is_media(self, message: Message) -> bool:
        if message.type in MEDIA:
            return True
        # |RtmpSampleAccess belongs to the answer to play; any other data message is the stream's own metadata.
        return message.type == MessageType.DATA_AMF0 and b"|RtmpSampleAccess" not in message.payload[:24]

    def _go_raw(self) -> MediaBegins:
        self._state = _State.RAW
        return MediaBegins(self._input.take_all())


def _command(message: Message) -> Command | None:
    """The command in a message, or ``None`` for any other message and for commands that do not parse."""
    if message.type not in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3):
        return None
    try:
        return parse_command(message)
    except PeerError:
        return None


def _status(command: Command) -> dict[str, str]:
    """The text properties of the information object of onStatus, _error and their like."""
    for argument in reversed(command.arguments):
        if isinstance(argument, dict):
            return {name: value for name, value in argument.items() if isinstance(value, str)}
    return {}


def _releases(command: Command) -> bool:
    """A flash style republish leaves no other trace than the answer to its createStream."""
    return command.name == "onFCUnpublish" or (command.name == "_result" and _is_stream_id(command))


def _is_stream_id(command: Command) -> bool:
    """Only createStream is answered with a number."""
    return len(command.arguments) > 1 and isinstance(command.arguments[1], float)
