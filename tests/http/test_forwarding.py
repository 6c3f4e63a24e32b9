from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.http.forwarding import (
    answer,
    client_chain,
    client_response,
    error_answer,
    origin_request,
    relocated,
)
from srsproxy.http.head import (
    Framing,
    HeadLimits,
    RequestHead,
    ResponseHead,
    keeps_alive,
    parse_request,
    parse_response,
    request_body,
    response_body,
)

CAPTURES = Path(__file__).parent.parent / "captures"
LIMITS = HeadLimits(max_size=65536, max_fields=1000)

from_client = partial(origin_request, target=b"/live/a.flv", chain=["192.0.2.7"], from_front=False, scheme="http")
from_front = partial(
    origin_request, target=b"/live/a.flv", chain=["192.0.2.7", "10.0.0.1"], from_front=True, scheme="http"
)
to_client = partial(client_response, framing=5, keep_alive=True, request_minor=1)

TOLD = [(b"X-Forwarded-For", b"192.0.2.7"), (b"X-Real-IP", b"192.0.2.7"), (b"X-Forwarded-Proto", b"http")]
"""What the origin is told about the client of ``from_client``."""


def asked(*fields: tuple[bytes, bytes], method: bytes = b"GET", minor: int = 1) -> RequestHead:
    return RequestHead(method, b"/asked", minor, [(b"Host", b"a"), *fields])


def answered(*fields: tuple[bytes, bytes], status: int = 200) -> ResponseHead:
    return ResponseHead(1, status, b"Told So", list(fields))


def request(data: bytes) -> RequestHead:
    """What was written, read by our own parser, which is strict."""
    parsed = parse_request(data, LIMITS)
    assert parsed is not None
    assert parsed[1] == len(data)
    assert parsed[0].minor == 1
    return parsed[0]


def response(data: bytes) -> ResponseHead:
    parsed = parse_response(data, LIMITS)
    assert parsed is not None
    assert parsed[1] == len(data)
    assert parsed[0].minor == 1
    return parsed[0]


def names(head: RequestHead | ResponseHead) -> list[bytes]:
    return [name for name, _ in head.fields]


# Requests for the origin


