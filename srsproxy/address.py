"""Client addresses as limits, logs and origins want them."""

from __future__ import annotations

import ipaddress

from twisted.internet.interfaces import IAddress


def client_address(peer: IAddress) -> str:
    """The IP literal of a peer. IPv4 peers of a dual-stack listener lose their ``::ffff:``, and link-local ones their
    zone; a peer on a Unix socket has the address ``local``."""
    host = str(getattr(peer, "host", "local")).partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
