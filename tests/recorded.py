"""Recorded traffic of encoders, players, WebRTC peers and SRS 7.0.18.

RTMP is one direction of a connection each, HTTP one message, UDP the datagrams of both directions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parent / "captures"

HANDSHAKE_SIZE = 1 + 1536 + 1536
"""Bytes before the chunk stream, in both directions."""


@dataclass(frozen=True, slots=True)
class Recording:
    """``name`` ends in ``.c2s`` (client to server) or ``.s2c``. Some end within a message."""

    name: str
    data: bytes

    @property
    def handshake(self) -> bytes:
        """C0, C1 and C2, or S0, S1 and S2."""
        return self.data[:HANDSHAKE_SIZE]

    @property
    def chunks(self) -> bytes:
        """What follows the handshake."""
        return self.data[HANDSHAKE_SIZE:]


def rtmp(name: str) -> Recording:
    """One recording, such as ``publish_ffmpeg.c2s``."""
    return Recording(name, (CAPTURES / f"rtmp_{name}.bin").read_bytes())


RTMP_NAMES = sorted(path.stem.removeprefix("rtmp_") for path in CAPTURES.glob("rtmp_*.bin"))
"""The names of all recordings."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram of a recorded UDP session."""

    to_server: bool
    data: bytes


def datagrams(name: str) -> list[Datagram]:
    """A recorded UDP session, such as ``rtc_whep_udp``."""
    recorded = (CAPTURES / f"{name}.dgrams").read_bytes()
    found = []
    at = 0
    while at < len(recorded):
        direction, _, size = struct.unpack_from(">BIH", recorded, at)
        at += 7 + size
        found.append(Datagram(direction == 0, recorded[at - size : at]))
    return found


def http_body(name: str) -> bytes:
    """The body of a recorded HTTP message, such as ``whip.request``."""
    return (CAPTURES / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]
