"""What one proxy knows of origins, picks and sessions; without I/O, and no timer runs.

The balancer in memory has nothing else. One that shares its state with other proxies keeps in here what it has learnt
of them, and goes on with that when it cannot ask.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.health import Health, OriginHealth
from srsproxy.balancer.model import MAX_KEY_LENGTH, HlsSession, Origin, Surface, WebRtcSession, check_length
from srsproxy.balancer.policy import Candidate, Policy, best_candidates
from srsproxy.errors import LimitExceeded, NoOrigin

MAX_ORIGINS: Final = 1_000
"""Registered origins. Choosing for a new stream looks at each, and whoever can register could fill the memory."""

MAX_PICKS: Final = 100_000
"""Streams with an origin. A client can name any number of streams that do not exist; beyond this limit the stream that
nobody asked for or used for longest loses its pick, and gets a new one when it is asked for again."""

MAX_SESSIONS: Final = 20_000
"""HLS records, one for each stream, and as many WebRTC records; beyond this the longest unused one is lost."""

_log = Logger()


@dataclass(slots=True, eq=False)
class _Member:
    """A registered origin. Picks refer to it, and are as dead as it is; so they need not be looked for when it goes."""

    origin: Origin
    alive: bool = True
    streams: int = 0
    streams_of_all: int | None = None
    """Streams that any proxy has here, as far as was told."""
    shares_server: bool = False
    """Another living origin was seen with the same ``server``, and that was told."""


class Knowledge:
    """Origins, picks and sessions. Nothing lives longer than its lifetime: every method first drops what has died since
    the last call. A known stream takes the same few steps however many there are; a new stream, one step for each
    origin.

    :param clock: tells the time, in seconds.
    :param origin_lifetime: seconds after its last heartbeat for which an origin counts as registered.
    :param pick_lifetime: seconds for which a stream keeps its origin without being asked for or refreshed.
    :param hls_lifetime: the same for HLS sessions.
    :param webrtc_lifetime: the same for WebRTC sessions.
    :param set_aside: see :class:`~srsproxy.balancer.health.OriginHealth`.
    :param down_after: the same.
    :param random: the policies' source of random numbers.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        origin_lifetime: float,
        pick_lifetime: float,
        hls_lifetime: float,
        webrtc_lifetime: float,
        set_aside: float,
        down_after: int,
        random: Random,
    ) -> None:
        self._clock = clock
        self._origin_lifetime = origin_lifetime
        self._random = random
        self._health = OriginHealth(set_aside, down_after)
        # Origins by their ``server``: there is one entry for each, so that a restart replaces the entry.
        self._members = ExpiringTable[str, _Member](origin_lifetime, MAX_ORIGINS, self._member_dropped)
        self._by_id: dict[str, _Member] = {}
        # Ids that were replaced, to notice one that is still alive.
        self._replaced = ExpiringTable[str, None](origin_lifetime, MAX_ORIGINS, lambda _: None)
        self._picks = ExpiringTable[str, _Member](pick_lifetime, MAX_PICKS, self._pick_dropped)
        self._hls = ExpiringTable[str, HlsSession](hls_lifetime, MAX_SESSIONS, self._hls_dropped)
        self._spbhids: dict[str, str] = {}
        self._webrtc = ExpiringTable[str, WebRtcSession](webrtc_lifetime, MAX_SESSIONS, lambda _: None)
        self._tables = (self._members, self._replaced, self._picks, self._hls, self._webrtc)
        self._shortest_lifetime = min(origin_lifetime, pick_lifetime, hls_lifetime, webrtc_lifetime)
        self._looked_at = self._nothing_until = 0.0

    # Origins

    def origins(self) -> list[Origin]:
        """Those that are registered."""
        self._expire()
        return [member.origin for member in self._members.values()]

    def origin(self, origin_id: str) -> Origin | None:
        """The one with this id, if it is registered."""
        self._expire()
        member = self._by_id.get(origin_id)
        return None if member is None else member.origin

    def left(self, origin: Origin) -> float:
        """Seconds for which an origin is registered if it sends no further heartbeat; 0 if it is not."""
        now = self._expire()
        return self._members.left(origin.server, now) if self._is_current(origin) else 0.0

    def share(self, streams: Mapping[str, int | None]) -> None:
        """How many streams any proxy has at each origin, by its ``server``; ``None`` if that is not known any more."""
        for member in self._members.values():
            member.streams_of_all = streams.get(member.origin.server)

    def register(self, origin: Origin) -> None:
        """A heartbeat has come; see :meth:`ILoadBalancer.register`.

        :raises LimitExceeded: too many are registered.
        """
        now = self._expire()
        member = self._members.get(origin.server)
        if member is not None and member.origin.id == origin.id:
            if member.origin != origin:
                _log.info("origin changed: {origin}", origin=origin)
            member.origin = origin
            self._members.renew(origin.server, now)
            return
        if member is None:
            if len(self._members) >= MAX_ORIGINS:
                raise LimitExceeded(f"{MAX_ORIGINS} origins are registered already")
            _log.info("origin registered: {origin}", origin=origin)
            self._begin(_Member(origin), now)
            return
        shares_server = member.shares_server or origin.id in self._replaced
        if not shares_server:
            _log.info("origin {old} restarted: {origin}", old=member.origin.id, origin=origin)
        elif not member.shares_server:
            _log.warn(
                "two living origins use the server id {server}: {old} and {new}. With each heartbeat one takes the "
                "place of the other, whose streams are picked anew; give every origin a server_id of its own",
                server=origin.server,
                old=member.origin,
                new=origin,
            )
        self._replaced.store(member.origin.id, None, now)
        self._begin(_Member(origin, shares_server=shares_server), now)

    def _begin(self, member: _Member, now: float) -> None:
        self._members.store(member.origin.server, member, now)
        self._by_id[member.origin.id] = member

    def gone(self, origin: Origin) -> None:
        """Its last heartbeat, that others have heard, was too long ago."""
        if self._is_current(origin):
            _log.warn("origin {id} is gone: no proxy had a heartbeat", id=origin.id)
            self._members.remove(origin.server)

    def failed(self, origin: Origin) -> None:
        """Connecting to it failed."""
        now = self._expire()
        if self._is_current(origin):
            before = self._health.state(origin.id, now)
            self._health.failed(origin.id, now)
            state = self._health.state(origin.id, now)
            if state is not before:
                _log.warn("origin {id} set aside: {state}", id=origin.id, state=state.value)

    def succeeded(self, origin: Origin) -> None:
        """Connecting to it worked."""
        if self._health.succeeded(origin.id):
            _log.info("origin {id} works again", id=origin.id)

    def _is_current(self, origin: Origin) -> bool:
        """Whether this very start of the origin is registered now."""
        member = self._members.get(origin.server)
        return member is not None and member.origin.id == origin.id

    def _member_dropped(self, member: _Member) -> None:
        member.alive = False
        if self._by_id.get(member.origin.id) is member:
            del self._by_id[member.origin.id]
        self._health.forget(member.origin.id)

    def _expire(self) -> float:
        """Drop everything that has died. Returns the time."""
        now = self._clock.seconds()
        if self._looked_at <= now < self._nothing_until:  # The clock may have been set back.
            return now
        for member in self._members.expire(now):
            _log.warn(
                "origin {id} is gone: no heartbeat for {lifetime} s",
                id=member.origin.id,
                lifetime=self._origin_lifetime,
            )
        self._replaced.expire(now)
        self._picks.expire(now)
        self._hls.expire(now)
        self._webrtc.expire(now)
        self._looked_at = now
        # What is stored from now on lives for the shortest lifetime at least.
        self._nothing_until = min(now + self._shortest_lifetime, *(table.next_deadline for table in self._tables))
        return now

    # Streams

    def held(self, key: str, surface: Surface, exclude: Collection[str]) -> Origin | None:
        """The origin that the stream has, and keeps; ``None`` if one is to be chosen. Keeps the pick alive.

        :raises NoOrigin: it does not announce ``surface``.
        :raises LimitExceeded: the key is too long.
        """
        check_length("stream key", key, MAX_KEY_LENGTH)
        now = self._expire()
        current = self._member_of(key)
        if current is None or current.origin.id in exclude:
            return None
        if self._health.state(current.origin.id, now) is Health.DOWN:
            return None
        if not current.origin.listeners(surface):
            # Another origin would part this client from the others of the stream, who use this one.
            raise NoOrigin(f"origin {current.origin.id} has the stream and does not announce {surface.value}")
        self._picks.renew(key, now)
        return current.origin

    def choose(
        self, key: str, surface: Surface, exclude: Collection[str], prefer: str | None, policy: Policy
    ) -> Origin:
        """The origin that the stream would get now, which may be the one that it has.

        :raises NoOrigin: there is none; the text says why.
        """
        now = self._expire()

        def health(origin_id: str) -> Health:
            return self._health.state(origin_id, now)

        candidates = [
            Candidate(member.origin, member.streams if member.streams_of_all is None else member.streams_of_all)
            for member in self._members.values()
        ]
        best = best_candidates(candidates, surface, exclude, health)
        current = self._member_of(key)
        if current is not None and any(candidate.origin is current.origin for candidate in best):
            return current.origin  # It is down, but no worse than any other.
        preferred = [candidate for candidate in best if candidate.origin.server == prefer]
        return policy(preferred or best, key, self._random)

    def assign(self, key: str, origin: Origin, *, tried: bool = False) -> None:
        """The stream has this origin now. Harmless if that is not registered.

        :param tried: it was chosen here, and whoever asked is about to connect to it.
        """
        now = self._expire()
        member = self._members.get(origin.server)
        if member is None or member.origin.id != origin.id:
            return
        if self._picks.get(key) is member:
            self._picks.renew(key, now)
            return
        self._picks.store(key, member, now)
        member.streams += 1
        if tried:
            if member.streams_of_all is not None:
                member.streams_of_all += 1
            self._health.tried(origin.id, now)

    def unassign(self, key: str) -> None:
        """The stream has no origin any more."""
        self._picks.remove(key)

    def origin_of(self, key: str) -> Origin | None:
        """The origin that the stream has; asking does not keep the pick alive."""
        self._expire()
        member = self._member_of(key)
        return None if member is None else member.origin

    def picks(self) -> dict[str, Origin]:
        """The origins of all streams that have one."""
        now = self._expire()
        return {key: member.origin for key, member, _left in self._picks.lives(now) if member.alive}

    def pinned(self, key: str, server: str, surface: Surface) -> Origin | None:
        """See :meth:`ILoadBalancer.pinned`."""
        now = self._expire()
        self._picks.renew(key, now)
        member = self._members.get(server)
        if member is None or not member.origin.listeners(surface):
            return None
        return None if self._health.state(member.origin.id, now) is Health.DOWN else member.origin

    def refresh(self, keys: Collection[str]) -> None:
        """Keep these picks alive."""
        now = self._expire()
        for key in keys:
            self._picks.renew(key, now)

    def _member_of(self, key: str) -> _Member | None:
        member = self._picks.get(key)
        return member if member is not None and member.alive else None

    def _pick_dropped(self, member: _Member) -> None:
        member.streams -= 1

    # Sessions

    def save_hls(self, session: HlsSession) -> HlsSession:
        """See :meth:`ILoadBalancer.save_hls`.

        :raises ValueError: the ``spbhid`` belongs to another stream.
        """
        now = self._expire()
        known = self._hls.get(self._spbhids.get(session.key, ""))
        if known is not None:
            self._hls.renew(known.spbhid, now)
            return known
        taken = self._hls.get(session.spbhid)
        if taken is not None:
            raise ValueError(f"spbhid {session.spbhid!r} is that of stream {taken.key!r}")
        self._hls.store(session.spbhid, session, now)
        self._spbhids[session.key] = session.spbhid
        return session

    def learn_hls(self, session: HlsSession) -> None:
        """This is the record in force."""
        now = self._expire()
        self._hls.remove(self._spbhids.get(session.key, ""))
        self._hls.store(session.spbhid, session, now)
        self._spbhids[session.key] = session.spbhid

    def hls_sessions(self) -> list[HlsSession]:
        """All of them."""
        self._expire()
        return self._hls.values()

    def load_hls(self, spbhid: str) -> HlsSession | None:
        """See :meth:`ILoadBalancer.load_hls`."""
        self._hls.renew(spbhid, self._expire())
        return self._hls.get(spbhid)

    def save_webrtc(self, session: WebRtcSession) -> None:
        """See :meth:`ILoadBalancer.save_webrtc`."""
        self._webrtc.store(session.ufrag, session, self._expire())

    def webrtc_sessions(self) -> list[WebRtcSession]:
        """All of them."""
        self._expire()
        return self._webrtc.values()

    def load_webrtc(self, ufrag: str) -> WebRtcSession | None:
        """See :meth:`ILoadBalancer.load_webrtc`."""
        self._webrtc.renew(ufrag, self._expire())
        return self._webrtc.get(ufrag)

    def drop_webrtc(self, ufrag: str) -> None:
        """See :meth:`ILoadBalancer.drop_webrtc`."""
        self._webrtc.remove(ufrag)

    def _hls_dropped(self, session: HlsSession) -> None:
        del self._spbhids[session.key]
