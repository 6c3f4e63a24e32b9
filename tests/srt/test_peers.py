"""The peers of SRT tests against each other, without a proxy."""

from __future__ import annotations

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor, until
from tests.srt import wire
from tests.srt.lossy import LossyPath
from tests.srt.peers import HOST, ScriptedCaller, ScriptedSrtOrigin
from tests.srt.programs import LibsrtCallers, LibsrtOrigin
from tests.srt.traffic import payload

PUBLISH = "#!::r=live/s,m=publish"
PLAY = "#!::r=live/s,m=request"
PASSPHRASE = ("--passphrase", "a passphrase")
SECURED = 2
"""SRT_KM_S_SECURED."""

# Scripted peers


@in_reactor
async def test_scripted_peers_exchange_data() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        await caller.connect()
        connection = await origin.connection()

        numbers = [caller.send(payload(number)) for number in range(5)]
        assert await connection.heard(5) == [payload(number) for number in range(5)]
        await caller.acknowledged(numbers[-1])
        connection.send(b"answer")
        assert await caller.heard(1) == [b"answer"]
        caller.shut_down()
        await connection.end()

    assert (connection.stream_id, connection.address) == (PUBLISH, caller.socket.address)
    assert len(connection.controls(wire.ACKACK)) == 5


@in_reactor
async def test_several_scripted_callers_have_one_socket() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        other = caller.sibling(PLAY)
        for one in (caller, other):
            await one.connect()
        first, second = await origin.connection(1), await origin.connection(2)

        first.send(b"1")
        second.send(b"2")

        assert [await caller.heard(1), await other.heard(1)] == [[b"1"], [b"2"]]
    assert first.address == second.address
    assert first.local_id == second.local_id + 1


@in_reactor
async def test_the_scripted_origin_repeats_its_answer_to_a_repeated_conclusion() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        await caller.connect()
        for _ in range(2):
            await caller.ask(caller.conclusion(timestamp=5))

        assert len(set(caller.handshakes[1:])) == 1
        assert len(origin.connections) == 1
        assert len(origin.handshakes(wire.CONCLUSION)) == 3


@in_reactor
async def test_the_scripted_origin_rejects() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        origin.rejects = {PUBLISH: wire.NOT_FOUND}.get

        answers = [await caller.call(), await caller.call(version=4), await caller.call(version=6)]
        await caller.sibling(PLAY).connect()

    assert [answer.rejection for answer in answers] == [wire.NOT_FOUND, wire.ROGUE, wire.VERSION]
    assert {len(bytes(answer)) for answer in answers} == {wire.HANDSHAKE_SIZE}


@in_reactor
async def test_the_scripted_origin_refuses_by_shutting_down() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        origin.refuses = {PUBLISH}

        await caller.connect()
        await caller.end()


@in_reactor
async def test_the_scripted_origin_ignores_strangers() -> None:
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        ScriptedCaller(reactor, origin.address, PUBLISH) as caller,
        ScriptedCaller(reactor, origin.address, PLAY) as other,
    ):
        await caller.connect()
        await other.connect()
        connection = await origin.connection()

        other.send_raw(bytes(other.conclusion(cookie=1)))
        other.send_raw(wire.control(wire.SHUTDOWN, connection.local_id))
        other.send_raw(b"\x80")
        caller.rebind()
        caller.send(b"from elsewhere")
        await until(reactor, lambda: len(origin.dropped) == 4, "packets that it ignores")

        assert not connection.datagrams


@in_reactor
async def test_a_silent_scripted_origin_is_asked_again() -> None:
    async with ScriptedSrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        origin.silent = True
        caller.send_raw(bytes(caller.induction()))
        await until(reactor, lambda: origin.received, "induction")
        origin.silent = False
        await caller.connect()
        connection = await origin.connection()

        await origin.restart()
        caller.send(b"to nobody")
        await until(reactor, lambda: origin.dropped, "packet for no connection")

    assert not connection.datagrams


@in_reactor
async def test_scripted_peers_make_up_for_losses() -> None:
    payloads = [payload(number) for number in range(300)]
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        LossyPath(reactor, origin.address, seed=1) as path,
        ScriptedCaller(reactor, path.address, PUBLISH) as caller,
    ):
        await caller.connect()
        connection = await origin.connection()
        for data in payloads:
            last = caller.send(data)
        await caller.acknowledged(last)

        assert connection.payloads == payloads
        assert min(path.lost, path.late) > 10


