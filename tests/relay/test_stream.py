"""What holds for every way to relay: through the pump by copying, splicing and coalescing, and through Twisted."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone

from srsproxy.relay.halves import BUFFER_SIZE, PumpHalf
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import PIPE_CAPACITY
from tests.asynchronous import in_reactor
from tests.relay.wires import KERNEL_BUFFER, Flood, Line, Lines, Peer, turns, until

WAYS: dict[str, dict[str, Any]] = {
    "copy": {},
    "splice": {"bulk": True},
    "coalesce": {"flush_interval": 0.005},
    "portable": {"portable": True},
    "tls": {"tls_client": True, "tls_origin": True},
}

EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))

PLAIN_WAYS = pytest.mark.parametrize(
    "way", [WAYS[name] for name in WAYS if name != "tls"], ids=[name for name in WAYS if name != "tls"]
)

PUMP_WAYS = pytest.mark.parametrize(
    "way", [WAYS["copy"], WAYS["splice"], WAYS["coalesce"]], ids=["copy", "splice", "coalesce"]
)


async def send_in_pieces(peer: Peer, data: bytes, chance: random.Random) -> None:
    """Write as real programs do: in pieces of all sizes, some with the reactor in between."""
    at = 0
    while at < len(data):
        size = chance.choice((1, 100, 1448, 4096, 70_000, 262_144))
        peer.write(data[at : at + size])
        at += size
        if chance.random() < 0.5:
            await turns(1)


async def all_of(*tasks: Any) -> None:
    await gatherResults([Deferred.fromCoroutine(task) for task in tasks], consumeErrors=True)


# What arrives


@in_reactor
@EVERY_WAY
@pytest.mark.parametrize("seed", range(4))
async def test_both_directions_carry_all_in_order_behind_what_was_written_before(
    way: dict[str, Any], seed: int
) -> None:
    chance = random.Random(seed)
    there = chance.randbytes(chance.choice((5_000, 400_000, 3_000_000)))
    answer = chance.randbytes(chance.choice((0, 10, 500_000)))
    back = chance.randbytes(chance.choice((5_000, 400_000, 3_000_000)))
    async with Lines(**way) as lines:
        line = await lines.line()
        line.front.pause_at(chance.choice((1, 500, 4_000)))
        line.back.pause_at(chance.choice((1, 500, 4_000)))

        async def hand_over() -> None:
            await until(lambda: line.front.received and line.back.received, "the first bytes")
            await turns(3)
            line.front.transport.pauseProducing()
            line.back.transport.pauseProducing()
            line.front.write(answer + line.back.received)
            line.back.write(bytes(line.front.received))
            line.front.relay_to(line.back, lines.relay, lines.bulk)
            line.back.relay_to(line.front, lines.relay, lines.bulk)

        await all_of(
            send_in_pieces(line.client, there, chance),
            send_in_pieces(line.origin, back, chance),
            hand_over(),
            line.origin.receives(there),
            line.client.receives(answer + back),
        )


@in_reactor
@EVERY_WAY
async def test_five_unsent_megabytes_go_first(way: dict[str, Any]) -> None:
    unsent = random.Random(1).randbytes(5_000_000)
    async with Lines(**way) as lines:
        line = await lines.line()
        line.client.transport.pauseProducing()
        line.front.write(unsent)
        line.back.transport.pauseProducing()
        half = line.back.relay_to(line.front, lines.relay, lines.bulk)
        line.origin.write(b"behind")
        await turns()
        line.client.transport.resumeProducing()
        await line.client.receives(unsent + b"behind")
        assert half.relayed == len(b"behind")


@in_reactor
@EVERY_WAY
async def test_two_hundred_connections_at_once(way: dict[str, Any]) -> None:
    chance = random.Random(2)
    async with Lines(**way) as lines:
        every: list[Line] = [await lines.relayed(there=True, back=True) for _ in range(200)]
        tasks = []
        for line in every:
            there, back = chance.randbytes(chance.randrange(40_000)), chance.randbytes(chance.randrange(40_000))
            tasks += [
                send_in_pieces(line.client, there, chance),
                send_in_pieces(line.origin, back, chance),
                line.origin.receives(there),
                line.client.receives(back),
            ]
        await all_of(*tasks)


@in_reactor
@EVERY_WAY
async def test_bytes_are_counted(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        half = line.front.half
        assert half is not None
        line.client.write(b"x" * 100_000)
        await line.origin.receives(b"x" * 100_000)
        assert half.relayed == 100_000


# Backpressure


@in_reactor
@EVERY_WAY
async def test_a_stalled_sink_stops_the_source_and_loses_nothing(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        for _ in range(3):
            line.origin.transport.pauseProducing()
            flood = Flood(line.client)
            before = len(line.origin.received)
            await flood.stalls()
            # Four kernel buffers of twice the size asked for, what the relay may hold, and Twisted's own buffers of the
            # ways that have some.
            assert len(flood.sent) < 8 * KERNEL_BUFFER + max(BUFFER_SIZE, PIPE_CAPACITY) + 1_000_000
            flood.end()
            line.origin.transport.resumeProducing()
            await line.origin.receives(bytes(line.origin.received[:before]) + flood.sent)


@in_reactor
@EVERY_WAY
async def test_a_stalled_direction_does_not_hold_up_the_other(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed(there=True, back=True)
        line.origin.transport.pauseProducing()
        flood = Flood(line.client)
        await flood.stalls()
        for number in range(20):
            line.origin.write(b"%02d" % number)
            await line.client.receives(b"".join(b"%02d" % earlier for earlier in range(number + 1)))
        flood.end()
        line.origin.transport.resumeProducing()
        await line.origin.receives(bytes(flood.sent))


# Orderly ends


@in_reactor
@PLAIN_WAYS
@pytest.mark.parametrize("client_first", [True, False])
async def test_a_half_close_passes_behind_the_last_byte_and_the_other_direction_lives_on(
    way: dict[str, Any], client_first: bool
) -> None:
    data = random.Random(3).randbytes(1_000_000)
    async with Lines(**way) as lines:
        line = await lines.relayed(there=True, back=True)
        first, last = (line.client, line.origin) if client_first else (line.origin, line.client)
        first_side, last_side = (line.front, line.back) if client_first else (line.back, line.front)
        last.transport.pauseProducing()
        first.write(data)
        first.transport.loseWriteConnection()
        await turns()
        assert not last_side.ended
        last.transport.resumeProducing()
        await last.receives(data)
        await until(lambda: last.read_ended, "the end of the first direction")
        assert await first_side.ends() is EndReason.EOF
        last.write(data)
        await first.receives(data)
        last.transport.loseWriteConnection()
        await until(lambda: first.read_ended, "the end of the second direction")
        assert await last_side.ends() is EndReason.EOF


@in_reactor
@EVERY_WAY
async def test_a_close_arrives_as_the_end_behind_the_last_byte(way: dict[str, Any]) -> None:
    data = random.Random(4).randbytes(1_000_000)
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.client.write(data)
        line.client.transport.loseConnection()
        assert await line.front.ends() is EndReason.EOF
        await line.origin.receives(data)
        await until(lambda: line.origin.read_ended, "the end")
        # In TLS an end without a goodbye would be a ConnectionLost.
        assert line.origin.lost is None or type(line.origin.lost) is ConnectionDone


@in_reactor
@EVERY_WAY
async def test_the_end_of_the_source_leaves_the_sink_open(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.front.passes_eof = False
        line.client.write(b"first, ")
        line.client.transport.loseConnection()
        assert await line.front.ends() is EndReason.EOF
        line.back.write(b"then ours")
        await line.origin.receives(b"first, then ours")
        assert not line.origin.read_ended


# Stopping


async def goes_on(line: Line, rest: bytes, expected: bytes) -> None:
    """After a stop, the owner can do by its own means what the relay did, and nothing is missing or double."""
    assert not line.front.ended
    line.back.write(rest)
    line.front.received.clear()
    line.front.pause_at(1)
    line.front.transport.resumeProducing()
    line.client.write(b"the last")
    while bytes(line.origin.received) != expected + b"the last":
        await until(lambda: line.front.received or line.origin.received == expected + b"the last", "more bytes")
        line.back.write(bytes(line.front.received))
        line.front.received.clear()
        line.front.pause_at(1)
        line.front.transport.resumeProducing()


@in_reactor
@EVERY_WAY
async def test_stop_while_the_sink_is_still_draining(way: dict[str, Any]) -> None:
    unsent = random.Random(5).randbytes(3_000_000)
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.transport.pauseProducing()
        line.back.write(unsent)
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, lines.bulk)
        line.client.write(b"not yet")
        await turns()
        half = line.front.half
        assert half is not None
        relayed = half.relayed
        rest = line.front.stop()
        line.client.write(b", or later")
        line.origin.transport.resumeProducing()
        await line.origin.receives_bytes(len(unsent))
        await turns()
        assert half.relayed == relayed
        await goes_on(line, rest, unsent + b"not yet, or later")


@in_reactor
@EVERY_WAY
async def test_stop_right_after_the_start(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        rest = line.front.stop()
        line.client.write(b"afterwards")
        await turns()
        assert line.front.received == b""
        await goes_on(line, rest, b"afterwards")


@in_reactor
@EVERY_WAY
async def test_stop_while_it_flows(way: dict[str, Any]) -> None:
    data = random.Random(6).randbytes(2_000_000)
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.client.write(data)
        await until(lambda: len(line.origin.received) > 500_000, "some of it")
        await goes_on(line, line.front.stop(), data)


@in_reactor
@EVERY_WAY
async def test_stop_while_the_sink_is_full_returns_what_is_held(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        half = line.front.half
        assert half is not None
        line.origin.transport.pauseProducing()
        flood = Flood(line.client)
        await flood.stalls()
        flood.end()
        relayed = half.relayed
        rest = line.front.stop()
        if not lines.portable:
            assert rest == flood.sent[relayed : relayed + len(rest)]
            assert 0 < len(rest) <= (PIPE_CAPACITY if lines.bulk else BUFFER_SIZE)
        line.origin.transport.resumeProducing()
        await goes_on(line, rest, bytes(flood.sent))


@in_reactor
@EVERY_WAY
async def test_a_direction_can_be_stopped_and_started_again_and_again(way: dict[str, Any]) -> None:
    data = random.Random(7).randbytes(3_000_000)
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.client.write(data)
        while len(line.origin.received) < len(data):
            await turns(2)
            rest = line.front.stop()
            line.back.write(rest)
            line.front.relay_to(line.back, lines.relay, lines.bulk)
        await line.origin.receives(data)


@in_reactor
@EVERY_WAY
async def test_stop_after_the_end_is_harmless(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        half = line.front.half
        assert half is not None
        line.client.transport.loseConnection()
        await line.front.ends()
        assert half.stop() == b""
        assert half.stop() == b""


@in_reactor
@EVERY_WAY
async def test_a_stopped_direction_tells_nothing_when_its_connections_break(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.front.stop()
        line.client.abort()
        line.origin.abort()
        await until(lambda: line.origin.lost, "the break")
        await turns()
        assert not line.front.ended


# Broken connections


@in_reactor
@EVERY_WAY
async def test_a_sink_that_was_lost_before_is_told_later(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.abort()
        await until(lambda: line.back.lost, "the loss of the sink")
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, lines.bulk)
        assert await line.front.ends() is EndReason.SINK_LOST


@in_reactor
@EVERY_WAY
async def test_a_sink_lost_while_it_drains_is_told(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.back.forgetful = True
        line.origin.transport.pauseProducing()
        line.back.write(b"x" * 3_000_000)
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, lines.bulk)
        await turns()
        line.origin.abort()
        assert await line.front.ends() is EndReason.SINK_LOST


@in_reactor
@EVERY_WAY
async def test_the_owner_hears_of_a_sink_lost_while_it_drains_before_the_observer(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.transport.pauseProducing()
        line.back.write(b"x" * 3_000_000)
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, lines.bulk)
        await turns()
        line.origin.abort()
        await until(lambda: line.back.lost, "the break")
        await turns()
        assert not line.front.ended


@PUMP_WAYS
async def test_a_source_lost_while_the_sink_drains_is_told_behind_it(way: dict[str, Any]) -> None:
    unsent = random.Random(8).randbytes(3_000_000)
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.transport.pauseProducing()
        line.back.write(unsent)
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, lines.bulk)
        line.client.abort()
        await turns()
        line.origin.transport.resumeProducing()
        await line.origin.receives(unsent)
        assert await line.front.ends() is EndReason.SOURCE_LOST


@in_reactor
@PUMP_WAYS
async def test_an_idle_source_that_breaks_is_told(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        await turns()
        line.client.abort()
        assert await line.front.ends() is EndReason.SOURCE_LOST


@in_reactor
@PUMP_WAYS
async def test_a_source_that_breaks_while_the_sink_is_full_is_told_at_once(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.origin.transport.pauseProducing()
        flood = Flood(line.client)
        await flood.stalls()
        line.client.abort()
        assert await line.front.ends() is EndReason.SOURCE_LOST


@in_reactor
@PUMP_WAYS
async def test_a_full_sink_that_breaks_is_told_at_once(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.back.transport.pauseProducing()
        line.origin.transport.pauseProducing()
        flood = Flood(line.client)
        await flood.stalls()
        line.origin.abort()
        assert await line.front.ends() is EndReason.SINK_LOST


@in_reactor
@PUMP_WAYS
async def test_an_idle_sink_that_broke_is_told_with_the_next_bytes(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.back.transport.pauseProducing()
        await turns()
        line.origin.abort()
        await until(lambda: line.origin.lost, "the break")
        line.client.write(b"too late")
        assert await line.front.ends() is EndReason.SINK_LOST


@in_reactor
@EVERY_WAY
async def test_the_owner_that_hears_of_a_break_first_stops_the_direction(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.relayed()
        line.origin.abort()
        await until(lambda: line.back.lost, "the break")
        await turns()
        assert not line.front.ended
        assert line.front.half is None


# The relay as a whole


@in_reactor
@EVERY_WAY
async def test_an_observer_that_fails_hurts_nobody_else(way: dict[str, Any], monkeypatch: Any) -> None:
    async with Lines(**way) as lines:
        bad, good = await lines.relayed(), await lines.relayed()

        def fail(half: object, reason: EndReason) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(bad.front, "relay_ended", fail)
        bad.client.transport.loseConnection()
        await until(lambda: lines.failures, "the log")
        good.client.write(b"well")
        await good.origin.receives(b"well")
        assert lines.failures.pop().check(ZeroDivisionError)
        bad.front.half = None


@in_reactor
@PLAIN_WAYS
async def test_behind_a_proxy_header(way: dict[str, Any]) -> None:
    async with Lines(**way, behind_haproxy=True) as lines:
        line = await lines.relayed(there=True, back=True)
        assert isinstance(line.front.half, PumpHalf) is not lines.portable
        assert isinstance(line.back.half, PumpHalf) is not lines.portable
        line.client.write(b"there")
        line.origin.write(b"and back")
        await line.origin.receives(b"there")
        await line.client.receives(b"and back")


@in_reactor
@EVERY_WAY
async def test_closing_the_relay_stops_what_runs(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line, draining = await lines.relayed(), await lines.line()
        draining.origin.transport.pauseProducing()
        draining.back.write(b"x" * 3_000_000)
        draining.front.transport.pauseProducing()
        draining.front.relay_to(draining.back, lines.relay, lines.bulk)
        await turns()
        if lines.portable:
            return
        lines.relay.close()
        lines.relay.close()
        draining.origin.transport.resumeProducing()
        line.client.write(b"nobody takes this")
        line.client.abort()
        draining.client.abort()
        await draining.origin.receives(b"x" * 3_000_000)
        await turns()
        assert not line.origin.received
        assert not line.front.ended
        assert not draining.front.ended
