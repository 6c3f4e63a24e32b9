"""Request targets: what is meant by them, and what an origin is asked."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.http.target import MAX_KEYS, Kind, Target, read_target
from srsproxy.streamkey import DEFAULT_VHOST

HOST = b"127.0.0.1:8080"
VHOSTS = frozenset({"test.com", "b.org"})
PIN = "0123456789abcd-_"


def read(target: str, vhosts: frozenset[str] = frozenset(), host: bytes = HOST) -> Target:
    return read_target(target.encode(), host, vhosts)


def short(keys: tuple[str, ...]) -> list[str]:
    """Keys as SRS writes them: without the default vhost's name."""
    return [key.removeprefix(f"{DEFAULT_VHOST}/") for key in keys]


def pinned(target: str) -> Target:
    return read(f"{target}?spbhid={PIN}")


# What is meant


@pytest.mark.parametrize("extension", ["flv", "ts", "aac", "mp3"])
def test_a_live_stream(extension: str) -> None:
    assert read(f"/live/s.{extension}?token=1") == Target(
        kind=Kind.LIVE,
        format=extension,
        keys=("__defaultVhost__/live/s",),
        pin=None,
        needs_pin=False,
        forwarded=f"/live/s.{extension}?token=1".encode(),
        path=f"/live/s.{extension}".encode(),
        authority=HOST,
    )


def test_a_playlist() -> None:
    target = read("/live/s-1.m3u8?hls_ctx=abcd1234")
    assert (target.kind, target.format, short(target.keys)) == (Kind.PLAYLIST, "hls", ["live/s-1"])
    assert target.key == target.keys[0]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        # G28: in the Go proxy, none of these leads to an origin.
        ("/live/s-3.key", ["live/s", "live/s-3"]),
        ("/live/s.key", ["live/s"]),
        ("/live/s.mpd", ["live/s"]),
        ("/live/cam-1.mpd", ["live/cam-1"]),
        ("/live/s/video-1.m4s", ["live/s", "live/s/video", "live/s/video-1"]),
        ("/live/s/audio-12.m4s", ["live/s", "live/s/audio", "live/s/audio-12"]),
        ("/live/s/audio-init.mp4", ["live/s", "live/s/audio", "live/s/audio-init"]),
        ("/live/cam-1/video-init.mp4", ["live/cam-1", "live/cam-1/video", "live/cam-1/video-init"]),
        ("/live/video-1.m4s", ["live/video", "live/video-1"]),
        ("/live/s-init.mp4", ["live/s", "live/s-init"]),
        ("/live/s-7.m4s", ["live/s", "live/s-7"]),
        ("/live/s/1080-7.cmfv", ["live/s/1080", "live/s/1080-7"]),
        ("/live/s-7.cmfa", ["live/s", "live/s-7"]),
        ("/live/s-7.m4v", ["live/s", "live/s-7"]),
        ("/live/s-7.m4a", ["live/s", "live/s-7"]),
        ("/live/s-7.vtt", ["live/s", "live/s-7"]),
        ("/live/cam-1-57.m4s", ["live/cam-1", "live/cam", "live/cam-1-57"]),
        ("/live/s-2024-01-02-57.m4s", ["live/s-2024-01-02", "live/s-2024-01", "live/s-2024", "live/s-2024-01-02-57"]),
        ("/live/-7.m4s", ["live/-7"]),
        ("/live/s-x7.m4s", ["live/s-x7"]),
        ("/live/s7.m4s", ["live/s7"]),
        ("/live-1/7.m4s", ["live-1/7"]),
    ],
)
def test_a_file_belongs_to_the_stream_that_its_name_begins_with(path: str, keys: list[str]) -> None:
    target = read(path)
    assert (target.kind, target.format, short(target.keys)) == (Kind.FILE, "hls", keys)
    assert target.key == target.keys[0]
    assert target.kind_of(target.keys[-1]) is Kind.FILE


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/api/v1/versions",
        "/live/s",
        "/live/flv",
        "/live.flv/",
        "/live.flv/s",
        "/live/s.FLV",
        "/live/s.M3U8",
        "/live/s.mp4",
        "/live/s.flv.",
        "//",
    ],
)
def test_anything_else_is_local(path: str) -> None:
    target = read(f"{path}?a=1")
    assert (target.kind, target.format, target.keys) == (Kind.LOCAL, "", ())
    assert target.path == path.encode()
    assert target.forwarded == f"{path}?a=1".encode()


