"""Media over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest
from twisted.internet import reactor
from twisted.internet.error import CannotListenError

from srsproxy.limits import ConnectionLimits
from srsproxy.outcome import Outcome
from srsproxy.stats import Stray
from srsproxy.values import BindAddress, Listener
from tests.asynchronous import in_reactor
from tests.http.origins import HOST
from tests.webrtc.ice_client import DTLS_CLIENT_HELLO, IceClient, IceTcpClient, rtp
from tests.webrtc.peers import BINDING_REQUEST, BINDING_RESPONSE, USERNAME, IcePair, frame, new_ice_parameters, stun
from tests.webrtc.proxied import (
    KEY,
    NAME,
    PLAY,
    PUBLISH,
    Joined,
    ProxiedRtc,
    Resolver,
    SecondProxy,
    TakenTime,
    error,
    offer,
)
from tests.webrtc.rtc_api import Credentials, RtcSession
from tests.webrtc.rtc_origin import MAX_TCP_PACKET, FakeRtcOrigin, TcpConnection

IDLE, LATE = 30.0, 6.0

HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 8000\r\n"


@dataclass(frozen=True, slots=True)
class TcpJoined:
    """A client over TCP, and what it talks to."""

    client: IceTcpClient
    joined: Joined

    @property
    def session(self) -> RtcSession:
        """At the origin."""
        return self.joined.session

    @property
    def origin(self) -> FakeRtcOrigin:
        """That of the session."""
        return self.joined.origin

    @property
    def upstream(self) -> TcpConnection:
        """The latest connection of the proxy."""
        return self.origin.tcp_connections[-1]

    async def closed(self) -> bool:
        """Wait until both connections have ended; whether the client's ended in an orderly way."""
        orderly = await self.client.connection.wait_closed()
        await self.origin.until(lambda: self.upstream.lost is not None, "the end of the origin's connection")
        return orderly


@asynccontextmanager
async def connected(
    proxied: ProxiedRtc, target: str = PUBLISH, joined: Joined | None = None, port: int | None = None
) -> AsyncIterator[TcpJoined]:
    """A client that has connected to where its answer says, and has sent nothing."""
    joined = joined or await proxied.negotiate(target)
    ice = joined.client.ice
    if port is None:
        port = ice.remote.first("tcp").port
        assert port == proxied.proxy.media_tcp_port
    async with await IceTcpClient.connect(reactor, ice, (HOST, port)) as client:
        yield TcpJoined(client, joined)


@asynccontextmanager
async def running(proxied: ProxiedRtc, target: str = PUBLISH) -> AsyncIterator[TcpJoined]:
    """A client whose first Binding request was answered."""
    async with connected(proxied, target) as one:
        await one.client.check(use_candidate=True)
        yield one


@in_reactor
async def test_packets_are_relayed_both_ways_as_they_are() -> None:
    packets = [DTLS_CLIENT_HELLO, rtp(1), b"", b"\x50odd", bytes([128]) * MAX_TCP_PACKET]
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        for packet in packets:
            one.client.send(packet)
        assert await one.origin.heard(one.session, len(packets)) == packets
        for packet in packets:
            one.origin.send_media(one.session, packet)
        assert await one.client.wait_received(len(packets)) == packets
        await one.client.check()

        [session] = proxied.stats.active
        assert (session.key, session.action) == (KEY, "publish")
        assert not one.session.addresses  # nothing went over UDP


