"""Media over UDP: one socket for all clients, and a flow to its origin for each session.

A client is known by the address that it sends from, once it has shown that it is the client of its session: by a STUN
Binding request that names the session and is authentic (RFC 8445, section 7.3). What comes from other addresses is
dropped, and never answered. A client has one address or several, *paths*; all of them reach the origin, which answers
to one, the *selected path*:

* the path of a request with USE-CANDIDATE, by which the client nominates it (RFC 8445, section 8.1.1);
* without that, a new path as soon as the selected one has been silent for a second: the client is behind a NAT that has
  given it another address, which it need not know.

A client that tries several candidates at once is answered at each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from srsproxy.address import plain_address
from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.dial import resolve, unreachable
from srsproxy.errors import OriginUnreachable, PeerError, Refused, log_failure
from srsproxy.relay.datagram import DatagramRelay
from srsproxy.relay.flow import Flow, Path, Transmit
from srsproxy.relay.udpsockets import Address
from srsproxy.stats import Stray
from srsproxy.values import BindAddress
from srsproxy.webrtc.locate import Locator
from srsproxy.webrtc.sessions import MediaSession, Sessions
from srsproxy.webrtc.shared import SOURCE, Shared
from srsproxy.webrtc.stun import STUN_BYTES, StunMessage, parse, verify_integrity

_DTLS_ALERT: Final = 21
"""Type of a DTLS record (RFC 6347, section 4.1; RFC 5246, section 7.2). Encrypted, it is close_notify."""

_MIN_ALERT: Final = 13 + 2
"""Bytes of such a record: its head, and level and description, or more that is encrypted."""

_INSPECTED: Final = dict.fromkeys(STUN_BYTES | {_DTLS_ALERT}, range(256))

_TRANSACTION_ID: Final = slice(8, 20)
"""Where it is in a STUN message (RFC 8489, section 5)."""

_SILENCE: Final = 1.0
"""Seconds without a word from the selected path after which another one takes its place. Clients send STUN every 2.5 to
5 seconds, so a client that has moved is followed before its next one."""

_MAX_PATHS: Final = 8
"""Addresses of one client. A phone has some candidates; each costs an entry in the relay's table."""

_MAX_ASKED: Final = 16
"""The latest requests of a client. The origin answers at once or never; and who has overheard one of them cannot move
the session by sending it again. Clients send one in 2.5 to 5 seconds; each costs 130 bytes."""

_log = Logger()


class Media:
    """See the module's text (DatagramReceiver)."""

    def __init__(self, shared: Shared, sessions: Sessions, locator: Locator) -> None:
        self._shared = shared
        self._sessions = sessions
        self._locator = locator
        self._relay = DatagramRelay(shared.reactor, self, _INSPECTED, _INSPECTED)
        self._carriers: dict[str, _UdpCarrier] = {}
        self._opening: set[str] = set()

    def listen(self, where: BindAddress) -> int:
        """Begin. Returns the port, which is another than asked for if that was 0.

        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        return self._relay.listen(where.interface, where.port)

    def close(self) -> None:
        """End; all sessions have ended."""
        self._relay.close()

    # From clients (DatagramReceiver)

    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        """A client has sent STUN, has said goodbye, or is unknown."""
        if not data or data[0] not in STUN_BYTES:
            if path is None:
                self._stray(Stray.UNKNOWN_ADDRESS)
            else:
                path.flow.send(data)
                if len(data) >= _MIN_ALERT:
                    self._sessions.goodbye(_carrier(path.flow).session)
            return
        try:
            message = parse(data)
        except PeerError:
            self._stray(Stray.MALFORMED)
            return
        if message.is_binding_request and message.username is not None:
            self._requested(message, message.username, data, address)
        elif path is not None:
            path.flow.send(data)
        else:
            self._stray(Stray.UNKNOWN_ADDRESS)

    def _requested(self, request: StunMessage, username: str, data: memoryview, address: Address) -> None:
        session = self._sessions.get(username)
        if session is None:
            stray = self._locator.refuses(request, data)
            if stray is None:
                self._later(self._locate(request, bytes(data), address, self._relay.entrance))
            else:
                self._stray(stray)
        elif not verify_integrity(data, request, session.negotiated.ice_pwd):
            self._stray(Stray.BAD_INTEGRITY)
        else:
            carrier = self._carriers.get(username)
            if carrier is not None:
                carrier.requested(request, data, address, self._relay.entrance)
            else:
                self._later(self._open(session, request, bytes(data), address, self._relay.entrance))

    async def _locate(self, request: StunMessage, data: bytes, address: Address, entrance: Transmit) -> None:
        found = await self._locator.locate(request, data, plain_address(address[0]))
        if isinstance(found, Stray):
            self._stray(found)
        else:
            await self._open(found, request, data, address, entrance)

    async def _open(
        self, session: MediaSession, request: StunMessage, data: bytes, address: Address, entrance: Transmit
    ) -> None:
        """Open the session's flow, and pass on the request that it begins with."""
        username = session.username
        if username in self._opening:
            return
        self._opening.add(username)
        try:
            endpoint = _media_endpoint(session.origin)
            seconds = self._shared.settings.origin_connect_timeout
            host = await resolve(self._shared.reactor, endpoint, seconds)
            if session.record.outcome is not None:
                return  # It has ended meanwhile.
            try:
                flow = self._relay.open_flow(host, endpoint.port)
            except OSError as error:
                raise unreachable(str(endpoint), error) from error
        except (OriginUnreachable, Refused) as error:
            if not session.carried:  # Else it runs over TCP, as far as we know.
                self._sessions.fail(session, error)
            return
        finally:
            self._opening.discard(username)
        carrier = _UdpCarrier(self._shared.reactor, session, flow, self._carriers)
        self._carriers[username] = carrier
        session.carry(carrier, self._shared.reactor.seconds())
        carrier.requested(request, memoryview(data), address, entrance)

    def _later(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: log_failure(_log, "find the session of a STUN request", failure)
        )

    def _stray(self, why: Stray) -> None:
        self._shared.stats.strays[SOURCE, why] += 1

    # From origins (DatagramReceiver)

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        """An origin has sent STUN, or has said goodbye."""
        carrier = _carrier(flow)
        if data[0] in STUN_BYTES:
            carrier.answered(data)
        else:
            if flow.path is not None:
                flow.send_to(flow.path, data)
            if len(data) >= _MIN_ALERT:
                self._sessions.goodbye(carrier.session)

    def origin_refused(self, flow: Flow) -> None:
        """See the next look at the session."""


