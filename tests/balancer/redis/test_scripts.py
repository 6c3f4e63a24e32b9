"""The scripts of origins and picks, in a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Barrier, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srsproxy.balancer.model import Origin
from srsproxy.balancer.redis import scripts
from srsproxy.balancer.redis.records import Keys, decode_origin, encode_origin
from srsproxy.balancer.redis.scripts import MAX_PICKS_PER_CALL, Call, Registered, Script
from tests.balancer.helpers import make_origin
from tests.balancer.redis.recorded import RECORDED
from tests.balancer.redis.server import Client, RedisError

KEYS = Keys()
NOW = datetime(2026, 11, 23, tzinfo=UTC)
LIFETIME = 300.0
PICK_LIFETIME = 120.0
LIMIT = 1_000
STREAM = "__defaultVhost__/live/s"
RECORD = KEYS.server(make_origin("a").id)

ARRAYS = ["", "{", "{}", "null", "[]", '"x"', "7", '[1,null,false,{},["srs-proxy-server:a"],"x",""]', "[" * 2_000]
"""What could be found instead of a list of origins."""

RECORDS = ["", "x", "{", "7", "null", '"srs-proxy-server:a-s-1"', "[" * 2_000]
"""What could be found instead of a record."""


def register(origin: Origin, lifetime: float = LIFETIME, limit: int = LIMIT, restore: bool = False) -> Call:
    return scripts.register(KEYS, origin, NOW, lifetime, limit, restore)


def claim(key: str, chosen: Origin, expected: Origin | None = None, lifetime: float = PICK_LIFETIME) -> Call:
    return scripts.claim(KEYS, key, chosen.id, None if expected is None else expected.id, lifetime)


def look_up(key: str, lifetime: float = PICK_LIFETIME) -> Call:
    return scripts.look_up(KEYS, key, lifetime)


def registered(redis: Client, keys: Keys = KEYS) -> list[Registered]:
    """The origins, each with what is left of its lifetime to the nearest ten seconds."""
    found = scripts.parse_origins(keys, redis.run(scripts.origins(keys)))
    return [one._replace(lifetime=None if one.lifetime is None else round(one.lifetime, -1)) for one in found]


def origins(redis: Client) -> list[Origin]:
    return [one.origin for one in registered(redis)]


def streams(redis: Client) -> dict[str, int]:
    """Number of streams by id of the origin."""
    return {one.origin.id: one.streams for one in registered(redis)}


def make_registered(redis: Client, *names: str) -> list[Origin]:
    made = [make_origin(name) for name in names]
    for origin in made:
        assert redis.run(register(origin)) == 1
    return made


def test_the_sha_is_what_redis_calls_the_script_by(redis: Client) -> None:
    made = [script for script in vars(scripts).values() if isinstance(script, Script)]
    assert len(made) == 10
    for script in made:
        assert redis.command("SCRIPT", "LOAD", script.text) == script.sha


# Origins


def test_a_registered_origin_is_listed_with_its_lifetime(redis: Client) -> None:
    origin = make_origin(rtmp=("1935",), rtc=("udp://0.0.0.0:8000",))
    assert redis.run(register(origin)) == 1
    assert registered(redis) == [Registered(origin, LIFETIME, 0)]
    assert json.loads(redis.command("GET", KEYS.all_servers)) == [KEYS.server(origin.id)]
    assert redis.command("PTTL", KEYS.all_servers) == -1


def test_a_heartbeat_renews_the_record_and_keeps_the_place_in_the_list(redis: Client) -> None:
    _first, second = make_registered(redis, "a", "b")
    changed = make_origin("a", rtmp=("1936",))
    assert redis.run(register(changed, 600)) == 1
    assert registered(redis) == [Registered(changed, 600, 0), Registered(second, LIFETIME, 0)]


def test_forty_origins_that_register_at_the_same_time_are_all_listed(connect: Callable[[], Client]) -> None:
    """G51: in a list that every proxy reads, changes and writes by itself, 9 of 40 are left."""
    made = [make_origin(f"vid-{number}") for number in range(40)]
    clients = [connect() for _ in made]
    for client, origin in zip(clients, made, strict=True):
        client.start(register(origin))
    assert [client.reply() for client in clients] == [1] * 40
    assert {origin.id for origin in origins(connect())} == {origin.id for origin in made}


@pytest.mark.parametrize("array", ARRAYS)
def test_a_malformed_list_counts_as_empty(redis: Client, array: str) -> None:
    redis.command("SET", KEYS.all_servers, array)
    assert registered(redis) == []
    (origin,) = make_registered(redis, "a")
    assert json.loads(redis.command("GET", KEYS.all_servers)) == [KEYS.server(origin.id)]
    assert origins(redis) == [origin]


def test_a_list_of_another_type_counts_as_empty(redis: Client) -> None:
    redis.put_another_type(KEYS.all_servers)
    assert registered(redis) == []
    (origin,) = make_registered(redis, "a")
    assert origins(redis) == [origin]


def test_names_that_are_listed_twice_or_whose_record_has_gone_leave_the_list(redis: Client) -> None:
    first, second, gone = make_registered(redis, "a", "b", "c")
    names = [KEYS.server(origin.id) for origin in (first, gone, second, first)]
    redis.command("SET", KEYS.all_servers, json.dumps(names))
    redis.command("DEL", KEYS.server(gone.id))
    assert origins(redis) == [first, second]
    redis.run(register(second))
    assert json.loads(redis.command("GET", KEYS.all_servers)) == [KEYS.server(first.id), KEYS.server(second.id)]


def test_an_origin_whose_lifetime_is_over_is_gone(redis: Client) -> None:
    origin = make_origin()
    redis.run(register(origin, 0.001))
    redis.wait_until_gone(KEYS.server(origin.id))
    assert registered(redis) == []


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("text", RECORDS)
def test_a_malformed_record_is_no_origin_until_it_is_written_anew(redis: Client, text: str, restore: bool) -> None:
    first, second = make_registered(redis, "a", "b")
    redis.command("SET", KEYS.server(first.id), text)
    assert origins(redis) == [second]
    redis.run(register(first, restore=restore))
    assert origins(redis) == [first, second]


def test_keys_of_another_type_are_no_origins_until_they_are_written_anew(redis: Client) -> None:
    first, second = make_registered(redis, "a", "b")
    redis.put_another_type(KEYS.server(first.id), KEYS.streams(first.id), KEYS.streams(second.id))
    assert registered(redis) == [Registered(second, LIFETIME, 0)]
    redis.run(register(first))
    redis.run(claim(STREAM, first))
    assert streams(redis) == {first.id: 1, second.id: 0}
    redis.put_another_type(KEYS.streams(first.id))
    assert redis.run(claim(STREAM, second, expected=first)) == KEYS.server(second.id)


def test_a_record_under_the_name_of_another_origin_is_no_origin(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.command("SET", KEYS.server(origin.id), encode_origin(make_origin("b"), NOW))
    assert registered(redis) == []


def test_a_restarted_origin_takes_the_place_of_its_former_self(redis: Client) -> None:
    old, other = make_registered(redis, "a", "a-s")
    redis.run(claim(STREAM, old))
    new = make_origin("a", service="s2", pid="2")
    assert redis.run(register(new)) == 1
    assert set(origins(redis)) == {new, other}
    assert redis.run(look_up(STREAM)) is None
    assert redis.command("EXISTS", KEYS.server(old.id), KEYS.streams(old.id)) == 0


def test_a_restart_that_a_go_proxy_registered_first_is_seen_at_the_next_heartbeat(redis: Client) -> None:
    (old,) = make_registered(redis, "a")
    new = make_origin("a", service="s2")
    redis.command("SET", KEYS.server(new.id), encode_origin(new, NOW), "EX", 300)
    redis.command("SET", KEYS.all_servers, json.dumps([KEYS.server(old.id), KEYS.server(new.id)]))
    redis.run(register(new))
    assert origins(redis) == [new]


def test_of_servers_whose_names_start_alike_none_is_a_restart_of_the_other(redis: Client) -> None:
    first = make_origin("a", service="b-c", pid="1")
    second = make_origin("a-b", service="c", pid="2")
    assert [redis.run(register(origin)) for origin in (second, first)] == [1, 1]
    assert set(origins(redis)) == {first, second}


def test_beyond_the_limit_no_new_origin_is_registered(redis: Client) -> None:
    first, second = make_registered(redis, "a", "b")
    assert redis.run(register(make_origin("c"), limit=2)) == 0
    assert origins(redis) == [first, second]
    assert redis.command("EXISTS", KEYS.server(make_origin("c").id)) == 0
    assert redis.run(register(second, limit=2)) == 1
    restarted = make_origin("b", service="s2")
    assert redis.run(register(restarted, limit=2)) == 1
    assert origins(redis) == [first, restarted]


def test_a_restored_origin_is_registered_if_there_is_none(redis: Client) -> None:
    origin = make_origin()
    assert redis.run(register(origin, 40, restore=True)) == 1
    assert registered(redis) == [Registered(origin, 40, 0)]


def test_a_restored_origin_does_not_replace_a_later_heartbeat(redis: Client) -> None:
    later = make_origin("a", rtmp=("1936",))
    redis.run(register(later))
    assert redis.run(register(make_origin("a"), 40, restore=True)) == 1
    assert origins(redis) == [later]
    assert redis.run(register(make_origin("a", service="s0"), 40, restore=True)) == 0
    assert registered(redis) == [Registered(later, LIFETIME, 0)]


def test_a_restored_origin_replaces_an_earlier_heartbeat(redis: Client) -> None:
    redis.run(register(make_origin("a", service="s0"), 40))
    restarted = make_origin("a")
    assert redis.run(register(restarted, 100, restore=True)) == 1
    assert origins(redis) == [restarted]
    changed = make_origin("a", rtmp=("1936",))
    assert redis.run(register(changed, 200, restore=True)) == 1
    assert registered(redis) == [Registered(changed, 200, 0)]


def test_a_restored_origin_that_lives_but_is_not_listed_is_listed(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.command("SET", KEYS.all_servers, "[]")
    assert redis.run(register(make_origin("a", rtmp=("1936",)), 40, restore=True)) == 1
    assert origins(redis) == [origin]


def test_a_record_without_end_is_told_so_and_is_not_replaced_by_a_restored_one(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.command("PERSIST", KEYS.server(origin.id))
    assert registered(redis) == [Registered(origin, None, 0)]
    redis.run(register(make_origin("a", rtmp=("1936",)), restore=True))
    assert origins(redis) == [origin]


# Picks


def test_the_claimed_origin_is_found_and_has_one_stream_more(redis: Client) -> None:
    first, second = make_registered(redis, "a", "b")
    assert redis.run(look_up(STREAM)) is None
    assert redis.run(claim(STREAM, first)) == KEYS.server(first.id)
    assert redis.command("GET", KEYS.pick(STREAM)) == KEYS.server(first.id)
    assert KEYS.origin_id(redis.run(look_up(STREAM))) == first.id
    assert streams(redis) == {first.id: 1, second.id: 0}


def test_of_two_hundred_claims_by_four_proxies_one_wins(connect: Callable[[], Client]) -> None:
    """G51: two Go proxies that are asked at the same time choose different origins for 23 of 60 streams."""
    clients = [connect() for _ in range(4)]
    made = make_registered(clients[0], "a", "b", "c", "d")
    start = Barrier(len(clients))
    answers: list[str] = []

    def ask(client: Client, chosen: Origin) -> None:
        start.wait()
        for _ in range(50):
            client.start(claim(STREAM, chosen))
        answers.extend(client.reply() for _ in range(50))

    threads = [Thread(target=ask, args=pair) for pair in zip(clients, made, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 200
    assert len(set(answers)) == 1
    assert sorted(streams(clients[0]).values()) == [0, 0, 0, 1]


def test_a_stream_is_moved_once_by_all_who_expect_the_same_origin(redis: Client) -> None:
    dead, second, third = make_registered(redis, "a", "b", "c")
    redis.run(claim(STREAM, dead))
    assert redis.run(claim(STREAM, second, expected=dead)) == KEYS.server(second.id)
    assert redis.run(claim(STREAM, third, expected=dead)) == KEYS.server(second.id)
    assert streams(redis) == {dead.id: 0, second.id: 1, third.id: 0}


@pytest.mark.parametrize("record", [("DEL", RECORD), *(("SET", RECORD, text) for text in RECORDS)])
def test_a_pick_of_an_origin_that_is_gone_does_not_count(redis: Client, record: tuple[str, ...]) -> None:
    gone, second = make_registered(redis, "a", "b")
    redis.run(claim(STREAM, gone))
    redis.command(*record)
    before = redis.command("PTTL", KEYS.pick(STREAM))
    assert redis.run(look_up(STREAM, 1_000)) is None
    assert redis.command("PTTL", KEYS.pick(STREAM)) <= before
    assert redis.run(claim(STREAM, second)) == KEYS.server(second.id)
    assert redis.command("ZCARD", KEYS.streams(gone.id)) == 0


def test_looking_a_pick_up_renews_it_and_its_place_among_the_streams(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.run(claim(STREAM, origin, lifetime=1))
    redis.run(look_up(STREAM, 1_000))
    assert redis.command("PTTL", KEYS.pick(STREAM)) > 990_000
    assert redis.command("PTTL", KEYS.streams(origin.id)) > 990_000
    seconds = int(redis.command("TIME")[0])
    assert float(redis.command("ZSCORE", KEYS.streams(origin.id), KEYS.pick(STREAM))) > (seconds + 990) * 1000


def test_a_claim_that_is_lost_renews_the_pick_in_force(redis: Client) -> None:
    first, second = make_registered(redis, "a", "b")
    redis.run(claim(STREAM, first, lifetime=1))
    redis.run(claim(STREAM, second, lifetime=1_000))
    assert redis.command("PTTL", KEYS.pick(STREAM)) > 990_000


def test_streams_that_expired_are_not_counted_and_leave_the_set(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.run(claim("live/long", origin))
    redis.run(claim("live/short", origin, lifetime=0.001))
    redis.run(claim("live/long", origin))
    redis.wait_until_gone(KEYS.pick("live/short"))
    assert streams(redis) == {origin.id: 1}
    redis.run(claim("live/new", origin))
    assert redis.command("ZCARD", KEYS.streams(origin.id)) == 2


@pytest.mark.parametrize("text", ["", "x", KEYS.all_servers, KEYS.server(""), KEYS.server("a"), "live/\udcff"])
def test_a_malformed_pick_counts_as_none(redis: Client, text: str) -> None:
    (origin,) = make_registered(redis, "a")
    redis.command("SET", KEYS.pick(STREAM), text)
    assert redis.run(look_up(STREAM)) is None
    redis.run(*scripts.refresh(KEYS, [STREAM], PICK_LIFETIME))
    assert redis.run(claim(STREAM, origin)) == KEYS.server(origin.id)
    assert 0 < redis.command("PTTL", KEYS.pick(STREAM)) <= PICK_LIFETIME * 1000
    assert streams(redis) == {origin.id: 1}


def test_a_pick_of_another_type_counts_as_none(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.put_another_type(KEYS.pick(STREAM))
    assert redis.run(look_up(STREAM)) is None
    redis.run(*scripts.refresh(KEYS, [STREAM], PICK_LIFETIME))
    assert redis.run(claim(STREAM, origin)) == KEYS.server(origin.id)


def test_refreshing_renews_each_pick_but_those_without_end_of_go_proxies_and_counts_all(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    keys = [f"live/{number}" for number in range(MAX_PICKS_PER_CALL + 1)]
    for number, key in enumerate(keys):
        redis.command("SET", KEYS.pick(key), KEYS.server(origin.id), *(("PX", 1_000) if number % 2 else ()))
    calls = list(scripts.refresh(KEYS, [*keys, "live/unknown"], PICK_LIFETIME))
    assert len(calls) == 2
    assert [redis.run(call) for call in calls] == [None, None]
    assert all(redis.command("PTTL", KEYS.pick(key)) > 1_000 for key in keys[1::2])
    assert all(redis.command("PTTL", KEYS.pick(key)) == -1 for key in keys[::2])
    assert redis.command("EXISTS", KEYS.pick("live/unknown")) == 0
    assert streams(redis) == {origin.id: len(keys)}


def test_a_refreshed_pick_outlives_the_record_of_its_origin(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.run(claim(STREAM, origin, lifetime=1))
    redis.command("DEL", KEYS.server(origin.id))
    redis.run(*scripts.refresh(KEYS, [STREAM], 1_000))
    redis.run(register(origin))
    assert KEYS.origin_id(redis.run(look_up(STREAM))) == origin.id
    assert streams(redis) == {origin.id: 1}


def test_restoring_sets_picks_where_none_counts_and_tells_those_in_force(redis: Client) -> None:
    first, second = make_registered(redis, "a", "b")
    gone = make_origin("c")
    redis.run(claim("live/newer", second))
    redis.run(claim("live/dead", gone))
    picks = {"live/newer": first.id, "live/dead": first.id, "live/lost": second.id}
    (call,) = scripts.restore_picks(KEYS, picks, PICK_LIFETIME)
    assert redis.run(call) == [KEYS.server(origin.id) for origin in (second, first, second)]
    assert streams(redis) == {first.id: 1, second.id: 2}


def test_many_picks_are_restored_in_several_calls(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    picks = {f"live/{number}": origin.id for number in range(2 * MAX_PICKS_PER_CALL + 1)}
    sizes = [len(redis.run(call)) for call in scripts.restore_picks(KEYS, picks, PICK_LIFETIME)]
    assert sizes == [MAX_PICKS_PER_CALL, MAX_PICKS_PER_CALL, 1]
    assert streams(redis) == {origin.id: len(picks)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.none() | st.integers(0, 3), st.booleans())))
def test_every_stream_is_counted_at_its_origin_and_nowhere_else(
    redis: Client, steps: list[tuple[str, int, int | None, bool]]
) -> None:
    redis.command("FLUSHALL")
    made = make_registered(redis, "a", "b", "c", "d")
    picks: dict[str, str] = {}
    for key, chosen, expected, restarts in steps:
        if restarts:
            picks = {key: origin_id for key, origin_id in picks.items() if origin_id != made[chosen].id}
            made[chosen] = make_origin(made[chosen].server, service=made[chosen].service + "1")
            redis.run(register(made[chosen]))
        if key not in picks or (expected is not None and picks[key] == made[expected].id):
            picks[key] = made[chosen].id
        answer = redis.run(claim(key, made[chosen], None if expected is None else made[expected]))
        assert answer == KEYS.server(picks[key])
    assert streams(redis) == {origin.id: [*picks.values()].count(origin.id) for origin in made}


@pytest.mark.parametrize("prefix", ["", "stage", "%d']] --\n"])
@pytest.mark.parametrize("key", ["live/s' .. redis.call('FLUSHALL') .. '", 'live/"]]\r\n\0', "live/\udcff\xe9", "%s%1"])
def test_names_are_data_whatever_they_look_like(redis: Client, prefix: str, key: str) -> None:
    keys, origin = Keys(prefix), make_origin("%a]]--'\"\\", rtmp=("1935",))
    redis.run(scripts.register(keys, origin, NOW, LIFETIME, LIMIT))
    redis.run(scripts.claim(keys, key, origin.id, None, PICK_LIFETIME))
    assert redis.run(scripts.look_up(keys, key, PICK_LIFETIME)) == keys.server(origin.id)
    assert registered(redis, keys) == [Registered(origin, LIFETIME, 1)]


def test_without_memory_left_nothing_is_claimed_and_redis_says_so(redis: Client) -> None:
    (origin,) = make_registered(redis, "a")
    redis.command("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(RedisError, match="OOM"):
            redis.run(claim(STREAM, origin))
        assert origins(redis) == [origin]
    finally:
        redis.command("CONFIG", "SET", "maxmemory", 0)
    assert redis.run(look_up(STREAM)) is None


def test_a_thousand_origins_are_read_at_once(redis: Client) -> None:
    made = make_registered(redis, *(f"vid-{number}" for number in range(LIMIT)))
    redis.run(claim(STREAM, made[-1]))
    assert origins(redis) == made
    assert sum(streams(redis).values()) == 1


# Those of the Go proxy


def test_origins_and_picks_of_a_go_proxy_are_ours(go_redis: Client) -> None:
    names = json.loads(RECORDED[KEYS.all_servers].value)
    assert origins(go_redis) == [decode_origin(RECORDED[name].value) for name in names]
    assert go_redis.run(look_up(STREAM)) == RECORDED[KEYS.pick(STREAM)].value
    # Its proxy never renews a pick, and so gives it no end.
    assert go_redis.command("PTTL", KEYS.pick(STREAM)) == -1
    assert sum(streams(go_redis).values()) == 1


def test_a_list_that_a_go_proxy_wrote_is_not_written_again_without_need(go_redis: Client) -> None:
    go_redis.run(register(decode_origin(RECORDED[json.loads(RECORDED[KEYS.all_servers].value)[1]].value)))
    assert go_redis.command("GET", KEYS.all_servers) == RECORDED[KEYS.all_servers].value
