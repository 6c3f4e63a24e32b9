"""Programs that tests run: their output as it comes, how they end, and that none outlives its test."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.rtmp_client import PATIENCE

ROOT = Path(__file__).parents[1]


class ProgramEnded(Exception):
    """A program ended before it said what was awaited."""


class Program(ProcessProtocol):
    """A running program; use it with ``async with``, which kills it in the end.

    :ivar output: all that it has written to standard output and standard error.
    :ivar exit_code: once it has ended; negative is the number of the signal that ended it.
    """

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._reactor = reactor
        self._command = command
        self._environ = {**os.environ, **(environ or {})}
        self._folder = str(folder) if folder is not None else None
        self._waiting: list[Deferred[None]] = []
        self.output = ""
        self.exit_code: int | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            self.signal(signal.SIGKILL)
            await self.wait()

    def start(self) -> None:
        """Run it."""
        program, *_ = self._command
        self._process = self._reactor.spawnProcess(self, program, self._command, env=self._environ, path=self._folder)

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._process.pid)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        try:
            self._process.signalProcess(number)
        except ProcessExitedAlready:
            return

    async def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; returns its exit code."""
        await self._until(lambda: self.exit_code is not None, "end", patience)
        return self.exit_code or 0

    async def read(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until its output has a match of the regular expression.

        :raises ProgramEnded: it ended without.
        """
        match: re.Match[str] | None = None

        def found() -> bool:
            nonlocal match
            match = re.search(pattern, self.output, re.MULTILINE)
            if match is None and self.exit_code is not None:
                raise ProgramEnded(
                    f"{self._command[0]} ended with {self.exit_code}, without {pattern!r}:\n{self.output}"
                )
            return match is not None

        await self._until(found, pattern, patience)
        assert match is not None
        return match

    async def _until(self, true: Any, what: str, patience: float) -> None:
        async def wait() -> None:
            while not true():
                waiter: Deferred[None] = Deferred()
                self._waiting.append(waiter)
                await waiter

        try:
            await Deferred.fromCoroutine(wait()).addTimeout(patience, self._reactor)
        except DeferredTimeout:
            raise AssertionError(f"no {what!r} from {self._command} within {patience:g} s:\n{self.output}") from None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode(errors="replace")
        self._wake()

    def processEnded(self, reason: Failure) -> None:
        status = reason.value
        self.exit_code = 0
        if isinstance(status, ProcessTerminated):
            self.exit_code = -status.signal if status.exitCode is None else status.exitCode
        self._wake()


class Telling(Program):
    """A program that tells what happens in lines of JSON with a member ``event``.

    :param module: that it is, such as ``tests.webrtc.aiortc_client``.
    """

    def __init__(self, reactor: Any, module: str, *arguments: str) -> None:
        super().__init__(reactor, (sys.executable, "-m", module, *arguments), folder=ROOT)

    def events(self, event: str, **members: object) -> list[dict[str, Any]]:
        """All such events with these members so far."""
        *lines, _unfinished = self.output.split("\n")
        told = [json.loads(line) for line in lines if line.startswith('{"event": ')]
        return [one for one in told if one["event"] == event and members.items() <= one.items()]

    async def told(self, event: str, patience: float = PATIENCE, **members: object) -> dict[str, Any]:
        """Wait for the first such event.

        :raises ProgramEnded: it ended without.
        """

        def true() -> bool:
            if self.events(event, **members):
                return True
            if self.exit_code is not None:
                raise ProgramEnded(f"ended with {self.exit_code}, without {event!r} {members}:\n{self.output}")
            return False

        await self._until(true, f"{event} {members}", patience)
        return self.events(event, **members)[0]


def twistd(reactor: Any, folder: Path, *arguments: str, **environ: str) -> Program:
    """``twistd`` with these arguments, in ``folder``, with no settings of srsproxy but those given."""
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *arguments]
    clean = {name: "" for name in os.environ if name.startswith(("PROXY_", "GO_PPROF"))}
    return Program(reactor, command, environ={**clean, **environ}, folder=folder)


def srsproxy(reactor: Any, folder: Path, *options: str, **environ: str) -> Program:
    """``twistd srsproxy`` in the foreground, on free ports of the loopback interface unless ``environ`` says others."""
    surfaces = ("RTMP_SERVER", "HTTP_SERVER", "HTTP_API", "WEBRTC_SERVER", "SRT_SERVER", "SYSTEM_API")
    listeners = {f"PROXY_{surface}": "127.0.0.1:0" for surface in surfaces}
    return twistd(reactor, folder, "--nodaemon", "--pidfile=", "srsproxy", *options, **{**listeners, **environ})


async def ports_of(proxy: Program) -> tuple[int, int]:
    """Where a running :func:`srsproxy` listens for RTMP clients and for heartbeats."""
    rtmp = await proxy.read(r"RtmpServer starting on ([0-9]+)")
    _, system = await _api_ports_of(proxy)
    return int(rtmp[1]), system


async def http_port_of(proxy: Program) -> int:
    """Where it listens for HTTP clients."""
    match = await proxy.read(r"HttpServer starting on ([0-9]+)")
    return int(match[1])


async def api_port_of(proxy: Program) -> int:
    """Where it listens for the offers of WebRTC clients."""
    http_api, _ = await _api_ports_of(proxy)
    return http_api


async def srt_port_of(proxy: Program) -> int:
    """Where it takes SRT callers."""
    match = await proxy.read(r"SrtServer starting on ([0-9]+)")
    return int(match[1])


async def _api_ports_of(proxy: Program) -> tuple[int, int]:
    """HTTP API and system API; Twisted tells both alike, in this order."""
    told = r"ApiSite \(.*starting on ([0-9]+)\D"
    match = await proxy.read(rf"{told}(?s:.*?){told}")
    return int(match[1]), int(match[2])


class _WholeAnswer(Protocol):
    """Sends a request, and reads until the server closes."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._answer = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self._answer)


async def http(reactor: Any, port: int, method: str, path: str, body: str = "") -> tuple[int, str]:
    """One request to a server on loopback; status and body of the answer."""
    request = f"{method} {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    protocol = _WholeAnswer(request.encode())
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), protocol)
    head, _, answer = (await protocol.done.addTimeout(PATIENCE, reactor)).decode().partition("\r\n\r\n")
    return int(head.split(" ", 2)[1]), answer


