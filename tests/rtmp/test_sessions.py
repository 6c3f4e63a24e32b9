"""RTMP clients through the proxy to demo origins: routing, relaying, refusals, and changes of stream."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol

from srsproxy.config import PickPolicy
from srsproxy.demo.origin import DemoOrigin
from srsproxy.interfaces import IStreamConnection
from srsproxy.outcome import Outcome
from srsproxy.rtmp.events import Action
from srsproxy.rtmp.message import Message, MessageType, on_status
from srsproxy.rtmp.session import RtmpClient
from tests.asynchronous import in_reactor, until
from tests.proxy import ProxyUnderTest, ScriptedOrigin
from tests.rtmp_client import HANDSHAKE_SIZE, PeerClosed, RtmpTestClient, Style, is_media, status_code, status_of

GROUP = 20
"""Frames from one key frame to the next; players get nothing before one."""


def proxy(**settings: Any) -> ProxyUnderTest:
    return ProxyUnderTest(reactor, **settings)


def carrying(payload: bytes) -> Callable[[Message], bool]:
    return lambda message: message.payload == payload


def published(origin: DemoOrigin) -> set[str]:
    return {str(key) for key in origin.streams.published}


async def publish(under_test: ProxyUnderTest, name: str, style: Style = "fmle") -> RtmpTestClient:
    """A publisher whose stream has started."""
    client = await under_test.client()
    assert status_code(await client.publish("live", name, style)) == "NetStream.Publish.Start"
    client.send_metadata()
    client.send_sequence_headers()
    client.send_media(2)
    return client


async def play(under_test: ProxyUnderTest, name: str) -> RtmpTestClient:
    """A player that has got its first frame behind the sequence headers."""
    client = await under_test.client()
    assert status_code(await client.play("live", name)) == "NetStream.Play.Start"
    await client.read_media(3)
    return client


async def refused(client: RtmpTestClient) -> tuple[str, str]:
    """Code and description of the error status that a client gets before it is closed."""
    status = status_of(await client.read_status())
    assert status["level"] == "error"
    assert await client.wait_closed()
    return str(status["code"]), str(status["description"])


# Routing


@in_reactor
async def test_each_stream_is_on_one_origin_and_players_get_it_from_there() -> None:
    async with proxy() as under_test:
        origins = [await under_test.add_origin(name) for name in "ab"]
        publishers = [await publish(under_test, f"s{number}") for number in range(6)]
        assert [len(origin.streams.published) for origin in origins] == [3, 3]
        for number, publisher in enumerate(publishers):
            player = await play(under_test, f"s{number}")
            sent = publisher.send_media(3)
            last = await player.read(carrying(sent[-1]), "the last frame")
            assert last.payload == sent[-1]


@in_reactor
@pytest.mark.parametrize("style", ["fmle", "haivision", "flash"])
async def test_publishers_of_every_style_are_relayed(style: Style) -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        publisher = await publish(under_test, "s", style)
        assert published(origin) == {"__defaultVhost__/live/s"}
        player = await play(under_test, "s")
        sent = publisher.send_media(20)
        last = await player.read(carrying(sent[-1]), "the last frame")
        received = [message.payload for message in player.messages[: player.messages.index(last) + 1]]
        assert received[-20:] == sent


@in_reactor
async def test_the_origin_gets_every_byte_of_a_publisher_as_it_was_sent() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        origin.record = True
        client = await under_test.client()
        sent = bytearray()
        send = client.send

        def recorded(data: bytes) -> None:
            sent.extend(data)
            send(data)

        client.send = recorded  # type: ignore[method-assign]  # the test's own view of the wire
        await client.publish("live", "s")
        # A chunk size that changes behind publish, and chunk streams with basic headers of two and three bytes.
        client.send_media(5)
        client.set_chunk_size(4096)
        client.send_message(64, MessageType.VIDEO, 1, b"\x27\x01" + bytes(3000), 300)
        client.send_message(320, MessageType.AUDIO, 1, b"\xaf\x01" + bytes(200), 16777216)
        client.send_media(5)
        client.close_write()
        assert await client.wait_closed()
        received = bytes(origin.visits[-1].received)
        assert received[HANDSHAKE_SIZE:] == bytes(sent[HANDSHAKE_SIZE:])
        await under_test.ended(Outcome.FINISHED)


@in_reactor
async def test_what_connect_and_play_say_reaches_the_origin() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        await publish(under_test, "s")
        client = await under_test.client()
        await client.connect_app("live", pageUrl="http://example.com/", swfUrl="x.swf", objectEncoding=3.0, extra="e")
        await client.play("live", "s", 0.0, 60000.0)
        visit = origin.visits[-1]
        assert {k: visit.command_object[k] for k in ("pageUrl", "swfUrl", "objectEncoding", "extra")} == {
            "pageUrl": "http://example.com/",
            "swfUrl": "x.swf",
            "objectEncoding": 3.0,
            "extra": "e",
        }


@in_reactor
async def test_a_client_that_sends_byte_by_byte_is_served() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        client = await under_test.client()
        send = client.send

        def bytewise(data: bytes) -> None:
            for value in data:
                under_test.reactor.callLater(0, send, bytes((value,)))

        client.send = bytewise  # type: ignore[method-assign]  # the test's own view of the wire
        assert status_code(await client.publish("live", "s")) == "NetStream.Publish.Start"


@in_reactor
async def test_ipv6_clients_and_origins_are_served() -> None:
    async with proxy() as under_test:
        origin = DemoOrigin(reactor, name="six")
        origin.startService()
        under_test.origins.append(origin)
        port6 = under_test.listen("::1")
        await under_test.add_endpoint("six", origin.rtmp_address.rpartition(":")[2], ip="127.0.0.1")
        client = await under_test.client("::1", port6)
        assert status_code(await client.publish("live", "s")) == "NetStream.Publish.Start"
        assert next(iter(under_test.stats.active)).peer == "::1"


# Origins that cannot be reached


@in_reactor
async def test_an_origin_that_refuses_is_passed_over_and_the_client_does_not_notice() -> None:
    async with proxy(pick_policy=PickPolicy.LEAST_STREAMS) as under_test:
        await under_test.add_endpoint("dead", "1")
        alive = await under_test.add_origin("alive")
        for number in range(4):
            await publish(under_test, f"s{number}")
        assert len(alive.streams.published) == 4
        assert not under_test.stats.ended


@in_reactor
async def test_an_origin_that_never_shakes_hands_is_passed_over() -> None:
    async with proxy(origin_connect_timeout=0.05) as under_test:
        silent = await under_test.add_origin("silent")
        silent.silent = True
        alive = await under_test.add_origin("alive")
        for number in range(3):
            await publish(under_test, f"s{number}")
        assert len(alive.streams.published) == 3


@in_reactor
async def test_all_listeners_of_an_origin_are_tried_in_their_order() -> None:
    async with proxy() as under_test:
        origin = DemoOrigin(reactor, name="a")
        origin.startService()
        under_test.origins.append(origin)
        await under_test.add_endpoint("a", "127.0.0.1:1", origin.rtmp_address)
        await publish(under_test, "s")
        assert published(origin) == {"__defaultVhost__/live/s"}


@in_reactor
async def test_without_any_origin_the_client_is_told_so_and_gets_no_success_before() -> None:
    async with proxy() as under_test:
        for action in ("publish", "play"):
            client = await under_test.client()
            status = status_of(await (client.publish if action == "publish" else client.play)("live", "s"))
            assert status["code"] == "NetStream.Failed"
            assert status["description"] == "no origin server is available for this stream"
            assert await client.wait_closed()
        await under_test.ended(Outcome.NO_ORIGIN, 2)


@in_reactor
async def test_when_no_origin_can_be_reached_the_client_is_told_so_without_their_addresses() -> None:
    async with proxy() as under_test:
        await under_test.add_endpoint("dead1", "1")
        await under_test.add_endpoint("dead2", "2")
        client = await under_test.client()
        status = status_of(await client.publish("live", "s"))
        assert (status["level"], status["code"]) == ("error", "NetStream.Failed")
        assert status["description"] == "the origin server cannot be reached"
        await under_test.ended(Outcome.ORIGIN_UNREACHABLE)


@in_reactor
async def test_an_origin_that_does_not_speak_rtmp_is_unreachable() -> None:
    class Ssh(Protocol):
        transport: IStreamConnection

        def connectionMade(self) -> None:
            self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with proxy() as under_test:
        port = under_test.scripted(Ssh)
        await under_test.add_endpoint("ssh", str(port))
        client = await under_test.client()
        assert status_code(await client.publish("live", "s")) == "NetStream.Failed"
        await under_test.ended(Outcome.ORIGIN_UNREACHABLE)


@in_reactor
async def test_clients_of_a_killed_origin_are_closed_and_the_publisher_reconnects_to_another() -> None:
    async with proxy() as under_test:
        origins = [await under_test.add_origin(name) for name in "ab"]
        publisher = await publish(under_test, "s")
        player = await play(under_test, "s")
        home = next(origin for origin in origins if origin.streams.published)
        other = next(origin for origin in origins if origin is not home)
        begin = under_test.reactor.seconds()
        await home.stopService()
        await publisher.wait_closed()
        await player.wait_closed()
        assert under_test.reactor.seconds() - begin < 1.0
        await under_test.ended(Outcome.ORIGIN_LOST, 2)
        await publish(under_test, "s")
        assert published(other) == {"__defaultVhost__/live/s"}


# Refusals


@in_reactor
async def test_a_second_publisher_is_told_that_the_stream_is_in_use_and_the_first_runs_on() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        first = await publish(under_test, "s")
        player = await play(under_test, "s")
        second = await under_test.client()
        status = status_of(await second.publish("live", "s"))
        assert (status["level"], status["code"]) == ("error", "NetStream.Publish.BadName")
        assert "in use" in str(status["description"])
        assert await second.wait_closed()
        sent = first.send_media(4)
        await player.read(carrying(sent[-1]), "the first publisher's last frame")
        await under_test.ended(Outcome.REJECTED_BY_ORIGIN)


@in_reactor
@pytest.mark.parametrize(
    ("action", "code"),
    [(Action.PUBLISH, "NetStream.Publish.BadName"), (Action.PLAY, "NetStream.Play.StreamNotFound")],
)
async def test_what_a_hook_of_the_origin_refuses_is_told(action: Action, code: str) -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        origin.refuse = lambda key, wanted: wanted is action
        client = await under_test.client()
        await client.connect_app("live")
        if action is Action.PUBLISH:
            await client.name_stream("s")
            client.send_command("publish", client.next_transaction(), None, "s", "live", csid=8, msid=1)
        else:
            assert status_code(await client.play("live", "s")) in ("NetStream.Play.Start", code)
            if any(b"StreamNotFound" in message.payload for message in client.messages):
                await under_test.ended(Outcome.REJECTED_BY_ORIGIN)
                return
        assert (await refused(client))[0] == code
        await under_test.ended(Outcome.REJECTED_BY_ORIGIN)


@in_reactor
async def test_a_bad_name_is_told_with_its_reason() -> None:
    async with proxy() as under_test:
        client = await under_test.client()
        status = status_of(await client.publish("live", " "))
        assert status["code"] == "NetStream.Publish.BadName"
        assert status["description"]
        await under_test.ended(Outcome.BAD_REQUEST)


@in_reactor
async def test_http_on_the_rtmp_port_is_closed_without_a_byte() -> None:
    async with proxy() as under_test:
        client = await under_test.client()
        client.send(b"G")
        await client.wait_closed()
        assert client.received == b""
        await under_test.ended(Outcome.BAD_REQUEST)


@in_reactor
async def test_the_connection_limits_refuse_what_is_over_them_only() -> None:
    async with proxy(max_connections_per_address=2) as under_test:
        await under_test.add_origin("a")
        first = await publish(under_test, "s")
        await publish(under_test, "t")
        third = await under_test.client()
        await third.wait_closed()
        await first.close()
        await under_test.ended(Outcome.FINISHED)
        await publish(under_test, "u")
        assert under_test.stats.ended["rtmp", Outcome.REFUSED] == 1


# Deadlines


@in_reactor
async def test_a_thousand_connections_that_say_nothing_are_closed_at_the_deadline() -> None:
    async with proxy(rtmp_handshake_timeout=0.3) as under_test:
        clients = [await under_test.client() for _ in range(1000)]
        for client in clients:
            await client.wait_closed()
        assert not under_test.stats.active
        assert under_test.stats.ended["rtmp", Outcome.TIMEOUT] == 1000
        assert all(client.received == b"" for client in clients)


@in_reactor
async def test_a_client_that_names_no_stream_is_told_so_at_the_deadline() -> None:
    async with proxy(rtmp_identify_timeout=0.2) as under_test:
        client = await under_test.client()
        await client.connect_app("live")
        await refused(client)
        await under_test.ended(Outcome.TIMEOUT)


@in_reactor
async def test_an_origin_that_never_answers_is_told_as_a_timeout_and_is_not_blamed() -> None:
    class Mute(Protocol):
        """Shakes hands, and that is all."""

        transport: IStreamConnection
        greeted = False

        def dataReceived(self, data: bytes) -> None:
            if not self.greeted:
                self.greeted = True
                self.transport.write(b"\x03" + bytes(3072))

    async with proxy(rtmp_origin_timeout=0.1) as under_test:
        port = under_test.scripted(Mute)
        await under_test.add_endpoint("mute", str(port))
        client = await under_test.client()
        status = status_of(await client.publish("live", "s"))
        assert status["description"] == "the origin server did not answer in time"
        await under_test.ended(Outcome.TIMEOUT)


@in_reactor
async def test_a_client_that_leaves_while_its_origin_is_dialled_leaves_nothing_behind() -> None:
    async with proxy() as under_test:
        silent = await under_test.add_origin("silent")
        silent.silent = True
        client = await under_test.client()
        await client.connect_app("live")
        await client.name_stream("s")
        client.send_command("publish", client.next_transaction(), None, "s", "live", csid=8, msid=1)
        await until(reactor, lambda: silent.connections == 1, "the proxy dials")
        await client.abort()
        under_test.server.abort()
        await until(reactor, lambda: silent.connections == 0, "the proxy hangs up")
        assert not under_test.stats.active


@in_reactor
async def test_sessions_that_still_dial_are_ended_by_an_abort() -> None:
    # A listener with a full backlog answers no further connection.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        async with proxy() as under_test:
            await under_test.add_endpoint("full", str(full.getsockname()[1]))
            clients = [await under_test.client() for _ in range(3)]
            for client in clients:
                await client.connect_app("live")
                await client.name_stream("s", "flash")
                client.send_command("publish", 9.0, None, "s", "live", csid=8, msid=1)
            await until(reactor, lambda: len(list(under_test.stats.keys_in_use())) == 3, "all are routed")
            under_test.server.abort()
            for client in clients:
                await client.wait_closed()
            assert under_test.stats.ended["rtmp", Outcome.SHUTDOWN] == 3


@in_reactor
async def test_a_publisher_that_has_left_is_not_kept_by_an_origin_that_accepts_it_late() -> None:
    class Late(ScriptedOrigin):
        """Accepts the stream when the publisher has closed its side, and never closes its own."""

        def readConnectionLost(self) -> None:
            self.say(on_status("status", "NetStream.Publish.Start", "late"))

        def writeConnectionLost(self) -> None:
            """It is the proxy's to close the rest."""

    async with proxy() as under_test:
        await under_test.add_endpoint("late", str(under_test.scripted(Late)))
        client = await under_test.client()
        await client.connect_app("live")
        await client.name_stream("s", "flash")
        client.send_command("publish", 9.0, None, "s", "live", csid=8, msid=1)
        client.send_media(1)
        client.close_write()
        await under_test.ended(Outcome.FINISHED)