@pytest.mark.parametrize("who", ["client", "origin", "broken origin", "proxy"])
@in_reactor
async def test_without_the_pump_all_is_the_same(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [rtp(number, size=1400) for number in range(100)]
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        monkeypatch.setattr(proxied.proxy.relay, "_pump", None)
        async with running(proxied) as one:
            for packet in packets:
                one.client.send(packet)
                one.origin.send_media(one.session, packet)
            assert await one.origin.heard(one.session, len(packets)) == packets
            assert await one.client.wait_received(len(packets)) == packets
            if who == "client":
                await one.client.connection.close()
            elif who == "origin":
                one.upstream.transport.loseConnection()
            elif who == "broken origin":
                one.upstream.transport.abortConnection()
            else:
                await proxied.whip.delete(one.joined.location)
            await one.closed()


@in_reactor
async def test_the_first_frame_may_come_byte_by_byte() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        attributes = [(USERNAME, one.client.ice.username.encode())]
        request = stun(BINDING_REQUEST, bytes(12), attributes, one.client.ice.remote.pwd)
        stream = frame(request) + frame(rtp(1)) + frame(rtp(2))
        for at in range(len(request) + 4):
            one.client.connection.send(stream[at : at + 1])
            await proxied.proxy.pause(0)
        one.client.connection.send(stream[len(request) + 4 :])

        await one.client.answered(bytes(12))
        assert await one.origin.heard(one.session, 2) == [rtp(1), rtp(2)]


@in_reactor
async def test_what_comes_behind_the_first_frame_is_not_lost() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        attributes = [(USERNAME, one.client.ice.username.encode())]
        request = stun(BINDING_REQUEST, bytes(12), attributes, one.client.ice.remote.pwd)
        packets = [rtp(number, size=1400) for number in range(200)]
        one.client.connection.send(b"".join(map(frame, [request, *packets])))

        assert await one.origin.heard(one.session, 200) == packets


@in_reactor
async def test_bytes_are_counted() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        one.client.send(rtp(1))
        await one.origin.heard(one.session)
        one.origin.send_media(one.session, rtp(2))
        await one.client.wait_received(1)
        await proxied.whip.delete(one.joined.location)

        [request], [response] = one.session.bindings, one.client.bindings
        assert proxied.stats.received["webrtc"] == len(frame(request.raw)) + len(frame(rtp(1)))
        assert proxied.stats.sent["webrtc"] == len(frame(response.raw)) + len(frame(rtp(2)))


# Beginnings that are none


@pytest.mark.parametrize(
    "stream",
    [
        frame(rtp(1)),
        frame(b""),
        frame(bytes.fromhex("000100022112a442") + bytes(14)),
        frame(stun(BINDING_REQUEST, bytes(12), [], "pwd")),
        frame(stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"no:body")], "pwd")),
        frame(stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"a" * 24 + b":b")], "pwd")),
        frame(stun(0x0101, bytes(12), [(USERNAME, b"no:body")], "pwd")),
        (MAX_TCP_PACKET + 1).to_bytes(2, "big"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
@in_reactor
async def test_a_connection_that_begins_wrongly_is_closed(stream: bytes) -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        one.client.connection.send(stream)

        await one.client.connection.wait_closed()
        assert not one.client.connection.received
        assert not one.origin.tcp_connections
        await proxied.ended("webrtc", Outcome.BAD_REQUEST)
        assert not proxied.told(Outcome.BAD_REQUEST.value)  # anyone could fill the log


@in_reactor
async def test_a_request_with_the_wrong_integrity_gets_no_session() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        one.client.send_check(password="x" * 32)

        await one.client.connection.wait_closed()
        assert not one.origin.tcp_connections
        assert len(proxied.stats.active) == 1


@in_reactor
async def test_an_answer_of_the_client_of_a_session_begins_nothing() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        ice = one.client.ice
        one.client.send(stun(BINDING_RESPONSE, bytes(12), [(USERNAME, ice.username.encode())], ice.remote.pwd))

        await one.client.connection.wait_closed()
        assert not one.origin.tcp_connections


@pytest.mark.parametrize("stream", [b"", b"\x00", b"\x00\x14\x00\x01"])
@in_reactor
async def test_a_connection_that_says_too_little_is_not_waited_for_for_ever(stream: bytes) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, tcp=True, time=time) as proxied, connected(proxied) as one:
        one.client.connection.send(stream)
        await proxied.accepted()
        time.pass_(9)
        assert one.client.connection.lost is None
        time.pass_(2)

        await one.client.connection.wait_closed()
        await proxied.ended("webrtc", Outcome.TIMEOUT)


@in_reactor
async def test_a_client_that_leaves_before_it_has_said_anything_leaves_nothing_behind() -> None:
    async with ProxiedRtc(reactor, tcp=True, max_connections=2) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        for stream in (b"", b"\x00\x14\x00"):
            async with connected(proxied, joined=joined) as one:
                one.client.connection.send(stream)
                await one.client.connection.close()
        async with connected(proxied, joined=joined) as one:
            await one.client.check()


@in_reactor
async def test_connections_count_within_the_limits() -> None:
    async with ProxiedRtc(reactor, tcp=True, max_connections=2) as proxied, running(proxied) as one:
        async with connected(proxied, joined=one.joined) as other:
            await other.client.connection.wait_closed()

        await one.client.check()


