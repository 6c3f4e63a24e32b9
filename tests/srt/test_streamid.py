"""SRT stream ids: which stream is meant, and whether it is published or played.

What is expected was seen on SRS 7.0.18 with a vhost test.com configured, besides the default one.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.srt.streamid import BadMode, StreamTarget, read_stream_id
from srsproxy.streamkey import DEFAULT_VHOST, StreamKey, from_rtmp

VHOSTS = frozenset({"test.com"})


def key(stream_id: str | None) -> str:
    """The key as SRS writes it, without the default vhost's name."""
    return str(read_stream_id(stream_id, VHOSTS).key).removeprefix(DEFAULT_VHOST)


def test_a_stream_id() -> None:
    assert read_stream_id("#!::h=test.com,r=live/s,m=publish", VHOSTS) == StreamTarget(
        key=StreamKey("test.com", "live", "s"), action="publish"
    )


# Which stream


@pytest.mark.parametrize(
    ("stream_id", "expected"),
    [
        ("#!::r=live/s,m=publish", "/live/s"),
        ("#!::m=publish,r=live/s", "/live/s"),
        ("#!::r=live/s?token=1,m=publish", "/live/s"),
        ("#!::r=live/s,token=1,m=publish", "/live/s"),
        ("#!::token=1,m=publish,r=live/s", "/live/s"),
        ("#!::h=test.com,r=live/s", "test.com/live/s"),
        ("#!::h=127.0.0.1,r=live/s", "/live/s"),
        ("#!::h=unknown.org,r=live/s", "/live/s"),
        ("#!::h=live/s", "/live/s"),
        ("#!::h=test.com/live/s", "test.com/live/s"),
        ("live/s", "/live/s"),
        ("s", "/live/s"),
        ("live/s?token=1", "/live/s"),
        ("", "/live/livestream"),
        (None, "/live/livestream"),
        ("#!::auth=x.y.z,r=live/s", "/live/s"),
        ("#!::user=bob,r=live/s", "/live/s"),
        ("#!::r=s", "/live/s"),
        ("#!::r=live/s.flv", "/live/s"),
        ("#!::r=live/s&m=publish", "/live/s"),
        ("#!::r=live/s;m=publish", "/live/s"),
        ("#!::r=/live/s", "//live/s"),
    ],
)
def test_the_stream_of_usual_ids(stream_id: str | None, expected: str) -> None:
    assert key(stream_id) == expected


@pytest.mark.parametrize(
    ("stream_id", "expected"),
    [
        # h
        ("#!::h=,r=live/s", "/live/s"),
        ("#!::h=TEST.com,r=live/s", "/live/s"),
        ("#!::h=test.com:1,r=live/s", "/live/s"),
        ("#!::h=__defaultVhost__,r=live/s", "/live/s"),
        ("#!::h=/live/s", "/live/s"),
        ("#!::h=live/", "/live/"),
        ("#!::h=test.com/live/", "test.com/live/"),
        ("#!::h=test.com/live/a/s", "test.com/live/a/s"),
        ("#!::h=unknown.org/live/s", "/live/s"),
        # r goes before h, and leaves its vhost
        ("#!::h=live/s,r=b", "/live/b"),
        ("#!::r=b,h=live/s", "/live/b"),
        ("#!::h=test.com/live/s,r=a/b", "test.com/a/b"),
        # r
        ("#!::r=live//s", "/live//s"),
        ("#!::r=live/s/", "/live/s/"),
        ("#!::r=live/a b", "/live/a b"),
        ("#!::r=live/a/s", "/live/a/s"),
        ("#!::r=live/a/b.c/d", "/live/a/b"),
        ("#!::r=live%2Fs", "/live/live%2Fs"),
        ("#!::r=live/你", "/live/你"),
        ("#!::r=live/\udcffs", "/live/\udcffs"),
        ("#!::r=live/s\t", "/live/s\t"),
        ("#!::r=#!::r", "/live/#!::r"),
        # how it is split; the last of equal keys counts
        ("#!::r=live/s&&m=publish", "/live/s"),
        ("#!::r=live/s?token=1?m=publish", "/live/s"),
        ("#!::r=live/s,r=live/t", "/live/t"),
        ("#!::r=live/t,h=test.com,h=unknown.org", "/live/t"),
        ("#!::r=live/s,m=publish,token", "/live/s"),
        ("#!::token,,r=live/s", "/live/s"),
        # what names no vhost
        ("#!::r=live/s,vhost=test.com", "/live/s"),
        ("#!::r=live/s?vhost=test.com", "/live/s"),
        ("#!::r=live/s,domain=test.com", "/live/s"),
        ("#!::r=live/s, h=test.com", "/live/s"),
        ("#!::r=live/s,H=test.com", "/live/s"),
        ("live/s?vhost=test.com", "/live/s"),
        ("test.com/live/s", "/test.com/live/s"),
        # a resource without a slash and a parameter with one
        ("#!::r=s,k=a/b", "/s?k=a/b"),
        ("#!::r=s,k=a/b,z=1,A=2", "/s?A=2&k=a/b&z=1"),
        ("#!::r=s,h=test.com,k=a/b", "test.com/s?vhost=test.com&k=a/b"),
        ("#!::h=,r=s,z=a/b", "/s?vhost=&z=a/b"),
        ("#!::r=s,h=a/b,k=c/d", "/s?k=c/d"),
        ("#!::r=s,m=publish,k=c/d", "/s?k=c/d"),
        ("#!::r=live/s,k=a/b", "/live/s"),
        # other forms
        ("s.flv", "/live/s"),
        ("live/a.b/c", "/live/a"),
        ("a/b/c", "/a/b/c"),
        ("/live/s", "//live/s"),
        ("//s", "///s"),
        ("/", "//"),
        ("live/", "/live/"),
        (" live/s", "/ live/s"),
        ("?", "/live/"),
        ("s?a", "/live/s"),
        ("s?a.b", "/live/s"),
        ("s?a/b", "/s?a/b"),
        ("live/s?a.b", "/live/s"),
        ("#!:r=live/s", "/#!:r=live/s"),
        ("x#!::r=live/s", "/x#!::r=live/s"),
    ],
)
def test_the_stream_of_unusual_ids(stream_id: str, expected: str) -> None:
    assert key(stream_id) == expected