def test_a_request_goes_on_as_it_came_and_tells_who_asks() -> None:
    head = asked((b"aCCept", b"*/*"), (b"X-Twice", b"1"), (b"Cookie", b"a=b"), (b"x-twice", b"2"))
    assert from_client(head) == (
        b"GET /live/a.flv HTTP/1.1\r\n"
        b"Host: a\r\n"
        b"aCCept: */*\r\n"
        b"X-Twice: 1\r\n"
        b"Cookie: a=b\r\n"
        b"x-twice: 2\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Real-IP: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    "field",
    [
        (b"Connection", b"keep-alive"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Basic YTpi"),
        (b"TE", b"trailers"),
        (b"Trailer", b"X-A"),
        (b"Upgrade", b"websocket"),
        (b"Expect", b"100-continue"),
        (b"X-FORWARDED-FOR", b"127.0.0.1"),
        (b"x-real-ip", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"b"),
        (b"X-Forwarded-Port", b"1"),
        (b"Forwarded", b"for=127.0.0.1"),
    ],
    ids=repr,
)
def test_what_a_client_says_to_us_or_claims_does_not_go_on(field: tuple[bytes, bytes]) -> None:
    assert request(from_client(asked(field))).fields == [(b"Host", b"a"), *TOLD]


def test_what_connection_names_does_not_go_on() -> None:
    head = asked(
        (b"Connection", b"Upgrade, HTTP2-Settings, x-Hop"),
        (b"HTTP2-Settings", b"abc"),
        (b"X-Hop", b"1"),
        (b"Connection", b"X-Other"),
        (b"x-other", b"1"),
        (b"X-Kept", b"1"),
    )
    assert request(from_client(head)).fields == [(b"Host", b"a"), (b"X-Kept", b"1"), *TOLD]


@pytest.mark.parametrize(
    "name",
    [b"Host", b"Authorization", b"Cookie", b"Origin", b"Range", b"Content-Type", b"Content-Encoding", b"Cache-Control"],
)
def test_connection_cannot_take_away_what_origins_decide_by(name: bytes) -> None:
    fields = {b"Host": b"a", b"Connection": b"close, " + name.lower(), name: b"a"}
    assert name in names(request(from_client(RequestHead(b"GET", b"/", 1, list(fields.items())))))


def test_connection_cannot_take_away_what_we_tell() -> None:
    head = asked((b"Connection", b"X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Content-Length"))
    assert request(from_client(head, body=3)).fields == [(b"Host", b"a"), *TOLD, (b"Content-Length", b"3")]
    head = asked((b"Connection", b"X-Forwarded-Host, Forwarded"), (b"X-Forwarded-Host", b"a"), (b"Forwarded", b"for=b"))
    assert {b"X-Forwarded-Host", b"Forwarded"} <= set(names(request(from_front(head))))


def test_a_trusted_front_is_believed_what_it_says_about_the_client() -> None:
    head = asked(
        (b"X-Forwarded-For", b"198.51.100.1, 192.0.2.7"),
        (b"X-Real-IP", b"198.51.100.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"b"),
        (b"Forwarded", b"for=192.0.2.7"),
    )
    assert request(from_front(head)).fields == [
        (b"Host", b"a"),
        (b"X-Forwarded-Host", b"b"),
        (b"Forwarded", b"for=192.0.2.7"),
        (b"X-Forwarded-For", b"192.0.2.7, 10.0.0.1"),
        (b"X-Real-IP", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"https"),
    ]


def test_the_scheme_that_we_see_is_told_unless_a_front_tells_it() -> None:
    for build in (from_client, from_front):
        told = request(build(asked(), scheme="https"))
        assert told.values(b"x-forwarded-proto") == [b"https"]


def test_the_host_of_an_absolute_target_replaces_host() -> None:
    head = asked((b"Accept", b"*/*"), (b"Connection", b"host"))
    sent = request(from_client(head, authority=b"b:80"))
    assert sent.fields == [(b"Host", b"b:80"), (b"Accept", b"*/*"), *TOLD]


def test_a_client_of_http_1_0_gets_a_host() -> None:
    sent = request(from_client(RequestHead(b"GET", b"/", 0, []), authority=b"127.0.0.1:8080"))
    assert sent.fields == [(b"Host", b"127.0.0.1:8080"), *TOLD]


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        ([], 0),
        ([(b"Content-Length", b"0")], 0),
        ([(b"content-length", b"0012")], 12),
        ([(b"Transfer-Encoding", b"Chunked")], Framing.CHUNKED),
    ],
)
def test_the_body_of_a_request_is_framed_as_it_came(sent: list[tuple[bytes, bytes]], body: int | Framing) -> None:
    head = asked(*sent, method=b"POST")
    framing = request_body(head)
    assert framing == body
    forwarded = request(from_client(head, body=framing))
    assert request_body(forwarded) == body
    assert len(forwarded.fields) == 4 + len(sent)


def test_a_chunked_body_that_was_collected_has_a_length() -> None:
    forwarded = request(from_client(asked((b"Transfer-Encoding", b"chunked"), method=b"POST"), body=7))
    assert request_body(forwarded) == 7


def test_another_method_may_be_sent() -> None:
    assert request(from_client(asked(method=b"HEAD"), method=b"GET")).method == b"GET"
    assert request(from_client(asked(method=b"HEAD"))).method == b"HEAD"


