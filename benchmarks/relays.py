"""What is compared: the relays, each started anew for each measurement; and nginx as the origin behind them."""

from __future__ import annotations

import http.client
import json
import os
import re
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.processes import (
    HERE,
    Address,
    BenchError,
    Child,
    find_tool,
    free_addresses,
    run_tool,
)
from benchmarks.programs import UDP_RELAY, program

_LISTENERS = ("RTMP_SERVER", "SYSTEM_API", "HTTP_SERVER", "HTTP_API", "WEBRTC_SERVER", "SRT_SERVER")
_API_TIMEOUT = 5.0


class RelayName(StrEnum):
    """What there is to compare."""

    DIRECT = "direct"
    """No relay at all."""
    SRSPROXY = "srsproxy"
    COALESCING = "srsproxy-coalescing"
    """srsproxy that waits for more data of fast publishers."""
    HAPROXY = "haproxy"
    """HAProxy in TCP mode."""
    HAPROXY_HTTP = "haproxy-http"
    """HAProxy in HTTP mode."""
    NGINX = "nginx"
    """nginx as an HTTP reverse proxy."""
    UDP_RELAY = "udprelay"
    """A relay of datagrams in C, which does nothing else."""
    GO = "go"
    """The Go proxy."""


class Protocol(StrEnum):
    """What goes through a relay; named as in an origin's heartbeat."""

    RTMP = "rtmp"
    HTTP = "http"
    RTC = "rtc"
    """WebRTC's media, by UDP."""
    SRT = "srt"


_FRONTS = {
    Protocol.RTMP: "RTMP_SERVER",
    Protocol.HTTP: "HTTP_SERVER",
    Protocol.RTC: "WEBRTC_SERVER",
    Protocol.SRT: "SRT_SERVER",
}
"""What a proxy calls the listener of each protocol."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is behind a relay."""

    protocol: Protocol
    address: Address
    api: Address | None = None
    """Where its sessions are signalled, if they are so apart from their media."""


@dataclass(frozen=True, slots=True)
class Running:
    """A relay that can be used: where clients connect, and the process to measure."""

    address: Address
    pid: int | None
    api: Address | None = None
    """Where clients signal their sessions: the relay's own, or the origin's if it has none."""


@dataclass(frozen=True, slots=True)
class Direct:
    """No relay at all: what the origin and the load cost by themselves."""

    name: RelayName = RelayName.DIRECT

    @contextmanager
    def running(self, origin: Origin, directory: Path) -> Iterator[Running]:
        yield Running(origin.address, None, origin.api)


@dataclass(frozen=True, slots=True)
class HAProxy:
    """HAProxy in one of its modes, ``tcp`` or ``http``."""

    program: str
    name: RelayName
    mode: str

    @contextmanager
    def running(self, origin: Origin, directory: Path) -> Iterator[Running]:
        values = {"mode": self.mode, "origin": str(origin.address)}
        with _configured(self.name, [self.program, "-db", "-f"], "haproxy.cfg", directory, values) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Nginx:
    """nginx as an HTTP reverse proxy."""

    program: str
    name: RelayName = RelayName.NGINX

    @contextmanager
    def running(self, origin: Origin, directory: Path) -> Iterator[Running]:
        with nginx(self.program, "nginx-relay.conf", directory, origin=str(origin.address)) as running:
            yield running


@dataclass(frozen=True, slots=True)
class UdpRelay:
    """Our reference relay of datagrams."""

    name: RelayName = RelayName.UDP_RELAY

    @contextmanager
    def running(self, origin: Origin, directory: Path) -> Iterator[Running]:
        (address,) = free_addresses(1)
        command = [str(program(UDP_RELAY)), "--listen", str(address), "--origin", str(origin.address)]
        with Child(self.name, command, directory) as child:
            child.wait_until_bound(address)
            yield Running(address, child.pid, origin.api)


