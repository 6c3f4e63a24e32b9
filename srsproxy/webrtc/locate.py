"""Where the media of a session goes that this proxy has not negotiated."""

from __future__ import annotations

from typing import Final

from srsproxy.balancer.model import Surface, WebRtcSession
from srsproxy.errors import LimitExceeded, Refused
from srsproxy.limits import Rate
from srsproxy.log import new_context_id
from srsproxy.stats import Stray
from srsproxy.webrtc.sessions import MediaSession, Sessions
from srsproxy.webrtc.shared import Shared
from srsproxy.webrtc.stun import StunMessage, verify_integrity

_MAX_SOUGHT: Final = 256
"""Sessions that are looked for at once; each is one question to the balancer."""

_PER_SECOND: Final = 2_000
"""Sessions that are looked for although their names prove nothing; whoever makes names up must not keep the balancer
busy."""

_CHECKS_PER_SECOND: Final = 10_000
"""Names of our form whose integrity is checked, which takes 6 microseconds each: a flood of them must not take all the
time of the sessions that run."""


class Locator:
    """Finds such sessions, by their ufrag if that was made by a proxy (:mod:`srsproxy.webrtc.credentials`), and else
    through the balancer."""

    def __init__(self, shared: Shared, sessions: Sessions) -> None:
        self._shared = shared
        self._sessions = sessions
        self._sought: set[str] = set()
        now = shared.reactor.seconds()
        self._questions = Rate("sessions", _PER_SECOND, _PER_SECOND, now)
        self._checks = Rate("checks", _CHECKS_PER_SECOND, _CHECKS_PER_SECOND, now)

    def refuses(self, request: StunMessage, data: bytes | memoryview) -> Stray | None:
        """Why the session that a client asks for is not looked for, if it is not; else :meth:`locate` is to follow.
        Most of what strangers send ends here, at the cost of a few microseconds.

        :param request: a Binding request.
        :param data: all of it.
        """
        username = request.username
        if username is None:
            return Stray.MALFORMED
        if self._sessions.is_over(username):
            return Stray.UNKNOWN_SESSION
        if username in self._sought or len(self._sought) >= _MAX_SOUGHT:
            return Stray.BUSY
        credentials = self._shared.credentials
        # Whether any other name is that of a session is for the balancer to say.
        is_ours = credentials.are_ours(username)
        try:
            (self._checks if is_ours else self._questions).spend(self._shared.reactor.seconds())
        except LimitExceeded:
            return Stray.BUSY
        if not is_ours:
            return None
        password = credentials.password(username) or ""
        return None if verify_integrity(data, request, password) else Stray.BAD_INTEGRITY

    async def locate(self, request: StunMessage, data: bytes, peer: str) -> MediaSession | Stray:
        """The session that a client asks for, begun now, if there is one and the client is that of the session.

        :param peer: IP address of the client.
        """
        username = request.username or ""
        password = self._shared.credentials.password(username)
        self._sought.add(username)
        try:
            negotiated = await self._negotiated(username, password)
            if negotiated is None:
                return Stray.UNKNOWN_SESSION
            if password is None and not verify_integrity(data, request, negotiated.ice_pwd):
                return Stray.BAD_INTEGRITY
            origin = await self._shared.balancer.pinned(negotiated.key, negotiated.server, Surface.RTC)
        finally:
            self._sought.discard(username)
        if origin is None:
            return Stray.UNKNOWN_SESSION
        session = self._sessions.get(username)
        if session is not None:
            return session
        try:
            admission = self._sessions.admit(peer)
        except Refused:
            return Stray.BUSY
        return self._sessions.begin(negotiated, origin, admission, new_context_id())

    async def _negotiated(self, username: str, password: str | None) -> WebRtcSession | None:
        """What is known of a session.

        :param password: if the ufrag was made by a proxy. Then the record tells no more than which stream it is, and if
            there is none the session runs all the same.
        """
        negotiated = await self._shared.balancer.load_webrtc(username)
        if negotiated is not None or password is None:
            return negotiated
        server = await self._shared.credentials.server(username)
        return None if server is None else WebRtcSession("", username, server, password, "")