@in_reactor
async def test_behind_the_proxy_protocol_the_clients_own_address_counts() -> None:
    front = Listener("haproxy:tcp:0:interface=127.0.0.1")
    async with (
        ProxiedRtc(reactor, tcp=True, webrtc_tcp_server=front) as proxied,
        proxied.second_proxy() as second,
        connected(proxied, PUBLISH, port=second.server.media_tcp_port) as one,
    ):
        one.client.connection.send(HEADER)
        await one.client.check()
        one.client.send(rtp(1))
        assert await one.origin.heard(one.session) == [rtp(1)]
        one.origin.send_media(one.session, rtp(2))
        assert await one.client.wait_received(1) == [rtp(2)]

        assert [session.peer for session in second.stats.active] == ["192.0.2.7"]


@in_reactor
async def test_connections_count_at_the_clients_own_address() -> None:
    front = Listener("haproxy:tcp:0:interface=127.0.0.1")
    limits = ConnectionLimits(0, 1, 0)
    async with (
        ProxiedRtc(reactor, tcp=True, webrtc_tcp_server=front) as proxied,
        proxied.second_proxy(limits) as second,
    ):
        joined = await proxied.negotiate(PUBLISH)
        async with connected(proxied, joined=joined, port=second.server.media_tcp_port) as one:
            one.client.connection.send(HEADER + b"\0")
            await proxied.until(lambda: limits._by_address == {"192.0.2.7": 1}, "the address")
            async with connected(proxied, joined=joined, port=second.server.media_tcp_port) as other:
                other.client.connection.send(HEADER + b"\0")
                await other.client.connection.wait_closed()
            assert one.client.connection.lost is None


@in_reactor
async def test_connections_of_sessions_are_not_pending() -> None:
    async with (
        ProxiedRtc(reactor, tcp=True, max_pending_per_address=1) as proxied,
        running(proxied) as one,
        running(proxied, PLAY) as other,
    ):
        await one.client.check()
        await other.client.check()


# Ends


@in_reactor
async def test_delete_closes_the_connection() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        await proxied.whip.delete(one.joined.location)

        await one.closed()
        await proxied.ended("webrtc", Outcome.FINISHED)


@pytest.mark.parametrize("orderly", [True, False])
@in_reactor
async def test_a_client_that_loses_its_connection_can_make_another(orderly: bool) -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        if orderly:
            await one.client.connection.close()
        else:
            await one.client.connection.abort()
        await one.closed()
        async with connected(proxied, joined=one.joined) as other:
            await other.client.check()
            other.client.send(rtp(1))
            assert await other.origin.heard(other.session) == [rtp(1)]

        assert len(one.origin.tcp_connections) == 2
        assert not proxied.stats.ended


@in_reactor
async def test_a_session_has_one_connection_at_a_time() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        async with connected(proxied, joined=one.joined) as other:
            other.client.send_check()
            await other.client.connection.wait_closed()
            assert not other.client.bindings

        await one.client.check()
        assert len(one.origin.tcp_connections) == 1


@in_reactor
async def test_bytes_are_counted_over_all_connections_of_a_session() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        joined = await proxied.negotiate(PUBLISH)
        for _ in range(2):
            async with connected(proxied, joined=joined) as one:
                await one.client.check()
                await one.client.connection.close()
                await one.closed()
        await proxied.whip.delete(joined.location)

        assert proxied.stats.received["webrtc"] == sum(len(frame(request.raw)) for request in joined.session.bindings)


@pytest.mark.parametrize("comes_back", [True, False])
@in_reactor
async def test_a_session_without_a_connection_ends_soon_unless_its_client_comes_back(comes_back: bool) -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, tcp=True, time=time) as proxied, running(proxied) as one:
        await one.client.connection.close()
        await one.closed()
        if comes_back:
            async with connected(proxied, joined=one.joined) as other:
                await other.client.check()
                time.pass_(3 * LATE)
                assert not proxied.stats.ended
                await other.client.check()
        else:
            time.pass_(2 * LATE)
            await proxied.ended("webrtc", Outcome.FINISHED)


@pytest.mark.parametrize("orderly", [True, False])
@in_reactor
async def test_a_connection_that_the_origin_ends_is_closed(orderly: bool) -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        one.origin.send_media(one.session, rtp(1))
        if orderly:
            one.upstream.transport.loseConnection()
        else:
            await one.client.wait_received(1)
            one.upstream.transport.abortConnection()

        await one.closed()
        assert one.client.received == [rtp(1)]


