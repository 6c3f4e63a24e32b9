"""Requests and answers of WHIP, WHEP and the JSON API: what is meant, and what goes on to the origin.

What is expected of SRS was seen on SRS 7.0.18 with a vhost test.com configured, besides the default one.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.streamkey import DEFAULT_VHOST, StreamKey, split_params
from srsproxy.values import PublicAddress
from srsproxy.webrtc.offer import (
    MOUNTS,
    JsonOffer,
    OfferTarget,
    SessionTarget,
    eip,
    read_json_offer,
    read_offer,
    read_session,
    rewrite_json_answer,
    session_query,
    with_credentials,
)
from srsproxy.webrtc.sdp import CandidateAddress, IceCredentials, ice_credentials, rewrite_candidates
from tests.recorded import http_body

HOST = b"127.0.0.1:11985"
VHOSTS = frozenset({"test.com"})
CREDENTIALS = IceCredentials("abcd2345", "p" * 32)


def read(target: str, host: bytes = HOST) -> OfferTarget:
    path, _, query = target.partition("?")
    return read_offer(path.encode(), query.encode(), host, VHOSTS)


def meaning(target: str, host: bytes = HOST) -> tuple[str, str]:
    """Action and key; the key as SRS writes it, without the default vhost's name."""
    offer = read(target, host)
    return offer.action, str(offer.key).removeprefix(DEFAULT_VHOST)


# WHIP and WHEP


def test_an_offer() -> None:
    assert read("/rtc/v1/whip/?app=live&stream=s&token=1") == OfferTarget(
        key=StreamKey(DEFAULT_VHOST, "live", "s"),
        action="publish",
        path=b"/rtc/v1/whip/",
    )


@pytest.mark.parametrize(
    ("target", "action", "key"),
    [
        # G34: the Go proxy knows neither defaults nor whip-play.
        ("/rtc/v1/whip/", "publish", "/live/livestream"),
        ("/rtc/v1/whip/?stream=s", "publish", "/live/s"),
        ("/rtc/v1/whip/?app=a", "publish", "/a/livestream"),
        ("/rtc/v1/whip/?app=&stream=", "publish", "/live/livestream"),
        ("/rtc/v1/whep/?app=a&stream=s", "play", "/a/s"),
        ("/rtc/v1/whip-play/?app=a&stream=s", "play", "/a/s"),
        # the path below the mount names nothing
        ("/rtc/v1/whip/live/abc", "publish", "/live/livestream"),
        ("/rtc/v1/whip/live/abc?stream=s", "publish", "/live/s"),
        # only its end makes a player
        ("/rtc/v1/whep/x", "publish", "/live/livestream"),
        ("/rtc/v1/whip-play/x", "publish", "/live/livestream"),
        ("/rtc/v1/whip/whep", "publish", "/live/livestream"),
        ("/rtc/v1/whep//", "publish", "/live/livestream"),
        ("/rtc/v1/whip/x/whep/", "play", "/live/livestream"),
        ("/rtc/v1/whip/whip-play/", "play", "/live/livestream"),
        # or the action, but not against the path
        ("/rtc/v1/whip/?action=play", "play", "/live/livestream"),
        ("/rtc/v1/whip/?action=Publish", "play", "/live/livestream"),
        ("/rtc/v1/whip/?action=publish", "publish", "/live/livestream"),
        ("/rtc/v1/whip/?action=", "publish", "/live/livestream"),
        ("/rtc/v1/whip/?action=play&action=publish", "publish", "/live/livestream"),
        ("/rtc/v1/whep/?action=publish", "play", "/live/livestream"),
        ("/rtc/v1/whep/x?action=play", "play", "/live/livestream"),
        # names
        ("/rtc/v1/whip/?stream=s.flv", "publish", "/live/s"),
        ("/rtc/v1/whip/?stream=a.b.c", "publish", "/live/a.b"),
        ("/rtc/v1/whip/?app=live/show&stream=s", "publish", "/live/show/s"),
        ("/rtc/v1/whip/?stream=show/s", "publish", "/live/show/s"),
        ("/rtc/v1/whip/?app=a%20b&stream=c+d%2f", "publish", "/a%20b/c+d%2f"),
        ("/rtc/v1/whip/?app=/live/&stream=s", "publish", "//live//s"),
        ("/rtc/v1/whip/?stream=s&stream=t", "publish", "/live/t"),
        ("/rtc/v1/whip/?stream=s;app=a,x=1", "publish", "/a/s"),
        ("/rtc/v1/whip/?Stream=s", "publish", "/live/livestream"),
        # a name without a value takes the next word
        ("/rtc/v1/whip/?token&stream=s", "publish", "/live/livestream"),
        ("/rtc/v1/whip/?token=abc==&stream=s", "publish", "/live/s"),
        ("/rtc/v1/whip/?&stream=s", "publish", "/live/livestream"),
        ("/rtc/v1/whip/??stream=s", "publish", "/live/livestream"),
    ],
)
def test_what_is_meant(target: str, action: str, key: str) -> None:
    assert meaning(target) == (action, key)


