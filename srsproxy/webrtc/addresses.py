"""Where clients are to send their media."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from srsproxy.balancer.model import Origin
from srsproxy.errors import Refused
from srsproxy.values import PublicAddress
from srsproxy.webrtc.offer import eip
from srsproxy.webrtc.originapi import Asked
from srsproxy.webrtc.sdp import CandidateAddress
from srsproxy.webrtc.shared import Shared
from srsproxy.webrtc.tcp import tcp_endpoint


def public_addresses(shared: Shared, asked: Asked) -> list[PublicAddress]:
    """The addresses at which a client reaches the listeners for media, as far as can be known.

    :raises Refused: nobody knows.
    """
    public = list(shared.settings.rtc_candidate) or [PublicAddress(_reached(asked))]
    wanted = eip(asked.query)
    return public if wanted is None else [*public, wanted]


def candidates(shared: Shared, public: Sequence[PublicAddress], origin: Origin) -> list[CandidateAddress]:
    """The same as candidates for a session at this origin: over TCP too, if both take media so."""
    udp, tcp = shared.media_port, shared.media_tcp_port if tcp_endpoint(origin) is not None else None
    return [
        CandidateAddress(address.host, address.port or udp, tcp if tcp is None else address.port or tcp)
        for address in public
    ]


def _reached(asked: Asked) -> str:
    """The IP address at which the client has reached us, as far as can be known.

    :raises Refused: it has come by none, but through a Unix socket.
    """
    name = asked.host.decode("latin-1")
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    for text in (name, asked.here):
        try:
            # Without a zone, which could be any text.
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            continue
        if not address.is_unspecified:
            return str(address)
    raise Refused("PROXY_RTC_CANDIDATE=auto, but the client has reached the HTTP API by no IP address: set the list")
