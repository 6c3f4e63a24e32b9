"""Stream keys. What is expected was seen on SRS 7.0.18 with a vhost test.com configured, besides the default one."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.streamkey import (
    DEFAULT_VHOST,
    StreamKey,
    fold_vhost,
    from_http,
    from_rtmp,
    from_webrtc_url,
    from_whip,
    requested_vhost,
    split_params,
    strip_extension,
)

VHOSTS = frozenset({"test.com"})
LIVE = "rtmp://127.0.0.1/live"
REFUSED = "refused"


def key_of(tc_url: str, stream: str) -> str:
    """The key as SRS writes it: without the default vhost's name."""
    try:
        return str(from_rtmp(tc_url, stream, VHOSTS)).removeprefix(DEFAULT_VHOST)
    except PeerError:
        return REFUSED


# The table of wire-facts 1.2, row by row.
TABLE = [
    ("rtmp://127.0.0.1/live", "s", "/live/s"),
    ("rtmp://127.0.0.1:1935/live", "s", "/live/s"),
    ("rtmp://localhost/live", "s", "/live/s"),
    ("rtmp://test/live", "s", "/live/s"),
    ("rtmp://[::1]/live", "s", "/live/s"),
    ("rtmp://[::1]:1935/live", "s", "/live/s"),
    ("rtmp://__defaultVhost__/live", "s", "/live/s"),
    ("rtmp://test.com/live", "s?token=1", "test.com/live/s"),
    ("rtmp://unknown.org/live", "s", "/live/s"),
    ("rtmp://TEST.com/live", "s", "/live/s"),
    ("rtmp://1.2.3.4.5/live", "s", "/live/s"),
    ("rtmp://127.0.0.1/live?vhost=test.com", "s", "test.com/live/s"),
    ("rtmp://127.0.0.1/live...vhost...test.com", "s", "test.com/live/s"),
    (LIVE, "s?vhost=test.com", "test.com/live/s"),
    (LIVE, "s?domain=test.com", "test.com/live/s"),
    (LIVE, "s?a=1,vhost=test.com", "test.com/live/s"),
    (LIVE, "s?t=1&vhost=test.com&x=2", "test.com/live/s"),
    ("rtmp://127.0.0.1/live?token=1", "s?vhost=test.com", "/live/s"),
    ("rtmp://127.0.0.1/live?token=1&vhost=test.com", "s?k=2", "/live/s"),
    ("rtmp://127.0.0.1/live?vhost=test.com&token=a/b", "s", "test.com/live/b"),
    ("rtmp://127.0.0.1/live#vhost=test.com", "s", "/live/s"),
    ("rtmp://test.com/live", "s?vhost=__defaultVhost__", "test.com/live/s"),
    ("rtmp://127.0.0.1/live/show/a", "s", "/live/show/a/s"),
    ("rtmp://127.0.0.1/live/show", "a/s", "/live/show/a/s"),
    ("rtmp://127.0.0.1/live/", "s", "/live/s"),
    (LIVE, "/s", "/live/s"),
    (LIVE, "s/", "/live/s"),
    ("rtmp://127.0.0.1", "s", "/__defaultApp__/s"),
    ("rtmp://127.0.0.1/live/s", "", "/live/s"),
    (LIVE, "s.flv", "/live/s"),
    (LIVE, "a.b.c", "/live/a.b"),
    (LIVE, "mp4:s.mp4", "/live/mp4:s"),
    (LIVE, "live stream", "/live/livestream"),
    (LIVE, "%E4%BD%A0", "/live/%E4%BD%A0"),
    (LIVE, "a%zz", "/live/a%zz"),
    ("rtmp://127.0.0.1/live/_definst_", "s", "/live/s"),
    ("rtmps://user:pw@test.com/live", "s", "test.com/live/s"),
]

