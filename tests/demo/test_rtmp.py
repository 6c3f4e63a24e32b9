"""RTMP clients of the demo origin; wire-facts 2.4 has what SRS does."""

from __future__ import annotations

from typing import get_args

import pytest
from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError as NobodyListens

from srsproxy.demo import live
from srsproxy.rtmp.events import Action
from srsproxy.rtmp.handshake import real_address_prefix
from srsproxy.rtmp.message import Message, MessageType, encode_command, parse_command, window_ack
from srsproxy.streamkey import StreamKey
from tests.asynchronous import in_reactor
from tests.demo.helpers import House
from tests.rtmp_client import (
    HANDSHAKE_SIZE,
    PeerClosed,
    RtmpTestClient,
    Style,
    is_command,
    is_media,
    status_code,
)

STYLES: tuple[Style, ...] = get_args(Style)


def key(name: str) -> StreamKey:
    return StreamKey("__defaultVhost__", "live", name)


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


@pytest.mark.parametrize("style", STYLES)
@in_reactor
async def test_what_is_published_is_played(style: Style) -> None:
    async with House() as house:
        publisher = await house.publisher("a", style)
        metadata = publisher.send_metadata(framerate=25.0)
        video_header, audio_header = publisher.send_sequence_headers()
        sent = publisher.send_media(3)
        await publisher.read_to_pong()
        player = await house.client()
        await player.play("live", "a")
        assert (await player.read(lambda m: m.payload == metadata, "metadata")).msid == 1
        got = await player.read_media(5)
        assert payloads(got) == [audio_header, video_header, *sent]
        assert [message.timestamp for message in got] == [0, 0, 0, 40, 80]
        assert [message.csid for message in got] == [4, 6, 6, 4, 6]
        assert house.origin.streams.published == {key("a")}


@pytest.mark.parametrize("style", STYLES)
@in_reactor
async def test_a_stream_that_has_a_publisher_is_refused_to_another_who_is_not_told_why(style: Style) -> None:
    async with House() as house:
        first = await house.publisher("a")
        player = await house.player("a")
        second = await house.client()
        with pytest.raises(PeerClosed):
            await second.publish("live", "a", style)
        names = [parse_command(message).name for message in second.messages if is_command(message)]
        assert ("onFCPublish" in names) == (style != "flash")
        sent = first.send_media(2)
        assert payloads(await player.read_media(2)) == sent


@pytest.mark.parametrize("style", ["fmle", "haivision"])
@in_reactor
async def test_after_fcunpublish_another_stream_is_published_on_the_same_connection(style: Style) -> None:
    async with House() as house:
        publisher = await house.publisher("a", style)
        assert status_code(await publisher.unpublish("a")) == "NetStream.Unpublish.Success"
        assert house.origin.streams.published == frozenset()
        await publisher.publish("live", "b", style)
        assert house.origin.streams.published == {key("b")}


@pytest.mark.parametrize("command", ["deleteStream", "closeStream", "createStream"])
@in_reactor
async def test_an_fmle_stream_goes_on_without_fcunpublish(command: str) -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        publisher.send_command(command, 9.0, None, 1.0)
        assert await publisher.read_to_pong() == []
        assert house.origin.streams.published == {key("a")}


@pytest.mark.parametrize("command", ["deleteStream", "closeStream", "FCUnpublish", "whatever"])
@in_reactor
async def test_any_command_ends_a_flash_stream_and_another_is_published_on_the_same_connection(command: str) -> None:
    async with House() as house:
        publisher = await house.publisher("a", "flash")
        publisher.send_command(command, 9.0, None, 1.0)
        assert await publisher.read_to_pong() == []
        assert house.origin.streams.published == frozenset()
        await publisher.publish("live", "b", "flash")
        assert house.origin.streams.published == {key("b")}


@in_reactor
async def test_a_stream_ends_with_its_publishers_connection() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        await publisher.abort()
        await house.origin.streams.until(lambda: not house.origin.streams.published)


@in_reactor
async def test_a_player_waits_in_silence_for_a_stream_and_also_for_its_next_publisher() -> None:
    async with House() as house:
        player = await house.player("a")
        assert await player.read_to_pong() == []
        publisher = await house.publisher("a")
        sent = publisher.send_media(30)
        got = await player.read_media(32)
        assert payloads(got)[2:] == sent
        await publisher.unpublish("a")
        assert await player.read_to_pong() == []
        second = await house.publisher("a")
        second.send_media(2)
        again = await player.read_media(4)
        assert [message.timestamp for message in again] == [got[-1].timestamp] * 3 + [got[-1].timestamp + 40]


@in_reactor
async def test_after_closestream_a_player_plays_or_publishes_another_stream() -> None:
    async with House() as house:
        one, two = await house.publisher("one"), await house.publisher("two")
        client = await house.player("one")
        one.send_media(2)
        await client.read_media(2)
        client.send_command("closeStream", 0.0, None, csid=8, msid=1)
        assert await client.read_to_pong() == []
        one.send_media(2)
        await one.read_to_pong()
        assert await client.read_to_pong() == []
        await client.play("live", "two")
        sent = two.send_media(2)
        assert payloads(await client.read_media(4))[2:] == sent
        client.send_command("closeStream", 0.0, None, csid=8, msid=1)
        await client.publish("live", "mine")
        assert key("mine") in house.origin.streams.published


