"""From measured rounds to medians, ratios, a table and the figures that are to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.cases import Metrics
from benchmarks.relays import RelayName

Round = dict[str, Metrics]
"""One measurement of each relay, by its name."""

PEERS = (RelayName.HAPROXY, RelayName.NGINX, RelayName.UDP_RELAY, RelayName.GO)
"""The relays that others are compared with."""

_ADDED = {
    "machine_cpu_s": "added_cpu_s",
    "machine_cpu_ms_per_mb": "added_cpu_ms_per_mb",
    "machine_cpu_us_per_request": "added_cpu_us_per_request",
    "machine_cpu_us_per_packet": "added_cpu_us_per_packet",
    "p50_ms": "added_p50_ms",
    "p99_ms": "added_p99_ms",
    "quick_p50_ms": "quick_added_p50_ms",
    "quick_p99_ms": "quick_added_p99_ms",
}
"""What a relay adds to the value without one, and how that is called."""

_COMPARED = (
    "cpu_ms_per_mb",
    "added_cpu_ms_per_mb",
    "cpu_us_per_packet",
    "added_cpu_us_per_packet",
    "requests_per_cpu_s",
    "rss_kb_per_session",
)
"""Of which ratios are told."""

_HEADINGS = {
    "cpu_s": "CPU s",
    "cpu_ms_per_mb": "CPU ms/MB",
    "added_cpu_s": "added CPU s",
    "added_cpu_ms_per_mb": "added ms/MB",
    "cpu_us_per_packet": "CPU us/packet",
    "added_cpu_us_per_packet": "added us/packet",
    "packets_per_s": "packets/s",
    "lost_share": "lost",
    "overtaken_share": "overtaken",
    "waited_share": "waited",
    "delivered": "delivered",
    "least_share": "least",
    "late_share": "late",
    "requests_per_s": "requests/s",
    "requests_per_cpu_s": "requests/CPU s",
    "added_cpu_us_per_request": "added us/request",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "added_p50_ms": "added p50",
    "added_p99_ms": "added p99",
    "quick_p50_ms": "quick p50",
    "quick_p99_ms": "quick p99",
    "quick_added_p50_ms": "added p50",
    "quick_added_p99_ms": "added p99",
    "rss_kb_per_session": "KB/session",
    "rss_growth_kb": "KB grown",
}
"""What the table shows, in this order."""

_RATIO_HEADINGS = {
    "cpu_ms_per_mb": "CPU",
    "added_cpu_ms_per_mb": "added",
    "cpu_us_per_packet": "CPU",
    "added_cpu_us_per_packet": "added",
    "requests_per_cpu_s": "requests",
    "rss_kb_per_session": "memory",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A value that srsproxy is not to exceed, or if ``at_least`` not to stay below."""

    case: str
    relay: RelayName
    metric: str
    over: RelayName | None
    """The peer that the metric is divided by; none if it is taken as it is."""
    limit: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