@pytest.mark.parametrize(
    "stream_id",
    [
        "#!::",
        "#!::x",
        "#!::=",
        "#!::x=1",
        "#!::m=publish",
        "#!::h=",
        "#!::h=test.com",
        "#!::h=live/s,r=",
        "#!::R=live/s",
        "#!:: r=live/s",
        "#!::r==live/s",
        "#!::r=?x",
        # A key without a value takes the next key for its value.
        "#!::live,r=live/s",
        "#!::?r=live/s",
        "#!::,r=live/s",
    ],
)
def test_what_names_no_stream_is_refused(stream_id: str) -> None:
    with pytest.raises(PeerError, match="names no stream") as refusal:
        read_stream_id(stream_id, VHOSTS)
    assert not isinstance(refusal.value, BadMode)


def test_an_error_tells_no_more_than_the_beginning_of_a_stream_id() -> None:
    for stream_id in ("#!::" + "x" * 508, "#!::m=" + "x" * 506):
        with pytest.raises(PeerError) as refusal:
            read_stream_id(stream_id, VHOSTS)
        assert len(str(refusal.value)) < 300


# What is wanted


@pytest.mark.parametrize(
    ("stream_id", "expected"),
    [
        ("#!::r=live/s,m=publish", "publish"),
        ("#!::r=live/s,m=Publish", "publish"),
        ("#!::m=PUBLISH,r=live/s", "publish"),
        ("#!::r=live/s?m=publish", "publish"),
        ("#!::h=live/s?secret=1,m=publish", "publish"),
        ("#!::r=live/s,m=request", "play"),
        ("#!::r=live/s,m=REQUEST", "play"),
        ("#!::r=live/s,m=publish,m=request", "play"),
        ("#!::r=live/s", "play"),
        ("#!::r=live/s, m=publish", "play"),
        ("#!::r=live/s,M=publish", "play"),
        ("live/s", "play"),
        ("live/s?m=publish", "play"),
        ("live/s,m=publish", "play"),
        ("", "publish"),
        (None, "publish"),
    ],
)
def test_who_publishes(stream_id: str | None, expected: str) -> None:
    assert read_stream_id(stream_id, VHOSTS).action == expected


@pytest.mark.parametrize(
    "stream_id",
    [
        "#!::r=live/s,m=bidirectional",
        "#!::r=live/s,m=publish ",
        "#!::r=live/s,m=",
        "#!::r=live/s,m",
        "#!::r=live/s,m=publish,m=x",
        "#!::m=x",
    ],
)
def test_another_mode_is_refused(stream_id: str) -> None:
    with pytest.raises(BadMode, match="neither publish nor request"):
        read_stream_id(stream_id, VHOSTS)


# Any input

words = st.sampled_from(
    ["#!::", "h=", "r=", "m=", "publish", "test.com", "live", "/", "?", ",", "&", ";", "=", ".", "k"]
)
"""What stream ids are made of, and so many that many of them are usable."""


@given(st.text(max_size=64) | st.lists(words, max_size=16).map("".join))
def test_any_stream_id_is_a_target_or_a_peer_error(text: str) -> None:
    for stream_id in (text, f"#!::{text}", f"#!::r=live/s,{text}"):
        with suppress(PeerError):
            target = read_stream_id(stream_id, VHOSTS)
            assert target.key.vhost in {DEFAULT_VHOST, *VHOSTS}
            assert "/" not in target.key.stream
            assert target.action in ("publish", "play")


@given(st.lists(st.from_regex("[ab-][ab.-]*", fullmatch=True), min_size=2, max_size=4))
def test_srt_has_the_key_of_the_stream_that_was_published_over_rtmp(parts: list[str]) -> None:
    # SRT's app ends at the first slash, so that a dot in what RTMP has in its app may end the stream's name.
    app, *folders = parts
    path = "/".join([app, *(folder.replace(".", "-") for folder in folders[:-1]), folders[-1]])
    app, _, stream = path.rpartition("/")
    published = from_rtmp(f"rtmp://test.com/{app}", f"{stream}.x", VHOSTS)
    for stream_id in (f"#!::h=test.com,r={path}.y,m=publish", f"#!::h=test.com/{path}.z?token=a.b"):
        assert read_stream_id(stream_id, VHOSTS).key == published
    assert read_stream_id(f"{path}.x?a.b", VHOSTS).key == StreamKey(DEFAULT_VHOST, published.app, published.stream)
