"""Origins that do not answer, and a balancer that takes its time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.srt import wire
from tests.srt.peers import ScriptedCaller
from tests.srt.proxied import PUBLISH, ProxiedSrt, of_type
from tests.webrtc.proxied import TakenTime

STEP_TIMEOUT, HANDSHAKE_TIMEOUT = 1.0, 2.5
"""Seconds, the defaults."""


@in_reactor
async def test_a_caller_of_a_silent_origin_is_moved_to_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, origins=2, time=time) as proxied:
        reported = proxied.failures_reported(monkeypatch)
        silent = await proxied.pick()
        silent.silent = True
        [other] = [origin for origin in proxied.srt_origins if origin is not silent]
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: silent.received, "the question to the silent one")
        time.pass_(STEP_TIMEOUT - 0.2)
        assert not other.received
        time.pass_(0.4)

        assert (await answer).socket_id == (await other.connection()).local_id
        assert proxied.flows() == 1
        assert reported == [proxied.registration(silent)]
        assert proxied.told("trying the next origin")
        # Others do not even try.
        assert (await proxied.connect("#!::r=live/s,m=request")).origin is other


@in_reactor
async def test_an_origin_that_does_not_answer_a_conclusion_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, origins=2, time=time) as proxied:
        reported = proxied.failures_reported(monkeypatch)
        picked = await proxied.pick()
        picked.loses = of_type(wire.CONCLUSION)
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: picked.handshakes(wire.CONCLUSION), "the question")
        time.pass_(STEP_TIMEOUT + 0.2)

        assert (await answer).rejection == wire.DOWN
        await proxied.finished(Outcome.TIMEOUT)
        assert not reported
        assert await proxied.pick() is picked
        # It may have taken the caller.
        assert sum(bool(origin.received) for origin in proxied.srt_origins) == 1


@in_reactor
async def test_an_origin_that_takes_a_caller_too_late_is_told_that_nobody_comes() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        proxied.origin.loses = lambda packet: wire.is_handshake(packet) and bool(proxied.origin.connections)
        answer = await proxied.concluded(await proxied.caller())
        connection = await proxied.origin.connection()
        time.pass_(STEP_TIMEOUT + 0.2)
        assert (await answer).rejection == wire.DOWN
        assert not connection.ended
        proxied.origin.loses = lambda _: False
        connection.send_raw(bytes(connection.answer))

        await connection.end()
        await proxied.until(lambda: proxied.flows() == 0, "no flow")


@in_reactor
async def test_an_origin_that_never_takes_a_caller_is_not_waited_for_for_ever() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        proxied.origin.loses = of_type(wire.CONCLUSION)
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: proxied.origin.handshakes(wire.CONCLUSION), "the question")
        time.pass_(STEP_TIMEOUT + 0.2)
        await answer
        assert proxied.flows() == 1
        time.pass_(5)

        assert proxied.flows() == 0


@in_reactor
async def test_a_silent_origin_delays_nobody_else() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, origins=2, time=time) as proxied:
        silent = await proxied.pick()
        silent.silent = True
        waiting = await proxied.caller()
        await proxied.concluded(waiting)
        await proxied.until(lambda: silent.received, "the question to the silent one")
        running = []
        for number in range(5):
            key = f"__defaultVhost__/live/{number}"
            if await proxied.pick(key) is not silent:
                running.append(await proxied.connect(f"#!::r=live/{number},m=publish"))

        assert len(running) >= 2
        assert proxied.waiting() == 1


@in_reactor
async def test_of_a_hundred_callers_at_once_only_those_of_a_silent_origin_wait() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, origins=3, time=time) as proxied:
        silent = proxied.srt_origins[1]
        silent.silent = True
        callers = [await proxied.caller(f"#!::r=live/{number},m=publish") for number in range(100)]
        for caller in callers:
            caller.send_raw(bytes(caller.induction()))
        await proxied.until(lambda: all(caller.handshakes for caller in callers), "all cookies")
        for caller in callers:
            caller.send_raw(bytes(caller.conclusion()))
        await proxied.until(lambda: proxied.stats.opened["srt"] == 100, "all conclusions")
        await proxied.until(lambda: len(silent.received) == proxied.waiting(), "those who need not wait")
        assert 20 < proxied.waiting() < 50
        time.pass_(STEP_TIMEOUT + 0.2)

        await proxied.until(lambda: all(caller.remote_id for caller in callers), "all callers")
        assert sum(len(origin.connections) for origin in proxied.srt_origins) == 100
        assert not silent.connections


@in_reactor
async def test_a_caller_of_an_origin_that_is_gone_is_moved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedSrt(reactor, origins=2) as proxied:
        reported = proxied.failures_reported(monkeypatch)
        gone = await proxied.pick()
        await gone.close()
        begin = proxied.reactor.seconds()
        joined = await proxied.connect()

        assert proxied.reactor.seconds() - begin < STEP_TIMEOUT
        assert joined.origin is not gone
        assert reported == [proxied.registration(gone)]
        assert proxied.told("connection refused")


@in_reactor
async def test_a_caller_is_rejected_when_all_origins_are_gone() -> None:
    async with ProxiedSrt(reactor, origins=3) as proxied:
        for origin in proxied.srt_origins:
            await origin.close()
        begin = proxied.reactor.seconds()

        assert await proxied.rejected() == wire.DOWN
        assert proxied.reactor.seconds() - begin < STEP_TIMEOUT
        await proxied.finished(Outcome.ORIGIN_UNREACHABLE)
        assert proxied.told("none of 3 origins could be reached")


@pytest.mark.parametrize("origins", [1, 2, 5])
@in_reactor
async def test_a_caller_is_rejected_before_it_gives_up_when_all_origins_are_silent(origins: int) -> None:
    time = TakenTime(reactor)
    deadline = min(origins * STEP_TIMEOUT, HANDSHAKE_TIMEOUT)
    async with ProxiedSrt(reactor, origins=origins, time=time) as proxied:
        for origin in proxied.srt_origins:
            origin.silent = True
        caller = await proxied.caller()
        answer = await proxied.concluded(caller)
        await proxied.until(proxied.waiting, "the caller")
        time.pass_(deadline - 0.2)
        await proxied.served()
        assert proxied.waiting() == 1
        time.pass_(0.5)

        assert (await answer).rejection == wire.DOWN
        await proxied.finished(Outcome.ORIGIN_UNREACHABLE)
        assert proxied.flows() == 0


@in_reactor
async def test_an_answer_that_comes_after_the_caller_was_moved_is_of_no_interest() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, origins=2, time=time) as proxied:
        slow = await proxied.pick()
        slow.silent = True
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: slow.received, "the question to the slow one")
        time.pass_(STEP_TIMEOUT + 0.2)
        accepted = await answer
        slow.silent = False
        for packet, address in slow.received[:]:
            slow._datagram_received(packet, address)
        await proxied.served()

        assert accepted.rejection is None
        assert not slow.handshakes(wire.CONCLUSION)
        assert proxied.flows() == len(proxied.stats.active) == 1


# A store of origins that is slow


def slowed(proxied: ProxiedSrt, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Deferred[None]]:
    """From now on this method of the balancer answers only when the test says so."""
    method = getattr(proxied.proxy.balancer, name)
    waiting: list[Deferred[None]] = []

    async def slow(*arguments: Any) -> Any:
        waiting.append(Deferred())
        await waiting[-1]
        return await method(*arguments)

    monkeypatch.setattr(proxied.proxy.balancer, name, lambda *arguments: Deferred.fromCoroutine(slow(*arguments)))
    return waiting


@in_reactor
async def test_a_balancer_that_takes_too_long_costs_the_caller_only(monkeypatch: pytest.MonkeyPatch) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        waiting = slowed(proxied, "pick", monkeypatch)
        answer = await proxied.concluded(await proxied.caller())
        await proxied.until(lambda: waiting, "the question to the balancer")
        time.pass_(HANDSHAKE_TIMEOUT + 0.2)

        assert (await answer).rejection == wire.DOWN
        assert not proxied.origin.received


@in_reactor
async def test_nobody_waits_until_the_balancer_knows_that_an_origin_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        told = slowed(proxied, "report_success", monkeypatch)
        proxied.origin.refuses = {PUBLISH}
        joined = await proxied.connect()
        await joined.caller.end()

        assert len(told) == 1


@in_reactor
async def test_a_caller_is_taken_when_the_balancer_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        asked = slowed(proxied, "pick", monkeypatch)
        caller: ScriptedCaller = await proxied.caller()
        answer = await proxied.concluded(caller)
        await proxied.until(lambda: asked, "the question to the balancer")
        asked.pop().callback(None)

        assert (await answer).rejection is None
        await proxied.until(lambda: caller.remote_id, "the connection")
        caller.send(b"media")
        assert await (await proxied.origin.connection()).heard(1) == [b"media"]