# Everything else that was tried.
SEEN = [
    # case
    ("rtmp://test.com/live", "S", "test.com/live/S"),
    ("rtmp://test.com/Live", "s", "test.com/Live/s"),
    ("RTMP://test.com/live", "s", "test.com/live/s"),
    (LIVE, "s?vhost=TEST.com", "/live/s"),
    (LIVE, "s?Vhost=test.com", "/live/s"),
    # which parameter counts
    (LIVE, "s?vhost=&domain=test.com", "test.com/live/s"),
    (LIVE, "s?vhost=__defaultVhost__&domain=test.com", "/live/s"),
    ("rtmp://test.com/live", "s?vhost=", "test.com/live/s"),
    ("rtmp://test.com/live", "s?vhost=unknown.org", "/live/s"),
    (LIVE, "s?vhost=test.com&vhost=x.y", "/live/s"),
    (LIVE, "s?vhost=x.y&vhost=test.com", "test.com/live/s"),
    (LIVE, "s?vhost=/test.com/", "test.com/live/s"),
    ("rtmp://test.com/live?vhost=__defaultVhost__", "s?a=1", "test.com/live/s"),
    ("rtmp://__defaultVhost__:1935/live", "s?vhost=test.com", "test.com/live/s"),
    # how a query is split
    (LIVE, "s?a&vhost=test.com", "/live/s"),
    (LIVE, "s?a=&vhost=test.com", "test.com/live/s"),
    (LIVE, "s?&vhost=test.com", "/live/s"),
    (LIVE, "s?a=1&&vhost=test.com", "test.com/live/s"),
    (LIVE, "s?a=1;vhost=test.com", "test.com/live/s"),
    (LIVE, "s?a=b=c&vhost=test.com", "/live/s"),
    (LIVE, "s?vhost=test.com?a=1", "/live/s"),
    (LIVE, "s?a=1?vhost=test.com", "test.com/live/s"),
    (LIVE, "s?a=1?b=2?vhost=test.com", "/live/s"),
    (LIVE, "s?vhost=test.com#x", "test.com/live/s"),
    (LIVE, "s#?vhost=test.com", "/live/s"),
    (LIVE, "s?", "/live/s"),
    # two queries
    ("rtmp://127.0.0.1/live?vhost=test.com", "s?b=1", "/live/s"),
    ("rtmp://127.0.0.1/live?vhost=test.com", "a/s", "/live/s"),
    ("rtmp://127.0.0.1/live...vhost...test.com", "s?k=1", "/live/s"),
    ("rtmp://127.0.0.1/live#frag", "s?vhost=test.com", "/live/s"),
    ("rtmp://127.0.0.1/live?u=http://x/y&vhost=test.com", "s", "test.com/live/y&vhost=test"),
    # slashes
    ("rtmp://127.0.0.1//live", "s", "/live/s"),
    ("rtmp://127.0.0.1/live//", "s", "/live/s"),
    (LIVE, "//s", "/live/s"),
    (LIVE, "s//", "/live/s"),
    ("rtmp://127.0.0.1/live/show", "s/", "/live/show/s"),
    (LIVE, "s?u=http://x/y", "/live/s/y"),
    (LIVE, "a/../b", "/live/a/../b"),
    # the stream in tcUrl, or in its query
    ("rtmp://127.0.0.1/live/s", "?vhost=test.com", "test.com/live/s"),
    ("rtmp://127.0.0.1/live/s?vhost=test.com", "", "test.com/live/s"),
    ("rtmp://127.0.0.1/a/b/c/d", "", "/a/b/c/d"),
    ("rtmp://127.0.0.1/live?vhost=test.com/", "s", "test.com/live/s?vhost=test"),
    ("rtmp://127.0.0.1/live?x=a/b/", "s", "/live/b//s?x=a/b"),
    ("rtmp://127.0.0.1?vhost=test.com", "s", "test.com/__defaultApp__/s"),
    # extensions
    (LIVE, ".flv", "/live/"),
    (LIVE, "s.", "/live/s"),
    ("rtmp://127.0.0.1/live.x/show", "b.c/", "/live.x/show/b"),
    # _definst_
    ("rtmp://127.0.0.1/live/_definst_x", "s", "/livex/s"),
    (LIVE, "_definst_", "/__defaultApp__/live"),
    ("rtmp://127.0.0.1/live/_definst_?vhost=test.com", "s", "test.com/live/s"),
    # names that make no URL keep their parameters, and lose the vhost among them
    ("rtmp://test.com/live", "中文?token=a.b", "test.com/live/中文?token=a"),
    (LIVE, "中文?vhost=test.com", "/live/中文?vhost=test"),
    ("rtmp://127.0.0.1/live?vhost=test.com", "s t?a=1", "test.com/live/st?a=1"),
    ("rtmp://127.0.0.1/live/show", "中 文/a", "/live/show/中文/a"),
    (LIVE, "s?vhost= test.com", "/live/s?vhost=test"),
    (LIVE, "\udcff\udcfe", "/live/\udcff\udcfe"),
    # URLs
    ("rtmp://127.0.0.1:0/live", "s", "/live/s"),
    ("rtmp://127.0.0.1:65535/live", "s", "/live/s"),
    ("rtmp://127.0.0.1:000001935/live", "s", "/live/s"),
    ("http://test.com/live", "s", "test.com/live/s"),
    ("rtmp://test.com@127.0.0.1/live", "s", "/live/s"),
    ("rtmp://:@test.com/live", "s", "test.com/live/s"),
    # refused
    (LIVE, "", REFUSED),
    (LIVE, "/", REFUSED),
    (LIVE, " ", REFUSED),
    (LIVE, "?vhost=test.com", REFUSED),
    ("rtmp://127.0.0.1/live/s", " ", REFUSED),
    ("rtmp://127.0.0.1", "", REFUSED),
    ("rtmp://127.0.0.1", "s/", REFUSED),
    ("rtmp://127.0.0.1", "/_definst_", REFUSED),
    ("rtmp://127.0.0.1///", "s", REFUSED),
    ("rtmp://127.0.0.1:99999/live", "s", REFUSED),
    ("rtmp://127.0.0.1:65536/live", "s", REFUSED),
    ("rtmp://127.0.0.1:/live", "s", REFUSED),
    ("rtmp://127.0.0.1:abc/live", "s", REFUSED),
    ("rtmp://127.0.0.1:1935:1935/live", "s", REFUSED),
    ("rtmp:///live", "s", REFUSED),
    ("rtmp://:1935/live", "s", REFUSED),
    ("rtmp:/127.0.0.1/live", "s", REFUSED),
    ("127.0.0.1/live", "s", REFUSED),
    ("/live", "s", REFUSED),
    ("", "s", REFUSED),
    ("rt_mp://test.com/live", "s", REFUSED),
    ("rtmp://te_st.com/live", "s", REFUSED),
    ("rtmp://a@b@test.com/live", "s", REFUSED),
    ("rtmp://[::1/live", "s", REFUSED),
    ("rtmp://::1/live", "s", REFUSED),
    ("rtmp://127.0.0.1 /live", "s", REFUSED),
    ("rtmp://127.0.0.1/li ve", "s", REFUSED),
    ("rtmp://127.0.0.1/中文", "s", REFUSED),
]


