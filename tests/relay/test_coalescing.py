"""Directions of many small writes are served once per flush interval, and only those.

The sockets are real and served by the real reactor; the time that the coalescer knows is the test's.
"""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from srsproxy.relay import coalescing
from srsproxy.relay.coalescing import ENTRY_READS, ENTRY_SPAN, STAY_READS, SURVEY_INTERVAL, Coalescer, CoalescingHalf
from srsproxy.relay.halves import BUFFER_SIZE
from srsproxy.relay.model import EndReason
from srsproxy.relay.private_epoll import MAX_BATCH
from srsproxy.relay.pump import Pump
from srsproxy.relay.stream import StreamRelay
from tests.asynchronous import in_reactor
from tests.relay.wires import Flood, Line, Lines, reactor, turns, until

FLUSH_INTERVAL = 0.01


class Coalesced(Lines):
    """Lines that are coalesced by the clock of a test."""

    def __init__(self, flush_interval: float = FLUSH_INTERVAL) -> None:
        self.clock = Clock()
        pump = Pump(reactor)
        self.flush_interval = flush_interval
        self.coalescer = Coalescer(self.clock, pump, flush_interval)
        super().__init__(relay=StreamRelay(reactor, pump, self.coalescer))

    def is_delayed(self, line: Line) -> bool:
        return line.front.half in self.coalescer._members.values()

    async def fast_line(self, reads: int = ENTRY_READS) -> Line:
        """A line whose direction has just been found worth delaying."""
        line = await self.relayed()
        await self.send_singly(line, reads, 0.0)
        assert self.is_delayed(line)
        line.origin.received.clear()
        line.origin.reads = 0
        return line

    async def send_singly(self, line: Line, count: int, pause: float) -> None:
        """Send bytes one at a time, each when the one before has arrived and ``pause`` has passed."""
        for _ in range(count):
            expected = len(line.origin.received) + 1
            line.client.write(b"x")
            await line.origin.receives_bytes(expected)
            self.clock.advance(pause)

    async def flush(self) -> None:
        """Let one flush interval pass, when the kernel has all that the clients wrote."""
        await turns()
        self.clock.advance(self.flush_interval)


@in_reactor
async def test_what_a_fast_direction_writes_in_an_interval_arrives_at_its_end_as_one() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        for number in range(3):
            for piece in (b"a", b"b", b"c"):
                line.client.write(piece)
                await turns()
            assert line.origin.reads == number
            await lines.flush()
            await line.origin.receives(b"abc" * (number + 1))


@in_reactor
async def test_a_slow_direction_never_waits() -> None:
    async with Coalesced() as lines:
        line = await lines.relayed()
        await lines.send_singly(line, 3 * ENTRY_READS, 1.1 * ENTRY_SPAN / ENTRY_READS)
        assert not lines.is_delayed(line)
        assert not lines.clock.getDelayedCalls()


@in_reactor
async def test_a_direction_that_becomes_fast_is_found() -> None:
    async with Coalesced() as lines:
        line = await lines.relayed()
        await lines.send_singly(line, ENTRY_READS, 1.1 * ENTRY_SPAN / ENTRY_READS)
        assert not lines.is_delayed(line)
        await lines.send_singly(line, ENTRY_READS, 0.0)
        assert lines.is_delayed(line)


@in_reactor
async def test_a_direction_is_judged_from_its_own_beginning() -> None:
    async with Coalesced() as lines:
        lines.clock.advance(1000)
        await lines.fast_line()


@in_reactor
async def test_bulk_is_not_delayed() -> None:
    async with Coalesced() as lines:
        lines.bulk = True
        line = await lines.relayed()
        await lines.send_singly(line, 3 * ENTRY_READS, 0.0)
        assert not isinstance(line.front.half, CoalescingHalf)


@in_reactor
async def test_a_direction_that_falls_silent_is_let_go_and_its_next_byte_does_not_wait() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        for sent in range(1, int(1.1 * SURVEY_INTERVAL / FLUSH_INTERVAL)):
            line.client.write(b"x")
            await lines.flush()
            await line.origin.receives_bytes(sent)
        assert lines.is_delayed(line)
        lines.clock.pump([FLUSH_INTERVAL] * int(1.9 * SURVEY_INTERVAL / FLUSH_INTERVAL))
        assert not lines.is_delayed(line)
        assert not lines.clock.getDelayedCalls()
        line.origin.received.clear()
        line.client.write(b"at once")
        await line.origin.receives(b"at once")


