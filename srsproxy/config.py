"""Every setting of srsproxy; how the environment, ``.env`` and the command line become one frozen :class:`Settings`.

The fields of :class:`Settings` are the one table: what is read, ``twistd srsproxy --help`` and the check of the sample
file all follow from it. The field ``grace_quit_timeout`` is ``PROXY_GRACE_QUIT_TIMEOUT`` in the environment and in
``.env``, and ``--grace-quit-timeout`` on the command line.

Pure but for reading ``.env`` and the certificates that endpoint descriptions name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dotenv.parser import parse_stream

from srsproxy.errors import ConfigError
from srsproxy.values import (
    ANNOUNCED,
    DATAGRAM_LISTENER,
    DURATION,
    DURATION_OR_ZERO,
    FILE,
    FOLDER,
    HOST,
    NAMES,
    NETWORKS,
    OPTIONAL_STREAM_LISTENER,
    PUBLIC_ADDRESSES,
    SENTINELS,
    STREAM_LISTENER,
    SWITCH,
    TEXT,
    TOKEN,
    BindAddress,
    Kind,
    Listener,
    Network,
    PublicAddress,
    choice,
    whole,
)

PREFIX = "PROXY_"

_MAX_SHOWN = 100
"""Characters of a wrong value that an error shows."""

_MAX_DETAIL = 300
"""Characters of what a parser says is wrong with it, which may repeat all of it."""

T = TypeVar("T")


class LoadBalancerType(StrEnum):
    """Where origins, picks and session records are kept."""

    MEMORY = "memory"
    REDIS = "redis"


class PickPolicy(StrEnum):
    """How an origin is chosen for a stream that has none."""

    LEAST_STREAMS = "least-streams"
    RANDOM = "random"


class LogFormat(StrEnum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


class LogThreshold(StrEnum):
    """The least level that is logged, by the names of :class:`twisted.logger.LogLevel`."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Group(StrEnum):
    """Headings under which settings are listed."""

    LISTENERS = "Listeners"
    SERVICE = "Service"
    BALANCING = "Origins and balancing"
    DEFAULT_BACKEND = "Built-in origin, for debugging"
    RTMP = "RTMP"
    HTTP = "HTTP streams and HLS"
    WEBRTC = "WebRTC"
    SRT = "SRT"
    LIMITS = "Limits"
    RELAY = "Data plane"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: how a field of :class:`Settings` is named, parsed and told."""

    attribute: str
    default: str
    kind: Kind[Any]
    help: str
    group: Group
    alias: str
    """Another name in the environment, or empty."""
    secret: bool
    """Whether its value must not be shown."""

    @property
    def environment_name(self) -> str:
        return PREFIX + self.attribute.upper()

    @property
    def option(self) -> str:
        """The long option's name, without the dashes before it."""
        return self.attribute.replace("_", "-")

    def parse(self, named: str, text: str) -> Any:
        """The value that ``text`` stands for.

        :param named: where the text came from, as the user would name it.
        :raises ConfigError: it stands for none.
        """
        try:
            return self.kind.parse(text)
        except ValueError as error:
            shown = "(hidden)" if self.secret else repr(text[:_MAX_SHOWN])
            detail = f" ({str(error)[:_MAX_DETAIL]})" if str(error) else ""
            # No cause: its text is here already, and describe() would tell it again.
            raise ConfigError(f"{named}={shown}: expected {self.kind.expected}{detail}") from None


