"""A listener of the real libsrt that behaves as SRS does: what is published is sent to the players of the resource.

It accepts whom SRS accepts: a second publisher of a resource, and those of ``--refuse``, are accepted and then shut
down; ``--reject`` is for what SRS never does, but other listeners do. It tells, in lines of JSON::

    {"event": "listening", "host": "127.0.0.1", "port": 31234}
    {"event": "accepted", "socket_id": 1, "stream_id": "#!::r=live/s,m=publish", "peer_port": 40000, "key_state": 0,
     "key_length": 16, "latency": 20, "peer_latency": 20}
    {"event": "received", "socket_id": 1, "stream_id": "...", "bytes": 13160, "packets": 10, "missing": 0, "wrong": 0}
    {"event": "closed", ...the same members}

``key_state`` is 2 for one who sends encrypted (SRT_KM_S_SECURED). Run it as a module.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.srt import libsrt
from tests.srt.libsrt import Epoll, SrtError, SrtSocket
from tests.srt.traffic import Reception, Ticker, end_at_sigterm, tell

BACKLOG: Final = 1024
TICK: Final = 10
"""Milliseconds after which it looks at the clock if nothing happens."""

REFUSAL_DELAY: Final = 0.01
"""Seconds between SRS's acceptance and its SHUTDOWN for a stream that it refuses."""

TELLING: Final = 0.1
"""Seconds between two events ``received`` of a connection."""


def fields(stream_id: str) -> dict[str, str]:
    """Of a stream id like ``#!::r=live/s,m=publish``."""
    pairs = (pair.partition("=") for pair in stream_id.removeprefix("#!::").split(","))
    return {key: value for key, _, value in pairs}


@dataclass
class Caller:
    """One who was accepted.

    :ivar closes: when it is shut down; seconds of the monotonic clock.
    """

    srt: SrtSocket
    stream_id: str
    closes: float = math.inf
    reception: Reception = field(default_factory=Reception)
    told: int = 0

    @property
    def resource(self) -> str:
        """What it publishes or plays."""
        return fields(self.stream_id).get("r", "")

    @property
    def publishes(self) -> bool:
        """If not, it plays."""
        return fields(self.stream_id).get("m") == "publish"


class Origin:
    """The listener, and who was accepted, by socket id."""

    def __init__(self, options: argparse.Namespace, epoll: Epoll) -> None:
        self._epoll = epoll
        self._echo: bool = options.echo
        self._refused: frozenset[str] = frozenset(options.refuse)
        self._rejected: Mapping[str, int] = dict(options.reject)
        self._callers: dict[int, Caller] = {}
        self._telling = Ticker(TELLING)
        self._listener = SrtSocket()
        self._listener.set(libsrt.RCVSYN, 0)
        if options.file:
            self._listener.set(libsrt.TRANSTYPE, libsrt.FILE)
            self._listener.set(libsrt.MESSAGEAPI, options.messages)
        else:
            self._listener.set(libsrt.LATENCY, options.latency)
        if options.passphrase:
            self._listener.set(libsrt.PASSPHRASE, options.passphrase)
        self._listener.bind((options.host, options.port))
        self._listener.listen(BACKLOG, self._decide)
        epoll.watch(self._listener, libsrt.IN)
        tell("listening", host=options.host, port=self._listener.port)

    def _decide(self, stream_id: str) -> int | None:
        return self._rejected.get(fields(stream_id).get("r", ""))

    def turn(self) -> None:
        """Wait until something happens, and do what it asks for."""
        for id, events in self._epoll.wait(TICK):
            if id == self._listener.id:
                self._accept()
            elif (caller := self._callers.get(id)) is not None:
                self._receive(caller)
                if events & libsrt.ERR:
                    self._close(caller)
        now = time.monotonic()
        for caller in [caller for caller in self._callers.values() if caller.closes <= now]:
            self._close(caller)
        if self._telling.is_due():
            for caller in self._callers.values():
                self._tell_received(caller)

    def close(self) -> None:
        """All are shut down."""
        for caller in list(self._callers.values()):
            self._close(caller)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(SrtError):
            while True:
                self._accepted(self._listener.accept())

    def _accepted(self, srt: SrtSocket) -> None:
        caller = Caller(srt, srt.stream_id)
        busy = caller.publishes and any(
            other.publishes and other.resource == caller.resource for other in self._callers.values()
        )
        if busy or caller.resource in self._refused:
            caller.closes = time.monotonic() + REFUSAL_DELAY
        self._callers[srt.id] = caller
        self._epoll.watch(srt, libsrt.IN | libsrt.ERR)
        tell(
            "accepted",
            socket_id=srt.id,
            stream_id=caller.stream_id,
            peer_port=srt.peer_port,
            key_state=srt.get(libsrt.KMSTATE),
            key_length=srt.get(libsrt.PBKEYLEN),
            **srt.latencies,
        )

    def _receive(self, caller: Caller) -> None:
        with contextlib.suppress(SrtError):
            while data := caller.srt.receive():
                caller.reception.add(data)
                if caller.publishes:
                    self._play(caller.resource, data)
                while self._echo and data:
                    data = data[caller.srt.send(data) :]

    def _play(self, resource: str, data: bytes) -> None:
        for player in self._callers.values():
            if player.resource == resource and not player.publishes:
                # One that has gone is told of by the epoll.
                with contextlib.suppress(SrtError):
                    player.srt.send(data)

    def _tell_received(self, caller: Caller) -> None:
        if caller.told != caller.reception.bytes:
            caller.told = caller.reception.bytes
            tell("received", **self._summary(caller))

    def _close(self, caller: Caller) -> None:
        self._epoll.forget(caller.srt)
        caller.srt.close()
        del self._callers[caller.srt.id]
        tell("closed", **self._summary(caller))

    def _summary(self, caller: Caller) -> dict[str, object]:
        return {"socket_id": caller.srt.id, "stream_id": caller.stream_id, **caller.reception.summary}


def rejection(text: str) -> tuple[str, int]:
    """``RESOURCE=REASON`` of the command line."""
    resource, _, reason = text.partition("=")
    return resource, int(reason)


def main() -> None:
    """Run it as the command line says, until SIGTERM."""
    parser = argparse.ArgumentParser(description="An SRT listener as an SRS origin has one.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="any that is free by default")
    parser.add_argument("--passphrase", default="")
    parser.add_argument("--latency", type=int, default=20, help="milliseconds")
    parser.add_argument("--file", action="store_true", help="file mode instead of live mode")
    parser.add_argument("--messages", action="store_true", help="messages instead of a stream, in file mode")
    parser.add_argument("--echo", action="store_true", help="everything is also sent back")
    parser.add_argument("--reject", metavar="RESOURCE=REASON", action="append", default=[], type=rejection)
    parser.add_argument("--refuse", metavar="RESOURCE", action="append", default=[])
    options = parser.parse_args()
    end_at_sigterm()
    libsrt.start_up()
    with Epoll() as epoll:
        origin = Origin(options, epoll)
        try:
            while True:
                origin.turn()
        finally:
            origin.close()
            libsrt.clean_up()


if __name__ == "__main__":
    main()
