"""Callers that move to another address, and those that only say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor

from srsproxy.srt.roaming import Trail
from srsproxy.stats import Stray
from tests.asynchronous import in_reactor, until
from tests.srt import wire
from tests.srt.peers import ScriptedCaller
from tests.srt.proxied import PLAY, PUBLISH, Connected, ProxiedSrt
from tests.webrtc.proxied import TakenTime

MAX_AHEAD = 1 << 15
MAX_DRIFT = 1_000_000
SILENCE = 0.3
CLAIMS = 16

TIMESTAMPS = 1 << 32


def data(number: int, timestamp: int, destination: int = 1) -> bytes:
    """A packet of media."""
    return wire.data_packet(number % wire.SEQUENCES, 1, destination, b"media", timestamp=timestamp % TIMESTAMPS)


def ack(number: int, timestamp: int, destination: int = 1, size: int = 28) -> bytes:
    """An acknowledgement of all before a packet."""
    body = wire.ack_body(number % wire.SEQUENCES)[:size]
    return wire.control(wire.ACK, destination, timestamp=timestamp % TIMESTAMPS, body=body)


def leads(before: bytes, after: bytes, seconds: float) -> bool:
    """Whether the same caller would send this so many seconds later."""
    trail = Trail()
    assert trail.note(memoryview(before), 1000.0)
    return trail.leads_to(memoryview(after), 1000.0 + seconds)


# The trail

numbers, timestamps = st.integers(0, wire.SEQUENCES - 1), st.integers(0, TIMESTAMPS - 1)


@given(numbers, timestamps, st.integers(0, MAX_AHEAD), st.integers(-MAX_DRIFT, MAX_DRIFT), st.integers(0, 5000))
def test_what_goes_on_from_where_a_caller_was_is_the_callers(
    number: int, timestamp: int, ahead: int, drift: int, seconds: int
) -> None:
    now = timestamp + seconds * 1_000_000 + drift

    assert leads(data(number, timestamp), data(number + ahead, now), seconds)
    assert leads(ack(number, timestamp), ack(number + ahead, now), seconds)


@given(numbers, timestamps, st.integers(MAX_AHEAD + 1, wire.SEQUENCES - 1), st.integers(0, 100))
def test_what_has_another_number_is_not(number: int, timestamp: int, ahead: int, seconds: int) -> None:
    now = timestamp + seconds * 1_000_000

    assert not leads(data(number, timestamp), data(number + ahead, now), seconds)


@given(numbers, timestamps, st.integers(MAX_DRIFT + 1, TIMESTAMPS - MAX_DRIFT - 1), st.integers(0, 100))
def test_what_has_another_time_is_not(number: int, timestamp: int, drift: int, seconds: int) -> None:
    now = timestamp + seconds * 1_000_000 + drift

    assert not leads(data(number, timestamp), data(number + 1, now), seconds)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        data(1, 0)[:15],
        ack(1, 0, size=0),
        ack(1, 0, size=3),
        wire.control(wire.KEEPALIVE, 1),
        wire.control(wire.NAK, 1, body=bytes(4)),
        wire.control(wire.ACKACK, 1),
        b"\x80\x02" + bytes(14) + b"\x80\0\0\0",
    ],
)
def test_what_has_no_number_leads_nowhere(packet: bytes) -> None:
    trail = Trail()
    assert not trail.note(memoryview(packet), 0)
    assert not trail.leads_to(memoryview(data(0, 0)), 0)
    assert trail.note(memoryview(data(0, 0)), 0)

    assert not trail.leads_to(memoryview(packet), 0)
    assert trail.leads_to(memoryview(data(0, 0)), 0)


# Through the proxy


class Sender:
    """A caller whose packets tell the time that is taken."""

    def __init__(self, joined: Connected, time: TakenTime) -> None:
        self.joined = joined
        self.time = time
        self.number = joined.connection.conclusion.initial_sequence_number
        joined.caller.acknowledges = joined.connection.acknowledges = False

    def packet(self, *, ahead: int = 0, drift: float = 0.0, plays: bool = False) -> bytes:
        """Its next packet, or one that is not quite that."""
        make = ack if plays else data
        timestamp = round((self.time.seconds() + 100 + drift) * 1e6)
        return make(self.number + ahead, timestamp, self.joined.caller.remote_id)

    async def send(self, *, plays: bool = False) -> None:
        """Send it, which reaches the origin."""
        count = len(self.joined.connection.datagrams)
        packet = self.packet(plays=plays)
        self.number += 1
        self.joined.caller.send_raw(packet)
        await until(reactor, lambda: len(self.joined.connection.datagrams) > count, "the packet at the origin")
        assert self.joined.connection.datagrams[-1] == packet

    async def receives(self, payload: bytes) -> None:
        """The origin's packets reach the caller."""
        self.joined.connection.send(payload)
        await self.joined.caller.heard(len(self.joined.caller.payloads) + 1)


