"""Recorded RTMP sessions: one direction of a connection each, as encoders, players and SRS 7.0.18 wrote it."""

from __future__ import annotations

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
