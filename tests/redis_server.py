"""Redis and its Sentinels as programs, for tests that run in the reactor."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from twisted.internet.endpoints import UNIXClientEndpoint

from srsproxy.balancer.redis.connection import connect
from srsproxy.balancer.redis.model import Place, Reply
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import ConfigError
from tests.asynchronous import PATIENCE, until
from tests.certificates import pem_of_both, pem_of_certificate
from tests.processes import Program, free_port

HOST: Final = "127.0.0.1"

DOWN_AFTER: Final = 200
"""Milliseconds after which a Sentinel takes a silent master for dead."""


class RedisServer:
    """A server that keeps nothing on disk; use it with ``async with``. It listens on a Unix socket at least.

    :ivar socket: path of that.
    :ivar port: of TCP or TLS, on loopback; 0 is none.
    :ivar ca: the authority to trust for TLS.
    """

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        *options: str,
        tcp: bool = False,
        tls: bool = False,
        password: str = "",
        replica_of: RedisServer | None = None,
    ) -> None:
        """
        :param folder: its own; is made if need be.
        :param options: more of them, as ``redis-server`` wants them.
        :param tcp: whether to listen there.
        :param tls: whether to listen there, as localhost.
        :param password: of the default user.
        :param replica_of: its master, if it begins as a replica. That listens on TCP.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._reactor = reactor
        self._folder = folder
        self._password = password
        self.socket = folder / "redis.sock"
        self.port = free_port() if tcp or tls else 0
        self.ca = folder / "ca.pem"
        self._options = ["--save", "", "--unixsocket", str(self.socket), "--port", str(0 if tls else self.port)]
        if tls:
            both = folder / "localhost.pem"
            both.write_bytes(pem_of_both())
            self.ca.write_bytes(pem_of_certificate())
            self._options += ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
            for option, path in (("cert", both), ("key", both), ("ca-cert", self.ca)):
                self._options += [f"--tls-{option}-file", str(path)]
        if password:
            self._options += ["--requirepass", password]
        if replica_of is not None:
            # Without the delay, the master waits 5 s for more replicas before it serves the first.
            self._options += ["--replicaof", f"{HOST} {replica_of.port}"]
        self._options += ["--repl-diskless-sync-delay", "0", *options]
        self._program: Program | None = None

    @property
    def place(self) -> Place:
        """Where it is, by its Unix socket."""
        return Place(socket=str(self.socket), password=self._password)

    async def __aenter__(self) -> Self:
        await self.restart()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.kill()

    async def restart(self) -> None:
        """Start it, empty; end it before if it runs."""
        await self.kill()
        self._program = Program(self._reactor, ("redis-server", *self._options), folder=self._folder)
        self._program.start()
        await self._program.read("Ready to accept connections|The server is now ready")

    async def kill(self) -> None:
        """End it as the kernel would, if it runs."""
        program, self._program = self._program, None
        if program is not None:
            program.signal(signal.SIGKILL)
            await program.wait()

    async def pause(self, milliseconds: int) -> None:
        """It answers nobody for that time."""
        await self.command("CLIENT", "PAUSE", milliseconds, "ALL")

    async def command(self, *words: str | int) -> Reply:
        """Send a command by a connection of its own.

        :raises StoreError: it did not work.
        """
        endpoint = UNIXClientEndpoint(self._reactor, str(self.socket))
        connection = await connect(endpoint, self._reactor, PATIENCE)
        try:
            if self._password:
                await connection.call("AUTH", self._password)
            return await connection.call(*words)
        finally:
            await connection.close()


class Sentinel(Program):
    """A Sentinel that watches over a master alone; use it with ``async with``.

    :ivar port: where it listens.
    """

    NAME: Final = "the-master"

    def __init__(self, reactor: Any, folder: Path, master: RedisServer) -> None:
        """:param folder: its own; is made."""
        folder.mkdir(parents=True)
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind {HOST}\n"
            f"sentinel monitor {self.NAME} {HOST} {master.port} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} {DOWN_AFTER}\n"
        )
        super().__init__(reactor, ("redis-server", str(config), "--sentinel"), folder=folder)

    async def __aenter__(self) -> Self:
        self.start()
        await self.read(r"\+monitor master")
        return self

    async def knows_replica(self) -> None:
        """Wait until it knows who could take over."""
        await self.read(r"\+slave slave")


class RunningStore(Store):
    """A store that runs while ``async with`` does, and what it told.

    :ivar times_up: how often it told that Redis is there.
    :ivar refusals: what it told that Redis will not have.
    """

    def __init__(self, reactor: Any, place: Place, timeout: float = PATIENCE) -> None:
        self.times_up = 0
        self.refusals: list[str] = []
        self._test_reactor = reactor
        super().__init__(reactor, place, self._count, self._refuse, timeout=timeout, random=Random(1))

    def _count(self) -> None:
        self.times_up += 1

    def _refuse(self, error: ConfigError) -> None:
        self.refusals.append(str(error))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def comes(self, times: int = 1) -> None:
        """Wait until it has told so often that Redis is there."""
        await until(self._test_reactor, lambda: self.up and self.times_up >= times, "the store is up")

    async def goes(self) -> None:
        """Wait until it counts Redis as lost."""
        await until(self._test_reactor, lambda: not self.up, "the store is lost")


def sentinels(ports: Iterable[int]) -> Place:
    """A master that Sentinels on these ports know."""
    return Place(sentinels=tuple((HOST, port) for port in ports), master=Sentinel.NAME)
