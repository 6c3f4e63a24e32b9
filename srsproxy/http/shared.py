"""What all connections of the HTTP server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from srsproxy.balancer.pins import PinRecords, Pins
from srsproxy.config import LoadBalancerType, Settings
from srsproxy.http.head import HeadLimits
from srsproxy.http.local import LocalSite
from srsproxy.http.upstream import Pool
from srsproxy.interfaces import ILoadBalancer, IStreamRelay
from srsproxy.limits import ConnectionLimits
from srsproxy.sessionlog import SessionLog
from srsproxy.stats import Stats

SOURCE = "http"
"""Name in logs; sessions are counted by the format of their stream, and under this name before it is known."""


@dataclass(slots=True)
class Shared:
    """The means of all connections, and what is made from the settings for all."""

    reactor: Any
    settings: Settings
    balancer: ILoadBalancer
    relay: IStreamRelay
    stats: Stats
    limits: ConnectionLimits
    pins: Pins
    local: LocalSite
    sessions: SessionLog = field(init=False)
    pool: Pool = field(init=False)
    head_limits: HeadLimits = field(init=False)
    pin_records: PinRecords | None = field(init=False, default=None)
    """``None`` if nobody shares what the balancer has."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.sessions = SessionLog(SOURCE, self.stats, self.reactor)
        self.pool = Pool(self.reactor, settings.origin_connect_timeout, settings.stall_timeout)
        self.head_limits = HeadLimits(settings.http_max_head_size, settings.http_max_fields)
        if settings.load_balancer_type is LoadBalancerType.REDIS:
            lifetime = min(settings.hls_lifetime, settings.pick_lifetime)
            self.pin_records = PinRecords(self.balancer, self.pins, self.reactor, lifetime)