# libsrt and scripted peers


@pytest.mark.parametrize("options", [(), PASSPHRASE])
@in_reactor
async def test_a_libsrt_caller_is_connected_to_the_scripted_origin(options: tuple[str, ...]) -> None:
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH], "--packets", "20", *options) as callers,
    ):
        connection = await origin.connection()
        told = await callers.told("connected")
        heard = await connection.heard(20)
        await callers.told("sent", packets=20)
        await callers.stop()
        await connection.end()

    assert (connection.stream_id, connection.remote_id) == (PUBLISH, told["socket_id"])
    assert connection.address == (HOST, told["port"])
    assert (heard == [payload(number) for number in range(20)]) is (options == ())


@in_reactor
async def test_a_libsrt_caller_hears_the_scripted_origin() -> None:
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, [PLAY]) as callers,
    ):
        connection = await origin.connection()
        await callers.all_connected()
        for number in range(20):
            last = connection.send(payload(number))
        await connection.acknowledged(last)
        told = await callers.received(20)
        connection.shut_down()
        await callers.told("closed", caller=0)

    assert told["wrong"] == told["missing"] == 0


@pytest.mark.parametrize("reason", [wire.ROGUE, wire.VERSION, wire.OVERLOAD, wire.NOT_FOUND, wire.DOWN])
@in_reactor
async def test_a_libsrt_caller_tells_why_it_is_rejected(reason: int) -> None:
    async with ScriptedSrtOrigin(reactor) as origin:
        origin.rejects = lambda stream_id: reason
        async with LibsrtCallers(reactor, origin.address, [PUBLISH]) as callers:
            told = await callers.told("rejected")
            assert await callers.wait() == 0

    assert told["reason"] == reason
    assert told["milliseconds"] < 1000


@in_reactor
async def test_a_libsrt_caller_tells_that_there_was_no_answer() -> None:
    async with ScriptedSrtOrigin(reactor) as origin:
        origin.silent = True
        async with LibsrtCallers(reactor, origin.address, [PUBLISH], "--connect-timeout", "300") as callers:
            told = await callers.told("rejected")

    assert told["reason"] == wire.TIMEOUT
    assert told["milliseconds"] >= 300


@in_reactor
async def test_libsrt_calls_over_ipv6() -> None:
    async with (
        ScriptedSrtOrigin(reactor, host="::1") as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH]) as callers,
        ScriptedCaller(reactor, origin.address, PLAY) as caller,
    ):
        await callers.all_connected()
        await caller.connect()
        connection = await origin.connection()

    assert connection.conclusion.peer_ip == wire.encode_peer_ip("::1")


@in_reactor
async def test_libsrt_callers_of_one_port_are_told_apart() -> None:
    stream_ids = [f"#!::r=live/{number},m=publish" for number in range(10)]
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, stream_ids, "--one-port", "--packets", "5") as callers,
    ):
        told = await callers.all_connected()
        connections = [await origin.connection(number + 1) for number in range(10)]
        for connection in connections:
            await connection.heard(5)

    assert {connection.address[1] for connection in connections} == {told[0]["port"]}
    assert {connection.remote_id for connection in connections} == {one["socket_id"] for one in told}


@in_reactor
async def test_a_libsrt_caller_changes_its_key() -> None:
    options = (*PASSPHRASE, "--key-refresh", "20", "--packets", "50")
    async with (
        ScriptedSrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH], *options),
    ):
        connection = await origin.connection()
        await connection.heard(50)

    assert connection.controls(wire.USER_DEFINED)


@in_reactor
async def test_a_scripted_caller_is_connected_to_libsrt() -> None:
    async with LibsrtOrigin(reactor) as origin, ScriptedCaller(reactor, origin.address, PUBLISH) as caller:
        answer = await caller.connect()
        told = await origin.told("accepted")
        for number in range(20):
            last = caller.send(payload(number))
        await caller.acknowledged(last)
        counted = await origin.received(20)
        caller.shut_down()
        await origin.told("closed")

    assert (told["stream_id"], told["socket_id"]) == (PUBLISH, answer.socket_id)
    assert told["peer_port"] == caller.socket.address[1]
    assert counted["wrong"] == counted["missing"] == 0