def test_the_connection_to_the_origin_is_kept_whatever_the_client_does_with_its_own() -> None:
    assert keeps_alive(request(from_client(asked((b"Connection", b"close")))))


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        (b"gzip, deflate, br, zstd", b"gzip"),
        (b"br;q=1.0, GZip ; q=0.5", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip;q=0.001", b"gzip"),
        (b"gzip;q=0", b"identity"),
        (b"gzip; Q=0.000", b"identity"),
        (b"br, deflate", b"identity"),
        (b"xgzip, gzipped", b"identity"),
        (b"", b"identity"),
        (None, b"identity"),
    ],
)
def test_of_what_is_to_be_rewritten_the_whole_is_asked_for_in_a_coding_we_know(
    accepted: bytes | None, sent: bytes
) -> None:
    codings = [] if accepted is None else [(b"accept-encoding", accepted)]
    head = asked(*codings, (b"Range", b"bytes=0-9"), (b"If-Range", b"x"), (b"If-None-Match", b"x"))
    forwarded = request(from_client(head, to_rewrite=True))
    assert forwarded.fields == [(b"Host", b"a"), (b"If-None-Match", b"x"), *TOLD, (b"Accept-Encoding", sent)]


def test_of_other_files_what_the_client_asked_for_is_asked_for() -> None:
    wanted = [(b"Accept-Encoding", b"br"), (b"Range", b"bytes=0-9"), (b"If-Range", b"x")]
    assert request(from_client(asked(*wanted))).fields == [(b"Host", b"a"), *wanted, *TOLD]


# Who the client is


def is_front(address: str) -> bool:
    return address.startswith(("10.", "2001:db8:"))


@pytest.mark.parametrize(
    ("peer", "told", "chain"),
    [
        ("192.0.2.7", [], ["192.0.2.7"]),
        ("192.0.2.7", [b"198.51.100.1"], ["192.0.2.7"]),
        ("10.0.0.1", [], ["10.0.0.1"]),
        ("10.0.0.1", [b""], ["10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7"], ["192.0.2.7", "10.0.0.1"]),
        ("10.0.0.1", [b"127.0.0.1, 192.0.2.7"], ["192.0.2.7", "10.0.0.1"]),
        ("10.0.0.1", [b"127.0.0.1", b"192.0.2.7"], ["192.0.2.7", "10.0.0.1"]),
        ("10.0.0.1", [b"127.0.0.1,192.0.2.7,10.0.0.2"], ["192.0.2.7", "10.0.0.2", "10.0.0.1"]),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], ["10.0.0.3", "10.0.0.2", "10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7:4711"], ["192.0.2.7", "10.0.0.1"]),
        ("10.0.0.1", [b"[2001:DB9::0001]:4711"], ["2001:db9::1", "10.0.0.1"]),
        ("10.0.0.1", [b"[2001:db9::1]"], ["2001:db9::1", "10.0.0.1"]),
        ("2001:db8::1", [b"2001:db9::1, 2001:db8::2"], ["2001:db9::1", "2001:db8::2", "2001:db8::1"]),
        ("10.0.0.1", [b"::ffff:192.0.2.7"], ["192.0.2.7", "10.0.0.1"]),
        ("10.0.0.1", [b"::ffff:10.0.0.9"], ["10.0.0.9", "10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7, unknown"], ["10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7, unknown, 10.0.0.2"], ["10.0.0.2", "10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7, , 10.0.0.2"], ["10.0.0.2", "10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.999"], ["10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7 10.0.0.2"], ["10.0.0.1"]),
        ("10.0.0.1", [b"192.0.2.7\xe4"], ["10.0.0.1"]),
        ("10.0.0.1", [b"[192.0.2.7:80"], ["10.0.0.1"]),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_front(peer: str, told: list[bytes], chain: list[str]) -> None:
    head = asked(*[(b"x-forwarded-for", value) for value in told])
    assert client_chain(head, peer, is_front) == chain


