"""``twistd srsproxy`` as a process: start-up errors, stopping, and being part of another application."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError

from tests.asynchronous import in_reactor, until
from tests.processes import free_port, http, ports_of, register, srsproxy, twistd
from tests.rtmp_client import RtmpTestClient, status_code

ENDED = -signal.SIGTERM
"""How twistd exits after an orderly stop by that signal."""


@in_reactor
@pytest.mark.parametrize("setting", ["PROXY_RTMP_SERVER", "PROXY_SYSTEM_API", "PROXY_PROFILE"])
async def test_a_listener_that_cannot_be_bound_is_an_error_of_start_up(tmp_path: Path, setting: str) -> None:
    async with srsproxy(reactor, tmp_path) as first:
        taken, _ = await ports_of(first)
        async with srsproxy(reactor, tmp_path, **{setting: f"127.0.0.1:{taken}"}) as second:
            assert await second.wait() == 1
            assert f"127.0.0.1:{taken}" in second.output
            assert "in use" in second.output.splitlines()[-1]


@in_reactor
async def test_an_idle_proxy_is_gone_soon_after_sigterm(tmp_path: Path) -> None:
    async with srsproxy(reactor, tmp_path) as proxy:
        await ports_of(proxy)
        begin = reactor.seconds()
        proxy.signal(signal.SIGTERM)
        assert await proxy.wait() == ENDED
        assert reactor.seconds() - begin < 2.0


@in_reactor
async def test_running_sessions_may_end_within_the_grace_period_and_new_ones_are_refused(tmp_path: Path) -> None:
    timeouts = {"PROXY_GRACE_QUIT_TIMEOUT": "8s", "PROXY_ORIGIN_CONNECT_TIMEOUT": "2s"}
    patient = srsproxy(reactor, tmp_path, PROXY_LOG_LEVEL="debug", **timeouts)
    async with patient as proxy, srsproxy(reactor, tmp_path) as stopped:
        port, system_port = await ports_of(proxy)
        # A process that was stopped takes connections and says nothing: the session waits for its origin.
        silent, _ = await ports_of(stopped)
        await register(reactor, system_port, "silent", str(silent))
        stopped.signal(signal.SIGSTOP)
        client = await RtmpTestClient.connect(reactor, "127.0.0.1", port)
        await client.connect_app("live")
        await client.name_stream("s")
        client.send_command("publish", 9.0, None, "s", "live", csid=8, msid=1)
        await proxy.read("dialling origin")
        proxy.signal(signal.SIGTERM)
        await proxy.read("1 sessions are running; they have 8 s to end")
        with pytest.raises(ConnectionRefusedError):
            await RtmpTestClient.connect(reactor, "127.0.0.1", port)
        assert status_code(await client.read_status()) == "NetStream.Failed"
        assert await proxy.wait() == ENDED


@in_reactor
async def test_the_process_ends_in_time_even_if_the_reactor_hangs(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging.tac"
    hanging.write_text(
        "import time\n"
        "from twisted.application.service import Application\n"
        "from twisted.internet import reactor\n"
        "from srsproxy.forced_exit import ForcedExit\n"
        "application = Application('hanging')\n"
        "ForcedExit(reactor, 0.5).setServiceParent(application)\n"
        "def hang():\n"
        "    print('hanging now', flush=True)\n"
        "    while True:\n"
        "        pass\n"
        "reactor.callLater(0.1, hang)\n"
    )
    async with twistd(reactor, tmp_path, "--nodaemon", "--pidfile=", f"--python={hanging}") as program:
        await program.read("hanging now")
        program.signal(signal.SIGTERM)
        assert await program.wait() == 1
        assert "in hang" in program.output


@in_reactor
async def test_the_service_can_be_part_of_another_application(tmp_path: Path) -> None:
    port, system_port = free_port(), free_port()
    composed = tmp_path / "composed.tac"
    composed.write_text(
        "import os\n"
        "from twisted.application.internet import TCPServer\n"
        "from twisted.application.service import Application\n"
        "from twisted.internet.protocol import Factory\n"
        "from twisted.protocols.wire import Echo\n"
        "from srsproxy.config import Settings\n"
        "from srsproxy.service import build\n"
        "application = Application('composed')\n"
        f"options = {{'rtmp-server': '127.0.0.1:{port}', 'system-api': '127.0.0.1:{system_port}'}}\n"
        "build(Settings.load(options, os.environ, None)).setServiceParent(application)\n"
        "TCPServer(0, Factory.forProtocol(Echo), interface='127.0.0.1').setServiceParent(application)\n"
    )
    async with twistd(reactor, tmp_path, "--nodaemon", "--pidfile=", f"--python={composed}") as program:
        await program.read(f"ApiSite .*starting on {system_port}")
        status, answer = await http(reactor, system_port, "GET", "/api/v1/versions")
        assert (status, json.loads(answer)["code"]) == (200, 0)
        program.signal(signal.SIGTERM)
        assert await program.wait() == ENDED


@in_reactor
async def test_with_json_logs_each_line_of_a_session_has_its_context(tmp_path: Path) -> None:
    async with srsproxy(reactor, tmp_path, PROXY_LOG_FORMAT="json") as proxy:
        port, _ = await ports_of(proxy)
        client = await RtmpTestClient.connect(reactor, "127.0.0.1", port)
        assert status_code(await client.publish("live", "s")) == "NetStream.Failed"
        await proxy.read("no-origin")
        lines = [json.loads(line) for line in proxy.output.splitlines()]
        (told,) = [line for line in lines if "no-origin" in line["message"]]
        assert told["level"] == "warn"
        assert len(told["context"]) == 7
        assert told["message"] == "publish __defaultVhost__/live/s from 127.0.0.1: no-origin: no origin is registered"


@in_reactor
async def test_a_thousand_idle_connections_are_closed_at_the_deadline_and_their_memory_returns(tmp_path: Path) -> None:
    def resident(pid: int) -> int:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty"))

    async with srsproxy(reactor, tmp_path, PROXY_RTMP_HANDSHAKE_TIMEOUT="2s") as proxy:
        port, _ = await ports_of(proxy)
        grown = []
        for _ in range(3):
            clients = [await RtmpTestClient.connect(reactor, "127.0.0.1", port) for _ in range(1000)]
            for client in clients:
                await client.wait_closed()
            grown.append(resident(proxy.pid))
        # What the first thousand took is used again by the second and the third; two thousand left would be 10,000 kB.
        assert grown[2] - grown[0] < 3000
        await until(reactor, lambda: len(list(Path(f"/proc/{proxy.pid}/fd").iterdir())) < 30, "descriptors are closed")
