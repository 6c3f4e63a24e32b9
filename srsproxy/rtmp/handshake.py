"""The simple RTMP handshake, both sides (Adobe, "RTMP 1.0", section 5.2), and SRS's real-address prefix before it.

::

    client                          server
    [F3 N address] C0 C1  ------->
                          <-------  S0 S1 S2
    C2                    ------->

Nobody needs the digest form of it: SRS, ffmpeg, librtmp and OBS all take the simple one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from ipaddress import IPv4Address

from srsproxy.errors import PeerError

PACKET_SIZE = 1536
"""Bytes of C1, C2, S1 and S2."""

RANDOM_SIZE = 1528
"""Random bytes in C1 and in S1."""

_VERSION = 0x03
_VERSION_BYTE = b"\x03"
_REAL_ADDRESS = 0xF3
_MIN_ADDRESS_SIZE = 4
_MAX_ADDRESS_SIZE = 1024
"""SRS's own limit. It reads an IPv4 address and skips the rest."""


class _Stage(Enum):
    """What the next piece of input is."""

    FIRST_BYTE = auto()
    ADDRESS_SIZE = auto()
    ADDRESS = auto()
    VERSION = auto()
    PACKET_1 = auto()
    PACKET_2 = auto()
    DONE = auto()


def _packet_1(now_ms: int, random: bytes) -> bytes:
    """C1 or S1. The four zero bytes tell the peer that there is no digest to verify."""
    if len(random) != RANDOM_SIZE:
        raise ValueError(f"a handshake takes {RANDOM_SIZE} random bytes, not {len(random)}")
    return (now_ms & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4) + random


class _Handshake(ABC):
    """Cuts the input into the pieces of a handshake. Holds at most one piece, and what one read brought beyond it."""

    def __init__(self, first: _Stage, now_ms: int, random: bytes) -> None:
        self._buffer = bytearray()
        self._stage = first
        self._needed = 1
        self._packet_1 = _packet_1(now_ms, random)

    @property
    def done(self) -> bool:
        """Whether the peer's last packet has arrived."""
        return self._stage is _Stage.DONE

    @property
    def unconsumed(self) -> bytes:
        """What arrived behind the handshake: the beginning of the chunk stream. Empty before :attr:`done`."""
        return bytes(self._buffer) if self.done else b""

    def receive_data(self, data: bytes) -> bytes:
        """Take what the peer sent; returns what to send to it. Not to be called once :attr:`done`.

        :raises PeerError: the peer does not speak RTMP; nothing is to be sent to it.
        """
        if self.done:
            raise RuntimeError("the handshake is over; this belongs to the chunk stream")
        self._buffer += data
        answer = b""
        while not self.done and len(self._buffer) >= self._needed:
            piece = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            answer += self._receive_piece(piece)
        return answer

    def _expect(self, stage: _Stage, size: int) -> None:
        self._stage = stage
        self._needed = size

    def _receive_piece(self, piece: bytes) -> bytes:
        """Take one whole piece of the current stage; returns the answer to it."""
        match self._stage:
            case _Stage.VERSION:
                if piece[0] != _VERSION:
                    raise PeerError(f"handshake begins with {piece[0]:#04x}, which is not RTMP's {_VERSION:#04x}")
                self._expect(_Stage.PACKET_1, PACKET_SIZE)
            case _Stage.PACKET_1:
                self._expect(_Stage.PACKET_2, PACKET_SIZE)
                return self._answer(piece)
            case _Stage.PACKET_2:
                # An echo of our own packet, by the book. Nobody checks it, and some peers send something else.
                self._expect(_Stage.DONE, 0)
        return b""

    @abstractmethod
    def _answer(self, packet: bytes) -> bytes:
        """What to send when the peer's first packet is complete."""


class ServerHandshake(_Handshake):
    """The server's side: answers C0C1 with S0S1S2 at once, then waits for C2.

    :param now_ms: the time in milliseconds, from any epoch.
    :param random: :data:`RANDOM_SIZE` bytes.
    :param accept_real_address: whether a proxy in front may say who the client is, with one prefix before C0.
    :ivar real_address: the client's IPv4 address if such a prefix came, else ``None``.
    """

    def __init__(self, *, now_ms: int, random: bytes, accept_real_address: bool = False) -> None:
        super().__init__(_Stage.FIRST_BYTE if accept_real_address else _Stage.VERSION, now_ms, random)
        self.real_address: str | None = None

    def _receive_piece(self, piece: bytes) -> bytes:
        match self._stage:
            case _Stage.FIRST_BYTE if piece[0] == _REAL_ADDRESS:
                self._expect(_Stage.ADDRESS_SIZE, 2)
            case _Stage.FIRST_BYTE:
                self._stage = _Stage.VERSION
                return super()._receive_piece(piece)
            case _Stage.ADDRESS_SIZE:
                size = int.from_bytes(piece, "big")
                if not _MIN_ADDRESS_SIZE <= size <= _MAX_ADDRESS_SIZE:
                    raise PeerError(f"real-address prefix of {size} bytes")
                self._expect(_Stage.ADDRESS, size)
            case _Stage.ADDRESS:
                self.real_address = str(IPv4Address(piece[:4]))
                # A second prefix is an error, as in SRS: a chain of proxies replaces the prefix, it does not stack.
                self._expect(_Stage.VERSION, 1)
            case _:
                return super()._receive_piece(piece)
        return b""

    def _answer(self, packet: bytes) -> bytes:
        # librtmp warns unless S2 is exactly C1.
        return _VERSION_BYTE + self._packet_1 + packet


class ClientHandshake(_Handshake):
    """The client's side: send :meth:`start`, then feed what the server sends.

    :param now_ms: the time in milliseconds, from any epoch.
    :param random: :data:`RANDOM_SIZE` bytes.
    """

    def __init__(self, *, now_ms: int, random: bytes) -> None:
        super().__init__(_Stage.VERSION, now_ms, random)

    def start(self) -> bytes:
        """C0 and C1, to be sent first; only a :func:`real_address_prefix` may go before them."""
        return _VERSION_BYTE + self._packet_1

    def _answer(self, packet: bytes) -> bytes:
        return packet


def real_address_prefix(ipv4: str) -> bytes:
    """Tells SRS the address of the client for whom a proxy connects; goes before C0. SRS only logs it.

    :raises ValueError: this is no IPv4 address; the prefix has no other kind.
    """
    address = IPv4Address(ipv4).packed
    return bytes([_REAL_ADDRESS]) + len(address).to_bytes(2, "big") + address