def _setting(group: Group, default: str, kind: Kind[T], text: str, alias: str = "", secret: bool = False) -> T:
    row = {"group": group, "default": default, "kind": kind, "help": text, "alias": alias, "secret": secret}
    return field(default_factory=lambda: kind.parse(default), metadata=row, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings; durations are in seconds, sizes in bytes. ``Settings()`` has the defaults."""

    rtmp_server: Listener = _setting(Group.LISTENERS, "11935", STREAM_LISTENER, "RTMP clients")
    http_server: Listener = _setting(Group.LISTENERS, "18080", STREAM_LISTENER, "HTTP streams, HLS and static files")
    http_api: Listener = _setting(
        Group.LISTENERS, "11985", STREAM_LISTENER, "HTTP API: WHIP, WHEP and SRS's own WebRTC API"
    )
    system_api: Listener = _setting(Group.LISTENERS, "12025", STREAM_LISTENER, "heartbeats of origins")
    webrtc_server: BindAddress = _setting(Group.LISTENERS, "18000", DATAGRAM_LISTENER, "WebRTC media over UDP")
    webrtc_tcp_server: Listener | None = _setting(
        Group.LISTENERS,
        "",
        OPTIONAL_STREAM_LISTENER,
        "WebRTC media over TCP, for clients whose network has no UDP; off if unset",
    )
    srt_server: BindAddress = _setting(Group.LISTENERS, "20080", DATAGRAM_LISTENER, "SRT clients over UDP")
    profile: Listener | None = _setting(
        Group.LISTENERS,
        "",
        OPTIONAL_STREAM_LISTENER,
        "profiles of the running process; off if unset. GO_PPROF is taken as well",
        alias="GO_PPROF",
    )

    static_files: Path | None = _setting(Group.SERVICE, "", FOLDER, "root of the static web pages; none if unset")
    grace_quit_timeout: float = _setting(
        Group.SERVICE, "20s", DURATION_OR_ZERO, "how long running sessions may go on after SIGTERM"
    )
    force_quit_timeout: float = _setting(
        Group.SERVICE, "30s", DURATION_OR_ZERO, "how long after SIGTERM the process ends in any case"
    )
    vhosts: frozenset[str] = _setting(
        Group.SERVICE,
        "",
        NAMES,
        "the vhosts in the origins' configuration, separated by commas; all other names are the default vhost",
    )
    trusted_addresses: tuple[Network, ...] = _setting(
        Group.SERVICE,
        "",
        NETWORKS,
        "load balancers in front, allowed to tell the real address of a client; separated by commas",
    )
    cluster_secret: str = _setting(
        Group.SERVICE,
        "",
        TEXT,
        "the same at all proxies in front of one set of origins: it keys the tokens that lead HLS viewers and WebRTC "
        "clients back to their origin, and SRT cookies. If unset, proxies agree on one by Redis, or each draws its own "
        "at each start",
        secret=True,
    )
    log_format: LogFormat = _setting(
        Group.SERVICE, "text", choice(LogFormat), "lines of text, or one JSON object a line"
    )
    log_level: LogThreshold = _setting(Group.SERVICE, "info", choice(LogThreshold), "log nothing below this level")

    load_balancer_type: LoadBalancerType = _setting(
        Group.BALANCING, "memory", choice(LoadBalancerType), "where origins and picks are kept; redis shares them"
    )
    redis_host: str = _setting(Group.BALANCING, "127.0.0.1", HOST, "Redis server")
    redis_port: int = _setting(Group.BALANCING, "6379", whole("port", 1, 65535), "its port")
    redis_socket: str = _setting(Group.BALANCING, "", TEXT, "path of its Unix socket, instead of host and port")
    redis_username: str = _setting(Group.BALANCING, "", TEXT, "its user; the default user if unset")
    redis_password: str = _setting(
        Group.BALANCING, "", TEXT, "its password; better given in the environment, which ps does not show", secret=True
    )
    redis_db: int = _setting(Group.BALANCING, "0", whole("number"), "its database")
    redis_key_prefix: str = _setting(
        Group.BALANCING, "", TEXT, "what all keys begin with, so that several clusters can share a database"
    )
    redis_tls: bool = _setting(
        Group.BALANCING, "off", SWITCH, "use TLS; the certificate must be for the host that the settings name"
    )
    redis_ca: Path | None = _setting(
        Group.BALANCING, "", FILE, "certificates of the authorities to trust, in a PEM file; the system's if unset"
    )
    redis_sentinels: tuple[tuple[str, int], ...] = _setting(
        Group.BALANCING, "", SENTINELS, "Sentinels to ask where Redis is, instead of host and port"
    )
    redis_sentinel_master: str = _setting(Group.BALANCING, "mymaster", TEXT, "by what name Sentinels know it")
    redis_timeout: float = _setting(
        Group.BALANCING, "1s", DURATION, "Redis must answer within this, or the proxy goes on alone until it does"
    )
    register_token: str = _setting(
        Group.BALANCING,
        "",
        TOKEN,
        "if set, origins must register at /api/v1/srs/register/TOKEN; else anyone who reaches the system API can",
        secret=True,
    )
    origin_lifetime: float = _setting(
        Group.BALANCING, "300s", DURATION, "an origin is gone so long after its last heartbeat"
    )
    pick_lifetime: float = _setting(
        Group.BALANCING, "120s", DURATION, "a stream without sessions keeps its origin for so long"
    )
    hls_lifetime: float = _setting(Group.BALANCING, "120s", DURATION, "an idle HLS session is forgotten after so long")
    webrtc_lifetime: float = _setting(
        Group.BALANCING, "120s", DURATION, "an idle WebRTC session is forgotten after so long"
    )
    pick_policy: PickPolicy = _setting(
        Group.BALANCING, "least-streams", choice(PickPolicy), "how a new stream's origin is chosen"
    )
    origin_set_aside: float = _setting(
        Group.BALANCING, "10s", DURATION, "an origin that could not be reached gets no new streams for so long"
    )
    origin_down_after: int = _setting(
        Group.BALANCING, "3", whole("failures", 1), "consecutive failures after which an origin counts as down"
    )
    origin_connect_timeout: float = _setting(
        Group.BALANCING, "3s", DURATION, "an origin must accept a connection within this"
    )

    default_backend_enabled: bool = _setting(Group.DEFAULT_BACKEND, "off", SWITCH, "use it")
    default_backend_ip: str = _setting(Group.DEFAULT_BACKEND, "127.0.0.1", HOST, "its address")
    default_backend_rtmp: str = _setting(Group.DEFAULT_BACKEND, "1935", ANNOUNCED, "its RTMP endpoint")
    default_backend_http: str = _setting(Group.DEFAULT_BACKEND, "", ANNOUNCED, "its HTTP endpoint, usually 8080")
    default_backend_api: str = _setting(Group.DEFAULT_BACKEND, "1985", ANNOUNCED, "its HTTP API endpoint")
    default_backend_rtc: str = _setting(Group.DEFAULT_BACKEND, "8000", ANNOUNCED, "its WebRTC endpoint")
    default_backend_srt: str = _setting(Group.DEFAULT_BACKEND, "10080", ANNOUNCED, "its SRT endpoint")

    rtmp_handshake_timeout: float = _setting(Group.RTMP, "10s", DURATION, "a client must end its handshake within this")
    rtmp_identify_timeout: float = _setting(
        Group.RTMP, "30s", DURATION, "a client must name its stream within this, from its connection on"
    )
    rtmp_origin_timeout: float = _setting(
        Group.RTMP, "5s", DURATION, "an origin must answer handshake, connect and createStream within this"
    )
    rtmp_start_timeout: float = _setting(
        Group.RTMP, "30s", DURATION, "an origin must answer publish or play within this, its hooks included"
    )
    rtmp_republish_timeout: float = _setting(
        Group.RTMP, "3m", DURATION, "a connection that released its stream must name a new one within this"
    )
    rtmp_max_message_size: int = _setting(
        Group.RTMP, "131072", whole("bytes", 1024, 2**24 - 1), "largest message that the proxy parses"
    )
    rtmp_max_unidentified_bytes: int = _setting(
        Group.RTMP, "262144", whole("bytes", 4096), "what a client may send before it names its stream"
    )
    rtmp_max_commands: int = _setting(
        Group.RTMP, "64", whole("commands", 4), "commands that a client may send before it names its stream"
    )
    rtmp_max_message_rate: int = _setting(
        Group.RTMP,
        "200",
        whole("messages", 1),
        "messages a second of a client that the proxy parses, over ten seconds",
    )
    rtmp_max_amf_depth: int = _setting(Group.RTMP, "16", whole("levels", 1, 100), "nesting of AMF values in a command")
    rtmp_max_amf_items: int = _setting(Group.RTMP, "1024", whole("values", 16), "AMF values in a command")
    rtmp_real_address: bool = _setting(
        Group.RTMP,
        "off",
        SWITCH,
        "tell origins the client's address, by a prefix to the handshake that SRS understands",
    )

    http_request_timeout: float = _setting(
        Group.HTTP, "10s", DURATION, "the head of a request must have arrived within this from its beginning"
    )
    http_idle_timeout: float = _setting(
        Group.HTTP, "60s", DURATION, "a connection may wait for its next request for so long"
    )
    http_origin_timeout: float = _setting(
        Group.HTTP, "10s", DURATION, "an origin must begin to answer a request for a file or a playlist within this"
    )
    http_wait_timeout: float = _setting(
        Group.HTTP, "30s", DURATION, "a player that comes before the publisher waits for the stream for so long"
    )
    http_max_head_size: int = _setting(
        Group.HTTP, "16384", whole("bytes", 1024, 2**20), "largest head of a request or an answer"
    )
    http_max_fields: int = _setting(Group.HTTP, "100", whole("fields", 8, 1000), "header fields of a head")
    http_max_playlist_size: int = _setting(
        Group.HTTP, "1048576", whole("bytes", 1024, 2**26), "largest HLS playlist, before and after decompression"
    )

    rtc_candidate: tuple[PublicAddress, ...] = _setting(
        Group.WEBRTC,
        "auto",
        PUBLIC_ADDRESSES,
        "where clients reach the WebRTC listeners; auto: where the client has reached the HTTP API, by its Host if "
        "that is an IP address, or else the local address",
    )
    webrtc_origin_timeout: float = _setting(
        Group.WEBRTC, "10s", DURATION, "an origin must answer an offer within this, its hooks included"
    )
    webrtc_start_timeout: float = _setting(
        Group.WEBRTC, "30s", DURATION, "the client must come by UDP or TCP within this from its answer on"
    )
    webrtc_idle_timeout: float = _setting(
        Group.WEBRTC,
        "30s",
        DURATION,
        "a session ends when its client or its origin has sent nothing for so long",
    )

    srt_origin_timeout: float = _setting(
        Group.SRT, "1s", DURATION, "an origin must answer each of the two steps of a handshake within this"
    )
    srt_handshake_timeout: float = _setting(
        Group.SRT,
        "2500ms",
        DURATION,
        "a caller is connected, or else rejected, within this; callers give up by themselves after 3 s",
    )
    srt_idle_timeout: float = _setting(
        Group.SRT, "10s", DURATION, "a session ends when its caller or its origin has sent nothing for so long"
    )

    max_connections: int = _setting(Group.LIMITS, "0", whole("connections"), "connections of clients; 0 = no limit")
    max_connections_per_address: int = _setting(
        Group.LIMITS, "0", whole("connections"), "connections from one address; 0 = no limit"
    )
    max_pending_per_address: int = _setting(
        Group.LIMITS,
        "2048",
        whole("connections"),
        "connections from one address that have not yet named a stream; 0 = no limit",
    )
    stall_timeout: float = _setting(
        Group.LIMITS,
        "30s",
        DURATION,
        "a client or origin that takes nothing of what it is sent for so long is closed",
    )

    relay_flush_interval: float = _setting(
        Group.RELAY,
        "0s",
        DURATION_OR_ZERO,
        "let small writes of a fast publisher gather for so long: less CPU, more latency; 0 relays them at once",
    )

    unknown_names: tuple[str, ...] = ()
    """Names in the environment or ``.env`` that look like settings and are none."""

    @classmethod
    def load(cls, options: Mapping[str, str | None], environ: Mapping[str, str], dotenv_path: Path | None) -> Settings:
        """The settings in force: command line over process environment over ``.env`` over default. An empty value
        counts as unset.

        :param options: values by :attr:`Setting.option`; absent or ``None`` if not given.
        :param dotenv_path: the file; it need not exist.
        :raises ConfigError: a value cannot be used, or the file cannot be read.
        """
        dotenv = {} if dotenv_path is None else _read_dotenv(dotenv_path)
        named: dict[str, str] = {}
        texts: dict[str, str] = {}
        for setting in SETTINGS:
            found = _mentions(setting, options, environ, dotenv, f" in {dotenv_path}")
            name, text = next(found, (setting.environment_name, setting.default))
            named[setting.attribute], texts[setting.attribute] = name, text
        values = {row.attribute: row.parse(named[row.attribute], texts[row.attribute]) for row in SETTINGS}
        for less, more in (
            ("grace_quit_timeout", "force_quit_timeout"),
            ("srt_origin_timeout", "srt_handshake_timeout"),
        ):
            if values[less] > values[more]:
                raise ConfigError(f"{named[more]}={texts[more]!r}: expected no less than {named[less]}={texts[less]!r}")
        return cls(**values, unknown_names=_unknown_names({**dotenv, **environ}))


SETTINGS: tuple[Setting, ...] = tuple(Setting(row.name, **row.metadata) for row in fields(Settings) if row.metadata)
"""The table."""

_KNOWN_NAMES = frozenset(row.environment_name for row in SETTINGS)


def explain_unknown(name: str) -> str:
    """A line for the log about one of :attr:`Settings.unknown_names`."""
    close = difflib.get_close_matches(name, _KNOWN_NAMES, n=1, cutoff=0.8)
    return f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else "")


def _mentions(
    setting: Setting,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    dotenv: Mapping[str, str],
    in_file: str,
) -> Iterator[tuple[str, str]]:
    """Where a setting is given a value that is not empty, the strongest place first: name and text."""
    if text := options.get(setting.option):
        yield f"--{setting.option}", text
    for source, suffix in ((environ, ""), (dotenv, in_file)):
        for name in filter(None, (setting.environment_name, setting.alias)):
            if text := source.get(name):
                yield name + suffix, text


def _unknown_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(k for k, text in environ.items() if k.startswith(PREFIX) and text and k not in _KNOWN_NAMES))


def _read_dotenv(path: Path) -> dict[str, str]:
    """The assignments in a ``.env`` file; the last one of a name counts. ``$`` means nothing special.

    The parser under :func:`dotenv.dotenv_values` is used because that one drops lines that it cannot parse.
    """
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:  # some editors put a byte order mark first
            for binding in parse_stream(file):
                if binding.error:
                    line = binding.original.string.strip()[:_MAX_SHOWN]
                    raise ConfigError(f"{path} line {binding.original.line}: {line!r}: expected NAME=value")
                if binding.key is not None:
                    values[binding.key] = binding.value or ""
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text") from error
    return values
