"""A site on loopback and a client for it that sends what a test says, whether it is HTTP or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.server import Site

from tests.rtmp_client import RawClient


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be declared to be JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error, which must have the form that all errors have."""
        body = self.json
        assert sorted(body) == ["code", "error"]
        assert body["code"] == self.status >= 400
        return str(body["error"])


class HttpClient(RawClient):
    """One connection."""

    async def response(self, has_body: bool = True) -> Response:
        """The next answer; its body is as long as its head says."""
        await self._wait_until(lambda: b"\r\n\r\n" in self.received, "head of an answer")
        head, _, _rest = bytes(self.received).partition(b"\r\n\r\n")
        status_line, *lines = head.decode("ascii").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        start = len(head) + 4
        end = start + (int(headers["content-length"]) if has_body else 0)
        await self._wait_until(lambda: len(self.received) >= end, "body of an answer")
        body = bytes(self.received[start:end])
        del self.received[:end]
        return Response(int(status_line.split(" ")[1]), headers, body)


def http_request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A request after whose answer the connection is closed."""
    fields = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("ascii") + body


class SiteUnderTest:
    """A site that listens on loopback; use it with ``async with``."""

    def __init__(self, reactor: Any, site: Site) -> None:
        self._reactor = reactor
        self._site = site
        self._clients: list[HttpClient] = []

    async def __aenter__(self) -> SiteUnderTest:
        self._port: IListeningPort = self._reactor.listenTCP(0, self._site, interface="127.0.0.1")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            if client.lost is None:
                await client.abort()
        await maybeDeferred(self._port.stopListening)

    async def client(self) -> HttpClient:
        """A new connection; closed in the end if the test has not."""
        address = self._port.getHost()
        assert isinstance(address, IPv4Address)
        client = await HttpClient.connect(self._reactor, "127.0.0.1", address.port)
        self._clients.append(client)
        return client

    async def answer(self, request: bytes) -> Response:
        """The answer to a request on a connection of its own; there must be one answer, and then an orderly end."""
        client = await self.client()
        client.send(request)
        response = await client.response(has_body=not request.startswith(b"HEAD "))
        assert await client.wait_closed()
        assert client.received == b""
        return response
