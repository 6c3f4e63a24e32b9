"""Directions that end with a message, and the connections that outlive them."""

from __future__ import annotations

import contextlib
import gc
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from srsproxy.http.boundary import LAST_CHUNK, ChunkedBoundary, LengthBoundary
from srsproxy.interfaces import IBoundary
from srsproxy.relay.bounded import FRAMING_READ, MIN_SPLICE, BoundedHalf
from srsproxy.relay.halves import BUFFER_SIZE
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import PIPE_CAPACITY
from srsproxy.relay.portable import PortableHalf
from srsproxy.transports import raw_socket
from tests.asynchronous import in_reactor
from tests.relay.wires import Line, Lines, Side, fill_up, settled, turns, until

WAYS: dict[str, dict[str, Any]] = {
    "copy": {},
    "splice": {"bulk": True},
    "portable": {"portable": True},
    "tls": {"tls_client": True, "tls_origin": True},
}

EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
PUMP_WAYS = pytest.mark.parametrize("way", [WAYS["copy"], WAYS["splice"]], ids=["copy", "splice"])


def chunked(data: bytes, sizes: Callable[[], int]) -> bytes:
    """A chunked body that carries ``data``."""
    out = bytearray()
    at = 0
    while at < len(data):
        size = sizes()
        piece = data[at : at + size]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
        at += size
    return bytes(out) + LAST_CHUNK


def by_length(data: bytes) -> tuple[bytes, IBoundary]:
    """What goes over the wire, and its boundary."""
    return data, LengthBoundary(len(data))


def by_small_chunks(data: bytes) -> tuple[bytes, IBoundary]:
    chance = random.Random(len(data))
    return chunked(data, lambda: chance.choice((1, 9, 1000, MIN_SPLICE))), ChunkedBoundary()


def by_large_chunks(data: bytes) -> tuple[bytes, IBoundary]:
    chance = random.Random(len(data))
    return chunked(data, lambda: chance.choice((1, 20_000, 114_000, 400_000))), ChunkedBoundary()


FRAMINGS = pytest.mark.parametrize("framing", [by_length, by_small_chunks, by_large_chunks])
Framing = Callable[[bytes], tuple[bytes, IBoundary]]


def begin(lines: Lines, line: Line, boundary: IBoundary, back: bool = False) -> None:
    """Relay a message from the client to the origin, or ``back``."""
    source, sink = (line.back, line.front) if back else (line.front, line.back)
    source.transport.pauseProducing()
    source.relay_to(sink, lines.relay, lines.bulk, boundary)


async def completes(side: Side) -> None:
    """Wait until the message is complete, and forget that it was."""
    assert await side.ends() is EndReason.COMPLETE
    side.ended.clear()


def assert_idle(lines: Lines) -> None:
    """Nothing is left of any direction in the pump."""
    pump = lines.relay._pump
    if pump is not None:
        assert not any((pump._reading, pump._blocked, pump._sinks, pump._masks))


async def reads(side: Side, data: bytes) -> None:
    """Wait until the owner of a connection has read ``data``."""
    await until(lambda: side.received == data, f"{data!r}")


async def still_works(line: Line) -> None:
    """The owners use both connections in both ways."""
    for peer, side in ((line.client, line.front), (line.origin, line.back)):
        side.received.clear()
        peer.received.clear()
        side.transport.resumeProducing()
        side.write(b"from the owner")
        peer.write(b"to the owner")
        await peer.receives(b"from the owner")
        await reads(side, b"to the owner")


# Whole messages


@EVERY_WAY
@FRAMINGS
@pytest.mark.parametrize("size", [1, MIN_SPLICE, 100_000, 3_000_000])
@in_reactor
async def test_a_message_arrives_and_both_connections_live_on(way: dict[str, Any], framing: Framing, size: int) -> None:
    chance = random.Random(size)
    wire, boundary = framing(chance.randbytes(size))
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, boundary)
        half = line.front.half
        assert half is not None
        at = 0
        while at < len(wire):
            piece = wire[at : at + chance.choice((1, 1448, 70_000, 500_000))]
            line.client.write(piece)
            at += len(piece)
            await turns(2)
        await completes(line.front)
        await line.origin.receives(wire)
        assert half.relayed == len(wire)
        assert half.surplus is False
        assert_idle(lines)
        await still_works(line)


