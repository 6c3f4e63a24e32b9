"""Connecting to an origin, with errors that say where to and why not."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IProtocol, IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from srsproxy.balancer.model import Endpoint
from srsproxy.errors import OriginUnreachable, Refused

_OUR_OWN_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class _OneProtocol(Factory[Protocol]):
    """A factory for a protocol that exists already. It forgets it: Twisted keeps factories in cycles for a while."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol: Protocol | None = protocol

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        protocol, self._protocol = self._protocol, None
        return protocol


def client_endpoint(reactor: Any, endpoint: Endpoint, timeout: float) -> IStreamClientEndpoint:
    """How to dial an origin's endpoint, in at most ``timeout`` seconds.

    IP literals are dialled directly: a look-up of one would cost a thread for nothing.

    IDNA does not fail here: hosts that it refuses make no :class:`Endpoint` of an origin.
    """
    if ":" in endpoint.host:
        return TCP6ClientEndpoint(reactor, endpoint.host, endpoint.port, timeout)
    if _is_literal(endpoint.host):
        return TCP4ClientEndpoint(reactor, endpoint.host, endpoint.port, timeout)
    return HostnameEndpoint(reactor, endpoint.host.encode("idna"), endpoint.port, timeout)


def unreachable(name: str, error: Exception) -> OriginUnreachable | Refused:
    """What it means that an origin's endpoint cannot be connected to.

    :param name: of the endpoint.
    :param error: why not. :class:`Refused` if this machine has not got what it takes.
    """
    number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
    kind = Refused if number in _OUR_OWN_LACK else OriginUnreachable
    return kind(f"connect origin {name}")


async def connect(endpoint: IStreamClientEndpoint, name: str, protocol: Protocol) -> None:
    """Connect ``protocol`` to ``endpoint``.

    :param name: of the endpoint, for errors.
    :raises OriginUnreachable: with the reason as its cause.
    :raises Refused: this machine has not got what a connection takes, for which the endpoint is not to blame.
    """
    given_up = False

    def give_up(_waiting: Deferred[IProtocol]) -> None:
        nonlocal given_up
        given_up = True
        connecting.cancel()

    try:
        connecting = endpoint.connect(_OneProtocol(protocol))
        waiting: Deferred[IProtocol] = Deferred(give_up)
        connecting.chainDeferred(waiting)
        await waiting
    except (ConnectError, ConnectingCancelledError, DNSLookupError, OSError) as error:
        # Of a look-up that was given up, Twisted says that it has found nothing.
        if given_up:
            raise CancelledError from error
        raise unreachable(name, error) from error


async def resolve(reactor: Any, endpoint: Endpoint, seconds: float) -> str:
    """The IP address of an origin's endpoint, for datagrams, of which nobody tells whether they arrive. Of several, it
    is an IPv4 address, because SRS listens on IPv6 only if it is told to.

    :param seconds: in which it must be found.
    :raises OriginUnreachable: there is none.
    """
    if _is_literal(endpoint.host):
        return endpoint.host
    resolution = _Resolution()
    reactor.nameResolver.resolveHostName(resolution, endpoint.host, endpoint.port)
    try:
        addresses = await resolution.completed.addTimeout(seconds, reactor)
    except DeferredTimeout:
        raise OriginUnreachable(f"origin {endpoint}: its name is not found within {seconds:g} s") from None
    if not addresses:
        raise OriginUnreachable(f"origin {endpoint}: its name has no address")
    return min(addresses, key=lambda address: ":" in address)


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


@implementer(IResolutionReceiver)
class _Resolution:
    """Collects the addresses of a name."""

    def __init__(self) -> None:
        self.completed: Deferred[list[str]] = Deferred()
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The look-up has begun."""

    def addressResolved(self, address: Any) -> None:
        """One more address."""
        self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        """That were all."""
        if not self.completed.called:
            self.completed.callback(self._addresses)
