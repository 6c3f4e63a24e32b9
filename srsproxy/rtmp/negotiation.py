"""The client's side of an RTMP connection: what it says until its stream is known (sans-I/O).

Theory of operation. One :class:`ClientNegotiation` lives as long as the client's connection::

    HANDSHAKE -> CONNECT -> IDENTIFY -> NAMED -> WATCHING -+-> RELEASED (a player wants another stream) -+
                               ^                           +-> RAW (a publisher's media has begun) ------+
                               |                                                                         |
                               +------------------------------ resume() ---------------------------------+

Until the stream is named, everything is answered here as SRS would answer it (wire-facts 2.2, 2.4), and recorded. The
origin then gets the *prelude*: the recorded bytes, verbatim, so that no chunk stream state differs between what the
client wrote and what the origin reads (wire-facts 2.6). What follows is parsed here on its way, message by message: a
player's few words all along, to see it ask for another stream; a publisher's until its media begins, because its last
SetChunkSize often comes that late. From there on a publisher is relayed without parsing.

When a connection changes its stream (:meth:`ClientNegotiation.resume`), the next origin gets a prelude made of the
recorded ``connect``, the client's chunk size, and the commands of this round written anew (every message with a full
header): the old origin has seen the bytes that a verbatim copy would refer to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from srsproxy import __version__
from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp import message as rtmp
from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, EcmaArray, Limits
from srsproxy.rtmp.chunk import DEFAULT_CHUNK_SIZE, MIN_CHUNK_SIZE, ChunkWriter
from srsproxy.rtmp.events import Action, ClientEvent, Forward, MediaBegins, StreamNamed, StreamReleased
from srsproxy.rtmp.handshake import ServerHandshake
from srsproxy.rtmp.message import Command, Message, MessageType, UserControl
from srsproxy.rtmp.recording import RecordingReader
from srsproxy.streamkey import StreamKey, from_rtmp

WINDOW_SIZE = 2_500_000
"""Acknowledgement window and peer bandwidth in bytes, as SRS announces them."""

ANNOUNCED_CHUNK_SIZE = 60_000
"""Bytes; what SRS announces, so that its answers can follow ours unchanged."""

STREAM_ID = 1
"""The only message stream id that SRS ever hands out."""

MAX_CREATE_STREAMS = 3
"""SRS closes at the fourth createStream before a stream is named."""

CREATE_STREAM_TID = 1_000_003.0
"""Transaction id of a createStream of ours, for clients that named a stream without one."""

_OUR_CSID = 62
"""Chunk stream of commands of ours in the client's stead: none that clients use, so that no header state changes."""

_CONTROL_CSID = 2
_COMMAND_CSID = 3
_STATUS_CSID = 5


CLOSE_STREAM = ChunkWriter().write(
    _OUR_CSID, MessageType.COMMAND_AMF0, STREAM_ID, rtmp.encode_command("closeStream", 0.0, None)
)
"""A closeStream of ours, to have an origin end what it plays; smaller than any chunk."""


@dataclass(frozen=True, slots=True)
class NegotiationLimits:
    """Bounds on what a client may make us hold or do before its stream is served.

    :ivar message_size: bytes of one message that is parsed.
    :ivar unidentified_bytes: bytes recorded before the stream is named.
    :ivar commands: messages accepted in one round before the stream is named.
    :ivar amf: depth and number of AMF values in one command.
    """

    message_size: int
    unidentified_bytes: int
    commands: int
    amf: Limits


class _State(Enum):
    HANDSHAKE = auto()
    CONNECT = auto()
    IDENTIFY = auto()
    NAMED = auto()
    WATCHING = auto()
    RAW = auto()
    RELEASED = auto()


_PARSING = frozenset({_State.CONNECT, _State.IDENTIFY, _State.WATCHING})