async def register(reactor: Any, system_port: int, name: str, rtmp: str, *http_ports: str) -> None:
    """Send a heartbeat as an origin called ``name`` would."""
    await _register(reactor, system_port, name, rtmp=[rtmp], http=http_ports)


async def register_srt(reactor: Any, system_port: int, name: str, port: int) -> None:
    """The same for an origin of SRT."""
    await _register(reactor, system_port, name, srt=[str(port)])


async def _register(reactor: Any, system_port: int, name: str, **listeners: Sequence[str]) -> None:
    heartbeat = {"ip": "127.0.0.1", "server": name, "service": "s", "pid": "1", **listeners}
    status, answer = await http(reactor, system_port, "POST", "/api/v1/srs/register", json.dumps(heartbeat))
    assert status == 200, answer


def free_port() -> int:
    """A port that is free now, for programs that cannot be told to take any free one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# The chunk size is SRS's, which the proxy has announced by then. ffmpeg and others take over the server's chunk size
# for their own, and nginx-rtmp loses data when its client's chunk size shrinks.
NGINX = """
daemon off;
master_process off;
user root;
pid nginx.pid;
error_log stderr notice;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {{ worker_connections 256; }}
http {{
    access_log off;
    server {{ listen 127.0.0.1:{http}; location / {{ rtmp_stat all; }} }}
}}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{rtmp};
        chunk_size 60000;
        application live {{ live on; }}
    }}
}}
"""


class NginxRtmp(Program):
    """nginx with its RTMP module, as an origin.

    :ivar rtmp_port: where it takes RTMP.
    """

    def __init__(self, reactor: Any, folder: Path) -> None:
        folder.mkdir()
        super().__init__(reactor, ("nginx", "-p", str(folder), "-c", "nginx.conf"), folder=folder)
        self._config = folder / "nginx.conf"

    async def __aenter__(self) -> Self:
        self.rtmp_port, self._http_port = free_port(), free_port()
        self._config.write_text(NGINX.format(rtmp=self.rtmp_port, http=self._http_port))
        self.start()
        await self.read("start worker process|using the .* event method")
        return self

    async def published(self) -> set[str]:
        """The names of the streams that are published to it."""
        _, text = await http(self._reactor, self._http_port, "GET", "/")
        streams = re.findall(r"<stream>(.*?)</stream>", text, re.DOTALL)
        return {
            name[1]
            for stream in streams
            if "<publishing/>" in stream and (name := re.search("<name>(.*?)</name>", stream))
        }


def live_source(seconds: float) -> tuple[str, ...]:
    """Arguments by which ffmpeg makes a small live stream of H.264 and AAC, in real time."""
    return (
        *("-hide_banner", "-loglevel", "error", "-nostdin", "-re"),
        *("-f", "lavfi", "-i", "testsrc=size=160x90:rate=15"),
        *("-f", "lavfi", "-i", "sine=frequency=440"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-c:a", "aac"),
        *("-t", f"{seconds:g}", "-f", "flv"),
    )


def publish_with_ffmpeg(reactor: Any, url: str, seconds: float = 60.0) -> Program:
    """An encoder that publishes :func:`live_source`."""
    return Program(reactor, ("ffmpeg", *live_source(seconds), url))


async def codecs(reactor: Any, url: str) -> set[str]:
    """The codecs that ffprobe finds in a stream; empty if it cannot be played."""
    limits = ("-analyzeduration", "1000000", "-rw_timeout", "15000000")
    command = ("ffprobe", *limits, "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", url)
    async with Program(reactor, command) as probe:
        await probe.wait(30.0)
    return set(re.findall("^(?:h264|aac)$", probe.output, re.MULTILINE))