def test_a_front_may_tell_the_client_in_x_real_ip_alone() -> None:
    told = (b"X-Real-IP", b"192.0.2.7")
    assert client_chain(asked(told), "10.0.0.1", is_front) == ["192.0.2.7", "10.0.0.1"]
    assert client_chain(asked(told), "198.51.100.1", is_front) == ["198.51.100.1"]
    head = asked(told, (b"X-Forwarded-For", b"198.51.100.1"))
    assert client_chain(head, "10.0.0.1", is_front) == ["198.51.100.1", "10.0.0.1"]


@given(st.lists(st.sampled_from(["1.1.1.1", "10.0.0.2", "::1", "x", "", "[::1]:1", "1.1.1.1:2", " "])).map(",".join))
def test_whatever_is_told_the_chain_ends_with_the_peer_and_only_its_first_is_no_front(told: str) -> None:
    chain = client_chain(asked((b"X-Forwarded-For", told.encode())), "10.0.0.1", is_front)
    assert chain[-1] == "10.0.0.1"
    assert all(is_front(address) for address in chain[1:])


# Answers for the client


def test_an_answer_goes_on_as_it_came() -> None:
    head = answered((b"server", b"SRS"), (b"Set-Cookie", b"a"), (b"Content-Type", b"x/y"), (b"Set-Cookie", b"b"))
    assert to_client(head) == (
        b"HTTP/1.1 200 Told So\r\n"
        b"server: SRS\r\n"
        b"Set-Cookie: a\r\n"
        b"Content-Type: x/y\r\n"
        b"Set-Cookie: b\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
    )


def test_an_answer_without_reason_goes_on_without() -> None:
    assert to_client(ResponseHead(0, 404, b"", [])).startswith(b"HTTP/1.1 404 \r\n")


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Connection", b"Close")],
        [(b"Connection", b"X-Hop"), (b"x-hop", b"1")],
        [(b"Keep-Alive", b"timeout=15")],
        [(b"Proxy-Authenticate", b"Basic")],
        [(b"Trailer", b"X-A")],
        [(b"Upgrade", b"h2c")],
        [(b"Transfer-Encoding", b"chunked")],
        [(b"content-length", b"99")],
    ],
    ids=repr,
)
def test_what_an_origin_says_to_us_does_not_go_on(fields: list[tuple[bytes, bytes]]) -> None:
    assert response(to_client(answered(*fields))).fields == [(b"Content-Length", b"5")]


@pytest.mark.parametrize("name", [b"Set-Cookie", b"Content-Type", b"Access-Control-Allow-Origin", b"Cache-Control"])
def test_connection_cannot_take_away_what_clients_decide_by(name: bytes) -> None:
    assert name in names(response(to_client(answered((b"Connection", name), (name, b"a")))))