@pytest.mark.parametrize("path", ["/api/v1/x", "//api/v1/x", "/rtc/v1/x", "/console/x", "///console/x", "/metrics"])
@pytest.mark.parametrize("extension", ["", ".flv", ".m3u8", ".key", ".ts", ".html", "-init.mp4"])
def test_what_controls_an_origin_is_local_whatever_it_is_called(path: str, extension: str) -> None:
    if path != "/metrics":
        path += extension
    for target in (read(path), pinned(path), read(f"http://test{path}?spbhid=x")):
        assert (target.kind, target.keys, target.needs_pin) == (Kind.LOCAL, (), False)
        assert target.path == path.encode()


def test_names_that_only_resemble_those_are_streams() -> None:
    for path in ("/apis/v1/x.flv", "/API/x.flv", "/live/api/x.flv", "/metrics.flv", "/metrics/x.flv", "/api.flv"):
        assert read(path).kind is Kind.LIVE
    assert pinned("/live/metrics").kind is Kind.FILE


def test_only_a_pin_makes_a_file_of_some_names() -> None:
    assert pinned("/any/page.html").needs_pin
    for path in ("/live/s-1.ts", "/live/s.key", "/live/s-init.mp4", "/live/s.m3u8", "/live/s.aac"):
        assert not pinned(path).needs_pin


# Names that may mean one thing or another


def test_a_ts_file_with_a_number_may_be_a_live_stream_or_a_segment() -> None:
    # G30: in the Go proxy, each segment becomes a stream with an origin of its own.
    target = read("/live/cam-1.ts")
    assert short(target.keys) == ["live/cam-1", "live/cam"]
    assert target.kind_of("__defaultVhost__/live/cam-1") is Kind.LIVE
    assert target.kind_of("__defaultVhost__/live/cam") is Kind.FILE
    assert target.key == "__defaultVhost__/live/cam"


def test_segments_of_an_unknown_stream_have_one_key() -> None:
    assert {read(f"/live/cam-1-{number}.ts").key for number in range(100)} == {"__defaultVhost__/live/cam-1"}


def test_only_ts_is_ambiguous() -> None:
    for extension in ("flv", "aac", "mp3"):
        assert short(read(f"/live/cam-1.{extension}").keys) == ["live/cam-1"]


def test_a_pinned_path_is_a_file_unless_it_is_a_playlist() -> None:
    for extension in ("ts", "aac", "mp3", "mp4", "webvtt", "FLV"):
        target = pinned(f"/live/cam-1.{extension}")
        assert (target.kind, target.format, target.pin) == (Kind.FILE, "hls", PIN)
        assert short(target.keys) == ["live/cam", "live/cam-1"]
    assert short(pinned("/live/segment").keys) == ["live/segment"]
    assert pinned("/live/s.m3u8").kind is Kind.PLAYLIST
    assert pinned("/").kind is Kind.LOCAL
    assert pinned("/live/s.flv/").kind is Kind.LOCAL


# Vhosts


def test_a_live_stream_is_that_of_the_requested_vhost() -> None:
    assert short(read("/live/s.flv", VHOSTS).keys) == ["live/s"]
    assert short(read("/live/s.flv", VHOSTS, b"test.com").keys) == ["test.com/live/s"]
    assert short(read("/live/s.flv", VHOSTS, b"test.com:8080").keys) == ["test.com/live/s"]
    assert short(read("/live/s.flv", VHOSTS, b"[::1]:8080").keys) == ["live/s"]
    assert short(read("/live/s.flv", VHOSTS, b"").keys) == ["live/s"]
    assert short(read("/live/s.flv?vhost=test.com", VHOSTS).keys) == ["test.com/live/s"]
    assert short(read("/live/s.flv", frozenset(), b"test.com").keys) == ["live/s"]


