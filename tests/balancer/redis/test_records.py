"""Names and texts in Redis: ours are the Go proxy's, which are recorded, and nothing that is found there is harmful."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.balancer.model import MAX_URL_LENGTH, HlsSession, Origin, WebRtcSession, parse_heartbeat
from srsproxy.balancer.redis.records import (
    MAX_RECORD_LENGTH,
    Keys,
    decode_hls,
    decode_origin,
    decode_webrtc,
    encode_go_rtc,
    encode_hls,
    encode_origin,
    encode_webrtc,
)
from srsproxy.errors import LimitExceeded, PeerError
from tests.balancer.redis.recorded import RECORDED
from tests.recorded import http_body

KEYS = Keys()
NOW = datetime(2026, 11, 23, 10, 18, 18, 508669, tzinfo=UTC)
HLS = HlsSession("809c562", "__defaultVhost__/live/s", "http://127.0.0.1/live/s.m3u8")
WEBRTC = WebRtcSession("__defaultVhost__/live/s", "614wop7v:QXzF", "vid-1", "x" * 32, "play")

FIELDS = ["ip", "server_id", "service_id", "pid", "device_id", "rtmp", "rtc", "update_at"]
FIELDS += ["spbhid", "stream_url", "full_url", "ufrag", "server", "ice_pwd", "action"]
"""Names in all kinds of records."""

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.just("live/\udcff")
rubbish = (
    st.text(max_size=30)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    ).map(json.dumps)
    | st.dictionaries(
        st.sampled_from(FIELDS),
        st.sampled_from(["play", "192.0.2.1", "\ud800", "", "x" * 5_000, 1, None, ["1935"], [1], {}]),
    ).map(json.dumps)
)


def recorded(start: str) -> list[tuple[str, str]]:
    """Rest of the key, and value, of the recorded keys that start so."""
    found = [(key[len(start) :], entry.value) for key, entry in RECORDED.items() if key.startswith(start)]
    assert found
    return found


def heartbeat(name: str) -> Origin:
    return parse_heartbeat(json.loads(http_body(name)))


def test_names_of_keys_are_those_that_the_go_proxy_wrote() -> None:
    key, ufrag, origin_id = "__defaultVhost__/live/s", "614wop7v:QXzF", "vid-53g0u8r-iuh43104-31232"
    names = [KEYS.server(origin_id), KEYS.all_servers, KEYS.pick(key), KEYS.hls(key), KEYS.spbhid("8852af4")]
    names += [KEYS.rtc(key), KEYS.ufrag(ufrag)]
    assert all(name in RECORDED for name in names)
    assert len(set(names)) == len(names)


def test_keys_of_our_own_are_none_of_the_go_proxys() -> None:
    names = [KEYS.streams("a-b-1"), KEYS.webrtc("a:b"), KEYS.secret]
    assert all(name.startswith("srsproxy-") for name in names)
    assert len(set(names)) == len(names)


def test_a_prefix_stands_before_each_key_and_a_colon() -> None:
    keys = Keys("stage")
    assert keys.all_servers == "stage:srs-proxy-all-servers"
    assert keys.server("a-b-1") == "stage:srs-proxy-server:a-b-1"
    assert keys.secret == "stage:srsproxy-secret"


@pytest.mark.parametrize("keys", [KEYS, Keys("stage")])
def test_a_pick_names_its_origin(keys: Keys) -> None:
    assert keys.origin_id(keys.server("a-b-1")) == "a-b-1"
    assert keys.origin_id(keys.server("")) is None
    assert keys.origin_id("x" + keys.server("a-b-1")) is None


def test_origins_that_the_go_proxy_registered_are_those_of_the_heartbeats() -> None:
    origins = {rest: decode_origin(value) for rest, value in recorded("srs-proxy-server:")}
    assert {origin.id for origin in origins.values()} == origins.keys()
    for sent in (heartbeat("heartbeat_full"), heartbeat("heartbeat_min")):
        assert origins[sent.id] == sent


@pytest.mark.parametrize("name", ["heartbeat_full", "heartbeat_min"])
def test_an_origin_is_written_as_the_go_proxy_writes_it(name: str) -> None:
    origin = heartbeat(name)
    theirs = RECORDED[KEYS.server(origin.id)].value
    before_time, ours_before_time = theirs.rpartition('"update_at"')[0], encode_origin(origin, NOW)
    assert ours_before_time == f'{before_time}"update_at":"2026-11-23T10:18:18.508669Z"}}'


def test_the_time_of_an_origin_is_rfc_3339_in_utc() -> None:
    origin = heartbeat("heartbeat_min")
    elsewhere = NOW.astimezone(timezone(timedelta(hours=8)))
    assert encode_origin(origin, elsewhere) == encode_origin(origin, NOW)
    assert '"2026-11-23T10:18:18.000000Z"' in encode_origin(origin, NOW.replace(microsecond=0))


def test_hls_records_that_the_go_proxy_wrote_are_read_and_written_alike() -> None:
    for spbhid, value in recorded("srs-proxy-spbhid:"):
        session = decode_hls(value)
        assert session.spbhid == spbhid
        assert json.loads(encode_hls(session)) == json.loads(value)
        assert list(json.loads(encode_hls(session))) == list(json.loads(value))


def test_an_hls_record_of_plain_names_is_the_go_proxys_to_the_letter() -> None:
    assert encode_hls(HLS) == RECORDED[KEYS.spbhid(HLS.spbhid)].value


def test_the_go_proxys_webrtc_record_is_written_to_the_letter() -> None:
    assert encode_go_rtc(WEBRTC) == RECORDED[KEYS.ufrag(WEBRTC.ufrag)].value
    assert encode_go_rtc(WEBRTC) == RECORDED[KEYS.rtc(WEBRTC.key)].value


def test_a_stream_name_that_is_not_utf_8_is_written_as_the_bytes_that_it_is() -> None:
    session = replace(HLS, key="live/\udcff")
    assert b'"live/\xff"' in encode_hls(session).encode("utf-8", "surrogateescape")
    assert decode_hls(encode_hls(session)) == session


@given(texts, texts, texts)
def test_hls_records_come_back_as_they_were(spbhid: str, key: str, url: str) -> None:
    session = HlsSession(spbhid, key, url)
    assert decode_hls(encode_hls(session)) == session


@given(texts, texts, texts, texts, st.sampled_from(["publish", "play"]))
def test_webrtc_records_come_back_as_they_were(key: str, ufrag: str, server: str, pwd: str, action: str) -> None:
    session = WebRtcSession(key, ufrag, server, pwd, action)
    assert decode_webrtc(encode_webrtc(session)) == session


def test_unknown_fields_are_ignored() -> None:
    assert decode_hls(json.dumps(json.loads(encode_hls(HLS)) | {"new": [1]})) == HLS
    assert decode_webrtc(json.dumps(json.loads(encode_webrtc(WEBRTC)) | {"new": [1]})) == WEBRTC
    origin = heartbeat("heartbeat_full")
    assert decode_origin(json.dumps(json.loads(encode_origin(origin, NOW)) | {"summaries": {}})) == origin


@given(rubbish)
def test_whatever_is_found_instead_of_a_record_is_a_peer_error(text: str) -> None:
    for decode in (decode_origin, decode_hls, decode_webrtc):
        try:
            decode(text)
        except PeerError:
            continue


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", "[" * 10_000, "1" * 5_000, "{}", '{"a":' * 10_000, "{" + " " * MAX_RECORD_LENGTH + "}"],
)
def test_what_is_no_record_is_a_peer_error(text: str) -> None:
    for decode in (decode_origin, decode_hls, decode_webrtc):
        with pytest.raises(PeerError):
            decode(text)


@pytest.mark.parametrize("field", ["spbhid", "stream_url", "full_url"])
@pytest.mark.parametrize("value", ["", 1, None, [], "\ud800"])
def test_an_hls_record_without_a_usable_field_is_a_peer_error(field: str, value: object) -> None:
    with pytest.raises(PeerError, match=field):
        decode_hls(json.dumps(json.loads(encode_hls(HLS)) | {field: value}))


@pytest.mark.parametrize("field", ["stream_url", "ufrag", "server", "ice_pwd", "action"])
def test_a_webrtc_record_without_a_field_is_a_peer_error(field: str) -> None:
    fields = json.loads(encode_webrtc(WEBRTC))
    del fields[field]
    with pytest.raises(PeerError, match=field):
        decode_webrtc(json.dumps(fields))


def test_a_webrtc_record_of_another_action_is_a_peer_error() -> None:
    with pytest.raises(PeerError, match="publish or play"):
        decode_webrtc(encode_webrtc(replace(WEBRTC, action="record")))


def test_a_record_that_is_too_long_to_be_kept_is_told_so() -> None:
    fields = json.loads(encode_hls(HLS)) | {"full_url": "x" * (MAX_URL_LENGTH + 1)}
    with pytest.raises(LimitExceeded, match="playlist URL"):
        decode_hls(json.dumps(fields))
