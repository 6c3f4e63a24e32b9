"""RTMP over every kind of listener: TLS, the PROXY protocol, Unix sockets, and the real-address prefix."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint

from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.certificates import pem_of_both, pem_of_certificate
from tests.proxy import ProxyUnderTest
from tests.rtmp_client import RtmpTestClient, status_code

GROUP = 20
"""Frames from one key frame to the next; players get nothing before one."""


async def listen(under_test: ProxyUnderTest, description: str) -> int:
    return under_test.listening(await serverFromString(reactor, description).listen(under_test.server))


def tls_to(port: int) -> IStreamClientEndpoint:
    options = ssl.optionsForClientTLS("localhost", trustRoot=ssl.Certificate.loadPEM(pem_of_certificate()))
    return wrapClientTLS(options, TCP6ClientEndpoint(reactor, "::1", port))


async def connect(endpoint: IStreamClientEndpoint) -> RtmpTestClient:
    client = RtmpTestClient(reactor)
    await connectProtocol(endpoint, client)
    return client


async def publish_and_play(publisher: RtmpTestClient, player: RtmpTestClient) -> None:
    """Much more than what fits into the buffers on the way, in one go."""
    assert status_code(await publisher.publish("live", "s")) == "NetStream.Publish.Start"
    publisher.send_sequence_headers()
    publisher.send_media(GROUP)
    assert status_code(await player.play("live", "s")) == "NetStream.Play.Start"
    sent = publisher.send_media(20_000)
    last = await player.read(lambda message: message.payload == sent[-1], "the last frame")
    received = [message.payload for message in player.messages[: player.messages.index(last) + 1]]
    assert received[-len(sent) :] == sent


def proxy(**settings: Any) -> ProxyUnderTest:
    return ProxyUnderTest(reactor, **settings)


# Twisted's TLS endpoints use what pyOpenSSL has deprecated.
twisteds_own_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@twisteds_own_warnings
@in_reactor
async def test_tls_clients_publish_and_play(tmp_path: Path) -> None:
    (tmp_path / "localhost.pem").write_bytes(pem_of_both())
    async with proxy() as under_test:
        await under_test.add_origin("a")
        port = await listen(under_test, rf"tls:{tmp_path}:0:interface=\:\:1")
        publisher, player = await connect(tls_to(port)), await connect(tls_to(port))
        await publish_and_play(publisher, player)
        await player.close()
        await publisher.close()
        await under_test.ended(Outcome.FINISHED, 2)


@twisteds_own_warnings
@in_reactor
async def test_a_tls_client_is_told_why_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "localhost.pem").write_bytes(pem_of_both())
    async with proxy() as under_test:
        port = await listen(under_test, rf"tls:{tmp_path}:0:interface=\:\:1")
        client = await connect(tls_to(port))
        assert status_code(await client.publish("live", "s")) == "NetStream.Failed"
        await client.wait_closed()


@in_reactor
async def test_behind_the_proxy_protocol_the_clients_own_address_counts() -> None:
    async with proxy(rtmp_real_address=True) as under_test:
        origin = await under_test.add_origin("a")
        port = await listen(under_test, "haproxy:tcp:0:interface=127.0.0.1")
        clients = []
        for number in (7, 8):
            client = await connect(TCP4ClientEndpoint(reactor, "127.0.0.1", port))
            client.send(f"PROXY TCP4 192.0.2.{number} 127.0.0.1 40000 1935\r\n".encode())
            clients.append(client)
        await publish_and_play(*clients)
        assert {session.peer for session in under_test.stats.active} == {"192.0.2.7", "192.0.2.8"}
        assert [visit.real_address for visit in origin.visits] == ["192.0.2.7", "192.0.2.8"]


@in_reactor
async def test_unix_socket_clients_publish_and_play(tmp_path: Path) -> None:
    path = tmp_path / "rtmp.sock"
    async with proxy() as under_test:
        await under_test.add_origin("a")
        await listen(under_test, f"unix:{path}")
        publisher = await connect(UNIXClientEndpoint(reactor, str(path)))
        await publish_and_play(publisher, await connect(UNIXClientEndpoint(reactor, str(path))))


@in_reactor
async def test_a_trusted_fronts_prefix_replaces_the_address_and_is_not_stacked() -> None:
    async with proxy(rtmp_real_address=True, trusted_addresses=(ip_network("127.0.0.0/8"),)) as under_test:
        origin = await under_test.add_origin("a")
        origin.record = True
        client = await under_test.client()
        client.send(b"\xf3\x00\x04\xc0\x00\x02\x07")
        assert status_code(await client.publish("live", "s")) == "NetStream.Publish.Start"
        assert bytes(origin.visits[0].received[:8]) == b"\xf3\x00\x04\xc0\x00\x02\x07\x03"
        assert next(iter(under_test.stats.active)).peer == "192.0.2.7"


@in_reactor
@pytest.mark.parametrize("told", [True, False])
async def test_origins_are_told_the_address_only_if_the_setting_says_so(told: bool) -> None:
    async with proxy(rtmp_real_address=told) as under_test:
        origin = await under_test.add_origin("a")
        client = await under_test.client()
        await client.publish("live", "s")
        assert origin.visits[0].real_address == ("127.0.0.1" if told else None)


@in_reactor
async def test_a_prefix_from_anybody_else_is_refused() -> None:
    async with proxy(trusted_addresses=(ip_network("192.0.2.0/24"),)) as under_test:
        client = await under_test.client()
        client.send(b"\xf3\x00\x04\xc0\x00\x02\x07")
        await client.wait_closed()
        await under_test.ended(Outcome.BAD_REQUEST)