@pytest.mark.parametrize(
    ("query", "host", "vhost"),
    [
        ("", b"127.0.0.1:11985", ""),
        ("", b"test.com", "test.com"),
        ("", b"test.com:11985", "test.com"),
        ("", b"TEST.com", ""),
        ("", b"unknown.org", ""),
        ("", b"[::1]:11985", ""),
        ("", b"", ""),
        ("vhost=test.com", b"127.0.0.1", "test.com"),
        ("domain=test.com", b"127.0.0.1", "test.com"),
        ("vhost=&domain=test.com", b"127.0.0.1", "test.com"),
        ("vhost=unknown.org&domain=test.com", b"test.com", ""),
        ("vhost=__defaultVhost__", b"test.com", ""),
    ],
)
@pytest.mark.parametrize("mount", MOUNTS)
def test_vhosts(mount: bytes, query: str, host: bytes, vhost: str) -> None:
    offer = read_offer(mount, query.encode(), host, VHOSTS)
    assert str(offer.key) == f"{vhost or DEFAULT_VHOST}/live/livestream"
    assert read_session(query.encode(), host, VHOSTS).key == offer.key


def test_names_that_are_not_ascii() -> None:
    assert str(read_offer(MOUNTS[0], b"stream=\xe4\xbd\xa0", HOST, VHOSTS).key) == f"{DEFAULT_VHOST}/live/你"
    key = str(read_offer(MOUNTS[0], b"stream=\xff", HOST, VHOSTS).key)
    assert key.encode("utf-8", "surrogateescape").endswith(b"/live/\xff")


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_path_without_its_slash_gets_it(mount: bytes) -> None:
    # SRS would redirect the client, to itself.
    assert read_offer(mount[:-1], b"", HOST, VHOSTS) == read_offer(mount, b"", HOST, VHOSTS)
    assert read_offer(mount[:-1], b"", HOST, VHOSTS).path == mount


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/rtc/v1/whip/a//%41/b", "/rtc/v1/whip/"),
        ("/rtc/v1/whip/../../../api/v1/clients/", "/rtc/v1/whip/"),
        ("/rtc/v1/whep/x", "/rtc/v1/whip/"),
        ("/rtc/v1/whip/x/whep/", "/rtc/v1/whep/"),
        ("/rtc/v1/whip-play/x/whip-play/", "/rtc/v1/whep/"),
    ],
)
def test_what_follows_in_a_path_does_not_reach_the_origin(path: str, served: str) -> None:
    assert read(path).path == served.encode()


