"""The RTMP server: accepts clients, and holds what their sessions share."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.config import Settings
from srsproxy.errors import log_failure
from srsproxy.interfaces import ILoadBalancer, IMediaServer, IStreamRelay
from srsproxy.limits import ConnectionLimits
from srsproxy.log import ContextLogger, new_context_id
from srsproxy.outcome import Outcome
from srsproxy.rtmp.amf0 import Limits
from srsproxy.rtmp.handshake import RANDOM_SIZE
from srsproxy.rtmp.negotiation import ClientNegotiation, NegotiationLimits, StreamNamed
from srsproxy.rtmp.origin import OriginNegotiation
from srsproxy.rtmp.session import RtmpClient
from srsproxy.stats import Session, Stats


@implementer(IMediaServer)
class RtmpServer(Factory):
    """Protocol factory of RTMP clients."""

    name = "rtmp"
    noisy = False

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        balancer: ILoadBalancer,
        relay: IStreamRelay,
        stats: Stats,
        limits: ConnectionLimits,
    ) -> None:
        self.reactor = reactor
        self.settings = settings
        self.balancer = balancer
        self.relay = relay
        self.limits = limits
        self._stats = stats
        self._clients: set[RtmpClient] = set()
        self._drained: list[Deferred[None]] = []
        self._client_limits = NegotiationLimits(
            settings.rtmp_max_message_size,
            settings.rtmp_max_unidentified_bytes,
            settings.rtmp_max_commands,
            Limits(max_depth=settings.rtmp_max_amf_depth, max_items=settings.rtmp_max_amf_items),
        )

    def buildProtocol(self, addr: IAddress | None) -> RtmpClient:
        return RtmpClient(self)

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`. Clients that have not named a stream have nothing to finish."""
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        for client in list(self._clients):
            if client.session.key is None:
                client.shut_down(Outcome.REFUSED)
        self._tell_drained()
        return drained

    def abort(self) -> None:
        """See :meth:`IMediaServer.abort`."""
        for client in list(self._clients):
            client.shut_down(Outcome.SHUTDOWN)

    def _tell_drained(self) -> None:
        if not self._clients:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    # For sessions

    def open_session(self, client: RtmpClient, peer: str) -> Session:
        """Begin the record of a connection that was accepted."""
        self._clients.add(client)
        return self._stats.open(self.name, new_context_id(), peer, self.reactor.seconds())

    def close_session(self, session: Session, outcome: Outcome, error: BaseException | Failure | None) -> None:
        """End the record, and say so in the log: once, in one line."""
        self._stats.end(session, outcome)
        log = ContextLogger(self.name, session.context)
        doing = f"{session.action or 'connection'} {session.key or ''}".strip()
        if error is not None:
            level = LogLevel.info if session.key is None else LogLevel.warn
            failure = error if isinstance(error, Failure) else Failure(error)
            log_failure(log, f"{doing} from {session.peer}: {outcome.value}", failure, level)
            return
        log.emit(
            LogLevel.debug if session.key is None else LogLevel.info,
            "{doing} from {peer}: {outcome} after {seconds:.1f} s, {received} bytes in, {sent} bytes out",
            doing=doing,
            peer=session.peer,
            outcome=outcome.value,
            seconds=self.reactor.seconds() - session.started,
            received=session.received,
            sent=session.sent,
        )

    def forget(self, client: RtmpClient) -> None:
        """The client's connection is gone."""
        self._clients.discard(client)
        self._tell_drained()

    def client_negotiation(self, address: str) -> ClientNegotiation:
        """The parser of a new client's side."""
        return ClientNegotiation(
            self._client_limits,
            self.settings.vhosts,
            accept_real_address=self._is_trusted(address),
            now_ms=self._now_ms(),
            random=os.urandom(RANDOM_SIZE),
        )

    def origin_negotiation(self, named: StreamNamed, peer: str) -> OriginNegotiation:
        """The parser of a new origin connection's side."""
        return OriginNegotiation(
            named,
            real_address=peer if self.settings.rtmp_real_address and _is_ipv4(peer) else None,
            now_ms=self._now_ms(),
            random=os.urandom(RANDOM_SIZE),
            max_message_size=self.settings.rtmp_max_message_size,
        )

    def _now_ms(self) -> int:
        return int(self.reactor.seconds() * 1000) & 0x7FFFFFFF

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.settings.trusted_addresses)


def _is_ipv4(address: str) -> bool:
    """SRS's real-address prefix has room for nothing else."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
