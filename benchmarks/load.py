"""The load generator ``rtmpload``: compiled when needed, driven by lines on its standard input and output."""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import HERE, Address, BenchError, Child, find_tool, progress, run_tool

STYLES = ("message", "ffmpeg", "obs")
"""How publishers write, see the usage text of ``rtmpload``."""

READY_TIMEOUT = 90.0
"""Seconds for all sessions to be live: a relay that takes 50 ms for each of 1,000 in turn is within it."""
ANSWER_TIMEOUT = 10.0
"""Seconds for a report."""
_READ_BYTES = 65536


def build_load_generator() -> Path:
    """Compile ``rtmpload`` if a source is newer than the program; the program."""
    sources = sorted((HERE / "rtmpload").glob("*.[ch]"))
    program = HERE / "build" / "rtmpload"
    if not program.exists() or program.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        compiler = find_tool("cc", "gcc libc6-dev")
        program.parent.mkdir(exist_ok=True)
        flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
        warnings = run_tool([compiler, *flags, "-o", str(program), *(str(s) for s in sources if s.suffix == ".c")])
        if warnings:
            progress(warnings)
    return program


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


class Load(Child):
    """Sessions of one kind against one address, in one process."""

    def __init__(
        self, program: Path, directory: Path, mode: str, target: Address, sessions: int, *options: str
    ) -> None:
        """
        :param mode: ``publish`` or ``play``.
        :param options: more of its command line, see its usage text.
        """
        self._mode = mode
        self._sessions = sessions
        self._unread = b""
        command = [str(program), mode, "--target", str(target), "--sessions", str(sessions), *options]
        super().__init__(f"rtmpload-{mode}", command, directory, piped=True)

    def wait_until_ready(self) -> Spread:
        """Wait until all sessions are live; how long their set-up took, first byte to ``Publish.Start``.

        :raises BenchError: one of them failed, or time is up.
        """
        return Spread.of(self._event("ready", READY_TIMEOUT)["set_up"])

    def mark(self) -> None:
        """Start to count."""
        self._tell("mark")

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