@pytest.mark.parametrize(
    ("framing", "keep_alive", "minor", "fields"),
    [
        (0, True, 1, [(b"Content-Length", b"0")]),
        (5, False, 1, [(b"Content-Length", b"5"), (b"Connection", b"close")]),
        (5, True, 0, [(b"Content-Length", b"5"), (b"Connection", b"keep-alive")]),
        (5, False, 0, [(b"Content-Length", b"5"), (b"Connection", b"close")]),
        (Framing.CHUNKED, True, 1, [(b"Transfer-Encoding", b"chunked")]),
        (Framing.CHUNKED, False, 1, [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")]),
        (Framing.UNTIL_CLOSE, True, 1, [(b"Connection", b"close")]),
        (Framing.UNTIL_CLOSE, True, 0, [(b"Connection", b"close")]),
    ],
)
def test_the_body_of_an_answer_is_framed_anew(
    framing: int | Framing, keep_alive: bool, minor: int, fields: list[tuple[bytes, bytes]]
) -> None:
    for sent in ([], [(b"Content-Length", b"9")], [(b"Transfer-Encoding", b"chunked")]):
        told = response(to_client(answered(*sent), framing=framing, keep_alive=keep_alive, request_minor=minor))
        assert told.fields == fields
        assert response_body(told, b"GET") == framing


def test_chunks_are_not_for_http_1_0() -> None:
    with pytest.raises(ValueError, match="no chunks"):
        to_client(answered(), framing=Framing.CHUNKED, request_minor=0)


@pytest.mark.parametrize("status", [200, 206, 404])
def test_the_answer_to_head_tells_the_length_that_get_would_bring(status: int) -> None:
    head = answered((b"Content-Length", b"97"), status=status)
    assert response(to_client(head, framing=None)).fields == [(b"Content-Length", b"97")]
    head = answered((b"Transfer-Encoding", b"chunked"), status=status)
    assert response(to_client(head, framing=None)).fields == []


@pytest.mark.parametrize("framing", [0, None])
def test_statuses_without_body_tell_no_length_of_one(framing: int | None) -> None:
    head = answered((b"Content-Length", b"0"), (b"X", b"y"), status=204)
    assert response(to_client(head, framing=framing)).fields == [(b"X", b"y")]
    head = answered((b"Content-Length", b"97"), status=304)
    assert response(to_client(head, framing=framing)).fields == [(b"Content-Length", b"97")]


def test_fields_of_an_answer_are_replaced_added_and_dropped() -> None:
    head = answered((b"LOCATION", b"http://o/a"), (b"Content-MD5", b"x"), (b"etag", b"x"), (b"X", b"y"))
    told = to_client(head, replaced=[(b"Location", b"/a"), (b"Vary", b"Origin")], rewritten=True)
    assert response(told).fields == [
        (b"X", b"y"),
        (b"Location", b"/a"),
        (b"Vary", b"Origin"),
        (b"Content-Length", b"5"),
    ]


@pytest.mark.parametrize("name", ["hls_master.http", "hls_media.http", "http_flv_response.bin"])
def test_what_srs_exchanges_with_a_client_goes_on(name: str) -> None:
    sent = parse_request((CAPTURES / f"{name}.request").read_bytes(), LIMITS)
    assert sent is not None
    forwarded = request(from_client(sent[0], target=sent[0].target))
    assert (forwarded.method, forwarded.target) == (b"GET", sent[0].target)
    assert forwarded.fields == [*sent[0].fields, *TOLD]

    received = parse_response((CAPTURES / name).read_bytes(), LIMITS)
    assert received is not None
    framing = response_body(received[0], b"GET")
    told = response(to_client(received[0], framing=framing))
    assert told.status == 200
    assert keeps_alive(told)
    assert response_body(told, b"GET") == framing
    assert set(told.fields) == set(received[0].fields) - {(b"Connection", b"Close")}


# Redirections

AUTHORITIES = {b"10.0.0.1:8080", b"origin.example"}


@pytest.mark.parametrize(
    ("location", "led"),
    [
        (b"http://10.0.0.1:8080/live/a.m3u8?x=1#y", b"/live/a.m3u8?x=1#y"),
        (b"HTTPS://Origin.Example/", b"/"),
        (b"http://origin.example", b"/"),
        (b"http://origin.example?x=/y", b"/?x=/y"),
        (b"//origin.example/a", b"/a"),
        (b"http://origin.example//evil.example/a", b"/.//evil.example/a"),
        (b"http://origin.example/\\evil.example/a", b"/./\\evil.example/a"),
    ],
)
def test_a_redirection_to_the_origin_leads_back_to_us(location: bytes, led: bytes) -> None:
    assert relocated(location, AUTHORITIES) == led


@pytest.mark.parametrize(
    "location",
    [
        b"/live/a.m3u8",
        b"a.m3u8",
        b"?x=http://origin.example/",
        b"",
        b"http://other.example/a",
        b"http://10.0.0.1/a",
        b"http://user@origin.example/a",
        b"http://origin.example.evil.example/a",
        b"rtmp://origin.example/a",
        b"http:/origin.example/a",
        b"///origin.example/a",
    ],
)
def test_other_redirections_stay_as_they_are(location: bytes) -> None:
    assert relocated(location, AUTHORITIES) == location


# Answers of our own


def test_an_error_is_told_in_json() -> None:
    data = error_answer(
        HTTPStatus.NOT_FOUND, 'no "a"\r\nX: y', head_only=False, keep_alive=True, request_minor=1, extra=[(b"A", b"b")]
    )
    head, _, body = data.partition(b"\r\n\r\n")
    assert json.loads(body) == {"code": 404, "error": 'no "a"\r\nX: y'}
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 404 Not Found",
        b"Content-Type: application/json",
        b"Access-Control-Allow-Origin: *",
        b"Cache-Control: no-store",
        b"A: b",
        b"Content-Length: %d" % len(body),
    ]


build_error = partial(error_answer, 505, "no", keep_alive=True, request_minor=1)
build_answer = partial(answer, 200, b"hello", keep_alive=True, request_minor=1)


@pytest.mark.parametrize("build", [build_error, build_answer])
def test_an_answer_to_head_is_the_same_without_body(build: Callable[..., bytes]) -> None:
    whole = build(head_only=False)
    head = build(head_only=True)
    assert response(head)
    assert whole.startswith(head)
    assert len(whole) - len(head) == response_body(response(head), b"GET")


@pytest.mark.parametrize("build", [build_error, build_answer])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("minor", [0, 1])
def test_an_answer_of_our_own_tells_whether_the_connection_stays(
    build: Callable[..., bytes], keep_alive: bool, minor: int
) -> None:
    head = response(build(head_only=True, keep_alive=keep_alive, request_minor=minor))
    assert keeps_alive(head) is keep_alive
    assert (head.value(b"connection") == b"keep-alive") is (keep_alive and minor == 0)


def test_an_answer_without_content_has_no_length() -> None:
    options = answer(204, head_only=False, keep_alive=True, request_minor=1, fields=[(b"Allow", b"GET")])
    assert options == b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n"
    empty = answer(200, head_only=False, keep_alive=True, request_minor=1)
    assert empty == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


# Anything that the parser lets through

_names = st.sampled_from(
    [
        b"Connection",
        b"X-A",
        b"x-a",
        b"Cookie",
        b"TE",
        b"Transfer-Encoding",
        b"Content-Length",
        b"X-Forwarded-For",
        b"Host",
    ]
)
_values = st.sampled_from(
    [b"", b"x-a", b"close, cookie", b"chunked", b"3", b"a", b"host,x-forwarded-for,content-length"]
)
_some_fields = st.lists(st.tuples(_names, _values), max_size=8)


@given(_some_fields, st.booleans(), st.booleans(), st.sampled_from([0, 3, Framing.CHUNKED]))
def test_whatever_a_client_sends_the_origin_gets_one_clear_request(
    fields: list[tuple[bytes, bytes]], front: bool, to_rewrite: bool, body: int | Literal[Framing.CHUNKED]
) -> None:
    head = RequestHead(b"POST", b"/", 1, fields)
    # Were there not just one Host in what is sent, it could not be read.
    sent = request(from_client(head, from_front=front, to_rewrite=to_rewrite, body=body, authority=b"a"))
    assert request_body(sent) == body
    assert sent.values(b"x-forwarded-for") == [b"192.0.2.7"]
    assert sent.values(b"x-real-ip") == [b"192.0.2.7"]
    assert sent.value(b"connection") is None
    assert sent.values(b"cookie") == head.values(b"cookie")


@given(_some_fields, st.sampled_from([0, 3, Framing.CHUNKED, Framing.UNTIL_CLOSE]), st.booleans())
def test_whatever_an_origin_sends_the_client_gets_one_clear_answer(
    fields: list[tuple[bytes, bytes]], framing: int | Framing, keep_alive: bool
) -> None:
    told = response(to_client(answered(*fields), framing=framing, keep_alive=keep_alive))
    assert response_body(told, b"GET") == framing
    assert keeps_alive(told) is (keep_alive and framing is not Framing.UNTIL_CLOSE)
