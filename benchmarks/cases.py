"""The cases: what is run through a relay, and what is measured."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.hls import hls_origin, playable, run_wrk
from benchmarks.load import DatagramLoad, Generator, Load, Report
from benchmarks.processes import Address, free_addresses
from benchmarks.relays import Origin, Protocol, Relay, RelayName, Running
from benchmarks.srt import stream_ids
from benchmarks.usage import Usage, resident_kilobytes
from benchmarks.webrtc import origin_api, signal_sessions

Metrics = dict[str, float]
"""Measured values by name; the name ends in the unit."""

WARM_UP = 3.0
"""Seconds from the last session's set-up to the measurement: all streams have started within one GOP of 2 s."""
PLAYED_STREAMS = 10
"""Streams that the players of the cases ``play`` and ``flv`` share at a given origin."""
SET_UPS = 50
"""Publishers that are set up one after the other. An origin may close a publisher that sends no media after 20 s, so
all of them must fit in there, at 50 ms and more each."""
IDLE_BASE = 100
"""Sessions that are there before memory is first read, so that what is allocated once is not counted."""
SETTLE = 1.0
"""Seconds for memory to be as it stays."""
DATAGRAM_WARM_UP = 1.0
"""Seconds, as :data:`WARM_UP`: datagrams flow at once."""
PACKET_RATE = 100
"""Packets per second of a session of WebRTC or SRT, all that go through the relay."""
MANY_PACKETS = 50_000
"""Packets per second of all such sessions, for the latency of a relay that is busy."""
PACKET_BURST = 8
"""A key frame's packets leave a client at once."""
RTC_SHARE = 0.5
"""The share of a session's packets that it is told to send: it does so each way."""
SRT_SHARE = 0.6
"""As :data:`RTC_SHARE`: three packets that are sent 4 ms apart are acknowledged together after 10 ms, and that is
acknowledged in turn."""
SRT_BURST_SHARE = 0.8
"""The same where each burst is acknowledged."""
IDLE_PACKET_RATE = 20
"""As :data:`PACKET_RATE`, where memory is measured: many sessions, and little for each."""
RELAYED_PACKETS = 120_000
"""Between two looks at memory: half of them from clients, as the Go proxy grows with each of these of WebRTC."""
SMALL_SEGMENT = 10_240
"""Bytes: so few that it is the request that costs."""
SEGMENT = 667_500
"""Bytes: 2 s of 2.67 Mbit/s, the rate of the other cases, in SRS's usual fragments."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements of a run have in common."""

    directory: Path
    """For logs and configuration files; temporary."""
    rtmp: Origin
    http: Origin | None
    """The same origin's HTTP port; if there is none, the load generator is the origin of HTTP-FLV."""
    streams: int
    seconds: float
    style: str
    """How publishers write, see the load generator's usage text."""
    idle: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def load(self, mode: str, target: Address, sessions: int, *options: str) -> Load:
        return Load(self.directory, mode, target, sessions, "--style", self.style, *options)

    def stream_name(self) -> str:
        """One that the origin has not seen yet: a stream may outlive its publisher there for a moment."""
        return f"bench-{os.getpid()}-{next(self._numbers)}"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    name: str
    title: str
    measure: Callable[[Bench, Relay], Metrics]
    relays: frozenset[RelayName]
    """Those that can be measured so, and are worth it. ``direct`` is among them if there is something to add to."""
    rtmp_origin: bool = False
    """Whether there are publishers at the run's RTMP origin."""
    tools: tuple[str, ...] = ()
    """Programs that it takes, besides what all cases take."""

    def suits(self, relay: Relay, srs: bool) -> bool:
        """Whether the relay can be measured here.

        :param srs: whether the run's origin is an SRS; the Go proxy closes the publishers of other origins.
        """
        return relay.name in self.relays and (srs or not self.rtmp_origin or relay.name != RelayName.GO)


def _measured(bench: Bench, load: Generator, pid: int | None, warm_up: float = WARM_UP) -> Usage:
    """Let a load that is ready run for the time of a measurement; its report is then due."""
    time.sleep(warm_up)
    load.mark()
    before = Usage.read(pid)
    time.sleep(bench.seconds)
    return Usage.read(pid).since(before)


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
        relay.running(bench.rtmp, bench.directory) as running,
        bench.load("publish", running.address, bench.streams, "--name", bench.stream_name()) as load,
    ):
        load.wait_until_ready()
        usage = _measured(bench, load, running.pid)
        report = load.report()
    return _cpu(report, usage, running.pid)


