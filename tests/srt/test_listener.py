"""What comes to the proxy's port: inductions, cookies, and what is neither."""

from __future__ import annotations

import random

import pytest
from twisted.internet import reactor

from srsproxy.srt.cookies import Cookies
from srsproxy.stats import Stray
from srsproxy.values import BindAddress
from tests.asynchronous import in_reactor
from tests.srt import wire
from tests.srt.conversation import Conversation
from tests.srt.peers import HOST
from tests.srt.proxied import PLAY, PUBLISH, ProxiedSrt
from tests.srt.wire import Handshake
from tests.webrtc.peers import Address
from tests.webrtc.proxied import SECRET, TakenTime

MINUTE = 60

WAVEAHAND, AGREEMENT, DONE = 0, 0xFFFFFFFE, 0xFFFFFFFD


@pytest.mark.parametrize("more", [0, 8, 1408])
@in_reactor
async def test_an_induction_is_answered_by_as_many_bytes_and_forgotten(more: int) -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        lines = len(proxied.lines)
        asked = caller.induction(tail=bytes(more))
        answer = await caller.ask(asked)

        assert answer == Handshake(
            version=5,
            extension=wire.MAGIC,
            initial_sequence_number=asked.initial_sequence_number,
            mtu=asked.mtu,
            flow_window=asked.flow_window,
            type=wire.INDUCTION,
            socket_id=caller.local_id,
            cookie=answer.cookie,
            peer_ip=wire.encode_peer_ip(HOST),
            destination=caller.local_id,
            timestamp=answer.timestamp,
        )
        assert answer.cookie
        assert len(proxied.lines) == lines
        assert not proxied.stats.opened
        assert not proxied.stats.strays
        assert proxied.flows() == proxied.waiting() == 0
        assert not proxied.origin.received


@in_reactor
async def test_a_cookie_differs_by_address_and_changes() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        callers = [await proxied.caller(host=host) for host in (HOST, HOST, "127.0.0.2")]
        cookies = {(await caller.induce()).cookie for caller in callers}
        assert cookies == {(await caller.induce()).cookie for caller in callers}
        time.pass_(MINUTE)

        assert len(cookies | {(await caller.induce()).cookie for caller in callers}) == 6


@in_reactor
async def test_a_cookie_is_taken_for_a_minute_and_no_more_than_two() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        caller, late = await proxied.caller(), await proxied.caller(PLAY)
        await caller.induce()
        await late.induce()
        time.pass_(2 * MINUTE - 1)
        assert (await caller.ask(caller.conclusion())).rejection is None
        time.pass_(2)
        late.send_raw(bytes(late.conclusion()))
        await proxied.dropped(Stray.BAD_COOKIE)

        assert len(late.handshakes) == 1
        assert len(proxied.origin.connections) == 1


@in_reactor
async def test_a_proxy_with_the_same_secret_takes_the_cookies_of_another() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        caller = await proxied.caller()
        cookie = Cookies(SECRET).make(caller.socket.address, 0)
        assert (await caller.ask(caller.conclusion(cookie=cookie))).rejection is None

        other = await proxied.caller(PLAY)
        cookie = Cookies(b"another secret").make(other.socket.address, 0)
        other.send_raw(bytes(other.conclusion(cookie=cookie)))
        await proxied.dropped(Stray.BAD_COOKIE)
        assert not other.handshakes


@pytest.mark.parametrize("cookie", [0, 1, 0x418D5E4E, 0xFFFFFFFF])
@in_reactor
async def test_a_conclusion_with_a_made_up_cookie_is_dropped(cookie: int) -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        for _ in range(3):
            caller.send_raw(bytes(caller.conclusion(cookie=cookie)))
        await proxied.dropped(Stray.BAD_COOKIE, 3)
        await proxied.served()

        assert not caller.handshakes
        assert not proxied.stats.opened
        assert not proxied.origin.received


@in_reactor
async def test_a_cookie_of_another_address_is_not_taken() -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller, other = await proxied.caller(), await proxied.caller()
        cookie = (await caller.induce()).cookie
        other.send_raw(bytes(other.conclusion(cookie=cookie)))
        await proxied.dropped(Stray.BAD_COOKIE)

        assert not other.handshakes


