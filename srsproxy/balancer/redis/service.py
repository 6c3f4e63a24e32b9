"""The service that keeps a shared balancer going."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any, Final

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.policy import Policy
from srsproxy.balancer.redis.balancer import FRESH_FOR, RedisLoadBalancer
from srsproxy.balancer.redis.model import CommandRefused, Lifetimes, Place, StoreError
from srsproxy.balancer.redis.records import Keys
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import ConfigError, describe, in_background

_NEVER: Final = re.compile(r"(?:.*@user_script:[0-9]+: -)?(?:NOPERM|MOVED|CROSSSLOT|CLUSTERDOWN) |ERR .*permission")
"""What Redis says to a user that may not do what a proxy needs, and what a cluster of Redis says, whose keys are in
many places."""

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
        secret: str,
        agreed: Callable[[bytes], None] | None,
        fatal: Callable[[ConfigError], None],
    ) -> None:
        """
        :param prefix: of all keys.
        :param timeout: seconds that Redis has for each answer.
        :param random: spreads attempts to connect.
        :param secret: of this proxy, which it offers to the others.
        :param agreed: told the one that all share, if they are to agree on one.
        :param fatal: called if Redis refuses us before it has ever been of use.
        :raises ConfigError: the place cannot be.
        """
        self._store = Store(reactor, place, self._came, self._refused, timeout=timeout, random=random)
        self.balancer = RedisLoadBalancer(reactor, knowledge, self._store, Keys(prefix), lifetimes, policy, timeout)
        self._looking = TimerService(FRESH_FOR, lambda: Deferred.fromCoroutine(self._look()))
        self._looking.clock = reactor
        self._agreed = agreed
        self._secret = secret
        self._is_joining = False
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
        if self._store.up and (self.balancer.was_emptied or not self.balancer.has_joined):
            await self._join()

    def _came(self) -> None:
        self.balancer.came()
        in_background(_log, "write back what is known", Deferred.fromCoroutine(self._join()))

    async def _join(self) -> None:
        """Tell Redis all that this proxy knows, unless that is being done."""
        if self._is_joining:
            return
        self._is_joining = True
        try:
            if self._agreed is not None:
                secret = await self.balancer.agree_on_secret(self._secret)
                if secret != self._secret:
                    self._secret = secret
                    self._agreed(secret.encode())
            await self.balancer.restore()
        except CommandRefused as error:
            if not self.balancer.is_ready and _NEVER.match(str(error)):
                self._fatal(ConfigError(f"PROXY_REDIS_*: refused by Redis: {error}"))
        except StoreError:
            return  # As the balancer has told; it is tried again.
        finally:
            self._is_joining = False

    def _refused(self, error: ConfigError) -> None:
        if self.balancer.is_ready:
            _log.error("Redis refuses us: {reason}", reason=describe(error))
        else:
            self._fatal(error)
