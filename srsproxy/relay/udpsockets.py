"""UDP sockets beyond what Python's own say of them: their buffers, and to which address of ours a datagram went."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

Address = tuple[str, int] | tuple[str, int, int, int]
"""A client's address as the listening socket gives it. On ``::``, an IPv4 client has one such as
``("::ffff:192.0.2.1", 1024, 0, 0)``."""

PACKET_INFO_SPACE: Final = socket.CMSG_SPACE(struct.calcsize("16sI"))
_PACKET_INFO: Final = {
    # struct in_pktinfo: interface, the address that answers best come from, and where the datagram went (ip(7))
    socket.AF_INET: (socket.IPPROTO_IP, 8, struct.Struct("=I4s4s")),
    # struct in6_pktinfo: where the datagram went, interface (ipv6(7))
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.Struct("=16sI")),
}
"""By family: level and type of the control message that tells where a datagram went, and its content. Python has no
name for ``IP_PKTINFO``."""

_FORCED: Final = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}
"""``SO_SNDBUFFORCE`` and ``SO_RCVBUFFORCE`` (asm-generic/socket.h), for which Python has no names: with CAP_NET_ADMIN
they go beyond net.core.wmem_max and rmem_max."""


def open_socket(host: str, port: int, attach: Callable[[socket.socket, Any], None]) -> socket.socket:
    """A socket that ``attach`` has bound or connected to the address.

    :raises OSError: it cannot be; or ``host`` is no IP literal.
    """
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=numeric)[0]
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        attach(opened, address)
    except OSError:
        opened.close()
        raise
    return opened


def enlarge(sock: socket.socket, option: int, size: int) -> int:
    """Ask for a buffer of ``size`` bytes.

    :param option: ``SO_RCVBUF`` or ``SO_SNDBUF``.
    :returns: the bytes that the kernel gives.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _FORCED[option], size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    # The kernel makes, and tells, it twice as large for its own overhead.
    return sock.getsockopt(socket.SOL_SOCKET, option) // 2


def tell_destinations(everywhere: socket.socket) -> None:
    """Have a socket on all addresses tell where each datagram went; see :func:`destination`."""
    level, kind, _ = _PACKET_INFO[everywhere.family]
    everywhere.setsockopt(level, socket.IPV6_RECVPKTINFO if level == socket.IPPROTO_IPV6 else kind, 1)


def destination(everywhere: socket.socket, control: list[tuple[int, int, bytes]]) -> Address | None:
    """The address of ours, and the port, to which a datagram with these control messages went."""
    level, kind, info = _PACKET_INFO[everywhere.family]
    content = next((data for told, of, data in control if (told, of) == (level, kind)), b"")
    if len(content) != info.size:
        return None
    port: int = everywhere.getsockname()[1]
    if everywhere.family == socket.AF_INET:
        _, packed, _ = info.unpack(content)
        return str(ipaddress.IPv4Address(packed)), port
    packed, interface = info.unpack(content)
    local = ipaddress.IPv6Address(packed)
    return str(local), port, 0, interface if local.is_link_local else 0


def share_address(everywhere: socket.socket, where: Address) -> socket.socket:
    """A socket on one address of those that another one has. Both must allow that, and do so no longer than it takes:
    else other processes could join in.

    :raises OSError: it cannot be.
    """
    opened = socket.socket(everywhere.family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        for one in (everywhere, opened):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
    except OSError:
        opened.close()
        raise
    finally:
        for one in (everywhere, opened):
            if one.fileno() >= 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return opened