@in_reactor
async def test_a_player_is_told_of_its_origins_refusal_although_it_talks() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        origin.refuse = lambda key, action: True
        for _ in range(5):
            client = await under_test.client()
            await client.connect_app("live")
            await client.name_stream("s", "flash")
            client.send_command("play", 9.0, None, "s", csid=8, msid=1)
            for _ in range(20):
                client.send_message(2, MessageType.ACK, 0, bytes(4))
            await client.read(lambda message: b"StreamNotFound" in message.payload, "the refusal")
            assert await client.wait_closed()


@in_reactor
async def test_a_player_that_floods_the_proxy_with_messages_is_closed() -> None:
    async with proxy(rtmp_max_message_rate=10) as under_test:
        await under_test.add_origin("a")
        await publish(under_test, "s")
        player = await play(under_test, "s")
        player.send(b"".join(player.chunk_writer.write(2, MessageType.ACK, 0, bytes(4)) for _ in range(500)))
        await player.wait_closed()
        await under_test.ended(Outcome.BAD_REQUEST)


@in_reactor
async def test_a_client_that_changes_its_stream_without_end_is_closed() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        client = await under_test.client()
        await client.play("live", "s")
        for number in range(100):
            client.send_command("play", 10.0 + number, None, f"s{number}", csid=8, msid=1)
        await client.wait_closed()
        await under_test.ended(Outcome.BAD_REQUEST)
        assert len(origin.visits) < 25


