"""Connecting to an origin over TCP, with errors that say where to and why not."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

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
    if endpoint.host.replace(".", "").isdigit():
        return TCP4ClientEndpoint(reactor, endpoint.host, endpoint.port, timeout)
    return HostnameEndpoint(reactor, endpoint.host.encode("idna"), endpoint.port, timeout)


async def connect(endpoint: IStreamClientEndpoint, name: str, protocol: Protocol) -> None:
    """Connect ``protocol`` to ``endpoint``.

    :param name: of the endpoint, for errors.
    :raises OriginUnreachable: with the reason as its cause.
    :raises Refused: this machine has not got what a connection takes, for which the endpoint is not to blame.
    """
    try:
        await endpoint.connect(_OneProtocol(protocol))
    except ConnectingCancelledError as error:
        raise CancelledError from error
    except (ConnectError, DNSLookupError, OSError) as error:
        number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
        kind = Refused if number in _OUR_OWN_LACK else OriginUnreachable
        raise kind(f"connect origin {name}") from error