@pytest.mark.parametrize(
    "path",
    ["", "/", "/rtc/v1/", "/rtc/v1/play/", "/rtc/v1/whipx/", "/rtc/v1/whip-play2", "//rtc/v1/whip/", "/RTC/v1/whip/"],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(PeerError, match="none of WHIP and WHEP"):
        read(path)


@pytest.mark.parametrize("target", ["/rtc/v1/whip/#x", "/rtc/v1/whip/?stream=a#b"])
def test_a_fragment_is_refused_because_srs_does_not_read_it(target: str) -> None:
    with pytest.raises(PeerError, match=r"fragment|none of WHIP and WHEP"):
        read(target)


@pytest.mark.parametrize(
    "query",
    [
        "ice-ufrag=abcd",
        "stream=s&ice-pwd=x",
        "ice-ufrag=",
        "ice-ufrag",
        "stream=ice-ufrag",
        "stream;ice-ufrag;abcd",
        "a&&ice-pwd",
    ],
)
def test_a_client_may_not_choose_the_credentials(query: str) -> None:
    with pytest.raises(PeerError, match="are chosen by the proxy"):
        read(f"/rtc/v1/whip/?{query}")
    with pytest.raises(PeerError, match="are chosen by the proxy"):
        read_session(query.encode(), b"", frozenset())


# The credentials that a proxy chooses


@pytest.mark.parametrize(
    ("query", "forwarded"),
    [
        (b"", b"ice-ufrag=abcd2345&ice-pwd=" + b"p" * 32),
        (b"app=live&stream=s", b"ice-ufrag=abcd2345&ice-pwd=" + b"p" * 32 + b"&app=live&stream=s"),
        (b"a=%zz&&b", b"ice-ufrag=abcd2345&ice-pwd=" + b"p" * 32 + b"&a=%zz&&b"),
    ],
)
def test_all_parameters_go_on_as_they_came(query: bytes, forwarded: bytes) -> None:
    assert with_credentials(query, CREDENTIALS) == forwarded


def test_other_origins_read_the_credentials_too() -> None:
    parameters = parse_qs(with_credentials(b"app=live&stream=s", CREDENTIALS))
    assert parameters == {
        b"ice-ufrag": [b"abcd2345"],
        b"ice-pwd": [b"p" * 32],
        b"app": [b"live"],
        b"stream": [b"s"],
    }


words = st.sampled_from(
    ["app", "stream", "vhost", "action", "live", "s", "test.com", "play", "a.b", "/", "", "%41", "x"]
)
separators = st.sampled_from(["=", "&", "&&", "&&&", ",", ";", "=="])
queries = st.lists(st.tuples(separators | st.just(""), words), max_size=8).map(
    lambda pairs: "".join(separator + word for separator, word in pairs)
)


@given(query=queries)
def test_srs_reads_the_same_with_credentials_as_without(query: str) -> None:
    before = split_params(query)
    after = split_params(with_credentials(query.encode(), CREDENTIALS).decode())
    assert (after.pop("ice-ufrag"), after.pop("ice-pwd")) == (CREDENTIALS.ufrag, CREDENTIALS.pwd)
    before.setdefault("", "")  # SRS takes an empty query for one parameter, and never asks for this one
    after.setdefault("", "")
    assert after == before


@given(
    path=st.sampled_from(MOUNTS).flatmap(lambda mount: st.binary(max_size=12).map(lambda rest: mount + rest))
    | st.binary(max_size=30),
    query=queries.map(str.encode) | st.binary(max_size=60),
    host=st.sampled_from([b"test.com", b""]) | st.binary(max_size=20),
)
def test_any_target_is_an_offer_or_a_peer_error(path: bytes, query: bytes, host: bytes) -> None:
    eip(query)
    with suppress(PeerError):
        read_session(query, host, VHOSTS)
    try:
        offer = read_offer(path, query, host, VHOSTS)
    except PeerError:
        return
    assert offer.path in MOUNTS
    assert offer.key.vhost in {DEFAULT_VHOST, *VHOSTS}
    str(offer.key).encode("utf-8", "surrogateescape")


# Sessions


def test_the_session_of_a_location() -> None:
    location = b"action=delete&token=142136gzm&app=live&stream=rtcpub&session=033ty1w4:ftWT"
    assert read_session(location, HOST, VHOSTS) == SessionTarget(
        "033ty1w4:ftWT", StreamKey(DEFAULT_VHOST, "live", "rtcpub")
    )


@pytest.mark.parametrize(
    ("written", "username"),
    [
        ("abcd:a+b/", "abcd:a+b/"),
        ("abcd%3Aa%2Bb%2F", "abcd:a+b/"),
        ("abcd%3aa%2bb%2f", "abcd:a+b/"),
        ("abcd:%zz", "abcd:%zz"),
    ],
)
def test_a_username_may_be_percent_encoded(written: str, username: str) -> None:
    query = session_query(f"session={written}&token=1".encode())
    assert query == f"session={username}&token=1".encode()
    assert read_session(query, HOST, VHOSTS).username == username


@pytest.mark.parametrize("query", [b"", b"token=%3A&xsession=%3A", b"session=a%26b%0d%0ac", b"a=session&b=%2F"])
def test_nothing_else_is_decoded(query: bytes) -> None:
    assert session_query(query) == query


@pytest.mark.parametrize("query", [b"", b"token=1&app=live", b"session=&token=1"])
def test_a_session_that_is_not_named(query: bytes) -> None:
    assert read_session(query, HOST, VHOSTS).username is None


# The address that a client wants


@pytest.mark.parametrize(
    ("query", "address"),
    [
        (b"eip=192.0.2.1", PublicAddress("192.0.2.1")),
        (b"eip=192.0.2.1:8000", PublicAddress("192.0.2.1", 8000)),
        (b"candidate=192.0.2.1:8000", PublicAddress("192.0.2.1", 8000)),
        (b"eip=192.0.2.1&candidate=192.0.2.2", PublicAddress("192.0.2.1")),
        (b"eip=&candidate=192.0.2.2", PublicAddress("192.0.2.2")),
        (b"eip=media.example.org:1", PublicAddress("media.example.org", 1)),
        (b"eip=[2001:db8::1]:8000", PublicAddress("2001:db8::1", 8000)),
        (b"eip=2001:db8::1", PublicAddress("2001:db8::1")),
        (b"", None),
        (b"eip=", None),
        (b"eip=256.0.0.1", None),
        (b"eip=192.0.2.1:0", None),
        (b"eip=192.0.2.1:65536", None),
        (b"eip=192.0.2.1%3A8000", None),
        (b"eip=a b", None),
        (b"eip=192.0.2.1%0d%0aa", None),
        (b"eip=\xff", None),
        (b"stream=eip", None),
    ],
)
def test_the_address_that_a_client_wants(query: bytes, address: PublicAddress | None) -> None:
    assert eip(query) == address


# The JSON API: offers


def test_an_offer_by_the_json_api() -> None:
    body = b'{"tid": 1, "streamurl": "webrtc://test.com:1985/live/s.flv?token=1", "sdp": "v=0\\r\\n", "api": null}'
    assert read_json_offer(body, True, VHOSTS) == JsonOffer(StreamKey("test.com", "live", "s"), "play", "v=0\r\n")
    assert read_json_offer(body, False, frozenset()) == JsonOffer(
        StreamKey(DEFAULT_VHOST, "live", "s"), "publish", "v=0\r\n"
    )


def test_the_recorded_offer_of_the_json_api() -> None:
    offer = read_json_offer(http_body("rtc_play_legacy.request"), True, VHOSTS)
    assert offer.key == StreamKey(DEFAULT_VHOST, "live", "livestream")
    assert offer.sdp.startswith("v=0\r\n")
    assert len(ice_credentials(offer.sdp).ufrag) == 4


def test_of_equal_members_the_last_counts_as_in_srs() -> None:
    body = b'{"streamurl":"webrtc://h/live/a","sdp":"x","streamurl":"webrtc://h/live/b","sdp":"y"}'
    assert read_json_offer(body, True, VHOSTS) == JsonOffer(StreamKey(DEFAULT_VHOST, "live", "b"), "play", "y")


DEEP = b'{"a":' + b"[" * 100_000

NO_OBJECTS = [
    b"",
    b"v=0\r\n",
    b"null",
    b"[]",
    b'"sdp"',
    b"{",
    b'{"sdp":"x","streamurl":"webrtc://h/live/s"',
    b'{"sdp":"x","streamurl":"webrtc://h/live/s"} x',
    b'\xef\xbb\xbf{"sdp":"x","streamurl":"webrtc://h/live/s"}',
    b'{"sdp":"\xff","streamurl":"webrtc://h/live/s"}',
    '{"sdp":"x","streamurl":"webrtc://h/live/s"}'.encode("utf-16"),
    b'{"sdp":"x","streamurl":"webrtc://h/live/s","tid":' + b"1" * 10_000 + b"}",
    DEEP,
    DEEP + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="no JSON"):
        read_json_offer(body, True, VHOSTS)
    with pytest.raises(PeerError, match="no JSON"):
        rewrite_json_answer(body, str)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "not both sdp and streamurl"),
        ({"sdp": "x"}, "not both sdp and streamurl"),
        ({"streamurl": "webrtc://h/live/s"}, "not both sdp and streamurl"),
        ({"sdp": 1, "streamurl": "webrtc://h/live/s"}, "not both sdp and streamurl"),
        ({"sdp": "x", "streamurl": ["webrtc://h/live/s"]}, "not both sdp and streamurl"),
        ({"sdp": None, "streamurl": None}, "not both sdp and streamurl"),
        ({"sdp": "x", "streamurl": ""}, "is no URL"),
        ({"sdp": "x", "streamurl": "live/s"}, "is no URL"),
    ],
)
def test_an_offer_that_lacks_something_is_refused(body: dict[str, object], why: str) -> None:
    with pytest.raises(PeerError, match=why):
        read_json_offer(json.dumps(body).encode(), True, VHOSTS)


