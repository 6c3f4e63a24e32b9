"""The scripts of HLS and WebRTC sessions, in a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srsproxy.balancer.model import MAX_ID_LENGTH, MAX_URL_LENGTH, HlsSession, WebRtcSession
from srsproxy.balancer.redis import scripts
from srsproxy.balancer.redis.records import Keys, decode_hls, encode_go_rtc, encode_hls, encode_webrtc
from srsproxy.balancer.redis.scripts import Call
from tests.balancer.redis.recorded import RECORDED
from tests.balancer.redis.server import Client

KEYS = Keys()
LIFETIME = 120.0
STREAM = "__defaultVhost__/live/s"
FIRST = HlsSession("aaaaaaa", STREAM, "http://192.0.2.1/live/s.m3u8?token=1&x=<2>")
SECOND = HlsSession("bbbbbbb", STREAM, "http://192.0.2.2/live/s.m3u8")
OTHER = HlsSession("ccccccc", "test.com/live/other", "http://test.com/live/other.m3u8")
WEBRTC = WebRtcSession(STREAM, "614wop7v:QXzF", "vid-1", "x" * 32, "play")


def save(session: HlsSession, lifetime: float = LIFETIME) -> Call:
    return scripts.save_hls(KEYS, session, lifetime)


def load(spbhid: str, lifetime: float = LIFETIME) -> Call:
    return scripts.load_hls(KEYS, spbhid, lifetime)


def hls_keys(session: HlsSession) -> tuple[str, str]:
    return KEYS.hls(session.key), KEYS.spbhid(session.spbhid)


def webrtc_keys(session: WebRtcSession) -> tuple[str, str, str]:
    return KEYS.webrtc(session.ufrag), KEYS.rtc(session.key), KEYS.ufrag(session.ufrag)


# HLS


def test_an_unknown_id_has_no_record(redis: Client) -> None:
    assert redis.run(load("aaaaaaa")) is None


def test_a_saved_record_is_under_both_of_the_go_proxys_keys(redis: Client) -> None:
    assert redis.run(save(FIRST)) == encode_hls(FIRST)
    assert redis.command("MGET", *hls_keys(FIRST)) == [encode_hls(FIRST)] * 2
    assert all(0 < redis.command("PTTL", key) <= LIFETIME * 1000 for key in hls_keys(FIRST))
    assert redis.run(load(FIRST.spbhid)) == encode_hls(FIRST)


def test_all_proxies_get_the_record_that_was_saved_first(connect: Callable[[], Client]) -> None:
    clients = [connect() for _ in range(8)]
    sessions = [replace(FIRST, spbhid=f"aaaaaa{number}") for number in range(len(clients))]
    for client, session in zip(clients, sessions, strict=True):
        client.start(save(session))
    answers = {client.reply() for client in clients}
    assert len(answers) == 1
    (answer,) = answers
    assert clients[0].run(load(decode_hls(answer).spbhid)) == answer
    assert len(clients[0].command("KEYS", KEYS.spbhid("*"))) == 1


def test_an_id_of_another_stream_is_refused_and_stays_that_streams(redis: Client) -> None:
    redis.run(save(OTHER))
    assert redis.run(save(replace(FIRST, spbhid=OTHER.spbhid))) is None
    assert redis.run(load(OTHER.spbhid)) == encode_hls(OTHER)
    assert redis.command("EXISTS", KEYS.hls(STREAM)) == 0


def test_saving_and_loading_renew_both_keys(redis: Client) -> None:
    redis.run(save(FIRST, 1))
    redis.run(save(SECOND, 1_000))
    assert all(redis.command("PTTL", key) > 990_000 for key in hls_keys(FIRST))
    redis.run(load(FIRST.spbhid, 2_000))
    assert all(redis.command("PTTL", key) > 1_990_000 for key in hls_keys(FIRST))


def test_a_record_whose_id_was_lost_gets_it_back(redis: Client) -> None:
    redis.run(save(FIRST))
    redis.command("DEL", KEYS.spbhid(FIRST.spbhid))
    assert redis.run(save(SECOND)) == encode_hls(FIRST)
    assert redis.run(load(FIRST.spbhid)) == encode_hls(FIRST)


def test_a_stream_whose_id_was_taken_by_another_gets_a_new_one(redis: Client) -> None:
    """A Go proxy looks at nothing before it writes."""
    redis.run(save(FIRST))
    redis.command("SET", KEYS.spbhid(FIRST.spbhid), encode_hls(replace(OTHER, spbhid=FIRST.spbhid)))
    assert redis.run(save(SECOND)) == encode_hls(SECOND)
    assert redis.run(load(SECOND.spbhid)) == encode_hls(SECOND)


def test_the_latest_record_of_a_go_proxy_is_in_force(go_redis: Client) -> None:
    """G29: it writes another one at each refresh of a playlist."""
    theirs = RECORDED[KEYS.hls(STREAM)].value
    assert go_redis.run(save(FIRST)) == theirs
    ids = [key for key in RECORDED if key.startswith(KEYS.spbhid("")) and STREAM in RECORDED[key].value]
    assert len(ids) == 3
    for key in ids:
        assert go_redis.run(load(key.removeprefix(KEYS.spbhid("")))) == RECORDED[key].value


def test_a_name_that_is_not_utf_8_which_a_go_proxy_changes_gets_a_record_of_ours(go_redis: Client) -> None:
    session = HlsSession("aaaaaaa", "__defaultVhost__/live/\udcff", "http://192.0.2.1/live/\udcff.m3u8")
    assert KEYS.hls(session.key) in RECORDED
    assert go_redis.run(save(session)) == encode_hls(session)
    assert go_redis.run(save(replace(session, spbhid="bbbbbbb"))) == encode_hls(session)
    assert decode_hls(go_redis.run(load("aaaaaaa"))) == session


def test_what_is_of_another_type_counts_as_no_record(redis: Client) -> None:
    redis.put_another_type(*hls_keys(FIRST))
    assert redis.run(load(FIRST.spbhid)) is None
    assert redis.run(save(FIRST)) == encode_hls(FIRST)
    assert redis.run(load(FIRST.spbhid)) == encode_hls(FIRST)


@pytest.mark.parametrize("field", ["spbhid", "stream_url", "full_url"])
@pytest.mark.parametrize("value", ["", None, 1, [], "x" * (MAX_URL_LENGTH + 1)])
def test_a_record_with_an_unusable_field_is_replaced(redis: Client, field: str, value: object) -> None:
    redis.command("SET", KEYS.hls(STREAM), json.dumps(json.loads(encode_hls(FIRST)) | {field: value}))
    assert redis.run(save(SECOND)) == encode_hls(SECOND)


@pytest.mark.parametrize("spbhid", ["x" * (MAX_ID_LENGTH + 1), "a b", "\xe9", "a\0"])
def test_a_record_with_an_unusable_id_is_replaced(redis: Client, spbhid: str) -> None:
    redis.command("SET", KEYS.hls(STREAM), json.dumps(json.loads(encode_hls(FIRST)) | {"spbhid": spbhid}))
    assert redis.run(save(SECOND)) == encode_hls(SECOND)


fields = st.sampled_from(["", STREAM, "aaaaaaa", "a b", "\xe9", "x" * (MAX_ID_LENGTH + 1), "x" * (MAX_URL_LENGTH + 1)])
changes = st.dictionaries(
    st.sampled_from(["spbhid", "stream_url", "full_url"]), fields | st.none() | st.integers() | st.lists(fields)
)
changed = changes.map(lambda fields: json.dumps(json.loads(encode_hls(FIRST)) | fields))
rubbish = st.sampled_from(["", "{", "[]", "null", "1", "[" * 2_000])


@pytest.mark.parametrize("text", ["", "x", "{}", "[]", "null", '{"spbhid":"aaaaaaa"}', '{"stream_url":[]}'])
def test_a_malformed_record_is_none(redis: Client, text: str) -> None:
    redis.command("SET", KEYS.spbhid(FIRST.spbhid), text)
    assert redis.run(load(FIRST.spbhid)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(by_stream=changed | rubbish, by_id=changed | rubbish)
def test_whatever_is_found_a_stream_gets_a_record_that_can_be_read(redis: Client, by_stream: str, by_id: str) -> None:
    redis.command("FLUSHALL")
    redis.command("MSET", KEYS.hls(STREAM), by_stream, KEYS.spbhid(FIRST.spbhid), by_id)
    answer = redis.run(save(FIRST))
    if answer is None:  # by_id looks like another stream's.
        answer = redis.run(save(SECOND))
    session = decode_hls(answer)
    assert session.key == STREAM
    assert redis.run(load(session.spbhid)) == answer


# WebRTC


def test_an_unknown_username_has_no_record(redis: Client) -> None:
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) is None


def test_a_saved_session_is_under_our_key_and_the_go_proxys(redis: Client) -> None:
    redis.run(scripts.save_webrtc(KEYS, WEBRTC, LIFETIME))
    ours, theirs = encode_webrtc(WEBRTC), encode_go_rtc(WEBRTC)
    assert redis.command("MGET", *webrtc_keys(WEBRTC)) == [ours, theirs, theirs]
    assert all(0 < redis.command("PTTL", key) <= LIFETIME * 1000 for key in webrtc_keys(WEBRTC))
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) == ours


def test_a_session_that_asks_now_and_then_does_not_expire(redis: Client) -> None:
    """G38: a Go proxy's record of a session is gone after 120 s, and a client cannot roam any more."""
    redis.run(scripts.save_webrtc(KEYS, WEBRTC, 1))
    redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, 1_000))
    assert redis.command("PTTL", KEYS.webrtc(WEBRTC.ufrag)) > 990_000
    assert redis.command("PTTL", KEYS.ufrag(WEBRTC.ufrag)) > 990_000


