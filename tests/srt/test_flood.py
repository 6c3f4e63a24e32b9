"""Floods of handshakes from addresses that nobody is at."""

from __future__ import annotations

import gc
import random
import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from twisted.internet import reactor

from srsproxy.relay.udpsockets import Address
from srsproxy.stats import Stray
from tests.asynchronous import in_reactor
from tests.srt.proxied import ProxiedSrt
from tests.srt.wire import Handshake

CALLERS = 100_000

ALLOWED = 1000
"""Blocks of memory that may stay: more would be something for each caller."""

REAL = 2_000
"""Callers that send over the loopback network, which has 16 million addresses."""

INDUCTION_SIZE = 64


class Sent:
    """Counts what goes to callers; takes the place of a socket's ``sendto``."""

    def __init__(self) -> None:
        self.count = self.size = 0

    def __call__(self, data: bytes | memoryview, address: Address) -> int:
        self.count += 1
        self.size += len(data)
        return len(data)


def addresses(number: int) -> Iterator[Address]:
    """So many different ones."""
    for index in range(number):
        yield socket.inet_ntoa(struct.pack(">I", 0x0B000000 + index)), 1024 + index % 60000


async def flood(proxied: ProxiedSrt, packet: bytes, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """This packet comes from everywhere; nothing of it may stay."""
    sent, listener = Sent(), proxied.listener
    monkeypatch.setattr(listener._relay, "entrance", sent)
    data = memoryview(packet)
    # What is built at the first time, stays.
    listener.client_datagram(data, ("192.0.2.1", 1), None)
    gc.collect()
    before = sys.getallocatedblocks()
    for address in addresses(CALLERS - 1):
        listener.client_datagram(data, address, None)
    gc.collect()
    assert sys.getallocatedblocks() - before < ALLOWED
    assert proxied.flows() == proxied.waiting() == 0
    assert not proxied.stats.opened
    assert not proxied.origin.received
    return sent


@in_reactor
async def test_inductions_from_everywhere_keep_nothing_and_get_no_more_bytes_than_they_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ProxiedSrt(reactor) as proxied:
        packet = bytes((await proxied.caller()).induction())
        lines = len(proxied.lines)
        sent = await flood(proxied, packet, monkeypatch)

        assert (sent.count, sent.size) == (CALLERS, CALLERS * len(packet))
        assert len(packet) == INDUCTION_SIZE
        assert len(proxied.lines) == lines
        assert not proxied.stats.strays


@in_reactor
async def test_conclusions_with_made_up_cookies_from_everywhere_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedSrt(reactor) as proxied:
        packet = bytes((await proxied.caller()).conclusion(cookie=random.Random(1).getrandbits(32)))
        lines = len(proxied.lines)
        sent = await flood(proxied, packet, monkeypatch)

        assert sent.count == 0
        assert len(proxied.lines) == lines
        assert proxied.stats.strays == {("srt", Stray.BAD_COOKIE): CALLERS}


@in_reactor
async def test_a_running_session_goes_on_while_inductions_come_from_everywhere() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        packet = bytes((await proxied.caller()).induction())
        answers = set()
        for number in range(REAL):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.bind((f"127.{1 + number // 250}.1.{1 + number % 250}", 0))
                caller.sendto(packet, proxied.address)
                if number % 20 == 0:
                    joined.caller.send(b"%d" % number)
                    await joined.connection.heard(number // 20 + 1)
                    caller.setblocking(False)
                    answers.add(Handshake.parse(caller.recv(2000)).cookie)

        assert len(answers) == REAL // 20
        assert proxied.flows() == len(proxied.stats.active) == 1
