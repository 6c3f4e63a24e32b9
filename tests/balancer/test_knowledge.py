"""What a proxy knows: the part that only a balancer which shares it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from srsproxy.balancer import knowledge as knowledge_module
from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession
from srsproxy.balancer.policy import Candidate, least_streams, rendezvous
from srsproxy.errors import NoOrigin
from tests.balancer.helpers import (
    DOWN_AFTER,
    ORIGIN_LIFETIME,
    PICK_LIFETIME,
    SESSION_LIFETIME,
    SET_ASIDE,
    logging,
    make_knowledge,
    make_origin,
)

A = make_origin("a")
B = make_origin("b")
C = make_origin("c")
STREAM = "live/s"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Knowledge:
    """Of three origins."""
    known = make_knowledge(clock)
    for origin in (A, B, C):
        known.register(origin)
    return known


def held(known: Knowledge, key: str = STREAM, exclude: tuple[str, ...] = ()) -> object:
    return known.held(key, Surface.RTMP, exclude)


# Origins


def test_an_origin_is_found_by_its_id_while_it_is_registered(known: Knowledge, clock: Clock) -> None:
    restarted = make_origin("a", service="s2")
    assert known.origin(A.id) == A
    known.register(restarted)
    assert known.origin(A.id) is None
    assert known.origin(restarted.id) == restarted
    clock.advance(ORIGIN_LIFETIME)
    assert known.origin(restarted.id) is None


def test_what_an_origin_announces_anew_is_found_by_its_id(known: Knowledge) -> None:
    changed = make_origin("a", rtmp=("1936",))
    known.register(changed)
    assert known.origin(A.id) == changed


def test_heartbeats_have_what_is_left_of_their_time(known: Knowledge, clock: Clock) -> None:
    clock.advance(100)
    known.register(B)
    assert [known.left(origin) for origin in (A, B, C)] == [
        ORIGIN_LIFETIME - 100,
        ORIGIN_LIFETIME,
        ORIGIN_LIFETIME - 100,
    ]
    clock.advance(ORIGIN_LIFETIME - 100)
    assert [known.left(origin) for origin in (A, B, C)] == [0, 100, 0]
    assert known.left(make_origin("b", service="s2")) == 0


def test_an_origin_that_others_miss_is_gone_with_its_streams(known: Knowledge) -> None:
    known.assign(STREAM, A)
    with logging() as logged:
        known.gone(A)
    assert known.origins() == [B, C]
    assert known.origin_of(STREAM) is None
    assert logged.at(LogLevel.warn) == ["origin a-s1-1 is gone: no proxy had a heartbeat"]


def test_an_earlier_start_that_others_miss_takes_nothing_with_it(known: Knowledge) -> None:
    restarted = make_origin("a", service="s2")
    known.register(restarted)
    known.gone(A)
    known.gone(make_origin("unknown"))
    assert set(known.origins()) == {restarted, B, C}


# Streams


def test_a_stream_holds_what_it_was_assigned_until_that_is_taken_back(known: Knowledge, clock: Clock) -> None:
    assert held(known) is None
    known.assign(STREAM, A)
    assert held(known) == known.origin_of(STREAM) == A
    known.assign(STREAM, B)
    assert held(known) == known.origin_of(STREAM) == B
    known.unassign(STREAM)
    known.unassign(STREAM)
    assert held(known) is known.origin_of(STREAM) is None
    assert known.picks() == {}


def test_a_stream_cannot_be_assigned_an_origin_that_is_not_registered(known: Knowledge) -> None:
    known.assign(STREAM, B)
    known.register(make_origin("a", service="s2"))
    for origin in (A, make_origin("unknown")):
        known.assign(STREAM, origin)
        assert held(known) == B


def test_holding_keeps_a_pick_alive_and_asking_for_it_does_not(known: Knowledge, clock: Clock) -> None:
    for key in ("held", "asked", "assigned"):
        known.assign(key, A)
    clock.advance(PICK_LIFETIME - 1)
    assert held(known, "held") == known.origin_of("asked") == A
    known.assign("assigned", A)
    assert known.picks() == {"asked": A, "held": A, "assigned": A}
    clock.advance(1)
    assert known.picks() == {"held": A, "assigned": A}


def test_a_stream_does_not_hold_an_origin_that_was_tried_or_is_down(known: Knowledge) -> None:
    known.assign(STREAM, A)
    assert held(known, exclude=(A.id,)) is None
    known.failed(A)
    assert held(known) == A
    for _ in range(DOWN_AFTER):
        known.failed(A)
    assert held(known) is None
    known.succeeded(A)
    with pytest.raises(NoOrigin, match="does not announce srt"):
        known.held(STREAM, Surface.SRT, ())


def test_picks_of_dead_origins_are_none(known: Knowledge) -> None:
    known.assign("live/1", A)
    known.assign("live/2", B)
    known.register(make_origin("a", service="s2"))
    assert known.picks() == {"live/2": B}


def test_choosing_assigns_nothing(known: Knowledge) -> None:
    assert known.choose(STREAM, Surface.RTMP, (), None, rendezvous) in (A, B, C)
    assert held(known) is None


def chosen(known: Knowledge, count: int) -> list[str]:
    """The servers that so many new streams are sent to."""
    servers = []
    for number in range(count):
        origin = known.choose(f"new/{number}", Surface.RTMP, (), None, least_streams)
        known.assign(f"new/{number}", origin, tried=True)
        servers.append(origin.server)
    return servers


def test_streams_of_all_proxies_count_once_they_were_told_and_those_of_this_one_from_then_on(known: Knowledge) -> None:
    known.share({"a": 10, "b": 2, "c": 5})
    assert chosen(known, 3) == ["b", "b", "b"]
    assert chosen(known, 3) == ["b", "b", "b"]  # the same streams, which do not count again
    known.share({"a": 0, "b": 3, "c": 3})
    known.unassign("new/0")
    assert chosen(known, 1) == ["a"]


def test_without_being_told_the_streams_of_this_proxy_count(known: Knowledge) -> None:
    known.share({"a": 0, "b": 20, "c": 20})
    known.assign("live/1", A)
    known.assign("live/2", B)
    known.share({})
    assert chosen(known, 1) == ["c"]


def test_streams_that_were_learnt_count_at_no_other_proxys_cost(known: Knowledge) -> None:
    known.share({"a": 1, "b": 0, "c": 1})
    known.assign("live/1", B)
    assert chosen(known, 1) == ["b"]


def test_one_stream_tries_an_origin_whose_time_has_come(known: Knowledge, clock: Clock) -> None:
    for origin in (B, C):
        known.assign(origin.server, origin)
    known.failed(A)
    clock.advance(SET_ASIDE)
    known.assign("learnt", A)
    known.unassign("learnt")
    assert chosen(known, 2)[0] == "a"
    assert "a" not in {known.choose(f"more/{number}", Surface.RTMP, (), None, least_streams).server for number in "123"}


def test_a_policy_is_given_the_best_ones_with_what_they_have(known: Knowledge) -> None:
    given: list[Candidate] = []

    def policy(candidates: Sequence[Candidate], _key: str, _random: Random) -> Origin:
        given.extend(candidates)
        return A

    known.share({"a": 7})
    known.failed(B)
    known.assign(STREAM, C)
    known.choose("new", Surface.RTMP, (), None, policy)
    assert given == [(A, 7), (C, 1)]


# Sessions


def test_the_record_in_force_replaces_what_was_known_of_the_stream_and_of_the_id(known: Knowledge) -> None:
    first = HlsSession("id-1", "live/1", "http://1/")
    second = HlsSession("id-2", "live/2", "http://2/")
    known.save_hls(first)
    known.save_hls(second)
    in_force = HlsSession("id-2", "live/1", "http://new/")
    known.learn_hls(in_force)
    assert known.hls_sessions() == [in_force]
    assert known.load_hls("id-1") is None
    assert known.save_hls(first) == in_force
    later = HlsSession("id-3", "live/2", "http://2/")
    assert known.save_hls(later) == later


def test_learning_a_record_begins_its_life(known: Knowledge, clock: Clock) -> None:
    session = HlsSession("id-1", "live/1", "http://1/")
    for _ in range(3):
        known.learn_hls(session)
        clock.advance(SESSION_LIFETIME - 1)
    assert known.hls_sessions() == [session]
    clock.advance(1)
    assert known.hls_sessions() == []
    assert known.save_hls(HlsSession("id-2", "live/1", "http://2/")).spbhid == "id-2"


def test_webrtc_sessions_are_listed_while_they_live(known: Knowledge, clock: Clock) -> None:
    sessions = [WebRtcSession(STREAM, f"o:{number}", "a", "password", "play") for number in range(3)]
    for session in sessions:
        known.save_webrtc(session)
    known.drop_webrtc("o:0")
    assert known.webrtc_sessions() == sessions[1:]
    clock.advance(SESSION_LIFETIME - 1)
    known.load_webrtc("o:2")
    clock.advance(1)
    assert known.webrtc_sessions() == sessions[2:]


def test_what_is_learnt_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(knowledge_module, "MAX_PICKS", 2)
    monkeypatch.setattr(knowledge_module, "MAX_SESSIONS", 2)
    known = make_knowledge(clock)
    known.register(A)
    for number in range(3):
        known.assign(f"live/{number}", A)
        known.learn_hls(HlsSession(f"id-{number}", f"live/{number}", "http://example.com/"))
    assert known.picks() == {"live/1": A, "live/2": A}
    assert [session.spbhid for session in known.hls_sessions()] == ["id-1", "id-2"]