async def begin(proxied: ProxiedSrt, time: TakenTime, stream_id: str = PUBLISH) -> Sender:
    """A caller that has sent its first packet, and then nothing for a while."""
    sender = Sender(await proxied.connect(stream_id), time)
    await sender.send(plays=stream_id == PLAY)
    time.pass_(SILENCE)
    return sender


async def stranger(proxied: ProxiedSrt, sender: Sender) -> ScriptedCaller:
    """Another one, who knows the socket id."""
    other = await proxied.caller()
    other.begin(sender.joined.caller.remote_id, 0)
    return other


@pytest.mark.parametrize("stream_id", [PUBLISH, PLAY])
@in_reactor
async def test_a_caller_that_moves_is_followed_and_its_old_address_forgotten(stream_id: str) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time, stream_id)
        caller = sender.joined.caller
        for _ in range(3):
            old = caller.rebind()
            came = old.came
            await sender.send(plays=stream_id == PLAY)
            await sender.receives(b"answer")
            assert old.came == came
            assert proxied.flows() == 1
            proxied.check()
            time.pass_(SILENCE)

        old.send(sender.packet(ahead=100_000), proxied.address)
        await proxied.dropped(Stray.UNKNOWN_ADDRESS)
        assert len(proxied.told("the caller has moved from")) == 3
        assert not proxied.origin.dropped


@pytest.mark.parametrize(
    ("ahead", "drift"), [(-2, 0.0), (MAX_AHEAD + 1, 0.0), (1 << 30, 0.0), (0, 1.5), (0, -1.5), (0, 2000.0)]
)
@in_reactor
async def test_a_packet_that_the_caller_would_not_send_moves_nothing(ahead: int, drift: float) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time)
        other = await stranger(proxied, sender)
        other.send_raw(sender.packet(ahead=ahead, drift=drift))
        await proxied.dropped(Stray.UNKNOWN_ADDRESS)

        await sender.receives(b"media")
        await sender.send()
        assert not other.datagrams
        assert not proxied.told("moved")


@in_reactor
async def test_a_packet_without_a_number_moves_nothing() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time)
        other = await stranger(proxied, sender)
        for type in (wire.KEEPALIVE, wire.SHUTDOWN, wire.NAK):
            other.send_control(type)
        await proxied.dropped(Stray.UNKNOWN_ADDRESS, 3)

        await sender.receives(b"media")
        assert not other.datagrams
        assert not proxied.stats.ended


@in_reactor
async def test_while_the_caller_sends_nobody_takes_its_place() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time)
        other = await stranger(proxied, sender)
        for number in range(1, 6):
            await sender.send()
            time.pass_(0.2)
            other.send_raw(sender.packet())
            await proxied.dropped(Stray.UNKNOWN_ADDRESS, number)

        await sender.receives(b"media")
        assert not other.datagrams


@in_reactor
async def test_before_the_caller_has_sent_anything_nobody_takes_its_place() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = Sender(await proxied.connect(), time)
        time.pass_(SILENCE)
        other = await stranger(proxied, sender)
        other.send_raw(sender.packet())
        await proxied.dropped(Stray.UNKNOWN_ADDRESS)

        await sender.receives(b"media")


@in_reactor
async def test_who_guesses_on_and_on_is_not_believed_any_more_until_some_time_has_passed() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time)
        other = await stranger(proxied, sender)
        for number in range(CLAIMS):
            other.send_raw(sender.packet(ahead=(number + 1) << 20))
        other.send_raw(sender.packet())
        await proxied.dropped(Stray.UNKNOWN_ADDRESS, CLAIMS + 1)
        assert not other.datagrams

        for _ in range(2):
            await sender.joined.passed_on(sender.joined.connection, sender.joined.caller)
            await sender.joined.passed_on(sender.joined.caller, sender.joined.connection)
            time.pass_(6)
        sender.joined.caller.rebind()
        await sender.send()


@in_reactor
async def test_how_far_the_caller_has_come_is_looked_at_again_and_again() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        sender = await begin(proxied, time)
        for _ in range(30):
            sender.number += MAX_AHEAD // 8
            await sender.send()
            sender.joined.connection.send_control(wire.KEEPALIVE)
            time.pass_(1)
        sender.joined.caller.rebind()

        await sender.send()
