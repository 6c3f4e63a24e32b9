"""The aiortc programs, as tests run them."""

from __future__ import annotations

from typing import Any, Self

from tests.processes import ProgramEnded, Telling
from tests.rtmp_client import PATIENCE


class AiortcOrigin(Telling):
    """An origin of WebRTC; see :mod:`tests.webrtc.aiortc_origin`.

    :ivar api_port: where it takes HTTP.
    :ivar rtc_port: where it takes media.
    """

    def __init__(self, reactor: Any, name: str, register: str | None = None, *, transport: str = "udp") -> None:
        options = ("--register", register) if register is not None else ()
        super().__init__(reactor, "tests.webrtc.aiortc_origin", "--name", name, "--transport", transport, *options)

    async def __aenter__(self) -> Self:
        self.start()
        listening = await self.told("listening")
        self.api_port, self.rtc_port = int(listening["api"]), int(listening["rtc"])
        return self


class AiortcClient(Telling):
    """A publisher or player; see :mod:`tests.webrtc.aiortc_client`."""

    def __init__(self, reactor: Any, action: str, url: str, *options: str) -> None:
        super().__init__(reactor, "tests.webrtc.aiortc_client", action, url, *options)

    @property
    def frames(self) -> int:
        """How many pictures it has told of."""
        return max((int(told["video"]) for told in self.events("frames")), default=0)

    async def played(self, frames: int, patience: float = PATIENCE) -> None:
        """Wait until it has told of so many more pictures."""
        wanted = self.frames + frames
        await self._until(lambda: self.frames >= wanted or self.exit_code is not None, f"{wanted} pictures", patience)
        if self.frames < wanted:
            raise ProgramEnded(f"ended with {self.exit_code}, without {wanted} pictures:\n{self.output}")
