"""The peers that the tests of WebRTC use, against each other and against recorded traffic of SRS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.http.origins import HOST, Ending, Gate, RawHttpClient
from tests.rtmp_client import PeerClosed
from tests.webrtc.ice_client import DTLS_CLIENT_HELLO, IceClient, IceTcpClient, rtp
from tests.webrtc.peers import (
    BINDING_REQUEST,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    Candidate,
    FrameReader,
    IcePair,
    IceParameters,
    WhipClient,
    frame,
    new_ice_parameters,
    offer_sdp,
    parse_sdp,
    parse_stun,
    stun,
)
from tests.webrtc.rtc_api import Credentials, RtcSession
from tests.webrtc.rtc_origin import MAX_TCP_PACKET, FakeRtcOrigin

CAPTURES = Path(__file__).parent.parent / "captures"

WHIP, WHEP = "/rtc/v1/whip/?app=live&stream=a", "/rtc/v1/whep/?app=live&stream=a"


def recorded_stun() -> list[bytes]:
    """The STUN messages of a recorded session, requests and responses by turns."""
    recorded = (CAPTURES / "rtc_whep_udp.dgrams").read_bytes()
    messages = []
    while recorded:
        end = 7 + int.from_bytes(recorded[5:7], "big")
        datagram, recorded = recorded[7:end], recorded[end:]
        if datagram[0] < 2:
            messages.append(datagram)
    return messages


def recorded_answer() -> str:
    """The SDP that began the same session."""
    return (CAPTURES / "whep.response.http").read_bytes().decode().partition("\r\n\r\n")[2]


def kinds_of_lines(sdp: str) -> set[str]:
    """What the lines of a description begin with."""
    return {line.partition(":")[0] if line.startswith("a=") else line[:2] for line in sdp.split("\r\n")}


@asynccontextmanager
async def negotiated(origin: FakeRtcOrigin, target: str = WHIP) -> AsyncIterator[tuple[IceClient, RtcSession]]:
    """A client of an origin, and its session."""
    ice = (await WhipClient(reactor, origin.port).negotiate(target)).ice
    candidate = ice.remote.first("udp")
    async with IceClient.open(reactor, ice, (candidate.host, candidate.port)) as client:
        yield client, origin.sessions[ice.username]


# The wire


def test_recorded_stun_messages_are_signed_with_the_password_of_the_recorded_answer() -> None:
    pwd = parse_sdp(recorded_answer()).pwd

    messages = [parse_stun(data) for data in recorded_stun()]

    assert len(messages) > 3
    assert all(message.username == "m5w4865i:PJWy" for message in messages)
    assert all(message.is_signed_with(pwd) and message.has_right_fingerprint() for message in messages)
    assert not any(message.is_signed_with(f"{pwd[:-1]}x") for message in messages)
    assert {message.mapped_address[0] for message in messages if message.type != BINDING_REQUEST} == {"127.0.0.1"}


def test_stun_messages_are_written_as_recorded_ones_are() -> None:
    pwd = parse_sdp(recorded_answer()).pwd

    for data in recorded_stun():
        message = parse_stun(data)
        attributes = [
            (kind, value) for kind, value, _ in message.attributes if kind not in (MESSAGE_INTEGRITY, FINGERPRINT)
        ]
        assert stun(message.type, message.transaction_id, attributes, pwd) == data


@pytest.mark.parametrize("size", range(1, 4))
def test_packets_are_found_in_a_stream_that_comes_in_pieces(size: int) -> None:
    stream = frame(b"abc") + frame(b"") + frame(b"d" * 300)
    reader = FrameReader()

    packets = [packet for begin in range(0, len(stream), size) for packet in reader.read(stream[begin : begin + size])]

    assert packets == [b"abc", b"", b"d" * 300]


def test_the_recorded_answer_is_read() -> None:
    assert parse_sdp(recorded_answer()) == IceParameters(
        "m5w4865i",
        "432v13al3726071511s606ed81917331",
        (Candidate("udp", "127.0.0.1", 28001), Candidate("tcp", "127.0.0.1", 28001)),
    )


def test_descriptions_with_different_parameters_are_told_from_those_with_one_set() -> None:
    one = offer_sdp(IceParameters("abcd", "p" * 22))
    assert parse_sdp(one) == IceParameters("abcd", "p" * 22)
    with pytest.raises(ValueError, match="not one set"):
        parse_sdp(one.replace("abcd", "efgh", 1))
    with pytest.raises(ValueError, match="not one set"):
        parse_sdp("v=0\r\n")


# The HTTP API


@in_reactor
async def test_an_offer_is_answered_with_the_fields_and_the_description_of_srs() -> None:
    async with FakeRtcOrigin(reactor, tcp=True) as origin:
        response = await WhipClient(reactor, origin.port).offer(WHEP, offer_sdp(IceParameters("PJWy", "p" * 22)))

        head, _, _ = (CAPTURES / "whep.response.http").read_bytes().partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        assert response.first == first
        assert sorted(name for name, _ in response.fields) == sorted(field.partition(b":")[0] for field in fields)
        [session] = origin.sessions.values()
        query = f"action=delete&token={session.token}&app=live&stream=a&session={session.username}"
        assert response.field(b"Location") == f"/rtc/v1/whip/?{query}".encode()
        sdp = response.body.decode()
        assert kinds_of_lines(sdp) < kinds_of_lines(recorded_answer())
        assert parse_sdp(sdp) == IceParameters(
            session.local.ufrag,
            session.local.pwd,
            (Candidate("udp", HOST, origin.udp_port), Candidate("tcp", HOST, origin.tcp_port)),
        )
        assert origin.requests[0].target == WHEP.encode()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/rtc/v1/whip/", ("live", "livestream", "publish")),
        ("/rtc/v1/whip/?app=a&stream=b", ("a", "b", "publish")),
        ("/rtc/v1/whip/?app=a&stream=b&action=play", ("a", "b", "play")),
        ("/rtc/v1/whip-play/?stream=b", ("live", "b", "play")),
        ("/rtc/v1/whep/", ("live", "livestream", "play")),
        ("/rtc/v1/whep/x", ("live", "livestream", "publish")),
    ],
)
@in_reactor
async def test_targets_name_streams_as_in_srs(target: str, expected: tuple[str, str, str]) -> None:
    async with FakeRtcOrigin(reactor) as origin:
        await WhipClient(reactor, origin.port).negotiate(target)

        [session] = origin.sessions.values()
        assert (session.app, session.stream, session.action) == expected


@in_reactor
async def test_credentials_of_the_query_are_honoured_ignored_or_clash() -> None:
    pwd = "p" * 32
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)

        async def asked() -> IceParameters:
            return (await client.negotiate(f"{WHEP}&ice-ufrag=chosen&ice-pwd={pwd}")).ice.remote

        chosen = await asked()
        assert (chosen.ufrag, chosen.pwd) == ("chosen", pwd)
        origin.credentials = Credentials.CLASHING
        clashed = await asked()
        assert clashed.ufrag != "chosen"
        assert clashed.pwd == pwd
        origin.credentials = Credentials.IGNORED
        ignored = await asked()
        assert ignored.ufrag != "chosen"
        assert ignored.pwd != pwd


@in_reactor
async def test_a_username_that_is_taken_makes_another_ufrag() -> None:
    offer = offer_sdp(new_ice_parameters())
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        for _ in range(2):
            await client.offer(f"{WHEP}&ice-ufrag=chosen", offer)

        first, second = origin.sessions.values()
        assert first.local.ufrag == "chosen"
        assert second.local.ufrag != "chosen"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", WHIP, ""),
        ("PATCH", WHIP, "a=candidate"),
        ("POST", WHIP, ""),
        ("POST", WHIP, "no SDP"),
        ("POST", f"{WHIP}&ice-ufrag=abc", offer_sdp(new_ice_parameters())),
        ("POST", f"{WHIP}&ice-pwd={'p' * 33}", offer_sdp(new_ice_parameters())),
    ],
)
@in_reactor
async def test_what_srs_does_not_like_is_closed_without_a_word(method: str, target: str, body: str) -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = await RawHttpClient.connect(reactor, HOST, origin.port)
        client.request(target, method=method, body=body.encode())

        assert await client.wait_closed()
        assert client.received == b""


@in_reactor
async def test_a_stream_has_one_publisher_and_any_number_of_players() -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        published = await client.negotiate(WHIP)
        await client.negotiate(WHEP)
        await client.negotiate(WHEP)
        with pytest.raises(PeerClosed):
            await client.negotiate(WHIP)

        await client.delete(published.location)
        await client.negotiate(WHIP)


@in_reactor
async def test_delete_ends_a_session_if_it_has_its_token() -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        location = (await client.negotiate(WHIP)).location
        token = next(iter(origin.sessions.values())).token

        for wrong in (location.replace(token, "x"), location.replace("token=", "tok=")):
            with pytest.raises(PeerClosed):
                await client.delete(wrong)
        assert len(origin.sessions) == 1
        for _ in range(2):
            deleted = await client.delete(location)
            assert (deleted.status, deleted.body) == (200, b"")
        assert not origin.sessions
        assert len(origin.ended) == 1


@in_reactor
async def test_other_requests_are_answered_as_srs_does() -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)

        plain = await client.request("OPTIONS", WHIP)
        assert (plain.status, plain.body) == (200, b"")
        assert plain.field(b"Access-Control-Allow-Origin") is None
        cross = await client.request("OPTIONS", WHIP, "Origin: http://site")
        assert cross.field(b"Access-Control-Allow-Origin") == b"*"
        redirected = await client.offer("/rtc/v1/whip?app=a", offer_sdp(new_ice_parameters()))
        assert (redirected.status, redirected.field(b"Location")) == (302, b"/rtc/v1/whip/?app=a")
        assert (await client.request("GET", "/")).status == 404


@pytest.mark.parametrize("path", ["/rtc/v1/play/", "/rtc/v1/publish/"])
@in_reactor
async def test_the_json_api_answers_in_its_envelope(path: str) -> None:
    body = {"streamurl": "webrtc://127.0.0.1/live/a?x=1", "sdp": offer_sdp(new_ice_parameters())}
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        response = await client.request(
            "POST", f"{path}?ice-ufrag=chosen", "Content-Type: application/json", body=json.dumps(body).encode()
        )

        [session] = origin.sessions.values()
        assert (session.app, session.stream, session.action) == ("live", "a", path.split("/")[3])
        assert session.local.ufrag != "chosen"
        answer = json.loads(response.body)
        assert (response.status, answer["code"], answer["sessionid"]) == (200, 0, session.username)
        assert parse_sdp(answer["sdp"]).pwd == session.local.pwd

        refused = await client.request("POST", path, body=b"{}")
        assert (refused.status, refused.body) == (200, b'{"code":400}')


@in_reactor
async def test_candidates_are_those_of_the_settings_of_the_query_and_of_host() -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        origin.hosts = ["::1"]
        origin.transports = ("udp", "tcp")
        target = f"{WHEP}&eip=192.0.2.1:9&candidate=b.example"

        answered = await client.negotiate(target, "Host: 192.0.2.2:80")

        udp, tcp = origin.udp_port, origin.tcp_port
        expected = [("192.0.2.1", 9, 9), ("192.0.2.2", udp, tcp), ("::1", udp, tcp), ("b.example", udp, tcp)]
        assert answered.ice.remote.candidates == tuple(
            Candidate(transport, host, port)
            for host, udp_port, tcp_port in expected
            for transport, port in (("udp", udp_port), ("tcp", tcp_port))
        )
        origin.api_as_candidates = False
        assert (await client.negotiate(WHEP)).ice.remote.candidates == (
            Candidate("udp", "::1", udp),
            Candidate("tcp", "::1", tcp),
        )


@in_reactor
async def test_scripted_answers_come_before_those_of_srs() -> None:
    async with FakeRtcOrigin(reactor) as origin:
        client = WhipClient(reactor, origin.port)
        gate = Gate()
        origin.answer(Ending.FIN)
        origin.answer(gate, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Ending.FIN)
        with pytest.raises(PeerClosed):
            await client.offer(WHIP, "v=0")
        gate.open()
        assert (await client.offer(WHIP, "v=0")).status == 403
        await client.negotiate(WHIP)
        assert len(origin.requests) == 3


# Media


@in_reactor
async def test_media_flows_both_ways_after_a_binding_request() -> None:
    async with FakeRtcOrigin(reactor) as origin, negotiated(origin) as (client, session):
        response = await client.check()
        client.send(DTLS_CLIENT_HELLO)
        client.send(rtp(1))

        assert response.username == client.ice.username
        assert response.mapped_address == client.address
        assert await origin.heard(session, 2) == [DTLS_CLIENT_HELLO, rtp(1)]
        assert session.addresses == [client.address]
        origin.send_media(session, rtp(2))
        assert await client.wait_received(1) == [rtp(2)]
        assert client.sources == [(HOST, origin.udp_port)] * 2


@in_reactor
async def test_the_origin_does_not_look_at_the_integrity_of_requests() -> None:
    async with FakeRtcOrigin(reactor) as origin, negotiated(origin) as (client, session):
        await client.check(password="wrong")

        assert not session.bindings[0].is_signed_with(session.local.pwd)


@in_reactor
async def test_media_of_unknown_addresses_and_requests_for_unknown_sessions_are_dropped() -> None:
    async with FakeRtcOrigin(reactor) as origin, negotiated(origin) as (client, session):
        client.send(rtp(1))
        client.send_check(username="nobody:knows")
        client.send(b"\x00\x01\x00\x02\x21\x12\xa4\x42")
        await client.check()

        assert [address for _, address in origin.dropped] == [client.address] * 3
        assert len(client.bindings) == 1
        assert not session.media


@in_reactor
async def test_media_moves_with_a_request_from_a_new_address() -> None:
    async with FakeRtcOrigin(reactor) as origin, negotiated(origin) as (client, session):
        await client.check()
        old = client.address
        await client.rebind()
        await client.check(use_candidate=True)

        assert session.addresses == [old, client.address]
        origin.send_media(session, rtp(1))
        await client.wait_received(1)


@in_reactor
async def test_an_address_that_is_known_wins_over_the_username() -> None:
    async with (
        FakeRtcOrigin(reactor) as origin,
        negotiated(origin) as (first, one),
        negotiated(origin, WHEP) as (second, other),
    ):
        await first.check()
        await first.check(username=second.ice.username, signed_with=one.local.pwd)

        assert len(one.bindings) == 2
        assert not other.bindings


@in_reactor
async def test_an_ended_session_is_not_known_any_more() -> None:
    async with FakeRtcOrigin(reactor) as origin, negotiated(origin) as (client, session):
        await client.check()
        origin.forget(session)
        client.send_check()
        client.send(rtp(1))
        await origin.until(lambda: len(origin.dropped) == 2, "2 drops")
        assert len(client.bindings) == 1

        await origin.restart()
        assert origin.sessions == {}


@in_reactor
async def test_clients_on_ipv6_are_the_same() -> None:
    ice = IcePair(new_ice_parameters(), new_ice_parameters())
    async with IceClient.open(reactor, ice, ("::1", 9)) as one, one.sibling(one.address) as other:
        other.send(rtp(1))
        await one.wait_received(1)
        assert one.sources == [other.address]


@in_reactor
async def test_media_over_tcp_is_framed() -> None:
    async with FakeRtcOrigin(reactor, tcp=True) as origin:
        ice = (await WhipClient(reactor, origin.port).negotiate(WHIP)).ice
        session = await origin.session()
        candidate = ice.remote.first("tcp")
        async with await IceTcpClient.connect(reactor, ice, (candidate.host, candidate.port)) as client:
            await client.check(use_candidate=True)
            client.send(rtp(1))
            assert await origin.heard(session) == [rtp(1)]
            origin.send_media(session, rtp(2))
            assert await client.wait_received(1) == [rtp(2)]

            origin.forget(session)
            assert await client.connection.wait_closed()


@pytest.mark.parametrize(
    "first", [rtp(1), stun(BINDING_REQUEST, bytes(12), [(6, b"no:body")], None)], ids=["media", "nobody knows"]
)
@in_reactor
async def test_a_tcp_connection_that_begins_wrongly_is_closed(first: bytes) -> None:
    ice = IcePair(new_ice_parameters(), new_ice_parameters())
    async with (
        FakeRtcOrigin(reactor, tcp=True) as origin,
        await IceTcpClient.connect(reactor, ice, (HOST, origin.tcp_port)) as client,
    ):
        client.send(first)
        assert await client.connection.wait_closed()


@in_reactor
async def test_a_packet_that_is_too_large_for_srs_resets_its_connection() -> None:
    async with FakeRtcOrigin(reactor, tcp=True) as origin:
        ice = (await WhipClient(reactor, origin.port).negotiate(WHIP)).ice
        async with await IceTcpClient.connect(reactor, ice, (HOST, origin.tcp_port)) as client:
            await client.check()
            client.send(bytes([128]) * (MAX_TCP_PACKET + 1))
            assert not await client.connection.wait_closed()


@in_reactor
async def test_a_registration_has_every_endpoint() -> None:
    async with FakeRtcOrigin(reactor, "name", tcp=True) as origin:
        told = origin.registration
        assert (told.server, told.api) == ("name", (f"{HOST}:{origin.port}",))
        assert told.rtc == (f"udp://{HOST}:{origin.udp_port}", f"tcp://{HOST}:{origin.tcp_port}")
