"""Where clients are led to by the answers to their offers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet import reactor

from srsproxy.values import BindAddress, PublicAddress
from tests.asynchronous import in_reactor
from tests.http.origins import HOST, RawHttpClient, Response
from tests.webrtc.peers import parse_sdp
from tests.webrtc.proxied import PUBLISH, ProxiedRtc, offer


def candidates(response: Response) -> list[tuple[str, str, int]]:
    """Transport, host and port of those in an answer."""
    found = parse_sdp(response.body.decode()).candidates
    return [(candidate.transport, candidate.host, candidate.port) for candidate in found]


@in_reactor
async def test_the_addresses_of_the_settings_replace_those_of_the_origin() -> None:
    public = (PublicAddress("192.0.2.1"), PublicAddress("2001:db8::1", 5000), PublicAddress("media.example", 6000))
    async with ProxiedRtc(reactor, rtc_candidate=public) as proxied:
        proxied.origin.hosts = ["10.0.0.1", "10.0.0.2"]

        response = await proxied.whip.offer(PUBLISH, offer())

        port = proxied.proxy.media_port
        assert candidates(response) == [
            ("udp", "192.0.2.1", port),
            ("udp", "2001:db8::1", 5000),
            ("udp", "media.example", 6000),
        ]
        assert b"10.0.0" not in response.body
        foundations = [line.split(b" ")[0] for line in response.body.splitlines() if b"a=candidate" in line]
        assert len(set(foundations)) == 3


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7:11985", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::7]:11985", "2001:db8::7"),
        ("media.example:11985", "127.0.0.1"),
        ("0.0.0.0:11985", "127.0.0.1"),
        ("[::]", "127.0.0.1"),
        ("1.2.3", "127.0.0.1"),
    ],
)
@in_reactor
async def test_the_address_that_the_client_has_reached_is_the_candidate_if_none_is_set(
    host: str, expected: str
) -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.offer(PUBLISH, offer(), f"Host: {host}")

        assert candidates(response) == [("udp", expected, proxied.proxy.media_port)]


@in_reactor
async def test_a_client_without_host_gets_the_local_address() -> None:
    async with ProxiedRtc(reactor) as proxied:
        client = await RawHttpClient.connect(reactor, HOST, proxied.proxy.api_port)
        body = offer().encode()
        client.send(b"POST /rtc/v1/whip/ HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        response = await client.response()

        assert candidates(response) == [("udp", HOST, proxied.proxy.media_port)]
        assert proxied.origin.requests[0].field(b"Host") == f"{HOST}:{proxied.origin.port}".encode()
        await client.wait_closed()


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("eip=192.0.2.8", ("192.0.2.8", None)),
        ("candidate=192.0.2.8:9000", ("192.0.2.8", 9000)),
        ("eip=192.0.2.8:9000&candidate=192.0.2.9", ("192.0.2.8", 9000)),
        ("eip=[2001:db8::8]:9000", ("2001:db8::8", 9000)),
    ],
)
@in_reactor
async def test_the_address_that_the_client_asks_for_is_one_more_candidate(
    parameter: str, expected: tuple[str, int | None]
) -> None:
    async with ProxiedRtc(reactor) as proxied:
        response = await proxied.whip.offer(f"{PUBLISH}&{parameter}", offer())

        port = proxied.proxy.media_port
        host, wanted = expected
        assert candidates(response) == [("udp", HOST, port), ("udp", host, wanted or port)]


@pytest.mark.parametrize("parameter", ["eip=", "eip=a%20b", "eip=1.2.3.4:0", "candidate=::1:x", "eip=127.0.0.1"])
@in_reactor
async def test_an_address_that_is_none_or_known_adds_nothing(parameter: str) -> None:
    async with ProxiedRtc(reactor) as proxied:
        body = offer().encode()
        head = b"HTTP/1.1 201 Created\r\nLocation: /\r\nContent-Length: %d\r\n\r\n"
        sdp = body.replace(b"a=mid:", b"a=candidate:0 1 udp 2130706431 10.0.0.1 8000 typ host generation 0\r\na=mid:")
        proxied.origin.answer(head % len(sdp) + sdp)

        response = await proxied.whip.offer(f"{PUBLISH}&{parameter}", offer())

        assert candidates(response) == [("udp", HOST, proxied.proxy.media_port)]


@in_reactor
async def test_tcp_candidates_lead_to_the_tcp_listener() -> None:
    async with ProxiedRtc(reactor, tcp=True) as proxied:
        response = await proxied.whip.offer(PUBLISH, offer())

        assert candidates(response) == [
            ("udp", HOST, proxied.proxy.media_port),
            ("tcp", HOST, proxied.proxy.media_tcp_port),
        ]
        assert response.body.count(b"tcptype passive") == 2


@pytest.mark.parametrize("listens", ["proxy", "origin"])
@in_reactor
async def test_there_are_no_tcp_candidates_unless_both_the_proxy_and_the_origin_listen(listens: str) -> None:
    async with ProxiedRtc(reactor, tcp=listens == "proxy") as proxied:
        origin = proxied.origin
        origin.transports = ("udp", "tcp")
        udp = origin.registration.rtc[:1]
        rtc = udp if listens == "proxy" else (*udp, f"tcp://{HOST}:{origin.port}")
        await proxied.proxy.balancer.register(replace(origin.registration, rtc=rtc))

        response = await proxied.whip.offer(PUBLISH, offer())

        assert candidates(response) == [("udp", HOST, proxied.proxy.media_port)]


@in_reactor
async def test_a_candidate_is_never_written_as_the_address_of_the_listener() -> None:
    async with ProxiedRtc(reactor, webrtc_server=BindAddress("127.0.0.1", 0)) as proxied:
        response = await proxied.whip.offer(PUBLISH, offer(), "Host: 192.0.2.2")

        port = proxied.proxy.media_port
        [line] = {line for line in response.body.decode().splitlines() if line.startswith("a=candidate")}
        assert line == f"a=candidate:0 1 udp 2130706431 192.0.2.2 {port} typ host generation 0"