@pytest.mark.parametrize(
    ("size", "why"),
    [
        *[(size, Stray.UNKNOWN_ADDRESS) for size in (0, 1, 15)],
        *[(size, Stray.MALFORMED) for size in (16, 63, 1473, 9000)],
    ],
)
@in_reactor
async def test_handshakes_that_are_too_short_or_too_long_are_dropped(size: int, why: Stray) -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        caller.send_raw(bytes(caller.induction(tail=bytes(10000)))[:size])
        await proxied.dropped(why)
        await proxied.served()

        assert proxied.stats.strays.total() == 1
        assert not caller.handshakes


@pytest.mark.parametrize("type", [WAVEAHAND, AGREEMENT, DONE, 1000, 1004, 2403, 2, 0x80000000])
@in_reactor
async def test_handshakes_of_other_types_are_dropped(type: int) -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        await caller.induce()
        caller.send_raw(bytes(caller.conclusion(type=type)))
        await proxied.dropped(Stray.UNEXPECTED)
        await proxied.served()

        assert len(caller.handshakes) == 1
        assert not proxied.stats.opened


@pytest.mark.parametrize("type", [wire.INDUCTION, wire.CONCLUSION])
@in_reactor
async def test_handshakes_for_a_socket_are_dropped(type: int) -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        count = len(proxied.origin.received)
        for destination in (1, joined.caller.remote_id):
            joined.caller.send_raw(bytes(joined.caller.conclusion(type=type, destination=destination)))
        await proxied.dropped(Stray.UNEXPECTED, 2)
        await proxied.served()

        assert len(proxied.origin.received) == count


@pytest.mark.parametrize(("interface", "host"), [("::1", "::1"), ("", "::1"), ("", HOST)])
@in_reactor
async def test_callers_on_either_family_are_served(interface: str, host: str) -> None:
    async with ProxiedSrt(reactor, srt_server=BindAddress(interface, 0)) as proxied:
        proxied.host = host
        joined = await proxied.connect()

        assert [one.peer_ip for one in joined.caller.handshakes] == [wire.encode_peer_ip(host)] * 2
        joined.caller.send(b"media")
        assert await joined.connection.heard(1) == [b"media"]
        joined.connection.send(b"answer")
        assert await joined.caller.heard(1) == [b"answer"]
        [record] = proxied.stats.active
        assert record.peer == host


def anything(chance: random.Random, numbers: list[int]) -> bytes:
    """A packet that is more or less SRT's."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    destination = chance.choice([0, chance.getrandbits(32), *numbers])
    type = chance.choice([wire.HANDSHAKE, wire.KEEPALIVE, wire.ACK, wire.NAK, wire.ACKACK, 7, 8, 0x7FFF])
    body = bytearray(chance.randbytes(chance.randrange(150)))
    if kind == 1 and len(body) >= 48:
        # A handshake of a known type.
        body[20:24] = chance.choice([wire.INDUCTION, wire.CONCLUSION, 0, 1002, 0xFFFFFFFE]).to_bytes(4, "big")
        body[:4] = chance.choice([4, 5, 6]).to_bytes(4, "big")
        type = wire.HANDSHAKE
    if kind == 2:
        return wire.data_packet(chance.getrandbits(31), 1, destination, bytes(body))
    return wire.control(type, destination, body=bytes(body))


@pytest.mark.parametrize("seed", range(5))
@in_reactor
async def test_whatever_callers_and_origins_send_nothing_breaks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is made up would keep the scripted peers busy.
    monkeypatch.setattr(Conversation, "packet_received", lambda self, packet: None)
    chance = random.Random(seed)
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        running, other = await proxied.connect(), await proxied.connect(PLAY)
        pending = await proxied.caller("#!::r=live/pending")
        await pending.induce()
        proxied.origin.loses = lambda packet: wire.is_handshake(packet) and chance.random() < 0.5
        ids = [running.connection.local_id, other.connection.local_id, running.caller.local_id, other.caller.local_id]
        towards: list[Address] = [running.connection.address, other.connection.address]
        for number in range(300):
            chance.choice([running.caller, other.caller, pending]).socket.send(anything(chance, ids), proxied.address)
            proxied.origin._socket.send(anything(chance, ids), chance.choice(towards))
            if number % 30 == 0:
                fields = {"tail": chance.randbytes(chance.randrange(50)), "version": chance.choice([4, 5, 6])}
                pending.send_raw(bytes(pending.conclusion(socket_id=number, **fields)))
                time.pass_(0.2)
                await proxied.served()
        proxied.origin.loses = lambda _: False
        await proxied.served()
        proxied.check()

        await proxied.connect(PUBLISH)
