"""SRT packets as tests read and write them (draft-sharabayko-srt-01, section 3; libsrt 1.5).

It shares no code with what it tests.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final, Self

HEADER_SIZE: Final = 16
HANDSHAKE_SIZE: Final = 64
"""Bytes of a handshake packet without extensions."""

# Types of control packets.
HANDSHAKE: Final = 0
KEEPALIVE: Final = 1
ACK: Final = 2
NAK: Final = 3
SHUTDOWN: Final = 5
ACKACK: Final = 6
USER_DEFINED: Final = 0x7FFF

# Types of handshakes; 1000 and more are rejections.
INDUCTION: Final = 1
CONCLUSION: Final = 0xFFFFFFFF
REJECTION: Final = 1000

# What a listener's induction has instead of extensions.
MAGIC: Final = 0x4A17

# Types of extensions, and their flags in a conclusion.
HSREQ: Final = 1
HSRSP: Final = 2
KMREQ: Final = 3
KMRSP: Final = 4
SID: Final = 5

HSREQ_FLAG: Final = 1
KMREQ_FLAG: Final = 2
CONFIG_FLAG: Final = 4

# Rejection reasons that tests use, as callers report them.
PEER: Final = 2
ROGUE: Final = 4
VERSION: Final = 8
BADSECRET: Final = 10
UNSECURE: Final = 11
MESSAGEAPI: Final = 12
TIMEOUT: Final = 16
BAD_REQUEST: Final = 1400
OVERLOAD: Final = 1402
FORBIDDEN: Final = 1403
NOT_FOUND: Final = 1404
BAD_MODE: Final = 1405
CONFLICT: Final = 1409
DOWN: Final = 1503

SEQUENCES: Final = 1 << 31
"""How many sequence numbers there are."""

_HANDSHAKE_FORMAT: Final = struct.Struct(">IHHIIIIII16s")
_SOLO_IN_ORDER: Final = 0xE0000000
_MESSAGES: Final = 1 << 26


def control_type(data: bytes) -> int | None:
    """The type of a control packet; None for a data packet."""
    first = int.from_bytes(data[:2], "big")
    return first - 0x8000 if first >= 0x8000 else None


def is_handshake(data: bytes) -> bool:
    """Whether it is a handshake that is not too short."""
    return control_type(data) == HANDSHAKE and len(data) >= HANDSHAKE_SIZE


def word(data: bytes, offset: int) -> int:
    """The 32-bit number at this offset."""
    return int.from_bytes(data[offset : offset + 4], "big")


def destination(data: bytes) -> int:
    """The destination socket id."""
    return word(data, 12)


def control(type: int, destination: int, *, info: int = 0, timestamp: int = 0, body: bytes = bytes(4)) -> bytes:
    """Write a control packet. libsrt gives those without content four bytes of zeros."""
    return struct.pack(">HHIII", 0x8000 | type, 0, info, timestamp % (1 << 32), destination) + body


def data_packet(number: int, message: int, destination: int, payload: bytes, *, timestamp: int = 0) -> bytes:
    """Write a data packet with a whole message, which is not encrypted."""
    flags = _SOLO_IN_ORDER | message % _MESSAGES
    return struct.pack(">IIII", number, flags, timestamp % (1 << 32), destination) + payload


def after(number: int, count: int = 1) -> int:
    """The sequence number so many packets later."""
    return (number + count) % SEQUENCES


def distance(number: int, other: int) -> int:
    """How many packets later ``other`` is; negative if it is earlier."""
    return (other - number + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2


def loss_list(first: int, last: int) -> bytes:
    """Content of a NAK: a range of sequence numbers."""
    return struct.pack(">II", first | SEQUENCES, last)


def read_loss_list(body: bytes) -> list[int]:
    """The sequence numbers that a NAK names."""
    numbers: list[int] = []
    first: int | None = None
    for (value,) in struct.iter_unpack(">I", body):
        if value >= SEQUENCES:
            first = value - SEQUENCES
            continue
        begin = value if first is None else first
        numbers.extend(after(begin, index) for index in range(distance(begin, value) + 1))
        first = None
    return numbers


def ack_body(number: int) -> bytes:
    """Content of a full ACK of all before this sequence number, with the numbers that libsrt begins with."""
    round_trip, variance, buffer, rate, capacity, bytes_rate = 100_000, 50_000, 8192, 1, 1000, 1500
    return struct.pack(">7I", number, round_trip, variance, buffer, rate, capacity, bytes_rate)


def _words_reversed(data: bytes) -> bytes:
    return b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))


def encode_peer_ip(host: str) -> bytes:
    """An address as it is in a handshake: the bytes of each word reversed, an IPv4 address in the first word."""
    return _words_reversed(ipaddress.ip_address(host).packed).ljust(16, b"\0")


def extension(type: int, content: bytes) -> bytes:
    """Write an extension of a handshake."""
    padded = content + bytes(-len(content) % 4)
    return struct.pack(">HH", type, len(padded) // 4) + padded


def latency_extension(type: int, flags: int, latency: int) -> bytes:
    """HSREQ or HSRSP of libsrt 1.5.1; ``latency`` in milliseconds, the receiver's in the upper half."""
    return extension(type, struct.pack(">III", 0x00010501, flags, latency))


def stream_id_extension(stream_id: str) -> bytes:
    """SID."""
    encoded = stream_id.encode()
    return extension(SID, _words_reversed(encoded + bytes(-len(encoded) % 4)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A handshake packet. ``tail`` is all behind its 64 bytes, as it is."""

    version: int
    encryption: int = 0
    extension: int
    initial_sequence_number: int
    mtu: int = 1500
    flow_window: int = 8192
    type: int
    socket_id: int
    cookie: int = 0
    peer_ip: bytes = encode_peer_ip("127.0.0.1")
    tail: bytes = b""
    destination: int = 0
    timestamp: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read one; its extensions are not looked at."""
        assert is_handshake(data), data.hex(" ", 4)
        version, encryption, flags, number, mtu, window, type, socket_id, cookie, peer_ip = (
            _HANDSHAKE_FORMAT.unpack_from(data, HEADER_SIZE)
        )
        return cls(
            version=version,
            encryption=encryption,
            extension=flags,
            initial_sequence_number=number,
            mtu=mtu,
            flow_window=window,
            type=type,
            socket_id=socket_id,
            cookie=cookie,
            peer_ip=peer_ip,
            tail=data[HANDSHAKE_SIZE:],
            destination=destination(data),
            timestamp=word(data, 8),
        )

    def __bytes__(self) -> bytes:
        body = _HANDSHAKE_FORMAT.pack(
            self.version,
            self.encryption,
            self.extension,
            self.initial_sequence_number,
            self.mtu,
            self.flow_window,
            self.type,
            self.socket_id,
            self.cookie,
            self.peer_ip,
        )
        return control(HANDSHAKE, self.destination, timestamp=self.timestamp, body=body + self.tail)

    @property
    def rejection(self) -> int | None:
        """The reason, if it is a rejection."""
        return self.type - REJECTION if REJECTION <= self.type < SEQUENCES else None

    @property
    def extensions(self) -> dict[int, bytes]:
        """Content by type."""
        found = {}
        at = 0
        while at < len(self.tail):
            type, words = struct.unpack_from(">HH", self.tail, at)
            begin, at = at + 4, at + 4 + 4 * words
            assert at <= len(self.tail), self.tail.hex(" ", 4)
            found[type] = self.tail[begin:at]
        return found

    @property
    def stream_id(self) -> str:
        """Of SID; empty if there is none."""
        return _words_reversed(self.extensions.get(SID, b"")).rstrip(b"\0").decode()
