"""The relay of datagrams: what goes where, what is shown and counted, and that nothing upsets it."""

from __future__ import annotations

import errno
import functools
import gc
import resource
import select
import socket
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from srsproxy.relay import datagram, quarantine
from srsproxy.relay.datagram import BURST, CLIENT_BATCH, DatagramRelay
from srsproxy.relay.flow import Flow, Path
from srsproxy.relay.private_epoll import MAX_BATCH
from srsproxy.relay.udpsockets import Address
from tests.asynchronous import in_reactor
from tests.relay.datagrams import Datagrams, Peer, Recorder, descriptors, fail, reactor, until

LARGEST = 65_507
"""Bytes of payload; UDP over IPv4 carries no more."""


async def upstream(flow: Flow, origin: Peer) -> Address:
    """The address by which the origin knows the flow."""
    flow.send(b"who")
    await origin.receives(b"who")
    return origin.senders[-1]


async def turns(count: int = 20) -> None:
    """Let the reactor go round some times: all that is ready now is dealt with."""
    for _ in range(count):
        await deferLater(reactor, 0)


class Rounds:
    """Counts how often the reactor has the relay look for events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = DatagramRelay.doRead

        def counting(relay: DatagramRelay) -> None:
            self.count += 1
            real(relay)

        monkeypatch.setattr(DatagramRelay, "doRead", counting)

    async def assert_idle(self) -> None:
        """A relay that is told of something that it does not act upon is told so again in each turn of the reactor."""
        await turns(5)
        before = self.count
        await turns(50)
        assert self.count - before < 10


# What goes where


@pytest.mark.parametrize(
    ("interface", "host"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1")],
)
@in_reactor
async def test_datagrams_are_relayed_both_ways(interface: str, host: str) -> None:
    async with Datagrams(interface, host) as datagrams:
        client, flow, origin = datagrams.session()
        there = [b"", b"x", b"y" * 1200, b"z" * LARGEST]
        for data in there:
            client.send(data, datagrams.to)
            await origin.receives(data)
        assert len(set(origin.senders)) == 1
        for data in reversed(there):
            origin.send(data, origin.senders[0])
            await client.receives(data)
        assert {sender[1] for sender in client.senders} == {datagrams.port}
        assert (flow.received_packets, flow.received_bytes, flow.received_drops) == (4, 1201 + LARGEST, 0)
        assert (flow.sent_packets, flow.sent_bytes, flow.sent_drops) == (4, 1201 + LARGEST, 0)
        assert not datagrams.receiver.from_clients
        assert not datagrams.receiver.from_origins


@in_reactor
async def test_a_socket_for_both_families_knows_ipv4_clients_by_mapped_addresses() -> None:
    async with Datagrams("::") as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        client.send(b"hello", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        ((data, address, path),) = datagrams.receiver.from_clients
        assert (data, address, path) == (b"hello", ("::ffff:127.0.0.1", client.port, 0, 0), None)

        flow = datagrams.flow(origin)
        flow.select(flow.add_path(address))
        client.send(b"there", datagrams.to)
        await origin.receives(b"there")
        origin.send(b"and back", origin.senders[0])
        await client.receives(b"and back")


@pytest.mark.parametrize("interface", ["0.0.0.0", "::"])
@in_reactor
async def test_a_client_is_answered_from_the_address_that_it_has_sent_to(interface: str) -> None:
    async with Datagrams(interface) as datagrams:
        origin = datagrams.peer()
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            client = datagrams.peer()
            client.send(b"hello", (host, datagrams.port))
            await until(lambda: datagrams.receiver.from_clients, "the datagram")
            _, address, _ = datagrams.receiver.from_clients.pop()
            flow = datagrams.flow(origin)
            flow.select(flow.add_path(address))
            for data in (b"one", b"two"):
                client.send(data, (host, datagrams.port))
                await origin.receives(data)
                origin.send(data, origin.senders[-1])
                await client.receives(data)
            assert {sender[0] for sender in client.senders} == {host}


@in_reactor
async def test_a_path_is_answered_by_the_socket_that_its_client_has_sent_to_last() -> None:
    async with Datagrams("0.0.0.0") as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin)
        for host in ("127.0.0.2", "127.0.0.3"):
            client.send(b"?", (host, datagrams.port))
            await until(lambda: datagrams.receiver.from_clients, "the datagram")
            _, address, _ = datagrams.receiver.from_clients.pop()
            path = flow.add_path(address)
            flow.send_to(path, b"!")
            await client.receives(b"!")
            assert client.senders[-1][0] == host
        assert len(flow.paths) == 1


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@in_reactor
async def test_nobody_else_can_take_an_address_that_clients_have_sent_to(option: int | None) -> None:
    async with Datagrams("0.0.0.0") as datagrams:
        for host in ("127.0.0.2", "127.0.0.3"):
            datagrams.peer().send(b"hello", (host, datagrams.port))
        await until(lambda: len(datagrams.receiver.from_clients) == 2, "the datagrams")
        for host in ("127.0.0.2", "127.0.0.4", "0.0.0.0"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                if option is not None:
                    other.setsockopt(socket.SOL_SOCKET, option, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind((host, datagrams.port))


@in_reactor
async def test_more_addresses_than_may_have_a_socket_are_served_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram, "MAX_ENTRANCES", 2)
    async with Datagrams("0.0.0.0") as datagrams:
        before = descriptors()
        clients = [datagrams.peer() for _ in range(4)]
        for number, client in enumerate(clients):
            client.send(b"hello", (f"127.0.0.{number + 2}", datagrams.port))
            client.send(b"again", (f"127.0.0.{number + 2}", datagrams.port))
        await until(lambda: len(datagrams.receiver.from_clients) == 8, "the datagrams")
        assert descriptors() == before + len(clients) + 2


@in_reactor
async def test_sessions_are_not_mixed_up() -> None:
    async with Datagrams() as datagrams:
        origin = datagrams.peer()
        clients = [datagrams.peer() for _ in range(30)]
        flows = [datagrams.flow(origin, client) for client in clients]
        ports = [(await upstream(flow, origin))[1] for flow in flows]
        assert len(set(ports)) == len(clients)
        for number, client in enumerate(clients):
            client.send(b"from %d" % number, datagrams.to)
            await origin.receives(b"from %d" % number)
            assert origin.senders[-1][1] == ports[number]
            origin.send(b"to %d" % number, origin.senders[-1])
            await client.receives(b"to %d" % number)


@in_reactor
async def test_datagrams_of_unknown_addresses_are_shown_and_nothing_else() -> None:
    async with Datagrams() as datagrams:
        client, _, origin = datagrams.session()
        stranger = datagrams.peer()
        for data in (b"any", b"?", b""):
            stranger.send(data, datagrams.to)
        client.send(b"known", datagrams.to)
        await origin.receives(b"known")
        assert datagrams.receiver.from_clients == [(data, stranger.address, None) for data in (b"any", b"?", b"")]
        assert stranger.look() == 0


@in_reactor
async def test_datagrams_to_be_inspected_are_shown_instead_of_relayed() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        for data in (b"?!there", b"?relayed", b"relayed?", b"!"):
            client.send(data, datagrams.to)
        await origin.receives(b"?relayed", b"relayed?")
        for data in (b"!?back", b"!relayed", b"relayed!", b"?"):
            origin.send(data, origin.senders[0])
        await client.receives(b"!relayed", b"relayed!")
        await until(lambda: len(datagrams.receiver.from_origins) == 2, "the datagrams")
        assert datagrams.receiver.from_clients == [(data, client.address, flow.path) for data in (b"?!there", b"!")]
        assert datagrams.receiver.from_origins == [(b"!?back", flow), (b"?", flow)]
        assert (flow.received_packets, flow.sent_packets) == (2, 2)


@in_reactor
async def test_an_empty_datagram_is_not_inspected_for_what_the_one_before_began_with() -> None:
    async with Datagrams() as datagrams:
        client, _, origin = datagrams.session()
        client.send(b"?", datagrams.to)
        client.send(b"", datagrams.to)
        await origin.receives(b"")
        origin.send(b"!", origin.senders[0])
        origin.send(b"", origin.senders[0])
        await client.receives(b"")
        assert len(datagrams.receiver.from_clients) == len(datagrams.receiver.from_origins) == 1


@in_reactor
async def test_a_single_byte_is_not_judged_by_the_second_one_of_the_datagram_before() -> None:
    async with Datagrams() as datagrams:
        client, _, origin = datagrams.session()
        # What is relayed or shown does not depend on what the byte after it in the buffer is.
        for before in (b"x?", b"xx"):
            client.send(before, datagrams.to)
            client.send(b"?", datagrams.to)
            await origin.receives(before)
            origin.send(before, origin.senders[0])
            origin.send(b"!", origin.senders[0])
            await client.receives(before)
        await until(lambda: len(datagrams.receiver.from_origins) == 2, "the datagrams")
        assert [data for data, _, _ in datagrams.receiver.from_clients] == [b"?"] * 2


@in_reactor
async def test_the_receiver_can_pass_on_what_it_is_shown() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()

        def there(data: memoryview, address: Address, path: Path | None) -> None:
            assert path is flow.path
            flow.send(data)

        def back(data: memoryview, flow: Flow) -> None:
            assert flow.path is not None
            flow.send_to(flow.path, data)

        datagrams.receiver.on_client = there
        datagrams.receiver.on_origin = back
        client.send(b"?!there", datagrams.to)
        await origin.receives(b"?!there")
        origin.send(b"!?back", origin.senders[0])
        await client.receives(b"!?back")
        assert (flow.received_packets, flow.received_bytes, flow.sent_packets, flow.sent_bytes) == (1, 7, 1, 6)


# Paths


@in_reactor
async def test_all_paths_lead_to_the_origin_and_one_leads_back() -> None:
    async with Datagrams() as datagrams:
        first, second, origin = datagrams.peer(), datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin, first, second)
        one, other = flow.paths
        assert (one.address, other.address, flow.path) == (first.address, second.address, one)
        for client in (first, second):
            client.send(b"there", datagrams.to)
            await origin.receives(b"there")
        assert len(set(origin.senders)) == 1
        origin.send(b"to the first", origin.senders[0])
        await first.receives(b"to the first")
        flow.select(other)
        origin.send(b"to the second", origin.senders[0])
        await second.receives(b"to the second")
        flow.send_to(one, b"to the first all the same")
        await first.receives(b"to the first all the same")
        assert first.look() == second.look() == 0


@in_reactor
async def test_a_path_knows_when_anything_has_come_from_there() -> None:
    async with Datagrams(own_time=True) as datagrams:
        datagrams.time.advance(1)
        first, second, origin = datagrams.peer(), datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin, first, second)
        assert [path.heard_at for path in flow.paths] == [1, 1]

        def heard(number: int) -> bool:
            return flow.paths[0].heard_at == number

        for number, data in enumerate((b"?", b"x", b""), 2):
            datagrams.time.advance(1)
            first.send(data, datagrams.to)
            if number == 3:
                second.send(b"x", datagrams.to)
            await until(functools.partial(heard, number), "the datagram")
        assert [path.heard_at for path in flow.paths] == [4, 3]
        flow.close(forgotten=True)


@in_reactor
async def test_without_a_return_path_what_comes_back_is_dropped() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        flow.select(None)
        assert flow.path is None
        origin.send(b"lost", address)
        await until(lambda: flow.sent_drops, "the drop")
        flow.select(flow.paths[0])
        origin.send(b"found", address)
        await client.receives(b"found")
        assert (flow.sent_packets, flow.sent_drops) == (1, 1)


@in_reactor
async def test_only_a_path_of_the_flow_can_be_selected() -> None:
    async with Datagrams() as datagrams:
        _, flow, _ = datagrams.session()
        _, other, _ = datagrams.session()
        own = flow.path
        with pytest.raises(ValueError, match="path of this flow"):
            flow.select(other.path)
        assert flow.path is own
        assert own is not None
        flow.remove_path(own)
        with pytest.raises(ValueError, match="path of this flow"):
            flow.select(own)


@in_reactor
async def test_an_address_can_be_added_again() -> None:
    async with Datagrams() as datagrams:
        client, flow, _ = datagrams.session()
        assert flow.add_path(client.address) is flow.path
        assert len(flow.paths) == 1


@in_reactor
async def test_a_removed_path_is_unknown() -> None:
    async with Datagrams() as datagrams:
        client, flow, _ = datagrams.session()
        path = flow.path
        assert path is not None
        for _ in range(2):
            flow.remove_path(path)
            assert (flow.path, flow.paths) == (None, ())
        client.send(b"unknown", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert datagrams.receiver.from_clients == [(b"unknown", client.address, None)]
        flow.send_to(path, b"not sent")
        assert (client.look(), flow.sent_packets, flow.sent_drops) == (0, 0, 1)


@in_reactor
async def test_removing_a_path_leaves_the_others() -> None:
    async with Datagrams() as datagrams:
        first, second, origin = datagrams.peer(), datagrams.peer(), datagrams.peer()
        flow = datagrams.flow(origin, first, second)
        one, other = flow.paths
        flow.remove_path(other)
        assert (flow.path, flow.paths) == (one, (one,))


@in_reactor
async def test_an_address_moves_to_the_flow_that_asks_for_it_last() -> None:
    async with Datagrams() as datagrams:
        client, old, old_origin = datagrams.session()
        origin = datagrams.peer()
        old_path = old.path
        assert old_path is not None
        new = datagrams.flow(origin, client)
        assert (old.path, old.paths) == (None, ())
        client.send(b"to the new one", datagrams.to)
        await origin.receives(b"to the new one")
        origin.send(b"from the new one", origin.senders[0])
        await client.receives(b"from the new one")
        # The client of that address is another one now.
        old.send_to(old_path, b"for the client before")
        old_origin.send(b"for the client before", await upstream(old, old_origin))
        await until(lambda: old.sent_drops == 2, "the drops")
        old.remove_path(old_path)
        old.close()
        client.send(b"still to the new one", datagrams.to)
        await origin.receives(b"still to the new one")
        assert client.look() == 0
        assert new.received_packets == 2


@in_reactor
async def test_an_address_that_moves_away_leaves_the_return_path_if_that_is_another() -> None:
    async with Datagrams() as datagrams:
        stays, moves, origin = datagrams.peer(), datagrams.peer(), datagrams.peer()
        old = datagrams.flow(origin, stays, moves)
        datagrams.flow(origin, moves)
        assert old.path is not None
        assert old.path.address == stays.address
        assert old.paths == (old.path,)


# What cannot be sent


async def refused(datagrams: Datagrams, client: Peer, flow: Flow) -> None:
    before = flow.refusals
    client.send(b"refused", datagrams.to)
    await until(lambda: flow.refusals == before + 1, "the refusal")


@in_reactor
async def test_an_origin_that_refuses_is_counted_and_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        good_client, _, good_origin = datagrams.session()
        origin.close()
        for _ in range(3):
            await refused(datagrams, client, flow)
        await rounds.assert_idle()
        good_client.send(b"taken", datagrams.to)
        await good_origin.receives(b"taken")
        assert (flow.received_packets, flow.received_drops) == (3, 0)

        back = datagrams.peer(origin.port)
        client.send(b"here again", datagrams.to)
        await back.receives(b"here again")
        assert flow.refusals == 3


@in_reactor
async def test_a_refusal_that_shows_in_the_next_send_costs_that_datagram() -> None:
    async with Datagrams() as datagrams:
        _, flow, origin = datagrams.session()
        origin.close()
        flow.send(b"refused")
        flow.send(b"not sent")
        assert (flow.received_packets, flow.received_drops, flow.refusals) == (1, 1, 1)
        flow.send(b"refused")
        assert flow.received_packets == 2


@in_reactor
async def test_what_is_too_large_is_dropped() -> None:
    async with Datagrams() as datagrams:
        _, flow, _ = datagrams.session()
        assert flow.path is not None
        flow.send(bytes(LARGEST + 1))
        flow.send_to(flow.path, bytes(LARGEST + 1))
        assert (flow.received_drops, flow.received_packets, flow.received_bytes) == (1, 0, 0)
        assert (flow.sent_drops, flow.sent_packets, flow.sent_bytes) == (1, 0, 0)
        assert flow.refusals == 0


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
@in_reactor
async def test_what_the_kernel_does_not_take_is_dropped(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> int:
        raise OSError(number, "no")

    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        # The peers use sendto.
        monkeypatch.setattr(socket.socket, "send", refuse)
        flow.paths[0].transmit = refuse
        client.send(b"there", datagrams.to)
        origin.send(b"back", address)
        await until(lambda: flow.received_drops and flow.sent_drops, "the drops")
        assert (flow.received_packets, flow.received_drops, flow.sent_packets, flow.sent_drops) == (1, 1, 0, 1)


@in_reactor
async def test_before_the_relay_listens_nothing_can_be_sent_to_clients() -> None:
    relay = DatagramRelay(reactor, Recorder(), {}, {})
    flow = relay.open_flow("127.0.0.1", 9)
    flow.send_to(flow.add_path(("127.0.0.1", 9)), b"x")
    assert flow.sent_drops == 1
    relay.close()


# Closing


@in_reactor
async def test_a_closed_flow_does_nothing() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        path = flow.path
        assert path is not None
        flow.owner = object()
        flow.close()
        flow.close(forgotten=True)
        assert (flow.path, flow.paths, flow.owner) == (None, (), None)
        client.send(b"unknown", datagrams.to)
        await until(lambda: datagrams.receiver.from_clients, "the datagram")
        assert datagrams.receiver.from_clients == [(b"unknown", client.address, None)]
        origin.send(b"late", address)
        flow.send(b"not sent")
        flow.send_to(path, b"not sent")
        flow.remove_path(path)
        flow.pull(1)
        with pytest.raises(ValueError, match="closed flow"):
            flow.add_path(client.address)
        await turns()
        assert client.look() == origin.look() == 0
        assert (flow.received_packets, flow.received_drops, flow.sent_packets, flow.sent_drops) == (1, 1, 0, 1)


@in_reactor
async def test_flows_can_be_closed_by_the_receiver_in_the_middle_of_a_batch() -> None:
    async with Datagrams() as datagrams:
        sessions = [datagrams.session() for _ in range(10)]
        for _, flow, origin in sessions:
            address = await upstream(flow, origin)
            origin.send(b"!", address)
            origin.send(b"relayed", address)

        def close_all(data: memoryview, flow: Flow) -> None:
            for _, each, _ in sessions:
                each.close(forgotten=True)

        datagrams.receiver.on_origin = close_all
        datagrams.relay.doRead()
        assert len(datagrams.receiver.from_origins) == 1
        assert sum(client.look() for client, _, _ in sessions) == 0


@in_reactor
async def test_a_flow_can_be_closed_for_what_its_client_has_sent() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        datagrams.receiver.on_client = lambda data, address, path: flow.close()
        for data in (b"relayed", b"??close", b"unknown"):
            client.send(data, datagrams.to)
        await origin.receives(b"relayed")
        path = datagrams.receiver.from_clients[0][2]
        assert path is not None
        assert path.flow is flow
        assert datagrams.receiver.from_clients[1:] == [(b"unknown", client.address, None)]


@in_reactor
async def test_numbers_that_are_used_again_in_a_batch_do_not_mix_up_flows() -> None:
    async with Datagrams() as datagrams:
        sessions = [datagrams.session() for _ in range(5)]
        for _, flow, origin in sessions:
            origin.send(b"!", await upstream(flow, origin))
        replaced: list[Flow] = []

        def replace_all(data: memoryview, flow: Flow) -> None:
            if not replaced:
                for _, each, _ in sessions:
                    each.close(forgotten=True)
                replaced.extend(datagrams.flow(origin, client) for client, _, origin in sessions)

        datagrams.receiver.on_origin = replace_all
        before = descriptors()
        datagrams.relay.doRead()
        assert descriptors() == before
        assert len(datagrams.receiver.from_origins) == 1
        for (client, _, origin), flow in zip(sessions, replaced, strict=True):
            origin.send(b"to the new one", await upstream(flow, origin))
            await client.receives(b"to the new one")


@pytest.mark.parametrize("side", ["client", "origin"])
@in_reactor
async def test_the_relay_can_be_closed_by_the_receiver(side: str) -> None:
    async with Datagrams() as datagrams:
        sessions = [datagrams.session() for _ in range(3)]
        datagrams.receiver.on_client = lambda data, address, path: datagrams.relay.close()
        datagrams.receiver.on_origin = lambda data, flow: datagrams.relay.close()
        for client, flow, origin in sessions:
            address = await upstream(flow, origin)
            if side == "client":
                client.send(b"?", datagrams.to)
            else:
                origin.send(b"!", address)
        datagrams.relay.doRead()
        assert len(datagrams.receiver.from_clients) + len(datagrams.receiver.from_origins) == 1
        assert datagrams.relay.fileno() == -1
        with pytest.raises(OSError, match="shutdown"):
            datagrams.relay.open_flow("127.0.0.1", 9)


@in_reactor
async def test_the_end_of_the_reactor_closes_the_relay() -> None:
    async with Datagrams() as datagrams:
        _, flow, _ = datagrams.session()
        datagrams.relay.connectionLost(Failure(ConnectionDone()))
        flow.send(b"not sent")
        assert flow.received_drops == 1


# Ports that origins remember


def is_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


@in_reactor
async def test_the_port_of_a_closed_flow_stays_taken_until_its_origin_has_forgotten_it() -> None:
    async with Datagrams(own_time=True) as datagrams:
        _, early, origin = datagrams.session()
        late = datagrams.flow(origin)
        early_port, late_port = [(await upstream(flow, origin))[1] for flow in (early, late)]
        early.close()
        datagrams.time.advance(20)
        late.close()
        datagrams.time.advance(14.9)
        assert is_taken(early_port)
        datagrams.time.advance(0.2)
        assert not is_taken(early_port)
        datagrams.time.advance(19.8)
        assert is_taken(late_port)
        datagrams.time.advance(0.2)
        assert not is_taken(late_port)
        assert not datagrams.time.getDelayedCalls()


@in_reactor
async def test_a_port_that_the_origin_does_not_know_is_free_at_once() -> None:
    async with Datagrams(own_time=True) as datagrams:
        _, known, origin = datagrams.session()
        port = (await upstream(known, origin))[1]
        unused = datagrams.flow(origin)
        before = descriptors()
        known.close(forgotten=True)
        unused.close()
        assert not is_taken(port)
        assert descriptors() == before - 2
        assert not datagrams.time.getDelayedCalls()


@in_reactor
async def test_an_origin_that_still_sends_is_neither_heard_nor_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Datagrams(own_time=True) as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        origin.socket.connect(address)
        flow.close()
        for _ in range(100):
            # An ICMP error would be told here.
            origin.socket.send(b"x" * 1200)
        await rounds.assert_idle()
        assert client.look() == 0


@in_reactor
async def test_what_a_closed_flow_has_not_read_is_not_kept() -> None:
    async with Datagrams(own_time=True) as datagrams:
        _, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        inode = socket_inode(address)
        for _ in range(100):
            origin.send(b"x" * 1200, address)
        assert receive_queue(inode) > 100_000
        flow.close()
        for _ in range(100):
            origin.send(b"x" * 1200, address)
        assert receive_queue(inode) < 10_000


def socket_inode(address: Address) -> str:
    return next(row[9] for row in udp_table() if int(row[1].split(":")[1], 16) == address[1])


def receive_queue(inode: str) -> int:
    """Bytes that the socket's unread datagrams take."""
    return next(int(row[4].split(":")[1], 16) for row in udp_table() if row[9] == inode)


