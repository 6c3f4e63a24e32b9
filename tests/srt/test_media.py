"""Media: to whom it goes, and who cannot interfere."""

from __future__ import annotations

import random
import socket

import pytest
from twisted.internet import reactor

from srsproxy.outcome import Outcome
from srsproxy.stats import Stray
from tests.asynchronous import in_reactor
from tests.srt import wire
from tests.srt.conversation import Conversation
from tests.srt.proxied import PLAY, PUBLISH, Connected, ProxiedSrt, sockets
from tests.webrtc.proxied import TakenTime

OTHER_PUBLISH = "#!::r=live/o,m=publish"

DROPREQ = 7


async def flows(joined: Connected, payload: bytes) -> None:
    """Media flows both ways."""
    joined.caller.send(payload)
    assert payload in await joined.connection.heard(len(joined.connection.payloads) + 1)
    joined.connection.send(payload)
    assert payload in await joined.caller.heard(len(joined.caller.payloads) + 1)


async def send_all(proxied: ProxiedSrt, sender: Conversation, packets: list[bytes], receiver: Conversation) -> None:
    """Wait until the receiver has as many packets."""
    for packet in packets:
        sender.send_raw(packet)
    await proxied.until(lambda: len(receiver.datagrams) >= len(packets), "all packets")


@in_reactor
async def test_packets_of_all_kinds_are_relayed_both_ways_as_they_are() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        for sender, receiver in ((joined.caller, joined.connection), (joined.connection, joined.caller)):
            receiver.acknowledges = False
            packets = [
                wire.data_packet(7, 1, sender.remote_id, bytes(1456), timestamp=1),
                *(
                    wire.control(type, sender.remote_id, body=b"body")
                    for type in (wire.KEEPALIVE, wire.ACKACK, 8, 0x7FFF)
                ),
                b"\x7f" + bytes(11) + sender.remote_id.to_bytes(4, "big"),
                wire.control(DROPREQ, sender.remote_id, body=(5).to_bytes(4, "big") + (9).to_bytes(4, "big")),
            ]
            await send_all(proxied, sender, packets, receiver)
            assert receiver.datagrams == packets

        assert not proxied.origin.dropped
        assert not proxied.stats.strays


@in_reactor
async def test_lost_packets_are_sent_again_between_caller_and_origin() -> None:
    async with ProxiedSrt(reactor) as proxied:
        chance = random.Random(1)
        joined = await proxied.connect()
        proxied.origin.loses = lambda packet: wire.control_type(packet) is None and chance.random() < 0.2
        sent = [bytes([number]) * 188 for number in range(100)]
        for payload in sent:
            joined.caller.send(payload)
        proxied.origin.loses = lambda _: False
        joined.caller.send(b"the last")

        assert await joined.connection.heard(101) == [*sent, b"the last"]


@in_reactor
async def test_many_callers_of_one_address_are_told_apart() -> None:
    async with ProxiedSrt(reactor, origins=2) as proxied:
        first = await proxied.connect()
        joined = [first]
        for number in range(5):
            stream_id = OTHER_PUBLISH if number == 0 else f"live/{number}"
            joined.append(await proxied.connected(first.caller.sibling(stream_id)))
        for number, one in enumerate(joined):
            await flows(one, b"%d" % number)

        assert [one.connection.payloads for one in joined] == [[b"%d" % number] for number in range(6)]
        assert [one.caller.payloads for one in joined] == [[b"%d" % number] for number in range(6)]
        joined[2].caller.shut_down()
        await joined[2].connection.end()
        await flows(first, b"goes on")
        assert len(proxied.stats.active) == 5


@in_reactor
async def test_the_same_socket_id_from_two_origins_for_one_address_cannot_be_told_apart() -> None:
    async with ProxiedSrt(reactor, origins=2, first_id=0x1234567) as proxied:
        assert await proxied.pick() is not await proxied.pick("__defaultVhost__/live/o")
        first = await proxied.connect()
        answer = await first.caller.sibling(OTHER_PUBLISH).call()

        assert answer.rejection == wire.OVERLOAD
        [taken] = [one for origin in proxied.srt_origins for one in origin.connections if one is not first.connection]
        await taken.end()
        await flows(first, b"goes on")
        # From another address there is no doubt.
        await flows(await proxied.connect(OTHER_PUBLISH), b"other")
        assert proxied.stats.ended == {("srt", Outcome.REFUSED): 1}


@in_reactor
async def test_the_same_socket_id_from_one_origin_again_means_that_the_former_session_is_over() -> None:
    async with ProxiedSrt(reactor) as proxied:
        first = await proxied.connect()
        proxied.origin._by_id.clear()
        proxied.origin._next_id = first.connection.local_id
        second = await proxied.connected(first.caller.sibling(PLAY))

        await first.caller.end()
        await flows(second, b"media")
        await proxied.finished(Outcome.ORIGIN_LOST)
        assert len(proxied.stats.active) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