@EVERY_WAY
@in_reactor
async def test_a_message_may_be_cut_anywhere(way: dict[str, Any]) -> None:
    wire = b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n"
    async with Lines(**way) as lines:
        line = await lines.line()
        for cut in range(1, len(wire)):
            begin(lines, line, ChunkedBoundary())
            line.client.write(wire[:cut])
            await line.origin.receives_bytes(cut)
            assert not line.front.ended
            line.client.write(wire[cut:])
            await completes(line.front)
            await line.origin.receives(wire)
            line.origin.received.clear()


@EVERY_WAY
@in_reactor
async def test_a_message_goes_behind_what_was_written_before(way: dict[str, Any]) -> None:
    unsent = random.Random(1).randbytes(3_000_000)
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.transport.pauseProducing()
        line.back.write(unsent)
        begin(lines, line, LengthBoundary(4))
        line.client.write(b"body")
        await turns()
        line.origin.transport.resumeProducing()
        await completes(line.front)
        await line.origin.receives(unsent + b"body")


@EVERY_WAY
@pytest.mark.parametrize("sent", [LAST_CHUNK, b"nonsense\r\n"])
@in_reactor
async def test_the_source_stays_paused_until_its_owner_resumes_it(way: dict[str, Any], sent: bytes) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, ChunkedBoundary())
        line.client.write(sent)
        assert await line.front.ends() is (EndReason.COMPLETE if sent == LAST_CHUNK else EndReason.MALFORMED)
        line.client.write(b"next")
        await settled(lambda: len(line.front.received))
        assert not line.front.received
        line.front.transport.resumeProducing()
        await reads(line.front, b"next")


@EVERY_WAY
@in_reactor
async def test_requests_and_responses_in_turn_over_the_same_connections(way: dict[str, Any]) -> None:
    chance = random.Random(2)
    async with Lines(**way) as lines:
        line = await lines.line()
        for framing in (by_length, by_large_chunks, by_small_chunks) * 4:
            for peer, side, other_peer, back in (
                (line.client, line.front, line.origin, False),
                (line.origin, line.back, line.client, True),
            ):
                wire, boundary = framing(chance.randbytes(chance.choice((10, 5_000, 300_000))))
                # Heads are the owners' matter.
                side.transport.resumeProducing()
                side.pause_at(4)
                peer.write(b"head")
                await reads(side, b"head")
                (line.front if back else line.back).write(bytes(side.received))
                side.received.clear()
                begin(lines, line, boundary, back)
                peer.write(wire)
                await completes(side)
                await other_peer.receives(b"head" + wire)
                other_peer.received.clear()
        assert_idle(lines)


@EVERY_WAY
@in_reactor
async def test_both_directions_at_once_and_only_one_of_them_ends(way: dict[str, Any]) -> None:
    there, back = random.Random(3).randbytes(1_000_000), random.Random(4).randbytes(1_000_000)
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(len(there)))
        begin(lines, line, LengthBoundary(2 * len(back)), back=True)
        line.client.write(there)
        line.origin.write(back)
        await completes(line.front)
        await line.origin.receives(there)
        # The front's connection is nothing but a sink now, and its owner's to read.
        line.front.transport.resumeProducing()
        line.client.write(b"next")
        await reads(line.front, b"next")
        line.origin.write(back)
        await completes(line.back)
        await line.client.receives(back + back)
        assert_idle(lines)


@EVERY_WAY
@in_reactor
async def test_the_next_message_can_be_relayed_from_within_the_end_of_the_one_before(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.front.following = [LengthBoundary(100_000), ChunkedBoundary(), LengthBoundary(1)]
        begin(lines, line, LengthBoundary(5))
        sent = b""
        for wire in (b"first", b"x" * 100_000, chunked(b"y" * 9_000, lambda: 5_000), b"z"):
            line.client.write(wire)
            sent += wire
            await line.origin.receives(sent)
            await completes(line.front)
        assert_idle(lines)


@EVERY_WAY
@in_reactor
async def test_two_hundred_messages_leave_nothing_behind(way: dict[str, Any]) -> None:
    def halves() -> int:
        return sum(isinstance(thing, (BoundedHalf, PortableHalf)) for thing in gc.get_objects())

    async with Lines(**way) as lines:
        line = await lines.line()
        gc.collect()
        before = halves()
        gc.disable()
        try:
            for number in range(200):
                data = b"x" * (1 + 100 * number)
                wire, boundary = by_large_chunks(data) if number % 2 else by_length(data)
                begin(lines, line, boundary)
                line.client.write(wire)
                await completes(line.front)
                await line.origin.receives(wire)
                line.origin.received.clear()
            assert halves() == before
        finally:
            gc.enable()
        assert_idle(lines)


# Beyond the message


@PUMP_WAYS
@in_reactor
async def test_what_follows_a_message_of_known_length_is_the_owners_to_read(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(100_000))
        half = line.front.half
        assert half is not None
        line.client.write(b"x" * 100_000 + b"the next request")
        await completes(line.front)
        await line.origin.receives(b"x" * 100_000)
        assert half.surplus is False
        assert not line.front.received
        line.front.transport.resumeProducing()
        await reads(line.front, b"the next request")


@EVERY_WAY
@in_reactor
async def test_what_was_read_beyond_a_message_is_dropped_and_told(way: dict[str, Any]) -> None:
    wire = b"3\r\nabc\r\n" + LAST_CHUNK
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, ChunkedBoundary())
        half = line.front.half
        assert half is not None
        line.client.write(wire + b"more")
        await completes(line.front)
        assert half.surplus is True
        await line.origin.receives(wire)
        assert half.relayed == len(wire)
        await still_works(line)