def test_a_path_with_a_vhost_is_no_live_stream_of_that_vhost() -> None:
    assert short(read("/test.com/live/s.flv", VHOSTS).keys) == ["test.com/live/s"]
    assert read("/test.com/live/s.flv", VHOSTS).keys == ("__defaultVhost__/test.com/live/s",)


def test_a_playlist_may_be_that_of_any_vhost() -> None:
    assert read("/live/s.m3u8", VHOSTS, b"test.com").keys == (
        "test.com/live/s",
        "__defaultVhost__/live/s",
        "b.org/live/s",
    )
    assert read("/live/s.m3u8", VHOSTS, b"unknown.org").keys == (
        "__defaultVhost__/live/s",
        "b.org/live/s",
        "test.com/live/s",
    )


def test_a_playlist_below_the_name_of_a_vhost_is_first_of_all_that_of_this_vhost() -> None:
    target = read("/test.com/live/s.m3u8", VHOSTS)
    assert target.keys[:2] == ("test.com/live/s", "__defaultVhost__/test.com/live/s")
    assert target.key == "test.com/live/s"
    assert read("/test.com/s.m3u8", VHOSTS).keys[0] == "__defaultVhost__/test.com/s"
    assert read("/unknown.org/live/s.m3u8", VHOSTS).keys[0] == "__defaultVhost__/unknown.org/live/s"


def test_a_ts_file_may_be_a_live_stream_of_the_requested_vhost_or_a_segment_of_any() -> None:
    target = read("/live/cam-1.ts", VHOSTS, b"test.com")
    assert target.keys == (
        "test.com/live/cam-1",
        "test.com/live/cam",
        "__defaultVhost__/live/cam",
        "b.org/live/cam",
    )
    assert target.key == "test.com/live/cam"
    assert [target.kind_of(key) for key in target.keys] == [Kind.LIVE, Kind.FILE, Kind.FILE, Kind.FILE]
    below = read("/test.com/live/cam-1.ts", VHOSTS)
    assert below.key == "test.com/live/cam"
    assert below.keys[0] == "__defaultVhost__/test.com/live/cam-1"


def test_the_number_of_keys_is_bounded_and_the_likeliest_are_among_them() -> None:
    vhosts = frozenset(f"v{number}.org" for number in range(1000))
    for path in ("/live/s.m3u8", "/live/s-1-2-3.m4s", "/live/s-1-2-3.ts"):
        target = read(path, vhosts, b"v999.org")
        assert len(target.keys) <= MAX_KEYS
        assert target.keys[0].startswith("v999.org/live/s")
        assert target.key.startswith("v999.org/live/s")


# The pin, and what is forwarded


@pytest.mark.parametrize(
    ("query", "pin", "forwarded"),
    [
        ("?spbhid=7a1b2c3", "7a1b2c3", ""),
        (f"?spbhid={PIN}", PIN, ""),
        (f"?spbhid={PIN}&hls_ctx=x", PIN, "?hls_ctx=x"),
        (f"?hls_ctx=x&spbhid={PIN}", PIN, "?hls_ctx=x"),
        (f"?a=1&spbhid={PIN}&b=2", PIN, "?a=1&b=2"),
        # the Go proxy's playlists (G29)
        (f"?spbhid={PIN}&&hls_ctx=x", PIN, "?hls_ctx=x"),
        (f"?a=1&&spbhid={PIN}&&b=2", PIN, "?a=1&&b=2"),
        (f"?a=1&&spbhid={PIN}", PIN, "?a=1"),
        (f"?spbhid={PIN}&", PIN, ""),
        # what the client wrote stays
        (f"?&spbhid={PIN}&b=2", PIN, "?&b=2"),
        (f"?a=1&&&b=2&spbhid={PIN}&", PIN, "?a=1&&&b=2&"),
        # two of them
        ("?spbhid=one&a=1&spbhid=two", "two", "?a=1"),
        ("?spbhid=one&spbhid=", None, ""),
        # none that is of any use
        ("?spbhid=", None, ""),
        ("?spbhid", None, ""),
        ("?a=1&spbhid&b=2", None, "?a=1&b=2"),
        ("?spbhid=" + "a" * 16, "a" * 16, ""),
        ("?spbhid=" + "a" * 17, None, ""),
        ("?spbhid=%61bc", None, ""),
        ("?spbhid=a=b", None, ""),
        ("?spbhid=a?b", None, ""),
        ("?spbhid=\u00e9", None, ""),
        # something else
        ("", None, ""),
        ("?", None, "?"),
        ("?&&", None, "?&&"),
        ("?xspbhid=1", None, "?xspbhid=1"),
        ("?spbhid2=1", None, "?spbhid2=1"),
        ("?SPBHID=1", None, "?SPBHID=1"),
        ("?%73pbhid=1", None, "?%73pbhid=1"),
        ("?a=1;spbhid=1", None, "?a=1;spbhid=1"),
        ("?a?spbhid=1", None, "?a?spbhid=1"),
    ],
)
def test_the_pin_is_read_and_kept_from_the_origin(query: str, pin: str | None, forwarded: str) -> None:
    target = read(f"/live/s.m3u8{query}")
    assert target.pin == pin
    assert target.forwarded == f"/live/s.m3u8{forwarded}".encode()
    assert target.path == b"/live/s.m3u8"


