"""Redis as the balancer uses it: there, or lost; and told when it comes back.

Theory of operation. Connections share one fate, because whatever ends one of them is about Redis: it has ended, its
network has, another server is the master now, or it does not answer in time. So the store is in one of two states::

    LOST --all connections made, logged in, and a PING answered in time--> UP
    UP --one connection lost, or one command without a reply in time--> LOST

A command never waits for the first of these: without connections it fails at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from srsproxy.balancer.redis.endpoints import Endpoints
from srsproxy.balancer.redis.model import CommandRefused, Place, Reply, StoreError, StoreLost, address
from srsproxy.balancer.redis.scripts import Script
from srsproxy.errors import ConfigError, describe

if TYPE_CHECKING:
    from srsproxy.balancer.redis.connection import Connection

CONNECTIONS: Final = 2
"""Commands are pipelined, so that one would do; with two, a long reply does not hold up all that comes after it."""

MAX_WAITING: Final = 10_000
"""Commands without a reply; Redis does more in a second, so it hangs if so many wait."""

_FIRST_DELAY: Final = 0.1
"""Seconds before the first new attempt to connect: a restarted Redis should not be missed for long."""

_MAX_DELAY: Final = 3.0
"""Seconds between attempts at the most, for the same reason; jitter comes on top."""

_JITTER: Final = 0.25
"""Seconds over which many proxies spread their attempts."""

_STEADY: Final = 10.0
"""Seconds for which Redis must have been there to make the delays short again."""

_BAD_LOGIN: Final = re.compile(
    "NOAUTH|NOPERM|WRONGPASS"
    "|ERR (?:invalid password|wrong number of arguments|.*without any password|.*no password is set)"
)
"""What Redis of all versions says to a login that will never do. Other errors pass, such as that there is no room for
one more client."""

_BAD_DB: Final = re.compile("NOPERM|ERR (?:.*DB index|SELECT is not allowed in cluster mode)")
"""The same of a database."""

_PORT: Final = re.compile("[0-9]{1,5}")
_LAST_PORT: Final = 65_535

_log = Logger()
_KEEPING_UP: Final = _log.failureHandler("keeping the connections to Redis")
_TELLING: Final = _log.failureHandler("telling how Redis is")


class Store:
    """Commands to a Redis server."""

    def __init__(
        self,
        reactor: Any,
        place: Place,
        on_up: Callable[[], None],
        on_refused: Callable[[ConfigError], None],
        *,
        timeout: float,
        random: Random,
    ) -> None:
        """
        :param on_up: called each time that Redis comes, or comes back, be it empty.
        :param on_refused: called if Redis will not have us, once until it is up again: the error names the setting.
            Trying goes on, as Redis may be told otherwise.
        :param timeout: seconds that Redis has for each reply, and for each connection.
        :param random: spreads attempts to connect.
        :raises ConfigError: the host cannot be, or the certificates of the authorities cannot be read.
        """
        self._reactor = reactor
        self._place = place
        self._on_up = on_up
        self._on_refused = on_refused
        self._timeout = timeout
        self._endpoints = Endpoints(reactor, place, timeout)
        self._direct = None if place.sentinels else self._endpoints.direct()
        self._delay = backoffPolicy(_FIRST_DELAY, _MAX_DELAY, jitter=lambda: random.uniform(0.0, _JITTER))
        self._open: list[Connection] = []  # of all kinds
        self._connections: list[Connection] = []  # those to send commands on: all are fine, or there is none
        self._turns = itertools.count()
        self._fallen: Deferred[None] = Deferred()
        self._keeping_on = True
        self._keeping: Deferred[None] = succeed(None)
        self._told_lost = False
        self._told_refused = False

    @property
    def up(self) -> bool:
        """Whether Redis is there, as far as known."""
        return bool(self._connections)

    def start(self) -> None:
        """Connect, and connect again whenever Redis is lost, until :meth:`close`."""
        self._keeping = Deferred.fromCoroutine(self._keep())

    async def close(self) -> None:
        """End all connections. Commands that wait fail."""
        self._keeping_on = False
        self._give_up()
        self._keeping.cancel()
        with suppress(CancelledError):
            await self._keeping
        await self._end()

    async def run(self, script: Script, keys: Iterable[str], args: Iterable[str | int]) -> Reply:
        """Run a script within Redis. Errors are those of :meth:`command`."""
        keys = tuple(keys)
        words = (len(keys), *keys, *args)
        try:
            return await self.command("EVALSHA", script.sha, *words)
        except CommandRefused as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.command("EVAL", script.text, *words)

    async def command(self, *words: str | int) -> Reply:
        """Send a command, such as ``"GET", "key"``, and wait for the reply.

        :raises StoreLost: there is no connection, or no answer in time; then it may have been done all the same.
        :raises CommandRefused: Redis answers with an error.
        """
        if not self._connections:
            raise StoreLost(f"{self._place} is lost")
        if sum(connection.waiting for connection in self._connections) >= MAX_WAITING:
            raise StoreLost(f"{self._place}: {MAX_WAITING} commands wait")
        connection = self._connections[next(self._turns) % len(self._connections)]
        try:
            return await connection.call(*words)
        except StoreLost as error:
            raise StoreLost(str(self._place)) from error

    async def _keep(self) -> None:
        """Be up, or try to be, until closed."""
        attempt = 0
        while self._keeping_on:
            began = self._reactor.seconds()
            with _KEEPING_UP:
                try:
                    await self._be_up()
                except ConfigError as error:
                    self._tell_refused(error)
                except StoreError as error:
                    self._tell_lost(error)
                except CancelledError:
                    return
            attempt = 1 if self._reactor.seconds() - began >= _STEADY else attempt + 1
            if self._keeping_on:
                await deferLater(self._reactor, self._delay(attempt))

    async def _be_up(self) -> None:
        """Connect, and wait until that is over.

        :raises StoreError: it did not work, or works no more.
        :raises ConfigError: Redis will not have us.
        """
        try:
            endpoint = self._direct or await self._find_master()
            connections = [await self._log_in(endpoint) for _ in range(CONNECTIONS)]
            self._fallen = Deferred()
            for connection in connections:
                connection.on_lost = self._fall
                if connection.lost is not None:
                    raise connection.lost
            self._connections = connections
            self._tell_up()
            await self._fallen
        finally:
            await self._end()

    def _give_up(self) -> None:
        self._connections = []
        for connection in self._open:
            connection.give_up("closed")

    async def _end(self) -> None:
        """Close all that is open, and wait until it is closed."""
        self._give_up()
        while self._open:
            await self._open[-1].close()
            self._open.pop()  # not before, because who waits may be cancelled

    def _fall(self, error: StoreLost) -> None:
        """A connection is lost, and so are all."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.give_up(str(error))
        if not self._fallen.called:
            self._fallen.errback(error)

    async def _connect(self, endpoint: IStreamClientEndpoint) -> Connection:
        from srsproxy.balancer.redis.connection import connect

        connection = await connect(endpoint, self._reactor, self._timeout)
        self._open.append(connection)
        return connection

    async def _log_in(self, endpoint: IStreamClientEndpoint) -> Connection:
        """Connect, and make sure that what comes out of it is what the settings say.

        :raises StoreError: Redis does not work, or is not the master.
        :raises ConfigError: it will not have us.
        """
        connection = await self._connect(endpoint)
        place = self._place
        setting = "PROXY_REDIS_USERNAME, PROXY_REDIS_PASSWORD" if place.username else "PROXY_REDIS_PASSWORD"
        if place.username:
            await self._insist(connection, ("AUTH", place.username, place.password), _BAD_LOGIN, setting)
        elif place.password:
            await self._insist(connection, ("AUTH", place.password), _BAD_LOGIN, setting)
        if await self._insist(connection, ("PING",), _BAD_LOGIN, setting) != "PONG":
            raise StoreLost("it does not speak the protocol of Redis")
        if place.db:
            await self._insist(connection, ("SELECT", place.db), _BAD_DB, f"PROXY_REDIS_DB={place.db}")
        if place.sentinels:
            match await connection.call("ROLE"):
                case ["master", *_]:
                    pass
                case _:
                    raise StoreLost("it is not the master")
        return connection

    async def _insist(
        self, connection: Connection, words: tuple[str | int, ...], forever: re.Pattern[str], setting: str
    ) -> Reply:
        """Send a command; an error that matches ``forever`` is one of the setting."""
        try:
            return await connection.call(*words)
        except CommandRefused as error:
            if forever.match(str(error)):
                raise ConfigError(f"{setting}: refused by {self._place}: {error}") from None
            # Of a command that it does not know, Redis repeats the arguments: the password.
            raise CommandRefused(str(error).partition(", with args")[0]) from None

    async def _find_master(self) -> IStreamClientEndpoint:
        """Ask one Sentinel after the other.

        :raises StoreLost: none of them knows.
        """
        answers = []
        for host, port in self._place.sentinels:
            try:
                return await self._ask_sentinel(host, port)
            except (StoreError, UnicodeError) as error:
                answers.append(f"Sentinel {address(host, port)}: {describe(error)}")
        raise StoreLost("; ".join(answers))

    async def _ask_sentinel(self, host: str, port: int) -> IStreamClientEndpoint:
        connection = await self._connect(self._endpoints.at(host, port))
        try:
            reply = await connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.master)
        finally:
            connection.give_up("closed")
        match reply:
            case [str(master), str(master_port)] if _PORT.fullmatch(master_port) and int(master_port) <= _LAST_PORT:
                return self._endpoints.at(master, int(master_port))
            case _:
                raise StoreLost(f"it knows no master {self._place.master}")

    def _tell_up(self) -> None:
        self._told_lost = self._told_refused = False
        _log.info("{place} is there", place=self._place)
        with _TELLING:
            self._on_up()

    def _tell_lost(self, error: StoreError) -> None:
        if not self._told_lost and self._keeping_on:
            self._told_lost = True
            _log.warn("{place} is lost: {reason}", place=self._place, reason=describe(error))

    def _tell_refused(self, error: ConfigError) -> None:
        if not self._told_refused:
            self._told_refused = True
            with _TELLING:
                self._on_refused(error)
