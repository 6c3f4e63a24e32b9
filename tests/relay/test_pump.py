"""What only the pump does: watching sockets by number, splicing, surviving bugs and running out of things."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import tracemalloc
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from srsproxy.relay.halves import BUFFER_SIZE, PumpHalf, SplicingHalf
from srsproxy.relay.model import EndReason
from srsproxy.relay.pipes import MAX_SPARE_PIPES, Pipe, PipePool
from srsproxy.relay.portable import PortableHalf
from srsproxy.relay.private_epoll import MAX_BATCH
from srsproxy.relay.pump import Pump
from srsproxy.relay.stream import build_relay
from srsproxy.transports import close_write, raw_socket
from tests.asynchronous import in_reactor
from tests.relay.wires import Flood, Line, Lines, Side, fill_up, reactor, turns, until

BOTH_MODES = pytest.mark.parametrize("bulk", [False, True], ids=["copy", "splice"])


def descriptor(side: Side) -> int:
    connection = raw_socket(side.transport)
    assert connection is not None
    return connection.fileno()


async def fill(line: Line) -> Flood:
    """Stall the origin and send until the relay has to hold something."""
    line.origin.transport.pauseProducing()
    flood = Flood(line.client)
    await flood.stalls()
    flood.end()
    return flood


class Rounds:
    """Counts how often the reactor has the pump look for events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = Pump.doRead

        def counting(pump: Pump) -> None:
            self.count += 1
            real(pump)

        monkeypatch.setattr(Pump, "doRead", counting)

    async def assert_idle(self) -> None:
        """A pump that is told of something that it does not act upon is told so again in each turn of the reactor."""
        await turns(5)
        before = self.count
        await turns(50)
        assert self.count - before < 10


# Which way is taken


def test_without_epoll_the_relay_is_twisteds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    relay = build_relay(reactor)
    assert relay._pump is None
    relay.close()


@pytest.mark.parametrize(("bulk", "kind"), [(False, PumpHalf), (True, SplicingHalf)])
@in_reactor
async def test_small_writes_are_copied_and_bulk_is_spliced(bulk: bool, kind: type[PumpHalf]) -> None:
    async with Lines(bulk=bulk) as lines:
        line = await lines.relayed()
        assert type(line.front.half) is kind


@in_reactor
async def test_without_splice_bulk_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice")
    async with Lines(bulk=True) as lines:
        line = await lines.relayed()
        assert type(line.front.half) is PumpHalf
        line.client.write(b"all the same")
        await line.origin.receives(b"all the same")


@pytest.mark.parametrize("which", ["client", "origin"])
@in_reactor
async def test_one_transport_in_tls_is_enough_for_the_portable_way(which: str) -> None:
    async with Lines(tls_client=which == "client", tls_origin=which == "origin") as lines:
        line = await lines.relayed(there=True, back=True)
        assert isinstance(line.front.half, PortableHalf)
        assert isinstance(line.back.half, PortableHalf)
        line.client.write(b"there")
        line.origin.write(b"and back")
        await line.origin.receives(b"there")
        await line.client.receives(b"and back")


# Idle means idle


@in_reactor
async def test_nothing_runs_while_nothing_is_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Lines() as lines:
        line = await lines.relayed(there=True, back=True)
        line.client.write(b"once")
        await line.origin.receives(b"once")
        await rounds.assert_idle()


