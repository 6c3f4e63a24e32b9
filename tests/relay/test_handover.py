"""Which transports have a socket to take over, and how their write side is closed."""

from __future__ import annotations

from typing import Any

from twisted.internet import ssl
from twisted.internet.testing import StringTransport

from srsproxy.transports import raw_socket
from tests.asynchronous import in_reactor
from tests.relay.wires import Lines, until


@in_reactor
async def test_a_tcp_transport_has_its_socket() -> None:
    async with Lines() as lines:
        line = await lines.line()
        connection = raw_socket(line.front.transport)
        assert connection is not None
        assert connection.getsockname()[1] == line.front.transport.getHost().port


@in_reactor
async def test_a_closed_transport_has_none() -> None:
    async with Lines() as lines:
        line = await lines.line()
        line.front.abort()
        await until(lambda: line.front.gone, "the closing")
        assert raw_socket(line.front.transport) is None


@in_reactor
async def test_a_tls_transport_has_none() -> None:
    async with Lines(tls_client=True) as lines:
        line = await lines.line()
        assert raw_socket(line.front.transport) is None


@in_reactor
async def test_a_transport_that_has_switched_to_tls_has_none() -> None:
    async with Lines() as lines:
        line = await lines.line()
        transport: Any = line.client.transport
        transport.startTLS(ssl.optionsForClientTLS("localhost"))
        assert raw_socket(transport) is None


def test_what_is_no_socket_has_none() -> None:
    assert raw_socket(StringTransport()) is None
    assert raw_socket(None) is None
