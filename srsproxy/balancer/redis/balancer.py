"""The balancer of many proxies: what they share is in Redis.

Theory of operation. Each proxy also keeps what it learns (:class:`~srsproxy.balancer.knowledge.Knowledge`):

* While Redis is there, it decides: what it says of a stream replaces what was known, and a new pick is made by one
  script, so that all proxies get the one that was first. A pick is asked for again after :data:`FRESH_FOR` seconds at
  the latest; the list of origins is asked for as often.
* While it is lost, or too slow, the proxy goes on with what it knows, and chooses by rendezvous hashing, so that
  proxies that know the same origins still agree.
* When it is back, maybe empty, each proxy writes back what it knows, wherever Redis has nothing newer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.knowledge import MAX_ORIGINS, MAX_PICKS, Knowledge
from srsproxy.balancer.model import MAX_KEY_LENGTH, HlsSession, Origin, Surface, WebRtcSession, check_length
from srsproxy.balancer.policy import Policy, rendezvous
from srsproxy.balancer.redis import scripts
from srsproxy.balancer.redis.model import CommandRefused, Lifetimes, Reply, StoreError
from srsproxy.balancer.redis.records import Keys, decode_origin
from srsproxy.balancer.redis.sessions import SharedSessions
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import LimitExceeded, NoOrigin, PeerError, in_background
from srsproxy.interfaces import ILoadBalancer

FRESH_FOR: Final = 1.0
"""Seconds for which a pick, and the list of origins, are used without asking Redis again. So long a proxy may send new
clients to an origin that another proxy has just given up."""

_RENEWALS_PER_LIFETIME: Final = 4
"""How often within its lifetime the pick of a pinned client is renewed in Redis at the most: HLS viewers ask for their
origin with every segment."""

GUESSING_FOR: Final = 4.0
"""Seconds after an outage in which origins that were chosen meanwhile are not told to Redis: by then every proxy has
connected again and told those that Redis had known."""

_MAX_RECORD: Final = 4096
"""Characters of a heartbeat as it is kept. SRS's have 300; the list of 1,000 origins must remain one reply of Redis."""

_SAME: Final = 0.5
"""Seconds by which the end of a record's life seems to change from one look to the next without a heartbeat."""

_MAX_ATTEMPTS: Final = 5
"""How often a stream is looked up again because another proxy was faster."""

_log = Logger()