@contextmanager
def _published(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Streams that are published at the origin itself; the options of players that share them."""
    streams = min(PLAYED_STREAMS, bench.streams)
    name = ("--name", bench.stream_name())
    # SRS clears away streams that have neither publisher nor player, now and then: also those that somebody has named
    # and is about to publish, and players then wait for ever. Delayed acknowledgements make that likely.
    with bench.load("publish", bench.rtmp.address, streams, "--quick-ack", *name) as publishers:
        publishers.wait_until_ready()
        yield ("--streams", str(streams), *name)


def _played(bench: Bench, running: Running, *options: str) -> tuple[Metrics, Report]:
    with bench.load("play", running.address, bench.streams, *options) as players:
        players.wait_until_ready()
        usage = _measured(bench, players, running.pid)
        report = players.report()
    return {**_cpu(report, usage, running.pid), "least_share": report.least}, report


def _play(bench: Bench, relay: Relay) -> Metrics:
    with relay.running(bench.rtmp, bench.directory) as running, _published(bench) as shared:
        return _played(bench, running, *shared)[0]


def _flv(bench: Bench, relay: Relay) -> Metrics:
    if bench.http:
        with relay.running(bench.http, bench.directory) as running, _published(bench) as shared:
            return _played(bench, running, "--http", *shared)[0]
    (origin,) = free_addresses(1)
    with relay.running(Origin(Protocol.HTTP, origin), bench.directory) as running:
        metrics, report = _played(bench, running, "--http", "--origin", str(origin.port))
    return metrics | _latencies(report)


def _latencies(report: Report) -> Metrics:
    return {"p50_ms": report.latency.p50, "p99_ms": report.latency.p99}


def _latency(mode: str) -> Callable[[Bench, Relay], Metrics]:
    """The generator is also the origin, so that no origin's own buffers are in the figures."""

    def measure(bench: Bench, relay: Relay) -> Metrics:
        (origin,) = free_addresses(1)
        with (
            relay.running(Origin(Protocol.RTMP, origin), bench.directory) as running,
            bench.load(mode, running.address, bench.streams, "--origin", str(origin.port)) as load,
        ):
            load.wait_until_ready()
            _measured(bench, load, running.pid)
            report = load.report()
        return _latencies(report)

    return measure


def _set_up(bench: Bench, relay: Relay) -> Metrics:
    """Once with clients as they are, which delay their acknowledgements and so meet each Nagle algorithm on their way,
    and once with clients that do not."""
    metrics: Metrics = {}
    with relay.running(bench.rtmp, bench.directory) as running:
        for prefix, options in (("", ()), ("quick_", ("--quick-ack",))):
            alone = ("--idle", "--parallel", "1", "--name", bench.stream_name())
            with bench.load("publish", running.address, SET_UPS, *alone, *options) as load:
                took = load.wait_until_ready()
            metrics |= {f"{prefix}p50_ms": took.p50, f"{prefix}p99_ms": took.p99}
    return metrics


def _memory(bench: Bench, relay: Relay) -> Metrics:
    (origin,) = free_addresses(1)
    with (
        relay.running(Origin(Protocol.RTMP, origin), bench.directory) as running,
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


def _hls(segment_bytes: int, *, playlist: bool = False, segments: bool = False) -> Callable[[Bench, Relay], Metrics]:
    """Requests for the playlist, for segments, or for both in turn."""

    def measure(bench: Bench, relay: Relay) -> Metrics:
        with (
            hls_origin(bench.directory, segment_bytes) as origin,
            relay.running(Origin(Protocol.HTTP, origin), bench.directory) as running,
        ):
            player = playable(running.address, segment_bytes)
            paths: list[str] = []
            for segment in player.segments:
                paths += [player.playlist] if playlist else []
                paths += [segment] if segments else []
            before = Usage.read(running.pid)
            answered = run_wrk(running.address, paths, bench.seconds)
            usage = Usage.read(running.pid).since(before)
        metrics = {
            "requests_per_s": answered.requests / answered.seconds,
            "machine_cpu_us_per_request": 1e6 * usage.machine / answered.requests,
        }
        if running.pid is not None:
            metrics["cpu_s"] = usage.process
            metrics["requests_per_cpu_s"] = answered.requests / usage.process
        return metrics

    return measure


@dataclass(frozen=True, slots=True)
class _Datagrams:
    """A relay and a load that has no sessions yet; the load is also the origin of their media."""

    running: Running
    load: DatagramLoad
    requests: Callable[[str, range], list[bytes]]
    """What sessions begin with, by the name of their streams and their numbers."""

    def open(self, bench: Bench, numbers: range) -> None:
        self.load.open(self.requests(bench.stream_name(), numbers))


_DatagramProtocol = Callable[[Bench, Relay, int, int], AbstractContextManager[_Datagrams]]
"""By bench, relay, rate and burst, as :class:`DatagramLoad` has them."""


@contextmanager
def _webrtc(bench: Bench, relay: Relay, rate: int, burst: int) -> Iterator[_Datagrams]:
    api, media = free_addresses(2)
    with (
        origin_api(api, media),
        relay.running(Origin(Protocol.RTC, media, api), bench.directory) as running,
        DatagramLoad(bench.directory, running.address, media, rate, burst) as load,
    ):
        if running.api is None:
            raise ValueError("sessions are signalled to somebody")
        yield _Datagrams(running, load, partial(signal_sessions, running.api))


@contextmanager
def _srt(bench: Bench, relay: Relay, rate: int, burst: int) -> Iterator[_Datagrams]:
    (media,) = free_addresses(1)
    with (
        relay.running(Origin(Protocol.SRT, media), bench.directory) as running,
        DatagramLoad(bench.directory, running.address, media, rate, burst, "--srt") as load,
    ):
        yield _Datagrams(running, load, stream_ids)


def _datagrams(
    protocol: _DatagramProtocol, share: float, burst: int = 1, total: int | None = None
) -> Callable[[Bench, Relay], Metrics]:
    """
    :param share: of all packets, those that a session is told to send.
    :param burst: packets that a session sends at once.
    :param total: packets per second of all sessions; :data:`PACKET_RATE` of each if not given.
    """

    def measure(bench: Bench, relay: Relay) -> Metrics:
        rate = PACKET_RATE if total is None else total / bench.streams
        with protocol(bench, relay, max(1, round(share * rate)), burst) as sessions:
            running, load = sessions.running, sessions.load
            sessions.open(bench, range(bench.streams))
            load.start()
            usage = _measured(bench, load, running.pid, DATAGRAM_WARM_UP)
            report = load.report()
        metrics = {
            "packets_per_s": report.packets / report.seconds,
            "lost_share": report.lost,
            "overtaken_share": report.overtaken,
            "late_share": report.late,
            "machine_cpu_us_per_packet": 1e6 * usage.machine / report.packets,
            "p50_ms": report.latency.p50,
            "p99_ms": report.latency.p99,
        }
        if running.pid is not None:
            metrics["cpu_s"] = usage.process
            metrics["cpu_us_per_packet"] = 1e6 * usage.process / report.packets
            metrics["waited_share"] = usage.waited / report.seconds
        return metrics

    return measure


def _datagram_memory(protocol: _DatagramProtocol, share: float) -> Callable[[Bench, Relay], Metrics]:
    """What sessions take, and then what packets leave behind; parameters as of :func:`_datagrams`."""

    def measure(bench: Bench, relay: Relay) -> Metrics:
        count = IDLE_BASE + bench.idle
        with protocol(bench, relay, round(share * IDLE_PACKET_RATE), 1) as sessions:
            pid, load = sessions.running.pid, sessions.load
            if pid is None:
                raise ValueError("memory is a relay's")
            resident = []
            for numbers in (range(IDLE_BASE), range(IDLE_BASE, count)):
                sessions.open(bench, numbers)
                time.sleep(SETTLE)
                resident.append(resident_kilobytes(pid))
            load.start()
            time.sleep(DATAGRAM_WARM_UP)
            before = resident_kilobytes(pid)
            load.mark()
            time.sleep(RELAYED_PACKETS / (IDLE_PACKET_RATE * count))
            growth = resident_kilobytes(pid) - before
            report = load.report()
        return {
            "lost_share": report.lost,
            "rss_kb_per_session": (resident[1] - resident[0]) / bench.idle,
            "rss_growth_kb": growth,
        }

    return measure


_DIRECT = frozenset({RelayName.DIRECT})
_RTMP = frozenset({RelayName.SRSPROXY, RelayName.HAPROXY, RelayName.GO})
_COALESCING = frozenset({RelayName.COALESCING})
"""Where letting a publisher's small writes gather can make a difference."""
_HTTP = frozenset({RelayName.SRSPROXY, RelayName.HAPROXY_HTTP, RelayName.NGINX, RelayName.GO})
_GO = frozenset({RelayName.GO})
_UDP = frozenset({RelayName.SRSPROXY, RelayName.UDP_RELAY})
"""The Go proxy is not among them where it would take gigabytes: 9 KB for each packet of a client."""
_HLS_TOOLS = ("nginx", "wrk")

CASES = (
    Case(
        "publish",
        "publishers through the relay to the origin",
        _publish,
        _DIRECT | _RTMP | _COALESCING,
        rtmp_origin=True,
    ),
    Case("play", "players through the relay, publishers at the origin", _play, _DIRECT | _RTMP, rtmp_origin=True),
    Case("publish-latency", "a frame's way to the origin", _latency("publish"), _DIRECT | _RTMP | _COALESCING),
    Case("play-latency", "a frame's way from the origin", _latency("play"), _DIRECT | _RTMP),
    Case("set-up", "first byte to Publish.Start, one publisher at a time", _set_up, _DIRECT | _RTMP, rtmp_origin=True),
    Case("memory", "idle publishers", _memory, _RTMP),
    Case("flv", "HTTP-FLV players through the relay", _flv, _DIRECT | _HTTP | {RelayName.HAPROXY}),
    Case(
        "hls",
        "a playlist and a segment of 2 s in turn",
        _hls(SEGMENT, playlist=True, segments=True),
        _DIRECT | _HTTP,
        tools=_HLS_TOOLS,
    ),
    Case(
        "hls-small",
        "a playlist and a segment of 10 KB in turn",
        _hls(SMALL_SEGMENT, playlist=True, segments=True),
        _DIRECT | _HTTP,
        tools=_HLS_TOOLS,
    ),
    Case("hls-playlist", "the playlist only", _hls(SMALL_SEGMENT, playlist=True), _DIRECT | _HTTP, tools=_HLS_TOOLS),
    Case("hls-segment", "segments of 2 s only", _hls(SEGMENT, segments=True), _DIRECT | _HTTP, tools=_HLS_TOOLS),
    Case("webrtc", "packets one by one, both ways", _datagrams(_webrtc, RTC_SHARE), _DIRECT | _UDP | _GO),
    Case(
        "webrtc-bursts",
        "packets in bursts of 8, both ways",
        _datagrams(_webrtc, RTC_SHARE, PACKET_BURST),
        _DIRECT | _UDP | _GO,
    ),
    Case(
        "webrtc-latency",
        "50,000 packets per second",
        _datagrams(_webrtc, RTC_SHARE, total=MANY_PACKETS),
        _DIRECT | _UDP,
    ),
    Case(
        "webrtc-memory",
        "many sessions, and 120,000 packets",
        _datagram_memory(_webrtc, RTC_SHARE),
        frozenset({RelayName.SRSPROXY}) | _GO,
    ),
    Case("srt", "publishers and players, packets one by one", _datagrams(_srt, SRT_SHARE), _DIRECT | _UDP | _GO),
    Case(
        "srt-bursts",
        "publishers and players, packets in bursts of 8",
        _datagrams(_srt, SRT_BURST_SHARE, PACKET_BURST),
        _DIRECT | _UDP | _GO,
    ),
    Case(
        "srt-latency",
        "50,000 packets per second",
        _datagrams(_srt, SRT_SHARE, total=MANY_PACKETS),
        _DIRECT | _UDP | _GO,
    ),
    Case(
        "srt-memory",
        "many sessions, and 120,000 packets",
        _datagram_memory(_srt, SRT_SHARE),
        frozenset({RelayName.SRSPROXY}) | _GO,
    ),
)
