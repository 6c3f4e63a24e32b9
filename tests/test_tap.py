"""``twistd srsproxy``: its options, what it says when it refuses them, and its log."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from twisted.application.service import Application, IService
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions

from srsproxy import __version__, tap
from srsproxy.config import SETTINGS, Group, Setting
from srsproxy.errors import ConfigError
from srsproxy.tap import Options, makeService
from srsproxy.values import BindAddress, Listener

TWISTD = str(Path(sysconfig.get_path("scripts")) / "twistd")
PATIENCE = 30.0
"""Seconds after which a process that should do something is hung."""

# Run a command with one listening socket, as systemd does.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="api")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test, in a working directory of its own."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.environment_name, raising=False)
    monkeypatch.delenv("GO_PPROF", raising=False)
    monkeypatch.chdir(tmp_path)


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def parse_as_twistd(*arguments: str) -> Options:
    twistd = ServerOptions()
    twistd.parseOptions(list(arguments))
    options = twistd.subOptions
    assert isinstance(options, Options)
    return options


class TestOptions:
    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.option)
    def test_every_setting_is_one(self, setting: Setting) -> None:
        assert parse(f"--{setting.option}={setting.default}").settings == parse().settings

    def test_set_what_they_are_named_for(self) -> None:
        settings = parse("--rtmp-server=[::1]:1935", "--redis-port", "1").settings
        assert (settings.rtmp_server, settings.redis_port) == (Listener(BindAddress("::1", 1935)), 1)

    def test_win_over_environment_and_that_over_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("PROXY_REDIS_PORT=3\nPROXY_REDIS_DB=3\nPROXY_VHOSTS=c\n", encoding="utf-8")
        monkeypatch.setenv("PROXY_REDIS_PORT", "2")
        monkeypatch.setenv("PROXY_REDIS_DB", "2")
        settings = parse("--redis-port=1").settings
        assert (settings.redis_port, settings.redis_db, settings.vhosts) == (1, 2, frozenset({"c"}))

    def test_come_from_a_file_in_twistds_rundir(self) -> None:
        Path("run").mkdir()
        Path(".env").write_text("PROXY_REDIS_PORT=1\n", encoding="utf-8")
        Path("run/.env").write_text("PROXY_REDIS_PORT=2\n", encoding="utf-8")
        assert parse_as_twistd("--rundir=run", "srsproxy").settings.redis_port == 2
        assert parse_as_twistd("srsproxy").settings.redis_port == 1

    def test_that_cannot_be_used_are_an_error_of_one_line(self) -> None:
        with pytest.raises(UsageError) as caught:
            parse("--redis-port=x")
        assert str(caught.value) == "--redis-port='x': expected a whole number from 1 to 65535"

    @pytest.mark.parametrize("argument", ["--no-such-option", "argument", "--redis-port"])
    def test_that_do_not_exist_are_an_error(self, argument: str) -> None:
        with pytest.raises(UsageError):
            parse(argument)

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parse("--version")
        assert not caught.value.code
        assert capsys.readouterr().out == f"srsproxy {__version__}\n"


class TestHelp:
    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_fits_the_terminal(self, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        assert [line for line in str(Options()).splitlines() if len(line) > width] == []

    def test_tells_every_option_with_unit_and_default(self) -> None:
        text = " ".join(str(Options()).split())
        for setting in SETTINGS:
            default = f" (default: {setting.default})" if setting.default else ""
            unit = setting.kind.name if "|" in setting.kind.name else setting.kind.name.upper()
            assert f"--{setting.option}={unit} {setting.help}{default}" in text

    def test_has_synopsis_introduction_and_groups(self) -> None:
        text = str(parse_as_twistd("srsproxy"))
        assert text.startswith("Usage: twistd [options] srsproxy [options]\nOne address")
        assert [line[:-1] for line in text.splitlines() if line[:-1] in list(Group)] == list(Group)

    def test_after_an_error_is_only_a_hint(self) -> None:
        options = Options()
        with pytest.raises(UsageError):
            options.parseOptions(["--redis-port=x"])
        assert options.getUsage() == "Try 'twistd srsproxy --help' for all options.\n"


class TestMakeService:
    def test_makes_a_service(self) -> None:
        assert IService.providedBy(makeService(parse()))

    def test_sets_the_log_of_twistds_application(self) -> None:
        application = Application("srsproxy")
        makeService(parse_as_twistd("-n", "srsproxy")).setServiceParent(application)
        assert ILogObserver.providedBy(application.getComponent(ILogObserver))

    def test_leaves_the_log_alone_without_twistd(self) -> None:
        application = Application("srsproxy")
        makeService(parse()).setServiceParent(application)
        assert application.getComponent(ILogObserver) is None

    def test_warns_about_unknown_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROXY_RTMP_SEVER", "1935")
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]  # any callable will do
        try:
            makeService(parse())
        finally:
            globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
        warnings = [event["explanation"] for event in events if "explanation" in event]
        assert warnings == ["PROXY_RTMP_SEVER is no setting; did you mean PROXY_RTMP_SERVER?"]

    def test_ends_with_one_line_if_settings_cannot_be_met(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_args: object) -> None:
            raise ConfigError("PROXY_X=1: no")

        monkeypatch.setattr(tap, "build", refuse)
        with pytest.raises(SystemExit, match=r"^srsproxy: PROXY_X=1: no$"):
            makeService(parse())


class TestTwistd:
    """The real thing. Its system API is on a Unix socket, whose place is known beforehand."""

    ARGUMENTS = ("srsproxy", "--rtmp-server=127.0.0.1:0", "--system-api=unix:api.sock")

    @staticmethod
    def wait_until_up() -> None:
        """Wait for an answer, so that the reactor runs and has its signal handlers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect("api.sock")
            client.sendall(b"GET /api/v1/versions HTTP/1.0\r\n\r\n")
            assert client.recv(12).startswith(b"HTTP/1.")

    @staticmethod
    @contextmanager
    def daemon(*arguments: str) -> Iterator[int]:
        """A daemon's process id; it is told to stop and has ended afterwards."""
        subprocess.run([TWISTD, "--pidfile=x.pid", *arguments], timeout=PATIENCE, check=True)
        pid = int(Path("x.pid").read_text(encoding="ascii"))
        process = os.pidfd_open(pid)
        try:
            yield pid
            os.kill(pid, signal.SIGTERM)
            assert select.select([process], [], [], PATIENCE) == ([process], [], [])
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            os.close(process)

    @pytest.mark.parametrize("environ", [{}, {"PROXY_RTMP_SERVER": "nowhere"}], ids=["option", "environment"])
    def test_refuses_wrong_settings_in_one_line(self, environ: dict[str, str]) -> None:
        named = "PROXY_RTMP_SERVER" if environ else "--rtmp-server"
        arguments = [] if environ else ["--rtmp-server=nowhere"]
        refused = subprocess.run(
            [TWISTD, "--nodaemon", "srsproxy", *arguments],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert refused.returncode == 1
        *hints, line = (refused.stdout + refused.stderr).splitlines()
        assert f": {named}='nowhere': expected PORT, IP:PORT" in line
        assert len(hints) <= 3

    def test_logs_json_to_standard_output_until_it_is_told_to_stop(self) -> None:
        # Given a socket that listens already, as systemd does it, there is no moment too early to connect.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("api.sock")
            listener.listen()
            arguments = ["srsproxy", "--rtmp-server=127.0.0.1:0", "--system-api=systemd:domain=UNIX:name=api"]
            process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(listener.fileno()), TWISTD, "-n", *arguments, "--log-format=json"],
                pass_fds=[listener.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        with process:
            try:
                self.wait_until_up()
                process.terminate()
                output, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGTERM
        messages = [json.loads(line)["message"] for line in output.splitlines()]
        assert "starting up" in messages[0]
        assert messages[-1] == "Server Shut Down."

    def test_as_a_daemon_keeps_pidfile_and_rotating_logfile(self) -> None:
        with self.daemon("--logfile=x.log", *self.ARGUMENTS, "--log-format=json") as pid:
            self.wait_until_up()
            os.kill(pid, signal.SIGUSR1)
            self.wait_until_up()
        assert not Path("x.pid").exists()
        before, after = (Path(name).read_text(encoding="utf-8").splitlines() for name in ("x.log.1", "x.log"))
        assert "starting up" in json.loads(before[0])["message"]
        assert json.loads(after[-1])["message"] == "Server Shut Down."

    def test_logger_of_the_user_wins(self) -> None:
        with self.daemon("--logger=twisted.logger.STDLibLogObserver", "--logfile=x.log", *self.ARGUMENTS):
            self.wait_until_up()
        assert not Path("x.log").exists()