@in_reactor
async def test_a_second_play_is_ignored() -> None:
    async with House() as house:
        await house.publisher("one")
        client = await house.player("one")
        client.send_command("play", 9.0, None, "two", csid=8, msid=1)
        assert not any(is_command(message) for message in await client.read_to_pong())


@in_reactor
async def test_a_player_that_asked_for_a_duration_gets_no_more() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        player = await house.client()
        await player.play("live", "a", 0.0, 200.0)
        publisher.send_media(20)
        assert await player.wait_closed()
        assert [message.timestamp for message in player.messages if is_media(message)][-1] == 200
        await house.origin.streams.until(lambda: house.origin.streams.players == 0)


@in_reactor
async def test_commands_are_answered_by_the_rules_of_each_phase() -> None:
    async with House() as house:
        client = await house.client()
        client_answers = await client.connect_app("live")
        assert status_code(client_answers) == "NetConnection.Connect.Success"
        assert (await client.call("_checkbw")).arguments == (None, None)
        assert (await client.call("createStream")).arguments == (None, 1.0)
        client.send_command("_checkbw", 20.0, None)
        assert await client.read_to_pong() == []
        client.send_command("play", 21.0, None, "a", csid=8, msid=1)
        await client.read_to_pong()
        assert (await client.call("seek", 0.0)).arguments == (None, None)
        client.send_command("seek", 0.0, None, 0.0)
        assert await client.read_to_pong() == []


@in_reactor
async def test_the_answer_to_connect_has_transaction_1_and_the_clients_object_encoding() -> None:
    async with House() as house:
        client = await house.client()
        await client.handshake()
        client.send_command("connect", 7.0, {"tcUrl": "rtmp://127.0.0.1/live", "objectEncoding": 3.0})
        answer = await client.read_until("_result")
        assert answer.transaction_id == 1
        assert isinstance(answer.arguments[1], dict)
        assert answer.arguments[1]["objectEncoding"] == 3.0


@in_reactor
async def test_commands_in_amf3_messages_are_taken() -> None:
    async with House() as house:
        client = await house.client()
        await client.connect_app("live")
        payload = b"\x00" + encode_command("createStream", 9.0, None)
        client.send_message(3, MessageType.COMMAND_AMF3, 0, payload)
        await client.read_until("_result", 9.0)


async def fourth_create_stream(client: RtmpTestClient) -> None:
    await client.connect_app("live")
    for _ in range(3):
        await client.call("createStream")
    client.send_command("createStream", 9.0, None)


async def connect_without_tc_url(client: RtmpTestClient) -> None:
    await client.handshake()
    client.send_command("connect", 1.0, {"app": "live"})


async def publish_without_name(client: RtmpTestClient) -> None:
    await client.connect_app("live")
    client.send_command("publish", 5.0)
    await client.call("createStream")
    client.send_command("publish", 5.0)


async def empty_name(client: RtmpTestClient) -> None:
    await client.connect_app("live")
    client.send_command("releaseStream", 2.0, None, "")


async def answer_to_nothing(client: RtmpTestClient) -> None:
    await client.connect_app("live")
    client.send_command("_result", 2.0, None, None)


async def no_rtmp(client: RtmpTestClient) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n" + bytes(HANDSHAKE_SIZE))


async def small_chunks(client: RtmpTestClient) -> None:
    await client.connect_app("live")
    client.set_chunk_size(1)


@pytest.mark.parametrize(
    "misbehave",
    [
        fourth_create_stream,
        connect_without_tc_url,
        publish_without_name,
        empty_name,
        answer_to_nothing,
        no_rtmp,
        small_chunks,
    ],
)
@in_reactor
async def test_who_breaks_the_protocol_is_closed(misbehave: object) -> None:
    assert callable(misbehave)
    async with House() as house:
        client = await house.client()
        await misbehave(client)
        await client.wait_closed()


@in_reactor
async def test_bytes_are_acknowledged_to_a_client_that_gave_a_window() -> None:
    async with House() as house:
        client = await house.client()
        await client.handshake()
        client.send_message(2, MessageType.WINDOW_ACK, 0, window_ack(10_000))
        await client.publish("live", "a")
        for _ in range(10):
            client.send_media(30)
            await client.read_to_pong()
        acks = [int.from_bytes(m.payload, "big") for m in client.messages if m.type == MessageType.ACK]
        assert acks
        assert all(later - earlier > 5_000 for earlier, later in zip([0, *acks], acks, strict=False))
        assert acks[0] > HANDSHAKE_SIZE


@in_reactor
async def test_a_client_that_gave_no_window_gets_no_acknowledgements() -> None:
    async with House() as house:
        publisher = await house.publisher("a")
        publisher.send_media(1000)
        assert await publisher.read_to_pong() == []