# Another stream on the same connection


@in_reactor
async def test_eight_streams_published_one_after_the_other_on_one_connection_all_play() -> None:
    async with proxy() as under_test:
        origins = [await under_test.add_origin(name) for name in "ab"]
        client = await under_test.client()
        homes = set()
        for number in range(8):
            name = f"round{number}"
            assert status_code(await client.publish("live", name)) == "NetStream.Publish.Start"
            client.send_metadata()
            client.send_sequence_headers()
            client.send_media(GROUP)
            player = await play(under_test, name)
            sent = client.send_media(2)
            await player.read(carrying(sent[-1]), "the last frame")
            homes |= {o.name for o in origins if f"__defaultVhost__/live/{name}" in published(o)}
            assert status_code(await client.unpublish(name)) == "NetStream.Unpublish.Success"
        assert homes == {"a", "b"}


@in_reactor
async def test_a_flash_publisher_changes_its_stream_on_one_connection() -> None:
    async with proxy() as under_test:
        origins = [await under_test.add_origin(name) for name in "ab"]
        client = await under_test.client()
        for number in range(4):
            assert status_code(await client.publish("live", f"f{number}", "flash")) == "NetStream.Publish.Start"
            client.send_sequence_headers()
            client.send_media(GROUP)
            await play(under_test, f"f{number}")
            client.send_command("deleteStream", client.next_transaction(), None, 1.0)
        assert sum(len(origin.visits) for origin in origins) == 8


