"""Who takes a new stream."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from srsproxy.balancer.health import Health
from srsproxy.balancer.model import Surface
from srsproxy.balancer.policy import POLICIES, Candidate, best_candidates, least_streams, rendezvous, uniform
from srsproxy.config import PickPolicy
from srsproxy.errors import NoOrigin
from tests.balancer.helpers import make_origin

A = Candidate(make_origin("a"), 3)
B = Candidate(make_origin("b"), 2)
C = Candidate(make_origin("c"), 2)
HTTP_ONLY = Candidate(make_origin("h", http=("8080",)), 0)


def all_healthy(_origin_id: str) -> Health:
    return Health.HEALTHY


def test_every_policy_that_can_be_set_exists() -> None:
    assert set(POLICIES) == set(PickPolicy)


def test_least_streams_takes_one_of_those_with_the_fewest() -> None:
    random = Random(1)
    assert {least_streams([A, B, C], "key", random).server for _ in range(50)} == {"b", "c"}
    assert least_streams([A], "key", random) is A.origin


def test_random_takes_any() -> None:
    random = Random(1)
    assert {uniform([A, B, C], "key", random).server for _ in range(50)} == {"a", "b", "c"}


KEYS = [f"live/{number}" for number in range(300)]


def by_rendezvous(key: str, *candidates: Candidate) -> str:
    return rendezvous(candidates, key, Random()).server


def test_rendezvous_chooses_the_same_whatever_the_order_the_streams_and_the_starts_of_the_origins() -> None:
    others = [Candidate(make_origin(name, service="s2", pid="2"), 100) for name in "cab"]
    assert [by_rendezvous(key, A, B, C) for key in KEYS] == [by_rendezvous(key, *others) for key in KEYS]


def test_rendezvous_spreads_streams() -> None:
    assert min(Counter(by_rendezvous(key, A, B, C) for key in KEYS).values()) > 80


def test_rendezvous_moves_the_streams_of_an_origin_that_comes_or_goes_and_no_other() -> None:
    for key in KEYS:
        with_all = by_rendezvous(key, A, B, C)
        without = by_rendezvous(key, A, B)
        assert without == with_all or with_all == "c"


def test_rendezvous_chooses_the_same_in_every_version() -> None:
    """Proxies of several versions run side by side during an upgrade."""
    assert [by_rendezvous(key, A, B, C) for key in ("live/0", "live/1", "live/2", "live/\udcff", "")] == [
        "b",
        "c",
        "c",
        "a",
        "b",
    ]


def test_only_origins_that_announce_the_surface_and_were_not_tried_are_candidates() -> None:
    assert best_candidates([A, B, HTTP_ONLY], Surface.RTMP, {A.origin.id}, all_healthy) == [B]
    assert best_candidates([A, B, HTTP_ONLY], Surface.HTTP, (), all_healthy) == [HTTP_ONLY]


@pytest.mark.parametrize(
    ("states", "best"),
    [
        ({"a": Health.DOWN, "b": Health.SUSPECT, "c": Health.HEALTHY}, [C]),
        ({"a": Health.DOWN, "b": Health.SUSPECT, "c": Health.DOWN}, [B]),
        ({"a": Health.DOWN, "b": Health.DOWN, "c": Health.DOWN}, [A, B, C]),
        ({"a": Health.HEALTHY, "b": Health.SUSPECT, "c": Health.HEALTHY}, [A, C]),
    ],
)
def test_healthy_goes_before_suspect_and_suspect_before_down(states: dict[str, Health], best: list[Candidate]) -> None:
    assert best_candidates([A, B, C], Surface.RTMP, (), lambda origin_id: states[origin_id[0]]) == best


@pytest.mark.parametrize(
    ("candidates", "exclude", "text"),
    [
        ([], (), "no origin is registered"),
        ([HTTP_ONLY], (), "no origin announces rtmp"),
        ([A], {A.origin.id}, "the only origin was tried"),
        ([A, B], {A.origin.id, B.origin.id}, "all 2 origins were tried"),
        ([A, HTTP_ONLY], {A.origin.id}, "the only origin with rtmp was tried"),
        ([A, B, HTTP_ONLY], {A.origin.id, B.origin.id}, "all 2 origins with rtmp were tried"),
    ],
)
def test_it_says_why_there_is_none(candidates: list[Candidate], exclude: set[str], text: str) -> None:
    with pytest.raises(NoOrigin) as caught:
        best_candidates(candidates, Surface.RTMP, exclude, all_healthy)
    assert str(caught.value) == text
