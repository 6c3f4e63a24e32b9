"""What a pick costs with many proxies: one balancer in this process over a Redis on this machine. See README.rst."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from benchmarks.processes import BenchError, Child, find_tool, free_addresses, progress
from benchmarks.run import positive_number
from srsproxy.balancer.model import Origin, Surface
from srsproxy.balancer.policy import least_streams
from srsproxy.balancer.redis.balancer import FRESH_FOR, RedisLoadBalancer
from srsproxy.balancer.redis.model import Lifetimes, Place
from srsproxy.balancer.redis.service import RedisService
from srsproxy.config import Settings
from srsproxy.errors import ConfigError
from srsproxy.service import build_knowledge

MOST_MS: Final = 1.0
"""What the 99th percentile of a known stream's pick is not to exceed."""
LEAST_PER_CPU_S: Final = 5_000
"""Picks of known streams that one core is to do in a second."""
ORIGINS: Final = 10
IN_FLIGHT: Final = 100
"""Picks at once when their throughput is measured."""
WARM_UP: Final = 500
"""Picks before each measurement."""
LIFETIME: Final = 300.0
"""Seconds; longer than all of it takes."""
TIMEOUT: Final = 5.0
"""Seconds that Redis has for an answer."""
POLL_INTERVAL: Final = 0.01
"""Seconds between looks whether Redis is there."""
KNOWN: Final = "known"
MANY: Final = f"known, {IN_FLIGHT} at once"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kind of picks took: each of them, in seconds, and this process for all, in seconds of its CPU."""

    latencies: list[float]
    wall: float
    cpu: float

    def percentile(self, number: int) -> float:
        """In milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100)[number - 1]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.wall

    @property
    def per_cpu_second(self) -> float:
        return len(self.latencies) / self.cpu


async def measure(balancer: RedisLoadBalancer, streams: Iterator[str], picks: int, in_flight: int = 1) -> Measured:
    """Pick the streams in turn, so many at once."""
    latencies: list[float] = []

    async def pick_one_after_the_other(times: int) -> None:
        for _ in range(times):
            began = time.perf_counter()
            await balancer.pick(next(streams), Surface.RTMP)
            latencies.append(time.perf_counter() - began)

    await pick_one_after_the_other(WARM_UP)
    latencies.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    await gatherResults(
        [Deferred.fromCoroutine(pick_one_after_the_other(picks // in_flight)) for _ in range(in_flight)]
    )
    return Measured(latencies, time.perf_counter() - wall, time.process_time() - cpu)


async def measure_all(reactor: Any, place: Place, picks: int) -> dict[str, Measured]:
    """All kinds of picks.

    :raises BenchError: Redis refuses us, or the picks were faster than they are forgotten.
    """
    refusals: list[ConfigError] = []
    random = Random(1)  # noqa: S311 - the same in all runs
    settings = replace(Settings(), origin_lifetime=LIFETIME, pick_lifetime=LIFETIME)
    service = RedisService(
        reactor,
        place,
        prefix="",
        knowledge=build_knowledge(settings, reactor, random),
        lifetimes=Lifetimes(origin=LIFETIME, pick=LIFETIME, hls=LIFETIME, webrtc=LIFETIME),
        policy=least_streams,
        timeout=TIMEOUT,
        random=random,
        secret="",
        agreed=None,
        fatal=refusals.append,
    )
    balancer = service.balancer
    service.startService()
    try:
        while not balancer.has_joined:
            if refusals:
                raise BenchError(str(refusals[0]))
            await deferLater(reactor, POLL_INTERVAL)
        for number in range(ORIGINS):
            await balancer.register(Origin("127.0.0.1", f"vid-{number}", "service", "1", rtmp=(f"{1935 + number}",)))
        known = [f"bench/{number}" for number in range(picks)]
        progress(f"{picks} new streams, one after the other")
        results = {"new": await measure(balancer, map("bench/new-{}".format, count()), picks)}
        await measure(balancer, cycle(known), picks, IN_FLIGHT)
        progress("one of them again and again")
        results["fresh"] = await measure(balancer, cycle(known[:1]), picks)
        for name, in_flight in ((KNOWN, 1), (MANY, IN_FLIGHT)):
            progress(f"all of them again, {in_flight} at once")
            results[name] = await measure(balancer, cycle(known), 2 * picks, in_flight)
            if results[name].per_second * FRESH_FOR > picks:
                raise BenchError("picked again before Redis is asked again: more --picks are needed")
        return results
    finally:
        await service.stopService()


def table(results: dict[str, Measured]) -> str:
    """All values."""
    lines = [f"{'pick of a stream':24}{'p50 ms':>10}{'p99 ms':>10}{'picks/s':>10}{'picks/CPU s':>13}"]
    for name, one in results.items():
        latency = f"{one.percentile(50):10.3f}{one.percentile(99):10.3f}"
        lines.append(f"{name:24}{latency}{one.per_second:10,.0f}{one.per_cpu_second:13,.0f}")
    return "\n".join(lines)


def figures(results: dict[str, Measured]) -> list[tuple[str, bool]]:
    """What is to be reached, and whether it is."""
    p99 = results[KNOWN].percentile(99)
    rate = results[MANY].per_cpu_second
    return [
        (f"{KNOWN}: p99 {p99:.3f} ms, at most {MOST_MS:g}", p99 <= MOST_MS),
        (f"{MANY}: {rate:,.0f} picks/CPU s, at least {LEAST_PER_CPU_S:,}", rate >= LEAST_PER_CPU_S),
    ]


def run(options: argparse.Namespace) -> None:
    """Start Redis, measure, and print.

    :raises BenchError: it cannot be done.
    """
    with tempfile.TemporaryDirectory(prefix="srsproxy-bench-") as folder:
        directory = Path(folder)
        (address,) = free_addresses(1)
        socket = directory / "redis.sock"
        command = [find_tool("redis-server"), "--save", "", "--bind", address.host, "--port", str(address.port)]
        place = Place(socket=str(socket)) if options.unix else Place(host=address.host, port=address.port)
        with Child("redis", [*command, "--unixsocket", str(socket)], directory) as redis:
            redis.wait_until_listening(address)
            react(partial(_measure_and_print, place=place, picks=options.picks))


def _measure_and_print(reactor: Any, place: Place, picks: int) -> Deferred[None]:
    return Deferred.fromCoroutine(_measured_and_printed(reactor, place, picks))


async def _measured_and_printed(reactor: Any, place: Place, picks: int) -> None:
    try:
        results = await measure_all(reactor, place, picks)
    except BenchError as error:
        progress(str(error))
        raise SystemExit(1) from None
    told = "".join(f"{'reached' if reached else 'MISSED':8} {text}\n" for text, reached in figures(results))
    sys.stdout.write(f"{table(results)}\n\n{told}")


def main(arguments: Sequence[str]) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--picks", type=positive_number, default=50_000, help="streams of a measurement")
    parser.add_argument("--unix", action="store_true", help="a Unix socket instead of TCP on loopback")
    try:
        run(parser.parse_args(arguments))
    except BenchError as error:
        progress(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