@in_reactor
async def test_a_player_changes_its_stream_on_one_connection() -> None:
    async with proxy() as under_test:
        for name in "ab":
            await under_test.add_origin(name)
        publishers = [await publish(under_test, f"s{number}") for number in range(4)]
        player = await under_test.client()
        for number, publisher in enumerate(publishers):
            if number:
                player.send_command("closeStream", 0, None, csid=8, msid=1)
            assert status_code(await player.play("live", f"s{number}")) == "NetStream.Play.Start"
            await player.read_media(3)
            sent = publisher.send_media(2)
            await player.read(carrying(sent[-1]), "the last frame")


@in_reactor
async def test_a_second_play_without_closestream_is_served() -> None:
    async with proxy() as under_test:
        for name in "ab":
            await under_test.add_origin(name)
        await publish(under_test, "one")
        two = await publish(under_test, "two")
        player = await play(under_test, "one")
        player.send_command("play", 9.0, None, "two", csid=8, msid=1)
        await player.read_until("onStatus")
        sent = two.send_media(2)
        await player.read(carrying(sent[-1]), "a frame of the second stream")


@in_reactor
async def test_a_player_becomes_a_publisher_on_one_connection() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        await publish(under_test, "one")
        client = await play(under_test, "one")
        client.send_command("closeStream", 0, None, csid=8, msid=1)
        assert status_code(await client.publish("live", "mine")) == "NetStream.Publish.Start"
        assert "__defaultVhost__/live/mine" in published(origin)


