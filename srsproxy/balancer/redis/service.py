"""The service that keeps a shared balancer going."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.policy import Policy
from srsproxy.balancer.redis.balancer import FRESH_FOR, Lifetimes, RedisLoadBalancer
from srsproxy.balancer.redis.model import Place, StoreError
from srsproxy.balancer.redis.records import Keys
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import ConfigError, describe, in_background

_log = Logger()


class RedisService(Service):
    """Connects to Redis, and stays so until it is stopped, which is to be after the last session.

    :ivar balancer: to be used from the beginning on.
    """

    def __init__(
        self,
        reactor: Any,
        place: Place,
        prefix: str,
        knowledge: Knowledge,
        lifetimes: Lifetimes,
        policy: Policy,
        timeout: float,
        random: Random,
        agreed: Callable[[bytes], None] | None,
        fatal: Callable[[ConfigError], None],
    ) -> None:
        """
        :param prefix: of all keys.
        :param timeout: seconds that Redis has for each answer.
        :param random: spreads attempts to connect.
        :param agreed: told the secret that all proxies share, if they are to agree on one.
        :param fatal: called if Redis refuses us before it has ever been of use.
        :raises ConfigError: the place cannot be.
        """
        self._store = Store(reactor, place, self._came, self._refused, timeout=timeout, random=random)
        self.balancer = RedisLoadBalancer(reactor, knowledge, self._store, Keys(prefix), lifetimes, policy, timeout)
        self._looking = TimerService(FRESH_FOR, lambda: Deferred.fromCoroutine(self._look()))
        self._looking.clock = reactor
        self._agreed = agreed
        self._secret = ""
        self._fatal = fatal

    def startService(self) -> None:
        Service.startService(self)
        self._store.start()
        self._looking.startService()

    def stopService(self) -> Deferred[None]:
        """Leave Redis."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._looking.stopService()
        await self._store.close()

    async def _look(self) -> None:
        await self.balancer.look_around()
        if self.balancer.was_emptied:
            with suppress(StoreError):
                await self._join()

    def _came(self) -> None:
        in_background(_log, "write back what is known", Deferred.fromCoroutine(self._join()))

    async def _join(self) -> None:
        if self._agreed is not None:
            # A Redis that comes back empty is told the secret that is in use.
            agreed = await self.balancer.agree_on_secret(self._secret or secrets.token_hex())
            if agreed != self._secret:
                self._secret = agreed
                self._agreed(agreed.encode())
        await self.balancer.restore()

    def _refused(self, error: ConfigError) -> None:
        if self.balancer.is_ready:
            _log.error("Redis refuses us: {reason}", reason=describe(error))
        else:
            self._fatal(error)
