"""Listeners, origins and session records."""

from __future__ import annotations

import pytest

from srsproxy.balancer.model import (
    MAX_KEY_LENGTH,
    MAX_UFRAG_LENGTH,
    MAX_URL_LENGTH,
    Endpoint,
    HlsSession,
    Origin,
    Surface,
    WebRtcSession,
    parse_listener,
)
from srsproxy.errors import LimitExceeded, PeerError
from tests.balancer.helpers import make_origin


@pytest.mark.parametrize(
    ("surface", "listener", "endpoint"),
    [
        (Surface.RTMP, "1935", Endpoint("", 1935)),
        (Surface.RTMP, ":1935", Endpoint("", 1935)),
        (Surface.RTMP, "0.0.0.0:1935", Endpoint("", 1935)),
        (Surface.RTMP, "[::]:1935", Endpoint("", 1935)),
        (Surface.RTMP, "[0:0:0:0:0:0:0:0]:1935", Endpoint("", 1935)),
        (Surface.RTMP, "[::ffff:0.0.0.0]:1935", Endpoint("", 1935)),
        (Surface.RTMP, "127.0.0.1:1935", Endpoint("127.0.0.1", 1935)),
        (Surface.RTMP, "[2001:db8::1]:1935", Endpoint("2001:db8::1", 1935)),
        (Surface.RTMP, "[fe80::1%eth0]:1935", Endpoint("fe80::1%eth0", 1935)),
        (Surface.RTMP, "media-1.example.org:1935", Endpoint("media-1.example.org", 1935)),
        (Surface.HTTP, "srs_origin:8080", Endpoint("srs_origin", 8080)),
        (Surface.API, "tcp://10.0.0.1:1985", Endpoint("10.0.0.1", 1985)),
        (Surface.SRT, "10080", Endpoint("", 10080, "udp")),
        (Surface.SRT, "udp://0.0.0.0:10080", Endpoint("", 10080, "udp")),
        (Surface.RTC, "8000", Endpoint("", 8000, "udp")),
        (Surface.RTC, "udp://[::]:8000", Endpoint("", 8000, "udp")),
        (Surface.RTC, "tcp://0.0.0.0:8000", Endpoint("", 8000, "tcp")),
        (Surface.RTC, "udp://[2001:db8::1]:8000", Endpoint("2001:db8::1", 8000, "udp")),
        (Surface.RTMP, "1", Endpoint("", 1)),
        (Surface.RTMP, "65535", Endpoint("", 65535)),
    ],
)
def test_a_listener_is_read_in_every_form_of_srs(surface: Surface, listener: str, endpoint: Endpoint) -> None:
    assert parse_listener(listener, surface) == endpoint


@pytest.mark.parametrize(
    ("surface", "listener"),
    [
        (Surface.RTMP, ""),
        (Surface.RTMP, "0"),
        (Surface.RTMP, "65536"),
        (Surface.RTMP, "-1"),
        (Surface.RTMP, "+1935"),
        (Surface.RTMP, "\u0661\u0669\u0663\u0665"),
        (Surface.RTMP, "1935 "),
        (Surface.RTMP, "1935\n"),
        (Surface.RTMP, "rtmp"),
        (Surface.RTMP, "127.0.0.1"),
        (Surface.RTMP, "127.0.0.1:"),
        (Surface.RTMP, "[]:1935"),
        (Surface.RTMP, "[::1]1935"),
        (Surface.RTMP, "[localhost]:1935"),
        (Surface.RTMP, "[::1%et h0]:1935"),
        (Surface.RTMP, "256.0.0.1:1935"),
        (Surface.RTMP, "127.1:1935"),
        (Surface.RTMP, "0:1935"),
        (Surface.RTMP, "a.0x7f:1935"),
        (Surface.RTMP, "-a:1935"),
        (Surface.RTMP, "a..b:1935"),
        (Surface.RTMP, "a b:1935"),
        (Surface.RTMP, "a\r\nb:1935"),
        (Surface.RTMP, "\u00e4.example:1935"),
        (Surface.RTMP, f"{'a' * 64}:1935"),
        (Surface.RTMP, f"{'a.' * 130}b:1935"),
        (Surface.RTMP, "udp://0.0.0.0:1935"),
        (Surface.HTTP, "http://0.0.0.0:8080"),
        (Surface.SRT, "tcp://0.0.0.0:10080"),
        (Surface.RTC, "sctp://0.0.0.0:8000"),
    ],
)
def test_a_listener_in_no_such_form_is_a_peer_error(surface: Surface, listener: str) -> None:
    with pytest.raises(PeerError):
        parse_listener(listener, surface)


