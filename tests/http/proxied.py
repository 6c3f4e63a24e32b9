"""A proxy in front of scripted HTTP origins, in this process."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.balancer.model import Origin
from srsproxy.outcome import Outcome
from tests.asynchronous import until
from tests.http.origins import HOST, RawHttpClient, Response, ScriptedHttpOrigin
from tests.proxy import ProxyUnderTest
from tests.rtmp_client import RawClient

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

LIVE, PLAYLIST, FILE = "/live/s.flv", "/live/s.m3u8", "/live/s-1.ts"


def answered(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with a length."""
    lines = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """One chunk; the last one if it is empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@implementer(ILogObserver)
class _Log:
    def __init__(self, lines: list[str], levels: list[LogLevel], failures: list[Failure]) -> None:
        self._lines = lines
        self._levels = levels
        self._failures = failures

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._failures.append(event["log_failure"])
        self._lines.append(formatEvent(event))
        self._levels.append(event["log_level"])


class ProxiedOrigins:
    """A proxy and registered origins; use it with ``async with``. In the end it sees to it that nothing was logged with
    a traceback, and that no session is left.

    :param origins: how many; :attr:`origin` is the first.
    :param settings: changes to the default settings of the proxy.
    :ivar lines: what was logged.
    :ivar levels: of each line.
    """

    def __init__(self, reactor: Any, origins: int = 1, **settings: Any) -> None:
        self.reactor = reactor
        self.proxy = ProxyUnderTest(reactor, **settings)
        self.stats = self.proxy.stats
        self.origins = [ScriptedHttpOrigin(reactor) for _ in range(origins)]
        self.lines: list[str] = []
        self.levels: list[LogLevel] = []
        self._failures: list[Failure] = []
        self._log = _Log(self.lines, self.levels, self._failures)
        self._clients: list[RawClient] = []

    async def __aenter__(self) -> ProxiedOrigins:
        globalLogPublisher.addObserver(self._log)
        await self.proxy.__aenter__()
        for origin in self.origins:
            await origin.__aenter__()
            await self.proxy.balancer.register(origin.registration)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            if client.lost is None:
                await client.abort()
        await self.proxy.__aexit__(kind, error, traceback)
        for origin in self.origins:
            await origin.__aexit__(kind, error, traceback)
        globalLogPublisher.removeObserver(self._log)
        if kind is None:
            assert [failure.getTraceback() for failure in self._failures] == []
            assert self.stats.active == set()

    @property
    def origin(self) -> ScriptedHttpOrigin:
        """The first one."""
        return self.origins[0]

    def take_over_time(self) -> Clock:
        """The clock by which the deadlines of clients go that connect from now on; the test advances it."""
        clock = Clock()
        self.proxy.http_server._shared.reactor = clock
        return clock

    async def deserted(self) -> None:
        """Wait until the proxy has no client, whatever the clients know of it."""
        await self.until(lambda: not self.proxy.http_server._clients, "the end of all clients")

    def failures_reported(self, monkeypatch: pytest.MonkeyPatch) -> list[Origin]:
        """The origins that the balancer is told of from now on because they could not be reached."""
        report_failure = self.proxy.balancer.report_failure
        reported: list[Origin] = []

        def report(origin: Origin) -> Deferred[None]:
            reported.append(origin)
            return report_failure(origin)

        monkeypatch.setattr(self.proxy.balancer, "report_failure", report)
        return reported

    def told(self, text: str) -> list[tuple[LogLevel, str]]:
        """The lines of the log that have this text, and their levels; not those for debugging."""
        lines = zip(self.levels, self.lines, strict=True)
        return [(level, line) for level, line in lines if text in line and level > LogLevel.debug]

    async def client(self, endpoint: IStreamClientEndpoint | None = None) -> RawHttpClient:
        """A client connected to the proxy; closed in the end if the test has not.

        :param endpoint: another than that of the proxy's own port.
        """
        if endpoint is None:
            client = await RawHttpClient.connect(self.reactor, HOST, self.proxy.http_port)
        else:
            client = RawHttpClient(self.reactor)
            await connectProtocol(endpoint, client)
        self._clients.append(client)
        return client

    async def get(self, target: str, *fields: str) -> Response:
        """The response to a request on a connection of its own."""
        client = await self.client()
        return await client.get(target, *fields)

    async def ended(self, protocol: str, outcome: Outcome, times: int = 1) -> None:
        """Wait until so many sessions have ended, all of them like this."""
        await until(self.reactor, lambda: self.stats.ended.total() >= times, f"{times} sessions")
        assert self.stats.ended == {(protocol, outcome): times}

    async def until(self, true: Callable[[], object], what: str) -> None:
        """See :func:`tests.asynchronous.until`."""
        await until(self.reactor, true, what)


async def comes_to_rest(reactor: Any, amount: Callable[[], int]) -> int:
    """Wait until this grows no more; what it is then."""
    last, rounds = -1, 0
    while rounds < 5:
        rounds = rounds + 1 if amount() == last else 0
        last = amount()
        await deferLater(reactor, 0.01)
    return last