class _UdpCarrier:
    """The flow of one session, and the paths of its client (Carrier)."""

    __slots__ = ("_asked", "_carriers", "_clock", "_contention", "session", "traffic")

    def __init__(
        self, clock: IReactorTime, session: MediaSession, flow: Flow, carriers: dict[str, _UdpCarrier]
    ) -> None:
        self._clock = clock
        self.session = session
        self.traffic = flow
        self._carriers = carriers
        # Paths by the transaction ids of what was asked from there.
        self._asked: OrderedDict[bytes, Path] = OrderedDict()
        self._contention: IDelayedCall | None = None
        flow.owner = self

    def close(self, forgotten: bool) -> None:
        if self._contention is not None:
            self._contention.cancel()
            self._contention = None
        self._asked.clear()
        del self._carriers[self.session.username]
        self.traffic.owner = None
        self.traffic.close(forgotten=forgotten)

    def requested(self, request: StunMessage, data: memoryview, address: Address, entrance: Transmit) -> None:
        """The client has sent an authentic Binding request.

        :param address: where it came from.
        :param entrance: how to answer there.
        """
        flow = self.traffic
        asked = self._asked.get(request.transaction_id)
        if asked is not None and asked.address != address:
            return
        path = self._path(address, entrance)
        self._asked[request.transaction_id] = path
        if len(self._asked) > _MAX_ASKED:
            self._asked.popitem(last=False)
        selected = flow.path
        if selected is None or request.use_candidate or self._is_silent(selected):
            flow.select(path)
        elif path is not selected and self._contention is None:
            self._contention = self._clock.callLater(_SILENCE, self._decide, path, selected)
        flow.send(data)

    def answered(self, data: memoryview) -> None:
        """The origin has sent a STUN message: if it is an answer, it is for whoever has asked."""
        path = self._asked.get(bytes(data[_TRANSACTION_ID])) or self.traffic.path
        if path is not None:
            self.traffic.send_to(path, data)

    def _path(self, address: Address, entrance: Transmit) -> Path:
        """Where the client comes from now. If it has too many such places, the oldest one is forgotten."""
        flow = self.traffic
        path = flow.add_path(address, entrance)
        if len(flow.paths) > _MAX_PATHS:
            flow.remove_path(next(old for old in flow.paths if old is not flow.path))
        return path

    def _is_silent(self, path: Path) -> bool:
        return self._clock.seconds() - path.heard_at > _SILENCE

    def _decide(self, contender: Path, selected: Path) -> None:
        """Take a new path if the selected one has been silent since it came up."""
        self._contention = None
        flow = self.traffic
        if flow.path is selected and self._is_silent(selected) and contender in flow.paths:
            flow.select(contender)


def _carrier(flow: Flow) -> _UdpCarrier:
    if not isinstance(flow.owner, _UdpCarrier):
        raise TypeError("a flow of another owner")
    return flow.owner


def _media_endpoint(origin: Origin) -> Endpoint:
    """
    :raises OriginUnreachable: there is none.
    """
    for endpoint in origin.dial(Surface.RTC):
        if endpoint.transport == "udp":
            return endpoint
    raise OriginUnreachable(f"origin {origin.id} announces no WebRTC over UDP")