@pytest.mark.parametrize("escaped", [rb"\ud800", rb"\udcff", rb"\udc00\ud800"])
def test_a_name_with_half_a_character_is_refused(escaped: bytes) -> None:
    with pytest.raises(PeerError, match="half a character"):
        read_json_offer(b'{"sdp":"x","streamurl":"webrtc://h/live/%b"}' % escaped, True, VHOSTS)


def test_a_name_with_an_escaped_character() -> None:
    offer = read_json_offer(rb'{"sdp":"x","streamurl":"webrtc://h/live/\ud83c\udfa5"}', True, VHOSTS)
    assert offer.key.stream == "🎥"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=6,
)
members = st.sampled_from(["sdp", "streamurl", "code", "sessionid", "x"])
json_bodies = st.dictionaries(members, json_values | st.just("webrtc://h/live/s"), max_size=5).map(
    lambda body: json.dumps(body).encode()
)


@given(body=st.one_of(json_bodies, json_bodies.map(lambda body: body[:-2]), st.binary(max_size=60)))
def test_any_body_is_an_offer_or_a_peer_error(body: bytes) -> None:
    try:
        offer = read_json_offer(body, True, VHOSTS)
    except PeerError:
        return
    str(offer.key).encode("utf-8", "surrogateescape")


# The JSON API: answers


