"""The aiortc programs, with no proxy between them: what tests of the proxy take for granted."""

from __future__ import annotations

import signal

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.webrtc.aiortc_programs import AiortcClient, AiortcOrigin


def whip(origin: AiortcOrigin, mount: str, query: str) -> str:
    return f"http://127.0.0.1:{origin.api_port}/rtc/v1/{mount}/?{query}"


@in_reactor
async def test_what_is_published_is_played_over_the_one_port_and_sessions_are_deleted() -> None:
    chosen = "ice-ufrag=chosenby7&ice-pwd=aaaaaaaaaabbbbbbbbbbcc"
    async with (
        AiortcOrigin(reactor, "a") as origin,
        AiortcClient(reactor, "publish", whip(origin, "whip", f"stream=s&{chosen}")) as publisher,
        AiortcClient(reactor, "play", whip(origin, "whep", "stream=s")) as player,
    ):
        answer = await player.told("answer")
        assert {line.split()[4:6] == ["127.0.0.1", str(origin.rtc_port)] for line in answer["candidates"]} == {True}
        published = await origin.told("session", action="publish", stream="live/s")
        assert published["session"].startswith("chosenby7:")
        assert await player.wait() == 0, player.output
        played = await origin.told("session", action="play", stream="live/s")
        await origin.told("ended", session=played["session"], why="deleted")
        publisher.signal(signal.SIGTERM)
        assert await publisher.wait() == 0, publisher.output
        await origin.told("ended", session=published["session"], why="deleted")


@in_reactor
async def test_the_json_api_does_the_same_players_may_come_first_and_sessions_end_with_their_clients() -> None:
    async with AiortcOrigin(reactor, "a") as origin:
        url = f"webrtc://127.0.0.1:{origin.api_port}/app/s"
        async with AiortcClient(reactor, "play", url) as player:
            await player.told("connected")
            async with AiortcClient(reactor, "publish", url) as publisher:
                assert await player.wait() == 0, player.output
                played = await origin.told("session", action="play", stream="app/s", by="/rtc/v1/play/")
                await origin.told("ended", session=played["session"], why="closed")
                publisher.signal(signal.SIGTERM)
                published = await origin.told("session", action="publish", stream="app/s", by="/rtc/v1/publish/")
                await origin.told("ended", session=published["session"], why="closed")


@in_reactor
@pytest.mark.parametrize("query", ["stream=s", "stream=t&ice-ufrag=abc", "stream=t&ice-ufrag=abcd&ice-pwd=short"])
async def test_a_busy_stream_and_bad_credentials_are_refused_without_a_word(query: str) -> None:
    async with AiortcOrigin(reactor, "a") as origin, AiortcClient(reactor, "publish", whip(origin, "whip", "stream=s")):
        await origin.told("session")
        async with AiortcClient(reactor, "publish", whip(origin, "whip", query)) as refused:
            assert "without response" in (await refused.told("refused"))["error"]
            assert await refused.wait() == 1


@in_reactor
async def test_a_player_of_another_stream_than_it_asked_for_says_so() -> None:
    async with AiortcOrigin(reactor, "a") as origin:
        # Of two, the player takes the first for the colour, and the origin the second for the stream.
        wrong = f"{whip(origin, 'whep', 'stream=t')}&stream=s"
        async with (
            AiortcClient(reactor, "publish", whip(origin, "whip", "stream=s")),
            AiortcClient(reactor, "play", wrong) as player,
        ):
            await player.told("wrong", stands_still=False)
            assert await player.wait() == 1