@in_reactor
async def test_nobody_else_can_end_or_use_a_session(host: str) -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.connect()
        stranger = await proxied.caller(host=host)
        stranger.begin(joined.caller.remote_id, 0)
        stranger.shut_down()
        stranger.send_control(wire.KEEPALIVE)
        stranger.send(b"false")
        await proxied.dropped(Stray.UNKNOWN_ADDRESS, 3)

        assert not joined.connection.datagrams
        assert not stranger.datagrams
        assert not joined.caller.ended
        await flows(joined, b"media")
        assert not stranger.datagrams


@in_reactor
async def test_the_origins_word_for_another_socket_ends_nothing() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        joined.connection.send_raw(wire.control(wire.SHUTDOWN, joined.caller.local_id ^ 1))
        await flows(joined, b"media")

        assert not proxied.stats.ended


@in_reactor
async def test_an_ack_far_ahead_of_those_before_is_dropped() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect(PLAY)
        begin = joined.caller.conclusion().initial_sequence_number

        def ack(ahead: int) -> bytes:
            body = ((begin + ahead) % (1 << 31)).to_bytes(4, "big")
            return wire.control(wire.ACK, joined.caller.remote_id, body=body)

        good = [ack(ahead) for ahead in (1, 1000, 900, 200_000, 400_000)]
        for packet in (good[0], ack(1 << 29), *good[1:], ack(1_000_000), ack((1 << 30) - 1)):
            joined.caller.send_raw(packet)
        await proxied.dropped(Stray.MALFORMED, 3)
        await proxied.until(lambda: len(joined.connection.datagrams) >= len(good), "the others")

        assert joined.connection.datagrams == good


@pytest.mark.parametrize(
    "body", [b"", bytes(4), bytes(12), b"\0\0\0\5\0\0\0\4", b"\0\0\0\0\x7f\xff\xff\xff", b"\x80\0\0\0\x80\0\0\1"]
)
@in_reactor
async def test_a_dropreq_that_could_harm_the_origin_is_dropped(body: bytes) -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        joined.caller.send_raw(wire.control(DROPREQ, joined.caller.remote_id, body=body))
        await flows(joined, b"media")

        assert not joined.connection.controls(DROPREQ)
        assert proxied.strays(Stray.MALFORMED) == 1


@in_reactor
async def test_datagrams_of_no_session_keep_nothing() -> None:
    chance = random.Random(1)
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        before = sockets()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
            flooder.connect(proxied.address)
            for round in range(400):
                for _ in range(50):
                    flooder.send(b"\0" + chance.randbytes(11) + chance.randbytes(4) + bytes(16))
                await proxied.dropped(Stray.UNKNOWN_ADDRESS, 50 * (round + 1))
            flooder.setblocking(False)
            with pytest.raises(BlockingIOError):
                flooder.recv(1)

        proxied.check()
        assert sockets() == before
        assert proxied.stats.opened["srt"] == 1
        sessions = proxied.listener._sessions
        assert len(sessions._gone) == len(sessions._verdicts) == 0
        await flows(joined, b"media")


@in_reactor
async def test_packets_and_bytes_are_counted() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        joined.connection.acknowledges = joined.caller.acknowledges = False
        for _ in range(3):
            joined.caller.send(bytes(100))
        await joined.connection.heard(3)
        joined.connection.send(bytes(100))
        await joined.caller.heard(1)
        joined.caller.shut_down()
        await joined.connection.end()

        # Handshakes count too: two to the origin; and farewells.
        stats, answer = proxied.stats, joined.connection.answer
        conclusion = joined.connection.conclusion
        assert (stats.received_packets["srt"], stats.sent_packets["srt"]) == (2 + 3 + 1, 1 + 1)
        assert stats.received["srt"] == wire.HANDSHAKE_SIZE + len(bytes(conclusion)) + 3 * 116 + 20
        assert stats.sent["srt"] == len(bytes(answer)) + 116
        assert (stats.received_drops["srt"], stats.sent_drops["srt"]) == (0, 0)


@in_reactor
async def test_sessions_that_have_ended_leave_nothing_behind() -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        before = sockets()
        for number in range(50):
            one = await proxied.connected(caller.sibling(PUBLISH if number % 2 else PLAY))
            one.caller.send(b"media")
            await one.connection.heard(1)
            if number % 3:
                one.caller.shut_down()
                await one.connection.end()
            else:
                one.connection.shut_down()
                await one.caller.end()
        await proxied.until(lambda: not proxied.stats.active, "the end of all")

        assert sockets() == before
        proxied.check()
        assert proxied.stats.ended.total() == 50