def test_only_the_sdp_of_an_answer_changes() -> None:
    body = b'{"code":0,"sdp":"v=0\\r\\n","sessionid":"a:b+/","x":{"sdp":"1","b":[1.5,null,true,"\\u00e9\\ud800"]}}'
    assert rewrite_json_answer(body, str.upper) == (body.replace(b"v=0", b"V=0"), "v=0\r\n")


def test_the_recorded_answer_of_the_json_api() -> None:
    body = http_body("rtc_play_legacy.response")
    passed_on, sdp = rewrite_json_answer(
        body, lambda sdp: rewrite_candidates(sdp, [CandidateAddress("192.0.2.1", 1, 2)])
    )
    before, after = json.loads(body), json.loads(passed_on)
    assert sdp == before["sdp"]
    assert "127.0.0.1" not in after["sdp"]
    assert ice_credentials(after["sdp"]) == ice_credentials(before["sdp"])
    assert list(after) == list(before)
    assert after | {"sdp": sdp} == before


@pytest.mark.parametrize("body", [b'{"code":400}', b' {"code": 400, "sdp": null}', b'{"code":"busy"}'])
def test_an_answer_that_says_what_went_wrong_is_passed_on(body: bytes) -> None:
    assert rewrite_json_answer(body, str.upper) == (body, None)


@pytest.mark.parametrize("body", [b"{}", b'{"code":0}', b'{"sdp":1}', b'{"code":0,"sdp":["v=0"]}'])
def test_an_answer_that_says_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="neither an SDP nor a code"):
        rewrite_json_answer(body, str.upper)


def test_what_is_wrong_with_the_sdp_of_an_answer_is_told() -> None:
    def refuse(sdp: str) -> str:
        raise LimitExceeded("too long")

    with pytest.raises(LimitExceeded, match="too long"):
        rewrite_json_answer(b'{"code":0,"sdp":"v=0"}', refuse)


def test_an_answer_is_rewritten_or_refused_however_deep_it_is() -> None:
    refused = []
    for depth in range(1, sys.getrecursionlimit()):
        body = b'{"sdp":"v=0","x":' + b"[" * depth + b"]" * depth + b"}"
        try:
            assert rewrite_json_answer(body, str.upper)[0] == body.replace(b"v=0", b"V=0")
        except PeerError:
            refused.append(depth)
    assert refused == list(range(refused[0], sys.getrecursionlimit()))


@given(body=json_bodies | st.binary(max_size=60))
def test_any_answer_is_passed_on_or_a_peer_error(body: bytes) -> None:
    try:
        passed_on, sdp = rewrite_json_answer(body, str)
    except PeerError:
        return
    if sdp is None:
        assert passed_on == body
    else:
        assert repr(json.loads(passed_on)) == repr(json.loads(body))  # NaN does not equal itself
