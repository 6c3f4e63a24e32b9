"""``python -m srsproxy.demo``: the demo that a newcomer sees first, run as it is."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from twisted.internet import reactor

from srsproxy.demo.__main__ import parse_options
from srsproxy.demo.tour import TourOptions
from tests.asynchronous import in_reactor
from tests.processes import Program, codecs

PATIENCE = 60.0

ROOT = Path(__file__).parents[2]


def demo(*options: str, folder: Path = ROOT, **environ: str) -> Program:
    """The demo on free ports, and without a terminal."""
    command = (sys.executable, "-m", "srsproxy.demo", "--rtmp-port=0", "--http-port=0", "--system-port=0", *options)
    return Program(reactor, command, environ=environ, folder=folder)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def named(name: str, pids: list[int]) -> int:
    return next(pid for pid in pids if name in Path(f"/proc/{pid}/cmdline").read_text())


@in_reactor
async def test_it_publishes_through_the_proxy_sees_the_stream_play_and_leaves_nothing_running() -> None:
    async with demo() as program:
        await program.read("Playing", PATIENCE)
        children = children_of(program.pid)
        assert len(children) >= 2
        assert await program.wait(PATIENCE) == 0
        played = re.findall(
            r"^Playing (\w+)://127.0.0.1:[0-9]+/live/demo(\S*)\n  it plays: (.+)", program.output, re.MULTILINE
        )
        both = "aac and h264"
        assert played == [("rtmp", "", both), ("http", ".flv", both), ("http", ".m3u8", both)]
        assert re.search(r"origin [ab] has it\nPlaying", program.output)
        assert program.output.endswith("It works.\n")
        assert running(children) == []


@pytest.mark.parametrize("moment", ["Starting", "origin a is", "Publishing", "Playing"])
@in_reactor
async def test_sigterm_at_any_moment_ends_everything(moment: str) -> None:
    async with demo() as program:
        await program.read(moment, PATIENCE)
        children = children_of(program.pid)
        program.signal(signal.SIGTERM)
        assert await program.wait(PATIENCE) == 0
        assert "It works" not in program.output
        assert "Traceback" not in program.output
        assert running(children) == []


@in_reactor
async def test_on_a_terminal_it_runs_on_and_tells_what_to_try_until_ctrl_c() -> None:
    terminal, end_of_demo = pty.openpty()
    try:
        ports = "--rtmp-port=0 --http-port=0 --system-port=0"
        shell = f"exec {sys.executable} -m srsproxy.demo {ports} < {os.ttyname(end_of_demo)}"
        async with Program(reactor, ("/bin/sh", "-c", shell), folder=ROOT) as program:
            await program.read("Ctrl-C ends everything", PATIENCE)
            rtmp = (await program.read(r"ffplay (rtmp://\S+/live/demo)"))[1]
            direct = (await program.read(r"ffplay (http://\S+\.flv) .*itself"))[1]
            assert await codecs(reactor, rtmp) == await codecs(reactor, direct) == {"h264", "aac"}
            children = children_of(program.pid)
            program.signal(signal.SIGINT)
            assert await program.wait(PATIENCE) == 0
            assert running(children) == []
    finally:
        os.close(terminal)
        os.close(end_of_demo)


@pytest.mark.parametrize("child", ["ffmpeg", "srsproxy"])
@in_reactor
async def test_it_fails_when_a_child_ends_and_tells_which_one(child: str) -> None:
    async with demo() as program:
        await program.read("Playing", PATIENCE)
        children = children_of(program.pid)
        os.kill(named(child, children), signal.SIGKILL)
        assert await program.wait(PATIENCE) == 1
        assert f"The demo failed: {child} ended with status -9\n" in program.output
        assert running(children) == []


@in_reactor
async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with demo(f"--system-port={port}") as program:
            assert await program.wait(PATIENCE) == 1
            reason = f"cannot listen on port {port} (--system-port takes another one): address already in use"
            assert program.output == f"The demo failed: {reason}\n"


@in_reactor
async def test_ffmpeg_missing_is_told_before_anything_is_started(tmp_path: Path) -> None:
    async with demo(PATH=str(tmp_path)) as program:
        assert await program.wait(PATIENCE) == 1
        assert program.output == "The demo failed: ffmpeg is not installed, or not in the PATH\n"


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@in_reactor
async def test_a_stream_that_does_not_play_fails_with_what_ffprobe_saw(tmp_path: Path) -> None:
    script(tmp_path, "ffprobe", "echo h264; echo 'no sound' >&2")
    async with demo(PATH=f"{tmp_path}:{os.environ['PATH']}") as program:
        assert await program.wait(PATIENCE) == 1
        assert program.output.endswith("failed: the stream does not play: ffprobe sees h264\n    h264\n    no sound\n")


@in_reactor
async def test_an_encoder_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    script(tmp_path, "ffmpeg", "echo \"Unknown encoder 'libx264'\" >&2; exit 1")
    async with demo(PATH=f"{tmp_path}:{os.environ['PATH']}") as program:
        assert await program.wait(PATIENCE) == 1
        assert program.output.endswith("The demo failed: ffmpeg ended with status 1\n    Unknown encoder 'libx264'\n")


@in_reactor
async def test_a_proxy_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PROXY_ORIGIN_LIFETIME=long\n")
    async with demo(PYTHONPATH=str(ROOT), folder=tmp_path) as program:
        assert await program.wait(PATIENCE) == 1
        assert "The demo failed: srsproxy ended with status 1\n" in program.output
        assert "PROXY_ORIGIN_LIFETIME" in program.output


@in_reactor
async def test_settings_of_another_srsproxy_do_not_matter() -> None:
    async with demo(PROXY_REGISTER_TOKEN="x" * 32, PROXY_RTMP_SERVER="none") as program:
        assert await program.wait(PATIENCE) == 0


def test_the_default_ports_are_those_of_srsproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert parse_options([]) == TourOptions(11935, 18080, 12025, once=True)


@pytest.mark.parametrize("port", ["-1", "65536", "x", ""])
def test_a_wrong_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options([f"--rtmp-port={port}"])
    assert f"--rtmp-port: {port!r} is no port" in capsys.readouterr().err
