"""The cases: what is run through a relay, and what is measured."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Load, Report
from benchmarks.processes import Address, free_addresses
from benchmarks.relays import Relay, RelayName
from benchmarks.usage import Usage, resident_kilobytes

Metrics = dict[str, float]
"""Measured values by name; the name ends in the unit."""

WARM_UP = 3.0
"""Seconds from the last session's set-up to the measurement: all streams have started within one GOP of 2 s."""
PLAYED_STREAMS = 10
"""Streams that the players of the case ``play`` share."""
SET_UPS = 50
"""Publishers that are set up one after the other. An origin may close a publisher that sends no media after 20 s, so
all of them must fit in there, at 50 ms and more each."""
IDLE_BASE = 100
"""Sessions that are there before memory is first read, so that what is allocated once is not counted."""
SETTLE = 1.0
"""Seconds for memory to be as it stays."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements of a run have in common."""

    program: Path
    """The load generator."""
    directory: Path
    """For logs and configuration files; temporary."""
    origin: Address
    streams: int
    seconds: float
    style: str
    """How publishers write, see the load generator's usage text."""
    idle: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def load(self, mode: str, target: Address, sessions: int, *options: str) -> Load:
        return Load(self.program, self.directory, mode, target, sessions, "--style", self.style, *options)

    def stream_name(self) -> str:
        """One that the origin has not seen yet: a stream may outlive its publisher there for a moment."""
        return f"bench-{os.getpid()}-{next(self._numbers)}"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    name: str
    title: str
    measure: Callable[[Bench, Relay], Metrics]
    direct: bool = True
    """Whether it can be run without a relay, to know what a relay adds."""
    coalescing: bool = False
    """Whether letting a publisher's small writes gather can make a difference."""
    own_origin: bool = False
    """Whether the load generator is the origin too."""

    def suits(self, relay: Relay, srs: bool) -> bool:
        """Whether the relay can be measured here, and is worth it.

        :param srs: whether the run's origin is an SRS; the Go proxy closes the publishers of other origins.
        """
        suited = {
            RelayName.DIRECT: self.direct,
            RelayName.COALESCING: self.coalescing,
            RelayName.GO: srs or self.own_origin,
        }
        return suited.get(relay.name, True)


def _measured(bench: Bench, load: Load, pid: int | None) -> tuple[Report, Usage]:
    """Let a load that is ready run for the time of a measurement."""
    time.sleep(WARM_UP)
    load.mark()
    before = Usage.read(pid)
    time.sleep(bench.seconds)
    usage = Usage.read(pid).since(before)
    return load.report(), usage


def _cpu(report: Report, usage: Usage, pid: int | None) -> Metrics:
    metrics = {
        "machine_cpu_s": usage.machine,
        "machine_cpu_ms_per_mb": 1000 * usage.machine / report.megabytes,
        "mb": report.megabytes,
        "late_share": report.late,
    }
    if pid is not None:
        metrics["cpu_s"] = usage.process
        metrics["cpu_ms_per_mb"] = 1000 * usage.process / report.megabytes
    return metrics


def _publish(bench: Bench, relay: Relay) -> Metrics:
    with (
        relay.running(bench.origin, bench.directory) as running,
        bench.load("publish", running.address, bench.streams, "--name", bench.stream_name()) as load,
    ):
        load.wait_until_ready()
        report, usage = _measured(bench, load, running.pid)
    return _cpu(report, usage, running.pid)


def _play(bench: Bench, relay: Relay) -> Metrics:
    streams = min(PLAYED_STREAMS, bench.streams)
    name = ("--name", bench.stream_name())
    with (
        relay.running(bench.origin, bench.directory) as running,
        bench.load("publish", bench.origin, streams, *name) as publishers,
    ):
        publishers.wait_until_ready()
        with bench.load("play", running.address, bench.streams, "--streams", str(streams), *name) as players:
            players.wait_until_ready()
            report, usage = _measured(bench, players, running.pid)
    return _cpu(report, usage, running.pid)


def _latency(mode: str) -> Callable[[Bench, Relay], Metrics]:
    """The generator is also the origin, so that no origin's own buffers are in the figures."""

    def measure(bench: Bench, relay: Relay) -> Metrics:
        (origin,) = free_addresses(1)
        with (
            relay.running(origin, bench.directory) as running,
            bench.load(mode, running.address, bench.streams, "--origin", str(origin.port)) as load,
        ):
            load.wait_until_ready()
            report, _ = _measured(bench, load, running.pid)
        return {"p50_ms": report.latency.p50, "p99_ms": report.latency.p99}

    return measure


def _set_up(bench: Bench, relay: Relay) -> Metrics:
    """Once with clients as they are, which delay their acknowledgements and so meet each Nagle algorithm on their way,
    and once with clients that do not."""
    metrics: Metrics = {}
    with relay.running(bench.origin, bench.directory) as running:
        for prefix, options in (("", ()), ("quick_", ("--quick-ack",))):
            alone = ("--idle", "--parallel", "1", "--name", bench.stream_name())
            with bench.load("publish", running.address, SET_UPS, *alone, *options) as load:
                took = load.wait_until_ready()
            metrics |= {f"{prefix}p50_ms": took.p50, f"{prefix}p99_ms": took.p99}
    return metrics


def _memory(bench: Bench, relay: Relay) -> Metrics:
    (origin,) = free_addresses(1)
    with (
        relay.running(origin, bench.directory) as running,
        bench.load("publish", running.address, IDLE_BASE, "--idle", "--origin", str(origin.port)) as base,
    ):
        if running.pid is None:
            raise ValueError("memory is a relay's")
        base.wait_until_ready()
        time.sleep(SETTLE)
        before = resident_kilobytes(running.pid)
        with bench.load("publish", running.address, bench.idle, "--idle", "--name", bench.stream_name()) as load:
            load.wait_until_ready()
            time.sleep(SETTLE)
            after = resident_kilobytes(running.pid)
    return {"rss_kb_per_session": (after - before) / bench.idle}


CASES = (
    Case("publish", "publishers through the relay to the origin", _publish, coalescing=True),
    Case("play", "players through the relay, publishers at the origin", _play),
    Case("publish-latency", "a frame's way to the origin", _latency("publish"), coalescing=True, own_origin=True),
    Case("play-latency", "a frame's way from the origin", _latency("play"), own_origin=True),
    Case("set-up", "first byte to Publish.Start, one publisher at a time", _set_up),
    Case("memory", "idle publishers", _memory, direct=False, own_origin=True),
)
