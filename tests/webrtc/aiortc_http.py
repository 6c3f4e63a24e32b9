"""As much HTTP as the aiortc programs need: they are processes of their own, on asyncio."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; the names of its headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; the names of its headers are in lower case."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""What a server does with a request; None closes the connection without a byte, which is how SRS refuses."""


async def serve(host: str, port: int, answer: Answer) -> asyncio.Server:
    """Listen; one request per connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            response = await answer(await _read_request(reader))
            if response is not None:
                writer.write(_serialize(response))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            writer.close()

    return await asyncio.start_server(connected, host, port)


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.rstrip().split("\r\n")
    method, target, _ = request_line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    # SRS does not escape what it puts into a Location, so that a "+" is one and not a space.
    query = dict(parse_qsl(url.query.replace("+", "%2B"), keep_blank_values=True))
    return Request(method, url.path, query, headers, body.decode())


def _serialize(response: Response) -> bytes:
    body = response.body.encode()
    headers = {"connection": "Close", **response.headers, "content-length": str(len(body))}
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name.title()}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def fetch(method: str, url: str, body: str = "", content_type: str = "text/plain") -> Response:
    """One request.

    :raises OSError: there is no server.
    :raises http.client.HTTPException: what it says is not HTTP; nothing at all, for example.
    """
    parts = urlsplit(url)

    def exchange() -> Response:
        connection = http.client.HTTPConnection(parts.netloc, timeout=10.0)
        try:
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, target, body.encode(), {"Content-Type": content_type})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, response.read().decode(), headers)
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)
