"""Our own programs in C: the load generators, and the reference relay of datagrams."""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import HERE, find_tool, progress, run_tool

RTMP_LOAD = "rtmpload"
UDP_LOAD = "udpload"
UDP_RELAY = "udprelay"
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")
_COMMON = HERE / "common"


def program(name: str) -> Path:
    """Where one of them is once it is built."""
    return HERE / "build" / name


def build_programs() -> None:
    """Compile those with a source that is newer than they are.

    :raises BenchError: there is no compiler, or it refuses a source.
    """
    for name in (RTMP_LOAD, UDP_LOAD, UDP_RELAY):
        sources = sorted(file for folder in (_COMMON, HERE / name) for file in folder.glob("*.[ch]"))
        built = program(name)
        if built.exists() and built.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
            continue
        compiler = find_tool("cc", "gcc libc6-dev")
        built.parent.mkdir(exist_ok=True)
        units = (str(source) for source in sources if source.suffix == ".c")
        warnings = run_tool([compiler, *_FLAGS, "-I", str(_COMMON), "-o", str(built), *units])
        if warnings:
            progress(warnings)
