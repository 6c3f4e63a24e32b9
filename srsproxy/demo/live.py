"""Streams that are published now, and who plays them.

One publisher's frames go to any number of players. A frame is one :class:`~srsproxy.rtmp.message.Message` whose payload
all players share; each writes it in its own notation, at its own time. A player that does not keep up loses frames:
never more than :data:`MAX_WAITING` bytes wait for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from srsproxy.demo import flv
from srsproxy.demo.flv import is_key_frame, is_sequence_header, metadata
from srsproxy.rtmp.message import Message, MessageType
from srsproxy.streamkey import StreamKey

MAX_WAITING: Final = 8 * 1024 * 1024
"""Bytes of frames that wait for one player; 25 seconds of a stream of 2.6 Mbit/s."""

MAX_GROUP: Final = MAX_WAITING // 2
"""Bytes of frames kept to let new players begin with a key frame. If no key frame comes for longer, none are kept."""

_FRAME_OVERHEAD = 256
"""Bytes that a frame takes besides its payload, lest empty ones be free."""


def _size(frame: Message) -> int:
    return _FRAME_OVERHEAD + len(frame.payload)


@implementer(IPushProducer)
class Player(ABC):
    """Gets the frames of a stream, with timestamps that begin at 0; subclasses write them.

    It is a producer for whatever it writes to, so that frames wait here while that has enough.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Message, int]] = deque()
        self._waiting_size = 0
        self._paused = False
        self._lost = False
        self._now = 0
        self._offset: int | None = None

    @abstractmethod
    def write_frame(self, frame: Message, timestamp: int) -> None:
        """Write a frame. ``timestamp``: milliseconds in the player's own time."""

    def publish_ended(self) -> None:
        """The stream's publisher has gone. Another may come, whose time begins anew."""
        self._offset = None

    def take(self, frame: Message, stream: LiveStream) -> None:
        """The next frame of ``stream``."""
        if self._lost and (is_key_frame(frame) or not stream.has_video):
            self._lost = False
            # A key frame is the last of what is kept.
            for kept in stream.catch_up():
                self._add(kept)
        elif not self._lost:
            self._add(frame)

    def _add(self, frame: Message) -> None:
        timestamp = self._rebase(frame)
        if not self._paused:
            self.write_frame(frame, timestamp)
            return
        self._waiting.append((frame, timestamp))
        self._waiting_size += _size(frame)
        if self._waiting_size > MAX_WAITING:
            self.stopProducing()
            self._lost = True

    def _rebase(self, frame: Message) -> int:
        """The player's time of a frame: that of the frame before, if it is no frame in time or the first one."""
        if frame.type in (MessageType.AUDIO, MessageType.VIDEO) and not is_sequence_header(frame):
            if self._offset is None:
                self._offset = frame.timestamp - self._now
            self._now = max(0, frame.timestamp - self._offset)
        return self._now

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while self._waiting and not self._paused:
            frame, timestamp = self._waiting.popleft()
            self._waiting_size -= _size(frame)
            self.write_frame(frame, timestamp)

    def stopProducing(self) -> None:
        """Forget what waits. If the connection is gone, whoever owns the player is told as well, and has it leave."""
        self._waiting.clear()
        self._waiting_size = 0


class FlvPlayer(Player):
    """Writes a stream in FLV."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    @abstractmethod
    def begin(self) -> None:
        """The stream's first frame is there, and going to be written."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write a part of the FLV file."""

    def write_frame(self, frame: Message, timestamp: int) -> None:
        if not self._begun:
            self._begun = True
            self.begin()
            self.write(flv.HEADER)
        self.write(flv.tag(frame.type, frame.payload, timestamp))


