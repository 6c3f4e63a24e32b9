"""Whether a datagram from another address comes from the same caller.

Nothing in SRT is made to prove that, and SRS itself takes nothing from another address than that of the handshake. But
the address of a caller changes when its NAT forgets it or its phone changes networks, and then all else goes on: its
packets say the origin's socket id, are numbered on from where they were, and tell the time of the same clock. Whoever
has not seen them can guess that once in a hundred million times, if he knows the socket id at all.

Who can see them, and cannot send from the caller's own address, could take its place while it says nothing. So the
caller gets it back as soon as it says something.
"""

from __future__ import annotations

from typing import Final

from srsproxy.srt.packet import sequence_number, timestamp

_MAX_AHEAD: Final = 1 << 15
"""Packets that a caller may have sent since its number was last seen: three seconds at 100 Mbit/s."""

_SEQUENCE_NUMBERS: Final = 1 << 31
"""How many there are (draft-sharabayko-srt, section 3.1)."""

_MAX_DRIFT: Final = 1_000_000
"""Microseconds by which the caller's clock may seem to be off: what waits for retransmission, and for the network, has
an older time."""

_TIMESTAMPS: Final = 1 << 32
"""How many there are: they begin anew after 71 minutes (draft-sharabayko-srt, section 3)."""


class Trail:
    """How far a caller had come when it was last looked at."""

    __slots__ = ("_at", "_sequence", "_timestamp")

    def __init__(self) -> None:
        self._sequence: int | None = None
        self._timestamp = 0
        self._at = 0.0

    def note(self, data: memoryview, now: float) -> bool:
        """A datagram of the caller.

        :param now: seconds.
        :returns: whether it says how far the caller has come; keepalives, for one, do not.
        """
        sequence = sequence_number(data)
        if sequence is None:
            return False
        self._sequence, self._timestamp, self._at = sequence, timestamp(data), now
        return True

    def leads_to(self, data: memoryview, now: float) -> bool:
        """Whether the same caller would send this now.

        :param now: seconds.
        """
        sequence = sequence_number(data)
        if sequence is None or self._sequence is None:
            return False
        ahead = (sequence - self._sequence) % _SEQUENCE_NUMBERS
        expected = self._timestamp + round((now - self._at) * 1e6)
        drift = (timestamp(data) - expected + _MAX_DRIFT) % _TIMESTAMPS
        return ahead <= _MAX_AHEAD and drift <= 2 * _MAX_DRIFT