FIGURES = (
    Figure("publish", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.HAPROXY, 1.6),
    Figure("publish", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.GO, 0.3),
    Figure("publish", RelayName.COALESCING, "cpu_ms_per_mb", RelayName.HAPROXY, 1.0),
    Figure("publish", RelayName.COALESCING, "cpu_ms_per_mb", RelayName.GO, 0.2),
    Figure("play", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.HAPROXY, 1.1),
    Figure("play", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.GO, 0.12),
    Figure("publish-latency", RelayName.SRSPROXY, "added_p99_ms", None, 1.0),
    Figure("play-latency", RelayName.SRSPROXY, "added_p99_ms", None, 1.0),
    Figure("set-up", RelayName.SRSPROXY, "added_p50_ms", None, 3.0),
    Figure("set-up", RelayName.SRSPROXY, "quick_added_p50_ms", None, 3.0),
    Figure("memory", RelayName.SRSPROXY, "rss_kb_per_session", None, 8.0),
    Figure("memory", RelayName.SRSPROXY, "rss_kb_per_session", RelayName.GO, 0.25),
    Figure("flv", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.HAPROXY, 1.1),
    Figure("flv", RelayName.SRSPROXY, "cpu_ms_per_mb", RelayName.GO, 0.5),
    Figure("hls", RelayName.SRSPROXY, "requests_per_cpu_s", RelayName.NGINX, 0.5, at_least=True),
    Figure("hls", RelayName.SRSPROXY, "requests_per_cpu_s", RelayName.GO, 3.0, at_least=True),
    Figure("hls-small", RelayName.SRSPROXY, "requests_per_cpu_s", RelayName.NGINX, 0.5, at_least=True),
    Figure("hls-small", RelayName.SRSPROXY, "requests_per_cpu_s", RelayName.GO, 3.0, at_least=True),
    # 0.8 of a minimal relay in Go, which takes 2.1 times the CPU of the one in C, or more.
    Figure("webrtc", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.UDP_RELAY, 1.7),
    Figure("webrtc", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.GO, 0.5),
    Figure("webrtc-bursts", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.UDP_RELAY, 1.7),
    Figure("webrtc-bursts", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.GO, 0.5),
    Figure("webrtc-latency", RelayName.SRSPROXY, "added_p99_ms", None, 2.0),
    Figure("webrtc-latency", RelayName.SRSPROXY, "lost_share", None, 0.001),
    # Any byte that a packet leaves behind would be more than a tenth of this.
    Figure("webrtc-memory", RelayName.SRSPROXY, "rss_growth_kb", None, 1024),
    Figure("srt", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.UDP_RELAY, 1.7),
    Figure("srt", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.GO, 0.5),
    Figure("srt-bursts", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.UDP_RELAY, 1.7),
    Figure("srt-bursts", RelayName.SRSPROXY, "cpu_us_per_packet", RelayName.GO, 0.5),
    Figure("srt-latency", RelayName.SRSPROXY, "added_p99_ms", None, 2.0),
    Figure("srt-latency", RelayName.SRSPROXY, "lost_share", None, 0.001),
    Figure("srt-memory", RelayName.SRSPROXY, "rss_growth_kb", None, 1024),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One case, all rounds."""

    rounds: list[Round]
    medians: dict[str, Metrics]
    ratios: dict[str, dict[str, Metrics]]
    """The median over the rounds of relay ÷ peer: by relay, peer and metric."""


def _with_differences(measured: Round) -> Round:
    """A round with what each relay adds to the direct run of that round."""
    direct = measured.get(RelayName.DIRECT, {})
    complete: Round = {}
    for relay, metrics in measured.items():
        added = {
            _ADDED[key]: metrics[key] - direct[key] for key in _ADDED if key in direct and relay != RelayName.DIRECT
        }
        delivered = {"delivered": metrics["mb"] / direct["mb"]} if "mb" in direct else {}
        complete[relay] = {**metrics, **added, **delivered}
    return complete


def summarize(measured: Sequence[Round]) -> Result:
    """Medians of the rounds, and of the ratios within each round: what disturbs the machine for a while then disturbs
    both sides of a ratio."""
    rounds = [_with_differences(each) for each in measured]
    relays = list(rounds[0])
    medians = {
        relay: {key: statistics.median(each[relay][key] for each in rounds) for key in rounds[0][relay]}
        for relay in relays
    }
    ratios: dict[str, dict[str, Metrics]] = {}
    for relay in relays:
        for peer in PEERS:
            if peer in relays and relay not in (peer, RelayName.DIRECT):
                ratios.setdefault(relay, {})[peer] = {
                    key: statistics.median(each[relay][key] / each[peer][key] for each in rounds)
                    for key in _COMPARED
                    if key in medians[relay] and all(each[peer][key] > 0 for each in rounds)
                }
    return Result(rounds, medians, ratios)


def table(result: Result) -> str:
    """The medians, then the ratios, a relay a line."""
    shown = [key for key in _HEADINGS if any(key in metrics for metrics in result.medians.values())]
    compared = [
        (key, peer)
        for key in _COMPARED
        for peer in PEERS
        if any(key in peers.get(peer, {}) for peers in result.ratios.values())
    ]
    lines = [["", *(_HEADINGS[key] for key in shown), *(f"{_RATIO_HEADINGS[key]}/{peer}" for key, peer in compared)]]
    for relay, metrics in result.medians.items():
        own = [_number(metrics.get(key)) for key in shown]
        ratios = [_number(result.ratios.get(relay, {}).get(peer, {}).get(key)) for key, peer in compared]
        lines.append([relay, *own, *ratios])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def figures(results: dict[str, Result]) -> list[dict[str, object]]:
    """The figures that these results tell something about, with the value and whether it is reached."""
    told = []
    for figure in FIGURES:
        if figure.case not in results:
            continue
        result = results[figure.case]
        source = (
            result.medians if figure.over is None else {k: v.get(figure.over, {}) for k, v in result.ratios.items()}
        )
        value = source.get(figure.relay, {}).get(figure.metric)
        if value is not None:
            told.append({**asdict(figure), "value": value, "reached": figure.reached(value)})
    return told


def figure_line(told: dict[str, object]) -> str:
    over = f" / {told['over']}" if told["over"] else ""
    limit = f"at {'least' if told['at_least'] else 'most'} {told['limit']}"
    verdict = "reached" if told["reached"] else "MISSED"
    what = f"{told['case']}: {told['relay']}{over}, {told['metric']}"
    return f"{what}: {told['value']:.3f}, {limit}: {verdict}"
