"""From a caller's conclusion to an origin that has taken it, or to a rejection."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from twisted.internet import reactor

from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.recorded import datagrams
from tests.srt import wire
from tests.srt.peers import HOST, ScriptedSrtOrigin
from tests.srt.proxied import KEY, PUBLISH, ProxiedSrt, of_type
from tests.srt.wire import Handshake
from tests.webrtc.proxied import TakenTime

DECIDED_FOR = 120.0
"""Seconds in which a caller gets no other answer."""

ENCRYPTED = Handshake.parse(datagrams("srt_publish_encrypted")[2].data)
"""A recorded conclusion with KMREQ."""


def sent_to(origin: ScriptedSrtOrigin) -> list[bytes]:
    """All packets that have come to an origin."""
    return [packet for packet, _ in origin.received]


def types(handshakes: list[Handshake]) -> list[int]:
    """The type of each."""
    return [handshake.type for handshake in handshakes]


# The handshake


@pytest.mark.parametrize("recorded", [None, ENCRYPTED])
@in_reactor
async def test_the_conclusion_reaches_the_origin_byte_for_byte_but_for_the_cookie(recorded: Handshake | None) -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        await caller.induce()
        fields = {} if recorded is None else {"tail": recorded.tail, "extension": recorded.extension}
        asked = caller.conclusion(**fields)
        answer = await caller.ask(asked)

        induction, conclusion = sent_to(proxied.origin)
        assert len(induction) == wire.HANDSHAKE_SIZE
        assert replace(Handshake.parse(induction), timestamp=0) == caller.induction(timestamp=0)
        assert conclusion == bytes(replace(asked, cookie=Handshake.parse(conclusion).cookie))
        assert Handshake.parse(conclusion).cookie != asked.cookie
        assert answer.rejection is None


@pytest.mark.parametrize("host", [HOST, "127.1.2.3"])
@in_reactor
async def test_the_answer_reaches_the_caller_with_its_own_cookie_and_address(host: str) -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect(host=host)

        induced, answer = joined.caller.handshakes
        assert answer == replace(joined.connection.answer, cookie=induced.cookie, peer_ip=wire.encode_peer_ip(host))
        assert induced.peer_ip == answer.peer_ip
        assert induced.cookie != joined.connection.answer.cookie
        [record] = proxied.stats.active
        assert (record.key, record.action, record.peer, record.origin) == (KEY, "publish", host, "origin-0-service-1")
        assert len(proxied.told(f"publish {KEY}: started on origin-0-service-1")) == 1


@in_reactor
async def test_a_stream_has_one_origin_and_the_streams_are_spread() -> None:
    async with ProxiedSrt(reactor, origins=3) as proxied:
        for number in range(6):
            joined = await proxied.connect(f"#!::r=live/s{number},m=publish")
            assert (await proxied.connect(f"#!::r=live/s{number},m=request")).origin is joined.origin
            assert (await proxied.connect(f"live/s{number}?token=x")).origin is joined.origin

        assert [len(origin.connections) for origin in proxied.srt_origins] == [6, 6, 6]


@in_reactor
async def test_a_caller_without_a_stream_id_publishes_the_stream_that_srs_takes_it_for() -> None:
    async with ProxiedSrt(reactor) as proxied:
        await proxied.connect(None)

        assert [(one.key, one.action) for one in proxied.stats.active] == [
            ("__defaultVhost__/live/livestream", "publish")
        ]


@in_reactor
async def test_a_caller_of_version_4_is_passed_on_as_one_without_a_stream_id() -> None:
    async with ProxiedSrt(reactor) as proxied:
        caller = await proxied.caller()
        # This origin rejects it.
        answer = await caller.call(version=4, extension=2, tail=b"")

        [conclusion] = proxied.origin.handshakes(wire.CONCLUSION)
        assert (conclusion.version, conclusion.extension, conclusion.tail) == (4, 2, b"")
        assert answer.rejection == wire.ROGUE
        await proxied.finished(Outcome.REJECTED_BY_ORIGIN)
        assert proxied.told("publish __defaultVhost__/live/livestream")


# Handshakes that come again, or do not come


@in_reactor
async def test_a_conclusion_that_comes_again_while_there_is_no_answer_is_not_asked_about_again() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        proxied.origin.loses = of_type(wire.CONCLUSION)
        caller = await proxied.caller()
        await proxied.concluded(caller)
        await proxied.until(lambda: proxied.origin.handshakes(wire.CONCLUSION), "the conclusion")
        for _ in range(5):
            caller.send_raw(bytes(caller.conclusion()))
        await proxied.served()

        assert types([Handshake.parse(packet) for packet in sent_to(proxied.origin)]) == [
            wire.INDUCTION,
            wire.CONCLUSION,
        ]
        assert proxied.stats.opened["srt"] == proxied.waiting() == 1
        assert types(caller.handshakes) == [wire.INDUCTION]


@in_reactor
async def test_a_conclusion_of_a_connected_caller_is_asked_about_again_and_answered_alike() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.connect()
        for number in range(3):
            answer = await joined.caller.ask(joined.caller.conclusion())
            assert answer == joined.caller.handshakes[1]
            assert len(proxied.origin.handshakes(wire.CONCLUSION)) >= number + 2

        asked = [replace(one, timestamp=0) for one in proxied.origin.handshakes(wire.CONCLUSION)]
        assert len(set(asked)) == 1
        assert len(proxied.origin.handshakes(wire.INDUCTION)) == 1
        assert set(types(joined.caller.handshakes[1:])) == {wire.CONCLUSION}
        assert len(proxied.origin.connections) == proxied.flows() == proxied.stats.opened["srt"] == 1


@in_reactor
async def test_a_rejected_conclusion_that_comes_again_is_rejected_again_for_as_long_as_callers_ask() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        proxied.origin.rejects = lambda _: wire.FORBIDDEN
        caller = await proxied.caller()
        answer = await caller.call()
        time.pass_(DECIDED_FOR - 0.5)
        for _ in range(3):
            assert await caller.ask(caller.conclusion()) == answer
        assert answer.rejection == wire.FORBIDDEN
        assert len(proxied.origin.handshakes(wire.CONCLUSION)) == proxied.stats.opened["srt"] == 1
        time.pass_(1)
        proxied.origin.rejects = lambda _: None

        assert (await caller.call()).rejection is None
        assert proxied.stats.opened["srt"] == 2


@pytest.mark.parametrize("lost", range(4))
@in_reactor
async def test_a_packet_that_is_lost_on_the_way_to_the_origin_or_back_is_made_up_for(lost: int) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        packets: list[bytes] = []

        def loses(packet: bytes) -> bool:
            packets.append(packet)
            return len(packets) == lost + 1

        proxied.origin.loses = loses
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: len(packets) == lost + 1, "the packet that is lost")
        time.pass_(0.2)

        assert (await answer).rejection is None
        assert len(proxied.origin.connections) == 1


@in_reactor
async def test_answers_of_the_origin_that_come_twice_are_passed_on_and_its_induction_is_not() -> None:
    async with ProxiedSrt(reactor) as proxied:
        joined = await proxied.connect()
        answer = joined.connection.answer
        induction = replace(
            answer, type=wire.INDUCTION, extension=wire.MAGIC, tail=b"", socket_id=joined.caller.local_id
        )
        for packet in (induction, answer, induction, answer, replace(answer, destination=1), induction):
            joined.connection.send_raw(bytes(packet))
        joined.connection.send(b"the end")
        await joined.caller.heard(1)

        assert joined.caller.handshakes[1:] == [joined.caller.handshakes[1]] * 3


# Rejections


MALFORMED = [b"ab", b"\0\5\xff\xff1234", wire.extension(wire.SID, b""), wire.stream_id_extension("s" * 513)]


@pytest.mark.parametrize(
    ("stream_id", "fields", "reason"),
    [
        ("#!::m=publish", {}, wire.BAD_REQUEST),
        ("#!::r=live/s,m=record", {}, wire.BAD_MODE),
        (PUBLISH, {"version": 4}, wire.ROGUE),
        (PUBLISH, {"version": 3}, wire.VERSION),
        (PUBLISH, {"version": 6}, wire.VERSION),
        (PUBLISH, {"version": 0xFFFFFFFF}, wire.VERSION),
        *[(None, {"tail": tail, "extension": wire.CONFIG_FLAG}, wire.ROGUE) for tail in MALFORMED],
        (PUBLISH, {"extension": wire.HSREQ_FLAG}, wire.ROGUE),
        # By these, libsrt comes to harm, or is silent.
        *[(PUBLISH, {"mtu": mtu}, wire.ROGUE) for mtu in (0, 64, 231, 0xFFFFFFFF)],
        *[(PUBLISH, {"flow_window": window}, wire.ROGUE) for window in (0, 0xFFFFFFFF)],
        (PUBLISH, {"initial_sequence_number": wire.SEQUENCES}, wire.ROGUE),
    ],
)
@in_reactor
async def test_a_caller_that_cannot_be_served_is_rejected_at_once(
    stream_id: str | None, fields: dict[str, Any], reason: int
) -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        caller = await proxied.caller(stream_id)
        await caller.induce()
        asked = caller.conclusion(**fields)
        answer = await caller.ask(asked)

        assert answer.rejection == reason
        assert answer == replace(
            asked, type=wire.REJECTION + reason, destination=caller.local_id, timestamp=answer.timestamp, tail=b""
        )
        assert await caller.ask(asked) == answer
        await proxied.finished(Outcome.BAD_REQUEST)
        assert not proxied.origin.received


@in_reactor
async def test_without_an_origin_callers_are_rejected_at_once() -> None:
    async with ProxiedSrt(reactor, origins=0, time=TakenTime(reactor)) as proxied:
        assert await proxied.rejected() == wire.DOWN

        await proxied.finished(Outcome.NO_ORIGIN)


@in_reactor
async def test_an_origin_without_srt_is_none() -> None:
    async with ProxiedSrt(reactor, origins=0, time=TakenTime(reactor)) as proxied:
        await proxied.proxy.add_endpoint("rtmp-only", "1935")

        assert await proxied.rejected() == wire.DOWN
        await proxied.finished(Outcome.NO_ORIGIN)


@pytest.mark.parametrize(
    "settings", [{"max_connections": 1}, {"max_connections_per_address": 1}, {"max_pending_per_address": 1}]
)
@in_reactor
async def test_callers_beyond_a_limit_are_rejected_until_there_is_room(settings: dict[str, Any]) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time, **settings) as proxied:
        proxied.origin.silent = True
        caller = await proxied.caller()
        answer = await proxied.concluded(caller)
        await proxied.until(proxied.waiting, "the first caller")
        for _ in range(3):
            assert await proxied.rejected() == wire.OVERLOAD
        proxied.origin.silent = False
        time.pass_(0.1)
        assert (await answer).rejection is None
        await proxied.finished(Outcome.REFUSED, 3)

        if "max_pending_per_address" not in settings:
            assert await proxied.rejected() == wire.OVERLOAD
            caller.shut_down()
            await proxied.until(lambda: not proxied.stats.active, "the end of the first caller")
        await proxied.connect()


@in_reactor
async def test_the_limits_of_one_address_do_not_concern_another() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor), max_pending_per_address=1) as proxied:
        proxied.origin.silent = True
        for number, host in enumerate((HOST, "127.0.0.2", "127.0.0.3"), 1):
            await proxied.concluded(await proxied.caller(host=host))
            await proxied.until(partial(proxied.has_waiting, number), "a caller that waits")


@pytest.mark.parametrize("reason", [0, wire.BADSECRET, wire.UNSECURE, wire.FORBIDDEN, wire.NOT_FOUND, 2000, 123456])
@in_reactor
async def test_rejections_of_the_origin_pass_through(reason: int) -> None:
    async with ProxiedSrt(reactor, origins=2, time=TakenTime(reactor)) as proxied:
        for origin in proxied.srt_origins:
            origin.rejects = {PUBLISH: reason}.get
        caller = await proxied.caller()
        answer = await caller.call()

        assert answer.rejection == reason
        assert answer.cookie == caller.handshakes[0].cookie
        assert answer.peer_ip == wire.encode_peer_ip(HOST)
        assert sorted(len(origin.received) for origin in proxied.srt_origins) == [0, 2]
        await proxied.finished(Outcome.REJECTED_BY_ORIGIN)
        [(_, told)] = proxied.told("rejected the caller")
        assert str(reason) in told


@in_reactor
async def test_a_refusal_after_the_origin_has_taken_the_caller_passes_through() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        proxied.origin.refuses = {PUBLISH}
        joined = await proxied.connect()
        await joined.caller.end()

        assert len(joined.caller.controls(wire.SHUTDOWN)) == 1
        assert not joined.connection.ended
        await proxied.finished(Outcome.REJECTED_BY_ORIGIN)
        assert proxied.told("took the caller, and then sent SHUTDOWN")


# The end of the proxy


@in_reactor
async def test_callers_that_wait_are_rejected_when_the_proxy_ends_and_so_are_those_that_come() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.connect()
        proxied.origin.loses = of_type(wire.CONCLUSION)
        answers = [await proxied.concluded(await proxied.caller()) for _ in range(3)]
        await proxied.until(lambda: proxied.waiting() == 3, "those who wait")
        drained = proxied.proxy.srt_server.drain()

        assert [(await answer).rejection for answer in answers] == [wire.DOWN] * 3
        assert await proxied.rejected() == wire.DOWN
        assert proxied.waiting() == 0
        assert proxied.flows() == 1
        assert not drained.called
        joined.caller.shut_down()
        await drained
        assert proxied.stats.ended == {("srt", Outcome.REFUSED): 4, ("srt", Outcome.FINISHED): 1}


@in_reactor
async def test_nobody_waits_for_callers_that_wait() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        proxied.origin.silent = True
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(proxied.waiting, "the caller")
        await proxied.proxy.srt_server.drain()

        assert (await answer).rejection == wire.DOWN
