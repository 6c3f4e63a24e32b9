"""One caller that an origin has taken."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Final

from srsproxy.address import plain_address
from srsproxy.balancer.model import Origin
from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.limits import Admission, Rate
from srsproxy.log import ContextLogger
from srsproxy.relay.flow import Flow, Path, Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.srt.handshake import MAX_FLOW_WINDOW, Handshake, RejectionReason
from srsproxy.srt.negotiation import OriginHandshake
from srsproxy.srt.packet import MAX_SEQUENCE, sequence_number, shutdown
from srsproxy.srt.roaming import Trail
from srsproxy.srt.shared import SOURCE
from srsproxy.stats import Session

CallerId = tuple[Address, int, int]
"""By which handshakes know a caller: its address, its socket id and its initial sequence number."""

_SEQUENCE_NUMBERS: Final = MAX_SEQUENCE + 1

_REFUSALS: Final = 3
"""How often the origin's machine must say that nobody listens, without a word from the origin in between, until it is
believed."""

_SILENCE: Final = 0.25
"""Seconds without a word from a caller's address after which it may have another one."""

_CLAIMS_PER_SECOND: Final = 0.1
_CLAIMS_AT_ONCE: Final = 16
"""How often what comes from another address is looked at whether it is the caller's, lest somebody guesses on and
on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """That an origin has taken a caller.

    :ivar answer: the origin's, to the conclusion.
    :ivar handshake: by which it has taken it.
    """

    origin: Origin
    flow: Flow
    handshake: OriginHandshake
    answer: Handshake


class SrtSession:
    """One session, from when an origin has taken the caller until its outcome.

    :ivar caller_id: by which handshakes know the caller.
    :ivar number: the origin's socket id, which all that the caller sends has for its destination.
    :ivar path: where the caller is.
    :ivar origin: which has taken it.
    :ivar record: its record in the statistics; up to date after :meth:`count`.
    :ivar admission: its place within the limits.
    :ivar trail: how far the caller had come when it was last looked at.
    :ivar begun: when, in seconds.
    :ivar answered_at: when the origin was known to have sent something last.
    """

    __slots__ = (
        "_acknowledged",
        "_claims",
        "_counted",
        "_flow",
        "_handshake",
        "_left",
        "_refusals",
        "_refused_after",
        "admission",
        "answered_at",
        "begun",
        "caller_id",
        "number",
        "origin",
        "path",
        "record",
        "trail",
    )

    def __init__(
        self, caller_id: CallerId, taken: Taken, path: Path, record: Session, admission: Admission, now: float
    ) -> None:
        self._flow = taken.flow
        self._handshake = taken.handshake
        self._acknowledged = taken.answer.initial_sequence_number
        self._counted = 0, 0
        self._left: tuple[Address, Trail] | None = None
        self._refusals = 0
        self._refused_after = 0
        self.caller_id = caller_id
        self.number = taken.answer.socket_id
        self.path = path
        self.origin = taken.origin
        self.record = record
        self.admission = admission
        self.trail = Trail()
        self._claims = Rate("claims", _CLAIMS_PER_SECOND, _CLAIMS_AT_ONCE, now)
        self.begun = self.answered_at = now

    @property
    def caller_socket_id(self) -> int:
        """The destination of all that the origin sends."""
        return self.caller_id[1]

    @property
    def log(self) -> ContextLogger:
        """For lines about it."""
        return ContextLogger(SOURCE, self.record.context)

    # What the caller and the origin send beyond media

    def concluded(self) -> None:
        """The caller has repeated its conclusion, since the answer has not arrived yet: ask the origin for it again."""
        self._flow.send(self._handshake.request)

    def answered(self, data: memoryview) -> None:
        """The origin has sent a handshake: its answer once more."""
        try:
            answer = self._handshake.receive(data)
        except PeerError:
            return
        if answer is not None and not answer.is_rejection and answer.socket_id == self.number:
            self.tell(answer)

    def tell(self, answer: Handshake) -> None:
        """Let the caller have the origin's answer."""
        self._flow.send_to(self.path, self._handshake.answer_to_caller(answer))

    def relay(self, data: memoryview) -> None:
        """Pass on what the caller has sent."""
        self._flow.send(data)

    def may_acknowledge(self, data: memoryview) -> bool:
        """Whether the caller's ACK is not far ahead of those before. SRS goes through the numbers one by one."""
        number = sequence_number(data)
        if number is None:
            return False
        ahead = (number - self._acknowledged) % _SEQUENCE_NUMBERS
        if ahead <= MAX_FLOW_WINDOW:
            self._acknowledged = number
        return ahead <= MAX_FLOW_WINDOW or ahead >= _SEQUENCE_NUMBERS // 2

    # Where the caller is

    def watch(self) -> None:
        """Have the next datagram of the caller shown, for the trail."""
        self._flow.show_next(self.path)

    def has_moved(self, data: memoryview, address: Address, now: float) -> bool:
        """Whether the caller has sent this from elsewhere, because it has another address now. While it still sends
        from the one that is known, it has not; but where it was before it may be again, and whoever has taken its place
        is not the caller.

        :param address: where it has come from.
        :param now: seconds.
        """
        if self._left is not None and self._left[0] == address and self._left[1].leads_to(data, now):
            return True
        if sequence_number(data) is None or now - self.path.heard_at < _SILENCE:
            return False
        try:
            self._claims.spend(now)
        except LimitExceeded:
            return False
        return self.trail.leads_to(data, now)

    def move(self, address: Address, transmit: Transmit) -> None:
        """The caller has another address now."""
        before, self.path = self.path, self._flow.add_path(address, transmit, self.number)
        self._flow.select(self.path)
        self._flow.remove_path(before)
        came_back = self._left is not None and self._left[0] == address
        self._left = None if came_back else (before.address, copy(self.trail))
        was, now = (f"{plain_address(there[0])} port {there[1]}" for there in (before.address, address))
        self.log.info("{what}: the caller has moved from {was} to {now}", what=self.record.doing, was=was, now=now)

    # Its end

    def refused(self) -> bool:
        """The origin's machine says that nobody listens. Returns whether it is to be believed."""
        if self._flow.sent_packets != self._refused_after:
            self._refused_after = self._flow.sent_packets
            self._refusals = 0
        self._refusals += 1
        return self._refusals >= _REFUSALS

    def count(self) -> tuple[bool, bool]:
        """Bring the record up to date. Returns whether since the last time the origin has sent anything, and whether
        its machine has refused anything."""
        flow, record = self._flow, self.record
        record.received, record.received_packets = flow.received_bytes, flow.received_packets
        record.sent, record.sent_packets = flow.sent_bytes, flow.sent_packets
        record.received_drops, record.sent_drops = flow.received_drops, flow.sent_drops
        before, self._counted = self._counted, (flow.sent_packets + flow.sent_drops, flow.refusals)
        return self._counted[0] > before[0], self._counted[1] > before[1]

    def farewell(self) -> bytes:
        """What the caller gets if it repeats its conclusion when the session is over."""
        return self._handshake.rejection(RejectionReason.CLOSE)

    def close(self, *, tell_caller: bool, tell_origin: bool) -> None:
        """Relay nothing any more.

        :param tell_caller: that it is over. The same for the origin.
        """
        if tell_caller:
            self._flow.send_to(self.path, shutdown(self.caller_socket_id))
        if tell_origin:
            self._flow.send(shutdown(self.number))
        # A socket id is not used twice, so whoever has the port next takes nothing that is meant for this caller.
        self._flow.close(forgotten=True)