@pytest.mark.parametrize(("intervals_with_data", "stays"), [(STAY_READS - 1, False), (STAY_READS, True)])
@in_reactor
async def test_a_direction_stays_delayed_for_as_long_as_it_is_worth_it(intervals_with_data: int, stays: bool) -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        for _ in range(3):
            begin = lines.clock.seconds()
            if not lines.is_delayed(line):
                break
            for _ in range(intervals_with_data):
                expected = len(line.origin.received) + 1
                line.client.write(b"x")
                await lines.flush()
                await line.origin.receives_bytes(expected)
            while lines.clock.seconds() < begin + SURVEY_INTERVAL:
                lines.clock.advance(FLUSH_INTERVAL)
        assert lines.is_delayed(line) is stays


@in_reactor
async def test_a_direction_that_entered_right_before_a_survey_is_not_judged_by_it() -> None:
    async with Coalesced() as lines:
        await lines.fast_line()
        lines.clock.pump([FLUSH_INTERVAL] * (int(SURVEY_INTERVAL / FLUSH_INTERVAL) - 2))
        late = await lines.fast_line()
        lines.clock.pump([FLUSH_INTERVAL] * 4)
        assert lines.is_delayed(late)
        lines.clock.pump([FLUSH_INTERVAL] * int(1.1 * SURVEY_INTERVAL / FLUSH_INTERVAL))
        assert not lines.is_delayed(late)


@in_reactor
async def test_a_direction_that_was_let_go_can_come_back() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        lines.clock.pump([FLUSH_INTERVAL] * int(1.1 * SURVEY_INTERVAL / FLUSH_INTERVAL))
        await lines.send_singly(line, ENTRY_READS - 1, 0.0)
        assert not lines.is_delayed(line)
        await lines.send_singly(line, 1, 0.0)
        assert lines.is_delayed(line)


@in_reactor
async def test_a_direction_with_more_than_a_buffer_per_interval_is_let_go() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        data = random.Random(1).randbytes(20 * BUFFER_SIZE)
        line.client.write(data)
        await turns()
        await lines.flush()
        await line.origin.receives(data)


@in_reactor
async def test_a_direction_that_is_let_go_as_too_fast_can_come_back_however_long_it_was_delayed() -> None:
    async with Coalesced(flush_interval=0.001) as lines:
        line = await lines.fast_line()
        for _ in range(ENTRY_READS + 1):
            line.client.write(b"x")
            await lines.flush()
        assert lines.is_delayed(line)
        line.client.write(b"x" * 2 * BUFFER_SIZE)
        while lines.is_delayed(line):
            await lines.flush()
        await line.origin.receives_bytes(ENTRY_READS + 1 + 2 * BUFFER_SIZE)
        for _ in range(ENTRY_READS):
            if not lines.is_delayed(line):
                await lines.send_singly(line, 1, 0.0)
        assert lines.is_delayed(line)


@in_reactor
async def test_the_flushing_keeps_to_the_calendar() -> None:
    async with Coalesced() as lines:
        await lines.fast_line()
        for flushes in range(1, 11):
            (call,) = lines.clock.getDelayedCalls()
            assert call.getTime() == pytest.approx(flushes * FLUSH_INTERVAL)
            lines.clock.advance(call.getTime() - lines.clock.seconds() + 0.4 * FLUSH_INTERVAL)


@in_reactor
async def test_a_reactor_that_is_far_behind_flushes_once() -> None:
    async with Coalesced() as lines:
        await lines.fast_line()
        lines.clock.advance(7.5 * FLUSH_INTERVAL)
        (call,) = lines.clock.getDelayedCalls()
        assert call.getTime() == pytest.approx(8.5 * FLUSH_INTERVAL)


@in_reactor
async def test_more_directions_than_a_batch_are_all_served_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "ENTRY_READS", 1)
    async with Coalesced() as lines:
        every = [await lines.fast_line(1) for _ in range(MAX_BATCH + 5)]
        for line in every:
            line.client.write(b"me too")
        await lines.flush()
        lines.clock.advance(0)
        for line in every:
            await line.origin.receives(b"me too")


# Ends, while delayed


@in_reactor
async def test_the_end_of_a_delayed_source_comes_with_the_flush() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.client.write(b"the last words")
        line.client.transport.loseConnection()
        await turns()
        assert not line.front.ended
        await lines.flush()
        await line.origin.receives(b"the last words")
        await lines.flush()
        assert await line.front.ends() is EndReason.EOF
        lines.clock.advance(FLUSH_INTERVAL)
        assert not lines.clock.getDelayedCalls()


@in_reactor
async def test_a_direction_that_ends_with_the_read_that_made_it_fast_is_left_alone() -> None:
    async with Coalesced() as lines:
        line = await lines.relayed()
        await lines.send_singly(line, ENTRY_READS - 1, 0.0)
        line.client.transport.loseConnection()
        assert await line.front.ends() is EndReason.EOF
        assert not lines.clock.getDelayedCalls()


