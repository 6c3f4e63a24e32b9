"""Where Redis is, what it is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from srsproxy.errors import SrsProxyError

Reply: TypeAlias = "str | int | list[Reply] | None"
"""What Redis answers. Bytes that are no UTF-8 become lone surrogates, as in :pep:`383`."""


class StoreError(SrsProxyError):
    """What was asked of Redis has not been done, or nobody knows whether it has."""


class StoreLost(StoreError):
    """There is no connection to Redis, or it does not answer in time."""


class CommandRefused(StoreError):
    """Redis answers, and will not do it; the text is what it says, beginning with the code of its error if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where Redis is, and as whom to log in there.

    :ivar username: of Redis's access control lists; empty is the default user.
    :ivar password: empty is none.
    :ivar db: index of the database.
    :ivar socket: path of a Unix socket, instead of host and port.
    :ivar tls: whether to use TLS, and so to check that the certificate is for the host; for Sentinels too.
    :ivar ca: file with the certificates of the authorities to trust, in PEM form; None are those of the system.
    :ivar sentinels: hosts and ports to ask where the master is, instead of using ``host`` and ``port``.
    :ivar master: by what name the Sentinels know it.
    """

    host: str = "127.0.0.1"
    port: int = 6379
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    socket: str = ""
    tls: bool = False
    ca: Path | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""

    def __str__(self) -> str:
        """As people call it; without the password."""
        if self.sentinels:
            return f"Redis {self.master} (by Sentinel)"
        return f"Redis at {self.socket or address(self.host, self.port)}"


def address(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long what is in Redis lives there, in seconds."""

    origin: float
    pick: float
    hls: float
    webrtc: float
