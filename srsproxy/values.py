"""The kinds of value that a setting can have: how its text is parsed, and how a person is told what would be right.

A parser gets the text as the user wrote it and raises ``ValueError`` when it cannot be used; the text of that error, if
any, is a detail to add to :attr:`Kind.expected`. Kinds whose settings may be unset also parse the empty text.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

import durationpy
from twisted.internet.endpoints import quoteStringArgument, serverFromString

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TCP_BACKLOG = 1024
"""Connections that the kernel accepts ahead of us: a whole restart's reconnects, where Twisted's 50 would drop SYNs."""

MAX_DURATION = 240 * 3600.0
"""Seconds. ``epoll_wait`` takes milliseconds in a C ``int`` (24.8 days): a longer timer would break the reactor."""

MAX_WHOLE = 2**31 - 1

AUTO = "auto"
"""A setting that follows from what each client does; its value is empty."""

# Go's time.ParseDuration; durationpy would also take days to years, and rubbish between two parts.
_DURATION = re.compile(r"(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_ADDRESS = re.compile(r"(?:(?P<v4>[0-9.]*|localhost):|\[(?P<v6>[^\[\]]+)\]:)?(?P<port>[0-9]{1,5})")
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_ANNOUNCED = re.compile(rf"(?:(?:tcp|udp)://)?(?:(?:{_HOST}|\[[0-9A-Fa-f:.]+\])?:)?(?P<port>[0-9]{{1,5}})")
_PUBLIC_ADDRESS = re.compile(rf"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>{_HOST}))(?::(?P<port>[0-9]{{1,5}}))?")
_SENTINEL_PORT = 26379
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value."""

    name: str
    """Short, for the list of options: ``duration``, ``bytes``, ``on|off``."""

    expected: str
    """What a right value looks like, to follow "expected"."""

    parse: Callable[[str], T]


@dataclass(frozen=True, slots=True)
class BindAddress:
    """An address to listen on; ``host`` is an IP literal without brackets, or empty for all interfaces."""

    host: str
    port: int

    @property
    def interface(self) -> str:
        """The IP literal to bind: ``host``, or for all interfaces ``::`` where that takes IPv4 as well, else
        ``0.0.0.0``. IPv4 peers of a socket on ``::`` have addresses such as ``::ffff:192.0.2.1``."""
        return self.host or ("::" if _dual_stack() else "0.0.0.0")  # noqa: S104 - what the user asks for by giving no address

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """Where clients reach us; ``host`` is an IP literal without brackets, or a name. ``port`` is that of the listener
    if ``None``."""

    host: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a stream surface listens: an address, or an endpoint description in Twisted's language."""

    where: BindAddress | str

    def endpoint_description(self) -> str:
        """The description for :func:`twisted.internet.endpoints.serverFromString`."""
        if isinstance(self.where, str):
            return self.where
        interface = self.where.interface
        family = "tcp6" if ":" in interface else "tcp"
        return f"{family}:{self.where.port}:interface={quoteStringArgument(interface)}:backlog={TCP_BACKLOG}"

    def __str__(self) -> str:
        return str(self.where)


