"""A proxy in front of origins of SRT, in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred

from srsproxy.balancer.model import Origin, Surface
from srsproxy.outcome import Outcome
from srsproxy.srt.listener import Listener
from srsproxy.stats import Stray
from tests.asynchronous import until
from tests.http.proxied import ProxiedOrigins
from tests.srt import wire
from tests.srt.conversation import Conversation
from tests.srt.peers import HOST, Connection, ScriptedCaller, ScriptedSrtOrigin
from tests.srt.wire import Handshake
from tests.webrtc.peers import Address
from tests.webrtc.proxied import TakenTime

KEY = "__defaultVhost__/live/s"
PUBLISH, PLAY = "#!::r=live/s,m=publish", "#!::r=live/s,m=request"

REPEAT = 0.1
"""Seconds after which the proxy asks an origin again."""


def sockets() -> int:
    """How many this process has open, epoll instances included."""
    targets = []
    for number in os.listdir("/proc/self/fd"):
        # The directory itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(target.startswith(("socket:", "anon_inode:[eventpoll]")) for target in targets)


@dataclass(frozen=True, slots=True)
class Connected:
    """A caller that was accepted through the proxy.

    :ivar connection: the same at the origin.
    """

    caller: ScriptedCaller
    connection: Connection
    origin: ScriptedSrtOrigin

    async def passed_on(self, sender: Conversation, receiver: Conversation) -> None:
        """The sender's keepalive reaches the receiver."""
        count = len(receiver.datagrams)
        sender.send_control(wire.KEEPALIVE)
        await until(sender.reactor, lambda: len(receiver.datagrams) > count, "the keepalive")


