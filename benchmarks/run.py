"""Compare srsproxy with HAProxy, nginx, a relay in C and, if GO_PROXY names it, the Go proxy. See README.rst."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, IDLE_BASE, Bench, Case
from benchmarks.load import STYLES
from benchmarks.processes import HERE, Address, BenchError, find_tool, progress
from benchmarks.programs import build_programs
from benchmarks.relays import (
    Direct,
    HAProxy,
    Nginx,
    Origin,
    Protocol,
    Relay,
    RelayName,
    UdpRelay,
    go_proxy,
    rtmp_origin,
    srsproxy,
)
from benchmarks.report import Result, Round, figure_line, figures, summarize, table

_DESCRIPTORS_PER_SESSION = 6
"""Of a relay: two sockets and, in some, a pipe each way."""
_SPARE_DESCRIPTORS = 200
_RELAYS = [name for name in RelayName if name != RelayName.DIRECT]


def host_and_port(text: str) -> Address:
    """The address of an origin; a name is resolved."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    try:
        return Address(socket.gethostbyname(host), int(port))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def case_names(text: str) -> list[Case]:
    """The cases that are named, in that order."""
    known = {case.name: case for case in CASES}
    return [known[name] for name in _names(text, list(known))]


def relay_names(text: str) -> list[RelayName]:
    """The relays that are named, in that order."""
    return [RelayName(name) for name in _names(text, _RELAYS)]


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}, only {', '.join(known)}")
    return names


def positive_number(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    every_case = ",".join(case.name for case in CASES)
    every_relay = ",".join(name for name in _RELAYS if name != RelayName.GO or os.environ.get("GO_PROXY"))
    add("--cases", type=case_names, default=every_case, help="what to measure, in this order")
    add("--relays", type=relay_names, default=every_relay, help="what to compare, in this order")
    add("--streams", type=positive_number, default=200, help="publishers, players, or sessions of WebRTC or SRT")
    add("--seconds", type=positive_number, default=10, help="how long each measurement takes")
    add("--rounds", type=positive_number, default=3, help="how many times each relay is measured")
    add("--idle", type=positive_number, default=1000, help="sessions whose memory is measured")
    add("--style", choices=STYLES, default=STYLES[0], help="how publishers write, see README.rst")
    add("--flush-interval", default="10ms", metavar="DURATION", help="of srsproxy-coalescing")
    add(
        "--origin",
        type=host_and_port,
        default=os.environ.get("BENCH_ORIGIN"),
        metavar="HOST:PORT",
        help="the RTMP origin, such as SRS; BENCH_ORIGIN does the same; an nginx is started if there is none",
    )
    add(
        "--http-origin",
        type=host_and_port,
        default=os.environ.get("BENCH_HTTP_ORIGIN"),
        metavar="HOST:PORT",
        help="where the same origin serves HTTP-FLV; BENCH_HTTP_ORIGIN does the same; else the load generator does",
    )
    add("--json", type=Path, default=HERE / "results" / "latest.json", metavar="FILE", help="where all values go")
    options = parser.parse_args(arguments)
    if options.http_origin and not options.origin:
        parser.error("--http-origin needs --origin: where its streams are published")
    return options


_OURS = (RelayName.DIRECT, RelayName.SRSPROXY, RelayName.COALESCING)


def _relays(names: Sequence[RelayName], flush_interval: str) -> list[Relay]:
    """The relays of these names, after the run without a relay.

    :raises BenchError: the program of one is missing.
    """
    found: dict[RelayName, Callable[[], Relay]] = {
        RelayName.SRSPROXY: srsproxy,
        RelayName.COALESCING: lambda: srsproxy(flush_interval),
        RelayName.HAPROXY: lambda: HAProxy(find_tool("haproxy"), RelayName.HAPROXY, "tcp"),
        RelayName.HAPROXY_HTTP: lambda: HAProxy(find_tool("haproxy"), RelayName.HAPROXY_HTTP, "http"),
        RelayName.NGINX: lambda: Nginx(find_tool("nginx")),
        RelayName.UDP_RELAY: UdpRelay,
        RelayName.GO: go_proxy,
    }
    return [Direct(), *(found[name]() for name in names)]


def _raise_descriptor_limit(sessions: int) -> None:
    """For the children, which inherit it.

    :raises BenchError: the system does not allow as many as are needed.
    """
    needed = sessions * _DESCRIPTORS_PER_SESSION + _SPARE_DESCRIPTORS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} file descriptors are needed, but ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_case(bench: Bench, case: Case, relays: Sequence[Relay], rounds: int) -> Result:
    """Measure one relay after the other, and that as many times as there are rounds.

    A peer that does not get through is left out of the case; that must not cost the figures of the others.

    :raises BenchError: srsproxy does not get through.
    """
    measured: list[Round] = []
    failed: set[RelayName] = set()
    for number in range(1, rounds + 1):
        measured.append({})
        for relay in relays:
            if relay.name in failed:
                continue
            progress(f"{case.name}, round {number} of {rounds}: {relay.name}")
            try:
                measured[-1][relay.name] = case.measure(bench, relay)
            except BenchError as error:
                if relay.name in _OURS:
                    raise
                failed.add(relay.name)
                progress(f"{case.name}: {relay.name} is left out: {error}")
    return summarize([{name: row[name] for name in row if name not in failed} for row in measured])


def _run(options: argparse.Namespace) -> None:
    """Measure, print each case's table as soon as it is there, and write everything as JSON at the end.

    :raises BenchError: something needed is missing, or a session failed.
    """
    relays = _relays(options.relays, options.flush_interval)
    for tool in {tool for case in options.cases for tool in case.tools}:
        find_tool(tool)
    _raise_descriptor_limit(max(options.streams, options.idle + IDLE_BASE))
    results: dict[str, Result] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srsproxy-bench-")))
        build_programs()
        bench = Bench(
            directory,
            Origin(Protocol.RTMP, options.origin or stack.enter_context(rtmp_origin(directory))),
            Origin(Protocol.HTTP, options.http_origin) if options.http_origin else None,
            options.streams,
            options.seconds,
            options.style,
            options.idle,
        )
        for case in options.cases:
            suitable = [relay for relay in relays if case.suits(relay, srs=bool(options.origin))]
            results[case.name] = _run_case(bench, case, suitable, options.rounds)
            sys.stdout.write(f"\n{case.name}: {case.title}\n{table(results[case.name])}\n")
            sys.stdout.flush()
    told = figures(results)
    sys.stdout.write("\n" + "".join(f"{figure_line(figure)}\n" for figure in told))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    everything = {
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "options": _plain(options),
        "cases": {name: asdict(result) for name, result in results.items()},
        "figures": told,
    }
    options.json.write_text(json.dumps(everything, indent=2) + "\n")
    progress(f"all values are in {options.json}")


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    """The options as they can be written down, with the settings of srsproxy in the environment."""
    values: dict[str, Any] = {key: value for key, value in vars(options).items() if isinstance(value, (int, str))}
    values["origin"] = str(options.origin or "nginx")
    values["http_origin"] = str(options.http_origin or "rtmpload")
    values["environment"] = {key: value for key, value in os.environ.items() if key.startswith("PROXY_")}
    return values


def main(arguments: Sequence[str]) -> int:
    """The command line; its exit status."""
    options = _parse(arguments)
    # As Ctrl-C: all with blocks are left, and so all children end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        _run(options)
    except BenchError as error:
        progress(str(error))
        return 1
    except KeyboardInterrupt:
        progress("interrupted")
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