@pytest.mark.parametrize("end", ["", ":0", ":1"])
def test_a_listener_of_enormous_length_is_not_repeated_in_the_error(end: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_listener("a" * 100_000 + end, Surface.RTMP)
    assert len(str(caught.value)) < 1_000


def test_all_listeners_are_dialled_in_their_order_each_at_its_own_address_if_it_has_one() -> None:
    # G50: the Go proxy refuses "ip:port", and takes the first listener only.
    origin = Origin("192.0.2.2", "s", "x", "1", rtmp=("29353", "127.0.0.1:29354", "[::]:1935"))
    assert origin.dial(Surface.RTMP) == (
        Endpoint("192.0.2.2", 29353),
        Endpoint("127.0.0.1", 29354),
        Endpoint("192.0.2.2", 1935),
    )


def test_a_surface_that_is_not_announced_has_nothing_to_dial() -> None:
    assert make_origin(rtmp=("1935",)).dial(Surface.SRT) == ()


def test_rtc_is_dialled_on_both_transports() -> None:
    origin = make_origin(rtc=("udp://0.0.0.0:8000", "tcp://0.0.0.0:8000"))
    assert origin.dial(Surface.RTC) == (Endpoint("192.0.2.1", 8000, "udp"), Endpoint("192.0.2.1", 8000, "tcp"))


@pytest.mark.parametrize("ip", ["origin-3.example.org", "srs_origin_1", "no-such-host.invalid", "2001:db8::7", "host."])
def test_an_ip_that_is_a_name_is_dialled_as_it_is(ip: str) -> None:
    # G18: the Go proxy dials localhost instead.
    assert Origin(ip, "s", "x", "1", rtmp=("0.0.0.0:1935",)).dial(Surface.RTMP) == (Endpoint(ip, 1935),)


@pytest.mark.parametrize(
    "ip",
    [
        "",
        "0.0.0.0",
        "::",
        "0",
        "00",
        "127.1",
        "0x0",
        "0x7f.1",
        "1.2.3.0x4",
        "::ffff:0.0.0.0",
        "[::1]",
        "a:1",
        "a/b",
        "a@b",
    ],
)
def test_an_ip_that_would_dial_the_proxys_own_machine_or_nothing_at_all_is_refused(ip: str) -> None:
    with pytest.raises(PeerError, match=r"^ip: "):
        Origin(ip, "s", "x", "1", rtmp=("1935",))


def test_an_origin_with_a_listener_that_cannot_be_dialled_cannot_be_made() -> None:
    with pytest.raises(PeerError, match=r"^http: 'x' is no listener"):
        make_origin(rtmp=("1935",), http=("8080", "x"))


def test_the_id_is_that_of_the_go_proxy() -> None:
    assert make_origin("vid-53g0u8r", "iuh43104", "31232").id == "vid-53g0u8r-iuh43104-31232"


def test_an_origin_says_in_one_line_what_it_announces() -> None:
    origin = make_origin(rtmp=("1935", "[::]:1936"), rtc=("udp://0.0.0.0:8000",))
    assert str(origin) == "vid-1-s1-1 at 192.0.2.1 (rtmp 1935 [::]:1936, rtc udp://0.0.0.0:8000)"


def test_an_endpoint_is_written_with_brackets_around_ipv6() -> None:
    assert str(Endpoint("2001:db8::1", 1935)) == "[2001:db8::1]:1935"
    assert str(Endpoint("example.org", 1935)) == "example.org:1935"


def test_session_records_that_are_too_long_to_be_kept_are_refused() -> None:
    HlsSession("id", "k" * MAX_KEY_LENGTH, "u" * MAX_URL_LENGTH)
    WebRtcSession("k" * MAX_KEY_LENGTH, "u" * MAX_UFRAG_LENGTH, "vid-a", "pwd", "play")
    with pytest.raises(LimitExceeded, match="stream key"):
        HlsSession("id", "k" * (MAX_KEY_LENGTH + 1), "u")
    with pytest.raises(LimitExceeded, match="playlist URL"):
        HlsSession("id", "k", "u" * (MAX_URL_LENGTH + 1))
    with pytest.raises(LimitExceeded, match="spbhid"):
        HlsSession("i" * 200, "k", "u")
    with pytest.raises(LimitExceeded, match="stream key"):
        WebRtcSession("k" * (MAX_KEY_LENGTH + 1), "u", "vid-a", "pwd", "play")
    with pytest.raises(LimitExceeded, match="ufrag"):
        WebRtcSession("k", "u" * (MAX_UFRAG_LENGTH + 1), "vid-a", "pwd", "play")