@EVERY_WAY
@in_reactor
async def test_what_is_no_message_ends_the_direction_and_is_not_passed_on(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, ChunkedBoundary())
        line.client.write(b"3\r\nabc\r\n")
        await line.origin.receives(b"3\r\nabc\r\n")
        line.client.write(b"3\r\nabcd\r\n")
        assert await line.front.ends() is EndReason.MALFORMED
        await line.origin.receives(b"3\r\nabc\r\n")
        assert_idle(lines)
        await still_works(line)


# A slow sink


async def hold_up(line: Line, size: int) -> bytes:
    """Stall the origin and send so much that the relay cannot pass all of it on; returns what was sent."""
    line.origin.transport.pauseProducing()
    data = random.Random(size).randbytes(size)
    line.client.write(data)
    half = line.front.half
    assert half is not None
    await settled(lambda: half.relayed)
    return data


async def fill_kernel(side: Side) -> int:
    """Write behind the transport's back until the kernel takes no more; returns how much it took."""
    connection = raw_socket(side.transport)
    assert connection is not None
    taken, before = 0, -1
    while taken != before:
        before = taken
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += connection.send(b"x" * BUFFER_SIZE)
    return taken


@PUMP_WAYS
@in_reactor
async def test_a_message_is_complete_when_a_slow_sink_has_all_of_it(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(5_000_000))
        data = await hold_up(line, 5_000_000)
        assert not line.front.ended
        line.origin.transport.resumeProducing()
        await completes(line.front)
        await line.origin.receives(data)
        assert_idle(lines)
        await still_works(line)


@PUMP_WAYS
@in_reactor
async def test_a_message_whose_end_is_held_for_a_slow_sink_is_not_complete(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        boundary = LengthBoundary(5_000_000)
        begin(lines, line, boundary)
        data = await hold_up(line, 5_000_000)
        half = line.front.half
        assert half is not None
        relayed = half.relayed
        boundary.opaque = 0  # The message ends with what is held.
        await turns()
        assert not line.front.ended
        line.origin.transport.resumeProducing()
        await completes(line.front)
        assert half.relayed > relayed
        await line.origin.receives(data[: half.relayed])
        assert_idle(lines)


@PUMP_WAYS
@in_reactor
async def test_a_message_whose_last_read_does_not_fit_into_the_sink_is_not_complete(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(MIN_SPLICE))
        line.origin.transport.pauseProducing()
        await turns()
        full = await fill_kernel(line.back)
        line.client.write(b"y" * MIN_SPLICE)
        await turns()
        assert not line.front.ended
        line.origin.transport.resumeProducing()
        await completes(line.front)
        await line.origin.receives(b"x" * full + b"y" * MIN_SPLICE)
        assert_idle(lines)


@EVERY_WAY
@FRAMINGS
@in_reactor
async def test_a_stalled_sink_loses_nothing(way: dict[str, Any], framing: Framing) -> None:
    wire, boundary = framing(random.Random(5).randbytes(2_000_000))
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, boundary)
        line.origin.transport.pauseProducing()
        line.client.write(wire)
        await settled(lambda: line.front.half.relayed if line.front.half else 0)
        assert not line.front.ended
        for _ in range(5):
            line.origin.transport.resumeProducing()
            await turns(5)
            line.origin.transport.pauseProducing()
            await turns(5)
        line.origin.transport.resumeProducing()
        await line.origin.receives(wire)
        await completes(line.front)
        await still_works(line)


# Stopping


