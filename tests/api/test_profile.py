"""The profiling site."""

from __future__ import annotations

import re
import sys
import threading
from functools import partial

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock, LoopingCall

from srsproxy.api.profile import build_profile_site
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor


def busy() -> int:
    """Takes long enough to be seen."""
    total = 0
    for number in range(200_000):
        total += number % 7
    return total


def listening(clock: Clock) -> SiteUnderTest:
    return SiteUnderTest(reactor, build_profile_site(clock))


@in_reactor
async def test_stacks_show_every_thread_and_what_will_be_called() -> None:
    clock = Clock()
    for _ in range(3):
        clock.callLater(5, test_stacks_show_every_thread_and_what_will_be_called)
    clock.callLater(5, partial(print))
    loop = LoopingCall(busy)
    loop.clock = clock
    loop.start(1, now=False)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="idle-thread")
    thread.start()
    try:
        async with listening(clock) as site:
            response = await site.answer(http_request("GET", "/debug/stacks"))
    finally:
        stop.set()
        thread.join()
    text = response.body.decode()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "thread MainThread:" in text
    assert "thread idle-thread:" in text
    assert "render_GET" in text
    assert re.search(r"^ +3 .*test_stacks_show_every_thread_and_what_will_be_called$", text, re.MULTILINE)
    assert re.search(r"^ +1 functools\.partial$", text, re.MULTILINE)
    assert re.search(r"^ +1 .*\.busy$", text, re.MULTILINE)


@in_reactor
async def test_a_profile_shows_what_ran_while_it_was_taken() -> None:
    clock = Clock()
    async with listening(clock) as site:
        client = await site.client()
        client.send(http_request("GET", "/debug/profile?seconds=60"))
        # The profile runs when the next request is answered.
        other = await site.answer(http_request("GET", "/debug/profile?seconds=1"))
        assert other.status == 409
        assert other.error == "another profile is being taken"
        clock.advance(59)
        assert busy() > 0
        assert sys.getprofile() is not None
        assert client.received == b""
        clock.advance(1)
        assert sys.getprofile() is None
        text = (await client.response()).body.decode()
        assert "tottime" in text
        assert "(busy)" in text


@in_reactor
async def test_a_profile_takes_ten_seconds_unless_asked_otherwise() -> None:
    clock = Clock()
    async with listening(clock) as site:
        client = await site.client()
        client.send(http_request("GET", "/debug/profile"))
        await site.answer(http_request("GET", "/debug/memory"))
        clock.advance(10)
        assert (await client.response()).status == 200


@in_reactor
async def test_a_profile_ends_when_its_client_leaves() -> None:
    clock = Clock()
    async with listening(clock) as site:
        client = await site.client()
        client.send(http_request("GET", "/debug/profile?seconds=60"))
        assert (await site.answer(http_request("GET", "/debug/profile?seconds=1"))).status == 409
        await client.abort()
        await site.answer(http_request("GET", "/debug/memory"))
        assert sys.getprofile() is None
        another = await site.client()
        another.send(http_request("GET", "/debug/profile?seconds=1"))
        await site.answer(http_request("GET", "/debug/memory"))
        clock.advance(1)
        assert (await another.response()).status == 200


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1.5", "", "x", "9" * 5_000])
@in_reactor
async def test_other_lengths_are_refused(seconds: str) -> None:
    async with listening(Clock()) as site:
        response = await site.answer(http_request("GET", f"/debug/profile?seconds={seconds}"))
        assert response.status == 400
        assert response.error == "seconds must be a whole number from 1 to 60"


@in_reactor
async def test_memory_tells_its_size_and_the_most_frequent_types() -> None:
    async with listening(Clock()) as site:
        text = (await site.answer(http_request("GET", "/debug/memory"))).body.decode()
    assert re.search(r"^resident: [0-9]{4,} KiB$", text, re.MULTILINE)
    assert "generation 2: " in text
    assert re.search(r"^ +[0-9]{3,} builtins\.function$", text, re.MULTILINE)


@pytest.mark.parametrize("path", ["/debug/stacks", "/debug/profile", "/debug/memory"])
@in_reactor
async def test_only_get_is_allowed(path: str) -> None:
    async with listening(Clock()) as site:
        assert (await site.answer(http_request("POST", path))).status == 405