def udp_table() -> list[list[str]]:
    with open("/proc/net/udp") as table:
        return [line.split() for line in table][1:]


@pytest.mark.parametrize(("most", "allowed"), [(3, resource.RLIM_INFINITY), (3, 1024), (1024, 3 * 8 + 7)])
@in_reactor
async def test_no_more_than_so_many_ports_are_kept(most: int, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", most)
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (allowed, allowed))
    async with Datagrams(own_time=True) as datagrams:
        _, _, origin = datagrams.session()
        flows = [datagrams.flow(origin) for _ in range(5)]
        ports = [(await upstream(flow, origin))[1] for flow in flows]
        for flow in flows:
            flow.close()
            datagrams.time.advance(1)
        assert [is_taken(port) for port in ports] == [False, False, True, True, True]
        datagrams.time.advance(32)
        assert [is_taken(port) for port in ports] == [False, False, False, True, True]
        datagrams.time.advance(2)
        assert not any(is_taken(port) for port in ports)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN])
@in_reactor
async def test_ports_and_descriptors_are_kept_only_while_there_are_others(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Datagrams(own_time=True) as datagrams:
        _, _, origin = datagrams.session()
        flows = [datagrams.flow(origin) for _ in range(3)]
        ports = [(await upstream(flow, origin))[1] for flow in flows]
        for flow in flows[:2]:
            flow.close()
        real = socket.socket.connect

        def exhausted(sock: socket.socket, address: Any) -> None:
            if is_taken(ports[0]):
                raise OSError(number, "exhausted")
            real(sock, address)

        monkeypatch.setattr(socket.socket, "connect", exhausted)
        datagrams.flow(origin)
        assert [is_taken(port) for port in ports] == [False, True, True]
        flows[2].close()
        monkeypatch.setattr(datagram, "open_socket", lambda *_arguments: os_error(number))
        before = descriptors()
        with pytest.raises(OSError, match="exhausted"):
            datagrams.flow(origin)
        assert descriptors() == before - 2


def os_error(number: int) -> None:
    raise OSError(number, "exhausted")


# Bugs


@in_reactor
async def test_a_bug_in_the_receiver_costs_the_datagram_that_it_was_shown() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        other_client, other_flow, other_origin = datagrams.session()
        address, other_address = await upstream(flow, origin), await upstream(other_flow, other_origin)
        datagrams.receiver.on_client = lambda data, address, path: fail()
        datagrams.receiver.on_origin = lambda data, flow: fail()
        client.send(b"?", datagrams.to)
        client.send(b"one", datagrams.to)
        other_client.send(b"two", datagrams.to)
        await origin.receives(b"one")
        await other_origin.receives(b"two")
        origin.send(b"!", address)
        origin.send(b"three", address)
        other_origin.send(b"four", other_address)
        await client.receives(b"three")
        await other_client.receives(b"four")
        assert [failure.type for failure in datagrams.failures] == [ZeroDivisionError] * 2
        datagrams.failures.clear()


# Fairness


@in_reactor
async def test_a_flood_of_one_socket_leaves_the_others_and_the_reactor_their_turn() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        flooder = datagrams.peer()
        for _ in range(5 * CLIENT_BATCH):
            flooder.send(b"flood", datagrams.to)
            origin.send(b"media", address)
        datagrams.relay.doRead()
        assert CLIENT_BATCH <= len(datagrams.receiver.from_clients) <= CLIENT_BATCH + MAX_BATCH
        assert 1 <= client.look() <= MAX_BATCH
        await until(lambda: len(datagrams.receiver.from_clients) == 5 * CLIENT_BATCH, "all of the flood")
        await until(lambda: client.look() == 5 * CLIENT_BATCH, "all of the media")


@in_reactor
async def test_a_burst_is_taken_with_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[int] = []
    real = DatagramRelay._serve

    def counting(relay: DatagramRelay, fd: int, event: int) -> None:
        events.append(fd)
        real(relay, fd, event)

    monkeypatch.setattr(DatagramRelay, "_serve", counting)
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        for _ in range(1 + BURST):
            origin.send(b"media", address)
        datagrams.relay.doRead()
        assert client.look() == 1 + BURST
        assert len(events) == 2


@in_reactor
async def test_a_long_burst_leaves_the_reactor_its_turn() -> None:
    async with Datagrams() as datagrams:
        client, flow, origin = datagrams.session()
        address = await upstream(flow, origin)
        for _ in range(3 * MAX_BATCH):
            origin.send(b"media", address)
        datagrams.relay.doRead()
        assert MAX_BATCH <= client.look() <= MAX_BATCH + BURST


@in_reactor
async def test_many_busy_flows_leave_each_other_and_the_clients_their_turn() -> None:
    async with Datagrams() as datagrams:
        origin = datagrams.peer()
        clients = [datagrams.peer() for _ in range(2 * MAX_BATCH)]
        for client in clients:
            flow = datagrams.flow(origin, client)
            address = await upstream(flow, origin)
            for _ in range(3):
                origin.send(b"media", address)
        clients[0].send(b"?", datagrams.to)
        for _ in range(3):
            datagrams.relay.doRead()
        assert len(datagrams.receiver.from_clients) == 1
        counts = [client.look() for client in clients]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) <= 3 * MAX_BATCH


