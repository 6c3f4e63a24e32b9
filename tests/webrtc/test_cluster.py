"""Sessions that come to a proxy which has not negotiated them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from srsproxy.balancer.model import Surface, WebRtcSession
from srsproxy.limits import ConnectionLimits
from srsproxy.outcome import Outcome
from srsproxy.stats import Stray
from srsproxy.webrtc import locate
from tests.asynchronous import in_reactor
from tests.webrtc.ice_client import rtp
from tests.webrtc.proxied import KEY, PLAY, PUBLISH, Joined, ProxiedRtc, SecondProxy, TakenTime
from tests.webrtc.rtc_api import Credentials

MAX_SOUGHT, SOUGHT_PER_SECOND = 256, 2000

BY_RECORD = (Credentials.IGNORED, Credentials.CLASHING)


async def flows(joined: Joined, number: int) -> None:
    """Media flows both ways."""
    heard, received = len(joined.session.media), len(joined.client.received)
    joined.client.send(rtp(number))
    assert (await joined.origin.heard(joined.session, heard + 1))[-1] == rtp(number)
    joined.origin.send_media(joined.session, rtp(number))
    assert (await joined.client.wait_received(received + 1))[-1] == rtp(number)


async def dropped_at(second: SecondProxy, joined: Joined, why: Stray) -> None:
    """A Binding request at the second proxy is dropped."""
    joined.client.peer = second.media_address
    joined.client.send_check(use_candidate=True)
    joined.client.send(b"\0")
    # Is counted in any case, and not before the request.
    await joined.origin.until(lambda: second.strays(Stray.MALFORMED), "the drop")
    assert second.strays(why) == 1
    assert not joined.session.bindings
    assert not joined.origin.dropped
    assert not joined.client.bindings


@in_reactor
async def test_a_session_needs_no_stored_state_where_the_origin_lets_the_proxy_choose_its_name() -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        joined = await proxied.negotiate(PUBLISH)
        await proxied.proxy.balancer.drop_webrtc(joined.session.username)
        joined.client.peer = second.media_address
        await joined.client.check(use_candidate=True)

        await flows(joined, 1)
        assert len(joined.session.addresses) == 1


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_a_session_is_found_by_its_record(credentials: Credentials) -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        joined = await proxied.negotiate(PUBLISH)
        joined.client.peer = second.media_address
        await joined.client.check()

        await flows(joined, 1)
        [session] = second.stats.active
        assert (session.key, session.action, session.peer) == (KEY, "publish", "127.0.0.1")


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_a_running_session_moves_to_another_proxy_and_back(credentials: Credentials) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        joined = await proxied.join(PUBLISH)
        await flows(joined, 1)
        for number, address in enumerate((second.media_address, proxied.media_address, second.media_address), 2):
            joined.client.peer = address
            await joined.client.check(use_candidate=True)
            await flows(joined, number)
            assert joined.client.sources[-1] == address

        assert len(joined.session.addresses) == 2
        for _ in range(20):
            await joined.client.check()
            await flows(joined, 9)
            time.pass_(2)
        await proxied.ended("webrtc", Outcome.CLIENT_LOST)
        assert not second.stats.ended


@in_reactor
async def test_a_session_is_at_the_origin_of_its_offer_although_its_stream_has_moved() -> None:
    async with ProxiedRtc(reactor, origins=2) as proxied, proxied.second_proxy() as second:
        joined = [await proxied.negotiate(PLAY) for _ in range(2)]
        await proxied.move(KEY)
        await joined[0].client.check()
        joined[1].client.peer = second.media_address
        await joined[1].client.check()

        for one in joined:
            await flows(one, 1)
        picked = await proxied.proxy.balancer.pick(KEY, Surface.RTC)
        assert picked.server != joined[0].origin.registration.server
        assert not any(origin.dropped for origin in proxied.rtc_origins)


@in_reactor
async def test_the_json_api_is_served_by_every_proxy() -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        joined = await proxied.negotiate_json()
        joined.client.peer = second.media_address
        await joined.client.check()
        await flows(joined, 1)


# Looking for sessions


class SlowRecords:
    """Takes the place of ``load_webrtc`` and keeps those who ask waiting."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._waiting: list[Deferred[WebRtcSession | None]] = []

    def load(self, ufrag: str) -> Deferred[WebRtcSession | None]:
        """Asked for a record."""
        self.asked.append(ufrag)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def answer(self, record: WebRtcSession | None) -> None:
        """Answer all who wait."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(record)


@in_reactor
async def test_a_session_is_looked_for_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    records = SlowRecords()
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = Credentials.IGNORED
        joined = await proxied.negotiate(PLAY)
        record = await proxied.proxy.balancer.load_webrtc(joined.session.username)
        monkeypatch.setattr(proxied.proxy.balancer, "load_webrtc", records.load)
        joined.client.peer = second.media_address
        asked = [joined.client.send_check() for _ in range(3)]
        await proxied.until(lambda: second.strays(Stray.BUSY) == 2, "the drops")
        records.answer(record)

        await joined.client.answered(asked[0])
        assert records.asked == [joined.session.username]
        assert second.stats.opened == {"webrtc": 1}
        await joined.client.check()


@in_reactor
async def test_only_so_many_sessions_are_looked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    records = SlowRecords()
    async with ProxiedRtc(reactor, origins=0) as proxied:
        monkeypatch.setattr(proxied.proxy.balancer, "load_webrtc", records.load)
        stranger = proxied.stranger()
        for number in range(MAX_SOUGHT + 10):
            stranger.send_check(username=f"nobody{number}:knows")
        await proxied.dropped(Stray.BUSY, 10)
        assert len(records.asked) == MAX_SOUGHT
        records.answer(None)
        assert proxied.strays(Stray.UNKNOWN_SESSION) == MAX_SOUGHT

        stranger.send_check(username="nobody:knows")
        await proxied.until(lambda: len(records.asked) == MAX_SOUGHT + 1, "the question")
        records.answer(None)


@in_reactor
async def test_only_so_many_sessions_are_looked_for_in_a_second() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, origins=0, time=time) as proxied:
        stranger = proxied.stranger()
        for number in range(SOUGHT_PER_SECOND + 10):
            stranger.send_check(username=f"nobody{number}:knows")
            if number % 50 == 49:
                await proxied.dropped(Stray.UNKNOWN_SESSION, number + 1)
        await proxied.dropped(Stray.BUSY, 10)
        assert proxied.strays(Stray.UNKNOWN_SESSION) == SOUGHT_PER_SECOND
        time.pass_(0.5)
        stranger.send_check(username="nobody:knows")

        await proxied.dropped(Stray.UNKNOWN_SESSION, SOUGHT_PER_SECOND + 1)


@in_reactor
async def test_no_more_names_are_checked_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "_CHECKS_PER_SECOND", 20)
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, origins=0, time=time) as proxied:
        stranger = proxied.stranger()
        name = "a" * (len(proxied.proxy.pins.token("origin-0")) + 8)
        for _ in range(30):
            stranger.send_check(username=f"{name}:knows")
        await proxied.dropped(Stray.BUSY, 10)
        assert proxied.strays(Stray.BAD_INTEGRITY) == 20
        time.pass_(0.5)
        stranger.send_check(username=f"{name}:knows")

        await proxied.dropped(Stray.BAD_INTEGRITY, 21)


# What another proxy does not serve


@pytest.mark.parametrize("credentials", [Credentials.HONOURED, *BY_RECORD])
@in_reactor
async def test_a_forged_request_begins_no_session_at_another_proxy(credentials: Credentials) -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        joined = await proxied.negotiate(PUBLISH)
        ice = joined.client.ice
        joined.client.ice = replace(ice, remote=replace(ice.remote, pwd="x" * 32))

        await dropped_at(second, joined, Stray.BAD_INTEGRITY)
        assert not second.stats.opened


@in_reactor
async def test_a_session_without_record_is_not_known() -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = Credentials.IGNORED
        joined = await proxied.negotiate(PUBLISH)
        await proxied.proxy.balancer.drop_webrtc(joined.session.username)

        await dropped_at(second, joined, Stray.UNKNOWN_SESSION)
        assert not second.stats.opened


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_a_session_of_an_origin_that_is_not_registered_is_not_known(credentials: Credentials) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, origin_lifetime=10.0) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        joined = await proxied.negotiate(PUBLISH)
        time.pass_(11)

        await dropped_at(second, joined, Stray.UNKNOWN_SESSION)
        assert not second.stats.opened


@in_reactor
async def test_a_proxy_that_is_full_begins_no_session() -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy(ConnectionLimits(0, 1, 0)) as second:
        first, other = [await proxied.negotiate(PLAY) for _ in range(2)]
        first.client.peer = second.media_address
        await first.client.check()

        await dropped_at(second, other, Stray.BUSY)
        await first.client.check()


@in_reactor
async def test_a_proxy_that_is_to_end_begins_no_session() -> None:
    async with ProxiedRtc(reactor) as proxied, proxied.second_proxy() as second:
        first, other = [await proxied.negotiate(PLAY) for _ in range(2)]
        first.client.peer = second.media_address
        await first.client.check()
        second.server.drain()

        await dropped_at(second, other, Stray.BUSY)
        await first.client.check()


# Ends


@in_reactor
async def test_delete_at_one_proxy_ends_what_runs_at_another() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_lifetime=12.0) as proxied, proxied.second_proxy() as second:
        joined = await proxied.join(PUBLISH)
        time.pass_(6)

        assert (await second.whip.delete(joined.location)).status == 200

        time.pass_(6)
        await proxied.ended("webrtc", Outcome.FINISHED)


@in_reactor
async def test_a_record_that_was_lost_is_written_again_while_the_session_runs() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time, webrtc_lifetime=12.0) as proxied:
        joined = await proxied.join(PUBLISH)
        await proxied.proxy.balancer.drop_webrtc(joined.session.username)
        for number in range(6):
            await flows(joined, number)
            time.pass_(2)

        assert await proxied.proxy.balancer.load_webrtc(joined.session.username) is not None
        assert not proxied.stats.ended
