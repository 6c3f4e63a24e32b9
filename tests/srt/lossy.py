"""A path of UDP that loses datagrams and changes their order."""

from __future__ import annotations

import random
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from tests.srt.conversation import UdpSocket
from tests.webrtc.peers import Address

LOSS: Final = 0.05
"""Part of the datagrams that is lost, in each direction."""

DELAYED: Final = 0.05
"""Part of the datagrams that comes late, behind later ones."""

MAX_DELAY: Final = 0.02
"""Seconds."""


class LossyPath:
    """A relay of UDP, with a socket for each client address towards one target; use it with ``async with``.

    :param target: where the clients' datagrams go to.
    :param seed: of the chance by which datagrams are lost and delayed.
    :param loss: see :data:`LOSS`.
    :param delayed: see :data:`DELAYED`.
    :ivar came: how many datagrams have come, in both directions.
    :ivar lost: how many of these were lost.
    :ivar late: how many were delayed.
    """

    def __init__(
        self, reactor: Any, target: Address, *, seed: int, loss: float = LOSS, delayed: float = DELAYED
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._random = random.Random(seed)
        self._loss = loss
        self._delayed = delayed
        self._upstream: dict[Address, UdpSocket] = {}
        self.came = self.lost = self.late = 0

    async def __aenter__(self) -> Self:
        self._socket = UdpSocket(self._reactor, self._from_client, self._target[0])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for socket in (self._socket, *self._upstream.values()):
            await socket.close()

    @property
    def address(self) -> Address:
        """Where the clients send to."""
        return self._socket.address

    def _from_client(self, datagram: bytes, client: Address) -> None:
        upstream = self._upstream.get(client)
        if upstream is None:
            upstream = UdpSocket(self._reactor, partial(self._from_target, client), self._target[0])
            self._upstream[client] = upstream
        self._pass(upstream, datagram, self._target)

    def _from_target(self, client: Address, datagram: bytes, _target: Address) -> None:
        self._pass(self._socket, datagram, client)

    def _pass(self, socket: UdpSocket, datagram: bytes, address: Address) -> None:
        self.came += 1
        if self._random.random() < self._loss:
            self.lost += 1
        elif self._random.random() < self._delayed:
            self.late += 1
            # Late ones find the socket closed, if they are too late.
            self._reactor.callLater(self._random.uniform(0, MAX_DELAY), socket.send, datagram, address)
        else:
            socket.send(datagram, address)
