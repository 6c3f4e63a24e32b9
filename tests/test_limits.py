"""Connection limits: what is let in, and that nothing is remembered of what has left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, Refused
from srsproxy.limits import ConnectionLimits, Rate


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (ConnectionLimits(2, 0, 0), "PROXY_MAX_CONNECTIONS=2"),
        (ConnectionLimits(0, 2, 0), "PROXY_MAX_CONNECTIONS_PER_ADDRESS=2"),
        (ConnectionLimits(0, 0, 2), "PROXY_MAX_PENDING_PER_ADDRESS=2"),
    ],
)
def test_one_over_the_limit_is_refused_with_the_settings_name_until_another_leaves(
    limits: ConnectionLimits, setting: str
) -> None:
    limits.admit("192.0.2.1")
    limits.admit("192.0.2.1")
    with pytest.raises(Refused, match=setting):
        limits.admit("192.0.2.1")
    limits.leave("192.0.2.1", pending=True)
    limits.admit("192.0.2.1")


def test_addresses_are_counted_apart() -> None:
    limits = ConnectionLimits(0, 1, 1)
    limits.admit("192.0.2.1")
    limits.admit("192.0.2.2")


def test_a_connection_that_has_named_its_stream_is_not_pending() -> None:
    limits = ConnectionLimits(0, 0, 1)
    limits.admit("192.0.2.1")
    limits.identified("192.0.2.1")
    limits.admit("192.0.2.1")


def test_a_rate_allows_a_burst_and_then_so_many_a_second() -> None:
    rate = Rate("messages", 2.0, 3.0, now=10.0)
    for _ in range(3):
        rate.spend(10.0)
    with pytest.raises(LimitExceeded, match="more than 2 messages a second"):
        rate.spend(10.0)
    rate = Rate("messages", 2.0, 3.0, now=0.0)
    for half_second in range(100):
        rate.spend(half_second / 2)


def test_a_rest_saves_no_more_than_a_burst() -> None:
    rate = Rate("messages", 2.0, 3.0, now=0.0)
    for _ in range(3):
        rate.spend(1000.0)
    with pytest.raises(LimitExceeded):
        rate.spend(1000.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_when_all_have_left_all_may_come_again(visits: list[tuple[int, bool]]) -> None:
    limits = ConnectionLimits(4, 2, 1)
    inside: list[tuple[str, bool]] = []
    for number, identified in visits:
        address = f"192.0.2.{number}"
        try:
            limits.admit(address)
        except Refused:
            continue
        if identified:
            limits.identified(address)
        inside.append((address, identified))
        assert len(inside) <= 4
    for address, identified in inside:
        limits.leave(address, pending=not identified)
    for number in range(4):
        limits.admit(f"192.0.2.{number}")
