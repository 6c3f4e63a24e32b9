"""Sessions and counters."""

from __future__ import annotations

import pytest

from srsproxy.outcome import Outcome
from srsproxy.stats import Stats


def test_a_session_is_active_until_it_ends_and_counts_once() -> None:
    stats = Stats()
    session = stats.open("rtmp", "3fa9c21", "192.0.2.1", 5.0)
    session.key, session.received, session.sent = "__defaultVhost__/live/a", 7, 9
    assert set(stats.keys_in_use()) == {"__defaultVhost__/live/a"}
    stats.end(session, Outcome.FINISHED)
    assert not stats.active
    assert (stats.opened["rtmp"], stats.ended["rtmp", Outcome.FINISHED]) == (1, 1)
    assert (stats.received["rtmp"], stats.sent["rtmp"]) == (7, 9)
    assert list(stats.keys_in_use()) == []


def test_a_second_end_is_a_bug() -> None:
    stats = Stats()
    session = stats.open("rtmp", "3fa9c21", "192.0.2.1", 5.0)
    stats.end(session, Outcome.FINISHED)
    with pytest.raises(ValueError, match="finished already"):
        stats.end(session, Outcome.CLIENT_LOST)


def test_sessions_that_have_named_no_stream_hold_none() -> None:
    stats = Stats()
    stats.open("rtmp", "3fa9c21", "192.0.2.1", 5.0)
    assert list(stats.keys_in_use()) == []
