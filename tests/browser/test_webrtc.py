"""Headless Chromium publishes a camera by WHIP and plays it by WHEP, through the proxy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.browser.chromium import Page, shown
from tests.processes import Program, api_port_of, ports_of, srsproxy
from tests.webrtc.aiortc_programs import AiortcOrigin

ACTIONS: Final = {"whip": "publish", "whep": "play"}

FRAMES: Final = 31
"""Two seconds of pictures."""


async def page_query(proxy: Program) -> dict[str, str]:
    """Where the page posts its offers, and for how long it plays."""
    api = f"http://127.0.0.1:{await api_port_of(proxy)}/rtc/v1"
    return {"frames": str(FRAMES)} | {kind: f"{api}/{kind}/?app=live&stream=camera" for kind in ACTIONS}


async def reported(page: Page, event: str, kind: str) -> dict[str, Any]:
    """What the page tells of its publisher (whip) or of its player (whep)."""
    return (await page.reported(event, lambda details: details["kind"] == kind)).details


def plays(seen: dict[str, Any]) -> bool:
    """Whether a moving picture was played, with at least half a second of sound."""
    picture = seen["frames"] >= FRAMES and seen["changes"] >= 5 and seen["size"] == [320, 240]
    return bool(picture and seen["samples"] >= 24_000)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@in_reactor
async def test_what_a_page_publishes_is_played_until_it_deletes_the_sessions(tmp_path: Path, transport: str) -> None:
    async with srsproxy(reactor, tmp_path, PROXY_WEBRTC_TCP_SERVER="127.0.0.1:0") as proxy:
        _, system_port = await ports_of(proxy)
        register = f"http://127.0.0.1:{system_port}/api/v1/srs/register"
        async with AiortcOrigin(reactor, "a", register, transport=transport) as origin:
            await proxy.read("origin registered: a")
            async with shown(reactor, tmp_path, "webrtc.html", **await page_query(proxy)) as page:
                await page.reported("playing", plays)
                for kind, action in ACTIONS.items():
                    accepted = await reported(page, "accepted", kind)
                    assert (accepted["status"], accepted["type"]) == (201, "application/sdp")
                    # Media has no other way than this one through the proxy.
                    candidates = re.findall("a=candidate:.*", accepted["body"])
                    assert all(f" {transport} " in candidate for candidate in candidates)
                    assert not any(f" {origin.rtc_port} typ " in candidate for candidate in candidates)
                    assert (await reported(page, "deleted", kind))["status"] == 200
                    begun = await origin.told("session", action=action, stream="live/camera")
                    await origin.told("ended", session=begun["session"], why="deleted")


@in_reactor
async def test_a_page_sees_why_it_is_refused(tmp_path: Path) -> None:
    async with (
        srsproxy(reactor, tmp_path) as proxy,
        shown(reactor, tmp_path, "webrtc.html", **await page_query(proxy)) as page,
    ):
        for kind in ACTIONS:
            refused = await reported(page, "refused", kind)
            assert (refused["status"], refused["type"]) == (503, "application/json")
            assert "no origin server" in json.loads(refused["body"])["error"]
