"""What the servers of all stream protocols do alike: keep their clients, and let them end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from srsproxy.interfaces import IMediaServer


class Client(Protocol):
    """One client's connection, as its server ends it."""

    @abstractmethod
    def finish(self) -> None:
        """The proxy is to end: close if there is nothing to finish."""

    @abstractmethod
    def shut_down(self) -> None:
        """The proxy ends: close now."""


C = TypeVar("C", bound=Client)


@implementer(IMediaServer)
class ClientFactory(Factory[Client], Generic[C]):
    """Protocol factory of a server's clients."""

    name: str
    noisy = False

    def __init__(self) -> None:
        self._clients: set[C] = set()
        self._drained: list[Deferred[None]] = []

    @abstractmethod
    def new_client(self) -> C:
        """The protocol of a new client. It calls :meth:`gone` when its connection is."""

    def buildProtocol(self, addr: IAddress | None) -> C:
        client = self.new_client()
        self._clients.add(client)
        return client

    def gone(self, client: C) -> None:
        """The client's connection is gone."""
        self._clients.discard(client)
        self._tell_drained()

    def drain(self) -> Deferred[None]:
        """See :meth:`IMediaServer.drain`."""
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        for client in list(self._clients):
            client.finish()
        self._tell_drained()
        return drained

    def abort(self) -> None:
        """See :meth:`IMediaServer.abort`."""
        for client in list(self._clients):
            client.shut_down()

    def _tell_drained(self) -> None:
        if not self._clients:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)
