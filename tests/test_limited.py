"""Limits around a protocol that knows nothing of them."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from srsproxy.limited import LimitedFactory
from srsproxy.limits import ConnectionLimits
from tests.asynchronous import in_reactor, until
from tests.rtmp_client import RawClient


@in_reactor
async def test_what_is_over_the_limit_is_closed_until_another_has_left() -> None:
    factory = LimitedFactory(Factory.forProtocol(Echo), ConnectionLimits(0, 1, 0))
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    address = listening.getHost()
    assert isinstance(address, IPv4Address)

    first = await RawClient.connect(reactor, "127.0.0.1", address.port)
    first.send(b"first")
    assert await first.wait_received(5) == b"first"
    second = await RawClient.connect(reactor, "127.0.0.1", address.port)
    await second.wait_closed()
    await first.close()
    await until(reactor, lambda: not factory.protocols, "the first has left")
    third = await RawClient.connect(reactor, "127.0.0.1", address.port)
    third.send(b"third")
    assert await third.wait_received(5) == b"third"
    await third.close()

    await maybeDeferred(listening.stopListening)
    await until(reactor, lambda: not factory.protocols, "all have left")