@EVERY_WAY
@FRAMINGS
@in_reactor
async def test_a_message_can_be_stopped_and_gone_on_with(way: dict[str, Any], framing: Framing) -> None:
    wire, boundary = framing(random.Random(6).randbytes(2_000_000))
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, boundary)
        line.client.write(wire)
        while len(line.origin.received) < len(wire):
            await turns(3)
            line.back.write(line.front.stop())
            if not boundary.complete and not line.front.ended:
                begin(lines, line, boundary)
        await line.origin.receives(wire)
        await turns()
        assert line.front.ended in ([], [EndReason.COMPLETE])
        line.front.stop()
        assert_idle(lines)


@PUMP_WAYS
@in_reactor
async def test_stopping_returns_what_is_held_and_both_can_be_closed(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(5_000_000))
        data = await hold_up(line, 5_000_000)
        half = line.front.half
        assert half is not None
        relayed = half.relayed
        rest = line.front.stop()
        assert rest == data[relayed : relayed + len(rest)]
        assert 0 < len(rest) <= (PIPE_CAPACITY if lines.bulk else BUFFER_SIZE)
        assert_idle(lines)
        line.front.abort()
        line.back.abort()
        await until(lambda: line.front.gone and line.back.gone, "the closing")
        assert not line.front.ended


# Messages that do not end


@EVERY_WAY
@pytest.mark.parametrize(("sent", "between"), [(b"3\r\nabc\r\n", True), (b"3\r\nab", False), (b"3\r\nabc\r\n5", False)])
@in_reactor
async def test_the_owner_of_a_message_that_was_cut_off_can_ask_the_boundary_where(
    way: dict[str, Any], sent: bytes, between: bool
) -> None:
    boundary = ChunkedBoundary()
    async with Lines(**way) as lines:
        line = await lines.line()
        line.front.passes_eof = False
        begin(lines, line, boundary)
        line.client.write(sent)
        line.client.transport.loseConnection()
        assert await line.front.ends() is EndReason.EOF
        assert boundary.between_chunks is between
        assert not boundary.complete
        line.back.write(LAST_CHUNK)
        await line.origin.receives(sent + LAST_CHUNK)
        assert_idle(lines)


@EVERY_WAY
@in_reactor
async def test_a_message_of_known_length_that_was_cut_off_is_not_complete(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(100_000))
        line.client.write(b"x" * 99_999)
        line.client.transport.loseConnection()
        assert await line.front.ends() is EndReason.EOF
        await line.origin.receives(b"x" * 99_999)


@PUMP_WAYS
@in_reactor
async def test_a_source_that_breaks_within_a_message_is_told(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(100_000))
        line.client.write(b"x" * 50_000)
        await line.origin.receives_bytes(50_000)
        line.client.abort()
        assert await line.front.ends() is EndReason.SOURCE_LOST
        assert_idle(lines)


@PUMP_WAYS
@pytest.mark.parametrize("size", [100, 5_000_000])
@in_reactor
async def test_a_sink_that_breaks_within_a_message_is_told(way: dict[str, Any], size: int) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(size))
        line.back.transport.pauseProducing()
        await turns()
        if size > BUFFER_SIZE:
            await hold_up(line, size)
        line.origin.abort()
        await until(lambda: line.origin.lost, "the break")
        line.client.write(b"x" * size)
        assert await line.front.ends() is EndReason.SINK_LOST
        assert_idle(lines)


@EVERY_WAY
@in_reactor
async def test_an_owner_that_hears_first_that_a_sink_broke_stops_the_message(way: dict[str, Any]) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(10))
        line.client.write(b"12345")
        await line.origin.receives(b"12345")
        line.origin.abort()
        await until(lambda: line.back.lost, "the break")
        line.client.write(b"67890")
        await turns()
        assert not line.front.ended
        assert_idle(lines)


@in_reactor
async def test_the_last_bytes_for_a_sink_that_is_lost_do_not_complete_the_message() -> None:
    async with Lines(portable=True) as lines:
        line = await lines.line()
        line.back.forgetful = True
        begin(lines, line, LengthBoundary(4))
        half = line.front.half
        assert half is not None
        transport: Any = line.back.transport
        transport.connectionLost(Failure(ConnectionAborted()))
        half.data_received(b"last")
        assert not line.front.ended
        assert await line.front.ends() is EndReason.SINK_LOST


# How it is done


