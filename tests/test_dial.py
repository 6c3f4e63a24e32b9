"""Dialling origins: by address, by name, and never somewhere else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectBindError, ConnectionRefusedError, getConnectError
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.balancer.model import Endpoint
from srsproxy.dial import client_endpoint, connect
from srsproxy.errors import OriginUnreachable, Refused, SrsProxyError, describe


@implementer(IHostResolution)
class Resolution:
    name = "origin"

    def cancel(self) -> None:
        """Nothing to cancel."""


@implementer(IHostnameResolver)
class Resolver:
    """Knows the names it is given, and no others.

    :ivar answers: whether it ever answers.
    """

    answers = True

    def __init__(self, **names: str) -> None:
        self._names = names

    def resolveHostName(
        self, receiver: IResolutionReceiver, hostName: str, portNumber: int = 0, *rest: object
    ) -> Resolution:
        receiver.resolutionBegan(Resolution())
        if not self.answers:
            return Resolution()
        if hostName in self._names:
            receiver.addressResolved(IPv4Address("TCP", self._names[hostName], portNumber))
        receiver.resolutionComplete()
        return Resolution()


def dial(reactor: MemoryReactorClock, endpoint: Endpoint) -> Deferred[None]:
    return Deferred.fromCoroutine(connect(client_endpoint(reactor, endpoint, 3.0), str(endpoint), Protocol()))


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_addresses_are_dialled_without_a_look_up(host: str) -> None:
    reactor = MemoryReactorClock()
    dial(reactor, Endpoint(host, 1935))
    ((dialled, port, _, timeout, _),) = reactor.tcpClients
    assert (dialled, port, timeout) == (host, 1935, 3.0)


def test_a_name_is_looked_up_and_dialled_where_it_leads() -> None:
    reactor = MemoryReactorClock()
    reactor.installNameResolver(Resolver(origin="192.0.2.8"))
    dial(reactor, Endpoint("origin", 1935))
    assert [(client[0], client[1]) for client in reactor.tcpClients] == [("192.0.2.8", 1935)]


def test_a_name_that_leads_nowhere_is_unreachable_and_localhost_is_not_tried() -> None:
    reactor = MemoryReactorClock()
    reactor.installNameResolver(Resolver())
    failure = _failure_of(dial(reactor, Endpoint("origin", 1935)))
    assert failure.check(OriginUnreachable)
    assert describe(failure).startswith("connect origin origin:1935: ")
    assert reactor.tcpClients == []


def test_a_refusal_is_told_with_address_and_reason() -> None:
    reactor = MemoryReactorClock()
    dialling = dial(reactor, Endpoint("2001:db8::7", 1935))
    factory = reactor.tcpClients[0][2]
    factory.clientConnectionFailed(cast(IConnector, None), Failure(ConnectionRefusedError(osError=111)))
    assert describe(_failure_of(dialling)) == "connect origin [2001:db8::7]:1935: connection refused"


@implementer(IStreamClientEndpoint)
class Failing:
    """An endpoint that cannot be connected to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:  # noqa: N803  # the name is Twisted's
        return fail(self._error)


LACKS = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]
BLAMES = [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EACCES]


@pytest.mark.parametrize(
    ("number", "expected"),
    [*((number, Refused) for number in LACKS), *((number, OriginUnreachable) for number in BLAMES)],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("how", [ConnectBindError, lambda number, text: getConnectError((number, text)), OSError])
def test_what_this_machine_lacks_is_not_the_origins_fault(
    how: Callable[[int, str], Exception], number: int, expected: type[SrsProxyError]
) -> None:
    endpoint = Failing(how(number, os.strerror(number)))
    failure = _failure_of(Deferred.fromCoroutine(connect(endpoint, "192.0.2.7:80", Protocol())))
    assert failure.type is expected
    assert describe(failure).startswith("connect origin 192.0.2.7:80: ")


@pytest.mark.parametrize("host", ["192.0.2.7", "origin"])
def test_who_dials_may_give_up(host: str) -> None:
    reactor = MemoryReactorClock()
    reactor.installNameResolver(Resolver(origin="192.0.2.8"))
    dialling = dial(reactor, Endpoint(host, 1935))
    dialling.cancel()
    assert _failure_of(dialling).check(CancelledError)
    (connector,) = reactor.connectors
    assert connector.stoppedConnecting


def test_who_dials_may_give_up_while_a_name_is_looked_up() -> None:
    reactor = MemoryReactorClock()
    resolver = Resolver(origin="192.0.2.1")
    resolver.answers = False
    reactor.installNameResolver(resolver)
    dialling = dial(reactor, Endpoint("origin", 1935))

    dialling.cancel()

    assert _failure_of(dialling).check(CancelledError)


def _failure_of(dialling: Deferred[None]) -> Failure:
    failures: list[Failure] = []
    dialling.addErrback(failures.append)
    (failure,) = failures
    return failure
