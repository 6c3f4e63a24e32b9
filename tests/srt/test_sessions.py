"""How sessions end: by a word of either side, by silence, with their origin, with the proxy."""

from __future__ import annotations

import pytest
from twisted.internet import reactor

from srsproxy.outcome import Outcome
from srsproxy.stats import Stray
from tests.asynchronous import in_reactor
from tests.srt import wire
from tests.srt.proxied import KEY, PLAY, PUBLISH, Connected, ProxiedSrt, told_end
from tests.webrtc.proxied import STEP, TakenTime

IDLE = 10.0
"""Seconds, the default."""

LOOK = 50 * STEP
"""Seconds between two looks at a session while time is taken: each has 50 parts."""

LATE = LOOK + 1.0
"""Seconds by which a session may end late at the most."""

GONE_FOR = 10.0

VERDICT = 10.0

CLOSE = 7
"""The reason for which a caller is rejected whose session is over."""


async def talk(joined: Connected, time: TakenTime, seconds: float, *, caller: bool = True, origin: bool = True) -> None:
    """So much time passes in which the peers send a packet each second."""
    for _ in range(round(seconds)):
        if caller:
            await joined.passed_on(joined.caller, joined.connection)
        if origin:
            await joined.passed_on(joined.connection, joined.caller)
        time.pass_(1)


# By a word


@in_reactor
async def test_a_caller_that_leaves_ends_its_session() -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.connect()
        joined.caller.shut_down()
        await joined.connection.end()

        await proxied.finished(Outcome.FINISHED)
        assert len(joined.connection.controls(wire.SHUTDOWN)) == 1
        assert proxied.flows() == 0
        assert proxied.told(f"publish {KEY} from 127.0.0.1: finished after")
        joined.caller.send(b"late")
        await proxied.dropped(Stray.UNKNOWN_ADDRESS)
        assert not joined.caller.datagrams


@pytest.mark.parametrize(
    ("stream_id", "seconds", "media", "outcome"),
    [
        (PUBLISH, 1, 2000, Outcome.REJECTED_BY_ORIGIN),
        (PUBLISH, VERDICT + 1, 0, Outcome.ORIGIN_LOST),
        (PLAY, 1, 0, Outcome.REJECTED_BY_ORIGIN),
        (PLAY, 1, 1400, Outcome.FINISHED),
        (PLAY, VERDICT + 1, 0, Outcome.FINISHED),
    ],
)
@in_reactor
async def test_an_origin_that_leaves_ends_the_session(
    stream_id: str, seconds: float, media: int, outcome: Outcome
) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect(stream_id)
        joined.caller.acknowledges = False
        for _ in range(media // 1000):
            joined.connection.send(bytes(1400))
            await joined.caller.heard(len(joined.caller.payloads) + 1)
        await talk(joined, time, seconds)
        joined.connection.shut_down()
        await joined.caller.end()

        await proxied.finished(outcome)
        assert len(joined.caller.controls(wire.SHUTDOWN)) == 1
        assert not joined.connection.ended
        assert proxied.flows() == 0


@pytest.mark.parametrize("who", ["caller", "origin"])
@in_reactor
async def test_a_conclusion_that_comes_after_the_end_begins_nothing(who: str) -> None:
    async with ProxiedSrt(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.connect()
        leaves, stays = (joined.caller, joined.connection) if who == "caller" else (joined.connection, joined.caller)
        leaves.shut_down()
        await stays.end()
        answer = await joined.caller.ask(joined.caller.conclusion())

        assert answer.rejection == CLOSE
        assert proxied.stats.opened["srt"] == len(proxied.origin.connections) == 1
        # The program calls again with another socket.
        await proxied.connected(joined.caller.sibling(PUBLISH))


# By silence


@in_reactor
async def test_a_session_lives_as_long_as_both_send_a_word_now_and_then() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect(PLAY)
        await talk(joined, time, 5 * IDLE)

        assert not proxied.stats.ended


@pytest.mark.parametrize("who", ["caller", "origin"])
@in_reactor
async def test_a_session_ends_when_one_side_is_silent_and_both_are_told(who: str) -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect()
        await talk(joined, time, IDLE - 2, caller=who == "origin", origin=who == "caller")
        assert not proxied.stats.ended
        # When the origin has answered the conclusion is known from the first look only.
        time.pass_(2 + LATE if who == "caller" else 2)
        if who == "origin":
            for _ in range(round(LATE + LOOK)):
                joined.caller.send_control(wire.KEEPALIVE)
                await proxied.served()
                time.pass_(1)

        await told_end(reactor, joined.caller, joined.connection)
        await proxied.finished(Outcome.CLIENT_LOST if who == "caller" else Outcome.ORIGIN_LOST)


@in_reactor
async def test_what_a_caller_still_sends_is_answered_by_shutdown_until_it_must_have_noticed() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect()
        time.pass_(IDLE + LATE)
        await joined.caller.end()
        for number in range(2, 5):
            joined.caller.send(b"on")
            await proxied.until(lambda: joined.caller.ended, "SHUTDOWN")
            await proxied.served()
            assert len(joined.caller.controls(wire.SHUTDOWN)) == number
        other = await proxied.caller()
        other.begin(joined.caller.remote_id, 0)
        other.send(b"on")
        time.pass_(GONE_FOR + 0.5)
        joined.caller.send(b"on")
        await proxied.dropped(Stray.UNKNOWN_ADDRESS, 2)

        assert len(joined.caller.controls(wire.SHUTDOWN)) == 4
        assert not other.datagrams


# With the origin


@in_reactor
async def test_a_caller_is_told_at_once_when_its_origin_listens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedSrt(reactor, origins=2, time=TakenTime(reactor)) as proxied:
        reported = proxied.failures_reported(monkeypatch)
        joined = await proxied.connect()
        await joined.origin.close()
        while not joined.caller.ended:
            joined.caller.send(b"media")
            await proxied.served()

        await proxied.finished(Outcome.ORIGIN_LOST)
        assert reported == [proxied.registration(joined.origin)]
        assert (await proxied.connected(joined.caller.sibling(PUBLISH))).origin is not joined.origin


@in_reactor
async def test_a_caller_is_told_when_its_origin_is_restarted() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect()
        await proxied.restarted(joined.origin)
        for _ in range(round(2 * LOOK + 1)):
            joined.caller.send(b"media")
            await proxied.served()
            time.pass_(1)

        await joined.caller.end()
        await proxied.finished(Outcome.ORIGIN_LOST)
        assert proxied.told("was restarted")


@in_reactor
async def test_a_session_whose_origin_still_sends_is_not_over() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = await proxied.connect()
        await proxied.register(joined.origin, "2")
        await talk(joined, time, IDLE)

        assert not proxied.stats.ended


# With the proxy


@in_reactor
async def test_sessions_go_on_while_the_proxy_drains_and_both_sides_are_told_when_it_ends() -> None:
    time = TakenTime(reactor)
    async with ProxiedSrt(reactor, time=time) as proxied:
        joined = [await proxied.connect(stream_id) for stream_id in (PUBLISH, PLAY)]
        drained = proxied.proxy.srt_server.drain()
        for one in joined:
            await talk(one, time, 2)
        assert not drained.called
        proxied.proxy.srt_server.abort()
        await drained

        await told_end(reactor, *[peer for one in joined for peer in (one.caller, one.connection)])
        await proxied.finished(Outcome.SHUTDOWN, 2)