@BOTH_MODES
@in_reactor
async def test_a_full_sink_keeps_nothing_busy(bulk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Lines(bulk=bulk) as lines:
        line = await lines.relayed()
        sent = await fill_up(line) + b"unread"
        line.client.write(b"unread")
        await rounds.assert_idle()
        line.origin.transport.resumeProducing()
        await line.origin.receives(sent)
        await rounds.assert_idle()


@BOTH_MODES
@in_reactor
async def test_a_source_shut_in_both_directions_keeps_nothing_busy_and_loses_nothing(
    bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(monkeypatch)
    async with Lines(bulk=bulk) as lines:
        line = await lines.relayed()
        sent = await fill_up(line) + b"unread"
        line.client.write(b"unread")
        line.client.transport.loseWriteConnection()
        # Now the kernel reports a hang-up whether one asks or not, while there is still something to read.
        close_write(line.front.transport)
        await until(lambda: line.client.read_ended, "the client's own end")
        await rounds.assert_idle()
        assert not line.front.ended
        line.origin.transport.resumeProducing()
        await line.origin.receives(sent)
        assert await line.front.ends() is EndReason.EOF


@BOTH_MODES
@in_reactor
async def test_broken_connections_keep_nothing_busy(bulk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Lines(bulk=bulk) as lines:
        for broken in ("client", "origin"):
            line = await lines.relayed()
            line.front.transport.pauseProducing()
            line.back.transport.pauseProducing()
            await fill(line)
            getattr(line, broken).abort()
            await line.front.ends()
            await rounds.assert_idle()


# Numbers that come again


@BOTH_MODES
@in_reactor
async def test_numbers_of_stopped_directions_serve_new_ones(bulk: bool) -> None:
    async with Lines(bulk=bulk) as lines:
        old = await lines.relayed(there=True, back=True)
        numbers = {descriptor(old.front), descriptor(old.back)}
        await fill(old)
        for wire in old.wires:
            wire.abort()
        await until(lambda: all(wire.gone for wire in old.wires), "the end of the old line")
        new = await lines.relayed(there=True, back=True)
        assert numbers & {descriptor(new.front), descriptor(new.back)}
        new.client.write(b"there")
        new.origin.write(b"and back")
        await new.origin.receives(b"there")
        await new.client.receives(b"and back")


@BOTH_MODES
@in_reactor
async def test_an_owner_that_forgets_to_stop_does_not_disturb_those_who_get_its_numbers(bulk: bool) -> None:
    async with Lines(bulk=bulk) as lines:
        idle, full = await lines.relayed(), await lines.relayed()
        await fill(full)
        numbers = set()
        for side in (idle.front, idle.back, full.front, full.back):
            side.forgetful = True
            numbers.add(descriptor(side))
        # The transports close the sockets; the peers keep theirs, so that the lowest free numbers are those four.
        for side in (idle.front, idle.back, full.front, full.back):
            side.transport.abortConnection()
        await until(lambda: idle.front.gone and idle.back.gone and full.front.gone and full.back.gone, "the closing")
        new = [await lines.relayed(there=True, back=True) for _ in range(2)]
        assert numbers & {descriptor(side) for line in new for side in (line.front, line.back)}
        chance = random.Random(1)
        for line in new:
            there, back = chance.randbytes(500_000), chance.randbytes(500_000)
            line.client.write(there)
            line.origin.write(back)
            await line.origin.receives(there)
            await line.client.receives(back)
            assert not line.front.ended
            assert not line.back.ended
        for line in (idle, full):
            assert line.front.ended in ([], [EndReason.SOURCE_LOST], [EndReason.SINK_LOST])
            line.front.stop()


@BOTH_MODES
@in_reactor
async def test_bytes_for_a_sink_that_was_closed_without_a_stop_go_nowhere(bulk: bool) -> None:
    async with Lines(bulk=bulk) as lines:
        old, other = await lines.relayed(), await lines.relayed()
        old.back.forgetful = True
        number = descriptor(old.back)
        old.back.abort()
        await until(lambda: old.back.gone and old.origin.gone, "the closing")
        # Whoever gets the number must not get the bytes.
        thief, prey = socket.socketpair()
        try:
            assert number in (thief.fileno(), prey.fileno())
            thief.setblocking(False)
            prey.setblocking(False)
            old.client.write(b"for nobody")
            assert await old.front.ends() is EndReason.SINK_LOST
            for end in (thief, prey):
                with pytest.raises(BlockingIOError):
                    end.recv(100)
        finally:
            thief.close()
            prey.close()
        other.client.write(b"as ever")
        await other.origin.receives(b"as ever")


@BOTH_MODES
@in_reactor
async def test_an_owner_that_closes_the_source_during_the_handover_and_forgets_to_stop_is_told(bulk: bool) -> None:
    async with Lines(bulk=bulk) as lines:
        line = await lines.line()
        line.front.forgetful = True
        line.front.transport.pauseProducing()
        line.origin.transport.pauseProducing()
        line.back.write(b"x" * 3_000_000)
        line.front.relay_to(line.back, lines.relay, bulk)
        line.front.abort()
        await until(lambda: line.front.gone, "the closing")
        line.origin.transport.resumeProducing()
        assert await line.front.ends() is EndReason.SOURCE_LOST
        await line.origin.receives(b"x" * 3_000_000)


@BOTH_MODES
@in_reactor
async def test_a_number_of_a_full_sink_that_was_closed_without_a_stop_can_be_a_full_sink_again(bulk: bool) -> None:
    async with Lines(bulk=bulk) as lines:
        place = os.open("/dev/null", os.O_RDONLY)
        old = await lines.relayed()
        await fill_up(old)
        number = descriptor(old.back)
        old.back.forgetful = True
        old.back.abort()
        old.origin.abort()
        await until(lambda: old.back.gone and old.origin.gone, "the closing")
        assert not old.front.ended
        # The next client gets this number, and the front the one that is in question.
        os.close(place)
        new = await lines.relayed(there=False, back=True)
        assert descriptor(new.front) == number
        new.client.transport.pauseProducing()
        flood = Flood(new.origin)
        await flood.stalls()
        flood.end()
        new.client.transport.resumeProducing()
        await new.client.receives(bytes(flood.sent))
        assert await old.front.ends() is EndReason.SINK_LOST


# Bugs


@BOTH_MODES
@in_reactor
async def test_a_bug_ends_its_direction_and_no_other(bulk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Lines(bulk=bulk) as lines:
        bad, good = await lines.relayed(), await lines.relayed()
        broken = bad.front.half
        kind = SplicingHalf if bulk else PumpHalf
        pull = kind.pull

        def fail(half: PumpHalf) -> None:
            if half is broken:
                raise ZeroDivisionError
            pull(half)

        monkeypatch.setattr(kind, "pull", fail)
        good.client.write(b"one")
        bad.client.write(b"bad")
        assert await bad.front.ends() is EndReason.SOURCE_LOST
        good.client.write(b", two")
        await good.origin.receives(b"one, two")
        assert [failure.type for failure in lines.failures] == [ZeroDivisionError]
        lines.failures.clear()


@in_reactor
async def test_a_bug_in_delivering_what_is_held_ends_the_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Lines() as lines:
        line = await lines.relayed()
        await fill(line)
        monkeypatch.setattr(PumpHalf, "flush", lambda _half: 1 / 0)
        line.origin.transport.resumeProducing()
        assert await line.front.ends() is EndReason.SINK_LOST
        assert [failure.type for failure in lines.failures] == [ZeroDivisionError]
        lines.failures.clear()


@in_reactor
async def test_an_observer_that_fails_during_the_handover_does_not_break_the_sink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Lines() as lines:
        line = await lines.line()

        def fail(half: object, reason: EndReason) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(line.front, "relay_ended", fail)
        line.front.forgetful = True
        line.front.transport.pauseProducing()
        line.front.relay_to(line.back, lines.relay, bulk=False)
        connection: Any = line.front.transport
        connection.connectionLost(Failure(ConnectionAborted()))
        await until(lambda: lines.failures, "the log")
        line.back.write(b"still there")
        await line.origin.receives(b"still there")
        assert lines.failures.pop().check(ZeroDivisionError)
        line.front.half = None


@in_reactor
async def test_a_protocol_that_reads_what_the_pump_reads_is_told() -> None:
    async with Lines() as lines:
        line = await lines.relayed()
        half = line.front.half
        assert half is not None
        with pytest.raises(RuntimeError):
            half.data_received(b"x")
        with pytest.raises(RuntimeError):
            half.read_closed()


@in_reactor
async def test_a_direction_that_is_stopped_when_another_is_served_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Lines() as lines:
        line = await lines.relayed(there=True, back=True)
        line.client.transport.pauseProducing()
        await Flood(line.origin).stalls()
        # Behind the reactor's back, so that one event tells both: the client takes more, and it has sent something.
        connection = raw_socket(line.client.transport)
        assert connection is not None
        with contextlib.suppress(BlockingIOError):
            while connection.recv(1_000_000):
                pass
        connection.send(b"for the owner")
        monkeypatch.setattr(PumpHalf, "flush", lambda _half: line.front.stop())
        pump = lines.relay._pump
        assert pump is not None
        pump.doRead()
        assert line.front.half is None
        line.back.stop()
        line.front.transport.resumeProducing()
        await until(lambda: line.front.received == b"for the owner", "what was sent")


# Fairness


@in_reactor
async def test_the_reactor_gets_its_turn_between_batches() -> None:
    async with Lines() as lines:
        every = [await lines.relayed() for _ in range(MAX_BATCH + 20)]
        for line in every:
            # Behind the reactor's back, so that all are ready at once.
            connection = raw_socket(line.client.transport)
            assert connection is not None
            connection.send(b"x")
        pump = lines.relay._pump
        assert pump is not None
        pump.doRead()
        assert sum(bool(line.front.half and line.front.half.relayed) for line in every) == MAX_BATCH
        for line in every:
            await line.origin.receives(b"x")


# Pipes


@in_reactor
async def test_directions_that_hold_nothing_share_one_pipe() -> None:
    async with Lines(bulk=True) as lines:
        every = [await lines.relayed() for _ in range(20)]
        for line in every:
            line.client.write(b"x" * 1000)
        for line in every:
            await line.origin.receives(b"x" * 1000)
        pump = lines.relay._pump
        assert pump is not None
        assert len(pump.pipes.spare) == 1


@in_reactor
async def test_a_direction_that_holds_something_has_a_pipe_until_it_is_delivered() -> None:
    async with Lines(bulk=True) as lines:
        pump = lines.relay._pump
        assert pump is not None
        line, other = await lines.relayed(), await lines.relayed()
        flood = await fill(line)
        other.client.write(b"not mixed up")
        await other.origin.receives(b"not mixed up")
        assert len(pump.pipes.spare) == 1
        line.origin.transport.resumeProducing()
        await line.origin.receives(bytes(flood.sent))
        assert len(pump.pipes.spare) == 2


@in_reactor
async def test_without_descriptors_for_a_pipe_bulk_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe2", none_left)
    async with Lines(bulk=True) as lines:
        line = await lines.relayed()
        flood = await fill(line)
        assert line.front.half is not None
        relayed = line.front.half.relayed
        rest = line.front.stop()
        assert 0 < len(rest) <= BUFFER_SIZE
        assert rest == flood.sent[relayed : relayed + len(rest)]
        line.back.write(rest)
        line.front.relay_to(line.back, lines.relay, bulk=True)
        line.origin.transport.resumeProducing()
        await line.origin.receives(bytes(flood.sent))


def test_other_failures_to_make_a_pipe_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(flags: int) -> tuple[int, int]:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pipe2", refused)
    with pytest.raises(PermissionError):
        PipePool().borrow()


def test_a_pool_keeps_only_some_pipes() -> None:
    pool = PipePool()
    pipes = [Pipe() for _ in range(MAX_SPARE_PIPES + 3)]
    for pipe in pipes:
        pool.give_back(pipe)
    assert len(pool.spare) == MAX_SPARE_PIPES
    for pipe in pipes[MAX_SPARE_PIPES:]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pipe.read_end)
    pool.close()
    assert not pool.spare


def test_a_pipe_reads_back_what_it_holds() -> None:
    pipe = Pipe()
    data = random.Random(2).randbytes(60_000)
    for at in range(0, len(data), 4096):
        os.write(pipe.write_end, data[at : at + 4096])
    assert pipe.read(10_000) == data[:10_000]
    assert pipe.read(50_000) == data[10_000:]
    pipe.close()


def test_a_pipe_of_a_user_with_too_many_is_a_smaller_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any) -> int:
        raise PermissionError

    monkeypatch.setattr("srsproxy.relay.pipes.fcntl.fcntl", refused)
    pipe = Pipe()
    os.write(pipe.write_end, b"x" * 4096)
    assert pipe.read(4096) == b"x" * 4096
    pipe.close()


# Size


@in_reactor
async def test_an_idle_direction_costs_less_than_a_kilobyte() -> None:
    async with Lines(flush_interval=0.01) as lines:
        every = [await lines.line() for _ in range(100)]
        for line in every:
            line.front.transport.pauseProducing()
        await turns()
        relay_only = [tracemalloc.Filter(True, "*/srsproxy/relay/*")]
        tracemalloc.start()
        try:
            before = tracemalloc.take_snapshot().filter_traces(relay_only)
            for line in every:
                line.front.relay_to(line.back, lines.relay, bulk=False)
            await turns()
            after = tracemalloc.take_snapshot().filter_traces(relay_only)
        finally:
            tracemalloc.stop()
        added = sum(difference.size_diff for difference in after.compare_to(before, "filename"))
        assert 0 < added < 1000 * len(every)
