"""What the negotiations with client and origin find out, in the words of the protocol (sans-I/O)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from srsproxy.streamkey import StreamKey


class Action(Enum):
    """What a client wants with the stream."""

    PUBLISH = "publish"
    PLAY = "play"


@dataclass(frozen=True, slots=True)
class StreamNamed:
    """The client has named its stream; nothing more is parsed until the caller says so.

    :ivar prelude: what the origin gets after its handshake.
    :ivar create_stream_tid: transaction id of the last createStream in the prelude: the origin's ``_result`` to it is
        the last of its answers that the client must not see.
    :ivar limited: a player asked for so many seconds only, so its origin is right to close in the end.
    """

    action: Action
    key: StreamKey
    prelude: bytes
    create_stream_tid: float
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """The client said something that its origin should get."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MediaBegins:
    """Relay raw from here on.

    :ivar data: what was read already and not passed on.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class StreamReleased:
    """A player asks for another stream: its origin must stop sending, then :meth:`ClientNegotiation.resume`."""


ClientEvent = StreamNamed | Forward | MediaBegins | StreamReleased
"""Of :class:`~srsproxy.rtmp.negotiation.ClientNegotiation`."""


@dataclass(frozen=True, slots=True)
class OriginReady:
    """The origin has answered everything that the client has been answered already.

    :ivar chunk_size: bytes; the chunk size of what follows.
    """

    chunk_size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Whole messages of the origin, for the client, unchanged.

    :ivar chunk_size: bytes; the chunk size in force behind them.
    """

    data: bytes
    chunk_size: int


@dataclass(frozen=True, slots=True)
class Started:
    """The origin has accepted the stream: Publish.Start or Play.Start."""


@dataclass(frozen=True, slots=True)
class ToldRejection:
    """The origin's own error status has been passed on; nothing needs to be added to it."""

    code: str
    description: str


@dataclass(frozen=True, slots=True)
class PublishReleased:
    """The publisher has given its stream up and may name another one."""


@dataclass(frozen=True, slots=True)
class PublishedAgain:
    """The publisher's commands for its next stream have reached this origin already, before they could be routed."""


OriginEvent = OriginReady | Answer | Started | ToldRejection | PublishReleased | PublishedAgain | MediaBegins
"""Of :class:`~srsproxy.rtmp.origin.OriginNegotiation`."""