class ClientNegotiation:
    """See the module's text. Feed :meth:`receive_data`, drain :meth:`next_event`, send :meth:`data_to_send`.

    :param accept_real_address: the peer is a trusted front that may announce its client's address first.
    :param now_ms: milliseconds, for the handshake's time field only.
    :param random: 1528 random bytes for the handshake.
    """

    def __init__(
        self,
        limits: NegotiationLimits,
        vhosts: frozenset[str],
        *,
        accept_real_address: bool,
        now_ms: int,
        random: bytes,
    ) -> None:
        self._limits = limits
        self._vhosts = vhosts
        self._state = _State.HANDSHAKE
        self._handshake: ServerHandshake | None = ServerHandshake(
            accept_real_address=accept_real_address, now_ms=now_ms, random=random
        )
        self._input: RecordingReader | None = None
        self._output = bytearray()
        self._writer = ChunkWriter()
        self._tc_url = ""
        self._connect = b""
        self._begin_round()
        self._client_chunk_size = DEFAULT_CHUNK_SIZE
        self._rewriter: ChunkWriter | None = None
        self._action: Action | None = None
        self._key: StreamKey | None = None
        self._held: Message | None = None
        self.real_address: str | None = None
        """The client's address as a trusted front announced it."""

    def _begin_round(self) -> None:
        self._prelude = bytearray()
        self._messages = 0
        self._fmle_name: str | None = None
        self._create_streams = 0
        self._create_stream_tid = 0.0

    @property
    def handshaken(self) -> bool:
        """The handshake is complete."""
        return self._handshake is None

    @property
    def connected(self) -> bool:
        """The client's connect was answered, so it understands status messages."""
        return bool(self._tc_url)

    def announce_chunk_size(self, size: int) -> None:
        """Tell the client the chunk size of what it will read from here on, unless it knows."""
        if size != self._writer.chunk_size:
            self._send(_CONTROL_CSID, MessageType.SET_CHUNK_SIZE, 0, rtmp.set_chunk_size(size))
            self._writer.chunk_size = size

    def chunk_size_changed(self, size: int) -> None:
        """An origin's own SetChunkSize has been passed on to the client."""
        self._writer.chunk_size = size

    def refuse(self, code: str, description: str) -> None:
        """Say why the client is not served; only to a client that is :attr:`connected`."""
        payload = rtmp.on_status("error", code, description)
        self._send(_STATUS_CSID, MessageType.COMMAND_AMF0, STREAM_ID, payload)

    def data_to_send(self) -> bytes:
        """Bytes for the client, once."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the client; not between :class:`MediaBegins` and :meth:`resume`.

        :raises PeerError: this is no RTMP handshake.
        """
        if self._handshake is not None:
            self._output += self._handshake.receive_data(data)
            if not self._handshake.done:
                return
            data = self._handshake.unconsumed
            self.real_address = self._handshake.real_address
            self._handshake = None
            self._input = self._new_input()
            self._state = _State.CONNECT
        if self._input is None:
            raise ValueError("what is relayed raw is not for the negotiation before resume()")
        self._input.receive_data(data)

    def next_event(self) -> ClientEvent | None:
        """What the client wants, or ``None``: more bytes are needed, or the caller's next step.

        :raises PeerError: the client broke the protocol or one of its limits.
        """
        if self._input is not None and self._state is _State.WATCHING and self._action is Action.PUBLISH:
            return self._watch_publisher(self._input)
        while self._input is not None and self._state in _PARSING:
            message, self._held = self._held or self._input.next_message(), None
            if message is None:
                if self._state is not _State.WATCHING:
                    self._check_recorded(self._input)
                return None
            if self._state is _State.WATCHING:
                return self._watch_player(self._input, message)
            self._messages += 1
            if self._messages > self._limits.commands:
                raise LimitExceeded(f"more than {self._limits.commands} messages before a stream was named")
            if self._state is _State.CONNECT:
                self._expect_connect(self._input, message)
            elif (named := self._identify(self._input, message)) is not None:
                return named
        return None

    def watch(self) -> None:
        """The origin has got the prelude: parse on, and say what to pass on."""
        self._state = _State.WATCHING

    def resume(self, rest: bytes = b"") -> None:
        """The client gave its stream up: expect it to name another one.

        :param rest: a publisher's bytes that have been read and not relayed. Its chunk stream is taken up at a message
            boundary with the chunk size last seen; whatever does not parse then is a peer error, and the client starts
            afresh by connecting again.
        """
        if self._input is None:
            self._input = self._new_input(self._client_chunk_size)
            self._input.receive_data(rest)
        self._begin_round()
        self._client_chunk_size = self._input.chunk_size
        self._rewriter = ChunkWriter()
        self._prelude += self._connect
        self._prelude += self._rewriter.write(
            _CONTROL_CSID, MessageType.SET_CHUNK_SIZE, 0, rtmp.set_chunk_size(self._client_chunk_size)
        )
        self._rewriter.chunk_size = self._client_chunk_size
        self._state = _State.IDENTIFY

    def _new_input(self, chunk_size: int = DEFAULT_CHUNK_SIZE) -> RecordingReader:
        return RecordingReader(
            max_message_size=self._limits.message_size, min_chunk_size=MIN_CHUNK_SIZE, chunk_size=chunk_size
        )

    def _send(self, csid: int, kind: MessageType, msid: int, payload: bytes) -> None:
        self._output += self._writer.write(csid, kind, msid, payload)

    def _command(self, name: str, transaction_id: float, *arguments: AmfValue) -> None:
        payload = rtmp.encode_command(name, transaction_id, *arguments)
        self._send(_COMMAND_CSID, MessageType.COMMAND_AMF0, 0, payload)

    def _parse(self, message: Message) -> Command | None:
        if message.type not in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3) or not message.payload:
            return None
        return rtmp.parse_command(message, limits=self._limits.amf)

    def _take(self, input_: RecordingReader, message: Message) -> bytes:
        """The bytes by which this message is passed on: verbatim to the first origin, written anew to later ones."""
        verbatim = input_.take(message)
        if self._rewriter is None:
            return verbatim
        data = self._rewriter.write(message.csid, message.type, message.msid, message.payload, message.timestamp)
        if message.type == MessageType.SET_CHUNK_SIZE:
            self._rewriter.chunk_size = rtmp.parse_set_chunk_size(message.payload)
        return data

    def _check_recorded(self, input_: RecordingReader) -> None:
        limit = self._limits.unidentified_bytes
        if len(self._prelude) + input_.recorded > limit:
            raise LimitExceeded(f"more than {limit} bytes before a stream was named")

    def _expect_connect(self, input_: RecordingReader, message: Message) -> None:
        """Messages before connect are recorded and otherwise ignored, as SRS does; OBS sets its chunk size there."""
        self._prelude += self._take(input_, message)
        command = self._parse(message)
        if command is None or command.name != "connect":
            return
        properties = command.arguments[0] if command.arguments else None
        tc_url = properties.get("tcUrl") if isinstance(properties, dict) else None
        if not isinstance(tc_url, str) or not tc_url:
            raise PeerError("connect without a tcUrl")
        self._tc_url = tc_url
        self._connect = bytes(self._prelude)
        self._state = _State.IDENTIFY
        self._answer_connect(properties.get("objectEncoding", 0.0) if isinstance(properties, dict) else 0.0)

    def _answer_connect(self, object_encoding: AmfValue) -> None:
        """The five messages of wire-facts 2.2, in SRS's order; its transaction id is 1 whatever was asked."""
        self._send(_CONTROL_CSID, MessageType.WINDOW_ACK, 0, rtmp.window_ack(WINDOW_SIZE))
        self._send(_CONTROL_CSID, MessageType.PEER_BANDWIDTH, 0, rtmp.peer_bandwidth(WINDOW_SIZE, rtmp.LIMIT_DYNAMIC))
        self.announce_chunk_size(ANNOUNCED_CHUNK_SIZE)
        server: dict[str, AmfValue] = {"fmsVer": "FMS/3,5,3,888", "capabilities": 127.0, "mode": 1.0}
        status: dict[str, AmfValue] = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "Connection succeeded",
            "objectEncoding": object_encoding,
            "data": EcmaArray({"version": "3,5,3,888", "srs_server": f"srsproxy/{__version__}"}),
        }
        self._command("_result", 1.0, server, status)
        self._command("onBWDone", 0.0, None)

    def _identify(self, input_: RecordingReader, message: Message) -> StreamNamed | None:
        """One message between connect and the name of the stream (wire-facts 1.2, 2.4)."""
        command = self._parse(message)
        named = self._obey(command) if command is not None else None
        if named is None:
            if message.type == MessageType.USER_CONTROL:
                self._answer_ping(message)
            self._prelude += self._take(input_, message)
            return None
        action, name = named
        limited = command is not None and action is Action.PLAY and _has_duration(command)
        key = from_rtmp(self._tc_url, name, self._vhosts)
        if not self._create_streams:
            # The origin serves no stream before a createStream; SRS forwarders and republishers may leave it out.
            create = rtmp.encode_command("createStream", CREATE_STREAM_TID, None)
            # Smaller than the smallest chunk, so the client's chunk size does not matter.
            writer = self._rewriter or ChunkWriter()
            self._prelude += writer.write(_OUR_CSID, MessageType.COMMAND_AMF0, 0, create)
            self._create_stream_tid = CREATE_STREAM_TID
        self._prelude += self._take(input_, message)
        self._action = action
        self._key = key
        self._closed = False
        self._state = _State.NAMED
        prelude, self._prelude = bytes(self._prelude), bytearray()
        return StreamNamed(action, key, prelude, self._create_stream_tid, limited)

    def _obey(self, command: Command) -> tuple[Action, str] | None:
        """Answer one command as SRS does, or say which stream it names.

        The name of the first releaseStream or FCPublish before createStream counts (FMLE); behind a createStream,
        FCPublish names it (Haivision), else publish or play does.
        """
        match command.name:
            case "createStream":
                self._create_streams += 1
                if self._create_streams > MAX_CREATE_STREAMS:
                    raise LimitExceeded(f"more than {MAX_CREATE_STREAMS} createStream before a stream was named")
                self._create_stream_tid = command.transaction_id
                self._command("_result", command.transaction_id, None, float(STREAM_ID))
            case "releaseStream" | "FCPublish" if not self._create_streams:
                if self._fmle_name is None:
                    self._fmle_name = _stream_name(command)
                self._command("_result", command.transaction_id, None, UNDEFINED)
            case "releaseStream" | "FCPublish" if self._fmle_name is None:
                return Action.PUBLISH, _stream_name(command)
            case "publish":
                name = _stream_name(command)
                return Action.PUBLISH, name if self._fmle_name is None else self._fmle_name
            case "play":
                return Action.PLAY, _stream_name(command)
            case name if name not in _ANSWERS and not self._create_streams and self._fmle_name is None:
                self._command("_result", command.transaction_id, None, None)
        return None

    def _answer_ping(self, message: Message) -> None:
        if message.payload[:2] == UserControl.PING_REQUEST.to_bytes(2, "big"):
            pong = UserControl.PING_RESPONSE.to_bytes(2, "big") + message.payload[2:6]
            self._send(_CONTROL_CSID, MessageType.USER_CONTROL, 0, pong)

    def _watch_publisher(self, input_: RecordingReader) -> Forward | MediaBegins | None:
        try:
            message = input_.next_message()
        except PeerError:
            # A frame over our limit, or something wrong that the origin will judge as if we were not there.
            return self._go_raw(input_)
        if message is None:
            return None
        if message.type in rtmp.MEDIA:
            return self._go_raw(input_)
        return Forward(self._take(input_, message))

    def _go_raw(self, input_: RecordingReader) -> MediaBegins:
        self._client_chunk_size = input_.chunk_size
        self._input = None
        self._state = _State.RAW
        return MediaBegins(input_.take_all())

    def _watch_player(self, input_: RecordingReader, message: Message) -> Forward | StreamReleased:
        """One message of a player whose stream is served.

        SRS ignores a second play until closeStream; we serve it, because the player means it. The same stream again is
        for its own origin to answer.
        """
        command = self._parse(message)
        if command is not None and command.name in ("play", "publish", "releaseStream", "FCPublish"):
            same = command.name == "play" and self._key == from_rtmp(self._tc_url, _stream_name(command), self._vhosts)
            if not same:
                self._held = message
                self._state = _State.RELEASED
                return StreamReleased()
        return Forward(self._take(input_, message))


_ANSWERS = frozenset({"_result", "_error", "onStatus"})
"""Commands that are answers to ours; answering them would never end."""


def _stream_name(command: Command) -> str:
    """The name that releaseStream, FCPublish, publish or play carries behind its command object."""
    name = command.arguments[1] if len(command.arguments) > 1 else None
    if not isinstance(name, str):
        raise PeerError(f"{command.name} without a stream name")
    return name


def _has_duration(play: Command) -> bool:
    """Behind name and start, play may carry a duration in milliseconds, which SRS honours."""
    duration = play.arguments[3] if len(play.arguments) > 3 else None
    return isinstance(duration, float) and duration > 0
