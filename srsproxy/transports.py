"""What all stream protocols want of Twisted's transports beyond their interfaces."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IPushProducer, ISSLTransport, ISystemHandle
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from srsproxy.interfaces import IStreamConnection

_KEEPALIVE_IDLE = 60
"""Seconds of silence after which the kernel asks whether a peer is still there."""

_MAX_MILLISECONDS = 2**31 - 1
"""The most that TCP_USER_TIMEOUT takes."""


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


def tune(transport: IStreamConnection, stall_timeout: float) -> None:
    """Have a connection send small answers at once, and break when its peer is gone or stalled.

    The kernel watches over what it has not been able to deliver, so this costs nothing here. That the stream is within
    TLS makes no difference to it.

    :param stall_timeout: seconds for which the peer may take nothing of what it is sent.
    """
    if isinstance(transport.getPeer(), UNIXAddress):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = min(max(int(stall_timeout * 1000), 1), _MAX_MILLISECONDS)
        connection = _innermost(transport).getHandle()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)


def _innermost(transport: Any) -> Any:
    """The transport that has the socket, within those that wrap it."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


@implementer(IPushProducer)
class Throttle:
    """Slows a transport's reading down to what another one can write, and does no more.

    Twisted stops the producer of a transport that is lost, and a transport stops by closing: too early for one that
    still has something to say.

    :ivar paused: whether the other one takes no more at present.
    """

    __slots__ = ("_source", "paused")

    def __init__(self, source: IStreamConnection) -> None:
        self._source = source
        self.paused = False

    def pauseProducing(self) -> None:
        """The other transport's buffer is full."""
        self.paused = True
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """It is empty."""
        self.paused = False
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        """It is lost; its protocol knows."""
