"""Bodies on their way: where they end, what may follow them, and how long they may take."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

from srsproxy.config import Settings
from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import Ending, Endless, Gate, RawHttpClient, Step
from tests.http.proxied import CHUNKED, FILE, LIVE, OK, PLAYLIST, ProxiedOrigins, answered, chunk, comes_to_rest

STALL = Settings().stall_timeout
ORIGIN = Settings().http_origin_timeout

EVIL = answered(b"evil")
"""What an origin sends that nobody has asked for."""

FRAGMENT = "/live/s.m4s"


def proxied(origins: int = 1, **settings: Any) -> ProxiedOrigins:
    return ProxiedOrigins(reactor, origins, **settings)


async def ask(lab: ProxiedOrigins, target: str, version: str = "1.1") -> RawHttpClient:
    client = await lab.client()
    client.send(f"GET {target} HTTP/{version}\r\nHost: test\r\n\r\n".encode())
    return client


# What follows an answer


@pytest.mark.parametrize(
    "answer",
    [
        answered(b"x"),
        answered(b"x" * 60_000),
        answered(b"x" * 100_000),
        answered(b"x" * 1_000_000),
        answered(b"#EXTM3U\ns-1.ts\n"),
        CHUNKED + chunk(b"x") + chunk(b""),
        CHUNKED + chunk(b"x" * 20_000) * 10 + chunk(b""),
        CHUNKED + chunk(b"x" * 1_000_000) + chunk(b""),
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ],
    ids=["tiny", "small", "relayed", "large", "playlist", "chunk", "chunks", "large chunk", "none"],
)
@pytest.mark.parametrize("target", [FILE, PLAYLIST, FRAGMENT])
@in_reactor
async def test_bytes_behind_an_answer_are_not_the_answer_to_the_next_request(target: str, answer: bytes) -> None:
    async with proxied() as lab:
        # The last byte of the answer comes together with what follows it, and the next request is there already.
        gate = Gate()
        lab.origin.answer(answer[:-1], gate, answer[-1:] + EVIL)
        lab.origin.answer(answered(b"right"))
        client = await ask(lab, target)
        client.request(FRAGMENT)
        await lab.origin.asked()
        gate.open()
        assert (await client.response()).status in (200, 304)
        assert (await client.response()).body == b"right"
        assert len(lab.origin.connections) == 2


# Where a body ends


@pytest.mark.parametrize("steps", [(), (chunk(b"two"),), (chunk(b"x" * 100_000),)])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@in_reactor
async def test_a_chunked_file_whose_origin_closes_between_two_chunks_is_cut(
    version: str, steps: tuple[Step, ...]
) -> None:
    async with proxied() as lab:
        gate = Gate()
        lab.origin.answer(CHUNKED, chunk(b"one"), *steps, gate, Ending.FIN)
        client = await ask(lab, FRAGMENT, version)
        await client.line(b"one")
        gate.open()
        orderly = await client.wait_closed()
        assert not client.received.endswith(chunk(b""))
        # Without chunks, an orderly end would be that of the body.
        assert version == "1.1" or not orderly
        await lab.ended("hls", Outcome.ORIGIN_LOST)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@in_reactor
async def test_a_live_stream_may_end_so(version: str) -> None:
    async with proxied() as lab:
        lab.origin.answer(CHUNKED, chunk(b"one"), Ending.FIN)
        client = await ask(lab, LIVE, version)
        assert (await client.response()).body == b"one"
        await lab.ended("flv", Outcome.FINISHED)


# How long it may take


KINDS: dict[str, tuple[str, bytes]] = {
    "copied": ("1.1", OK + b"Content-Length: 100\r\n\r\n"),
    "relayed": ("1.1", OK + b"Content-Length: 1000000\r\n\r\n"),
    "relayed chunks": ("1.1", CHUNKED),
    "payload of chunks": ("1.0", CHUNKED),
    "until the end": ("1.1", OK + b"\r\n"),
}
EVERY_KIND = pytest.mark.parametrize(("version", "head"), KINDS.values(), ids=KINDS.keys())


@EVERY_KIND
@in_reactor
async def test_a_body_that_dribbles_is_waited_for_and_one_that_stops_is_not(version: str, head: bytes) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        gates = [Gate() for _ in range(6)]
        lab.origin.answer(head, *[step for gate in gates for step in (chunk(b"piece"), gate)], Gate())
        client = await ask(lab, FRAGMENT, version)
        await client.head()
        for gate in gates:
            await client.line(b"piece")
            clock.advance(0.9 * STALL)
            assert lab.stats.ended.total() == 0
            gate.open()
        clock.advance(STALL)
        clock.advance(STALL)
        await client.wait_closed()
        await lab.ended("hls", Outcome.TIMEOUT)
        assert len(lab.told("nothing of the body came within")) == 1


@EVERY_KIND
@in_reactor
async def test_so_is_a_body_of_which_nothing_comes(version: str, head: bytes) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        lab.origin.answer(head, Gate())
        client = await ask(lab, FRAGMENT, version)
        await client.head()
        clock.advance(0.9 * STALL)
        assert lab.stats.ended.total() == 0
        clock.advance(0.2 * STALL)
        await lab.ended("hls", Outcome.TIMEOUT)
        assert await client.wait_closed() == (version == "1.1" and head != OK + b"\r\n")
        await lab.origin.closed()


@in_reactor
async def test_a_small_body_that_dribbles_arrives_whole() -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        gates = [Gate() for _ in range(10)]
        head = OK + b"Content-Length: 10\r\n\r\n"
        lab.origin.answer(head, *[step for gate in gates for step in (gate, b"x")])
        lab.origin.answer(answered(b"next"))
        client = await ask(lab, FILE)
        await client.head()
        for gate in gates:
            clock.advance(ORIGIN)
            gate.open()
            assert await client.read(1) == b"x"
        assert (await client.get(FILE)).body == b"next"
        assert len(lab.origin.connections) == 1


@pytest.mark.parametrize("goes_on", [True, False])
@in_reactor
async def test_a_playlist_may_take_its_time_as_long_as_it_comes(goes_on: bool) -> None:
    seconds = 7.0  # as no other deadline
    async with proxied(http_origin_timeout=seconds) as lab:
        clock = lab.take_over_time()
        text = b"#EXTM3U\n" + b"#\n" * 5
        first, *gates = [Gate() for _ in range(6)]
        head = OK + b"Content-Length: %d\r\n\r\n#EXTM3U\n" % len(text)
        lab.origin.answer(first, head, *[step for gate in gates for step in (gate, b"#\n")])
        client = await ask(lab, PLAYLIST)
        await lab.origin.asked()
        clock.advance(0.9 * seconds)
        first.open()
        for gate in gates:
            # Nothing of it can be seen before it is whole, but its deadline.
            await lab.until(lambda: _remaining(clock) == pytest.approx(seconds), "a new deadline")
            clock.advance(0.9 * seconds)
            if not goes_on:
                break
            gate.open()
        if goes_on:
            assert (await client.response()).body == text
        else:
            clock.advance(0.2 * seconds)
            assert (await client.response()).status == 504
            await lab.ended("hls", Outcome.TIMEOUT)
            assert len(lab.told("nothing more of the playlist came within")) == 1


def _remaining(clock: Clock) -> float | None:
    """Seconds until the only deadline that there is."""
    deadlines = [call.getTime() - clock.seconds() for call in clock.getDelayedCalls()]
    return deadlines[0] if len(deadlines) == 1 else None


@pytest.mark.parametrize(
    ("version", "head", "piece"),
    [
        ("1.1", OK + b"Content-Length: 100000000\r\n\r\n", b"x" * 1_000),
        ("1.1", CHUNKED, chunk(b"x" * 1_000)),
        ("1.1", CHUNKED, chunk(b"x" * 100_000)),
        ("1.0", CHUNKED, chunk(b"x" * 1_000)),
        ("1.1", OK + b"\r\n", b"x" * 1_000),
    ],
    ids=["length", "small chunks", "large chunks", "payload of chunks", "until the end"],
)
@in_reactor
async def test_a_reader_that_is_slow_is_not_taken_for_an_origin_that_sends_nothing(
    version: str, head: bytes, piece: bytes
) -> None:
    async with proxied() as lab:
        clock = lab.take_over_time()
        endless = Endless(piece)
        lab.origin.answer(head, endless)
        client = await ask(lab, FRAGMENT, version)
        await client.head()
        client.pause()
        stuck = await comes_to_rest(reactor, lambda: endless.sent)
        for _ in range(5):
            clock.advance(STALL)
        client.resume()
        await lab.until(lambda: endless.sent > 2 * stuck, "the body goes on")
        assert lab.stats.ended.total() == 0
