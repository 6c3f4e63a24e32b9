"""``twistd srsproxy``: the command line, and the service that twistd runs."""

from __future__ import annotations

import atexit
import os
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from srsproxy import __version__
from srsproxy.config import SETTINGS, Setting, Settings, explain_unknown
from srsproxy.errors import ConfigError, describe
from srsproxy.forced_exit import ForcedExit
from srsproxy.log import twistd_observer
from srsproxy.service import build

_log = Logger()

_INTRODUCTION = """\
One address in front of many SRS media origins, which register themselves with heartbeats.

Each option can also be set in the environment or in a file .env in the working directory: --rtmp-server is
PROXY_RTMP_SERVER there. The command line is stronger than the environment, and that is stronger than .env. A LISTENER
is PORT, IP:PORT, [IPV6]:PORT or a Twisted endpoint description such as tls:/etc/certificates:443; an ADDRESS is one of
the first three; without IP it is on all interfaces. A DURATION is a number with a unit, or several: 500ms, 30s, 1m30s.
"""


class Options(UsageOptions):
    """The command line after ``twistd srsproxy``; afterwards, :attr:`settings` has what is in force."""

    synopsis = "[options]"
    optParameters = [[setting.option, None, None, setting.help] for setting in SETTINGS]

    settings: Settings
    _refused = False

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse; see :meth:`twisted.python.usage.Options.parseOptions`."""
        try:
            UsageOptions.parseOptions(self, options)
        except UsageError:
            self._refused = True
            raise

    def postOptions(self) -> None:
        """Load the settings.

        :raises UsageError: one of them cannot be used; one line that names it, its value, and what would be right.
        """
        # twistd changes to its --rundir later, but that is the directory that the service runs in
        directory = Path(self.parent["rundir"] if self.parent else ".")
        try:
            self.settings = Settings.load(self, os.environ, directory / ".env")
        except ConfigError as error:
            raise UsageError(describe(error)) from error

    def opt_version(self) -> None:
        """Show the version and exit."""
        print(f"srsproxy {__version__}")  # noqa: T201 - that is what --version is for
        sys.exit()

    def getUsage(self, width: int | None = None) -> str:
        """What ``--help`` shows below the synopsis. After an error only a hint, as twistd shows this above the error
        and five screens of it would hide what is wrong."""
        if self._refused:
            return "Try 'twistd srsproxy --help' for all options.\n"
        width = width or int(os.environ.get("COLUMNS", "80"))
        return "\n".join(_usage_lines(width)) + "\n"


def _usage_lines(width: int) -> Iterator[str]:
    for paragraph in _INTRODUCTION.split("\n\n"):
        yield from textwrap.wrap(paragraph, width)
        yield ""
    yield "  --help, --version"
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        yield f"\n{group}:"
        for setting in settings:
            yield f"  --{setting.option}={_metavar(setting)}"
            text = f"{setting.help} (default: {setting.default})" if setting.default else setting.help
            yield from textwrap.wrap(text, width, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _metavar(setting: Setting) -> str:
    """What stands for the value: a kind in capitals, or the values themselves."""
    return setting.kind.name if "|" in setting.kind.name else setting.kind.name.upper()


class _Application(MultiService):
    """The whole service, which also tells twistd's application where its log goes."""

    def __init__(self, observer: ILogObserver | None) -> None:
        MultiService.__init__(self)
        self._observer = observer

    def setServiceParent(self, parent: object) -> None:
        # The application's component is Twisted's way to choose the log observer; --logger still wins over it. This is
        # the first time that we see the application, and twistd begins to log right after it.
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        MultiService.setServiceParent(self, parent)


def makeService(options: Options) -> IService:
    """The service for parsed options, as twistd wants it; it also ends the process in time after SIGTERM.

    :raises SystemExit: a setting asks for what cannot be; one line says what.
    """
    from twisted.internet import reactor

    settings = options.settings
    for name in settings.unknown_names:
        _log.warn("{explanation}", explanation=explain_unknown(name))
    observer = None
    if options.parent is not None:
        observer = twistd_observer(options.parent, settings.log_format, settings.log_level)
    application = _Application(observer)
    ForcedExit(reactor, settings.force_quit_timeout).setServiceParent(application)

    def fatal(error: ConfigError) -> None:
        _log.critical("srsproxy: {reason}", reason=describe(error))
        # twistd has no other way to an exit status, which tells systemd that this is no orderly end.
        atexit.register(os._exit, 1)
        reactor.stop()

    try:
        build(settings, reactor, fatal).setServiceParent(application)
    except ConfigError as error:
        raise SystemExit(f"srsproxy: {describe(error)}") from error
    return application
