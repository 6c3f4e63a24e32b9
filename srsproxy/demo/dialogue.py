"""What an origin says to its RTMP clients, and when: as SRS does it (wire-facts 2.2, 2.4; sans-I/O).

Like SRS, the dialogue is one sequence of steps that waits for one command after the other, and skips what it does not
wait for. So it is written down as a generator that commands are sent to. When the client is not to be served any more,
and SRS hardly ever says why, it raises :class:`HungUp`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Protocol, TypeAlias, TypeVar

from srsproxy.errors import PeerError
from srsproxy.rtmp import message as rtmp
from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, EcmaArray, encode
from srsproxy.rtmp.message import Command, MessageType, UserControl
from srsproxy.rtmp.negotiation import ANNOUNCED_CHUNK_SIZE, MAX_CREATE_STREAMS, STREAM_ID, WINDOW_SIZE
from srsproxy.streamkey import StreamKey, from_rtmp

CONTROL_CSID: Final = 2
COMMAND_CSID: Final = 3
STATUS_CSID: Final = 5

_CLIENT_ID = "ASAICiss"
_NAMING: Final = ("releaseStream", "FCPublish", "FCUnpublish")
"""SRS takes each of these for any other of them."""

_KNOWN: Final = frozenset({"connect", "createStream", "publish", "play", "pause", "closeStream", *_NAMING})
"""What SRS knows and ignores at the wrong time; it answers all other commands with an empty ``_result``."""

T = TypeVar("T")
Steps: TypeAlias = Generator[None, Command, T]


class HungUp(Exception):
    """The origin closes the connection; the text says why, but not to the client."""


class Stage(Protocol):
    """Where the dialogue takes effect. What begins a stream raises :class:`HungUp` if the client may not have it."""

    def send(self, csid: int, type: int, msid: int, payload: bytes) -> None:
        """Send a message."""

    def set_chunk_size(self, size: int) -> None:
        """Send a SetChunkSize, and use the new size from here on."""

    def client_connected(self, tc_url: str, command_object: dict[str, AmfValue]) -> None:
        """The client has connected."""

    def begin_publish(self, key: StreamKey) -> None:
        """What the client sends are frames of this stream."""

    def end_publish(self) -> None:
        """They are no more."""

    def begin_play(self, key: StreamKey, duration: float | None) -> None:
        """Send the frames of this stream, and close behind ``duration`` milliseconds if that is given."""

    def end_play(self) -> None:
        """Send no more of them."""


class Dialogue:
    """One client's dialogue.

    :param server: what the origin calls itself.
    :param vhosts: the vhosts that the origin has besides the default one.
    """

    def __init__(self, stage: Stage, server: str, vhosts: frozenset[str]) -> None:
        self._stage = stage
        self._server = server
        self._vhosts = vhosts
        self._tc_url = ""
        self._steps = self._run()
        next(self._steps)

    def receive(self, command: Command) -> None:
        """Take the client's next command.

        :raises HungUp: the connection is to be closed.
        :raises PeerError: the same, since the client broke the protocol.
        """
        if command.name in ("_result", "_error"):
            raise PeerError("an answer to what was not asked")
        self._steps.send(command)

    def _run(self) -> Steps[None]:
        self._answer_connect((yield from self._expect("connect")))
        while True:
            yield from self._serve_stream()

    def _expect(self, *names: str) -> Steps[Command]:
        """The next command of one of these names; others are skipped."""
        while True:
            command = yield
            if command.name in names:
                return command

    def _serve_stream(self) -> Steps[None]:
        """From the first word about a stream to its end, or one word that is about none."""
        command = yield
        match command.name:
            case "createStream":
                yield from self._serve_created(command)
            case "play":
                yield from self._play(command)
            case name if name in _NAMING:
                yield from self._publish_fmle(command)
            case name if name not in _KNOWN:
                self._result(command, None)

    def _serve_created(self, create: Command) -> Steps[None]:
        """A client that has created a stream before it says what for. What it says else is not answered."""
        for _ in range(MAX_CREATE_STREAMS):
            self._result(create, float(STREAM_ID))
            command = yield from self._expect("createStream", "play", "publish", *_NAMING)
            match command.name:
                case "createStream":
                    create = command
                    continue
                case "play":
                    yield from self._play(command)
                case "publish":
                    yield from self._publish_flash(command)
                case _:
                    yield from self._publish_haivision(command)
            return
        raise HungUp("too many createStream")

    def _publish_fmle(self, release: Command) -> Steps[None]:
        self._result(release, UNDEFINED)
        key = self._key(release)
        self._result((yield from self._expect(*_NAMING)), UNDEFINED)
        self._result((yield from self._expect("createStream")), float(STREAM_ID))
        yield from self._publish_announced(key)

    def _publish_haivision(self, fc_publish: Command) -> Steps[None]:
        self._result(fc_publish, UNDEFINED)
        yield from self._publish_announced(self._key(fc_publish))

    def _publish_announced(self, key: StreamKey) -> Steps[None]:
        """The rest of what FMLE and Haivision encoders have in common. Only FCUnpublish ends their streams."""
        yield from self._expect("publish")
        self._on("onFCPublish", "NetStream.Publish.Start", "Started publishing stream.")
        self._begin_publish(key)
        end = yield from self._expect(*_NAMING)
        self._stage.end_publish()
        self._on("onFCUnpublish", "NetStream.Unpublish.Success", "Stop publishing stream.")
        self._result(end, UNDEFINED, msid=STREAM_ID)
        self._status("NetStream.Unpublish.Success", "Stream is now unpublished")

    def _publish_flash(self, publish: Command) -> Steps[None]:
        """Any further command ends the stream, without an answer."""
        self._begin_publish(self._key(publish))
        yield
        self._stage.end_publish()

    def _begin_publish(self, key: StreamKey) -> None:
        self._stage.begin_publish(key)
        self._status("NetStream.Publish.Start", "Started publishing stream.")

    def _play(self, play: Command) -> Steps[None]:
        """The same answers whether somebody publishes the stream or not. Only closeStream ends it."""
        key = self._key(play)
        begin = rtmp.user_control(UserControl.STREAM_BEGIN, STREAM_ID)
        self._stage.send(CONTROL_CSID, MessageType.USER_CONTROL, 0, begin)
        self._status("NetStream.Play.Reset", "Playing and resetting stream.", details="stream")
        self._status("NetStream.Play.Start", "Started playing stream.", details="stream")
        access = encode("|RtmpSampleAccess", True, True)
        self._stage.send(STATUS_CSID, MessageType.DATA_AMF0, STREAM_ID, access)
        self._stage.begin_play(key, _duration(play))
        while (command := (yield)).name != "closeStream":
            if command.transaction_id > 0 and command.name not in _KNOWN:
                self._result(command, None)
        self._stage.end_play()

    def _key(self, command: Command) -> StreamKey:
        """The stream that a command names behind its command object."""
        name = command.arguments[1] if len(command.arguments) > 1 else None
        if not isinstance(name, str):
            raise PeerError(f"{command.name} without a stream name")
        return from_rtmp(self._tc_url, name, self._vhosts)

    def _answer_connect(self, connect: Command) -> None:
        command_object = connect.arguments[0] if connect.arguments else None
        tc_url = command_object.get("tcUrl") if isinstance(command_object, dict) else None
        if not isinstance(command_object, dict) or not isinstance(tc_url, str) or not tc_url:
            raise PeerError("connect without a tcUrl")
        self._tc_url = tc_url
        self._stage.client_connected(tc_url, command_object)
        self._stage.send(CONTROL_CSID, MessageType.WINDOW_ACK, 0, rtmp.window_ack(WINDOW_SIZE))
        bandwidth = rtmp.peer_bandwidth(WINDOW_SIZE, rtmp.LIMIT_DYNAMIC)
        self._stage.send(CONTROL_CSID, MessageType.PEER_BANDWIDTH, 0, bandwidth)
        self._stage.set_chunk_size(ANNOUNCED_CHUNK_SIZE)
        version: dict[str, AmfValue] = {"fmsVer": "FMS/3,5,3,888", "capabilities": 127.0, "mode": 1.0}
        information: dict[str, AmfValue] = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "Connection succeeded",
            "objectEncoding": command_object.get("objectEncoding", 0.0),
            "data": EcmaArray({"version": "3,5,3,888", "srs_server": self._server}),
        }
        self._command("_result", 1.0, version, information)  # 1, whatever the client's own id was
        self._command("onBWDone", 0.0, None)

    def _result(self, command: Command, value: AmfValue, msid: int = 0) -> None:
        self._command("_result", command.transaction_id, None, value, msid=msid)

    def _command(self, name: str, transaction_id: float, *arguments: AmfValue, msid: int = 0) -> None:
        payload = rtmp.encode_command(name, transaction_id, *arguments)
        self._stage.send(COMMAND_CSID, MessageType.COMMAND_AMF0, msid, payload)

    def _status(self, code: str, description: str, **extra: AmfValue) -> None:
        payload = rtmp.on_status("status", code, description, **extra, clientid=_CLIENT_ID)
        self._stage.send(STATUS_CSID, MessageType.COMMAND_AMF0, STREAM_ID, payload)

    def _on(self, name: str, code: str, description: str) -> None:
        payload = rtmp.encode_command(name, 0.0, None, {"code": code, "description": description})
        self._stage.send(STATUS_CSID, MessageType.COMMAND_AMF0, STREAM_ID, payload)


def _duration(play: Command) -> float | None:
    """How long a player wants to play; -1 and the like mean without end."""
    duration = play.arguments[3] if len(play.arguments) > 3 else None
    return duration if isinstance(duration, float) and duration > 0 else None
