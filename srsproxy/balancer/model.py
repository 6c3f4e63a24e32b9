"""What a balancer stores: origins with their endpoints, and the records of HLS and WebRTC sessions."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

from srsproxy.errors import LimitExceeded, PeerError

MAX_ID_LENGTH: Final = 128
"""Characters of ``server``, ``service``, ``pid`` and ``spbhid`` each, which become parts of Redis keys; SRS's have 5 to
12."""

MAX_DEVICE_ID_LENGTH: Final = 256
"""Characters of ``device_id``, which is the operator's own text and only shown."""

MAX_KEY_LENGTH: Final = 1024
"""Characters of a stream key. A balancer keeps very many; SRS itself would take 64 KB for a name."""

MAX_URL_LENGTH: Final = 4096
"""Characters of the URL in an HLS record; long enough for the tokens that players carry."""

MAX_UFRAG_LENGTH: Final = 513
"""Characters of a STUN username: bytes, all of them ASCII (RFC 8489, section 14.3)."""

MAX_ICE_PWD_LENGTH: Final = 256
"""Characters of an ICE password (RFC 8839, section 5.4)."""

MAX_LISTENERS: Final = 16
"""Listeners of one surface; every one may cost a client a connect timeout."""

_MAX_HOST_LENGTH: Final = 253
"""Characters of a host name in text form (RFC 1035, section 2.3.4)."""

_MAX_LISTENER_LENGTH: Final = _MAX_HOST_LENGTH + len("udp://[]:65535")
"""Characters of one announced listener."""

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# Underscores are no part of a host name in RFC 1123, but container networks hand out such names.
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_IP_LITERAL: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LISTENER: Final = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?:(?P<host>.*):)?(?P<port>[0-9]{1,5})")


def check_length(name: str, text: str, longest: int) -> None:
    """
    :raises LimitExceeded: a text that a balancer would keep is longer than it may be.
    """
    if len(text) > longest:
        raise LimitExceeded(f"{name}: longer than {longest} characters")


class Surface(Enum):
    """The kinds of endpoint that an origin announces, by their name in SRS's heartbeat."""

    RTMP = "rtmp"
    HTTP = "http"
    API = "api"
    SRT = "srt"
    RTC = "rtc"


_TRANSPORTS: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.RTMP: ("tcp",),
    Surface.HTTP: ("tcp",),
    Surface.API: ("tcp",),
    Surface.SRT: ("udp",),
    Surface.RTC: ("udp", "tcp"),
}
"""What each surface runs on; the first is meant by a listener that names none."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to dial one surface of an origin. ``host`` is an IP literal (no brackets) or a name to resolve."""

    host: str
    port: int
    transport: str = "tcp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _is_wildcard(host: str) -> bool:
    """Whether a host stands for every address of its own machine, which means *this* machine when dialled."""
    if not _IP_LITERAL.fullmatch(host):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_unspecified


def _check_host(host: str) -> None:
    """
    :raises PeerError: the host is neither an IP literal nor a host name. A name that ends in a number is none:
        resolvers read ``0``, ``127.1`` or ``0x0`` as old forms of IPv4 addresses, and so dial the proxy's own machine.
    """
    if len(host) <= _MAX_HOST_LENGTH:
        if _IP_LITERAL.fullmatch(host):
            try:
                ipaddress.ip_address(host)
            except ValueError:
                pass
            else:
                return
        if _HOST_NAME.fullmatch(host) and not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return
    raise PeerError(f"{host[:_MAX_HOST_LENGTH]!r} is neither an IP address nor a host name")


def parse_listener(listener: str, surface: Surface) -> Endpoint:
    """One announced listener in SRS's forms: ``1935``, ``127.0.0.1:1935``, ``[::]:1935``, ``udp://0.0.0.0:8000``.

    The host of the result is empty if the listener names none, or a wildcard such as ``0.0.0.0``.

    :raises PeerError: the listener has no such form, or a transport that the surface does not run on.
    """
    found = _LISTENER.fullmatch(listener) if len(listener) <= _MAX_LISTENER_LENGTH else None
    if found is None:
        raise PeerError(f"{listener[:_MAX_LISTENER_LENGTH]!r} is no listener such as 1935, 127.0.0.1:1935 or [::]:1935")
    transport = found["scheme"] or _TRANSPORTS[surface][0]
    if transport not in _TRANSPORTS[surface]:
        raise PeerError(f"{listener!r} runs on {transport}, not on {' or '.join(_TRANSPORTS[surface])}")
    port = int(found["port"])
    if not 0 < port <= 65535:
        raise PeerError(f"{listener!r} has no port from 1 to 65535")
    host = found["host"] or ""
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    if host:
        _check_host(host)
    return Endpoint("" if _is_wildcard(host) else host, port, transport)


@lru_cache(maxsize=4096)
def _endpoints(ip: str, listeners: tuple[str, ...], surface: Surface) -> tuple[Endpoint, ...]:
    """The addresses behind announced listeners. Remembered because HTTP asks for them at each request."""
    parsed = (parse_listener(listener, surface) for listener in listeners)
    return tuple(Endpoint(found.host or ip, found.port, found.transport) for found in parsed)


