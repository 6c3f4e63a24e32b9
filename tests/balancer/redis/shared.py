"""Proxies that share one Redis, in this process: of each, what sharing takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from srsproxy.balancer.model import Origin, Surface
from srsproxy.balancer.policy import POLICIES
from srsproxy.balancer.redis.balancer import FRESH_FOR, GUESSING_FOR, RedisLoadBalancer
from srsproxy.balancer.redis.model import Lifetimes, Place, Reply, StoreError
from srsproxy.balancer.redis.records import Keys
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import ConfigError
from tests.asynchronous import PATIENCE, until
from tests.balancer.helpers import ORIGIN_LIFETIME, PICK_LIFETIME, SESSION_LIFETIME, make_knowledge

LIFETIMES: Final = Lifetimes(origin=ORIGIN_LIFETIME, pick=PICK_LIFETIME, hls=SESSION_LIFETIME, webrtc=SESSION_LIFETIME)
"""What both Redis and the proxies go by."""

STREAM: Final = "__defaultVhost__/live/s"


class CountingStore(Store):
    """A store that notes the commands it is given.

    :ivar asked: their names.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[str | int] = []

    async def command(self, *words: str | int) -> Reply:
        self.asked.append(words[0])
        return await super().command(*words)


class SharingProxy:
    """A balancer with its own connections to Redis, and a clock that passes when a test says so; Redis has its own.

    :ivar when_up: called whenever Redis comes, in the same turn of the reactor.
    """

    def __init__(
        self,
        reactor: Any,
        place: Place,
        *,
        prefix: str = "",
        timeout: float = PATIENCE,
        policy: str = "least-streams",
        seed: int = 1,
    ) -> None:
        """:param timeout: seconds that Redis has for each reply."""
        self._reactor = reactor
        self._restoring: list[Deferred[None]] = []
        self._times_restored = 0
        self.when_up: Callable[[], None] = lambda: None
        self.clock = Clock()
        self.knowledge = make_knowledge(self.clock, seed)
        self.store = CountingStore(reactor, place, self._came, self._refused, timeout=timeout, random=Random(seed))
        self.balancer = RedisLoadBalancer(
            self.clock, self.knowledge, self.store, Keys(prefix), LIFETIMES, POLICIES[policy], timeout
        )

    def _came(self) -> None:
        self.balancer.came()
        self._restoring.append(Deferred.fromCoroutine(self._restore()))
        self.when_up()

    async def _restore(self) -> None:
        with suppress(StoreError):  # It is lost again, which the store tells.
            await self.balancer.restore()
            self._times_restored += 1

    def _refused(self, error: ConfigError) -> None:
        raise error

    async def tells_guesses(self) -> None:
        """Let the time pass in which origins that were chosen without Redis are not told to it."""
        self.clock.advance(GUESSING_FOR + FRESH_FOR)
        await self.balancer.look_around()

    async def comes(self, times: int = 1) -> None:
        """Wait until Redis has come so often, and all is written back."""
        await until(self._reactor, lambda: self.store.up and self._times_restored >= times, "Redis is there")

    async def goes(self) -> None:
        """Wait until Redis counts as lost."""
        await until(self._reactor, lambda: not self.store.up, "Redis is lost")

    async def a_second_passes(self) -> None:
        """Nothing that the proxy has asked is fresh any more, and it has looked around as the service does."""
        self.clock.advance(FRESH_FOR)
        await self.balancer.look_around()

    async def register(self, *origins: Origin) -> None:
        """Take a heartbeat of each."""
        for origin in origins:
            await self.balancer.register(origin)

    def pick(
        self, key: str = STREAM, surface: Surface = Surface.RTMP, exclude: tuple[str, ...] = ()
    ) -> Deferred[Origin]:
        """Ask the balancer, for RTMP unless told otherwise."""
        return self.balancer.pick(key, surface, exclude)

    async def close(self) -> None:
        """Leave Redis."""
        await self.store.close()
        for restoring in self._restoring:
            await restoring


@asynccontextmanager
async def sharing(reactor: Any, place: Place, count: int, **options: Any) -> AsyncIterator[list[SharingProxy]]:
    """So many proxies that have found Redis; each takes other chances."""
    proxies = [SharingProxy(reactor, place, seed=seed, **options) for seed in range(count)]
    try:
        for proxy in proxies:
            proxy.store.start()
        for proxy in proxies:
            await proxy.comes()
        yield proxies
    finally:
        for proxy in proxies:
            await proxy.close()
