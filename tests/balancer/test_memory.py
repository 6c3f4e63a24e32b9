"""The balancer of a single proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from srsproxy.balancer import knowledge
from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import MAX_KEY_LENGTH, HlsSession, Origin, Surface, WebRtcSession
from srsproxy.errors import LimitExceeded, NoOrigin
from srsproxy.interfaces import ILoadBalancer
from tests.balancer.helpers import (
    DOWN_AFTER,
    ORIGIN_LIFETIME,
    PICK_LIFETIME,
    SESSION_LIFETIME,
    SET_ASIDE,
    Logged,
    logging,
    make_balancer,
    make_origin,
    result_of,
)

A = make_origin("a")
B = make_origin("b")
C = make_origin("c")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def balancer(clock: Clock) -> MemoryLoadBalancer:
    return make_balancer(clock)


@pytest.fixture
def logged() -> Iterator[Logged]:
    with logging() as logged:
        yield logged


def register(balancer: MemoryLoadBalancer, *origins: Origin) -> None:
    for origin in origins:
        result_of(balancer.register(origin))


def pick(
    balancer: MemoryLoadBalancer, key: str = "live/a", surface: Surface = Surface.RTMP, exclude: tuple[str, ...] = ()
) -> Origin:
    return result_of(balancer.pick(key, surface, exclude))


def fail(balancer: MemoryLoadBalancer, origin: Origin, times: int = DOWN_AFTER) -> None:
    for _ in range(times):
        result_of(balancer.report_failure(origin))


def stay_registered(balancer: MemoryLoadBalancer, clock: Clock, seconds: float, *origins: Origin) -> None:
    """Let time pass in which the origins go on sending heartbeats."""
    while seconds > 0:
        clock.advance(min(seconds, 10))
        seconds -= 10
        register(balancer, *origins)


def test_it_is_a_load_balancer(balancer: MemoryLoadBalancer) -> None:
    verifyObject(ILoadBalancer, balancer)


def test_it_leaves_nothing_to_the_clock(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    register(balancer, A)
    pick(balancer)
    result_of(balancer.save_webrtc(WebRtcSession("k", "u", "vid-a", "pwd", "play")))
    assert clock.getDelayedCalls() == []


# Origins


def test_registered_origins_are_listed_until_their_heartbeat_expires(
    balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    register(balancer, A, B)
    clock.advance(ORIGIN_LIFETIME - 1)
    register(balancer, B)
    assert result_of(balancer.origins()) == [A, B]
    clock.advance(1)
    assert result_of(balancer.origins()) == [B]
    clock.advance(ORIGIN_LIFETIME)
    assert result_of(balancer.origins()) == []


def test_a_heartbeat_changes_what_is_announced_and_keeps_the_streams(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    changed = make_origin("a", rtmp=("1936",))
    register(balancer, changed, B)
    assert pick(balancer) is changed


def test_a_restarted_origin_takes_the_place_of_the_old_entry_at_once(balancer: MemoryLoadBalancer) -> None:
    # G49: in the Go proxy, the old start stays eligible for 300 s.
    register(balancer, A)
    assert pick(balancer) is A
    restarted = make_origin("a", service="s2", pid="2")
    register(balancer, restarted)
    assert result_of(balancer.origins()) == [restarted]
    assert pick(balancer) is restarted


def test_the_streams_of_a_restarted_origin_are_chosen_anew(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    for number in range(10):
        pick(balancer, f"live/{number}")
    register(balancer, B, make_origin("a", service="s2"))
    servers = Counter(pick(balancer, f"live/{number}").server for number in range(10))
    assert servers == {"a": 5, "b": 5}


def test_a_restarted_origin_starts_with_a_clean_record(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A, B)
    fail(balancer, A)
    register(balancer, make_origin("a", service="s2"))
    assert {pick(balancer, f"live/{number}").server for number in range(10)} == {"a", "b"}


def test_too_many_origins_are_refused_and_the_registered_ones_stay(
    monkeypatch: pytest.MonkeyPatch, balancer: MemoryLoadBalancer
) -> None:
    monkeypatch.setattr(knowledge, "MAX_ORIGINS", 2)
    register(balancer, A, B)
    with pytest.raises(LimitExceeded, match="2 origins are registered already"):
        register(balancer, C)
    register(balancer, A, make_origin("b", service="s2"))
    assert [origin.server for origin in result_of(balancer.origins())] == ["a", "b"]


# Streams


def test_a_stream_keeps_its_origin_for_every_protocol(balancer: MemoryLoadBalancer) -> None:
    surfaces = {surface.value: ("1935",) for surface in Surface}
    register(balancer, *(Origin("192.0.2.1", server, "s1", "1", "", **surfaces) for server in "abcd"))
    picked = {pick(balancer, surface=surface).server for surface in Surface for _ in range(5)}
    assert len(picked) == 1


def test_new_streams_go_to_the_origin_with_the_fewest(balancer: MemoryLoadBalancer) -> None:
    # G52: the Go proxy picks at random, whatever the load.
    register(balancer, *(make_origin(server) for server in "abcd"))
    for number in range(100):
        loads = Counter(pick(balancer, f"live/{earlier}").server for earlier in range(number + 1))
        assert max(loads.values()) - min(loads[server] for server in "abcd") <= 1
    assert loads == {"a": 25, "b": 25, "c": 25, "d": 25}


def test_streams_that_ended_do_not_count(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    register(balancer, A)
    for number in range(10):
        pick(balancer, f"old/{number}")
    clock.advance(PICK_LIFETIME)
    register(balancer, A, B)
    servers = Counter(pick(balancer, f"new/{number}").server for number in range(10))
    assert servers == {"a": 5, "b": 5}


def test_the_random_policy_spreads_streams(clock: Clock) -> None:
    balancer = make_balancer(clock, policy="random")
    register(balancer, A, B)
    servers = Counter(pick(balancer, f"live/{number}").server for number in range(200))
    assert min(servers.values()) > 60


def test_a_pick_dies_when_it_is_idle_and_lives_while_it_is_asked_for_or_refreshed(
    balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    # G48: in the Go proxy, picks live for ever.
    register(balancer, A)
    for key in ("asked", "refreshed", "idle"):
        pick(balancer, key)
    stay_registered(balancer, clock, PICK_LIFETIME - 1, A)
    register(balancer, B)
    pick(balancer, "asked")
    result_of(balancer.refresh(["refreshed", "never-seen"]))
    stay_registered(balancer, clock, 2, A, B)
    fail(balancer, A, 1)
    assert pick(balancer, "asked") is A
    assert pick(balancer, "refreshed") is A
    assert pick(balancer, "idle") is B
    assert pick(balancer, "never-seen") is B


def test_a_stream_whose_origin_expired_goes_to_another(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    # G48: the Go proxy sends it to the dead origin for ever, even after a good one has registered.
    register(balancer, A)
    pick(balancer)
    for _ in range(4):
        clock.advance(ORIGIN_LIFETIME / 4)
        result_of(balancer.refresh(["live/a"]))
    with pytest.raises(NoOrigin, match="no origin is registered"):
        pick(balancer)
    register(balancer, B)
    assert pick(balancer) is B


def test_refreshing_does_not_bring_back_the_pick_of_an_origin_that_was_gone(
    balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    register(balancer, A)
    pick(balancer)
    clock.advance(ORIGIN_LIFETIME)
    result_of(balancer.refresh(["live/a"]))
    register(balancer, A, B)
    fail(balancer, A, 1)
    assert pick(balancer) is B


def test_a_stream_moves_off_an_origin_that_its_client_tried_in_vain(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    register(balancer, B)
    assert pick(balancer, exclude=(A.id,)) is B
    assert pick(balancer) is B


def test_a_stream_stays_when_there_is_no_other_origin_to_move_to(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A, make_origin("h", http=("8080",)))
    pick(balancer)
    with pytest.raises(NoOrigin, match="the only origin with rtmp was tried"):
        pick(balancer, exclude=(A.id,))
    assert pick(balancer) is A


def test_a_stream_is_not_moved_for_a_client_of_a_surface_that_its_origin_lacks(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    register(balancer, make_origin("s", srt=("10080",), rtmp=("1935",)))
    with pytest.raises(NoOrigin, match=f"origin {A.id} has the stream and does not announce srt"):
        pick(balancer, surface=Surface.SRT)
    assert pick(balancer) is A
    assert pick(balancer, "live/new", Surface.SRT).server == "s"


def test_a_stream_on_a_suspect_stays_and_new_ones_go_elsewhere(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    register(balancer, B)
    fail(balancer, A, 1)
    assert pick(balancer) is A
    assert {pick(balancer, f"new/{number}") for number in range(5)} == {B}


def test_streams_leave_an_origin_that_is_down(balancer: MemoryLoadBalancer) -> None:
    # G49: in the Go proxy, half of the streams go on failing for 300 s.
    register(balancer, A)
    for number in range(20):
        pick(balancer, f"live/{number}")
    register(balancer, B)
    fail(balancer, A)
    assert {pick(balancer, f"live/{number}") for number in range(20)} == {B}


def test_suspects_and_even_origins_that_are_down_are_better_than_none(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A, B)
    fail(balancer, A)
    fail(balancer, B, 1)
    assert pick(balancer, "1") is B
    fail(balancer, B)
    assert pick(balancer, "1") is B
    assert pick(balancer, "2") in (A, B)
    assert pick(balancer, "1", exclude=(B.id,)) is A


def test_a_stream_does_not_wander_between_origins_that_are_all_down(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A, B, C)
    first = pick(balancer)
    for origin in (A, B, C):
        fail(balancer, origin)
    assert {pick(balancer) for _ in range(20)} == {first}


def test_asking_keeps_a_pick_alive_while_all_origins_are_down(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    register(balancer, A, B)
    keys = [f"live/{number}" for number in range(20)]
    first = [pick(balancer, key) for key in keys]
    for _ in range(3):
        stay_registered(balancer, clock, PICK_LIFETIME - 1, A, B)
        fail(balancer, A)
        fail(balancer, B)
        assert [pick(balancer, key) for key in keys] == first


def test_after_its_time_an_origin_is_tried_with_one_stream_first(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    register(balancer, A, B)
    for number in range(4):
        pick(balancer, f"live/{number}")
    fail(balancer, A)
    assert {pick(balancer, f"live/{number}") for number in range(4)} == {B}
    clock.advance(SET_ASIDE)
    assert [pick(balancer, f"new/{number}") for number in range(4)] == [A, B, B, B]
    result_of(balancer.report_success(A))
    assert pick(balancer, "new/4") is A


def test_an_origin_that_is_still_dead_costs_one_stream_its_connect_timeout_and_no_other(
    balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    register(balancer, A, B)
    fail(balancer, A)
    clock.advance(SET_ASIDE)
    assert pick(balancer, "new", exclude=(B.id,)) is A
    fail(balancer, A, 1)
    assert pick(balancer, "new") is B


def test_reports_about_an_earlier_start_of_an_origin_do_not_count(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    register(balancer, make_origin("a", service="s2"), B)
    fail(balancer, A)
    fail(balancer, C)
    result_of(balancer.report_success(C))
    assert {pick(balancer, f"live/{number}").server for number in range(10)} == {"a", "b"}


def test_reports_about_an_origin_that_is_not_registered_do_not_count_when_it_registers(
    balancer: MemoryLoadBalancer,
) -> None:
    register(balancer, A)
    fail(balancer, B)
    register(balancer, B)
    assert {pick(balancer, f"live/{number}") for number in range(10)} == {A, B}


def test_an_origin_that_expired_returns_with_a_clean_record(
    balancer: MemoryLoadBalancer, clock: Clock, logged: Logged
) -> None:
    register(balancer, A)
    fail(balancer, A)
    clock.advance(ORIGIN_LIFETIME)
    register(balancer, A)
    fail(balancer, A, 1)
    assert logged.at(LogLevel.warn)[-1] == "origin a-s1-1 set aside: suspect"


def test_the_number_of_picks_is_bounded_and_the_longest_idle_goes_first(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(knowledge, "MAX_PICKS", 3)
    balancer = make_balancer(clock)
    register(balancer, A)
    for key in ("old", "used", "refreshed"):
        pick(balancer, key)
    pick(balancer, "used")
    result_of(balancer.refresh(["refreshed"]))
    pick(balancer, "one-more")
    register(balancer, B)
    fail(balancer, A, 1)
    assert [pick(balancer, key) for key in ("used", "refreshed", "one-more", "old")] == [A, A, A, B]


def test_evicted_picks_do_not_count_as_streams(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(knowledge, "MAX_PICKS", 4)
    balancer = make_balancer(clock)
    register(balancer, A)
    for number in range(50):
        pick(balancer, f"old/{number}")
    register(balancer, B)
    assert {pick(balancer, f"new/{number}") for number in range(10)} == {A, B}


def test_a_key_that_is_too_long_to_be_kept_is_refused(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    assert pick(balancer, "k" * MAX_KEY_LENGTH) is A
    with pytest.raises(LimitExceeded, match="stream key"):
        pick(balancer, "k" * (MAX_KEY_LENGTH + 1))


# Clients that know their origin already


def pinned(
    balancer: MemoryLoadBalancer, server: str, key: str = "live/a", surface: Surface = Surface.RTMP
) -> Origin | None:
    return result_of(balancer.pinned(key, server, surface))


def test_a_pinned_client_gets_its_origin_wherever_the_pick_points(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    register(balancer, B)
    assert pinned(balancer, "a") is A
    assert pinned(balancer, "b") is B
    assert pick(balancer) is A


def test_a_pinned_client_gets_the_latest_start_of_its_origin(balancer: MemoryLoadBalancer) -> None:
    restarted = make_origin("a", service="s2")
    register(balancer, A, restarted)
    assert pinned(balancer, "a") is restarted


def test_a_pinned_client_gets_no_origin_that_is_not_registered(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    assert pinned(balancer, "a") is None
    register(balancer, A)
    clock.advance(ORIGIN_LIFETIME)
    assert pinned(balancer, "a") is None


def test_a_pinned_client_gets_no_origin_that_lacks_the_surface(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    assert pinned(balancer, "a", surface=Surface.HTTP) is None


def test_a_pinned_client_stays_with_a_suspect_and_leaves_an_origin_that_is_down(
    balancer: MemoryLoadBalancer, clock: Clock
) -> None:
    register(balancer, A, B)
    fail(balancer, A, 1)
    assert pinned(balancer, "a") is A
    fail(balancer, A)
    assert pinned(balancer, "a") is None
    clock.advance(SET_ASIDE)
    assert pinned(balancer, "a") is A


def test_pinned_clients_keep_a_pick_alive_and_make_none(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    register(balancer, A)
    for key in ("watched", "elsewhere", "gone", "idle"):
        pick(balancer, key)
    stay_registered(balancer, clock, PICK_LIFETIME - 1, A)
    register(balancer, B)
    pinned(balancer, "a", "watched")
    pinned(balancer, "b", "elsewhere")
    pinned(balancer, "z", "gone")
    pinned(balancer, "a", "new")
    clock.advance(1)
    keys = ["watched", "elsewhere", "gone", "idle", "new"]
    assert [result_of(balancer.picked([key])) for key in keys] == ["watched", "elsewhere", "gone", None, None]


def test_of_several_names_the_first_that_has_an_origin_is_meant(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer, "live/cam")
    pick(balancer, "live/other")
    assert result_of(balancer.picked(["live/cam-1", "live/cam", "live/other"])) == "live/cam"
    assert result_of(balancer.picked(["live/other", "live/cam"])) == "live/other"
    assert result_of(balancer.picked(["live/cam-1", "k" * (MAX_KEY_LENGTH + 1)])) is None
    assert result_of(balancer.picked([])) is None


def test_asking_what_is_meant_picks_nothing_and_keeps_nothing_alive(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    # G30: in the Go proxy, each segment that is asked for by its bare name becomes a stream.
    register(balancer, A)
    pick(balancer, "live/cam")
    clock.advance(PICK_LIFETIME - 1)
    assert result_of(balancer.picked(["live/cam-1", "live/cam"])) == "live/cam"
    assert result_of(balancer.picked(["live/cam-1"])) is None
    clock.advance(1)
    assert result_of(balancer.picked(["live/cam-1", "live/cam"])) is None


def test_a_stream_whose_origin_is_gone_has_none(balancer: MemoryLoadBalancer) -> None:
    register(balancer, A)
    pick(balancer)
    register(balancer, make_origin("a", service="s2"))
    assert result_of(balancer.picked(["live/a"])) is None


# Sessions


def test_an_hls_session_is_one_for_each_stream_and_the_first_stays(balancer: MemoryLoadBalancer) -> None:
    # G29: in the Go proxy, the id changes at each refresh, or every request adds an entry.
    first = HlsSession("id1", "live/a", "http://h/live/a.m3u8")
    assert result_of(balancer.save_hls(first)) is first
    assert result_of(balancer.save_hls(HlsSession("id2", "live/a", "http://h/live/a.m3u8?x=1"))) is first
    assert result_of(balancer.load_hls("id1")) is first
    assert result_of(balancer.load_hls("id2")) is None


def test_an_hls_session_dies_when_it_is_idle(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    sessions = {name: HlsSession(name, f"live/{name}", "u") for name in ("loaded", "saved", "idle")}
    for session in sessions.values():
        result_of(balancer.save_hls(session))
    clock.advance(SESSION_LIFETIME - 1)
    result_of(balancer.load_hls("loaded"))
    result_of(balancer.save_hls(sessions["saved"]))
    clock.advance(1)
    assert result_of(balancer.load_hls("loaded")) is sessions["loaded"]
    assert result_of(balancer.load_hls("saved")) is sessions["saved"]
    assert result_of(balancer.load_hls("idle")) is None
    anew = HlsSession("anew", "live/idle", "u")
    assert result_of(balancer.save_hls(anew)) is anew


def test_an_hls_id_never_comes_to_mean_another_stream(balancer: MemoryLoadBalancer) -> None:
    session = HlsSession("id", "live/a", "u")
    result_of(balancer.save_hls(session))
    with pytest.raises(ValueError, match="'id' is that of stream 'live/a'"):
        result_of(balancer.save_hls(HlsSession("id", "live/b", "u")))
    assert result_of(balancer.load_hls("id")) is session


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(knowledge, "MAX_SESSIONS", 2)
    balancer = make_balancer(clock)
    for name in "abc":
        result_of(balancer.save_hls(HlsSession(name, f"live/{name}", "u")))
        result_of(balancer.save_webrtc(WebRtcSession(f"live/{name}", name, "vid-a", "pwd", "play")))
    assert [result_of(balancer.load_hls(name)) is None for name in "abc"] == [True, False, False]
    assert [result_of(balancer.load_webrtc(name)) is None for name in "abc"] == [True, False, False]


def test_a_webrtc_session_lives_while_it_is_asked_for(balancer: MemoryLoadBalancer, clock: Clock) -> None:
    # G38: in the Go proxy, it is gone after 120 s, so that a client that roams later is not known.
    session = WebRtcSession("live/a", "local:remote", "vid-a", "pwd", "play")
    result_of(balancer.save_webrtc(session))
    for _ in range(3):
        clock.advance(SESSION_LIFETIME - 1)
        assert result_of(balancer.load_webrtc("local:remote")) is session
    clock.advance(SESSION_LIFETIME)
    assert result_of(balancer.load_webrtc("local:remote")) is None


def test_a_webrtc_session_that_is_saved_again_is_replaced(balancer: MemoryLoadBalancer) -> None:
    result_of(balancer.save_webrtc(WebRtcSession("live/a", "u", "vid-a", "pwd", "play")))
    again = WebRtcSession("live/b", "u", "vid-a", "pwd", "play")
    result_of(balancer.save_webrtc(again))
    assert result_of(balancer.load_webrtc("u")) is again


# What the log tells


def test_an_origin_is_told_when_it_registers_and_not_at_every_heartbeat(
    balancer: MemoryLoadBalancer, logged: Logged
) -> None:
    register(balancer, A, A, A)
    assert logged.at(LogLevel.info) == ["origin registered: a-s1-1 at 192.0.2.1 (rtmp 1935)"]


def test_changes_restarts_and_returns_are_told(balancer: MemoryLoadBalancer, clock: Clock, logged: Logged) -> None:
    register(balancer, A, make_origin("a", rtmp=("1936",)), make_origin("a", service="s2"))
    clock.advance(ORIGIN_LIFETIME)
    register(balancer, make_origin("a", service="s2"))
    assert logged.at(LogLevel.info) == [
        "origin registered: a-s1-1 at 192.0.2.1 (rtmp 1935)",
        "origin changed: a-s1-1 at 192.0.2.1 (rtmp 1936)",
        "origin a-s1-1 restarted: a-s2-1 at 192.0.2.1 (rtmp 1935)",
        "origin registered: a-s2-1 at 192.0.2.1 (rtmp 1935)",
    ]
    assert logged.at(LogLevel.warn) == ["origin a-s2-1 is gone: no heartbeat for 300.0 s"]


def test_each_change_of_health_is_told_once(balancer: MemoryLoadBalancer, logged: Logged) -> None:
    register(balancer, A)
    fail(balancer, A, 10)
    result_of(balancer.report_success(A))
    result_of(balancer.report_success(A))
    assert logged.at(LogLevel.warn) == ["origin a-s1-1 set aside: suspect", "origin a-s1-1 set aside: down"]
    assert logged.at(LogLevel.info)[1:] == ["origin a-s1-1 works again"]


def test_two_living_origins_with_one_server_id_are_told_once(balancer: MemoryLoadBalancer, logged: Logged) -> None:
    other = make_origin("a", service="s2")
    for _ in range(5):
        register(balancer, A, other)
    assert [origin.id for origin in result_of(balancer.origins())] == [other.id]
    (warning,) = logged.at(LogLevel.warn)
    assert "two living origins use the server id a: a-s2-1 at" in warning
    assert "give every origin a server_id of its own" in warning


def test_a_start_that_was_replaced_long_ago_is_not_remembered(
    balancer: MemoryLoadBalancer, clock: Clock, logged: Logged
) -> None:
    register(balancer, A, make_origin("a", service="s2"))
    clock.advance(ORIGIN_LIFETIME - 1)
    register(balancer, make_origin("a", service="s2"))
    clock.advance(1)
    register(balancer, A)
    assert logged.at(LogLevel.warn) == []


def test_a_server_that_restarts_often_shares_its_id_with_nobody(balancer: MemoryLoadBalancer, logged: Logged) -> None:
    for number in range(20):
        register(balancer, make_origin("a", service=f"s{number}"))
    assert logged.at(LogLevel.warn) == []
