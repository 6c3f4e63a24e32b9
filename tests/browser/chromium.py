"""Headless Chromium with a page of ours, which tells what it sees.

A page is a file of ``pages/``. It calls ``report(kind, details)`` of ``report.js``, which arrives here as a
:class:`Report`; a script that fails reports an ``error`` by itself. The page comes from a server of its own: for the
browser, whatever it loads from the servers under test is of another origin, and needs their CORS headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from twisted.web.static import File

from tests.asynchronous import until
from tests.processes import Program

FOLDER: Final = Path(__file__).parent

FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # root gets no other
    "--disable-gpu",
    "--no-first-run",
    # It is to connect to nothing but the servers of a test.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    # A camera and a microphone that are not there, and nobody who must allow their use.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # WebRTC would leave out the only network that these servers are in.
    "--allow-loopback-in-peer-connection",
    # What scripts and the browser say on the console is in its output.
    "--enable-logging=stderr",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a page has told by ``report(kind, details)``."""

    kind: str
    details: dict[str, Any]


@dataclass
class Page:
    """A page that a browser shows.

    :ivar reports: what it has told, the latest last.
    """

    reactor: Any
    browser: Program
    reports: list[Report] = field(default_factory=list)

    async def reported(self, kind: str, true: Callable[[dict[str, Any]], object] = lambda details: True) -> Report:
        """The first report of this kind whose details are as asked for.

        :raises AssertionError: there is none within the usual patience, or an ``error`` or the end of the browser came
            first.
        """

        def found() -> Report | None:
            return next((report for report in self.reports if report.kind == kind and true(report.details)), None)

        def over() -> bool:
            failed = any(report.kind == "error" for report in self.reports)
            return failed or self.browser.exit_code is not None or found() is not None

        with suppress(AssertionError):
            await until(self.reactor, over, kind)
        report = found()
        assert report is not None, f"{kind!r} was not reported; {self._story()}"
        return report

    def _story(self) -> str:
        told = [f"{report.kind}: {report.details}" for report in self.reports]
        console = re.findall("CONSOLE.*", self.browser.output)
        if self.browser.exit_code is not None:
            console = [self.browser.output, f"chromium ended with {self.browser.exit_code}"]
        return "\n".join(["the page told:", *told, "the browser:", *console])


@asynccontextmanager
async def shown(reactor: Any, folder: Path, name: str, **query: str) -> AsyncIterator[Page]:
    """Run a browser that shows a page.

    :param folder: for the browser's files.
    :param name: the page's file in ``pages/``.
    :param query: what the page finds in its URL.
    """
    reports: list[Report] = []
    root = File(str(FOLDER / "pages"))
    root.putChild(b"node_modules", File(str(FOLDER / "node_modules")))
    root.putChild(b"report", _Reports(reports))
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/{name}?{urlencode(query)}"
    try:
        async with Program(reactor, ("chromium", *FLAGS, f"--user-data-dir={folder / 'chromium'}", url)) as browser:
            yield Page(reactor, browser, reports)
    finally:
        await maybeDeferred(port.stopListening)


class _Reports(Resource):
    """Where a page posts its reports."""

    isLeaf = True

    def __init__(self, reports: list[Report]) -> None:
        super().__init__()
        self._reports = reports

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        self._reports.append(Report(**json.load(request.content)))
        return b""
