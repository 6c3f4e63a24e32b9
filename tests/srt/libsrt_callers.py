"""Callers of the real libsrt, one for each stream id, all in one process, all connecting at once.

Those with ``m=publish`` send payloads until there were ``--packets`` of them; all receive. They stay until SIGTERM, or
until the last has been rejected or shut down. They tell, in lines of JSON, with their place on the command line::

    {"event": "connected", "caller": 0, "milliseconds": 3, "socket_id": 1, "port": 40000, "key_state": 0,
     "latency": 20, "peer_latency": 20}
    {"event": "rejected", "caller": 0, "milliseconds": 3, "reason": 1403}
    {"event": "sent", "caller": 0, "packets": 100, "retransmitted": 0}
    {"event": "received", "caller": 0, "bytes": 131600, "packets": 100, "missing": 0, "wrong": 0}
    {"event": "closed", "caller": 0, ...the same members}

``sent`` is told once, when all is acknowledged: in live mode never, if the last packet is lost, which libsrt sends
again only if a later one lets the peer know that it is missing. ``closed`` is told when the peer has shut down, or at
SIGTERM. Reason 16 is libsrt's for no answer within ``--connect-timeout``. Run it as a module.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Final

from tests.srt import libsrt
from tests.srt.libsrt import Epoll, SrtError, SrtSocket
from tests.srt.traffic import Reception, Ticker, end_at_sigterm, payload, tell

TICK: Final = 5
"""Milliseconds between two looks at what is to be sent."""

TELLING: Final = 0.1
"""Seconds between two events ``received`` of a caller."""


class Caller:
    """One caller.

    :ivar has_ended: whether it is rejected or closed.
    """

    def __init__(self, options: argparse.Namespace, number: int, stream_id: str, epoll: Epoll) -> None:
        self._options = options
        self._number = number
        self._epoll = epoll
        self._publishes = "m=publish" in stream_id
        self._reception = Reception()
        self._told = 0
        self._sent = 0
        self._unsent = b""
        self._has_told_sent = False
        self._connected: float | None = None
        self.has_ended = False
        self.srt = SrtSocket()
        for option in (libsrt.RCVSYN, libsrt.SNDSYN):
            self.srt.set(option, 0)
        if options.file:
            self.srt.set(libsrt.TRANSTYPE, libsrt.FILE)
            self.srt.set(libsrt.MESSAGEAPI, options.messages)
        else:
            self.srt.set(libsrt.LATENCY, options.latency)
        if options.passphrase:
            self.srt.set(libsrt.PBKEYLEN, options.key_length)
            self.srt.set(libsrt.PASSPHRASE, options.passphrase)
        if options.key_refresh:
            self.srt.set(libsrt.KMREFRESHRATE, options.key_refresh)
            self.srt.set(libsrt.KMPREANNOUNCE, options.key_refresh // 4)
        self.srt.set(libsrt.CONNTIMEO, options.connect_timeout)
        self.srt.set(libsrt.STREAMID, stream_id)

    def connect(self) -> None:
        """Begin."""
        self._begin = time.monotonic()
        self._epoll.watch(self.srt, libsrt.OUT | libsrt.ERR)
        self.srt.connect((self._options.host, self._options.port))

    def event(self, events: int) -> None:
        """The epoll has these."""
        if self._connected is None:
            if events & libsrt.ERR:
                self._rejected()
            else:
                self._is_connected()
            return
        with contextlib.suppress(SrtError):
            while data := self.srt.receive():
                self._reception.add(data)
        if events & libsrt.ERR:
            self.close()

    def tick(self) -> None:
        """Send what is due."""
        if self._connected is None or self.has_ended or not self._publishes:
            return
        due = int((time.monotonic() - self._connected) * self._options.rate) + 1
        with contextlib.suppress(SrtError):
            while self._unsent or self._sent < min(due, self._options.packets):
                if not self._unsent:
                    self._unsent = payload(self._sent)
                    self._sent += 1
                self._unsent = self._unsent[self.srt.send(self._unsent) :]
            if self._sent == self._options.packets and not self._has_told_sent and not self.srt.unacknowledged:
                self._has_told_sent = True
                tell("sent", caller=self._number, packets=self._sent, retransmitted=self.srt.retransmitted)

    def tell_received(self) -> None:
        """If there is something new."""
        if self._told != self._reception.bytes:
            self._told = self._reception.bytes
            tell("received", caller=self._number, **self._reception.summary)

    def close(self) -> None:
        """The peer has shut down, or is to be shut down."""
        if not self.has_ended:
            self._end()
            tell("closed", caller=self._number, **self._reception.summary)

    def _is_connected(self) -> None:
        self._connected = time.monotonic()
        self._epoll.watch(self.srt, libsrt.IN | libsrt.ERR)
        tell(
            "connected",
            caller=self._number,
            milliseconds=self._milliseconds,
            socket_id=self.srt.id,
            port=self.srt.port,
            key_state=self.srt.get(libsrt.KMSTATE),
            **self.srt.latencies,
        )

    def _rejected(self) -> None:
        reason, milliseconds = self.srt.reject_reason, self._milliseconds
        if reason == libsrt.REJ_UNKNOWN:
            # It was connected, and was shut down before the epoll could tell.
            self.close()
            return
        self._end()
        tell("rejected", caller=self._number, milliseconds=milliseconds, reason=reason)

    @property
    def _milliseconds(self) -> int:
        return round((time.monotonic() - self._begin) * 1000)

    def _end(self) -> None:
        self.has_ended = True
        self._epoll.forget(self.srt)
        self.srt.close()


def run(options: argparse.Namespace, epoll: Epoll) -> None:
    """All callers, until the last has ended."""
    callers = [Caller(options, number, stream_id, epoll) for number, stream_id in enumerate(options.stream_ids)]
    by_id = {caller.srt.id: caller for caller in callers}
    telling = Ticker(TELLING)
    for caller in callers:
        if options.one_port:
            caller.srt.bind((options.local_host, 0 if caller is callers[0] else callers[0].srt.port))
        caller.connect()
    try:
        while not all(caller.has_ended for caller in callers):
            for id, events in epoll.wait(TICK):
                by_id[id].event(events)
            for caller in callers:
                caller.tick()
            if telling.is_due():
                for caller in callers:
                    caller.tell_received()
    finally:
        for caller in callers:
            caller.close()


def main() -> None:
    """Run them as the command line says."""
    parser = argparse.ArgumentParser(description="SRT publishers and players.")
    parser.add_argument("port", type=int)
    parser.add_argument("stream_ids", metavar="STREAM_ID", nargs="+")
    parser.add_argument("--host", default="127.0.0.1", help="of the listener")
    parser.add_argument("--local-host", default="127.0.0.1", help="of the callers, with --one-port")
    parser.add_argument("--one-port", action="store_true", help="all have the same UDP socket")
    parser.add_argument("--passphrase", default="")
    parser.add_argument("--key-length", type=int, choices=(16, 24, 32), default=16, help="bytes")
    parser.add_argument("--key-refresh", type=int, default=0, help="packets after which there is a new key")
    parser.add_argument("--latency", type=int, default=20, help="milliseconds")
    parser.add_argument("--connect-timeout", type=int, default=3000, help="milliseconds")
    parser.add_argument("--file", action="store_true", help="file mode instead of live mode")
    parser.add_argument("--messages", action="store_true", help="messages instead of a stream, in file mode")
    parser.add_argument("--packets", type=int, default=0, help="that each publisher sends")
    parser.add_argument("--rate", type=float, default=200.0, help="packets per second and publisher")
    options = parser.parse_args()
    end_at_sigterm()
    libsrt.start_up()
    with Epoll() as epoll:
        try:
            run(options, epoll)
        finally:
            libsrt.clean_up()


if __name__ == "__main__":
    main()
