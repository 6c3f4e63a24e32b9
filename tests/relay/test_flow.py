"""Flows of one address, which a number tells apart, and paths whose next datagram is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from srsproxy.relay.datagram import DatagramRelay
from srsproxy.relay.flow import Flow, Path
from tests.asynchronous import in_reactor
from tests.relay.datagrams import INSPECTED, Datagrams, Peer, Recorder, fail, until

NUMBER_AT = 12


def numbered(number: int, rest: bytes = b"") -> bytes:
    """A client's datagram with this number in its place."""
    return b"media".ljust(NUMBER_AT, b".") + number.to_bytes(4, "big") + rest


# Flows of one address


@in_reactor
async def test_a_number_tells_flows_of_one_address_apart() -> None:
    async with Datagrams(number_at=NUMBER_AT) as datagrams:
        client = datagrams.peer()
        numbers = (0, 1, 0x01000000, 0x12345678, 0xFFFFFFFF)
        origins = [datagrams.peer() for _ in numbers]
        for number, origin in zip(numbers, origins, strict=True):
            flow = datagrams.flow(origin)
            flow.select(flow.add_path(client.address, number=number))
            assert [(path.address, path.number) for path in flow.paths] == [(client.address, number)]
        for number, origin in zip(numbers, origins, strict=True):
            client.send(numbered(number, b"there"), datagrams.to)
            await origin.receives(numbered(number, b"there"))
            origin.send(b"back", origin.senders[0])
            await client.receives(b"back")
        client.send(numbered(0x78563412), datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert datagrams.receiver.from_clients == [(numbered(0x78563412), client.address, None)]
        assert [origin.look() for origin in origins] == [0] * len(origins)


@in_reactor
async def test_a_flow_can_have_paths_of_one_address_with_different_numbers() -> None:
    async with Datagrams(number_at=NUMBER_AT) as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin)
        one, other = (flow.add_path(client.address, number=number) for number in (1, 2))
        assert flow.paths == (one, other)
        assert flow.add_path(client.address, number=2) is other
        flow.remove_path(one)
        for number in (1, 2):
            client.send(numbered(number), datagrams.to)
        await origin.receives(numbered(2))
        assert datagrams.receiver.from_clients == [(numbered(1), client.address, None)]


@in_reactor
async def test_a_datagram_too_short_for_a_number_belongs_to_no_flow() -> None:
    async with Datagrams(number_at=NUMBER_AT) as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin)
        for number in (0, 7):
            flow.add_path(client.address, number=number)
        # The number of the one before is still in the buffer.
        lengths = (15, 12, 1, 0)
        for length in lengths:
            client.send(numbered(7), datagrams.to)
            client.send(numbered(7)[:length], datagrams.to)
        await origin.receives(*[numbered(7)] * len(lengths))
        await until(lambda: len(datagrams.receiver.from_clients) == len(lengths), "the datagrams")
        assert datagrams.receiver.from_clients == [(numbered(7)[:n], client.address, None) for n in lengths]


@in_reactor
async def test_where_addresses_tell_flows_apart_numbers_do_not() -> None:
    async with Datagrams() as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin)
        path = flow.add_path(client.address, number=1)
        assert flow.add_path(client.address, number=2) is path
        client.send(numbered(3), datagrams.to)
        await origin.receives(numbered(3))


# What is shown next


