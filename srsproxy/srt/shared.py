"""What all parts of the SRT server share."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from srsproxy.config import Settings
from srsproxy.interfaces import ILoadBalancer
from srsproxy.limits import ConnectionLimits
from srsproxy.relay.flow import Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.sessionlog import SessionLog
from srsproxy.srt.cookies import Cookies
from srsproxy.stats import Stats

SOURCE = "srt"
"""Name in logs and counters."""


@dataclass(slots=True)
class Shared:
    """The means of all sessions, and what is made from the settings for all.

    :ivar encryption: Encryption Field that an origin has told last.
    """

    reactor: Any
    settings: Settings
    balancer: ILoadBalancer
    stats: Stats
    limits: ConnectionLimits
    cookies: Cookies
    encryption: int = 0
    log: SessionLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = SessionLog(SOURCE, self.stats, self.reactor)


def send(transmit: Transmit, data: bytes, address: Address) -> None:
    """Send something of our own to a caller. If the kernel does not take it, it is lost as it could be anywhere."""
    with contextlib.suppress(OSError):
        transmit(data, address)