@in_reactor
async def test_nothing_runs_while_nothing_is_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    async with Datagrams() as datagrams:
        client, _, origin = datagrams.session()
        client.send(b"once", datagrams.to)
        await origin.receives(b"once")
        await rounds.assert_idle()


# Size


def grown(work: Callable[[], None]) -> int:
    """Bytes of Python's memory that are left of ``work``, which has been done before."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@in_reactor
async def test_closed_flows_leave_nothing() -> None:
    async with Datagrams(own_time=True) as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        before = descriptors()

        def live(forgotten: bool) -> None:
            flow = datagrams.flow(origin, client)
            flow.owner = [flow]
            client.send(b"there", datagrams.to)
            datagrams.relay.doRead()
            assert flow.received_packets == 1
            flow.close(forgotten)
            origin.look()

        def live_often() -> None:
            for _ in range(500):
                live(forgotten=True)
                live(forgotten=False)
            datagrams.time.advance(35)
            assert origin.received == [b"there"] * 1000
            origin.received.clear()
            origin.senders.clear()

        assert grown(live_often) < 5_000
        assert descriptors() == before
        assert not datagrams.relay.routes


@in_reactor
async def test_closed_flows_are_freed_without_the_garbage_collector() -> None:
    async with Datagrams() as datagrams:
        client, origin = datagrams.peer(), datagrams.peer()
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                flow = datagrams.flow(origin, client)
                flow.owner = [flow]
                flow.send(b"there")
                flow.close()
            del flow
            assert not gc.collect()
        finally:
            gc.enable()


@in_reactor
async def test_a_flood_of_unknown_datagrams_leaves_nothing() -> None:
    async with Datagrams() as datagrams:
        strangers = [datagrams.peer() for _ in range(50)]
        shown = 0

        def count(data: memoryview, address: Address, path: Path | None) -> None:
            nonlocal shown
            shown += 1
            datagrams.receiver.from_clients.clear()

        def flood() -> None:
            for _ in range(20):
                for stranger in strangers:
                    stranger.send(b"rubbish", datagrams.to)
                datagrams.relay.doRead()

        datagrams.receiver.on_client = count
        assert grown(flood) < 5_000
        assert shown == 2000


@in_reactor
async def test_an_idle_flow_costs_less_than_a_kilobyte() -> None:
    async with Datagrams() as datagrams:
        relay, kept = datagrams.relay, []
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(500):
                flow = relay.open_flow("127.0.0.1", 9)
                flow.select(flow.add_path(("127.0.0.1", number)))
                kept.append(flow)
            assert tracemalloc.get_traced_memory()[0] - before < 1000 * len(kept)
        finally:
            tracemalloc.stop()


# Sockets that cannot be had


@in_reactor
async def test_a_taken_port_cannot_be_listened_on() -> None:
    async with Datagrams() as datagrams:
        other = DatagramRelay(reactor, Recorder(), {}, {})
        before = descriptors()
        with pytest.raises(CannotListenError) as raised:
            other.listen("127.0.0.1", datagrams.port)
        assert raised.value.port == datagrams.port
        assert raised.value.socketError.errno == errno.EADDRINUSE
        for interface in ("192.0.2.1", "localhost"):
            with pytest.raises(CannotListenError):
                other.listen(interface, 0)
        assert descriptors() == before


@in_reactor
async def test_without_a_descriptor_for_events_no_socket_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = DatagramRelay(reactor, Recorder(), {}, {})
    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(select, "epoll", lambda: os_error(errno.EMFILE))
        with pytest.raises(CannotListenError) as raised:
            relay.listen("127.0.0.1", 0)
        assert raised.value.socketError.errno == errno.EMFILE
        with pytest.raises(OSError, match="exhausted"):
            relay.open_flow("127.0.0.1", 9)
    assert descriptors() == before
    relay.listen("127.0.0.1", 0)
    relay.open_flow("127.0.0.1", 9)
    relay.close()
    assert descriptors() == before


@in_reactor
async def test_an_address_whose_socket_cannot_be_watched_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Datagrams("0.0.0.0") as datagrams:
        client = datagrams.peer()
        before = descriptors()
        monkeypatch.setattr(DatagramRelay, "_open", lambda relay: os_error(errno.ENOSPC))
        for _ in range(2):
            client.send(b"hello", ("127.0.0.2", datagrams.port))
        await until(lambda: len(datagrams.receiver.from_clients) == 2, "the datagrams")
        assert descriptors() == before


@pytest.mark.parametrize("host", ["origin.example", "255.255.255.255"])
@in_reactor
async def test_an_origin_that_cannot_be_connected_to_leaves_nothing(host: str) -> None:
    async with Datagrams() as datagrams:
        before = descriptors()
        with pytest.raises(OSError, match=r"."):
            datagrams.relay.open_flow(host, 9)
        assert descriptors() == before


@pytest.mark.parametrize(("asked", "told"), [(1 << 30, True), (4096, False)])
@in_reactor
async def test_buffers_smaller_than_asked_for_are_told_of(
    asked: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket.setsockopt

    def unprivileged(sock: socket.socket, level: int, option: int, value: int) -> None:
        if option in (32, 33):
            raise PermissionError
        real(sock, level, option, value)

    monkeypatch.setattr(datagram, "LISTENER_BUFFER", asked)
    monkeypatch.setattr(socket.socket, "setsockopt", unprivileged)
    with capturedLogs() as events:
        async with Datagrams():
            pass
    texts = [event["log_format"] for event in events if event["log_namespace"] == "srsproxy.relay.datagram"]
    assert ["net.core.rmem_max" in text for text in texts] == [True] * told
