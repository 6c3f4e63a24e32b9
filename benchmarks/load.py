"""The load generators ``rtmpload`` and ``udpload``, driven by lines on their standard input and output."""

from __future__ import annotations

import json
import os
import select
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Address, BenchError, Child
from benchmarks.programs import RTMP_LOAD, UDP_LOAD, program

STYLES = ("message", "ffmpeg", "obs")
"""How publishers write, see the usage text of ``rtmpload``."""

READY_TIMEOUT = 90.0
"""Seconds for all sessions to be live: a relay that takes 50 ms for each of 1,000 in turn is within it."""
ANSWER_TIMEOUT = 10.0
"""Seconds for a report."""
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of a duration, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, told: dict[str, float]) -> Spread:
        return cls(told["p50_ms"], told["p99_ms"])


@dataclass(frozen=True, slots=True)
class Report:
    """What a load did since its mark."""

    seconds: float
    megabytes: float
    """Of 10⁶ bytes: sent by publishers, received by players."""
    least: float
    """What the player received that got least, as a share of their mean."""
    late: float
    """The share of frames that were sent more than 10 ms after their time."""
    latency: Spread


@dataclass(frozen=True, slots=True)
class DatagramReport:
    """What a load of datagrams did since its mark, both ways together."""

    seconds: float
    packets: int
    """Those that arrived."""
    lost: float
    """The share of packets that did not."""
    overtaken: float
    """The share of those that arrived behind one that was sent later."""
    late: float
    """The share of packets that were sent more than 1 ms after their time."""
    latency: Spread


class Generator(Child):
    """One of them, as a process."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self._unread = b""
        super().__init__(name, command, directory, piped=True)

    def mark(self) -> None:
        """Start to count."""
        self._tell("mark")

    def _tell(self, command: str) -> None:
        self.fail_if_gone()
        self.pipes[0].write(command.encode() + b"\n")
        self.pipes[0].flush()

    def _event(self, expected: str, timeout: float) -> dict[str, Any]:
        """The next line that it prints, which must be of the expected kind."""
        output = self.pipes[1].fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BenchError(f"{self.name}: no {expected} after {timeout:.0f} s")
            data = os.read(output, _READ_BYTES)
            if not data:
                raise BenchError(f"{self.name} ended without a word:\n{self.last_words()}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        if told["event"] != expected:
            raise BenchError(f"{self.name}: {told.get('reason', told['event'])}")
        return told


class Load(Generator):
    """Sessions of RTMP or HTTP-FLV of one kind against one address, in one process."""

    def __init__(self, directory: Path, mode: str, target: Address, sessions: int, *options: str) -> None:
        """
        :param mode: ``publish`` or ``play``.
        :param options: more of its command line, see its usage text.
        """
        self._mode = mode
        self._sessions = sessions
        command = [str(program(RTMP_LOAD)), mode, "--target", str(target), "--sessions", str(sessions), *options]
        super().__init__(f"{RTMP_LOAD}-{mode}", command, directory)

    def wait_until_ready(self) -> Spread:
        """Wait until all sessions are live; how long their set-up took, first byte to ``Publish.Start``.

        :raises BenchError: one of them failed, or time is up.
        """
        return Spread.of(self._event("ready", READY_TIMEOUT)["set_up"])

    def report(self) -> Report:
        """What happened since the mark.

        :raises BenchError: sessions have ended on the way.
        """
        self._tell("report")
        told = self._event("report", ANSWER_TIMEOUT)
        if told["closed"]:
            raise BenchError(f"{told['closed']} sessions of {self.name} were closed by the other side")
        moved = told["sent_bytes"] if self._mode == "publish" else told["received_bytes"]
        least = told["least_received_bytes"] * self._sessions / max(1, told["received_bytes"])
        late = told["late_messages"] / max(1, told["sent_messages"])
        return Report(told["seconds"], moved / 1e6, least, late, Spread.of(told["latency"]))


class DatagramLoad(Generator):
    """Clients of WebRTC or SRT against one address, and their origin, in one process."""

    def __init__(self, directory: Path, target: Address, origin: Address, rate: int, burst: int, *flags: str) -> None:
        """
        :param origin: where it is the origin, on 127.0.0.1.
        :param rate: packets per second of each session: of WebRTC each way, of SRT from its publisher or to its player.
        :param burst: how many of them are sent at once.
        :param flags: ``--srt`` for SRT.
        """
        self._directory = directory
        options = {"target": str(target), "origin": str(origin.port), "rate": str(rate), "burst": str(burst)}
        words = (word for name in options for word in (f"--{name}", options[name]))
        command = [str(program(UDP_LOAD)), *words, *flags]
        super().__init__(UDP_LOAD, command, directory)

    def open(self, requests: Sequence[bytes]) -> Spread:
        """Open sessions; how long it took from a session's first request to the answer that opens it.

        :param requests: of WebRTC STUN requests: the sessions' numbers, from 0 on, are the last four bytes of their
            transaction ids. Of SRT stream ids.
        :raises BenchError: one of them was not answered.
        """
        with tempfile.NamedTemporaryFile("w", dir=self._directory) as file:
            file.writelines(f"{request.hex()}\n" for request in requests)
            file.flush()
            self._tell(f"open {file.name}")
            return Spread.of(self._event("ready", READY_TIMEOUT)["set_up"])

    def start(self) -> None:
        """Let all sessions send."""
        self._tell("start")

    def report(self) -> DatagramReport:
        """What happened since the mark.

        :raises BenchError: packets came to a wrong end, or changed.
        """
        self._tell("report")
        told = self._event("report", ANSWER_TIMEOUT)
        if told["strayed"]:
            raise BenchError(f"{told['strayed']} packets came to a wrong end, or changed on the way")
        sent, received, overtaken = (
            sum(told[direction][what] for direction in ("to_origin", "to_client"))
            for what in ("sent", "received", "overtaken")
        )
        return DatagramReport(
            told["seconds"],
            received,
            1 - received / max(1, sent),
            overtaken / max(1, received),
            told["late"] / max(1, sent),
            Spread.of(told["latency"]),
        )
