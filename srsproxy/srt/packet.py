"""SRT packets (draft-sharabayko-srt, section 3): what their headers tell, and control packets of our own.

What is read here is read of packets that anyone may have sent, and for some of every packet. So nothing raises: a
packet that is too short to tell has an answer that means "nothing".
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

HEADER_SIZE: Final = 16
"""Bytes of the header that every packet has (section 3)."""

MAX_SEQUENCE: Final = 0x7FFFFFFF
"""The last packet sequence number; 0 follows it (section 3.1)."""

CONTROL_BIT: Final = 0x8000
"""The bit of the first two bytes by which a control packet differs from a data packet."""

_MAX_DROPPED: Final = 1 << 16
"""Packets that a DROPREQ may tell of: more than a sender keeps for seconds. SRS goes through them one by one, and its
whole SRT server stands still for seconds if there are very many."""

_HEADER: Final = Struct(">HHIII")
_WORD: Final = Struct(">I")
_TIMESTAMP_AT: Final = 8
_DESTINATION_AT: Final = 12


class ControlType(IntEnum):
    """Control Type (section 3.2, table 1)."""

    HANDSHAKE = 0x0000
    KEEPALIVE = 0x0001
    ACK = 0x0002
    NAK = 0x0003
    CONGESTION_WARNING = 0x0004
    SHUTDOWN = 0x0005
    ACKACK = 0x0006
    DROPREQ = 0x0007
    PEERERROR = 0x0008
    USER_DEFINED = 0x7FFF


def is_control(data: bytes | memoryview, type: ControlType) -> bool:
    """Whether it is a control packet of this type; one that is shorter than a header is none."""
    return len(data) >= HEADER_SIZE and data[0] << 8 | data[1] == CONTROL_BIT | type


def destination_socket_id(data: bytes | memoryview) -> int:
    """Destination Socket ID: the socket of the receiver that the packet is for. 0, as in the handshakes that begin a
    connection, if it is shorter than a header."""
    return int(_WORD.unpack_from(data, _DESTINATION_AT)[0]) if len(data) >= HEADER_SIZE else 0


def timestamp(data: bytes | memoryview) -> int:
    """Timestamp: µs since the sender has made its socket, modulo 2**32. 0 if the packet is shorter than a header."""
    return int(_WORD.unpack_from(data, _TIMESTAMP_AT)[0]) if len(data) >= HEADER_SIZE else 0


def sequence_number(data: bytes | memoryview) -> int | None:
    """How far the transfer is that the packet belongs to: of a data packet its Packet Sequence Number (section 3.1), of
    an ACK, full, light or small, its Last Acknowledged Packet Sequence Number (section 3.2.4), which is the one behind
    the last that was received. ``None`` of all others."""
    if len(data) < HEADER_SIZE:
        return None
    at = 0
    if is_control(data, ControlType.ACK):
        at = HEADER_SIZE
        if len(data) < at + _WORD.size:
            return None
    number = int(_WORD.unpack_from(data, at)[0])
    return number if number <= MAX_SEQUENCE else None


def is_usable_dropreq(data: bytes | memoryview) -> bool:
    """Whether a message drop request (section 3.2.9) has its two sequence numbers, not too far apart."""
    if len(data) != HEADER_SIZE + 2 * _WORD.size:
        return False
    first, last = (int(_WORD.unpack_from(data, at)[0]) for at in (HEADER_SIZE, HEADER_SIZE + _WORD.size))
    return max(first, last) <= MAX_SEQUENCE and (last - first) % (MAX_SEQUENCE + 1) < _MAX_DROPPED


def control_packet(type: ControlType, destination: int, timestamp: int = 0, info: int = 0, cif: bytes = b"") -> bytes:
    """A control packet (section 3.2).

    :param destination: Destination Socket ID.
    :param timestamp: in µs, see :func:`timestamp`.
    :param info: Type-specific Information, such as the number of an ACK.
    :param cif: Control Information Field: what follows the header.
    """
    return _HEADER.pack(CONTROL_BIT | type, 0, info, timestamp, destination) + cif


def shutdown(destination: int) -> bytes:
    """The packet that ends a connection (section 3.2.7). The draft gives it nothing behind its header, but libsrt has 4
    bytes there."""
    return control_packet(ControlType.SHUTDOWN, destination, cif=bytes(4))