def test_a_pin_that_is_of_no_use_makes_no_file() -> None:
    assert read("/live/s.aac?spbhid=").kind is Kind.LIVE
    assert read("/live/s.png?spbhid=%41").kind is Kind.LOCAL


def test_the_pin_takes_no_part_in_what_is_meant() -> None:
    assert read("/live/s.flv?spbhid=a&vhost=test.com", VHOSTS).keys[0] == "test.com/live/s"


def test_nothing_is_decoded() -> None:
    # G20: the Go proxy forwards no query; wire-facts 1.3: it decodes.
    target = read("/live/a%20b%2f.flv?token=%C3%A9&x=a+b")
    assert short(target.keys) == ["live/a%20b%2f"]
    assert target.forwarded == b"/live/a%20b%2f.flv?token=%C3%A9&x=a+b"
    raw = "/live/\u4f60\u597d.flv"
    assert short(read(raw).keys) == ["live/\u4f60\u597d"]
    assert read(raw).forwarded == raw.encode()


# The absolute form


@pytest.mark.parametrize(
    ("target", "authority", "forwarded"),
    [
        ("http://test.com/live/s.flv?a=1", b"test.com", b"/live/s.flv?a=1"),
        ("http://test.com:8080/live/s.flv", b"test.com:8080", b"/live/s.flv"),
        ("HTTPS://test.com/live/s.flv", b"test.com", b"/live/s.flv"),
        ("http://[::1]:8080/live/s.flv", b"[::1]:8080", b"/live/s.flv"),
        ("http://test.com", b"test.com", b"/"),
        ("http://test.com?a=1", b"test.com", b"/?a=1"),
        ("http://test.com?spbhid=a", b"test.com", b"/"),
        ("http://test.com/live/s.flv?spbhid=a", b"test.com", b"/live/s.flv"),
    ],
)
def test_an_absolute_form_goes_before_the_host_field(target: str, authority: bytes, forwarded: bytes) -> None:
    # RFC 9112, section 3.2.2
    read_target = read(target, VHOSTS, b"ignored.org")
    assert (read_target.authority, read_target.forwarded) == (authority, forwarded)


def test_the_host_of_an_absolute_form_is_the_requested_vhost() -> None:
    assert read("http://test.com:80/live/s.flv", VHOSTS, b"b.org").keys == ("test.com/live/s",)


def test_a_url_in_a_query_or_a_path_is_no_absolute_form() -> None:
    for target in ("/live/s.flv?u=http://test.com/", "/http://test.com/s.flv"):
        assert read(target).authority == HOST
        assert read(target).forwarded == target.encode()