@in_reactor
async def test_commands_for_the_next_stream_that_reach_the_old_origin_unrouted_close_the_connection() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        client = await publish(under_test, "one")
        client.send_command("FCUnpublish", 10.0, None, "one")
        client.send_command("releaseStream", 11.0, None, "two")
        client.send_command("FCPublish", 12.0, None, "two")
        client.send_command("createStream", 13.0, None)
        client.send_command("publish", 14.0, None, "two", "live", csid=8, msid=1)
        await client.wait_closed()
        await under_test.ended(Outcome.REFUSED)


# Ends


@in_reactor
async def test_draining_waits_for_sessions_and_closes_what_has_named_no_stream() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        publisher = await publish(under_test, "s")
        idle = await under_test.client()
        await idle.connect_app("live")
        drained = under_test.server.drain()
        await idle.wait_closed()
        assert not drained.called
        await publisher.close()
        await drained


@in_reactor
async def test_aborting_ends_all_sessions_with_that_outcome() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        publisher = await publish(under_test, "s")
        player = await play(under_test, "s")
        under_test.server.abort()
        await publisher.wait_closed()
        await player.wait_closed()
        assert under_test.stats.ended["rtmp", Outcome.SHUTDOWN] == 2


@in_reactor
async def test_bytes_are_counted_both_ways() -> None:
    async with proxy() as under_test:
        origin = await under_test.add_origin("a")
        origin.record = True
        publisher = await publish(under_test, "s")
        player = await play(under_test, "s")
        payloads = publisher.send_media(100)
        await player.read(carrying(payloads[-1]), "the last frame")
        await player.close()
        await publisher.close()
        await under_test.ended(Outcome.FINISHED, 2)
        media = sum(len(payload) for payload in payloads)
        assert under_test.stats.sent["rtmp"] > media
        # All that the publisher sent and the few words of the player, without the handshakes.
        received = sum(len(visit.received) for visit in origin.visits) - 2 * HANDSHAKE_SIZE
        assert under_test.stats.received["rtmp"] == received > media


