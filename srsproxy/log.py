"""Logging, by way of :mod:`twisted.logger`: each connection's lines carry its context id, as text or as JSON.

``twistd srsproxy`` logs where twistd's own options ``--logfile``, ``--syslog`` and ``--nodaemon`` say
(:func:`twistd_observer`); ``--logger`` replaces all of it. An application that embeds srsproxy's services logs as it
does anyway, and sees the context id in the ``log_system`` and ``context`` of events; it can use our formats with::

    application.setComponent(ILogObserver, log_observer(sys.stdout, LogFormat.JSON, LogThreshold.INFO))
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import IO, Any, cast

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.log import ILogObserver as ILegacyLogObserver
from twisted.python.logfile import LogFile
from twisted.python.reflect import safe_str

from srsproxy.config import LogFormat, LogThreshold

# Crockford's base 32: no letters that look like digits.
_CONTEXT_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CONTEXT_LENGTH = 7
_CONTEXT_IDS = len(_CONTEXT_ALPHABET) ** _CONTEXT_LENGTH
_CONTEXT_STEP = 0x4F1BBCDCB  # odd, so that all ids come up before one repeats; large, so that neighbours look different
_context_numbers = itertools.count(secrets.randbelow(_CONTEXT_IDS))

# What peers send ends up in messages: no control sequences for terminals, and nothing that UTF-8 cannot encode.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# What Twisted adds to an event for observers of its older logging system.
_LEGACY_FIELDS = frozenset({"message", "time", "system", "format", "isError", "failure", "why"})


def new_context_id() -> str:
    """Seven lower-case letters and digits; unique among 34,359,738,368 calls of one process."""
    number = next(_context_numbers) * _CONTEXT_STEP % _CONTEXT_IDS
    digits = []
    for _ in range(_CONTEXT_LENGTH):
        number, digit = divmod(number, len(_CONTEXT_ALPHABET))
        digits.append(_CONTEXT_ALPHABET[digit])
    return "".join(digits)


class ContextLogger(Logger):
    """Logs for one connection: its events have the field ``context``, and text shows ``[rtmp 3fa9c21#info]``.

    :param source: what the connection belongs to, such as ``rtmp``; events come from the namespace ``srsproxy.rtmp``.
    :param context: the connection's id, from :func:`new_context_id`.
    """

    def __init__(self, source: str, context: str, observer: ILogObserver | None = None) -> None:
        super().__init__(f"srsproxy.{source}", observer=observer)
        self.context = context

    def emit(self, level: LogLevel, format: str | None = None, **kwargs: object) -> None:
        """Emit an event; see :meth:`twisted.logger.Logger.emit`."""
        system = f"{self.namespace.removeprefix('srsproxy.')} {self.context}#{level.name}"
        super().emit(level, format, context=self.context, log_system=system, **kwargs)


def log_observer(out: IO[Any], log_format: LogFormat, threshold: LogThreshold) -> ILogObserver:
    """An observer that writes events from ``threshold`` on to a file, as Twisted's classic text or as JSON lines."""
    format_event = _json_line if log_format is LogFormat.JSON else _text_line
    return _filtered(FileLogObserver(out, format_event), threshold)


def twistd_observer(twistd: Mapping[str, Any], log_format: LogFormat, threshold: LogThreshold) -> ILogObserver | None:
    """The observer for the log that twistd's options ask for, by twistd's own rules; None if another is asked for with
    ``--logger``, or if twistd will refuse the options.

    Syslog gets text whatever the format; its level is what :class:`twisted.python.syslog.SyslogObserver` makes of it.
    """
    if twistd["logger"] is not None:
        return None
    if twistd["syslog"]:
        from twisted.python.syslog import SyslogObserver  # not on every platform

        legacy_observer = cast(ILegacyLogObserver, SyslogObserver(twistd["prefix"]).emit)  # a method cannot declare it
        return _filtered(LegacyLogObserverWrapper(legacy_observer), threshold)
    if twistd["logfile"] == "-" and not twistd["nodaemon"]:
        return None
    if twistd["logfile"] == "-" or (twistd["nodaemon"] and not twistd["logfile"]):
        return log_observer(sys.stdout, log_format, threshold)
    file = LogFile.fromFullPath(twistd["logfile"] or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):  # SIG_DFL; anything else is somebody's handler
        signal.signal(signal.SIGUSR1, _rotate_on_signal(file))
    return log_observer(file, log_format, threshold)


def _rotate_on_signal(file: LogFile) -> Callable[[int, object], None]:
    def rotate(_signal_number: int, _frame: object) -> None:
        from twisted.internet import reactor

        IReactorFromThreads(reactor).callFromThread(file.rotate)

    return rotate


def _filtered(observer: ILogObserver, threshold: LogThreshold) -> ILogObserver:
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(LogLevel.levelWithName(threshold.value))])


def _text_line(event: LogEvent) -> str | None:
    text = formatEventAsClassicLogText(event)
    return None if text is None else _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _json_line(event: LogEvent) -> str | None:
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return None
    time = datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, object] = {
        "time": time,
        "level": event["log_level"].name,
        "namespace": event["log_namespace"],
    }
    if "context" in event:
        line["context"] = event["context"]
    line["message"] = message
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    for key, value in event.items():
        if key not in line and key not in _LEGACY_FIELDS and not key.startswith("log_"):
            line[key] = value
    return json.dumps(line, default=_jsonable, skipkeys=True) + "\n"


def _jsonable(value: object) -> object:
    """What stands in JSON for a field of another type."""
    return value.value if isinstance(value, Enum) else safe_str(value)