# What is refused


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("", "neither"),
        ("*", "neither"),
        ("live/s.flv", "neither"),
        ("?a=1", "neither"),
        ("test.com:443", "neither"),
        ("rtmp://test.com/live/s", "neither"),
        ("ftp://test.com/s.flv", "neither"),
        ("http:/live/s.flv", "neither"),
        ("http:///live/s.flv", "neither"),
        ("http://:80/live/s.flv", "neither"),
        ("http://user:secret@test.com/live/s.flv", "neither"),
        ("http://test.com:port/live/s.flv", "neither"),
        ("http://a b/live/s.flv", "neither"),
        ("http://[::1/live/s.flv", "neither"),
        ("/live/s .flv", "neither"),
        ("/live/s.flv?a\r\nb", "neither"),
        ("/live/s\x7f.flv", "neither"),
        ("/live/s\0.flv", "neither"),
        ("/live/s.flv#x", "fragment"),
        ("/live/s.flv?a#x", "fragment"),
        ("http://test.com/#x", "fragment"),
        ("/live/../s.flv", "climbs up"),
        ("/..", "climbs up"),
        ("/../", "climbs up"),
        ("/live/..?a", "climbs up"),
        ("http://test.com/../etc/passwd", "climbs up"),
        ("/page\u00e9.html", "not ASCII"),
        ("/page.html?\u00e9", "not ASCII"),
        ("/api/v1/\u00e9.flv", "not ASCII"),
        ("/live/.flv", "names no stream"),
        ("/.m3u8", "names no stream"),
    ],
)
def test_what_is_no_usable_target_is_refused(target: str, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        read(target)


def test_two_dots_that_are_no_segment_climb_nowhere() -> None:
    for target in ("/live/a..b.flv", "/live/s.flv?x=/../", "/live/...flv"):
        assert read(target).forwarded == target.encode()


def test_an_error_does_not_tell_more_than_a_person_would_read() -> None:
    for target in ("x" * 100_000, "/../" + "x" * 100_000, "/" + "x" * 100_000 + "/.flv"):
        with pytest.raises(PeerError) as caught:
            read(target)
        assert len(str(caught.value)) < 300


# Anything

_WORDS = [
    *(b"/", b"//", b"..", b".", b"?", b"&", b"&&", b"=", b"#", b"-", b"-1", b"-init", b"%2e", b":", b"@", b"[", b" "),
    *(
        b".ts",
        b".m3u8",
        b".flv",
        b".key",
        b".m4s",
        b".mp4",
        b"video",
        b"live",
        b"s",
        b"http://",
        b"test.com",
        b"vhost=",
    ),
    *(b"spbhid=", b"spbhid", b"0123456789abcdef", b"\xff", b"\0", b"\r\n"),
]
_targets = st.lists(st.sampled_from(_WORDS)).map(lambda words: b"/live" + b"".join(words)) | st.binary()


@given(_targets, st.binary() | st.sampled_from([b"test.com", b"test.com:80"]), st.sampled_from([frozenset(), VHOSTS]))
def test_any_bytes_give_a_target_or_a_peer_error(target: bytes, host: bytes, vhosts: frozenset[str]) -> None:
    try:
        read = read_target(target, host, vhosts)
    except PeerError:
        return
    assert read.forwarded.startswith(b"/")
    assert read.forwarded.partition(b"?")[0] == read.path
    assert not set(read.forwarded) & set(b"\0\r\n #")
    assert all(parameter.partition(b"=")[0] != b"spbhid" for parameter in read.forwarded.partition(b"?")[2].split(b"&"))
    assert (read.kind is Kind.LOCAL) == (not read.keys)
    assert len(set(read.keys)) == len(read.keys) <= MAX_KEYS
    for key in read.keys:
        vhost, app, stream = key.partition("/")[0], *key.partition("/")[2].rpartition("/")[::2]
        assert vhost in {DEFAULT_VHOST, *vhosts}
        assert app
        assert stream
    if read.keys:
        assert read.key in read.keys
        again = read_target(read.forwarded, read.authority, vhosts)
        assert (again.forwarded, again.pin, again.path) == (read.forwarded, None, read.path)


def test_a_long_hostile_target_takes_little_time() -> None:
    start = process_time()
    for word in _WORDS:
        for prefix in (b"/live/s.ts?", b"/live/", b"http://", b""):
            try:
                read_target(prefix + word * (100_000 // len(word)) + b".ts", HOST, VHOSTS)
            except PeerError:
                continue
    assert process_time() - start < 5
