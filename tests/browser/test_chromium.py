"""A page in headless Chromium can fail, and its test with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from twisted.internet import reactor

from tests.asynchronous import in_reactor
from tests.browser.chromium import shown


@in_reactor
async def test_a_script_that_fails_is_an_error(tmp_path: Path) -> None:
    async with shown(reactor, tmp_path, "player.html", player="none") as page:
        with pytest.raises(AssertionError, match="Uncaught TypeError"):
            await page.reported("playing")


@in_reactor
async def test_a_page_that_is_not_there_is_never_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.asynchronous.PATIENCE", 0.5)
    async with shown(reactor, tmp_path, "none.html") as page:
        with pytest.raises(AssertionError, match="'playing' was not reported"):
            await page.reported("playing")


@in_reactor
async def test_the_end_of_the_browser_is_told(tmp_path: Path) -> None:
    async with shown(reactor, tmp_path, "player.html", player="none") as page:
        page.browser.signal(signal.SIGKILL)
        with pytest.raises(AssertionError, match="chromium ended with -9"):
            await page.reported("playing")
