"""The programs of libsrt, as tests run them::

async with LibsrtOrigin(reactor) as origin, LibsrtCallers(reactor, origin.address, ["#!::r=live/s,m=publish"],
    "--packets", "10") as callers:
    await callers.told("connected", caller=0)
    await origin.received(10)
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, Self

from tests.processes import ProgramEnded, Telling
from tests.rtmp_client import PATIENCE
from tests.webrtc.peers import Address


class LibsrtProgram(Telling):
    """Its module tells what events there are."""

    async def received(self, packets: int, **members: object) -> dict[str, Any]:
        """Wait until someone has received so many payloads; what was told of that.

        :param members: of the event.
        :raises ProgramEnded: it ended before.
        """
        enough: list[dict[str, Any]] = []

        def true() -> bool:
            told = self.events("received", **members)
            enough.extend(event for event in told if event["packets"] >= packets)
            if not enough and self.exit_code is not None:
                raise ProgramEnded(f"ended with {self.exit_code}, without {packets} payloads:\n{self.output}")
            return bool(enough)

        await self._until(true, f"{packets} payloads", PATIENCE)
        return enough[0]

    async def stop(self) -> None:
        """End it, with SHUTDOWN to all its peers."""
        self.signal(signal.SIGTERM)
        await self.wait()


class LibsrtOrigin(LibsrtProgram):
    """A listener.

    :param options: of its command line.
    :ivar address: where it listens.
    """

    def __init__(self, reactor: Any, *options: str) -> None:
        super().__init__(reactor, "tests.srt.libsrt_origin", *options)
        self.address: Address

    async def __aenter__(self) -> Self:
        self.start()
        listening = await self.told("listening")
        self.address = str(listening["host"]), int(listening["port"])
        return self


class LibsrtCallers(LibsrtProgram):
    """Callers, one for each stream id.

    :param peer: where they connect to.
    :param options: of its command line.
    """

    def __init__(self, reactor: Any, peer: Address, stream_ids: Sequence[str], *options: str) -> None:
        host, port = peer
        self._count = len(stream_ids)
        super().__init__(reactor, "tests.srt.libsrt_callers", "--host", host, *options, "--", str(port), *stream_ids)

    async def all_connected(self) -> list[dict[str, Any]]:
        """Wait until all are connected; what was told of that, in the order of the stream ids."""
        return [await self.told("connected", caller=number) for number in range(self._count)]
