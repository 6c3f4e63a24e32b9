"""Log lines: context ids, text, JSON, levels, and where twistd's options send them."""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python import log as legacy_log
from twisted.python import syslog
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface.verify import verifyObject

from srsproxy.config import LogFormat, LogThreshold
from srsproxy.errors import OriginUnreachable, log_failure
from srsproxy.log import ContextLogger, log_observer, new_context_id, twistd_observer


class Outcome(Enum):
    FINE = "fine"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Output:
    """Collects what an observer writes."""

    def __init__(self, log_format: LogFormat, threshold: LogThreshold = LogThreshold.DEBUG) -> None:
        self.file = io.StringIO()
        self.observer = log_observer(self.file, log_format, threshold)

    @property
    def text(self) -> str:
        return self.file.getvalue()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def text() -> Output:
    return Output(LogFormat.TEXT)


@pytest.fixture
def lines() -> Output:
    return Output(LogFormat.JSON)


def failure() -> Failure:
    try:
        raise ZeroDivisionError("nothing to share")
    except ZeroDivisionError:
        return Failure()


class TestContext:
    def test_ids_are_short_and_unlike_each_other(self) -> None:
        ids = [new_context_id() for _ in range(10_000)]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch("[0-9a-z]{7}", context) for context in ids)
        assert sum(a[:2] == b[:2] for a, b in pairwise(ids)) < 100

    def test_is_in_every_event(self) -> None:
        events: list[LogEvent] = []
        log = ContextLogger("rtmp", "abcdefg", events.append)  # type: ignore[arg-type]  # any callable will do
        log.debug("a")
        log.warn("b", outcome="x")
        log.failure("c", failure())
        log_failure(log, "d", Failure(OriginUnreachable("e")))
        assert {event["context"] for event in events} == {"abcdefg"}
        assert {event["log_namespace"] for event in events} == {"srsproxy.rtmp"}
        assert events[1]["outcome"] == "x"
        assert [event["log_system"] for event in events[:3]] == [
            "rtmp abcdefg#debug",
            "rtmp abcdefg#warn",
            "rtmp abcdefg#critical",
        ]

    def test_of_one_connection_can_be_searched_in_text(self, text: Output) -> None:
        ContextLogger("rtmp", "abcdefg", text.observer).info("publish {key}", key="live/a")
        assert re.fullmatch(r"\S+ \[rtmp abcdefg#info\] publish live/a\n", text.text)

    def test_goes_to_twisteds_global_observers_by_default(self) -> None:
        assert ContextLogger("rtmp", "abcdefg").observer is Logger().observer


class TestText:
    def test_is_twisteds_own_with_time_and_namespace(self, text: Output) -> None:
        Logger("srsproxy.service", observer=text.observer).info("up")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[srsproxy.service#info\] up\n", text.text)

    def test_has_tracebacks(self, text: Output) -> None:
        Logger("a", observer=text.observer).failure("oops", failure())
        assert "oops\n\tTraceback" in text.text
        assert "ZeroDivisionError: nothing to share" in text.text

    def test_cannot_be_forged_by_peers(self, text: Output) -> None:
        name = "a\n2026-01-01T00:00:00+0000 [x] b\r\x1b[2J\u2028\x9b\ud800"
        Logger("a", observer=text.observer).info("{name}", name=name)
        first, second, rest = text.text.split("\n")
        assert first.endswith(" a")
        assert second == r"	2026-01-01T00:00:00+0000 [x] b\r\x1b[2J\u2028\x9b\ud800"
        assert rest == ""
        text.text.encode()

    def test_without_message_is_nothing(self, text: Output) -> None:
        Logger("a", observer=text.observer).info()
        assert text.text == ""


class TestJson:
    def test_fields(self, lines: Output) -> None:
        log = ContextLogger("rtmp", "abcdefg", lines.observer)
        log.info("ended: {outcome.value}", outcome=Outcome.FINE, received=7, key="live/ü", tags=["a", None], rate=0.5)
        (entry,) = lines.objects
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
        assert entry == {
            "level": "info",
            "namespace": "srsproxy.rtmp",
            "context": "abcdefg",
            "message": "ended: fine",
            "outcome": "fine",
            "received": 7,
            "key": "live/ü",
            "tags": ["a", None],
            "rate": 0.5,
        }

    def test_time_is_utc_to_the_millisecond(self, lines: Output) -> None:
        lines.observer(
            {"log_time": 1_700_000_000.1234, "log_level": LogLevel.info, "log_namespace": "a", "log_format": "b"}
        )
        assert lines.objects == [
            {"time": "2023-11-14T22:13:20.123Z", "level": "info", "namespace": "a", "message": "b"}
        ]

    def test_without_context_has_no_such_field(self, lines: Output) -> None:
        Logger("a", observer=lines.observer).info("b")
        assert "context" not in lines.objects[0]

    def test_has_tracebacks(self, lines: Output) -> None:
        Logger("a", observer=lines.observer).failure("oops", failure())
        (entry,) = lines.objects
        assert (entry["message"], entry["level"]) == ("oops", "critical")
        assert "ZeroDivisionError: nothing to share" in entry["traceback"]

    def test_is_one_line_of_ascii_whatever_peers_send(self, lines: Output) -> None:
        Logger("a", observer=lines.observer).info("{name}", name="a\nb\u2028\x1b\ud800")
        assert lines.text.isascii()
        assert lines.text.count("\n") == 1
        assert lines.objects[0]["message"] == "a\nb\u2028\x1b\ud800"

    def test_fields_of_other_types_are_told_as_text(self, lines: Output) -> None:
        path = Path("/srv")
        Logger("a", observer=lines.observer).info("b", path=path, odd={(1, 2): 3, "c": path}, worse=Unprintable())
        (entry,) = lines.objects
        assert (entry["path"], entry["odd"]) == ("/srv", {"c": "/srv"})
        assert "Unprintable" in entry["worse"]

    def test_fields_of_events_cannot_replace_our_own(self, lines: Output) -> None:
        Logger("a", observer=lines.observer).info("b", namespace="y", message="z", time="t")
        (entry,) = lines.objects
        assert (entry["namespace"], entry["message"]) == ("a", "b")
        assert entry["time"] != "t"

    def test_of_an_event_that_another_observer_of_the_old_kind_has_seen(self, lines: Output) -> None:
        seen: list[dict[str, Any]] = []
        publisher = legacy_log.LogPublisher()
        publisher.addObserver(seen.append)
        publisher.addObserver(lines.observer)
        publisher.msg("old", "style")
        assert len(seen) == 1
        (entry,) = lines.objects
        assert entry.keys() == {"time", "level", "namespace", "message"}
        assert entry["message"] == "old style"

    def test_without_message_is_nothing(self, lines: Output) -> None:
        Logger("a", observer=lines.observer).info()
        assert lines.text == ""


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (LogThreshold.DEBUG, ["debug", "info", "warn", "error", "critical"]),
        (LogThreshold.INFO, ["info", "warn", "error", "critical"]),
        (LogThreshold.WARN, ["warn", "error", "critical"]),
        (LogThreshold.ERROR, ["error", "critical"]),
    ],
)
def test_levels_below_the_threshold_are_dropped(
    log_format: LogFormat, threshold: LogThreshold, expected: list[str]
) -> None:
    output = Output(log_format, threshold)
    log = Logger("a", observer=output.observer)
    for level in LogLevel.iterconstants():
        log.emit(level, "<{log_level.name}>")
    assert re.findall("<(.*)>", output.text) == expected


