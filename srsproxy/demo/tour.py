"""The demo: srsproxy in front of two origins, a test stream through it, and the proof that it plays."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred, race
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from srsproxy.demo.child import Child, find_program
from srsproxy.demo.heartbeat import Heartbeat, HeartbeatFailed, HeartbeatRefused
from srsproxy.demo.origin import HOST, DemoOrigin
from srsproxy.errors import SrsProxyError
from srsproxy.streamkey import DEFAULT_VHOST, StreamKey

STEP_TIMEOUT: Final = 20.0
"""Seconds that a step may take. On a slow machine, the start of Python or of ffmpeg takes a few."""

_UNUSED: Final = dict.fromkeys(("PROXY_HTTP_API", "PROXY_WEBRTC_SERVER", "PROXY_SRT_SERVER"), f"{HOST}:0")
"""Listeners that the demo's origins have no use for: anywhere but on the ports where others may look for them."""

_RETRY_INTERVAL = 0.1
"""Seconds between two looks at whether srsproxy has started."""

_CODECS: Final = {"h264", "aac"}
_STREAM: Final = StreamKey(DEFAULT_VHOST, "live", "demo")
_LAST_LINES = 10
"""How much of a child's output a failure tells."""

_TWISTD: Final = "from twisted.scripts.twistd import run; run()"
"""What the command ``twistd`` is; by this it is that of the running Python, whatever the PATH has."""

_SOURCES: Final = ["-f", "lavfi", "-i", "testsrc=size=640x360:rate=25", "-f", "lavfi", "-i", "sine=frequency=440"]
_VIDEO: Final = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "50"]
_AUDIO: Final = ["-c:a", "aac"]

T = TypeVar("T")


class DemoFailed(SrsProxyError):
    """A step of the demo did not work; the text says which one.

    :ivar seen: lines that the child processes wrote last.
    """

    def __init__(self, message: str, *children: Child) -> None:
        super().__init__(message)
        self.seen = [line for child in children for line in (child.output + child.errors).splitlines()[-_LAST_LINES:]]


@dataclass(frozen=True, slots=True)
class TourOptions:
    """What the user may choose. A port of 0 is any that is free.

    :ivar once: end when the stream has been seen to play.
    """

    rtmp_port: int
    http_port: int
    system_port: int
    once: bool


