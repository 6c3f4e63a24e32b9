"""What a running proxy spends its time and memory on: the equivalent of the Go proxy's ``GO_PPROF``.

``/debug/stacks``
    What every thread is doing, and which calls the reactor will make later.
``/debug/profile?seconds=N``
    Which functions the reactor's thread spends its time in, for the next N seconds. Everything is slower meanwhile.
``/debug/memory``
    Resident memory, and the most frequent types of the objects that the garbage collector knows. Looking at them stops
    everything else for a moment, some 0.1 s for each million of them.

Plain text, for people. Whoever reaches this site can slow the proxy down: its listener belongs on loopback.
"""

from __future__ import annotations

import gc
import io
import os
import pstats
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from cProfile import Profile
from pathlib import Path
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.web import http
from twisted.web.server import Request, Site

from srsproxy.api.site import ApiResource, ApiSite, answer_later, json_error, resource_tree

MAX_SECONDS: Final = 60
"""Length of a profile at most; the proxy is slower for so long."""

_DEFAULT_SECONDS: Final = 10
_FUNCTIONS: Final = 60
"""Functions that a profile shows."""

_TYPES: Final = 40
"""Types of objects that are shown."""


def build_profile_site(reactor: IReactorTime) -> Site:
    """The factory for connections to the profiling listener."""
    return ApiSite(
        resource_tree(
            {
                "debug/stacks": Stacks(reactor),
                "debug/profile": CpuProfile(reactor),
                "debug/memory": Memory(),
            }
        ),
        reactor,
    )


def _text(request: Request, lines: Iterator[str]) -> bytes:
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return "".join(f"{line}\n" for line in lines).encode()


class Stacks(ApiResource):
    """Serves ``/debug/stacks``."""

    allowedMethods = (b"GET",)

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock

    def render_GET(self, request: Request) -> bytes:
        return _text(request, self._lines())

    def _lines(self) -> Iterator[str]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            yield f"thread {names.get(ident, ident)}:"
            yield "".join(traceback.format_stack(frame))
        calls = Counter(_name(call) for call in self._clock.getDelayedCalls())
        yield f"{calls.total()} delayed calls:"
        for name, count in calls.most_common():
            yield f"{count:8} {name}"


def _name(delayed_call: object) -> str:
    """The function that a delayed call will call; the interface does not tell, Twisted's own class does."""
    function = getattr(delayed_call, "func", delayed_call)
    if isinstance(function, LoopingCall):
        function = function.f
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


class CpuProfile(ApiResource):
    """Serves ``/debug/profile``; one at a time."""

    allowedMethods = (b"GET",)

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self._running = False

    def render_GET(self, request: Request) -> bytes | int:
        wanted = (request.args or {}).get(b"seconds", [b"%d" % _DEFAULT_SECONDS])[0]
        if not re.fullmatch(rb"[0-9]{1,2}", wanted) or not 0 < int(wanted) <= MAX_SECONDS:
            return json_error(request, http.BAD_REQUEST, f"seconds must be a whole number from 1 to {MAX_SECONDS}")
        if self._running:
            return json_error(request, http.CONFLICT, "another profile is being taken")
        report = Deferred.fromCoroutine(self._take(request, int(wanted)))
        answer = answer_later(request, "take a profile", report)
        # After the line above, which must learn first that there is nobody to answer any more.
        request.notifyFinish().addErrback(lambda _: report.cancel())
        return answer

    async def _take(self, request: Request, seconds: int) -> bytes:
        profile = Profile()
        self._running = True
        profile.enable()
        try:
            await deferLater(self._clock, seconds)
        except CancelledError:
            return b""
        finally:
            profile.disable()
            self._running = False
        out = io.StringIO()
        pstats.Stats(profile, stream=out).strip_dirs().sort_stats("tottime").print_stats(_FUNCTIONS)
        return _text(request, iter(out.getvalue().splitlines()))


class Memory(ApiResource):
    """Serves ``/debug/memory``."""

    allowedMethods = (b"GET",)

    def render_GET(self, request: Request) -> bytes:
        return _text(request, self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"resident: {_resident()}"
        yield f"garbage collector: {gc.get_count()} objects since the last collection of each generation"
        for generation, stats in enumerate(gc.get_stats()):
            yield f"generation {generation}: {', '.join(f'{count} {name}' for name, count in stats.items())}"
        types = Counter(f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.get_objects())
        yield f"{types.total()} objects:"
        for name, count in types.most_common(_TYPES):
            yield f"{count:8} {name}"


def _resident() -> str:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return "unknown on this system"
    return f"{pages * os.sysconf('SC_PAGE_SIZE') // 1024} KiB"
