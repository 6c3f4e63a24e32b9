"""The demo origin's RTMP side: connections, on which :mod:`srsproxy.demo.dialogue` decides what is said."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.address import client_address
from srsproxy.demo.dialogue import CONTROL_CSID, Dialogue, HungUp
from srsproxy.demo.live import LiveStream, Player
from srsproxy.errors import PeerError
from srsproxy.interfaces import IStreamConnection
from srsproxy.rtmp.amf0 import AmfValue
from srsproxy.rtmp.chunk import MIN_CHUNK_SIZE, ChunkReader, ChunkWriter
from srsproxy.rtmp.events import Action
from srsproxy.rtmp.handshake import RANDOM_SIZE, ServerHandshake
from srsproxy.rtmp.message import Message, MessageType, UserControl, parse_command, set_chunk_size
from srsproxy.rtmp.negotiation import STREAM_ID
from srsproxy.streamkey import StreamKey

if TYPE_CHECKING:
    from srsproxy.demo.origin import DemoOrigin

MAX_MESSAGE_SIZE: Final = 4 * 1024 * 1024
"""Bytes of one message: a key frame of any stream that a demo or a test would use."""

_log = Logger()


@dataclass(slots=True, eq=False)
class Visit:
    """What one RTMP client has told the origin.

    :ivar peer: the address that it connected from.
    :ivar real_address: the client's address as a proxy told it before the handshake.
    :ivar command_object: all that ``connect`` said.
    :ivar streams: what it wanted, also if it did not get it.
    :ivar received: every byte, if the origin was told to record them; without a limit, so that is for tests.
    """

    peer: str
    real_address: str | None = None
    tc_url: str = ""
    command_object: dict[str, AmfValue] = field(default_factory=dict)
    streams: list[tuple[Action, StreamKey]] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)


class _RtmpPlayer(Player):
    def __init__(self, session: RtmpSession, duration: float | None) -> None:
        super().__init__()
        self._session = session
        self._duration = duration

    def write_frame(self, frame: Message, timestamp: int) -> None:
        self._session.send(frame.csid, frame.type, STREAM_ID, frame.payload, timestamp)
        if self._duration is not None and timestamp >= self._duration:
            self._session.close()


@implementer(IPushProducer)
class RtmpSession(Protocol):
    """One client's connection. It is not read while it does not read what it is sent, so nothing piles up."""

    transport: IStreamConnection
    _visit: Visit

    def __init__(self, origin: DemoOrigin) -> None:
        self._origin = origin
        self._handshake = ServerHandshake(
            now_ms=int(origin.reactor.seconds() * 1000), random=os.urandom(RANDOM_SIZE), accept_real_address=True
        )
        self._reader = ChunkReader(max_message_size=MAX_MESSAGE_SIZE, min_chunk_size=MIN_CHUNK_SIZE)
        self._writer = ChunkWriter()
        self._dialogue = Dialogue(self, origin.name, origin.vhosts)
        self._publishing: LiveStream | None = None
        self._playing: LiveStream | None = None
        self._player: _RtmpPlayer | None = None
        self._paused = False
        self._received = 0
        self._acknowledged = 0
        self._window = 0
        self._closing = False

    def connectionMade(self) -> None:
        self._visit = Visit(peer=client_address(self.transport.getPeer()))
        self._origin.visits.append(self._visit)
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._origin.record:
            self._visit.received += data
        if self._origin.silent or self._closing:
            return
        try:
            self._receive(data)
        except (PeerError, HungUp) as error:
            _log.debug("{origin}: {peer}: {error}", origin=self._origin.name, peer=self._visit.peer, error=error)
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave_streams()

    def _receive(self, data: bytes) -> None:
        self._received += len(data)
        if not self._handshake.done:
            self.transport.write(self._handshake.receive_data(data))
            self._visit.real_address = self._handshake.real_address
            data = self._handshake.unconsumed
        if self._window and self._received - self._acknowledged > self._window // 2:
            self._acknowledged = self._received
            acknowledgement = (self._received & 0xFFFFFFFF).to_bytes(4, "big")
            self.send(CONTROL_CSID, MessageType.ACK, 0, acknowledgement)
        self._reader.receive_data(data)
        while not self._closing and (message := self._reader.next_message()) is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message.type:
            case MessageType.COMMAND_AMF0 | MessageType.COMMAND_AMF3:
                self._dialogue.receive(parse_command(message))
            case MessageType.WINDOW_ACK:
                self._window = int.from_bytes(message.payload[:4], "big")
            case MessageType.USER_CONTROL:
                event, value = message.payload[:2], message.payload[2:6]
                if event == UserControl.PING_REQUEST.to_bytes(2, "big"):
                    pong = UserControl.PING_RESPONSE.to_bytes(2, "big") + value
                    self.send(CONTROL_CSID, MessageType.USER_CONTROL, 0, pong)
            case _ if self._publishing is not None:
                self._publishing.take(message)

    # What the dialogue asks for

    def send(self, csid: int, type: int, msid: int, payload: bytes, timestamp: int = 0) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.send`. ``timestamp``: milliseconds."""
        self.transport.write(self._writer.write(csid, type, msid, payload, timestamp))

    def set_chunk_size(self, size: int) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.set_chunk_size`."""
        self.send(CONTROL_CSID, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(size))
        self._writer.chunk_size = size

    def client_connected(self, tc_url: str, command_object: dict[str, AmfValue]) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.client_connected`."""
        self._visit.tc_url = tc_url
        self._visit.command_object = command_object

    def begin_publish(self, key: StreamKey) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.begin_publish`."""
        self._ask_leave(Action.PUBLISH, key)
        self._publishing = self._origin.streams.publish(key)
        if self._publishing is None:
            raise HungUp(f"{key} is busy")

    def end_publish(self) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.end_publish`."""
        stream, self._publishing = self._publishing, None
        if stream is not None:
            self._origin.streams.unpublish(stream)

    def begin_play(self, key: StreamKey, duration: float | None) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.begin_play`."""
        self._ask_leave(Action.PLAY, key)
        self._player = _RtmpPlayer(self, duration)
        if self._paused:
            self._player.pauseProducing()
        self._playing = self._origin.streams.join(key, self._player)

    def end_play(self) -> None:
        """See :meth:`srsproxy.demo.dialogue.Stage.end_play`."""
        stream, self._playing = self._playing, None
        if stream is not None and self._player is not None:
            self._player.stopProducing()
            self._origin.streams.leave(stream, self._player)
            self._player = None

    def _ask_leave(self, action: Action, key: StreamKey) -> None:
        self._visit.streams.append((action, key))
        if self._origin.refuses(key, action):
            raise HungUp(f"{action.value} {key}: refused")

    def close(self) -> None:
        """Close the connection behind what was written."""
        self._closing = True
        self._leave_streams()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _leave_streams(self) -> None:
        self.end_publish()
        self.end_play()

    # What its transport asks for

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()
        if self._player is not None:
            self._player.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        self.transport.resumeProducing()
        if self._player is not None:
            self._player.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; :meth:`connectionLost` follows."""


class RtmpFactory(Factory):
    """Makes the sessions of one origin."""

    noisy = False

    def __init__(self, origin: DemoOrigin) -> None:
        self._origin = origin

    def buildProtocol(self, addr: IAddress | None) -> RtmpSession:
        return RtmpSession(self._origin)