@dataclass(frozen=True, slots=True)
class Origin:
    """One registered origin, as its latest heartbeat told it.

    ``server`` survives a restart of the origin, ``service`` and ``pid`` do not. ``ip`` may be a host name. ``rtmp`` to
    ``rtc`` hold the announced listeners per surface, in the origin's own words (``"1935"``, ``"127.0.0.1:1935"``,
    ``"udp://0.0.0.0:8000"``), so that a registration can be stored and shared exactly as it came; :meth:`dial` turns
    them into addresses, and cannot fail, because an origin with a bad address or listener cannot be made.

    :raises PeerError: ``ip`` or a listener cannot be dialled; the text names the field.
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

    def __post_init__(self) -> None:
        try:
            _check_host(self.ip)
        except PeerError as error:
            raise PeerError(f"ip: {error}") from None
        if _is_wildcard(self.ip):
            raise PeerError(f"ip: {self.ip!r} is every address of the origin's machine, not one to dial")
        for surface in Surface:
            try:
                for listener in self.listeners(surface):
                    parse_listener(listener, surface)
            except PeerError as error:
                raise PeerError(f"{surface.value}: {error}") from None

    @property
    def id(self) -> str:
        """The Go proxy's server id: ``<server>-<service>-<pid>``."""
        return f"{self.server}-{self.service}-{self.pid}"

    def listeners(self, surface: Surface) -> tuple[str, ...]:
        """The announced listeners of one surface, in the origin's own words."""
        listeners: tuple[str, ...] = getattr(self, surface.value)
        return listeners

    def dial(self, surface: Surface) -> tuple[Endpoint, ...]:
        """Where to reach a surface: every announced listener in its order, none if the surface is not announced.

        A listener bound to one address is dialled there, any other at the origin's ``ip``.
        """
        return _endpoints(self.ip, self.listeners(surface), surface)

    def __str__(self) -> str:
        surfaces = (
            f"{surface.value} {' '.join(self.listeners(surface))}" for surface in Surface if self.listeners(surface)
        )
        return f"{self.id} at {self.ip} ({', '.join(surfaces)})"


@dataclass(frozen=True, slots=True)
class HlsSession:
    """What an HLS viewer refers to by ``spbhid``, the parameter that the proxy adds to the URIs of a playlist.

    ``key`` is the stream's; ``full_url`` is the URL of the playlist as the first viewer asked for it.

    :raises LimitExceeded: a text is too long to be kept.
    """

    spbhid: str
    key: str
    full_url: str

    def __post_init__(self) -> None:
        check_length("spbhid", self.spbhid, MAX_ID_LENGTH)
        check_length("stream key", self.key, MAX_KEY_LENGTH)
        check_length("playlist URL", self.full_url, MAX_URL_LENGTH)


@dataclass(frozen=True, slots=True)
class WebRtcSession:
    """What a proxy must know of a WebRTC session to relay its media.

    ``ufrag`` is the STUN username by which the session is found: ``<origin's ufrag>:<client's ufrag>``. ``server`` is
    that of the origin, ``ice_pwd`` the origin's ICE password, which keys the integrity of what the client sends;
    ``action`` is ``publish`` or ``play``.

    :raises LimitExceeded: a text is too long to be kept.
    """

    key: str
    ufrag: str
    server: str
    ice_pwd: str = field(repr=False)
    action: str

    def __post_init__(self) -> None:
        check_length("stream key", self.key, MAX_KEY_LENGTH)
        check_length("ufrag", self.ufrag, MAX_UFRAG_LENGTH)
        check_length("ice-pwd", self.ice_pwd, MAX_ICE_PWD_LENGTH)


def _required(fields: dict[object, object], name: str, longest: int = MAX_ID_LENGTH) -> str:
    """A field that must be there; it may become part of keys and log lines, so it is visible ASCII."""
    value = fields.get(name)
    if value is None:
        raise PeerError(f"{name}: missing")
    if not isinstance(value, str):
        raise PeerError(f"{name}: not a string")
    if not value:
        raise PeerError(f"{name}: empty")
    check_length(name, value, longest)
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise PeerError(f"{name}: {value!r} has characters other than printable ASCII without spaces")
    return value


def _listeners(fields: dict[object, object], surface: Surface) -> tuple[str, ...]:
    """The list of one surface; a missing one and an empty one mean the same."""
    value = fields.get(surface.value)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PeerError(f"{surface.value}: not a list")
    if len(value) > MAX_LISTENERS:
        raise PeerError(f"{surface.value}: more than {MAX_LISTENERS} listeners")
    listeners = tuple(listener for listener in value if isinstance(listener, str))
    if len(listeners) != len(value):
        raise PeerError(f"{surface.value}: not a list of strings")
    return listeners


def parse_heartbeat(body: object) -> Origin:
    """The origin that a decoded heartbeat of SRS announces; fields that are of no use here (``summaries``) are ignored.

    :raises PeerError: a field is missing or unusable; the text names it.
    """
    if not isinstance(body, dict):
        raise PeerError("the heartbeat is no JSON object")
    device_id = body.get("device_id")
    if device_id is None:
        device_id = ""
    if not isinstance(device_id, str):
        raise PeerError("device_id: not a string")
    check_length("device_id", device_id, MAX_DEVICE_ID_LENGTH)
    if not device_id.isprintable():
        raise PeerError(f"device_id: {device_id!r} has control characters")
    rtmp, http, api, srt, rtc = (_listeners(body, surface) for surface in Surface)
    origin = Origin(
        ip=_required(body, "ip", _MAX_HOST_LENGTH),
        server=_required(body, "server"),
        service=_required(body, "service"),
        pid=_required(body, "pid"),
        device_id=device_id,
        rtmp=rtmp,
        http=http,
        api=api,
        srt=srt,
        rtc=rtc,
    )
    if not any(origin.listeners(surface) for surface in Surface):
        raise PeerError("no listener is announced: set `ports on` in the heartbeat of SRS")
    return origin
