"""A real ``twistd srsproxy`` in front of real libsrt listeners, and what calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from tests.processes import Program, ports_of, register_srt, srsproxy, srt_port_of
from tests.srt.conversation import UdpSocket
from tests.srt.programs import LibsrtCallers, LibsrtOrigin
from tests.srt.traffic import Reception, payload
from tests.webrtc.peers import Address

HOST: Final = "127.0.0.1"

FOREVER: Final = ("--packets", "1000000")
"""Option of publishers that are to publish until the test is over."""

ENOUGH: Final = 100
"""Payloads that show that media is relayed: a publisher sends them in half a second."""

DOWN: Final = 1503
"""Reject reason of libsrt (access_control.h)."""


def publish(stream: str) -> str:
    """The stream id by which it is published."""
    return f"#!::r=live/{stream},m=publish"


def play(stream: str) -> str:
    """The same for playing."""
    return f"#!::r=live/{stream},m=request"


@dataclass
class Cluster:
    """A proxy, its origins, and what is to be ended with it."""

    proxy: Program
    port: int
    system_port: int
    origins: list[LibsrtOrigin]
    stack: AsyncExitStack

    @property
    def address(self) -> Address:
        """Where it takes SRT callers."""
        return HOST, self.port

    def url(self, stream_id: str, *options: str) -> str:
        """For ffmpeg and for libsrt's own programs. Neither of them decodes a stream id."""
        return f"srt://{HOST}:{self.port}?" + "&".join((f"streamid={stream_id}", *options))

    async def start_origin(self, *options: str) -> LibsrtOrigin:
        """One more; it is not registered yet."""
        origin = await self.stack.enter_async_context(LibsrtOrigin(reactor, *options))
        self.origins.append(origin)
        return origin

    async def register(self, name: str, address: Address) -> None:
        """An origin announces itself."""
        _, port = address
        await register_srt(reactor, self.system_port, name, port)

    async def run(self, *command: str) -> Program:
        """A program that ends with the test."""
        return await self.stack.enter_async_context(Program(reactor, command))

    async def call(self, *stream_ids: str, options: tuple[str, ...] = (), at: Address | None = None) -> LibsrtCallers:
        """Callers that are about to connect.

        :param at: where, if not at the proxy.
        """
        callers = LibsrtCallers(reactor, at or self.address, stream_ids, *options)
        return await self.stack.enter_async_context(callers)

    def accepted(self, *stream_ids: str) -> list[list[str]]:
        """Which of these stream ids each origin has accepted, sorted by them; the origin with the fewest first."""
        told = [[event["stream_id"] for event in origin.events("accepted")] for origin in self.origins]
        return sorted(([one for one in stream_ids for _ in range(ids.count(one))] for ids in told), key=len)

    def origin_of(self, stream_id: str) -> LibsrtOrigin:
        """The only one that has accepted it."""
        (origin,) = [origin for origin in self.origins if origin.events("accepted", stream_id=stream_id)]
        return origin


@asynccontextmanager
async def cluster(folder: Path, *options: str, origins: int = 2, **environ: str) -> AsyncIterator[Cluster]:
    """
    :param options: of the origins.
    :param environ: settings of the proxy.
    """
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(srsproxy(reactor, folder, **environ))
        _, system_port = await ports_of(proxy)
        running = Cluster(proxy, await srt_port_of(proxy), system_port, [], stack)
        for number in range(origins):
            origin = await running.start_origin(*options)
            await running.register(f"origin{number}", origin.address)
        yield running


class LiveTransmit(Program):
    """libsrt's ``srt-live-transmit``, from one URL to another."""

    def __init__(self, source: str, target: str, *options: str) -> None:
        # A chunk is what is read at once from standard input.
        super().__init__(reactor, ("srt-live-transmit", *options, f"-chunk:{len(payload(0))}", source, target))


class Publisher(LiveTransmit):
    """It publishes two hundred payloads per second until it ends, as :mod:`tests.srt.libsrt_callers` do."""

    def __init__(self, url: str, *options: str) -> None:
        super().__init__("file://con", url, *options)
        self._number = 0

    async def __aenter__(self) -> Publisher:
        self.start()
        self._loop = LoopingCall(self._feed)
        self._loop.start(0.005)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._loop.stop()
        await super().__aexit__(*error)

    def _feed(self) -> None:
        self._process.write(payload(self._number))
        self._number += 1


class Player(LiveTransmit):
    """It plays what a :class:`Publisher` publishes.

    :ivar reception: what it has played.
    """

    def __init__(self, url: str, *options: str) -> None:
        self.reception = Reception()
        self._socket = UdpSocket(reactor, lambda datagram, _: self.reception.add(datagram), HOST)
        _, port = self._socket.address
        super().__init__(url, f"udp://{HOST}:{port}", *options)

    async def __aexit__(self, *error: Any) -> None:
        await super().__aexit__(*error)
        await self._socket.close()
