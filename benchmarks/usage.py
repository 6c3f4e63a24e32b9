"""What the kernel says about the machine and one process, from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS = (3, 4)
"""Fields of the line "cpu" of /proc/stat that are no work: idle, and waiting for I/O."""
_BUSY_FIELDS = 7
"""user, nice, system, idle, iowait, irq and softirq; what follows is stolen by other machines, or counted before."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time in seconds: of one process in user and kernel mode, and of everything on the machine."""

    at: float
    process: float
    machine: float
    waited: float
    """Seconds that threads of the process could have run, while others had the CPU; 0 if the kernel does not tell."""

    @classmethod
    def read(cls, pid: int | None) -> Usage:
        """:param pid: the process; none has used no time."""
        process, waited = (0.0, 0.0) if pid is None else (_process_seconds(pid), _waiting_seconds(pid))
        return cls(time.monotonic(), process, _machine_seconds(), waited)

    def since(self, earlier: Usage) -> Usage:
        return Usage(
            self.at - earlier.at,
            self.process - earlier.process,
            self.machine - earlier.machine,
            self.waited - earlier.waited,
        )


def _process_seconds(pid: int) -> float:
    # The name, in parentheses, may hold blanks: utime and stime are the 12th and 13th field behind it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _waiting_seconds(pid: int) -> float:
    # The second field, in nanoseconds; the file is there if the kernel was built with CONFIG_SCHED_INFO.
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9


def _machine_seconds() -> float:
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1 : 1 + _BUSY_FIELDS]
    ticks = sum(int(value) for index, value in enumerate(fields) if index not in _IDLE_FIELDS)
    return ticks / _TICKS_PER_SECOND


def resident_kilobytes(pid: int) -> int:
    """Physical memory of a process, in units of 1024 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0])
    raise ValueError(f"process {pid} has no memory")
