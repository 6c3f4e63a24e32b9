"""Client addresses as limits, logs and origins want them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from twisted.internet.interfaces import IAddress

from srsproxy.values import Network


def client_address(peer: IAddress) -> str:
    """The IP literal of a peer. IPv4 peers of a dual-stack listener lose their ``::ffff:``, and link-local ones their
    zone; a peer on a Unix socket has the address ``local``."""
    return plain_address(str(getattr(peer, "host", "local")))


def plain_address(host: str) -> str:
    """The same for an IP literal as sockets tell it; anything else is left as it is."""
    host = host.partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether an IP literal belongs to one of the networks; anything else does not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