@pytest.mark.parametrize(("tc_url", "stream", "expected"), TABLE)
def test_a_row_of_the_table(tc_url: str, stream: str, expected: str) -> None:
    assert key_of(tc_url, stream) == expected


@pytest.mark.parametrize(("tc_url", "stream", "expected"), SEEN)
def test_what_srs_was_seen_to_do(tc_url: str, stream: str, expected: str) -> None:
    assert key_of(tc_url, stream) == expected


def test_a_key_is_written_with_its_vhost() -> None:
    assert str(from_rtmp(LIVE, "s", VHOSTS)) == "__defaultVhost__/live/s"
    assert str(StreamKey("test.com", "live", "s")) == "test.com/live/s"


def test_keys_are_equal_wherever_the_client_put_the_border() -> None:
    keys = {
        from_rtmp("rtmp://127.0.0.1/live/show", "s", VHOSTS),
        from_rtmp("rtmp://127.0.0.1/live", "show/s", VHOSTS),
        from_rtmp("rtmp://127.0.0.1/live/show/s", "", VHOSTS),
        from_rtmp("rtmp://127.0.0.1/live", "show/s/", VHOSTS),
    }
    assert keys == {StreamKey(DEFAULT_VHOST, "live/show", "s")}


def test_without_configured_vhosts_all_hosts_are_one() -> None:
    assert from_rtmp("rtmp://a.example/live", "s?vhost=b.example", frozenset()) == from_rtmp(LIVE, "s", frozenset())


def test_an_error_tells_what_the_client_sent() -> None:
    with pytest.raises(PeerError, match="tcUrl 'live' is not usable"):
        from_rtmp("live", "s", VHOSTS)
    with pytest.raises(PeerError, match=r"'rtmp://127\.0\.0\.1/live' with stream name '' names no stream"):
        from_rtmp(LIVE, "", VHOSTS)