@in_reactor
async def test_libsrt_rejects_and_refuses_scripted_callers() -> None:
    options = ("--reject", f"live/no={wire.FORBIDDEN}", "--refuse", "live/s")
    async with (
        LibsrtOrigin(reactor, *options) as origin,
        ScriptedCaller(reactor, origin.address, "#!::r=live/no,m=publish") as caller,
    ):
        answer = await caller.call()
        other = caller.sibling(PUBLISH)
        await other.connect()
        await other.end()

    assert answer.rejection == wire.FORBIDDEN


# libsrt and libsrt


@in_reactor
async def test_what_is_published_with_libsrt_is_played() -> None:
    async with (
        LibsrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, [PLAY, "#!::r=live/other,m=request"]) as players,
    ):
        await players.all_connected()
        async with LibsrtCallers(reactor, origin.address, [PUBLISH], "--packets", "50") as publisher:
            sent = await publisher.told("sent")
            played = await players.received(50)
        assert not players.events("received", caller=1)

    assert (sent["packets"], sent["retransmitted"]) == (50, 0)
    assert (played["caller"], played["packets"], played["wrong"], played["missing"]) == (0, 50, 0, 0)


@in_reactor
async def test_the_second_publisher_is_shut_down() -> None:
    async with (
        LibsrtOrigin(reactor) as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH]) as first,
    ):
        await first.all_connected()
        async with LibsrtCallers(reactor, origin.address, [PUBLISH]) as second:
            await second.told("closed")
            assert await second.wait() == 0

        assert not first.events("closed")


@pytest.mark.parametrize(("key_length", "key_refresh"), [(16, 0), (24, 0), (32, 0), (16, 20)])
@in_reactor
async def test_libsrt_encrypts(key_length: int, key_refresh: int) -> None:
    keys = ("--key-length", str(key_length), "--key-refresh", str(key_refresh))
    options = (*PASSPHRASE, *keys, "--packets", "50")
    async with (
        LibsrtOrigin(reactor, *PASSPHRASE) as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH], *options) as callers,
    ):
        told = await callers.told("connected")
        accepted = await origin.told("accepted")
        received = await origin.received(50)

    assert told["key_state"] == accepted["key_state"] == SECURED
    assert accepted["key_length"] == key_length
    assert received["wrong"] == received["missing"] == 0


@pytest.mark.parametrize(
    ("listener", "caller", "reason"),
    [
        (PASSPHRASE, ("--passphrase", "another passphrase"), wire.BADSECRET),
        (PASSPHRASE, (), wire.UNSECURE),
        ((), PASSPHRASE, wire.UNSECURE),
        (("--reject", f"live/s={wire.CONFLICT}"), (), wire.CONFLICT),
        (("--file",), (), wire.MESSAGEAPI),
    ],
)
@in_reactor
async def test_libsrt_rejects(listener: tuple[str, ...], caller: tuple[str, ...], reason: int) -> None:
    async with (
        LibsrtOrigin(reactor, *listener) as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH], *caller) as callers,
    ):
        told = await callers.told("rejected")

    assert told["reason"] == reason
    assert told["milliseconds"] < 1000


@in_reactor
async def test_files_are_echoed() -> None:
    options = ("--file", "--packets", "1000", "--rate", "1e9")
    async with (
        LibsrtOrigin(reactor, "--file", "--echo") as origin,
        LibsrtCallers(reactor, origin.address, [PUBLISH], *options) as callers,
    ):
        received = await callers.received(1000)

    assert (received["bytes"], received["wrong"], received["missing"]) == (1000 * len(payload(0)), 0, 0)


@pytest.mark.parametrize("options", [(), PASSPHRASE])
@in_reactor
async def test_libsrt_makes_up_for_losses(options: tuple[str, ...]) -> None:
    # Enough to be asked for a packet again several times, also by a busy machine.
    latency = ("--latency", "700")
    # More than are awaited: in live mode nobody misses the last one if that is lost.
    endless = ("--packets", "100000")
    async with (
        LibsrtOrigin(reactor, *latency, *options) as origin,
        LossyPath(reactor, origin.address, seed=2) as path,
        LibsrtCallers(reactor, path.address, [PLAY], *latency, *options) as player,
    ):
        await player.all_connected()
        async with LibsrtCallers(reactor, path.address, [PUBLISH], *endless, *latency, *options):
            played = await player.received(150)

    assert (played["wrong"], played["missing"]) == (0, 0)
    assert min(path.lost, path.late) > 20
