"""What a balancer stores: origins with their endpoints, and the records of HLS and WebRTC sessions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Surface(Enum):
    """The kinds of endpoint that an origin announces, by their name in SRS's heartbeat."""

    RTMP = "rtmp"
    HTTP = "http"
    API = "api"
    SRT = "srt"
    RTC = "rtc"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to dial one surface of an origin. ``host`` is an IP literal (no brackets) or a name to resolve."""

    host: str
    port: int
    transport: str = "tcp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Origin:
    """One registered origin, as its latest heartbeat told it.

    ``server`` survives a restart of the origin, ``service`` and ``pid`` do not. ``endpoints`` holds the announced
    listeners per surface, in the origin's own words (``"1935"``, ``"127.0.0.1:1935"``, ``"udp://0.0.0.0:8000"``), so that
    a registration can be stored and shared exactly as it came; :meth:`dial` turns them into addresses.
    """

    ip: str
    server: str
    service: str
    pid: str
    device_id: str = ""
    rtmp: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    api: tuple[str, ...] = ()
    srt: tuple[str, ...] = ()
    rtc: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The Go proxy's server id: ``<server>-<service>-<pid>``."""
        return f"{self.server}-{self.service}-{self.pid}"