class Tour:
    """All that the demo runs, from :meth:`take` to its end.

    :param tell: shows a line to the user.
    """

    def __init__(self, reactor: Any, options: TourOptions, tell: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._options = options
        self._tell = tell
        self._children: list[Child] = []
        self._origins = [DemoOrigin(reactor, name=name) for name in ("a", "b")]
        self._heartbeats: list[Heartbeat] = []
        self._over: Deferred[None] = Deferred()

    async def take(self) -> None:
        """Go through all the steps, and leave nothing running.

        :raises SrsProxyError: a step failed.
        """
        steps = Deferred.fromCoroutine(self._run()).addBoth(self._finish)
        try:
            await self._over
        finally:
            steps.cancel()
            await self._clean_up()

    def end(self) -> None:
        """Have :meth:`take` end."""
        self._finish(None)

    def _finish(self, result: Failure | None) -> None:
        """It is over; what comes later, such as of steps that are cancelled, changes nothing any more."""
        if not self._over.called:
            self._over.callback(result)

    async def _run(self) -> None:
        for program in ("ffmpeg", "ffprobe"):
            find_program(program)
        rtmp = f"{HOST}:{await self._free_port(self._options.rtmp_port, '--rtmp-port')}"
        http = f"{HOST}:{await self._free_port(self._options.http_port, '--http-port')}"
        system = f"{HOST}:{await self._free_port(self._options.system_port, '--system-port')}"
        self._start_proxy(rtmp, http, system)
        for origin in self._origins:
            origin.startService()
            registered = Deferred.fromCoroutine(self._register(origin, system))
            await self._in_time(registered, "srsproxy took no heartbeat")
            self._tell(f"  origin {origin.name} is at rtmp://{origin.rtmp_address}, and registered")
        addresses = _addresses(rtmp, http, _STREAM.stream)
        serving = await self._publish(addresses[0])
        for address in addresses:
            await self._verify(address)
        self._tell("It works.")
        if not self._options.once:
            self._explain(rtmp, http, serving)
            await Deferred[None]()  # until the user or a child ends it

    async def _free_port(self, port: int, option: str) -> int:
        """The port, or any if it is 0, for a process that is going to be started."""
        try:
            listening = self._reactor.listenTCP(port, Factory(), interface=HOST)
        except CannotListenError as error:
            raise DemoFailed(f"cannot listen on port {port} ({option} takes another one)") from error.socketError
        number: int = listening.getHost().port
        await maybeDeferred(listening.stopListening)
        return number

    def _start_proxy(self, rtmp: str, http: str, system: str) -> None:
        settings = {"PROXY_RTMP_SERVER": rtmp, "PROXY_HTTP_SERVER": http, "PROXY_SYSTEM_API": system}
        shown = " ".join(f"{name}={value}" for name, value in settings.items())
        self._tell(f"Starting srsproxy: {shown} twistd --nodaemon srsproxy")
        # Settings of another srsproxy, which the user may have exported, are not for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROXY_")}
        arguments = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "srsproxy"]
        self._start("srsproxy", arguments, {**environment, **_UNUSED, **settings})

    async def _register(self, origin: DemoOrigin, system: str) -> None:
        """Send heartbeats, the first one as soon as srsproxy listens."""
        heartbeat = Heartbeat(self._reactor, f"http://{system}/api/v1/srs/register", origin.registration)
        while True:
            try:
                await heartbeat.send()
                break
            except HeartbeatFailed as error:
                # A request that is cancelled fails as well.
                if isinstance(error, HeartbeatRefused) or self._over.called:
                    raise
                await deferLater(self._reactor, _RETRY_INTERVAL)
        heartbeat.startService()
        self._heartbeats.append(heartbeat)

    async def _publish(self, url: str) -> DemoOrigin:
        """Publish the test stream; returns the origin that has it."""
        self._tell(f"Publishing a test stream to {url}")
        test_stream = [*_SOURCES, *_VIDEO, *_AUDIO]
        self._start("ffmpeg", ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", *test_stream, "-f", "flv", url])
        arrivals = [origin.streams.until(partial(_has_stream, origin)) for origin in self._origins]
        number, _ = await self._in_time(race(arrivals), "no origin got the stream")
        self._tell(f"  origin {self._origins[number].name} has it")
        return self._origins[number]

    async def _verify(self, url: str) -> None:
        """Play the stream through the proxy."""
        self._tell(f"Playing {url}")
        show = ["-show_entries", "stream=codec_name", "-of", "csv=print_section=0"]
        probe = Child.start(self._reactor, ["ffprobe", "-loglevel", "error", *show, url])
        self._children.append(probe)
        await self._in_time(probe.ended(), "the stream does not play")
        # ffprobe may tell each one twice: as a part of a programme as well.
        codecs = sorted(set(probe.output.split()))
        seen = " and ".join(codecs) or "nothing"
        if set(codecs) != _CODECS:
            raise DemoFailed(f"the stream does not play: ffprobe sees {seen}", probe)
        self._tell(f"  it plays: {seen}")

    def _explain(self, rtmp: str, http: str, serving: DemoOrigin) -> None:
        """Tell what the user can do now."""
        mine, *_ = _addresses(rtmp, http, "mine")
        _, direct, _ = _addresses(serving.rtmp_address, serving.http_address, _STREAM.stream)
        self._tell("Try:")
        for address in _addresses(rtmp, http, _STREAM.stream):
            self._tell(f"  ffplay {address}")
        self._tell(f"  ffmpeg -re -i FILE -c:v libx264 -c:a aac -f flv {mine}")
        self._tell(f"  ffplay {mine}")
        self._tell(f"  ffplay {direct}    (origin {serving.name} itself)")
        self._tell("Ctrl-C ends everything.")

    def _start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a child process without which the demo cannot go on."""
        child = Child.start(self._reactor, arguments, environment)
        self._children.append(child)

        def ended(status: int) -> None:
            self._finish(Failure(DemoFailed(f"{name} ended with status {status}", child)))

        child.ended().addCallback(ended)

    async def _in_time(self, step: Deferred[T], otherwise: str) -> T:
        """Wait for a step.

        :raises DemoFailed: it takes too long, which means ``otherwise``.
        """
        try:
            return await step.addTimeout(STEP_TIMEOUT, self._reactor)
        except DeferredTimeout:
            raise DemoFailed(f"{otherwise} within {STEP_TIMEOUT:g} s", *self._children) from None

    async def _clean_up(self) -> None:
        for heartbeat in self._heartbeats:
            await heartbeat.stopService()
        for origin in self._origins:
            await origin.stopService()
        for child in reversed(self._children):
            await child.stop()


def _addresses(rtmp: str, http: str, stream: str) -> tuple[str, str, str]:
    """Where a stream is played over RTMP, as HTTP-FLV and as HLS."""
    path = f"{_STREAM.app}/{stream}"
    return f"rtmp://{rtmp}/{path}", f"http://{http}/{path}.flv", f"http://{http}/{path}.m3u8"


def _has_stream(origin: DemoOrigin) -> bool:
    return _STREAM in origin.streams.published
