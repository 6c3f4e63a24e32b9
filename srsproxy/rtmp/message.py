"""RTMP messages: their types, and the payloads of protocol control and of commands.

Sections are those of Adobe's "RTMP 1.0" specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from srsproxy.errors import PeerError
from srsproxy.rtmp import amf0
from srsproxy.rtmp.amf0 import DEFAULT_LIMITS, AmfValue, Limits


class MessageType(IntEnum):
    """The message types that exist; others are to be ignored."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACK = 3
    USER_CONTROL = 4
    WINDOW_ACK = 5
    PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA_AMF0 = 18
    COMMAND_AMF0 = 20
    AGGREGATE = 22


MEDIA = frozenset({MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE})
"""Types of the messages that come in numbers."""


class UserControl(IntEnum):
    """The events of a user control message (section 7.1.7)."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    STREAM_DRY = 2
    SET_BUFFER_LENGTH = 3
    STREAM_IS_RECORDED = 4
    PING_REQUEST = 6
    PING_RESPONSE = 7


LIMIT_DYNAMIC = 2
"""The limit type of a peer bandwidth that the receiver may treat as it likes (section 5.4.5)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One RTMP message.

    :ivar csid: the chunk stream that it came on.
    :ivar type: a :class:`MessageType`, or a number that is none.
    :ivar msid: the message stream it belongs to; 0 is the connection itself.
    :ivar timestamp: milliseconds, 31 bits, absolute.
    :ivar end: offset in its connection's chunk stream just behind the message's last byte.
    """

    csid: int
    type: int
    msid: int
    timestamp: int
    payload: bytes
    end: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A command message's content. ``arguments`` begins with the command object, which is ``None`` in most commands."""

    name: str
    transaction_id: float
    arguments: tuple[AmfValue, ...]


def parse_command(message: Message, *, limits: Limits = DEFAULT_LIMITS) -> Command:
    """The command in a message of type COMMAND_AMF0, or of type COMMAND_AMF3: AMF0 too, behind one zero byte.

    :raises PeerError: it is not AMF0, or does not begin with a name and a transaction id.
    :raises LimitExceeded: it has more values than ``limits`` allow.
    """
    payload = message.payload
    if message.type == MessageType.COMMAND_AMF3:
        if not payload.startswith(b"\x00"):
            raise PeerError("an AMF3 command is not in AMF0 encoding")
        payload = payload[1:]
    values = amf0.decode_all(payload, limits=limits)
    name = values[0] if values else None
    if not isinstance(name, str):
        raise PeerError("a command has no name")
    transaction_id = values[1] if len(values) > 1 else None
    if not isinstance(transaction_id, float):
        raise PeerError(f"command {name[:64]!r} has no transaction id")
    return Command(name, transaction_id, tuple(values[2:]))


def encode_command(name: str, transaction_id: float, *arguments: AmfValue) -> bytes:
    """The payload of a COMMAND_AMF0 message."""
    return amf0.encode(name, transaction_id, *arguments)


def on_status(level: str, code: str, description: str, **extra: AmfValue) -> bytes:
    """The payload of the ``onStatus`` command, with which servers answer publish and play (section 7.2.2)."""
    information: dict[str, AmfValue] = {"level": level, "code": code, "description": description, **extra}
    return encode_command("onStatus", 0, None, information)


def set_chunk_size(size: int) -> bytes:
    """The payload of SET_CHUNK_SIZE."""
    return struct.pack(">I", size)


def parse_set_chunk_size(payload: bytes) -> int:
    """The new chunk size, 1 to 0x7fffffff (section 5.4.1).

    :raises PeerError: the payload is too short, or out of this range.
    """
    if len(payload) < 4:
        raise PeerError(f"SetChunkSize of {len(payload)} bytes")
    size = int.from_bytes(payload[:4], "big")
    if not 1 <= size <= 0x7FFFFFFF:
        raise PeerError(f"SetChunkSize to {size}")
    return size


def window_ack(size: int) -> bytes:
    """The payload of WINDOW_ACK: how many bytes may be sent before the receiver acknowledges them."""
    return struct.pack(">I", size)


def peer_bandwidth(size: int, limit_type: int) -> bytes:
    """The payload of PEER_BANDWIDTH: a window size for the receiver's own sending."""
    return struct.pack(">IB", size, limit_type)


def user_control(event: UserControl, *values: int) -> bytes:
    """The payload of USER_CONTROL: an event and its 32-bit values, such as a message stream id."""
    return struct.pack(f">H{len(values)}I", event, *values)
