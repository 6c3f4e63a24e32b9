"""A Redis server of a test's own, and a client that waits for its answers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srsproxy.balancer.redis.scripts import Call

_TIMEOUT = 20.0
"""Seconds in which a server is up, and in which it answers."""


class RedisError(Exception):
    """An error that Redis answered."""


class Client:
    """One connection. Text goes and comes as UTF-8 with surrogate escapes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile("rb")

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, *command: str | int) -> None:
        """Send a command without waiting."""
        words = [str(word).encode("utf-8", "surrogateescape") for word in command]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), b"".join(parts)))

    def reply(self) -> Any:
        """The answer to the first command that has none yet.

        :raises RedisError: it is an error.
        """
        line = self._replies.readline().decode("utf-8", "surrogateescape")
        assert line.endswith("\r\n"), "Redis closed the connection"
        kind, rest = line[0], line[1:-2]
        if kind == "-":
            raise RedisError(rest)
        if kind == "+":
            return rest
        number = int(rest)
        if kind == ":":
            return number
        if number < 0:
            return None
        if kind == "*":
            return [self.reply() for _ in range(number)]
        return self._replies.read(number + 2)[:-2].decode("utf-8", "surrogateescape")

    def command(self, *command: str | int) -> Any:
        """Send a command and wait for its answer.

        :raises RedisError: the answer is an error.
        """
        self.send(*command)
        return self.reply()

    def start(self, call: Call) -> None:
        """Send a script without waiting."""
        self.send("EVAL", call.script.text, len(call.keys), *call.keys, *call.args)

    def run(self, call: Call) -> Any:
        """Run a script."""
        self.start(call)
        return self.reply()

    def put_another_type(self, *keys: str) -> None:
        """Put something under these keys that is no text."""
        for key in keys:
            self.command("DEL", key)
            self.command("RPUSH", key, "rubbish")

    def wait_until_gone(self, key: str) -> None:
        """Wait for the end of a key that lives for a few ms."""
        while self.command("EXISTS", key):
            pass


@contextmanager
def redis_server() -> Iterator[Path]:
    """A server that keeps nothing on disk; gives the path of its socket."""
    # Not below pytest's folders: their names may be longer than the name of a socket can be.
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    path = folder / "socket"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            started = any("accept connections at" in line for line in server.stdout)
            assert started, "redis-server did not start"
            yield path
        finally:
            server.terminate()
            server.communicate(timeout=_TIMEOUT)
            shutil.rmtree(folder)