@pytest.mark.parametrize("frames_before", [0, 100])
@in_reactor
async def test_a_slow_player_misses_frames_and_goes_on_with_a_key_frame(
    monkeypatch: pytest.MonkeyPatch, frames_before: int
) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 2_000_000)
    monkeypatch.setattr(live, "MAX_GROUP", 100_000_000)
    # Two hundred of them are more than the kernel buffers for a connection, and so are the first hundred.
    large = b"\x27\x01" + bytes(500_000)
    async with House() as house:
        publisher = await house.publisher("a")
        publisher.set_chunk_size(60_000)
        quick = await house.player("a")

        async def publish(count: int) -> None:
            for _ in range(count):
                publisher.send_message(6, MessageType.VIDEO, 1, large)
                await quick.read(lambda message: message.payload == large, "a large frame")

        publisher.send_media(1)
        await publish(frames_before)
        slow = await house.client()
        await slow.connect_app("live")
        await slow.call("createStream")
        slow.pause()
        slow.send_command("play", 9.0, None, "a", csid=8, msid=1)
        await house.origin.streams.until(lambda: house.origin.streams.players == 2)
        await publish(200 - frames_before)
        slow.resume()
        publisher.frames_sent = 20
        key_frame = publisher.send_media(1)[0]
        await quick.read(lambda message: message.payload == key_frame, "the key frame")
        await slow.read(lambda message: message.payload == key_frame, "the key frame")
        assert 0 < sum(message.payload == large for message in slow.messages) < 190


@pytest.mark.parametrize("style", STYLES)
@in_reactor
async def test_a_publisher_is_refused_when_the_test_says_so(style: Style) -> None:
    async with House() as house:
        asked: list[tuple[StreamKey, Action]] = []

        def refuse(key: StreamKey, action: Action) -> bool:
            asked.append((key, action))
            return True

        house.origin.refuse = refuse
        client = await house.client()
        with pytest.raises(PeerClosed):
            await client.publish("live", "a", style)
        assert asked == [(key("a"), Action.PUBLISH)]
        assert house.origin.streams.published == frozenset()


@in_reactor
async def test_a_player_is_refused_behind_the_answers_to_play() -> None:
    async with House() as house:
        house.origin.refuse = lambda key, action: key.stream == "b" and action is Action.PLAY
        await house.publisher("b")
        client = await house.client()
        assert status_code(await client.play("live", "b")) == "NetStream.Play.Start"
        assert await client.wait_closed()
        assert not any(is_media(message) for message in client.messages)
        await house.player("a")


@in_reactor
async def test_a_silent_origin_accepts_connections_and_says_nothing() -> None:
    async with House() as house:
        house.origin.silent = True
        house.origin.record = True
        client = await house.client()
        client.send(bytes(5000))
        client.close_write()
        await client.wait_closed()
        assert client.received == b""
        assert house.origin.visits[0].received == bytes(5000)


@in_reactor
async def test_what_clients_say_is_on_record() -> None:
    async with House(vhosts=frozenset({"test.com"})) as house:
        house.origin.record = True
        client = await house.client()
        client.send(real_address_prefix("192.0.2.7"))
        await client.connect_app("live", "rtmp://test.com/live", pageUrl="http://page")
        await client.publish("live", "a?token=1")
        client.send_command("FCUnpublish", 9.0, None, "a")
        await client.play("live", "b")
        (visit,) = house.origin.visits
        assert visit.peer == "127.0.0.1"
        assert visit.real_address == "192.0.2.7"
        assert visit.tc_url == "rtmp://test.com/live"
        assert visit.command_object["pageUrl"] == "http://page"
        assert visit.streams == [
            (Action.PUBLISH, StreamKey("test.com", "live", "a")),
            (Action.PLAY, StreamKey("test.com", "live", "b")),
        ]
        assert visit.received.startswith(b"\xf3\x00\x04\xc0\x00\x02\x07\x03")
        assert b"releaseStream" in visit.received


@in_reactor
async def test_bytes_are_recorded_only_if_asked_for() -> None:
    async with House() as house:
        await house.publisher("a")
        assert house.origin.visits[0].received == b""


@in_reactor
async def test_a_stopped_origin_resets_its_clients_and_can_start_again() -> None:
    async with House() as house:
        publisher, player = await house.publisher("a"), await house.player("a")
        assert house.origin.connections == 2
        await house.origin.stopService()
        assert not await publisher.wait_closed()
        assert not await player.wait_closed()
        assert house.origin.connections == 0
        assert house.origin.streams.published == frozenset()
        assert house.origin.streams.players == 0
        with pytest.raises(NobodyListens):
            await RtmpTestClient.connect(reactor, "127.0.0.1", house.rtmp_port)
        house.origin.startService()
        await house.publisher("a")


@in_reactor
async def test_an_origin_has_no_address_before_it_starts() -> None:
    house = House()
    with pytest.raises(ValueError, match="not started"):
        _ = house.origin.rtmp_address