@dataclass(frozen=True, slots=True)
class MediaProxy:
    """srsproxy, or a proxy that has the same settings and registration: the Go proxy."""

    name: RelayName
    command: tuple[str, ...]
    environ: Mapping[str, str]

    @contextmanager
    def running(self, origin: Origin, directory: Path) -> Iterator[Running]:
        addresses = dict(zip(_LISTENERS, free_addresses(len(_LISTENERS)), strict=True))
        environ = {f"PROXY_{name}": str(address) for name, address in addresses.items()}
        environ["PROXY_STATIC_FILES"] = str(directory)
        front, api, system_api = (addresses[name] for name in (_FRONTS[origin.protocol], "HTTP_API", "SYSTEM_API"))
        with Child(self.name, self.command, directory, {**environ, **self.environ}) as child:
            if origin.protocol in (Protocol.RTC, Protocol.SRT):
                child.wait_until_bound(front)
            else:
                child.wait_until_listening(front)
            child.wait_until_listening(api)
            child.wait_until_listening(system_api)
            _register(system_api, origin)
            yield Running(front, child.pid, api)


Relay = Direct | HAProxy | Nginx | UdpRelay | MediaProxy


def srsproxy(flush_interval: str = "") -> MediaProxy:
    """This checkout's srsproxy, run by the Python that runs the benchmark.

    :param flush_interval: for how long it lets a fast publisher's small writes gather; empty if it does not.
    :raises BenchError: there is no ``twistd`` beside that Python.
    """
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise BenchError(
            f"{twistd} does not exist; install srsproxy into the environment of this Python: pip install -e ."
        )
    environ = {"PROXY_RELAY_FLUSH_INTERVAL": flush_interval, "PYTHONPATH": str(HERE.parent)}
    name = RelayName.COALESCING if flush_interval else RelayName.SRSPROXY
    return MediaProxy(name, (str(twistd), "--nodaemon", "--pidfile=", "srsproxy"), environ)


def go_proxy() -> MediaProxy:
    """The Go proxy that ``GO_PROXY`` in the environment names.

    :raises BenchError: it names none.
    """
    named = os.environ.get("GO_PROXY", "")
    program = Path(named).resolve()
    if not program.is_file() or not os.access(program, os.X_OK):
        raise BenchError(f"GO_PROXY={named!r} in the environment is not the path of a program")
    return MediaProxy(RelayName.GO, (str(program),), {})


@contextmanager
def rtmp_origin(directory: Path) -> Iterator[Address]:
    """nginx with its RTMP module, as the origin.

    :raises BenchError: one of them is not installed.
    """
    program = find_tool("nginx", "nginx libnginx-mod-rtmp")
    built = re.search(r"--modules-path=(\S+)", run_tool([program, "-V"]))
    modules = Path(built[1] if built else "/usr/lib/nginx/modules")
    if not (modules / "ngx_rtmp_module.so").exists():
        raise BenchError(f"nginx has no RTMP module in {modules}; on Debian: apt-get install libnginx-mod-rtmp")
    with nginx(program, "nginx-rtmp.conf", directory, modules=str(modules)) as running:
        yield running.address


@contextmanager
def nginx(program: str, template: str, directory: Path, **values: str) -> Iterator[Running]:
    """nginx with a configuration of ours, which is named for its role."""
    command = [program, "-p", str(directory), "-c"]
    with _configured(Path(template).stem, command, template, directory, values) as running:
        yield running


@contextmanager
def _configured(
    name: str, command: Sequence[str], template: str, directory: Path, values: Mapping[str, str]
) -> Iterator[Running]:
    """A server that reads a file of configuration, whose path ends the command; it listens where ``$listen`` says."""
    (address,) = free_addresses(1)
    config = directory / template
    config.write_text(string.Template((HERE / template).read_text()).substitute(values, listen=address))
    with Child(name, [*command, str(config)], directory) as child:
        child.wait_until_listening(address)
        yield Running(address, child.pid)


def _register(system_api: Address, origin: Origin) -> None:
    """Send the heartbeat of an SRS origin.

    :raises BenchError: it is not taken.
    """
    # A bare port is the form that every proxy understands. The Go proxy takes no origin without RTMP.
    port = str(origin.address.port)
    heartbeat: dict[str, object] = {
        "device_id": "bench",
        "ip": origin.address.host,
        "server": "vid-bench",
        "service": "bench",
        "pid": "1",
        Protocol.RTMP: [port],
        origin.protocol: [port],
    }
    if origin.api:
        heartbeat["api"] = [str(origin.api.port)]
    connection = http.client.HTTPConnection(system_api.host, system_api.port, timeout=_API_TIMEOUT)
    try:
        connection.request("POST", "/api/v1/srs/register", json.dumps(heartbeat), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"registering {origin.address} at {system_api} failed: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise BenchError(f"registering {origin.address} at {system_api} failed: {response.status} {body}")