def _dual_stack() -> bool:
    """Whether a socket bound to ``::`` takes IPv4 too, as Twisted makes it: with the system's default for
    ``IPV6_V6ONLY``, which :func:`socket.has_dualstack_ipv6` does not look at."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False


def _port(text: str) -> int:
    port = int(text)
    if port > 65535:
        raise ValueError(f"{port} is no port")
    return port


def _bind_address(text: str) -> BindAddress:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError
    port = _port(match["port"])
    if match["v6"]:
        return BindAddress(str(ipaddress.IPv6Address(match["v6"])), port)
    if match["v4"] == "localhost":  # what Go users give GO_PPROF
        return BindAddress("127.0.0.1", port)
    return BindAddress(str(ipaddress.IPv4Address(match["v4"])) if match["v4"] else "", port)


def _listener(text: str) -> Listener:
    if _ADDRESS.fullmatch(text):
        return Listener(_bind_address(text))
    try:
        # Endpoints only keep the reactor until they listen, so that anything will do here. Those with certificates
        # read them already, which tells a wrong path at start-up, with the name of the setting.
        serverFromString(object(), text)
    except Exception as error:  # endpoint plugins are other people's; whatever they raise is about the text
        detail = " ".join(str(error).split()).encode("unicode_escape").decode()
        raise ValueError(detail or type(error).__name__) from error
    kind, *arguments = re.split(r"(?<!\\):", text)
    if kind == "tls" and not any(Path(arguments[0].replace("\\:", ":")).glob("*.pem")):
        # Twisted would listen all the same, and fail each handshake.
        raise ValueError(f"no *.pem in {arguments[0]}")
    return Listener(text)


def _optional_listener(text: str) -> Listener | None:
    return _listener(text) if text else None


def _seconds(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise ValueError
    seconds = durationpy.from_str(text).total_seconds()
    if seconds > MAX_DURATION:
        raise ValueError
    return seconds


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds <= 0:
        raise ValueError
    return seconds


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def _names(text: str) -> frozenset[str]:
    names = _items(text)
    for name in names:
        if not re.fullmatch(_HOST, name):
            raise ValueError(f"{name!r} is no name")
    return frozenset(names)


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(item) for item in _items(text))


def _items(text: str) -> list[str]:
    return [item for item in (part.strip() for part in text.split(",")) if item]


def _token(text: str) -> str:
    if text and not _PATH_SEGMENT.fullmatch(text):
        raise ValueError
    return text


def _host(text: str) -> str:
    if ":" in text:
        ipaddress.IPv6Address(text)
    elif not re.fullmatch(_HOST, text):
        raise ValueError
    return text


def _announced(text: str) -> str:
    match = _ANNOUNCED.fullmatch(text)
    if text and (match is None or _port(match["port"]) == 0):
        raise ValueError
    return text


def public_address(text: str) -> PublicAddress:
    """An address at which clients reach us: an IP address or a name, and maybe a port. An IPv6 address is in brackets,
    or has no port.

    :raises ValueError: it is none.
    """
    match = _PUBLIC_ADDRESS.fullmatch(text)
    if match is None:
        return PublicAddress(str(ipaddress.IPv6Address(text)))
    host, port = match["host"], match["port"]
    if match["v6"]:
        host = str(ipaddress.IPv6Address(match["v6"]))
    elif host.replace(".", "").isdecimal():
        host = str(ipaddress.IPv4Address(host))
    if port is not None and _port(port) == 0:
        raise ValueError("0 is no port")
    return PublicAddress(host, None if port is None else int(port))


def _public_addresses(text: str) -> tuple[PublicAddress, ...]:
    return () if text == AUTO else tuple(public_address(item) for item in _items(text))


def _sentinels(text: str) -> tuple[tuple[str, int], ...]:
    addresses = map(public_address, _items(text))
    return tuple((address.host, address.port or _SENTINEL_PORT) for address in addresses)


def _optional_file(text: str) -> Path | None:
    # Unlike pathlib's, these raise nothing.
    if text and not os.path.isfile(text):
        raise ValueError("there is none")
    return Path(text) if text else None


def _optional_folder(text: str) -> Path | None:
    if text and not os.path.isdir(text):
        raise ValueError("there is none")
    return Path(text) if text else None


def whole(name: str, minimum: int = 0, maximum: int = MAX_WHOLE) -> Kind[int]:
    """Whole numbers in a range, both ends included; ``name`` is their unit."""

    def parse(text: str) -> int:
        # int() would take signs, blanks, underscores and other scripts' digits as well
        if not re.fullmatch(r"[0-9]{1,10}", text) or not minimum <= int(text) <= maximum:
            raise ValueError
        return int(text)

    return Kind(name, f"a whole number from {minimum} to {maximum}", parse)


def choice(values: type[E]) -> Kind[E]:
    """One of the values of an enumeration."""

    def parse(text: str) -> E:
        if text not in list(values):
            raise ValueError
        return values(text)

    return Kind("|".join(values), " or ".join(values), parse)


STREAM_LISTENER: Kind[Listener] = Kind(
    "listener",
    "PORT, IP:PORT, [IPV6]:PORT or a Twisted endpoint description such as tls:/etc/certificates:443",
    _listener,
)
OPTIONAL_STREAM_LISTENER: Kind[Listener | None] = Kind("listener", STREAM_LISTENER.expected, _optional_listener)
DATAGRAM_LISTENER: Kind[BindAddress] = Kind("address", "PORT, IP:PORT or [IPV6]:PORT", _bind_address)
DURATION: Kind[float] = Kind(
    "duration", "a duration such as 500ms, 30s or 1m30s, above 0 and up to 240h", _positive_seconds
)
DURATION_OR_ZERO: Kind[float] = Kind("duration", "a duration such as 0s, 30s or 1m30s, up to 240h", _seconds)
SWITCH: Kind[bool] = Kind("on|off", "on or off", _switch)
HOST: Kind[str] = Kind("host", "an IP address or a host name", _host)
ANNOUNCED: Kind[str] = Kind("endpoint", "PORT or IP:PORT, as an origin announces it", _announced)
NAMES: Kind[frozenset[str]] = Kind("names", "names separated by commas", _names)
NETWORKS: Kind[tuple[Network, ...]] = Kind(
    "networks", "IP addresses or networks such as 10.0.0.0/8, separated by commas", _networks
)
PUBLIC_ADDRESSES: Kind[tuple[PublicAddress, ...]] = Kind(
    "addresses",
    "auto, or IP addresses or host names separated by commas, each of which may have a port: 192.0.2.1:18000",
    _public_addresses,
)
TOKEN: Kind[str] = Kind("token", "letters, digits, _ and -", _token)
TEXT: Kind[str] = Kind("text", "text", str)
FOLDER: Kind[Path | None] = Kind("folder", "the path of a folder", _optional_folder)
FILE: Kind[Path | None] = Kind("file", "the path of a file", _optional_file)
SENTINELS: Kind[tuple[tuple[str, int], ...]] = Kind(
    "sentinels",
    f"IP addresses or host names separated by commas, each of which may have a port other than {_SENTINEL_PORT}",
    _sentinels,
)