@in_reactor
async def test_ended_sessions_are_freed_without_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy() as under_test:
        sessions: list[weakref.ref[RtmpClient]] = []
        build = under_test.server.buildProtocol

        def watched(addr: IAddress | None) -> RtmpClient:
            session = build(addr)
            sessions.append(weakref.ref(session))
            return session

        monkeypatch.setattr(under_test.server, "buildProtocol", watched)
        await under_test.add_origin("a")
        gc.disable()
        try:
            publisher = await publish(under_test, "s")
            player = await play(under_test, "s")
            second = await under_test.client()
            await second.publish("live", "s")
            await second.wait_closed()
            await player.close()
            await publisher.abort()
            await until(reactor, lambda: all(session() is None for session in sessions), "all are freed")
            assert len(sessions) == 3
        finally:
            gc.enable()


@in_reactor
async def test_a_player_that_asked_for_a_time_and_got_it_is_finished() -> None:
    async with proxy() as under_test:
        await under_test.add_origin("a")
        publisher = await publish(under_test, "s")
        player = await under_test.client()
        await player.play("live", "s", 0.0, 200.0)
        publisher.send_media(20)
        assert await player.wait_closed()
        assert any(is_media(message) for message in player.messages)
        await under_test.ended(Outcome.FINISHED)


@in_reactor
async def test_a_refused_client_gets_the_reason_even_if_it_has_sent_much_that_nobody_reads() -> None:
    async with proxy() as under_test:
        client = await under_test.client()
        await client.connect_app("live")
        await client.name_stream("s", "flash")
        client.send_command("publish", 9.0, None, "s", "live", csid=8, msid=1)
        client.send(bytes(3_000_000))
        try:
            status = status_of(await client.read_status())
        except PeerClosed:
            pytest.fail("the reason was lost in a reset")
        assert status["code"] == "NetStream.Failed"
