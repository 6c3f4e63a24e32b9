"""What comes to the proxy's port, and from origins, beyond media: handshakes, farewells, and what could harm an origin.

Media is relayed without a look: what a caller sends goes to the origin that its address and the destination socket id
belong to. An induction is answered at once, and forgotten; only a caller that has got the answer, and so is where it
says it is, costs more than that (draft-sharabayko-srt, section 4.3.1.1).
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred

from srsproxy.errors import PeerError
from srsproxy.relay.datagram import DatagramRelay
from srsproxy.relay.flow import Flow, Path
from srsproxy.relay.udpsockets import Address
from srsproxy.srt.attempt import Abandoned, Attempt
from srsproxy.srt.calls import Calls
from srsproxy.srt.handshake import Handshake, HandshakeType, encode_peer_ip, induction_answer
from srsproxy.srt.packet import ControlType, destination_socket_id, is_control, is_usable_dropreq
from srsproxy.srt.session import SrtSession
from srsproxy.srt.sessions import Sessions
from srsproxy.srt.shared import SOURCE, Shared, send
from srsproxy.stats import Stray
from srsproxy.values import BindAddress

_CONTROL: Final = 0x80
"""First byte of control packets, whose second byte is the type (draft-sharabayko-srt, section 3.2). Those of
user-defined types begin otherwise; the origin knows what to do with them."""

_INSPECTED_OF_CALLERS: Final = {
    _CONTROL: frozenset({ControlType.HANDSHAKE, ControlType.ACK, ControlType.SHUTDOWN, ControlType.DROPREQ})
}
_INSPECTED_OF_ORIGINS: Final = {_CONTROL: frozenset({ControlType.HANDSHAKE, ControlType.SHUTDOWN})}

_DESTINATION: Final = 12
"""Where in a packet its destination socket id is (draft-sharabayko-srt, section 3)."""


class Listener:
    """See the module's text (DatagramReceiver)."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clock = shared.reactor
        self._relay = DatagramRelay(
            shared.reactor, self, _INSPECTED_OF_CALLERS, _INSPECTED_OF_ORIGINS, number_at=_DESTINATION
        )
        self._sessions = Sessions(shared)
        self._calls = Calls(shared, self._relay, self._sessions)

    def listen(self, where: BindAddress) -> int:
        """Begin. Returns the port, which is another than asked for if that was 0.

        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """
        return self._relay.listen(where.interface, where.port)

    def drain(self) -> Deferred[None]:
        """Take no more callers; fires when the last session has ended."""
        self._calls.hang_up()
        return self._sessions.drain().addCallback(lambda _: self._relay.close())

    def abort(self) -> None:
        """End all sessions."""
        self._sessions.abort()

    # From callers (DatagramReceiver)

    def client_datagram(self, data: memoryview, address: Address, path: Path | None) -> None:
        """A caller has sent a handshake or SHUTDOWN, or is unknown, or was asked for by its session."""
        if is_control(data, ControlType.HANDSHAKE):
            self._shaken(data, address)
            return
        session = path.flow.owner if path is not None else None
        if not isinstance(session, SrtSession):
            if not self._sessions.claimed(data, address, self._relay.entrance):
                self._stray(Stray.UNKNOWN_ADDRESS)
        elif is_control(data, ControlType.SHUTDOWN):
            self._sessions.left(session)
        elif not _is_harmless(data, session):
            self._stray(Stray.MALFORMED)
        else:
            self._sessions.shown(session, data)

    def _shaken(self, data: memoryview, address: Address) -> None:
        try:
            handshake = Handshake.parse(data)
        except PeerError:
            self._stray(Stray.MALFORMED)
            return
        cookies, now = self._shared.cookies, self._clock.seconds()
        if handshake.destination:
            self._stray(Stray.UNEXPECTED)  # No listener answers it.
        elif handshake.type == HandshakeType.INDUCTION:
            cookie = cookies.make(address, now)
            answer = induction_answer(handshake, cookie, encode_peer_ip(address[0]), self._shared.encryption)
            send(self._relay.entrance, answer, address)
        elif handshake.type != HandshakeType.CONCLUSION:
            self._stray(Stray.UNEXPECTED)  # A rendezvous, or an answer to what was not asked.
        elif not cookies.is_valid(handshake.cookie, address, now):
            self._stray(Stray.BAD_COOKIE)
        else:
            self._calls.concluded(handshake, address, self._relay.entrance)

    def _stray(self, why: Stray) -> None:
        self._shared.stats.strays[SOURCE, why] += 1

    # From origins (DatagramReceiver)

    def origin_datagram(self, data: memoryview, flow: Flow) -> None:
        """An origin has sent a handshake or SHUTDOWN."""
        owner = flow.owner
        if is_control(data, ControlType.HANDSHAKE):
            if isinstance(owner, Attempt | Abandoned | SrtSession):
                owner.answered(data)
        elif isinstance(owner, SrtSession) and destination_socket_id(data) == owner.caller_socket_id:
            self._sessions.dismissed(owner)

    def origin_refused(self, flow: Flow) -> None:
        """An origin's machine has said that nobody listens there."""
        owner = flow.owner
        if isinstance(owner, Attempt):
            owner.refused()
        elif isinstance(owner, SrtSession):
            self._sessions.refused(owner)


def _is_harmless(data: memoryview, session: SrtSession) -> bool:
    """Whether an origin comes to no harm by what a caller has sent."""
    if is_control(data, ControlType.DROPREQ):
        return is_usable_dropreq(data)
    return not is_control(data, ControlType.ACK) or session.may_acknowledge(data)