@in_reactor
async def test_a_client_that_leaves_while_its_origin_is_dialled_leaves_nothing_behind() -> None:
    resolver = Resolver(HOST, waits=True)
    async with ProxiedRtc(reactor, tcp=True, time=TakenTime(reactor, resolver)) as proxied:
        origin = proxied.origin
        named = replace(origin.registration, ip=NAME, rtc=(f"udp://:{origin.udp_port}", f"tcp://:{origin.tcp_port}"))
        await proxied.proxy.balancer.register(named)
        joined = await proxied.negotiate(PUBLISH)
        async with connected(proxied, joined=joined) as one:
            one.client.send_check()
            await proxied.until(lambda: resolver.asked, "the question")
            await one.client.connection.abort()
        resolver.answer()
        await proxied.accepted(0)
        await origin.until(lambda: all(one.lost for one in origin.tcp_connections), "the end of the origin's")
        async with connected(proxied, joined=joined) as one:
            one.client.send_check()
            await proxied.until(lambda: len(resolver.asked) == 2, "the question")
            resolver.answer()
            await one.origin.bound(one.session)


@in_reactor
async def test_a_session_that_ends_while_its_origin_is_dialled_is_not_relayed() -> None:
    resolver = Resolver(HOST, waits=True)
    async with ProxiedRtc(reactor, tcp=True, time=TakenTime(reactor, resolver)) as proxied:
        origin = proxied.origin
        named = replace(origin.registration, ip=NAME, rtc=(f"udp://:{origin.udp_port}", f"tcp://:{origin.tcp_port}"))
        await proxied.proxy.balancer.register(named)
        async with connected(proxied) as one:
            one.client.send_check()
            await proxied.until(lambda: resolver.asked, "the question")
            await proxied.whip.delete(one.joined.location)
            resolver.answer()
            await one.client.connection.wait_closed()

        assert not one.session.bindings


@in_reactor
async def test_the_end_of_the_proxy_does_not_wait_for_an_origin_that_is_dialled() -> None:
    resolver = Resolver(HOST, waits=True)
    async with ProxiedRtc(reactor, tcp=True, time=TakenTime(reactor, resolver)) as proxied:
        origin = proxied.origin
        named = replace(origin.registration, ip=NAME, rtc=(f"udp://:{origin.udp_port}", f"tcp://:{origin.tcp_port}"))
        await proxied.proxy.balancer.register(named)
        async with connected(proxied) as one:
            one.client.send_check()
            await proxied.until(lambda: resolver.asked, "the question")
            drained = proxied.proxy.webrtc_server.drain()
            await one.client.connection.wait_closed()
            await drained

        assert proxied.stats.ended == {("webrtc", Outcome.SHUTDOWN): 1}


@in_reactor
async def test_an_origin_that_refuses_the_connection_costs_only_that() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        await one.origin.close_tcp()
        one.client.send_check()

        await one.client.connection.wait_closed()
        await proxied.ended("webrtc", Outcome.ORIGIN_UNREACHABLE)
        assert proxied.told("refused")
        await one.joined.client.check()


@in_reactor
async def test_a_frame_that_is_too_large_for_srs_ends_the_connection() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        one.client.send(rtp(1))
        one.client.send(bytes([128]) * (MAX_TCP_PACKET + 1))

        await one.closed()


@in_reactor
async def test_stun_that_is_none_behind_the_first_frame_ends_the_connection_too() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        attributes = [(USERNAME, one.client.ice.username.encode())]
        request = stun(BINDING_REQUEST, bytes(12), attributes, one.client.ice.remote.pwd)
        one.client.connection.send(frame(request) + frame(b"\0"))

        await one.client.connection.wait_closed()
        await one.origin.until(lambda: all(each.lost for each in one.origin.tcp_connections), "the end of the origin's")
        assert not one.session.bindings
        await proxied.ended("webrtc", Outcome.BAD_REQUEST)


@pytest.mark.parametrize("cut", [1, 2, 3, 20])
@in_reactor
async def test_stun_that_is_none_does_not_reach_the_origin(cut: int) -> None:
    malformed = frame(bytes.fromhex("000100052112a442") + bytes(12) + bytes.fromhex("0006000161"))
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        one.client.connection.send(frame(rtp(1)) + malformed[:cut])
        await one.origin.heard(one.session)
        one.client.connection.send(malformed[cut:])

        await one.closed()
        assert one.session.media == [rtp(1)]


@in_reactor
async def test_a_session_over_tcp_lives_as_long_as_both_peers_send() -> None:
    time = TakenTime(reactor)
    async with ProxiedRtc(reactor, tcp=True, time=time) as proxied, running(proxied) as one:
        for _ in range(12):
            await one.client.check()
            time.pass_(5)
        assert not proxied.stats.ended
        time.pass_(IDLE + LATE)

        await proxied.ended("webrtc", Outcome.CLIENT_LOST)
        await one.closed()


