"""Child processes of the benchmark: started, watched, and ended whatever happens."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

HERE = Path(__file__).parent

START_TIMEOUT = 20.0
"""Seconds for a process to listen."""
STOP_TIMEOUT = 3.0
"""Seconds from SIGTERM to SIGKILL."""
_POLL_INTERVAL = 0.02
_CONNECT_TIMEOUT = 1.0
_FIRST_PORT = 12000
_LAST_PORT = 31999
"""Below the range from which Linux takes the local ports of outgoing connections: none of those can be in the way."""
_PORTS = itertools.islice(itertools.cycle(range(_FIRST_PORT, _LAST_PORT + 1)), os.getpid() % 20000, None)
"""Other benchmarks on the machine most likely are elsewhere in the range."""
_TAIL_LINES = 10
_NUMBERS = itertools.count(1)
"""Tell apart the logs of processes of one name."""


class BenchError(Exception):
    """The benchmark cannot go on; the text says why, for the person who started it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens; ``host`` is an IPv4 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def progress(text: str) -> None:
    """Tell the person who waits. Results go to standard output, this does not."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def find_tool(name: str, packages: str = "") -> str:
    """The path of a program.

    :param packages: the Debian packages that have it and what it needs; one that is called as it is, if not given.
    :raises BenchError: it is not installed; the text says which Debian package has it.
    """
    # Servers are in sbin, which the search path of an ordinary user may lack.
    folders = (os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin")
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise BenchError(f"{name} is not installed; on Debian: apt-get install {packages or name}")
    return path


def run_tool(command: Sequence[str]) -> str:
    """Run a program to its end; what it printed.

    :raises BenchError: it failed; the text has what it printed.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # noqa: S603 - no shell, and the words are ours
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def free_addresses(count: int) -> list[Address]:
    """Ports of 127.0.0.1 that nothing listens on, by TCP or UDP, none of them given before."""
    addresses: list[Address] = []
    while len(addresses) < count:
        address = Address("127.0.0.1", next(_PORTS))
        if all(_is_free(address, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            addresses.append(address)
    return addresses


def _is_free(address: Address, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:
            # As servers do: ports with connections that were closed a moment ago are free for them.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


class Child:
    """A process that lives as long as its ``with`` block. Its error output goes to a file of its own in ``directory``,
    which is also its working directory; standard output too, unless it is ``piped``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environ: Mapping[str, str] | None = None,
        *,
        piped: bool = False,
    ) -> None:
        self.name = name
        self._log = directory / f"{name}-{next(_NUMBERS)}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - no shell, and the words are ours
                command,
                cwd=directory,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                # Ctrl-C is for the benchmark alone, which then ends its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Standard input and output of a piped process."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError(f"{self.name} is not piped")
        return self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def fail_if_gone(self) -> None:
        """:raises BenchError: the process has ended; the text has the last that it said."""
        status = self._process.poll()
        if status is not None:
            raise BenchError(f"{self.name} ended with status {status}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def wait_until_listening(self, address: Address) -> None:
        """:raises BenchError: it does not accept connections there in time."""
        self._wait_until(lambda: _accepts_connections(address), address)

    def wait_until_bound(self, address: Address) -> None:
        """As :meth:`wait_until_listening`, for UDP.

        :raises BenchError: nobody has bound the port in time.
        """
        self._wait_until(lambda: _is_bound(address), address)

    def _wait_until(self, condition: Callable[[], bool], address: Address) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            self.fail_if_gone()
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not listen on {address}\n{self.last_words()}")
            time.sleep(_POLL_INTERVAL)


def _is_bound(address: Address) -> bool:
    # Trying to bind it would be in the way of the one who is to do so.
    port = f":{address.port:04X}"
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(port) for line in lines)


def _accepts_connections(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True
