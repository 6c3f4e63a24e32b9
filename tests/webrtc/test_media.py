"""Media over UDP: which addresses are a client's, where media goes, and who cannot change that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet import reactor

from srsproxy.stats import Stray
from srsproxy.values import BindAddress
from tests.asynchronous import in_reactor
from tests.http.origins import HOST
from tests.webrtc.ice_client import DTLS_CLIENT_HELLO, RTCP_RECEIVER_REPORT, IceClient, rtp
from tests.webrtc.peers import BINDING_REQUEST, USERNAME, IcePair, new_ice_parameters, new_transaction_id, stun
from tests.webrtc.proxied import PLAY, PUBLISH, Joined, ProxiedRtc, TakenTime
from tests.webrtc.rtc_origin import FakeRtcOrigin

MAX_PATHS, MAX_ASKED = 8, 16

BINDING_INDICATION = 0x0011


async def reaches(joined: Joined, client: IceClient, number: int) -> None:
    """What the origin sends now comes to this client."""
    joined.origin.send_media(joined.session, rtp(number))
    await client.wait_until(lambda: rtp(number) in client.received)


def withheld(origin: FakeRtcOrigin, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """From now on Binding requests are answered only when one of these is called."""
    answers: list[Callable[[], None]] = []
    answer = origin.answer_binding

    def withhold(*request: Any) -> None:
        answers.append(partial(answer, *request))

    monkeypatch.setattr(origin, "answer_binding", withhold)
    return answers


@in_reactor
async def test_datagrams_of_all_kinds_are_relayed_both_ways_as_they_are() -> None:
    packets = [DTLS_CLIENT_HELLO, rtp(1), RTCP_RECEIVER_REPORT, rtp(2, size=1400), b"\x50odd"]
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)

        for packet in packets:
            joined.client.send(packet)
        assert await joined.origin.heard(joined.session, len(packets)) == packets
        for packet in packets:
            joined.origin.send_media(joined.session, packet)
        assert await joined.client.wait_received(len(packets)) == packets
        assert set(joined.client.sources) == {proxied.media_address}


@in_reactor
async def test_binding_requests_reach_the_origin_as_they_are_and_its_answers_the_client() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        response = await joined.client.check(use_candidate=True)

        [request] = joined.session.bindings
        assert request.is_signed_with(joined.session.local.pwd)
        assert request.username == joined.session.username
        assert response.username == joined.session.username
        # What the origin sees is a socket of the proxy.
        assert response.mapped_address == joined.session.addresses[0] != joined.client.address


@in_reactor
async def test_every_session_has_a_socket_of_its_own_towards_the_origin() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = [await proxied.join(target) for target in (PUBLISH, PLAY, PLAY)]

        addresses = [address for one in joined for address in one.session.addresses]
        assert len(set(addresses)) == len(addresses) == 3
        for number, one in enumerate(joined):
            one.client.send(rtp(number))
            assert await one.origin.heard(one.session) == [rtp(number)]
            await reaches(one, one.client, number + 10)
            assert one.client.received == [rtp(number + 10)]


@in_reactor
async def test_what_the_origin_asks_the_client_by_stun_reaches_it() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        request = stun(BINDING_REQUEST, new_transaction_id(), [(USERNAME, b"a:b")], "pwd")

        joined.origin.send_media(joined.session, request)

        await joined.client.wait_until(lambda: len(joined.client.bindings) == 2)
        assert joined.client.bindings[-1].raw == request


@in_reactor
async def test_stun_of_a_client_that_asks_for_nothing_is_relayed_from_where_it_is_known() -> None:
    indication = stun(BINDING_INDICATION, bytes(12), [], None)
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        joined.client.send(indication)

        assert await joined.origin.heard(joined.session) == [indication]
        assert not proxied.stats.strays


@in_reactor
async def test_packets_and_bytes_are_counted() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        for number in range(3):
            joined.client.send(rtp(number))
        await joined.origin.heard(joined.session, 3)
        await reaches(joined, joined.client, 1)
        await proxied.whip.delete(joined.location)

        [request], [response] = joined.session.bindings, joined.client.bindings
        stats = proxied.stats
        assert (stats.received_packets["webrtc"], stats.sent_packets["webrtc"]) == (4, 2)
        assert stats.received["webrtc"] == len(request.raw) + 3 * len(rtp(0))
        assert stats.sent["webrtc"] == len(response.raw) + len(rtp(0))
        assert (stats.received_drops["webrtc"], stats.sent_drops["webrtc"]) == (0, 0)


# Strangers


@in_reactor
async def test_media_of_unknown_addresses_is_dropped_and_counted_and_never_answered() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        stranger = proxied.sibling(joined.client)
        for packet in (DTLS_CLIENT_HELLO, rtp(1), RTCP_RECEIVER_REPORT, b"\x15alert", b"", b"\xff" * 1500):
            stranger.send(packet)
        await joined.client.check()

        assert proxied.strays(Stray.UNKNOWN_ADDRESS) == 6
        assert not joined.session.media
        assert not joined.origin.dropped
        assert not stranger.received
        assert not stranger.bindings


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (bytes.fromhex("000100022112a442") + bytes(14), Stray.MALFORMED),
        (bytes.fromhex("000100052112a442") + bytes(12) + bytes.fromhex("0006000161"), Stray.MALFORMED),
        (b"\x00", Stray.MALFORMED),
        (b"\x00\x01\x00\x00" + bytes(16), Stray.MALFORMED),
        (stun(BINDING_REQUEST, bytes(12), [], None), Stray.UNKNOWN_ADDRESS),
        (stun(0x0101, bytes(12), [(USERNAME, b"a:b")], None), Stray.UNKNOWN_ADDRESS),
        (stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"a:b")], "pwd"), Stray.UNKNOWN_SESSION),
        (stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"")], "pwd"), Stray.UNKNOWN_SESSION),
        (stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"a" * 24 + b":b")], "pwd"), Stray.BAD_INTEGRITY),
        (stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"a" * 24 + b":b")], None), Stray.BAD_INTEGRITY),
    ],
)
@in_reactor
async def test_stun_of_no_session_is_dropped_and_counted_and_never_answered(datagram: bytes, why: Stray) -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        stranger = proxied.sibling(joined.client)
        for _ in range(3):
            stranger.send(datagram)
        await joined.client.check()

        assert proxied.stats.strays == {("webrtc", why): 3}
        assert not joined.origin.dropped
        assert not stranger.bindings


@pytest.mark.parametrize("datagram", ["000100022112a442" + 28 * "0", "000100052112a442" + 24 * "0" + "0006000161"])
@in_reactor
async def test_malformed_stun_of_a_client_is_dropped_too(datagram: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        joined.client.send(bytes.fromhex(datagram))
        await joined.client.check()

        assert proxied.strays(Stray.MALFORMED) == 1
        assert not joined.session.media


@pytest.mark.parametrize("use_candidate", [False, True])
@in_reactor
async def test_a_forged_request_takes_over_nothing(use_candidate: bool) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        attacker = proxied.sibling(joined.client)
        attacker.send_check(password="x" * 32, use_candidate=use_candidate)
        attacker.send(rtp(1))
        await joined.client.check()
        time.pass_(2)
        attacker.send_check(password="x" * 32, use_candidate=use_candidate)
        attacker.send(rtp(1))
        await joined.client.check()

        await reaches(joined, joined.client, 2)
        assert proxied.strays(Stray.BAD_INTEGRITY) == 2
        assert proxied.strays(Stray.UNKNOWN_ADDRESS) == 2
        assert len(joined.session.bindings) == 3
        assert not joined.session.media
        assert not attacker.bindings
        assert not attacker.received


@in_reactor
async def test_a_session_cannot_be_opened_by_a_forged_request() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PLAY)
        joined.client.send_check(password="x" * 32)
        joined.client.send(rtp(1))
        await proxied.dropped(Stray.UNKNOWN_ADDRESS)

        assert proxied.strays(Stray.BAD_INTEGRITY) == 1
        assert not joined.session.bindings
        await joined.client.check()


# Clients that move


@in_reactor
async def test_the_username_wins_over_the_address() -> None:
    async with ProxiedRtc(reactor) as proxied:
        first, second = await proxied.join(PUBLISH), await proxied.negotiate(PLAY)
        # A browser that uses its port again for another session.
        browser = first.client
        browser.ice = second.client.ice
        await browser.check(use_candidate=True)

        assert len(first.session.bindings) == 1
        assert len(second.session.bindings) == 1
        browser.send(rtp(1))
        assert await second.origin.heard(second.session) == [rtp(1)]
        await reaches(second, browser, 2)
        first.origin.send_media(first.session, rtp(3))
        await browser.check()
        assert browser.received == [rtp(2)]


@in_reactor
async def test_an_address_goes_over_to_the_session_that_is_asked_for_from_there() -> None:
    async with ProxiedRtc(reactor) as proxied:
        first, second = await proxied.join(PUBLISH), await proxied.join(PLAY)
        browser = first.client
        browser.ice = second.client.ice
        await browser.check(use_candidate=True)
        browser.send(rtp(1))

        assert await second.origin.heard(second.session) == [rtp(1)]
        assert not first.session.media
        await reaches(second, browser, 2)
        # Nobody is left of the first session.
        first.origin.send_media(first.session, rtp(3))
        await browser.check()
        assert browser.received == [rtp(2)]


@in_reactor
async def test_an_answer_is_not_for_an_address_that_belongs_to_another_session_by_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ProxiedRtc(reactor) as proxied:
        first, second = await proxied.join(PUBLISH), await proxied.join(PLAY)
        other = proxied.sibling(first.client)
        unanswered = withheld(first.origin, monkeypatch)
        asked = other.send_check()
        await first.origin.until(lambda: unanswered, "the request")
        monkeypatch.undo()
        other.ice = second.client.ice
        await other.check()
        unanswered.pop()()
        await first.client.check()

        assert not other.responses(asked)
        assert not first.client.responses(asked)


@in_reactor
async def test_only_the_latest_requests_of_another_pair_wait_for_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PUBLISH)
        other = proxied.sibling(joined.client)
        unanswered = withheld(joined.origin, monkeypatch)
        asked = [other.send_check() for _ in range(MAX_ASKED + 1)]
        await joined.origin.until(lambda: len(unanswered) == len(asked), "the requests")
        for answer in unanswered:
            answer()

        for transaction_id in asked[1:]:
            await other.answered(transaction_id)
        await joined.client.answered(asked[0])
        assert not other.responses(asked[0])


@in_reactor
async def test_a_client_that_nominates_another_address_is_followed_at_once() -> None:
    async with ProxiedRtc(reactor, time=TakenTime(reactor)) as proxied:
        joined = await proxied.join(PLAY)
        other = proxied.sibling(joined.client)
        await other.check(use_candidate=True)

        await reaches(joined, other, 1)
        await joined.client.check(use_candidate=True)
        await reaches(joined, joined.client, 2)
        assert other.received == [rtp(1)]
        assert joined.client.received == [rtp(2)]


@in_reactor
async def test_a_client_behind_a_nat_that_has_forgotten_it_is_followed_within_a_second() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        time.pass_(2)
        await joined.client.rebind()
        await joined.client.check()  # is answered there at once
        joined.client.send(rtp(1))  # and media is relayed from there at once
        await joined.origin.heard(joined.session)
        time.pass_(1)

        await reaches(joined, joined.client, 2)
        await joined.client.check()
        assert len(joined.session.addresses) == 1


@in_reactor
async def test_a_client_that_was_silent_is_followed_at_once() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        time.pass_(1.1)
        await joined.client.rebind()
        await joined.client.check()

        await reaches(joined, joined.client, 1)


@pytest.mark.parametrize("use_candidate", [False, True])
@in_reactor
async def test_a_request_that_was_overheard_moves_nothing(use_candidate: bool) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.negotiate(PLAY)
        await joined.client.check(use_candidate=use_candidate)
        eavesdropper = proxied.sibling(joined.client)
        time.pass_(1.1)
        eavesdropper.send(joined.session.bindings[0].raw)
        eavesdropper.send(rtp(1))
        await joined.client.check()

        await reaches(joined, joined.client, 2)
        assert not eavesdropper.bindings
        assert not joined.session.media
        assert len(joined.session.bindings) == 2


@in_reactor
async def test_a_request_that_is_sent_again_is_answered_again() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PLAY)
        other = proxied.sibling(joined.client)
        for client in (joined.client, other):
            transaction_id = client.send_check()
            await client.answered(transaction_id)
            client.send_check(transaction_id=transaction_id)
            await client.check()
            assert len(client.responses(transaction_id)) == 2


@in_reactor
async def test_two_pairs_of_one_client_do_not_flap_and_are_both_answered() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        other = proxied.sibling(joined.client)
        for number in range(1, 21):
            await other.check()
            await joined.client.check()
            await reaches(joined, joined.client, number)
            time.pass_(0.5)

        assert not other.received
        assert len(other.bindings) == 20
        assert len(joined.client.bindings) == 21


@in_reactor
async def test_answers_go_to_where_each_request_came_from_whatever_their_order() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PLAY)
        clients = [joined.client, *[proxied.sibling(joined.client) for _ in range(3)]]
        asked = [(client, client.send_check()) for _ in range(4) for client in clients]

        for client, transaction_id in reversed(asked):
            await client.answered(transaction_id)
        assert [len(client.bindings) for client in clients] == [5, 4, 4, 4]


@in_reactor
async def test_the_other_pair_takes_over_when_the_selected_one_falls_silent() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        other = proxied.sibling(joined.client)
        await other.check()
        time.pass_(0.5)
        await joined.client.check()
        time.pass_(0.6)  # the selected one was heard of in this second
        await reaches(joined, joined.client, 1)
        await other.check()
        time.pass_(1.1)

        await reaches(joined, other, 2)


@in_reactor
async def test_the_other_pair_takes_over_at_once_if_the_selected_one_is_silent_already() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        other = proxied.sibling(joined.client)
        time.pass_(1.1)
        await other.check()

        await reaches(joined, other, 1)


@in_reactor
async def test_what_was_nominated_meanwhile_stays() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PLAY)
        other, third = proxied.sibling(joined.client), proxied.sibling(joined.client)
        await other.check()
        await third.check(use_candidate=True)
        time.pass_(1.1)

        await reaches(joined, third, 1)


@in_reactor
async def test_a_pair_that_is_gone_takes_over_nothing() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined, another = await proxied.join(PLAY), await proxied.join(PUBLISH)
        other = proxied.sibling(joined.client)
        await other.check()
        other.ice = another.client.ice
        await other.check()
        time.pass_(1.1)

        await reaches(joined, joined.client, 1)


@in_reactor
async def test_media_alone_keeps_the_selected_pair() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, time=time) as proxied:
        joined = await proxied.join(PUBLISH)
        other = proxied.sibling(joined.client)
        await other.check()
        time.pass_(0.5)
        joined.client.send(rtp(1))
        await joined.origin.heard(joined.session)
        time.pass_(0.6)

        await reaches(joined, joined.client, 2)


@in_reactor
async def test_a_client_with_very_many_addresses_is_known_by_the_latest() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.join(PLAY)
        others = [proxied.sibling(joined.client) for _ in range(MAX_PATHS)]
        for other in others:
            await other.check()
        others[0].send(rtp(1))
        others[-1].send(rtp(2))
        joined.client.send(rtp(3))
        assert await joined.origin.heard(joined.session, 2) == [rtp(2), rtp(3)]

        assert proxied.strays(Stray.UNKNOWN_ADDRESS) == 1
        await others[0].check()


# Addresses


@pytest.mark.parametrize(("interface", "address"), [("::1", "::1"), ("", "::1"), ("", HOST)])
@in_reactor
async def test_clients_on_either_family_are_served(interface: str, address: str) -> None:
    async with ProxiedRtc(reactor, webrtc_server=BindAddress(interface, 0)) as proxied:
        host = f"[{address}]" if ":" in address else address
        joined = await proxied.join(PLAY, f"Host: {host}")

        assert joined.client.peer == (address, proxied.proxy.media_port)
        joined.client.send(rtp(1))
        await joined.origin.heard(joined.session)
        await reaches(joined, joined.client, 2)
        await joined.client.rebind()
        await joined.client.check(use_candidate=True)
        await reaches(joined, joined.client, 3)


@in_reactor
async def test_a_client_is_answered_from_the_address_that_it_sends_to() -> None:
    async with ProxiedRtc(reactor, webrtc_server=BindAddress("0.0.0.0", 0)) as proxied:
        joined = await proxied.join(PLAY)
        for number, host in enumerate(("127.0.0.2", "127.0.0.3", "127.0.0.2", HOST)):
            joined.client.peer = (host, proxied.proxy.media_port)
            await joined.client.check(use_candidate=True)
            await reaches(joined, joined.client, number)
            assert joined.client.sources[-2:] == [joined.client.peer] * 2


@in_reactor
async def test_credentials_are_those_of_the_answer_and_no_others() -> None:
    async with ProxiedRtc(reactor) as proxied:
        joined = await proxied.negotiate(PLAY)
        ice = joined.client.ice
        joined.client.ice = IcePair(new_ice_parameters(), ice.remote)
        joined.client.send_check()
        joined.client.ice = ice
        await joined.client.check()

        assert proxied.stats.strays == {("webrtc", Stray.BAD_INTEGRITY): 1}
