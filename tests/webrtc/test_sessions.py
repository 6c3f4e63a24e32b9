"""How sessions go on and end: silence on either side, goodbyes, origins that go away, a proxy that does."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from functools import partial

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from srsproxy.balancer.model import Origin, Surface
from srsproxy.outcome import Outcome
from srsproxy.relay.flow import Flow
from srsproxy.stats import Stray
from srsproxy.webrtc.sessions import MediaSession
from tests.asynchronous import in_reactor
from tests.http.origins import HOST
from tests.webrtc.ice_client import rtp
from tests.webrtc.proxied import KEY, NAME, PLAY, PUBLISH, Joined, ProxiedRtc, Resolver, TakenTime
from tests.webrtc.rtc_api import Credentials

IDLE = 30.0
"""Seconds, the default."""

LOOK = 5
"""Seconds between two looks at a session."""

LATE = LOOK + 1.0
"""Seconds by which a session may end late at the most."""

DTLS_ALERT = b"\x15\xfe\xfd" + bytes(10) + b"\x01\x00"


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def alive(kind: type) -> int:
    """How many objects of this kind there are."""
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


async def talk(joined: Joined, time: TakenTime, seconds: float, *, client: bool = True, origin: bool = True) -> None:
    """So much time passes in which the peers send media."""
    for _ in range(round(seconds / 2)):
        if client:
            packet = rtp(len(joined.session.media))
            joined.client.send(packet)
            await joined.origin.until(partial(joined.session.media.__contains__, packet), "media from the client")
        if origin:
            packet = rtp(len(joined.client.received))
            joined.origin.send_media(joined.session, packet)
            await joined.client.wait_until(partial(joined.client.received.__contains__, packet))
        time.pass_(2)


async def knock(joined: Joined, proxied: ProxiedRtc, time: TakenTime) -> None:
    """The client sends STUN in vain until the proxy has looked twice at its session."""
    for number in range(1, 2 * LOOK + 2):
        joined.client.send_check()
        # Is dropped, and not before the proxy has dealt with what was sent before it.
        joined.client.send(b"\0")
        await proxied.dropped(Stray.MALFORMED, number)
        time.pass_(1)


# What is left of ended sessions


@in_reactor
async def test_sessions_that_have_ended_leave_nothing_behind() -> None:
    async with ProxiedRtc(reactor) as proxied:

        async def session() -> None:
            joined = await proxied.join(PLAY)
            for number in range(5):
                joined.client.send(rtp(number))
            await joined.origin.heard(joined.session, 5)
            await proxied.whip.delete(joined.location)
            await joined.client.close()

        await session()
        before = descriptors(), alive(MediaSession), alive(Flow)
        for _ in range(20):
            await session()

        assert (descriptors(), alive(MediaSession), alive(Flow)) == before
        assert before[1:] == (0, 0)
        await proxied.ended("webrtc", Outcome.FINISHED, 21)


@in_reactor
async def test_a_proxy_that_has_ended_leaves_nothing_behind() -> None:
    async def proxy() -> None:
        async with ProxiedRtc(reactor, tcp=True) as proxied:
            await proxied.join(PUBLISH)

    await proxy()
    before = descriptors()
    await proxy()

    assert descriptors() == before


@in_reactor
async def test_packets_cost_nothing_that_stays() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        calls, before = len(proxied.reactor.getDelayedCalls()), descriptors()
        for number in range(1000):
            joined.client.send(rtp(number))
            await joined.origin.heard(joined.session, number + 1) if number % 100 == 99 else None

        assert joined.session.media == [rtp(number) for number in range(1000)]
        assert descriptors() == before
        assert len(proxied.reactor.getDelayedCalls()) <= calls


@in_reactor
async def test_the_port_of_an_ended_session_is_not_used_again_until_the_origin_has_forgotten_it() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        before = descriptors()
        joined = await proxied.join(PLAY)
        await joined.client.close()
        time.pass_(IDLE + LATE)
        await proxied.ended("webrtc", Outcome.CLIENT_LOST)

        assert descriptors() == before + 1
        # The origin, which does not know that the session has ended, still sends; nobody hears it.
        joined.origin.send_media(joined.session, rtp(1))
        time.pass_(28)
        assert descriptors() == before + 1
        time.pass_(8)
        assert descriptors() == before


# Silence


@in_reactor
async def test_a_session_lives_as_long_as_both_peers_send() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        await talk(joined, time, 120)

        assert not proxied.stats.ended


@in_reactor
async def test_a_session_ends_when_its_client_is_silent() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        await talk(joined, time, IDLE - 2, client=False)
        assert not proxied.stats.ended
        await talk(joined, time, 2, client=False)
        time.pass_(LATE)

        await proxied.ended("webrtc", Outcome.CLIENT_LOST)


@in_reactor
async def test_a_session_ends_when_its_origin_is_silent() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        await talk(joined, time, IDLE - 2, origin=False)
        assert not proxied.stats.ended
        await talk(joined, time, 2, origin=False)
        time.pass_(LATE)

        await proxied.ended("webrtc", Outcome.ORIGIN_LOST)
        assert proxied.told("sent nothing for 30 s")


@in_reactor
async def test_silence_counts_from_when_the_client_comes() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.negotiate(PLAY)
        time.pass_(IDLE - LOOK)
        await joined.client.check()
        time.pass_(IDLE - LOOK)

        assert not proxied.stats.ended


@in_reactor
async def test_the_beginning_and_the_end_of_a_session_are_told() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        assert not proxied.told("started")
        await joined.client.check()
        await joined.client.check()
        [record] = proxied.stats.active
        assert (record.key, record.action, record.peer) == (KEY, "publish", HOST)
        assert record.origin == joined.origin.registration.id
        await proxied.whip.delete(joined.location)

        assert len(proxied.told(f"publish {KEY}: started on origin-0-service-1")) == 1
        assert len(proxied.told(f"publish {KEY} from {HOST}: finished after")) == 1


@in_reactor
async def test_a_client_that_was_away_for_long_can_come_back_if_its_origin_still_knows_it() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        time.pass_(IDLE + LATE)
        await proxied.ended("webrtc", Outcome.CLIENT_LOST)

        await joined.client.check()
        joined.origin.send_media(joined.session, rtp(1))
        await joined.client.wait_received(1)
        assert len(set(joined.session.addresses)) == 2


@in_reactor
async def test_running_sessions_are_looked_at_only_some_times_within_their_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        origins, asked = proxied.proxy.balancer.origins, 0

        def counted() -> Deferred[list[Origin]]:
            nonlocal asked
            asked += 1
            return origins()

        monkeypatch.setattr(proxied.proxy.balancer, "origins", counted)
        await talk(joined, time, 2 * IDLE)

        assert 10 <= asked <= 14


# Goodbyes


@pytest.mark.parametrize("who", ["client", "origin"])
@in_reactor
async def test_a_session_ends_soon_after_a_peer_has_said_goodbye(who: str) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        if who == "client":
            joined.client.send(DTLS_ALERT)
            assert await joined.origin.heard(joined.session) == [DTLS_ALERT]
        else:
            joined.origin.send_media(joined.session, DTLS_ALERT)
            assert await joined.client.wait_received(1) == [DTLS_ALERT]
        time.pass_(0.8)
        assert not proxied.stats.ended
        time.pass_(0.4)

        await proxied.ended("webrtc", Outcome.FINISHED)
        # Whoever could send from the client's address may have said so: the client may come back.
        await joined.client.check()


@pytest.mark.parametrize("datagram", [b"\x15", DTLS_ALERT[:13], b"\x15" + bytes(13)])
@in_reactor
async def test_what_is_too_short_for_an_alert_is_no_goodbye(datagram: bytes) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        joined.client.send(datagram)
        await joined.origin.heard(joined.session)
        joined.origin.send_media(joined.session, datagram)
        await joined.client.wait_received(1)
        time.pass_(2 * LOOK)

        assert not proxied.stats.ended


@in_reactor
async def test_an_alert_that_was_none_does_not_keep_the_client_out() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        joined.client.send(DTLS_ALERT)
        await joined.origin.heard(joined.session)
        time.pass_(1.2)
        await proxied.ended("webrtc", Outcome.FINISHED)

        await joined.client.check()
        joined.origin.send_media(joined.session, rtp(1))
        await joined.client.wait_received(1)


@in_reactor
async def test_a_session_goes_on_after_an_alert_if_its_client_does() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        joined.client.send(DTLS_ALERT)
        await talk(joined, time, 40)

        assert not proxied.stats.ended


@in_reactor
async def test_what_a_client_still_sends_does_not_begin_a_deleted_session_again() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined, other = await proxied.join(PUBLISH), await proxied.join(PLAY)
        await proxied.whip.delete(joined.location)
        answers = len(joined.client.bindings)
        joined.client.send_check(use_candidate=True)
        joined.client.send(rtp(1))
        await other.client.check()

        assert proxied.strays(Stray.UNKNOWN_SESSION) == 1
        assert proxied.strays(Stray.UNKNOWN_ADDRESS) == 1
        assert len(joined.client.bindings) == answers
        await proxied.ended("webrtc", Outcome.FINISHED)


@in_reactor
async def test_the_name_of_a_deleted_session_is_remembered_until_its_client_must_have_noticed() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        await proxied.whip.delete(joined.location)
        time.pass_(34)
        joined.client.send_check()
        await proxied.dropped(Stray.UNKNOWN_SESSION)
        time.pass_(2)
        joined.client.send_check()

        await joined.origin.until(lambda: joined.origin.dropped, "the request")


# Origins that go away


@in_reactor
async def test_a_session_ends_when_nobody_listens_at_its_origin_any_more() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        await joined.origin.close_udp()
        await knock(joined, proxied, time)

        await proxied.ended("webrtc", Outcome.ORIGIN_LOST)
        assert proxied.told("does not listen for media any more")


@in_reactor
async def test_a_session_ends_when_its_origin_was_restarted() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        await joined.origin.restart()
        await proxied.proxy.balancer.register(replace(joined.origin.registration, pid="2"))
        await knock(joined, proxied, time)

        await proxied.ended("webrtc", Outcome.ORIGIN_LOST)
        assert proxied.told("was restarted")


@in_reactor
async def test_a_session_lives_on_when_its_origin_is_no_longer_registered_but_there() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, origin_lifetime=10.0) as proxied:
        joined = await proxied.join(PUBLISH)
        await talk(joined, time, 60)

        assert await proxied.proxy.balancer.origins() == []
        assert not proxied.stats.ended


@in_reactor
async def test_an_origin_that_refuses_media_from_the_beginning_ends_the_session() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        await joined.origin.close_udp()
        await knock(joined, proxied, time)

        await proxied.ended("webrtc", Outcome.ORIGIN_LOST)


async def join_by_name(proxied: ProxiedRtc) -> Joined:
    """A client of an origin that announces its media at a host name."""
    origin = proxied.origin
    named = replace(origin.registration, ip=NAME, rtc=(f"udp://0.0.0.0:{origin.udp_port}",))
    await proxied.proxy.balancer.register(named)
    return await proxied.negotiate(PUBLISH)


@in_reactor
async def test_an_origin_with_a_host_name_is_found_by_it() -> None:
    resolver = Resolver(HOST)
    async with ProxiedRtc(reactor, time=TakenTime(reactor, resolver)) as proxied:
        joined = await join_by_name(proxied)
        await joined.client.check()

        assert resolver.asked == [NAME]


@in_reactor
async def test_requests_that_come_while_a_name_is_looked_up_open_one_socket() -> None:
    resolver = Resolver(HOST, waits=True)
    async with ProxiedRtc(reactor, time=TakenTime(reactor, resolver)) as proxied:
        joined = await join_by_name(proxied)
        asked = [joined.client.send_check() for _ in range(3)]
        await proxied.until(lambda: len(resolver.asked) == 1, "the question")
        before = descriptors()
        resolver.answer()

        await joined.client.answered(asked[0])
        assert descriptors() == before + 1
        assert len(joined.session.addresses) == 1


@in_reactor
async def test_a_session_that_ends_while_a_name_is_looked_up_opens_no_socket() -> None:
    resolver = Resolver(HOST, waits=True)
    async with ProxiedRtc(reactor, time=TakenTime(reactor, resolver)) as proxied:
        joined = await join_by_name(proxied)
        joined.client.send_check()
        await proxied.until(lambda: resolver.asked, "the question")
        await proxied.whip.delete(joined.location)
        before = descriptors()
        resolver.answer()

        assert descriptors() == before


@in_reactor
async def test_a_host_name_is_not_looked_for_for_ever() -> None:
    time = TakenTime(reactor, Resolver(HOST, waits=True))
    async with ProxiedRtc(reactor, time=time, origin_connect_timeout=3.0) as proxied:
        joined = await join_by_name(proxied)
        joined.client.send_check()
        joined.client.send(b"\0")
        await proxied.dropped(Stray.MALFORMED)
        time.pass_(2.8)
        assert not proxied.stats.ended
        time.pass_(0.4)

        await proxied.ended("webrtc", Outcome.ORIGIN_UNREACHABLE)
        assert proxied.told("is not found within 3 s")


@in_reactor
async def test_an_origin_whose_host_name_has_no_address_is_nowhere_else() -> None:
    async with ProxiedRtc(reactor, time=TakenTime(reactor, Resolver())) as proxied:
        joined = await join_by_name(proxied)
        joined.client.send_check()

        await proxied.ended("webrtc", Outcome.ORIGIN_UNREACHABLE)
        assert not joined.session.bindings
        assert proxied.told("its name has no address")


@in_reactor
async def test_an_origin_that_no_socket_can_be_connected_to_is_unreachable() -> None:
    async with ProxiedRtc(reactor) as proxied:
        origin = proxied.origin
        await proxied.proxy.balancer.register(replace(origin.registration, rtc=("udp://255.255.255.255:8000",)))
        joined = await proxied.negotiate(PUBLISH)
        joined.client.send_check()

        await proxied.ended("webrtc", Outcome.ORIGIN_UNREACHABLE)


# The proxy's end, and its limits


@in_reactor
async def test_running_sessions_hold_up_the_end_until_they_are_aborted() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        drained = proxied.proxy.webrtc_server.drain()
        await joined.client.check()
        assert not drained.called

        proxied.proxy.webrtc_server.abort()

        await drained
        await proxied.ended("webrtc", Outcome.SHUTDOWN)


@in_reactor
async def test_a_limit_of_sessions_does_not_touch_those_that_run() -> None:
    async with ProxiedRtc(reactor, max_connections_per_address=1) as proxied:
        joined = await proxied.join(PUBLISH)
        response = await proxied.whip.request("POST", PLAY)
        assert response.status == 400  # no offer
        with pytest.raises(AssertionError):
            await proxied.negotiate(PLAY)

        await joined.client.check()


# The balancer


@pytest.mark.parametrize("credentials", [Credentials.IGNORED, Credentials.HONOURED])
@in_reactor
async def test_the_record_of_a_session_lives_as_long_as_the_session(credentials: Credentials) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_lifetime=12.0, origin_lifetime=1e6) as proxied:
        proxied.origin.credentials = credentials
        joined = await proxied.join(PUBLISH)
        await talk(joined, time, 60)

        async with proxied.second_proxy() as second:
            joined.client.peer = second.media_address
            await joined.client.check()
            joined.client.send(rtp(1))
            await joined.origin.heard(joined.session, 31)


@in_reactor
async def test_the_record_of_a_session_that_is_over_is_forgotten_in_the_end() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_lifetime=12.0) as proxied:
        joined = await proxied.join(PUBLISH)
        time.pass_(IDLE + LATE + 12)

        assert await proxied.proxy.balancer.load_webrtc(joined.session.username) is None


@in_reactor
async def test_the_pick_of_a_stream_is_kept_by_its_sessions() -> None:
    async with ProxiedRtc(reactor) as proxied:
        await proxied.join(PUBLISH)

        assert KEY in proxied.stats.keys_in_use()
        assert (await proxied.proxy.balancer.pick(KEY, Surface.RTC)).server == "origin-0"