@in_reactor
async def test_the_next_datagram_of_a_path_is_shown_once() -> None:
    async with Datagrams(own_time=True) as datagrams:
        client, flow, origin = datagrams.session()
        (path,) = flow.paths
        client.send(b"before", datagrams.to)
        await origin.receives(b"before")
        for _ in range(2):
            flow.show_next(path)
        assert (flow.path, flow.paths) == (path, (path,))
        origin.send(b"back", origin.senders[0])
        await client.receives(b"back")
        datagrams.time.advance(1)
        client.send(b"shown", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert path.heard_at == 1
        client.send(b"relayed", datagrams.to)
        await origin.receives(b"relayed")
        assert datagrams.receiver.from_clients == [(b"shown", client.address, path)]
        flow.close(forgotten=True)


@pytest.mark.parametrize("data", [b"", b"?", b"??"])
@in_reactor
async def test_any_datagram_is_the_next_one(data: bytes) -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        (path,) = flow.paths
        flow.show_next(path)
        for each in (data, b"relayed"):
            client.send(each, datagrams.to)
        await origin.receives(b"relayed")
        assert datagrams.receiver.from_clients == [(data, client.address, path)]


@in_reactor
async def test_the_receiver_can_be_shown_one_datagram_after_the_other() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        (path,) = flow.paths
        flow.show_next(path)
        datagrams.receiver.on_client = lambda data, address, path: flow.show_next(flow.paths[0])
        for data in (b"one", b"two"):
            client.send(data, datagrams.to)
        await until(lambda: len(datagrams.receiver.from_clients) == 2, "the datagrams")
        assert datagrams.receiver.from_clients == [(data, client.address, path) for data in (b"one", b"two")]
        assert origin.look() == 0


@in_reactor
async def test_a_bug_in_the_receiver_does_not_have_more_shown() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        flow.show_next(flow.paths[0])
        datagrams.receiver.on_client = lambda data, address, path: fail()
        for data in (b"shown", b"relayed"):
            client.send(data, datagrams.to)
        await origin.receives(b"relayed")
        assert [failure.type for failure in datagrams.failures] == [ZeroDivisionError]
        datagrams.failures.clear()


@in_reactor
async def test_a_path_that_is_added_again_is_shown_all_the_same() -> None:
    async with Datagrams() as datagrams:
        client, flow, _ = datagrams.session()
        (path,) = flow.paths
        flow.show_next(path)
        assert flow.add_path(client.address) is path
        assert flow.paths == (path,)
        client.send(b"shown", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert datagrams.receiver.from_clients == [(b"shown", client.address, path)]


@pytest.mark.parametrize(
    "lose",
    [
        lambda flow, other: flow.remove_path(flow.paths[0]),
        lambda flow, other: flow.close(),
        lambda flow, other: other.remove_path(other.add_path(flow.paths[0].address)),
    ],
)
@in_reactor
async def test_a_path_that_is_lost_is_not_shown(lose: Callable[[Flow, Flow], None]) -> None:
    async with Datagrams() as datagrams:
        client, flow, _ = datagrams.session()
        other_origin = datagrams.peer()
        other = datagrams.flow(other_origin)
        (path,) = flow.paths
        flow.show_next(path)
        lose(flow, other)
        flow.show_next(path)
        client.send(b"unknown", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert datagrams.receiver.from_clients == [(b"unknown", client.address, None)]
        other.add_path(client.address)
        client.send(b"relayed", datagrams.to)
        await other_origin.receives(b"relayed")


@in_reactor
async def test_an_address_that_another_flow_has_taken_is_that_ones() -> None:
    async with Datagrams() as datagrams:
        client, flow, _ = datagrams.session()
        (path,) = flow.paths
        flow.show_next(path)
        origin = datagrams.peer()
        other = datagrams.flow(origin, client)
        flow.show_next(path)
        assert (flow.paths, other.paths) == ((), (other.path,))
        client.send(b"relayed", datagrams.to)
        await origin.receives(b"relayed")


# Whatever happens


NUMBERS = (0, 1, 0x01000000, 0x3F3F3F3F)
"""Few, so that they come again: with equal bytes in another order, or with those that are inspected."""

CLIENTS = st.sampled_from(range(3))
FLOWS = st.sampled_from(range(3))
DATAGRAMS = st.builds(
    lambda begin, number, rest: begin + number + rest,
    st.sampled_from([b"??", b"!.", b".?", b".."]).map(lambda begin: begin.ljust(NUMBER_AT, b"\0")),
    st.sampled_from(NUMBERS).map(lambda number: number.to_bytes(4, "big")),
    st.binary(max_size=3),
) | st.sampled_from([b"", b"?", b".", b"??", b"?.", b"." * 15, b"?" * 15, b"?" * 16])


class Routing(RuleBasedStateMachine):
    """Clients that send anything while paths come and go. Each datagram gets to the origin of the flow that has the
    path, or is shown, and nobody else has anything of it."""

    number_at: int | None = NUMBER_AT

    def __init__(self) -> None:
        super().__init__()
        self.receiver = Recorder()
        reactor: Any = Clock()
        reactor.addReader = reactor.removeReader = lambda reader: None
        self.relay = DatagramRelay(reactor, self.receiver, INSPECTED, INSPECTED, number_at=self.number_at)
        self.to = ("127.0.0.1", self.relay.listen("127.0.0.1", 0))
        self.clients = [Peer() for _ in range(3)]
        self.origins = [Peer() for _ in range(3)]
        self.flows = [self.relay.open_flow(origin.host, origin.port) for origin in self.origins]
        self.known: dict[tuple[int, int], tuple[int, Path]] = {}
        self.shown_next: set[Path] = set()

    def key(self, client: int, number: int) -> tuple[int, int]:
        return client, 0 if self.number_at is None else number

    @rule(flow=FLOWS, client=CLIENTS, number=st.sampled_from(NUMBERS))
    def add(self, flow: int, client: int, number: int) -> None:
        path = self.flows[flow].add_path(self.clients[client].address, number=number)
        self.known[self.key(client, number)] = flow, path

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        flow, path = self.known.pop(data.draw(st.sampled_from(sorted(self.known))))
        self.flows[flow].remove_path(path)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def show_next(self, data: st.DataObject) -> None:
        flow, path = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        self.flows[flow].show_next(path)
        self.shown_next.add(path)

    @rule(flow=FLOWS)
    def replace(self, flow: int) -> None:
        self.flows[flow].close(forgotten=True)
        self.flows[flow] = self.relay.open_flow(self.origins[flow].host, self.origins[flow].port)
        self.known = {key: (of, path) for key, (of, path) in self.known.items() if of != flow}

    @rule(client=CLIENTS, data=DATAGRAMS)
    def send(self, client: int, data: bytes) -> None:
        self.clients[client].send(data, self.to)
        self.relay.doRead()
        flow, path = None, None
        if self.number_at is None or len(data) >= NUMBER_AT + 4:
            number = int.from_bytes(data[NUMBER_AT : NUMBER_AT + 4], "big")
            flow, path = self.known.get(self.key(client, number), (None, None))
        shown = path is None or path in self.shown_next or data[:2] in {b"?", b"!", b"??", b"?!", b"!?", b"!!"}
        if path is not None:
            self.shown_next.discard(path)
        shown_as = [(data, self.clients[client].address, path)] if shown else []
        assert self.receiver.from_clients == shown_as
        self.receiver.from_clients.clear()
        for number, origin in enumerate(self.origins):
            origin.look()
            assert origin.received == ([data] if number == flow and not shown else [])
            origin.received.clear()

    @invariant()
    def each_path_is_in_one_table(self) -> None:
        assert len(self.relay.routes) + len(self.relay.shown_next) == len(self.known)

    def teardown(self) -> None:
        self.relay.close()
        for peer in (*self.clients, *self.origins):
            peer.close()
        assert not self.relay.routes
        assert not self.relay.shown_next


class RoutingByAddress(Routing):
    number_at = None


TestRouting = Routing.TestCase
TestRoutingByAddress = RoutingByAddress.TestCase
