"""What all parts of the WebRTC server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from srsproxy.config import Settings
from srsproxy.http.head import HeadLimits
from srsproxy.http.upstream import Pool
from srsproxy.interfaces import ILoadBalancer, IStreamRelay
from srsproxy.limits import ConnectionLimits
from srsproxy.sessionlog import SessionLog
from srsproxy.stats import Stats
from srsproxy.webrtc.credentials import Credentials

SOURCE = "webrtc"
"""Name in logs and counters."""


@dataclass(slots=True)
class Shared:
    """The means of all sessions, and what is made from the settings for all.

    :ivar media_port: where this process listens for media over UDP, once it does.
    :ivar media_tcp_port: the same over TCP; ``None`` if it does not.
    """

    reactor: Any
    settings: Settings
    balancer: ILoadBalancer
    relay: IStreamRelay
    stats: Stats
    limits: ConnectionLimits
    credentials: Credentials
    media_port: int = 0
    media_tcp_port: int | None = None
    log: SessionLog = field(init=False)
    pool: Pool = field(init=False)
    head_limits: HeadLimits = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.log = SessionLog(SOURCE, self.stats, self.reactor)
        self.pool = Pool(self.reactor, settings.origin_connect_timeout, settings.stall_timeout)
        self.head_limits = HeadLimits(settings.http_max_head_size, settings.http_max_fields)