def test_a_session_that_is_saved_again_is_replaced(redis: Client) -> None:
    redis.run(scripts.save_webrtc(KEYS, WEBRTC, LIFETIME))
    changed = replace(WEBRTC, server="vid-2")
    redis.run(scripts.save_webrtc(KEYS, changed, LIFETIME))
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) == encode_webrtc(changed)


def test_a_restored_session_does_not_replace_one(redis: Client) -> None:
    redis.run(scripts.save_webrtc(KEYS, WEBRTC, LIFETIME, restore=True))
    redis.run(scripts.save_webrtc(KEYS, replace(WEBRTC, server="vid-2"), LIFETIME, restore=True))
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) == encode_webrtc(WEBRTC)


def test_what_is_of_another_type_counts_as_no_session(redis: Client) -> None:
    redis.put_another_type(*webrtc_keys(WEBRTC))
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) is None
    redis.run(scripts.save_webrtc(KEYS, WEBRTC, LIFETIME, restore=True))
    assert redis.run(scripts.load_webrtc(KEYS, WEBRTC.ufrag, LIFETIME)) == encode_webrtc(WEBRTC)


@pytest.mark.parametrize("ufrag", ["a:b", "+/:=", "\udcff:x", "'\r\n"])
def test_usernames_are_data_whatever_they_look_like(redis: Client, ufrag: str) -> None:
    session = replace(WEBRTC, ufrag=ufrag, key="live/\udcff\"']]")
    redis.run(scripts.save_webrtc(KEYS, session, LIFETIME))
    assert redis.run(scripts.load_webrtc(KEYS, ufrag, LIFETIME)) == encode_webrtc(session)
