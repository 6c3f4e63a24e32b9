"""What all RTMP sessions of a server share."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure

from srsproxy.config import Settings
from srsproxy.errors import log_failure
from srsproxy.interfaces import ILoadBalancer, IStreamRelay
from srsproxy.limits import ConnectionLimits
from srsproxy.log import ContextLogger, new_context_id
from srsproxy.outcome import Outcome
from srsproxy.rtmp.amf0 import Limits
from srsproxy.rtmp.events import StreamNamed
from srsproxy.rtmp.handshake import RANDOM_SIZE
from srsproxy.rtmp.negotiation import ClientNegotiation, NegotiationLimits
from srsproxy.rtmp.origin import OriginNegotiation
from srsproxy.stats import Session, Stats

SOURCE = "rtmp"
"""Name in logs and counters."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The means of all sessions, and what is made from the settings for each."""

    reactor: Any
    settings: Settings
    balancer: ILoadBalancer
    relay: IStreamRelay
    stats: Stats
    limits: ConnectionLimits

    def open_session(self, peer: str) -> Session:
        """Begin the record of a connection that was accepted."""
        return self.stats.open(SOURCE, new_context_id(), peer, self.reactor.seconds())

    def close_session(self, session: Session, outcome: Outcome, error: BaseException | Failure | None) -> None:
        """End the record, and say so in the log: once, in one line."""
        self.stats.end(session, outcome)
        log = ContextLogger(SOURCE, session.context)
        if error is not None:
            level = LogLevel.info if session.key is None else LogLevel.warn
            failure = error if isinstance(error, Failure) else Failure(error)
            log_failure(log, f"{session.doing} from {session.peer}: {outcome.value}", failure, level)
            return
        log.emit(
            LogLevel.debug if session.key is None else LogLevel.info,
            "{doing} from {peer}: {outcome} after {seconds:.1f} s, {received} bytes in, {sent} bytes out",
            doing=session.doing,
            peer=session.peer,
            outcome=outcome.value,
            seconds=self.reactor.seconds() - session.started,
            received=session.received,
            sent=session.sent,
        )

    def client_negotiation(self, address: str) -> ClientNegotiation:
        """The parser of a new client's side."""
        settings = self.settings
        limits = NegotiationLimits(
            settings.rtmp_max_message_size,
            settings.rtmp_max_unidentified_bytes,
            settings.rtmp_max_commands,
            Limits(max_depth=settings.rtmp_max_amf_depth, max_items=settings.rtmp_max_amf_items),
        )
        return ClientNegotiation(
            limits,
            settings.vhosts,
            accept_real_address=self._is_trusted(address),
            now_ms=self._now_ms(),
            random=os.urandom(RANDOM_SIZE),
        )

    def origin_negotiation(self, named: StreamNamed, peer: str) -> OriginNegotiation:
        """The parser of a new origin connection's side."""
        return OriginNegotiation(
            named,
            real_address=peer if self.settings.rtmp_real_address and _is_ipv4(peer) else None,
            now_ms=self._now_ms(),
            random=os.urandom(RANDOM_SIZE),
            max_message_size=self.settings.rtmp_max_message_size,
        )

    def _now_ms(self) -> int:
        return int(self.reactor.seconds() * 1000) & 0x7FFFFFFF

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.settings.trusted_addresses)


def _is_ipv4(address: str) -> bool:
    """SRS's real-address prefix has room for nothing else."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