class ProxiedSrt(ProxiedOrigins):
    """Use it with ``async with``. In the end it sees to it that nothing was logged with a traceback, that there was a
    flow for each session and no other, and that nothing is left.

    :param origins: how many; :attr:`origin` is the first.
    :param first_id: the socket id that each of them gives first; random if not given.
    :param settings: changes to the default settings of the proxy.
    :ivar host: where callers send to.
    """

    def __init__(
        self,
        reactor: Any,
        origins: int = 1,
        *,
        time: TakenTime | None = None,
        first_id: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(time or reactor, 0, **settings)
        self.reactor = reactor
        self.srt_origins = [ScriptedSrtOrigin(reactor, first_id=first_id) for _ in range(origins)]
        self.host = HOST
        self._time = time
        self._opened: list[ScriptedCaller] = []
        self._probe: ScriptedCaller | None = None

    async def __aenter__(self) -> Self:
        self._sockets = sockets()
        await super().__aenter__()
        for origin in self.srt_origins:
            await origin.__aenter__()
            await self.register(origin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.check()
        await super().__aexit__(kind, error, traceback)
        for caller in self._opened:
            await caller.__aexit__(kind, error, traceback)
        for origin in self.srt_origins:
            await origin.__aexit__(kind, error, traceback)
        if kind is None:
            self.check()
            assert self.flows() == 0
            assert self.listener._shared.limits._total == 0
            assert self._time is None or self._time.getDelayedCalls() == []
            assert sockets() == self._sockets

    def check(self) -> None:
        """Every flow belongs to a session, to a caller that waits or to one that was given up; every session has a flow
        with one path."""
        sessions, calls, relay = self.listener._sessions, self.listener._calls, self.listener._relay
        running = sessions._by_caller.values()
        assert {flow.owner for flow in relay._flows.values()} >= set(running)
        assert len(running) <= len(relay._flows) <= len(running) + len(calls._waiting) + len(calls._abandoned)
        assert {path.flow.owner for path in (*relay.routes.values(), *relay.shown_next.values())} == set(running)
        assert len(relay.routes) + len(relay.shown_next) == len(running)
        assert sorted(map(id, running)) == sorted(id(one) for some in sessions._by_number.values() for one in some)
        assert len(self.stats.active) == len(running) + len(calls._waiting)

    @property
    def origin(self) -> ScriptedSrtOrigin:  # type: ignore[override]  # what it is differs from protocol to protocol
        """The first one."""
        return self.srt_origins[0]

    @property
    def listener(self) -> Listener:
        """Of the proxy."""
        return self.proxy.srt_server._listener

    @property
    def address(self) -> Address:
        """Where the proxy takes callers."""
        return self.host, self.proxy.srt_port

    async def pick(self, key: str = KEY) -> ScriptedSrtOrigin:
        """The origin that a stream is to have."""
        origin = await self.proxy.balancer.pick(key, Surface.SRT)
        return self.srt_origins[int(origin.server.removeprefix("origin-"))]

    def flows(self) -> int:
        """How many the proxy has to origins."""
        return len(self.listener._relay._flows)

    def waiting(self) -> int:
        """How many callers wait for an answer to their conclusion."""
        return len(self.listener._calls._waiting)

    def has_waiting(self, callers: int) -> bool:
        """Whether so many wait."""
        return self.waiting() == callers

    def registration(self, origin: ScriptedSrtOrigin, pid: str = "1") -> Origin:
        """What an origin tells of itself.

        :param pid: another one for each of its starts.
        """
        number = self.srt_origins.index(origin)
        return Origin(HOST, f"origin-{number}", "service", pid, srt=(str(origin.address[1]),))

    async def register(self, origin: ScriptedSrtOrigin, pid: str = "1") -> Origin:
        """The origin's heartbeat."""
        registration = self.registration(origin, pid)
        await self.proxy.balancer.register(registration)
        return registration

    async def caller(self, stream_id: str | None = PUBLISH, **parameters: Any) -> ScriptedCaller:
        """A caller of the proxy; closed in the end."""
        caller = ScriptedCaller(self.reactor, self.address, stream_id, **parameters)
        self._opened.append(caller)
        return await caller.__aenter__()

    async def connect(self, stream_id: str | None = PUBLISH, **parameters: Any) -> Connected:
        """A caller that is accepted."""
        return await self.connected(await self.caller(stream_id, **parameters))

    async def connected(self, caller: ScriptedCaller) -> Connected:
        """Have this caller connect."""
        answer = await caller.connect()
        [found] = [
            Connected(caller, connection, origin)
            for origin in self.srt_origins
            for connection in origin.connections
            if (connection.local_id, connection.remote_id) == (answer.socket_id, caller.local_id)
        ]
        return found

    async def rejected(self, stream_id: str | None = PUBLISH, **fields: Any) -> int:
        """The reason for which a caller with these fields in its conclusion is rejected."""
        answer = await (await self.caller(stream_id)).call(**fields)
        assert answer.rejection is not None, answer
        return answer.rejection

    async def concluded(self, caller: ScriptedCaller, **fields: Any) -> Deferred[Handshake]:
        """Have a caller send its conclusion; fires with the answer."""
        await caller.induce()
        return Deferred.fromCoroutine(caller.ask(caller.conclusion(**fields)))

    def strays(self, why: Stray) -> int:
        """How many datagrams of no session were dropped for this."""
        return self.stats.strays["srt", why]

    async def dropped(self, why: Stray, times: int = 1) -> None:
        """Wait until so many datagrams of no session were dropped for this."""
        await self.until(lambda: self.strays(why) >= times, f"{times} x {why.value}")

    async def served(self) -> None:
        """Wait until the proxy has dealt with all that callers have sent before."""
        if self._probe is None:
            self._probe = await self.caller()
        await self._probe.induce()

    async def finished(self, outcome: Outcome, times: int = 1) -> None:
        """Wait until so many sessions have ended, all of them like this."""
        await self.ended("srt", outcome, times)

    async def restarted(self, origin: ScriptedSrtOrigin, pid: str = "2") -> None:
        """The origin is started anew, and says so."""
        await origin.restart()
        await self.register(origin, pid)


def of_type(type: int) -> Callable[[bytes], bool]:
    """Whether a packet is a handshake of this type."""
    return lambda packet: wire.is_handshake(packet) and Handshake.parse(packet).type == type


async def told_end(reactor: Any, *peers: ScriptedCaller | Connection) -> None:
    """Wait until all of these have got SHUTDOWN."""
    await until(reactor, lambda: all(peer.ended for peer in peers), "SHUTDOWN for all")