class Splices:
    """Counts what is spliced out of sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.moved = 0
        real = os.splice

        def counting(source: int, sink: int, count: int, flags: int) -> int:
            moved = real(source, sink, count, flags=flags)
            self.asked.append(count)
            self.moved += moved
            return moved

        monkeypatch.setattr(os, "splice", counting)


@in_reactor
async def test_large_chunks_are_spliced_but_for_their_framing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(7).randbytes(1_140_000)
    wire = chunked(data, lambda: 114_000)
    splices = Splices(monkeypatch)
    async with Lines(bulk=True) as lines:
        line = await lines.line()
        begin(lines, line, ChunkedBoundary())
        line.client.write(wire)
        await completes(line.front)
        await line.origin.receives(wire)
        assert max(splices.asked) <= len(b"1bd50\r\n") + 114_000 + len(b"\r\n")
        # Each byte goes into a pipe and out of it.
        assert splices.moved >= 2 * (len(data) - 10 * (FRAMING_READ + MIN_SPLICE))


@in_reactor
async def test_small_chunks_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = chunked(b"x" * 100_000, lambda: MIN_SPLICE - 1)
    splices = Splices(monkeypatch)
    async with Lines(bulk=True) as lines:
        line = await lines.line()
        begin(lines, line, ChunkedBoundary())
        line.client.write(wire)
        await completes(line.front)
        await line.origin.receives(wire)
        assert not splices.asked


@pytest.mark.parametrize("reason", ["none on this platform", "not bulk", "no descriptors"])
@in_reactor
async def test_without_splice_all_is_copied(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    wire, boundary = by_large_chunks(b"x" * 1_000_000)
    splices = Splices(monkeypatch)
    if reason == "none on this platform":
        monkeypatch.delattr(os, "splice")
    elif reason == "no descriptors":
        monkeypatch.setattr(os, "pipe2", none_left)
    async with Lines(bulk=reason != "not bulk") as lines:
        line = await lines.line()
        begin(lines, line, boundary)
        line.client.write(wire)
        await completes(line.front)
        await line.origin.receives(wire)
        assert not splices.asked


@in_reactor
async def test_a_bounded_direction_is_not_delayed() -> None:
    async with Lines(flush_interval=0.01) as lines:
        line = await lines.line()
        begin(lines, line, LengthBoundary(10))
        assert type(line.front.half) is BoundedHalf


@PUMP_WAYS
@in_reactor
async def test_a_bug_of_a_boundary_ends_its_direction_and_no_other(
    way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Buggy(ChunkedBoundary):
        def inspect(self, view: memoryview) -> int:
            raise ZeroDivisionError

    async with Lines(**way) as lines:
        bad, good = await lines.line(), await lines.line()
        begin(lines, bad, Buggy())
        begin(lines, good, LengthBoundary(4))
        bad.client.write(b"3\r\n")
        assert await bad.front.ends() is EndReason.SOURCE_LOST
        good.client.write(b"good")
        await completes(good.front)
        await good.origin.receives(b"good")
        assert [failure.type for failure in lines.failures] == [ZeroDivisionError]
        lines.failures.clear()


# Who is waited for


@EVERY_WAY
@pytest.mark.parametrize("bounded", [True, False])
@in_reactor
async def test_a_direction_is_blocked_as_long_as_its_sink_takes_nothing(way: dict[str, Any], bounded: bool) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.front.transport.pauseProducing()
        boundary = LengthBoundary(1 << 30) if bounded else None
        half = line.front.relay_to(line.back, lines.relay, lines.bulk, boundary)
        sent = await fill_up(line)
        assert half.blocked
        line.origin.transport.resumeProducing()
        await line.origin.receives(sent)
        await until(lambda: not half.blocked, "the sink takes more")
        line.client.write(b"x")
        await line.origin.receives(sent + b"x")
        # Nothing comes: that is not the sink's fault.
        assert not half.blocked


@PUMP_WAYS
@pytest.mark.parametrize("bounded", [True, False])
@in_reactor
async def test_it_is_while_the_sink_has_bytes_of_its_own_to_write(way: dict[str, Any], bounded: bool) -> None:
    async with Lines(**way) as lines:
        line = await lines.line()
        line.origin.transport.pauseProducing()
        own = b"y" * (8 << 20)
        line.back.write(own)
        line.front.transport.pauseProducing()
        half = line.front.relay_to(line.back, lines.relay, lines.bulk, LengthBoundary(1) if bounded else None)
        line.client.write(b"x")
        await turns()
        assert half.blocked
        assert half.relayed == 0
        line.origin.transport.resumeProducing()
        await line.origin.receives(own + b"x")
        assert not half.blocked
