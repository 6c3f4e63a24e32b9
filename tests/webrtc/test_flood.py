"""A flood of datagrams that belong to no session."""

from __future__ import annotations

import gc
import random
import socket
from collections.abc import Callable
from typing import Final

import pytest
from twisted.internet import reactor

from srsproxy.stats import Stray
from tests.asynchronous import in_reactor
from tests.webrtc.ice_client import rtp
from tests.webrtc.peers import BINDING_REQUEST, USERNAME, stun
from tests.webrtc.proxied import PUBLISH, ProxiedRtc

DATAGRAMS: Final = 5000

BATCH: Final = 50
"""Datagrams that are sent at once; what the buffer of a socket can hold at the usual settings of Linux."""

ALLOWED_OBJECTS: Final = 200
"""More than these would be something per datagram."""

Make = Callable[[random.Random], bytes]


def noise(chance: random.Random) -> bytes:
    """Anything."""
    return chance.randbytes(chance.randrange(1500))


def nearly_stun(chance: random.Random) -> bytes:
    """The header of a STUN message before anything."""
    header = bytes.fromhex("0001") + chance.randrange(64).to_bytes(2, "big") + bytes.fromhex("2112a442")
    return header + chance.randbytes(12 + chance.randrange(64))


def _request(username: bytes, chance: random.Random) -> bytes:
    return stun(BINDING_REQUEST, chance.randbytes(12), [(USERNAME, username)], "guessed")


def made_up(chance: random.Random) -> bytes:
    """A Binding request for a session that nobody knows."""
    return _request(b"%016x:%08x" % (chance.getrandbits(64), chance.getrandbits(32)), chance)


def made_up_like_ours(chance: random.Random) -> bytes:
    """The same with a name as the proxy makes it."""
    return _request(bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz234567", k=24)) + b":abcd", chance)


@pytest.mark.parametrize("make", [noise, nearly_stun, made_up, made_up_like_ours])
@in_reactor
async def test_a_flood_neither_stops_a_running_session_nor_costs_memory(make: Make) -> None:
    chance = random.Random(1)
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
            flooder.connect(proxied.media_address)

            async def flood(first: int) -> None:
                for number in range(first, first + DATAGRAMS // BATCH):
                    for _ in range(BATCH):
                        flooder.send(make(chance))
                    joined.client.send(rtp(number))
                    await joined.origin.heard(joined.session, number + 1)
                    joined.origin.send_media(joined.session, rtp(number))
                    await joined.client.wait_received(number + 1)

            await flood(0)
            gc.collect()
            before = len(gc.get_objects())
            await flood(DATAGRAMS // BATCH)
            gc.collect()

            assert len(gc.get_objects()) - before < ALLOWED_OBJECTS
            assert proxied.stats.strays.total() == 2 * DATAGRAMS
            assert proxied.strays(Stray.UNKNOWN_ADDRESS) < 2 * DATAGRAMS or make is noise
            flooder.setblocking(False)
            with pytest.raises(BlockingIOError):
                flooder.recv(1)
        await joined.client.check()
        assert not joined.origin.dropped
