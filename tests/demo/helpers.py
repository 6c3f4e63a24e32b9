"""A demo origin and its clients, without a proxy between."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from twisted.internet import reactor

from srsproxy.demo.origin import DemoOrigin
from tests.http.origins import RawHttpClient
from tests.rtmp_client import RawClient, RtmpTestClient, Style, status_code


class House:
    """A demo origin; use it with ``async with``. Clients are closed with it.

    :param parameters: those of :class:`DemoOrigin`.
    """

    def __init__(self, **parameters: Any) -> None:
        self.origin = DemoOrigin(reactor, name="test", **parameters)
        self._clients: list[RawClient] = []

    async def __aenter__(self) -> House:
        self.origin.startService()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.origin.running:
            await self.origin.stopService()
        for client in self._clients:
            await client.wait_closed()

    @property
    def rtmp_port(self) -> int:
        return _port(self.origin.rtmp_address)

    @property
    def http_port(self) -> int:
        return _port(self.origin.http_address)

    async def client(self) -> RtmpTestClient:
        """An RTMP client that has said nothing yet."""
        client = await RtmpTestClient.connect(reactor, "127.0.0.1", self.rtmp_port)
        self._clients.append(client)
        return client

    async def publisher(self, name: str, style: Style = "fmle") -> RtmpTestClient:
        """A client that publishes ``live/<name>`` and has sent metadata and sequence headers."""
        client = await self.client()
        assert status_code(await client.publish("live", name, style)) == "NetStream.Publish.Start"
        client.send_metadata()
        client.send_sequence_headers()
        await client.read_to_pong()
        return client

    async def player(self, name: str) -> RtmpTestClient:
        """A client that plays ``live/<name>``."""
        client = await self.client()
        assert status_code(await client.play("live", name)) == "NetStream.Play.Start"
        await client.read_to_pong()
        return client

    async def http_client(self, request: str | None = None) -> RawHttpClient:
        """A client that has sent ``request``, a request line such as ``GET /live/a.flv``, if that is given."""
        client = await RawHttpClient.connect(reactor, "127.0.0.1", self.http_port)
        self._clients.append(client)
        if request is not None:
            method, target = request.split(" ")
            client.request(target, f"Host: {self.origin.http_address}", method=method)
        return client


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