class LiveStream:
    """One stream: its players, and what they need to begin.

    :ivar published: whether it has a publisher.
    """

    def __init__(self, key: StreamKey) -> None:
        self.key = key
        self.published = False
        self.players: set[Player] = set()
        self._metadata: Message | None = None
        self._sequence_headers: dict[int, Message] = {}
        self._group: list[Message] = []
        self._group_size = 0

    @property
    def has_video(self) -> bool:
        """Whether the publisher has announced video, so that a player had better begin with a key frame."""
        return MessageType.VIDEO in self._sequence_headers

    def take(self, message: Message) -> None:
        """A message of the publisher; what is no audio, video or metadata is ignored."""
        if (payload := metadata(message)) is not None:
            message = self._metadata = replace(message, type=MessageType.DATA_AMF0, payload=payload)
        elif message.type not in (MessageType.AUDIO, MessageType.VIDEO) or not message.payload:
            return
        elif is_sequence_header(message):
            self._sequence_headers[message.type] = message
        else:
            self._keep(message)
        for player in tuple(self.players):
            player.take(message, self)

    def catch_up(self) -> Iterator[Message]:
        """What a new player gets first: metadata, sequence headers, and all since the last key frame."""
        if self._metadata is not None:
            yield self._metadata
        for kind in sorted(self._sequence_headers):
            yield self._sequence_headers[kind]
        yield from self._group

    def end_publish(self) -> None:
        """The publisher has gone; the next one's frames have nothing to do with what is kept."""
        self.published = False
        self._metadata = None
        self._sequence_headers.clear()
        self._forget_group()
        for player in tuple(self.players):
            player.publish_ended()

    def _keep(self, frame: Message) -> None:
        if is_key_frame(frame):
            self._forget_group()
        elif not self._group:
            return
        self._group.append(frame)
        self._group_size += _size(frame)
        if self._group_size > MAX_GROUP:
            self._forget_group()

    def _forget_group(self) -> None:
        self._group.clear()
        self._group_size = 0


class Streams:
    """The streams of one origin. A stream is there while it has a publisher or a player."""

    def __init__(self) -> None:
        self._streams: dict[StreamKey, LiveStream] = {}
        self._watches: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def published(self) -> frozenset[StreamKey]:
        """The streams that have a publisher."""
        return frozenset(key for key, stream in self._streams.items() if stream.published)

    @property
    def players(self) -> int:
        """How many players there are, also of streams that nobody publishes."""
        return sum(len(stream.players) for stream in self._streams.values())

    def publish(self, key: StreamKey) -> LiveStream | None:
        """The stream, for its new publisher; ``None`` if it has one already."""
        stream = self._stream(key)
        if stream.published:
            return None
        stream.published = True
        self._changed()
        return stream

    def unpublish(self, stream: LiveStream) -> None:
        """The stream's publisher has gone."""
        stream.end_publish()
        self._drop_unused(stream)
        self._changed()

    def join(self, key: StreamKey, player: Player) -> LiveStream:
        """The stream, for a new player, which gets what is there of it at once."""
        stream = self._stream(key)
        stream.players.add(player)
        for frame in stream.catch_up():
            player.take(frame, stream)
        self._changed()
        return stream

    def leave(self, stream: LiveStream, player: Player) -> None:
        """The player gets nothing more."""
        stream.players.discard(player)
        self._drop_unused(stream)
        self._changed()

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when the condition holds; it is looked at whenever a publisher or a player comes or goes."""
        watch: Deferred[None] = Deferred()
        self._watches.append((condition, watch))
        self._changed()
        return watch

    def _changed(self) -> None:
        watches, self._watches = self._watches, []
        for condition, watch in watches:
            if watch.called:  # it was cancelled
                continue
            if condition():
                watch.callback(None)
            else:
                self._watches.append((condition, watch))

    def _stream(self, key: StreamKey) -> LiveStream:
        return self._streams.setdefault(key, LiveStream(key))

    def _drop_unused(self, stream: LiveStream) -> None:
        if not stream.published and not stream.players:
            self._streams.pop(stream.key, None)