@in_reactor
async def test_a_client_can_go_from_udp_to_tcp_and_back() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, connected(proxied) as one:
        udp = one.joined.client
        for number, client in enumerate((udp, one.client, udp)):
            await client.check(use_candidate=True)
            client.send(rtp(number))
            await one.origin.heard(one.session, number + 1)
            one.origin.send_media(one.session, rtp(number))
            await client.wait_until(partial(client.received.__contains__, rtp(number)))

        assert one.session.media == [rtp(0), rtp(1), rtp(2)]


@in_reactor
async def test_the_end_of_the_proxy_waits_for_running_sessions_and_not_for_other_connections() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, running(proxied) as one:
        async with connected(proxied, joined=one.joined) as other:
            drained = proxied.proxy.webrtc_server.drain()
            await other.client.connection.wait_closed()
        await one.client.check()
        assert not drained.called
        proxied.proxy.webrtc_server.abort()

        await drained
        await one.closed()


# Another proxy


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_a_session_is_served_over_tcp_by_every_proxy(credentials: Credentials) -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        async with connected(proxied, PLAY, port=second.server.media_tcp_port) as one:
            await one.client.check()
            one.client.send(rtp(1))
            assert await one.origin.heard(one.session) == [rtp(1)]

        assert len(second.stats.active) == 1


@pytest.mark.parametrize("credentials", list(Credentials))
@in_reactor
async def test_a_forged_request_begins_no_session_at_another_proxy(credentials: Credentials) -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied, proxied.second_proxy() as second:
        proxied.origin.credentials = credentials
        async with connected(proxied, PLAY, port=second.server.media_tcp_port) as one:
            one.client.send_check(password="x" * 32)
            await one.client.connection.wait_closed()

        assert second.stats.ended == {("webrtc", Outcome.BAD_REQUEST): 1}
        assert not one.origin.tcp_connections


@in_reactor
async def test_an_origin_without_tcp_is_not_dialled() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        origin = proxied.origin
        await proxied.proxy.balancer.register(replace(origin.registration, rtc=origin.registration.rtc[:1]))
        joined = await proxied.negotiate(PLAY)
        async with connected(proxied, joined=joined, port=proxied.proxy.media_tcp_port) as one:
            one.client.send_check()
            await one.client.connection.wait_closed()

        assert not origin.tcp_connections
        await joined.client.check()


@in_reactor
async def test_an_origin_may_take_media_over_tcp_only() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        origin = proxied.origin
        origin.transports = ("tcp",)
        await proxied.proxy.balancer.register(replace(origin.registration, rtc=origin.registration.rtc[1:]))
        negotiated = await proxied.whip.negotiate(PUBLISH)
        [candidate] = negotiated.ice.remote.candidates
        assert (candidate.transport, candidate.port) == ("tcp", proxied.proxy.media_tcp_port)
        async with (
            await IceTcpClient.connect(reactor, negotiated.ice, (HOST, candidate.port)) as client,
            IceClient.open(reactor, negotiated.ice, proxied.media_address) as lost,
        ):
            await client.check()
            lost.send_check()
            lost.send(b"\0")
            await proxied.dropped(Stray.MALFORMED)
            await client.check()

            assert not proxied.stats.ended


@in_reactor
async def test_an_offer_to_an_origin_whose_media_nobody_can_reach_is_refused() -> None:
    async with ProxiedRtc(reactor) as proxied:
        origin = proxied.origin
        origin.transports = ("tcp",)

        response = await proxied.whip.offer(PUBLISH, offer())

        assert error(response)[0] == 502
        assert proxied.told("it takes media over TCP only")
        await origin.until(lambda: origin.ended, "the end of the session")


@in_reactor
async def test_a_port_that_is_taken_is_told_at_the_start() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        assert proxied.proxy.media_tcp_port is not None
        taken = Listener(BindAddress(HOST, proxied.proxy.media_tcp_port))
        second = SecondProxy(proxied.proxy, ConnectionLimits(0, 0, 0), webrtc_tcp_server=taken)
        with pytest.raises(CannotListenError):
            second.server.startService()
        await second.server.drain()


@in_reactor
async def test_an_unknown_client_is_not_answered() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        assert proxied.proxy.media_tcp_port is not None
        ice = IcePair(new_ice_parameters(), new_ice_parameters())
        async with await IceTcpClient.connect(reactor, ice, (HOST, proxied.proxy.media_tcp_port)) as client:
            client.send_check()
            await client.connection.wait_closed()
            assert not client.connection.received
