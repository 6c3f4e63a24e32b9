"""What the programs of libsrt send and what they make of what they receive."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from typing import Final

TS_PACKETS: Final = 7
"""In a payload, as encoders have them."""

PAYLOAD_SIZE: Final = TS_PACKETS * 188

_TS_HEADER: Final = b"\x47\x1f\xff\x10"
"""Of a packet without content (ISO/IEC 13818-1, 2.4.1): SRS takes nothing that is no MPEG-TS."""

_CONTENT_SIZE: Final = PAYLOAD_SIZE - TS_PACKETS * len(_TS_HEADER)


def payload(number: int) -> bytes:
    """MPEG-TS that begins with its number, all of whose other bytes follow from that."""
    content = number.to_bytes(8, "big")
    content += hashlib.shake_128(content).digest(_CONTENT_SIZE - len(content))
    size = _CONTENT_SIZE // TS_PACKETS
    return b"".join(_TS_HEADER + content[at : at + size] for at in range(0, _CONTENT_SIZE, size))


class Reception:
    """Counts payloads, also those that do not come one by one.

    :ivar bytes: that have come.
    :ivar packets: payloads that have come as they were sent.
    :ivar missing: that had not come when later ones did.
    :ivar wrong: that are not as they were sent, or came out of order.
    """

    def __init__(self) -> None:
        self.bytes = self.packets = self.missing = self.wrong = 0
        self._unread = b""
        self._next: int | None = None

    def add(self, data: bytes) -> None:
        """These bytes have come. The first payload may have any number: players may come late."""
        self.bytes += len(data)
        self._unread += data
        while len(self._unread) >= PAYLOAD_SIZE:
            self._add_payload(self._unread[:PAYLOAD_SIZE])
            self._unread = self._unread[PAYLOAD_SIZE:]

    def _add_payload(self, data: bytes) -> None:
        number = int.from_bytes(data[len(_TS_HEADER) :][:8], "big")
        expected = number if self._next is None else self._next
        if data != payload(number) or number < expected:
            self.wrong += 1
            return
        self.packets += 1
        self.missing += number - expected
        self._next = number + 1

    @property
    def summary(self) -> dict[str, int]:
        """All counters."""
        return {"bytes": self.bytes, "packets": self.packets, "missing": self.missing, "wrong": self.wrong}


class Ticker:
    """Tells when it is time again.

    :param interval: seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = time.monotonic()

    def is_due(self) -> bool:
        """Whether an interval has passed since this was true."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval
        return True


def tell(event: str, **members: object) -> None:
    """Say what has happened."""
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


def end_at_sigterm() -> None:
    """From now on SIGTERM ends the program in the manner of ``sys.exit()``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
