"""Clients of SRS, replayed against the demo origin: it must say to them what SRS has said."""

from __future__ import annotations

from typing import Any

import pytest

from srsproxy.rtmp.chunk import ChunkReader
from srsproxy.rtmp.message import Message, MessageType, parse_command
from tests import recorded
from tests.asynchronous import in_reactor
from tests.demo.helpers import House
from tests.rtmp_client import RtmpTestClient, is_command, is_media


def messages_of(recording: recorded.Recording) -> list[Message]:
    reader = ChunkReader(max_message_size=0xFFFFFF)
    reader.receive_data(recording.chunks)
    return list(iter(reader.next_message, None))


def said(messages: list[Message]) -> list[tuple[int, int, int, Any]]:
    """What a server said, without the stream itself, and without what it tells of itself and when it acknowledges."""
    sayings = []
    for message in messages:
        if is_media(message) or message.type == MessageType.ACK or b"onMetaData" in message.payload:
            continue
        content: Any = message.payload
        if is_command(message):
            command = parse_command(message)
            if isinstance(command.arguments[0], dict):
                properties, information = command.arguments
                assert isinstance(information, dict)
                content = (command.name, command.transaction_id, properties, {**information, "data": None})
            else:
                content = command
        sayings.append((message.csid, message.type, message.msid, content))
    return sayings


async def replayed(house: House, name: str) -> RtmpTestClient:
    client = await house.client()
    client.send(recorded.rtmp(f"{name}.c2s").data)
    return client


@pytest.mark.parametrize("name", ["publish_ffmpeg", "republish", "srs_edge_publish"])
@in_reactor
async def test_publishers_are_answered_like_by_srs(name: str) -> None:
    expected = said(messages_of(recorded.rtmp(f"{name}.s2c")))
    async with House() as house:
        client = await replayed(house, name)
        await client.read(lambda _: len(said(client.messages)) >= len(expected), f"{len(expected)} messages")
        # ffmpeg had gone before SRS could answer its FCUnpublish.
        assert said(client.messages)[: len(expected)] == expected


@pytest.mark.parametrize("name", ["play_ffmpeg", "play_librtmp"])
@in_reactor
async def test_players_are_answered_like_by_srs(name: str) -> None:
    expected = said(messages_of(recorded.rtmp(f"{name}.s2c")))
    async with House() as house:
        publisher = await house.publisher("livestream")
        player = await replayed(house, name)
        publisher.send_media(20)
        await player.read_media(10)
        assert said(player.messages) == expected


@in_reactor
async def test_a_busy_stream_is_refused_like_by_srs() -> None:
    expected = said(messages_of(recorded.rtmp("publish_busy.s2c")))
    async with House() as house:
        await house.publisher("livestream")
        client = await replayed(house, "publish_busy")
        await client.wait_closed()
        assert said(client.messages) == expected


@pytest.mark.parametrize("name", ["srs_edge_publish", "srs_forward"])
@in_reactor
async def test_the_media_that_srs_pipelines_behind_publish_reaches_players(name: str) -> None:
    sent = [m for m in messages_of(recorded.rtmp(f"{name}.c2s")) if is_media(m)]
    async with House() as house:
        await replayed(house, name)
        await house.origin.streams.until(lambda: bool(house.origin.streams.published))
        (key,) = house.origin.streams.published
        player = await house.client()
        await player.play(key.app, key.stream)
        got = await player.read_media(10)
        assert [m.payload for m in got[:2]] != [m.payload for m in got[1:3]]
        assert {m.payload for m in got} <= {m.payload for m in sent}
        assert {m.csid for m in got} == {m.csid for m in sent}