class TestTwistd:
    """Where the log goes; what twistd does with the observer is in test_tap.py."""

    @pytest.fixture(autouse=True)
    def clean_up(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        files: list[LogFile] = []

        def open_file(path: str) -> LogFile:
            files.append(LogFile(Path(path).name, str(Path(path).parent)))
            return files[-1]

        monkeypatch.setattr(LogFile, "fromFullPath", open_file)
        before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        yield
        signal.signal(signal.SIGUSR1, before)
        for file in files:
            file.close()

    @staticmethod
    def log(log_format: LogFormat = LogFormat.TEXT, **options: object) -> bool:
        defaults = {"logger": None, "syslog": False, "prefix": "twisted", "logfile": None, "nodaemon": False}
        observer = twistd_observer({**defaults, **options}, log_format, LogThreshold.INFO)
        if observer is None:
            return False
        verifyObject(ILogObserver, observer)
        log = Logger("a", observer=observer)
        log.debug("quiet")
        log.info("loud")
        return True

    @pytest.mark.parametrize("logfile", [None, "-"])
    def test_in_the_foreground_is_standard_output(
        self, capsys: pytest.CaptureFixture[str], logfile: str | None
    ) -> None:
        self.log(logfile=logfile, nodaemon=True)
        assert capsys.readouterr().out.endswith("[a#info] loud\n")

    def test_of_a_daemon_is_never_standard_output(self) -> None:
        assert not self.log(logfile="-")  # twistd ends with an error itself

    def test_of_a_daemon_is_a_file_in_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.log()
        assert (tmp_path / "twistd.log").read_text(encoding="utf-8").endswith("[a#info] loud\n")

    @pytest.mark.parametrize("syslog", [True, False])
    def test_is_left_to_a_logger_of_the_user(self, syslog: bool) -> None:
        assert not self.log(logger=object(), syslog=syslog)

    @pytest.mark.parametrize("nodaemon", [True, False])
    def test_is_in_the_file_asked_for(self, tmp_path: Path, nodaemon: bool) -> None:
        self.log(LogFormat.JSON, logfile=str(tmp_path / "x.log"), nodaemon=nodaemon)
        assert json.loads((tmp_path / "x.log").read_text(encoding="utf-8"))["message"] == "loud"

    def test_file_is_rotated_on_a_signal(self, tmp_path: Path) -> None:
        self.log(logfile=str(tmp_path / "x.log"))
        assert callable(signal.getsignal(signal.SIGUSR1))

    def test_leaves_a_handler_of_that_signal_alone(self, tmp_path: Path) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.log(logfile=str(tmp_path / "x.log"))
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN

    def test_to_syslog_has_prefix_system_and_threshold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[object] = []
        sent: list[object] = []
        monkeypatch.setattr(syslog.SyslogObserver, "openlog", lambda _self, prefix, *_: opened.append(prefix))
        monkeypatch.setattr(syslog.SyslogObserver, "syslog", lambda _self, _priority, text: sent.append(text))
        self.log(syslog=True, prefix="proxy", logfile="ignored")
        assert opened == ["proxy"]
        assert sent == ["[-] loud"]
