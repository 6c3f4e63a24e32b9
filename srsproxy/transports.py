"""What all stream protocols want of Twisted's transports beyond their interfaces."""

from __future__ import annotations

import socket

from twisted.internet.interfaces import ISSLTransport, ISystemHandle

from srsproxy.interfaces import IStreamConnection

_KEEPALIVE_IDLE = 60
"""Seconds of silence after which the kernel asks whether a peer is still there."""


def raw_socket(transport: object) -> socket.socket | None:
    """The kernel's socket behind ``transport`` if its bytes are those of the stream, else ``None``.

    Wrappers that leave the bytes alone (``haproxy:`` endpoints) hand out the socket of what they wrap. A TLS transport
    has none in this sense: its handle is OpenSSL's, or its bytes are ciphertext (``startTLS``). Nor has a closed one.
    """
    if ISSLTransport.providedBy(transport) or not ISystemHandle.providedBy(transport):
        return None
    try:
        handle = ISystemHandle(transport).getHandle()
    except AttributeError:
        return None  # This is how Twisted's transports say that they are closed.
    return handle if isinstance(handle, socket.socket) else None


def close_write(transport: IStreamConnection) -> None:
    """Close the write side once all is written; all of the connection where that has no such thing, as in TLS."""
    if raw_socket(transport) is not None:
        transport.loseWriteConnection()
    else:
        transport.loseConnection()


def tune_client(transport: IStreamConnection, stall_timeout: float) -> None:
    """Have a client's socket send small answers at once, and break when the client is gone or stalled.

    The kernel watches over what it has not been able to deliver, so this costs nothing here.

    :param stall_timeout: seconds for which a client may take nothing of what it is sent.
    """
    connection = raw_socket(transport)
    if connection is None:
        transport.setTcpNoDelay(True)
        return
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_timeout * 1000))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
