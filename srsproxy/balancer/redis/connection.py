"""One connection to Redis, of the protocol that txredisapi has, minded more strictly.

Import this module only where the reactor is known to be installed: txredisapi imports it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from txredisapi import (  # type: ignore[import-untyped]  # it has no annotations
    BaseRedisProtocol,
    InvalidData,
    RedisError,
    ResponseError,
)

from srsproxy.balancer.redis.model import CommandRefused, Reply, StoreLost
from srsproxy.transports import tune

MAX_REPLY: Final = 8 << 20
"""Bytes of one reply. The largest are lists of origins, of less than 1 KiB each."""

_HEADER: Final = re.compile(r"[+-]|(?::-?[0-9]{1,19}|\$(?:-1|[0-9]{1,9})|\*(?:-1|[0-9]{1,9}))\Z")
"""How a line of RESP 2 begins (https://redis.io/docs/latest/develop/reference/protocol-spec/); numbers are whole."""

_CANNOT_SERVE: Final = re.compile(r"(?:.*@user_script:[0-9]+: -)?(?:BUSY|LOADING|MASTERDOWN|READONLY) ")
"""Errors that do not concern the command, but Redis: busy with a script, not yet or no longer the master. Before
Redis 7, errors within scripts come wrapped."""


class Connection(BaseRedisProtocol):  # type: ignore[misc]  # see above
    """Sends commands at once and hands out the replies, each within its deadline; then or at anything else that is
    wrong it is given up as a whole, with all that waits.

    :ivar lost: why it cannot be used any more; None if it can.
    :ivar on_lost: called with this, once.
    """

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        """:param timeout: seconds that Redis has for each reply."""
        super().__init__(errors="surrogateescape", convertNumbers=False)
        self._clock = clock
        self._timeout = timeout
        self._sent: deque[float] = deque()  # when each command that waits for its reply was sent
        self._deadline: IDelayedCall | None = None
        self._rest = b""
        self._size = 0  # of what has come of the reply that is coming
        self.lost: StoreLost | None = None
        self.on_lost: Callable[[StoreLost], None] = lambda _error: None

    @property
    def waiting(self) -> int:
        """How many commands wait for their replies."""
        return len(self._sent)

    async def call(self, *words: str | int) -> Reply:
        """Send a command and wait for the reply. Giving up the wait does no harm to other commands.

        :raises StoreLost: there is none, or not in time.
        :raises CommandRefused: an error is the reply.
        """
        if self.lost is not None:
            raise StoreLost(str(self.lost)) from self.lost.__cause__
        try:
            reply = self.execute_command(*words)
            self._sent.append(self._clock.seconds())
            if self._deadline is None:
                self._deadline = self._clock.callLater(self._timeout, self._look)
            return cast(Reply, await reply)
        except ResponseError as error:
            text = str(error).strip()
            if _CANNOT_SERVE.match(text):
                self.give_up(text)
                raise StoreLost(text) from None
            raise CommandRefused(text) from None
        except InvalidData as error:
            raise CommandRefused("not sent") from error
        except RedisError as error:
            # A new one for each that waits: one that is raised again and again keeps all the frames that it has seen.
            lost = self.lost or error
            raise StoreLost(str(lost)) from lost.__cause__

    def give_up(self, why: str) -> None:
        """Close at once. All that waits for replies is told why."""
        if self.lost is None:
            self.transport.abortConnection()
            self._lose(StoreLost(why))

    async def close(self) -> None:
        """The same, and wait until it is closed."""
        self.give_up("closed")
        if self.connected:
            await self.whenDisconnected()

    def _lose(self, error: StoreLost) -> None:
        self.lost = error
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.on_lost(error)

    def _look(self) -> None:
        """Whether the oldest command has its reply: a timer for each would cost more than the rest of it."""
        self._deadline = None
        if self._sent:
            left = self._sent[0] + self._timeout - self._clock.seconds()
            if left > 0:
                self._deadline = self._clock.callLater(left, self._look)
            else:
                self.give_up(f"no answer within {self._timeout:g} s")

    def connectionMade(self) -> None:
        tune(self.transport, self._timeout)
        super().connectionMade()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self._size += len(data)
        self._rest = data
        try:
            while self._rest and self.lost is None:
                data, self._rest = self._rest, b""
                super().dataReceived(data)
        except UnicodeDecodeError:
            self.give_up("it does not speak the protocol of Redis")
        if self._size > MAX_REPLY:
            self.give_up(f"a reply of more than {MAX_REPLY} bytes")

    def setLineMode(self, extra: bytes = b"") -> None:
        """A string has come. txredisapi's own method would stop reading until the next round of the reactor."""
        self.line_mode = 1
        self._rest = extra

    def lineReceived(self, line: str) -> bool:
        """Returns whether no more lines are wanted."""
        if _HEADER.match(line) is None:
            self.give_up("it does not speak the protocol of Redis")
        elif line.startswith("$") and int(line[1:]) > MAX_REPLY:
            self.give_up(f"a reply of more than {MAX_REPLY} bytes")
        else:
            super().lineReceived(line)
        return self.lost is not None

    def lineLengthExceeded(self, line: bytes) -> None:
        self.give_up("it does not speak the protocol of Redis")

    def replyReceived(self, reply: Any) -> None:
        self._size = 0
        if self._sent:
            self._sent.popleft()
            super().replyReceived(reply)
        else:
            self.give_up("a reply to nothing")

    def tryConvertData(self, data: bytes) -> str:
        return data.decode(self.charset, self.errors)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.lost is None:
            error = StoreLost("connection lost")
            error.__cause__ = reason.value
            self._lose(error)
        super().connectionLost(reason)


async def connect(endpoint: IStreamClientEndpoint, clock: IReactorTime, seconds: float) -> Connection:
    """Make a connection, with so many seconds for each reply.

    :raises StoreLost: it cannot be made.
    """
    connection = Connection(clock, seconds)
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False  # it would log each attempt
    try:
        await endpoint.connect(factory)
    except (ConnectError, ConnectingCancelledError, DNSLookupError, OSError) as error:
        raise StoreLost("connect") from error
    return connection