def test_an_error_does_not_tell_more_than_a_person_would_read() -> None:
    for tc_url, stream in (("x" * 100_000, "s"), ("rtmp://127.0.0.1/" + "/" * 100_000, " " * 100_000)):
        with pytest.raises(PeerError) as caught:
            from_rtmp(tc_url, stream, VHOSTS)
        assert len(str(caught.value)) < 500


def test_requested_vhost() -> None:
    assert requested_vhost("host", {}) == "host"
    assert requested_vhost("host", {"domain": "d"}) == "d"
    assert requested_vhost("host", {"domain": "d", "vhost": "v"}) == "v"
    assert requested_vhost("host", {"domain": "d", "vhost": ""}) == "d"
    assert requested_vhost("host", {"domain": "d", "vhost": DEFAULT_VHOST}) == "host"


def test_fold_vhost() -> None:
    assert fold_vhost("test.com", VHOSTS) == "test.com"
    assert fold_vhost("Test.com", VHOSTS) == DEFAULT_VHOST
    assert fold_vhost("", VHOSTS) == DEFAULT_VHOST


def test_split_params() -> None:
    assert split_params("") == {"": ""}
    assert split_params("a=1&b=2") == {"a": "1", "b": "2"}
    assert split_params("a=1,b=2;c=3&&d=4") == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert split_params("a=1&a=2") == {"a": "2"}
    assert split_params("a&b=1") == {"a": "b", "1": ""}
    assert split_params("a=%20") == {"a": "%20"}


def test_strip_extension() -> None:
    assert [strip_extension(name) for name in ("s", "s.flv", "a.b.c", ".flv", "")] == ["s", "s", "a.b", "", ""]


# What SRS's reading turns on.
_WORDS = [
    "/",
    "?",
    "#",
    "&",
    "=",
    ".",
    " ",
    "a",
    "vhost",
    "test.com",
    "_definst_",
    "...vhost...",
    ":",
    "@",
    "中",
    "\udcff",
]


@given(
    st.lists(st.sampled_from(_WORDS)).map(lambda words: "rtmp://127.0.0.1/live" + "".join(words)) | st.text(),
    st.lists(st.sampled_from(_WORDS)).map("".join) | st.text(),
)
def test_any_names_give_a_key_or_a_peer_error(tc_url: str, stream: str) -> None:
    try:
        key = from_rtmp(tc_url, stream, VHOSTS)
    except PeerError:
        return
    assert key.vhost in {DEFAULT_VHOST, *VHOSTS}
    assert key.app
    assert "/" not in key.stream
    assert not key.app.startswith("/")