@implementer(ILoadBalancer)
class RedisLoadBalancer:
    """See the module's text. Every answer comes in time, whatever Redis does.

    :param knowledge: what this proxy knows.
    :param store: Redis; :meth:`restore` is to be called whenever it comes.
    :param policy: chooses the origin of a new stream while Redis is there.
    :param patience: seconds in which a pick must be made, however many questions to Redis that takes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        knowledge: Knowledge,
        store: Store,
        keys: Keys,
        lifetimes: Lifetimes,
        policy: Policy,
        patience: float,
    ) -> None:
        self._clock = clock
        self._patience = patience
        self._knowledge = knowledge
        self._store = store
        self._keys = keys
        self._lifetimes = lifetimes
        self._policy = policy
        # Streams whose pick was confirmed lately, and those whose pick was renewed lately.
        self._fresh = ExpiringTable[str, None](FRESH_FOR, MAX_PICKS, lambda _: None)
        self._renewed = ExpiringTable[str, None](lifetimes.pick / _RENEWALS_PER_LIFETIME, MAX_PICKS, lambda _: None)
        # When the record of each origin would expire, by its id, as Redis said last.
        self._deadlines = ExpiringTable[str, float](lifetimes.origin, MAX_ORIGINS, lambda _: None)
        # Streams whose origin was chosen without Redis, and until when these are not told to it.
        self._guessed = ExpiringTable[str, None](lifetimes.pick, MAX_PICKS, lambda _: None)
        self._guessing_until = 0.0
        self._sessions = SharedSessions(knowledge, store, keys, lifetimes, self._failed, lambda: self.has_joined)
        self._loading: list[Deferred[None]] = []
        self._joining: list[Deferred[None]] = []
        self._is_ready = False
        self._has_joined = False
        self._told_refusal = False
        self._was_emptied = False

    @property
    def is_ready(self) -> bool:
        """Whether Redis has been of use since the start: before, this proxy knows nothing of the others."""
        return self._is_ready

    @property
    def has_joined(self) -> bool:
        """Whether Redis is there, and has been told all that this proxy knows: only then is it asked."""
        return self._has_joined and self._store.up

    @property
    def was_emptied(self) -> bool:
        """Whether Redis, when it was looked at last, had none of the origins that this proxy knows."""
        return self._was_emptied

    # Origins

    def register(self, origin: Origin) -> Deferred[None]:
        return Deferred.fromCoroutine(self._register(origin))

    async def _register(self, origin: Origin) -> None:
        call = scripts.register(self._keys, origin, datetime.now(UTC), self._lifetimes.origin, MAX_ORIGINS)
        check_length("heartbeat", max(call.args, key=len), _MAX_RECORD)
        self._knowledge.register(origin)
        now = self._clock.seconds()
        self._deadlines.store(origin.id, now + self._lifetimes.origin, now)
        try:
            done = await self._store.run(*call)
        except StoreError as error:
            self._failed(f"heartbeat of {origin.id} kept here", error)
            return
        if not done:
            raise LimitExceeded(f"{MAX_ORIGINS} origins are registered already")

    def origins(self) -> Deferred[list[Origin]]:
        return succeed(self._knowledge.origins())

    def report_failure(self, origin: Origin) -> Deferred[None]:
        self._knowledge.failed(origin)
        return succeed(None)

    def report_success(self, origin: Origin) -> Deferred[None]:
        self._knowledge.succeeded(origin)
        return succeed(None)

    # Streams

    def pick(
        self, key: str, surface: Surface, exclude: Collection[str] = (), prefer: str | None = None
    ) -> Deferred[Origin]:
        return Deferred.fromCoroutine(self._pick(key, surface, exclude, prefer))

    async def _pick(self, key: str, surface: Surface, exclude: Collection[str], prefer: str | None) -> Origin:
        check_length("stream key", key, MAX_KEY_LENGTH)
        if not self._is_ready and self._store.up:
            await self._first_join()
        if self.has_joined and not self._is_guess(key):
            if self._is_fresh(key):
                held = self._knowledge.held(key, surface, exclude)
                if held is not None:
                    return held
            shared = Deferred.fromCoroutine(self._pick_shared(key, surface, exclude, prefer))
            try:
                return await shared.addTimeout(self._patience, self._clock)
            except (StoreError, DeferredTimeout) as error:
                self._failed(f"{key} picked without Redis", error)
        held = self._knowledge.held(key, surface, exclude)
        if held is not None:
            return held
        if self._knowledge.origin_of(key) is None:
            self._guessed.store(key, None, self._clock.seconds())
        chosen = self._knowledge.choose(key, surface, exclude, prefer, rendezvous)
        self._knowledge.assign(key, chosen, tried=True)
        return chosen

    async def _pick_shared(self, key: str, surface: Surface, exclude: Collection[str], prefer: str | None) -> Origin:
        """
        :raises StoreError: Redis is lost.
        """
        # Soon after an outage another proxy may still be about to write back its guess.
        policy = rendezvous if self._clock.seconds() < self._guessing_until else self._policy
        for _ in range(_MAX_ATTEMPTS):
            current = await self._look_up(key)
            if current is None and self._knowledge.origin_of(key) is not None:
                # The origin is gone, or Redis is, with all that it had.
                await self._load()
            held = self._knowledge.held(key, surface, exclude)
            if held is not None and current is not None:
                return held
            chosen = held or self._knowledge.choose(key, surface, exclude, prefer, policy)
            call = scripts.claim(self._keys, key, chosen.id, current, self._lifetimes.pick)
            try:
                pick = await self._store.run(*call)
            except (StoreError, CancelledError):
                # It may have been done all the same.
                self._knowledge.assign(key, chosen, tried=True)
                raise
            if pick == self._keys.server(chosen.id):
                self._knowledge.assign(key, chosen, tried=True)
                self._fresh.store(key, None, self._clock.seconds())
                return chosen
            if pick is None:
                # Redis does not know the origin, or not any more.
                await self._load()
                await self._write_back(chosen)
            else:
                await self._learn(key, pick)
        raise NoOrigin("the stream's origin changes all the time")

    def _is_guess(self, key: str) -> bool:
        """Whether the stream's origin is not to be told to Redis yet."""
        now = self._clock.seconds()
        self._guessed.expire(now)
        return key in self._guessed and now < self._guessing_until

    def _is_fresh(self, key: str) -> bool:
        self._fresh.expire(self._clock.seconds())
        return key in self._fresh and self._knowledge.origin_of(key) is not None

    async def _look_up(self, key: str) -> str | None:
        """The id of the stream's origin as Redis knows it.

        :raises StoreError: Redis is lost.
        """
        return await self._learn(key, await self._store.run(*scripts.look_up(self._keys, key, self._lifetimes.pick)))

    async def _learn(self, key: str, pick: Reply) -> str | None:
        """Redis says that this is the pick of a stream. Returns the id of the origin."""
        origin_id = self._keys.origin_id(pick) if isinstance(pick, str) else None
        if origin_id is None:
            return None
        origin = self._knowledge.origin(origin_id) or await self._ask_for(origin_id)
        if origin is None:
            self._knowledge.unassign(key)
        else:
            self._knowledge.assign(key, origin)
            self._fresh.store(key, None, self._clock.seconds())
        return origin_id

    async def _ask_for(self, origin_id: str) -> Origin | None:
        """An origin that another proxy knows, listed or not."""
        text = await self._store.command("GET", self._keys.server(origin_id))
        try:
            origin = decode_origin(text) if isinstance(text, str) else None
        except PeerError:
            return None
        if origin is not None:
            with suppress(LimitExceeded):
                self._knowledge.register(origin)
        return origin

    def pinned(self, key: str, server: str, surface: Surface) -> Deferred[Origin | None]:
        now = self._clock.seconds()
        self._renewed.expire(now)
        if self.has_joined and key not in self._renewed and len(key) <= MAX_KEY_LENGTH:
            self._renewed.store(key, None, now)
            in_background(_log, "renew the pick of a pinned client", self.refresh([key]))
        return succeed(self._knowledge.pinned(key, server, surface))

    def picked(self, keys: Sequence[str]) -> Deferred[str | None]:
        return Deferred.fromCoroutine(self._picked(keys))

    async def _picked(self, keys: Sequence[str]) -> str | None:
        keys = [key for key in keys if len(key) <= MAX_KEY_LENGTH]
        if self.has_joined and not all(map(self._is_fresh, keys)):
            try:
                picks = await self._store.command("MGET", *map(self._keys.pick, keys))
                for key, pick in zip(keys, picks if isinstance(picks, list) else [], strict=False):
                    await self._learn(key, pick)
            except StoreError as error:
                self._failed(f"{keys[0]} looked for without Redis", error)
        return next((key for key in keys if self._knowledge.origin_of(key) is not None), None)

    def refresh(self, keys: Collection[str]) -> Deferred[None]:
        self._knowledge.refresh(keys)
        return Deferred.fromCoroutine(self._refresh(keys))

    async def _refresh(self, keys: Collection[str]) -> None:
        try:
            for call in scripts.refresh(self._keys, keys, self._lifetimes.pick):
                await self._store.run(*call)
        except StoreError as error:
            self._failed("picks refreshed here only", error)

    # Sessions

    def save_hls(self, session: HlsSession) -> Deferred[HlsSession]:
        return Deferred.fromCoroutine(self._sessions.save_hls(session))

    def load_hls(self, spbhid: str) -> Deferred[HlsSession | None]:
        return Deferred.fromCoroutine(self._sessions.load_hls(spbhid))

    def save_webrtc(self, session: WebRtcSession) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sessions.save_webrtc(session))

    def load_webrtc(self, ufrag: str) -> Deferred[WebRtcSession | None]:
        return Deferred.fromCoroutine(self._sessions.load_webrtc(ufrag))

    def drop_webrtc(self, ufrag: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sessions.drop_webrtc(ufrag))

    def _failed(self, what: str, error: Exception) -> None:
        """Redis was of no use. One that refuses is not asked any more until it has been told all again."""
        _log.debug("{what}: {error}", what=what, error=error)
        if isinstance(error, CommandRefused):
            self._has_joined = False
            if not self._told_refusal:
                self._told_refusal = True
                _log.warn("Redis refuses, so this proxy goes on alone: {error}", error=error)

    # What other proxies know

    def look_around(self) -> Deferred[None]:
        """Learn which origins are registered anywhere; to be called every :data:`FRESH_FOR` seconds."""
        return Deferred.fromCoroutine(self._look_around())

    async def _look_around(self) -> None:
        if not self.has_joined:
            return
        try:
            await self._load()
            if self._clock.seconds() >= self._guessing_until and len(self._guessed):
                picks = self._knowledge.picks()
                guessed = self._guessed.keys()
                await self._restore_picks({key: picks[key].id for key in guessed if key in picks})
                # Not before: what could not be told is still a guess.
                for key in guessed:
                    self._guessed.remove(key)
        except StoreError as error:
            self._failed("not looked around", error)

    async def _load(self) -> None:
        """Ask for all origins; all who ask meanwhile wait for the same answer.

        :raises StoreError: Redis is lost.
        """
        waiting: Deferred[None] = Deferred()
        self._loading.append(waiting)
        if len(self._loading) == 1:
            loading = Deferred.fromCoroutine(self._load_now())
            loading.addBoth(self._tell_loaded)
        await waiting

    def _tell_loaded(self, result: Any) -> None:
        waiting, self._loading = self._loading, []
        for one in waiting:
            one.callback(result)

    async def _load_now(self) -> None:
        reply = await self._store.run(*scripts.origins(self._keys))
        if not isinstance(reply, list):
            return
        registered = scripts.parse_origins(self._keys, cast(list[str | int], reply))
        now = self._clock.seconds()
        self._deadlines.expire(now)
        # The one with the latest heartbeat comes last: so it takes the place of an earlier start.
        for origin, left, _ in sorted(registered, key=lambda one: one.lifetime or 0.0):
            deadline = now + (self._lifetimes.origin if left is None else left)
            known = self._deadlines.get(origin.id)
            if known is None or deadline > known + _SAME:
                self._deadlines.store(origin.id, deadline, now)
                with suppress(LimitExceeded):
                    self._knowledge.register(origin)
        listed = {origin.id for origin, _, _ in registered}
        for origin in self._knowledge.origins():
            # One that has some time left is kept: Redis has lost it, and is told of it at its next heartbeat.
            if origin.id not in listed and (self._deadlines.get(origin.id) or math.inf) <= now:
                self._knowledge.gone(origin)
        self._knowledge.share({origin.server: streams for origin, _, streams in registered})
        self._was_emptied = not registered and bool(self._knowledge.origins())

    # When Redis comes

    def came(self) -> None:
        """Redis is there; it is not asked before :meth:`restore` has told it all."""
        self._has_joined = False

    async def restore(self) -> None:
        """Write back what this proxy knows, and learn what Redis has.

        :raises StoreError: Redis is of no use.
        """
        self._has_joined = False
        self._fresh.clear()
        self._renewed.clear()
        self._guessing_until = self._clock.seconds() + (GUESSING_FOR if self._is_ready or len(self._guessed) else 0.0)
        try:
            await self._restore()
        except StoreError as error:
            self._failed("not all written back", error)
            raise
        self._has_joined = self._is_ready = True
        self._told_refusal = False
        joining, self._joining = self._joining, []
        for one in joining:
            one.callback(None)

    async def _first_join(self) -> None:
        """Wait until this proxy knows what others do, if that is soon."""
        joined: Deferred[None] = Deferred()
        self._joining.append(joined)
        try:
            await joined.addTimeout(self._patience, self._clock)
        except DeferredTimeout:
            return
        finally:
            if joined in self._joining:
                self._joining.remove(joined)

    async def _restore(self) -> None:
        for origin in self._knowledge.origins():
            await self._write_back(origin)
        await self._load()
        self._guessed.expire(self._clock.seconds())
        picks = self._knowledge.picks().items()
        await self._restore_picks({key: origin.id for key, origin in picks if key not in self._guessed})
        await self._sessions.restore()

    async def _write_back(self, origin: Origin) -> None:
        """Tell Redis of an origin, with what is left of its life, unless it knows of a later heartbeat."""
        now = self._clock.seconds()
        deadline = self._deadlines.get(origin.id)
        left = self._knowledge.left(origin) if deadline is None else deadline - now
        if left > 0:
            heard = datetime.now(UTC) - timedelta(seconds=max(0.0, self._lifetimes.origin - left))
            await self._store.run(*scripts.register(self._keys, origin, heard, left, MAX_ORIGINS, restore=True))

    async def _restore_picks(self, picks: dict[str, str]) -> None:
        asked = iter(picks)
        for call in scripts.restore_picks(self._keys, picks, self._lifetimes.pick):
            in_force = await self._store.run(*call)
            for pick in in_force if isinstance(in_force, list) else []:
                await self._learn(next(asked), pick)

    async def agree_on_secret(self, own: str) -> str:
        """What all proxies use that were not told a secret: the first one's.

        :param own: of this proxy; printable.
        :raises StoreError: Redis is lost.
        """
        try:
            await self._store.command("SETNX", self._keys.secret, own)
            agreed = await self._store.command("GET", self._keys.secret)
        except StoreError as error:
            self._failed("no secret agreed on", error)
            raise
        return agreed if isinstance(agreed, str) and agreed else own
