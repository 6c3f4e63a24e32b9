"""What all RTMP sessions of a server share."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Any

from srsproxy.address import is_within
from srsproxy.config import Settings
from srsproxy.interfaces import ILoadBalancer, IStreamRelay
from srsproxy.limits import ConnectionLimits
from srsproxy.rtmp.amf0 import Limits
from srsproxy.rtmp.events import StreamNamed
from srsproxy.rtmp.handshake import RANDOM_SIZE
from srsproxy.rtmp.negotiation import ClientNegotiation, NegotiationLimits
from srsproxy.rtmp.origin import OriginNegotiation
from srsproxy.sessionlog import SessionLog
from srsproxy.stats import Stats

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
    sessions: SessionLog = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sessions", SessionLog(SOURCE, self.stats, self.reactor))

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
            accept_real_address=is_within(address, settings.trusted_addresses),
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


def _is_ipv4(address: str) -> bool:
    """SRS's real-address prefix has room for nothing else."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