def test_a_long_hostile_name_takes_little_time() -> None:
    """The largest message that the proxy parses is 128 KB; were the time quadratic, this would take minutes."""
    start = process_time()
    for word in _WORDS:
        many = word * (100_000 // len(word))
        for tc_url, stream in ((LIVE + many, "s"), (LIVE, many), ("rtmp://" + many, "s"), (many, many)):
            key_of(tc_url, stream)
    assert process_time() - start < 10


# HTTP: the table of wire-facts 1.3, row by row, and what else was tried. The host is without its port here.
HTTP = [
    ("test.com", "/live/s.flv", "", "test.com/live/s"),
    ("127.0.0.1", "/live/s.flv", "vhost=test.com", "test.com/live/s"),
    ("127.0.0.1", "/live/s.flv", "domain=test.com", "test.com/live/s"),
    ("unknown.org", "/live/s.flv", "", "/live/s"),
    ("127.0.0.1", "/live/s.flv", "app=o&stream=z", "/live/s"),
    ("test.com", "/live/s.flv", "app=o&stream=z", "test.com/live/s"),
    ("127.0.0.1", "/live/a%20b.flv", "", "/live/a%20b"),
    ("", "/live/s.flv", "", "/live/s"),
    # every extension is dropped, but only one
    *(("", f"/live/s.{extension}", "", "/live/s") for extension in ("ts", "aac", "mp3", "m3u8", "FLV")),
    ("", "/live/a.b.flv", "", "/live/a.b"),
    ("", "/live.x/s", "", "/live.x/s"),
    # case
    ("TEST.com", "/live/s.flv", "", "/live/s"),
    ("", "/live/s.flv", "vhost=TEST.com", "/live/s"),
    ("", "/live/s.flv", "Vhost=test.com", "/live/s"),
    ("", "/Live/S.flv", "", "/Live/S"),
    # which parameter counts; __defaultVhost__ does, as it does not in RTMP
    ("test.com", "/live/s.flv", "vhost=__defaultVhost__", "/live/s"),
    ("test.com", "/live/s.flv", "domain=__defaultVhost__", "/live/s"),
    ("test.com", "/live/s.flv", "vhost=", "test.com/live/s"),
    ("test.com", "/live/s.flv", "vhost=unknown", "/live/s"),
    ("test.com", "/live/s.flv", "domain=unknown", "/live/s"),
    ("", "/live/s.flv", "vhost=&domain=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "vhost=x&domain=test.com", "/live/s"),
    ("", "/live/s.flv", "vhost=__defaultVhost__&domain=test.com", "/live/s"),
    ("", "/live/s.flv", "vhost=x&vhost=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "vhost=test.com&vhost=x", "/live/s"),
    ("", "/live/s.flv", "vhost=/test.com/", "/live/s"),
    ("", "/live/s.flv", "vhost=test.com:80", "/live/s"),
    # how a query is split
    ("", "/live/s.flv", "a=1;vhost=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "a=1,vhost=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "a=1&&vhost=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "a=&vhost=test.com", "test.com/live/s"),
    ("", "/live/s.flv", "a&vhost=test.com", "/live/s"),
    ("", "/live/s.flv", "&vhost=test.com", "/live/s"),
    ("", "/live/s.flv", "a=b=c&vhost=test.com", "/live/s"),
    ("", "/live/s.flv", "?vhost=test.com", "/live/s"),
    ("", "/live/s.flv", "a=1?vhost=test.com", "/live/s"),
    ("", "/live/s.flv", "vhost=test.com?a=1", "/live/s"),
    ("", "/live/s.flv", "vhost=t%65st.com", "/live/s"),
    # paths of another depth than SRS's templates have
    ("", "/live/show/x.flv", "", "/live/show/x"),
    ("", "/x.flv", "", "/__defaultApp__/x"),
    ("", "//x.flv", "", "/__defaultApp__/x"),
    ("", "//live/x.flv", "", "/live/x"),
    ("", "/live///x.m3u8", "", "/live/x"),
    ("", "/test.com/live/x.flv", "", "/test.com/live/x"),
    # what names no stream
    ("", "", "", REFUSED),
    ("", "/", "", REFUSED),
    ("", "/live/", "", REFUSED),
    ("", "/live/.flv", "", REFUSED),
]


@pytest.mark.parametrize(("host", "path", "query", "expected"), HTTP)
def test_the_stream_of_a_path(host: str, path: str, query: str, expected: str) -> None:
    try:
        key = str(from_http(host, path, split_params(query), VHOSTS)).removeprefix(DEFAULT_VHOST)
    except PeerError:
        key = REFUSED
    assert key == expected


@given(st.text(), st.lists(st.sampled_from(_WORDS)).map("".join) | st.text(), st.text())
def test_any_path_gives_a_key_or_a_peer_error(host: str, path: str, query: str) -> None:
    try:
        key = from_http(host, path, split_params(query), VHOSTS)
    except PeerError:
        return
    assert key.vhost in {DEFAULT_VHOST, *VHOSTS}
    assert key.app
    assert key.stream
    assert "/" not in key.stream


@given(st.lists(st.from_regex("[ab-][ab.-]*", fullmatch=True), min_size=2, max_size=4))
def test_a_path_has_the_key_of_the_stream_that_was_published_over_rtmp(parts: list[str]) -> None:
    path = "/".join(parts)
    published = from_rtmp(f"rtmp://127.0.0.1/{parts[0]}", f"{path.partition('/')[2]}.x", VHOSTS)
    assert from_http("127.0.0.1", f"/{path}.flv", {}, VHOSTS) == published


# WebRTC: the table of wire-facts 1.4, and what else was tried. WHIP and WHEP are in tests/webrtc/test_offer.py too.


@pytest.mark.parametrize(
    ("host", "params", "expected"),
    [
        ("127.0.0.1", {}, "/live/livestream"),
        ("test.com", {"stream": "s"}, "test.com/live/s"),
        ("test.com", {"app": "a", "stream": "s.flv", "vhost": DEFAULT_VHOST}, "/a/s"),
        ("", {"app": "a/b", "stream": "c.d/e", "domain": "test.com"}, "test.com/a/b/c"),
        ("", {"app": " /a/ ", "stream": " s "}, "/ /a/ / s "),
        ("", {"stream": ".flv"}, "/live/"),
    ],
)
def test_the_stream_of_a_whip_client(host: str, params: dict[str, str], expected: str) -> None:
    assert str(from_whip(host, params, VHOSTS)).removeprefix(DEFAULT_VHOST) == expected


WEBRTC_URLS = [
    ("webrtc://127.0.0.1/live/s", "/live/s"),
    ("webrtc://127.0.0.1:1985/live/s", "/live/s"),
    ("webrtc://test.com/live/s", "test.com/live/s"),
    ("webrtc://[::1]/live/s", "/live/s"),
    ("webrtc://user:pw@test.com/live/s", "test.com/live/s"),
    ("http://127.0.0.1/live/s", "/live/s"),
    # parameters
    ("webrtc://127.0.0.1/live/s?vhost=test.com", "test.com/live/s"),
    ("webrtc://127.0.0.1/live/s?domain=test.com", "test.com/live/s"),
    ("webrtc://127.0.0.1/live/s?token=1&vhost=test.com", "test.com/live/s"),
    ("webrtc://127.0.0.1/live?vhost=test.com/s", "test.com/live/s"),
    ("webrtc://127.0.0.1/live...vhost...test.com/s", "test.com/live/s"),
    ("webrtc://test.com/live/s?vhost=__defaultVhost__", "test.com/live/s"),
    ("webrtc://127.0.0.1/live?a=1/s?vhost=test.com", "/live/s"),
    ("webrtc://127.0.0.1/live/s?token=a/b", "/live/s/b"),
    ("webrtc://127.0.0.1/live/s#vhost=test.com", "/live/s"),
    # names
    ("webrtc://127.0.0.1/live/s.flv", "/live/s"),
    ("webrtc://127.0.0.1/live/show/s", "/live/show/s"),
    ("webrtc://127.0.0.1/live/_definst_/s", "/live/s"),
    ("webrtc://127.0.0.1/live/a%20b", "/live/a%20b"),
    ("webrtc://127.0.0.1/s", "/__defaultApp__/s"),
    # nothing is trimmed, as it is in RTMP
    ("webrtc://127.0.0.1//live//s", "//live//s"),
    ("webrtc://127.0.0.1/live/s/", "/live/s/"),
    # what SRS cannot read
    ("webrtc://127.0.0.1/live/a b", "//a b"),
    ("webrtc://127.0.0.1/live/你", "//你"),
    ("webrtc://test.com:99999/live/s", "//s"),
    ("webrtc2://test.com/live/s", "//s"),
    ("webrtc:///live/s.flv", "//s"),
    # what is no URL
    ("/live/s", "/live/s"),
    ("/live/s?vhost=test.com", "test.com/live/s"),
    ("live/s", REFUSED),
    ("s", REFUSED),
    ("", REFUSED),
]


@pytest.mark.parametrize(("url", "expected"), WEBRTC_URLS)
def test_the_stream_of_a_webrtc_url(url: str, expected: str) -> None:
    try:
        key = str(from_webrtc_url(url, VHOSTS)).removeprefix(DEFAULT_VHOST)
    except PeerError:
        key = REFUSED
    assert key == expected


@given(st.lists(st.sampled_from(_WORDS)).map(lambda words: "webrtc://h/live" + "".join(words)) | st.text())
def test_any_url_gives_a_key_or_a_peer_error(url: str) -> None:
    try:
        key = from_webrtc_url(url, VHOSTS)
    except PeerError:
        return
    assert key.vhost in {DEFAULT_VHOST, *VHOSTS}
    assert "/" not in key.stream


@given(st.lists(st.from_regex("[ab-][ab.-]*", fullmatch=True), min_size=2, max_size=4))
def test_webrtc_has_the_key_of_the_stream_that_was_published_over_rtmp(parts: list[str]) -> None:
    app, _, stream = "/".join(parts).rpartition("/")
    published = from_rtmp(f"rtmp://test.com/{app}", f"{stream}.x", VHOSTS)
    assert from_webrtc_url(f"webrtc://test.com/{app}/{stream}.y", VHOSTS) == published
    assert from_whip("test.com", {"app": app, "stream": f"{stream}.z"}, VHOSTS) == published