@in_reactor
async def test_a_direction_whose_sink_fills_with_the_read_that_made_it_fast_is_not_delayed() -> None:
    async with Coalesced() as lines:
        line = await lines.relayed()
        line.origin.transport.pauseProducing()
        flood = Flood(line.client)
        await flood.stalls()
        half = line.front.half
        assert isinstance(half, CoalescingHalf)
        lines.coalescer.consider(half)
        assert not lines.is_delayed(line)
        flood.end()
        line.origin.transport.resumeProducing()
        await line.origin.receives(bytes(flood.sent))


@in_reactor
async def test_the_break_of_a_delayed_source_comes_with_the_flush() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.client.abort()
        await lines.flush()
        assert await line.front.ends() is EndReason.SOURCE_LOST


@in_reactor
async def test_the_break_of_a_sink_is_told_with_the_next_flush() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.back.transport.pauseProducing()
        line.origin.abort()
        line.client.write(b"too late")
        await lines.flush()
        assert await line.front.ends() is EndReason.SINK_LOST


@in_reactor
async def test_a_delayed_direction_whose_sink_is_full_goes_on_without_delay_when_it_is_not() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.origin.transport.pauseProducing()
        sent = bytearray()
        while lines.is_delayed(line):
            piece = len(sent).to_bytes(4, "big") * 1024
            line.client.write(piece)
            sent += piece
            await lines.flush()
        line.client.write(b"at once")
        await lines.flush()
        line.origin.transport.resumeProducing()
        await line.origin.receives(bytes(sent) + b"at once")


@in_reactor
async def test_stop_of_a_delayed_direction_leaves_what_has_come_to_the_transport() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.client.write(b"not yet looked at")
        await turns()
        assert line.front.stop() == b""
        line.front.transport.resumeProducing()
        await until(lambda: line.front.received == b"not yet looked at", "what came")
        await lines.flush()
        assert not lines.clock.getDelayedCalls()


@in_reactor
async def test_closing_stops_what_is_delayed() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.client.write(b"nobody takes this")
        lines.relay.close()
        assert not lines.clock.getDelayedCalls()
        await turns()
        assert not line.origin.received
        assert not line.front.ended


@in_reactor
async def test_an_owner_that_forgets_to_stop_a_delayed_direction_does_not_disturb_those_who_get_its_numbers() -> None:
    async with Coalesced() as lines:
        old = await lines.fast_line()
        old.front.forgetful = old.back.forgetful = True
        old.front.abort()
        old.back.abort()
        await until(lambda: old.front.gone and old.back.gone, "the closing")
        new = [await lines.fast_line() for _ in range(2)]
        for line in new:
            line.client.write(b"news")
        await lines.flush()
        for line in new:
            await line.origin.receives(b"news")
        lines.clock.pump([FLUSH_INTERVAL] * int(1.1 * SURVEY_INTERVAL / FLUSH_INTERVAL))
        assert await old.front.ends() is EndReason.SOURCE_LOST


@in_reactor
async def test_an_owner_that_closes_a_delayed_source_and_forgets_to_stop_is_told_at_the_survey() -> None:
    async with Coalesced() as lines:
        line = await lines.fast_line()
        line.front.forgetful = True
        line.front.abort()
        await until(lambda: line.front.gone, "the closing")
        lines.clock.pump([FLUSH_INTERVAL] * int(1.1 * SURVEY_INTERVAL / FLUSH_INTERVAL))
        assert await line.front.ends() is EndReason.SOURCE_LOST


@in_reactor
async def test_a_bug_ends_its_delayed_direction_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Coalesced() as lines:
        bad, good = await lines.fast_line(), await lines.fast_line()
        broken = bad.front.half
        pull = CoalescingHalf.pull

        def fail(half: CoalescingHalf) -> None:
            if half is broken:
                raise ZeroDivisionError
            pull(half)

        monkeypatch.setattr(CoalescingHalf, "pull", fail)
        bad.client.write(b"bad")
        good.client.write(b"good")
        await lines.flush()
        assert await bad.front.ends() is EndReason.SOURCE_LOST
        await good.origin.receives(b"good")
        assert [failure.type for failure in lines.failures] == [ZeroDivisionError]
        lines.failures.clear()


# In real time


@in_reactor
async def test_an_encoders_stream_costs_fewer_deliveries_and_arrives_soon() -> None:
    async with Lines(flush_interval=0.005) as lines:
        line = await lines.relayed()
        writes, latest = 0, 0.0
        end = reactor.seconds() + 1.5
        while reactor.seconds() < end:
            line.client.write(b"piece of a frame")
            writes += 1
            sent = reactor.seconds()
            await turns(3)
            if writes % 10 == 0:
                await line.origin.receives_bytes(writes * len(b"piece of a frame"))
                latest = max(latest, reactor.seconds() - sent)
        await line.origin.receives(b"piece of a frame" * writes)
        assert line.origin.reads < 0.7 * writes
        # Twenty intervals, for a machine that has other things to do.
        assert latest < 0.1
