"""Connection limits for surfaces whose protocols know nothing of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.address import client_address
from srsproxy.errors import Refused
from srsproxy.limits import Admission, ConnectionLimits


class _Limited(ProtocolWrapper):
    admission: Admission

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.admission.leave()
        super().connectionLost(reason)


@implementer(IProtocolNegotiationFactory)
class LimitedFactory(WrappingFactory[_Limited]):
    """Lets ``wrapped`` have no more connections than ``limits`` say; what is over them is closed at once.

    Twisted's own ``LimitConnectionsByPeer`` takes addresses for tuples, which they have not been for long.
    """

    noisy = False
    protocol = _Limited

    def __init__(self, wrapped: IProtocolFactory, limits: ConnectionLimits) -> None:
        super().__init__(wrapped)
        self._limits = limits

    def acceptableProtocols(self) -> list[bytes]:
        """What ``wrapped`` offers to TLS clients that ask (ALPN)."""
        negotiation: IProtocolNegotiationFactory | None = IProtocolNegotiationFactory(self.wrappedFactory, None)
        return [] if negotiation is None else negotiation.acceptableProtocols()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        admission = Admission(self._limits, client_address(addr) if addr is not None else "local")
        try:
            admission.enter()
        except Refused:
            return None
        protocol = super().buildProtocol(addr)
        protocol.admission = admission
        return protocol
