from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.http.head import (
    Framing,
    HeadLimits,
    RequestHead,
    ResponseHead,
    UnsupportedVersion,
    connection_options,
    keeps_alive,
    parse_request,
    parse_response,
    request_body,
    response_body,
)

CAPTURES = Path(__file__).parent.parent / "captures"
LIMITS = HeadLimits(max_size=4096, max_fields=20)


def request(data: bytes) -> RequestHead:
    parsed = parse_request(data, LIMITS)
    assert parsed is not None
    head, size = parsed
    assert size == len(data)
    return head


def response(data: bytes) -> ResponseHead:
    parsed = parse_response(data, LIMITS)
    assert parsed is not None
    head, size = parsed
    assert size == len(data)
    return head


def with_fields(*lines: bytes) -> RequestHead:
    return request(b"\r\n".join([b"POST /rtc/v1/whip/ HTTP/1.1", b"Host: a", *lines, b"", b""]))


def answer(*lines: bytes, status: bytes = b"200 OK") -> ResponseHead:
    return response(b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]))


# What is understood


def test_a_request_is_method_target_version_and_fields_as_sent() -> None:
    head = request(
        b"GET /live/a.m3u8?x=1 HTTP/1.1\r\nhOST: a.example:8080\r\nX-A:b\r\nX-Empty:\r\nX-B: \t c d\xff \t\r\n\r\n"
    )
    assert head == RequestHead(
        b"GET",
        b"/live/a.m3u8?x=1",
        1,
        [(b"hOST", b"a.example:8080"), (b"X-A", b"b"), (b"X-Empty", b""), (b"X-B", b"c d\xff")],
    )
    assert head.value(b"host") == b"a.example:8080"
    assert head.value(b"x-b") == b"c d\xff"
    assert head.value(b"x-none") is None
    assert head.values(b"x-none") == []


def test_repeated_fields_are_kept_and_their_values_are_joined() -> None:
    head = with_fields(b"X-Forwarded-For: 1.1.1.1", b"Accept: */*", b"x-forwarded-for: 2.2.2.2, 3.3.3.3")
    assert head.values(b"x-forwarded-for") == [b"1.1.1.1", b"2.2.2.2, 3.3.3.3"]
    assert head.value(b"x-forwarded-for") == b"1.1.1.1, 2.2.2.2, 3.3.3.3"
    assert head.value(b"accept") == b"*/*"


def test_the_body_begins_after_the_blank_line() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    parsed = parse_request(bytearray(data), LIMITS)
    assert parsed is not None
    assert data[parsed[1] :].startswith(b"abcGET")
    assert isinstance(parsed[0].method, bytes)
    assert isinstance(parsed[0].fields[0][1], bytes)


def test_a_response_is_version_status_reason_and_fields_as_sent() -> None:
    head = response(
        b"HTTP/1.0 404 Not \xe9 Found\r\nServer: SRS/7.0.18(Hang)\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    fields = [(b"Server", b"SRS/7.0.18(Hang)"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
    assert head == ResponseHead(0, 404, b"Not \xe9 Found", fields)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_a_response_may_have_no_reason(line: bytes) -> None:
    assert response(line + b"\r\n\r\n") == ResponseHead(1, 200, b"", [])


def test_http_1_0_needs_no_host() -> None:
    assert request(b"GET / HTTP/1.0\r\n\r\n") == RequestHead(b"GET", b"/", 0, [])


def test_few_blank_lines_before_a_request_are_ignored() -> None:
    for count in range(3):
        data = b"\r\n" * count + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert request(data).target == b"/"
    with pytest.raises(PeerError):
        parse_request(b"\r\n" * 3, LIMITS)


@pytest.mark.parametrize(
    "host", [b"a.example", b"a:80", b"a:", b"127.0.0.1:8080", b"[::1]", b"[2001:db8::1]:80", b"a_b%41"]
)
def test_host_is_any_host_with_or_without_a_port(host: bytes) -> None:
    assert request(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host).value(b"host") == host


@pytest.mark.parametrize("name", ["hls_master.http", "hls_media.http", "http_flv_response.bin"])
def test_what_srs_exchanged_with_a_client_is_understood(name: str) -> None:
    sent = parse_request((CAPTURES / f"{name}.request").read_bytes(), LIMITS)
    assert sent is not None
    assert sent[0].method == b"GET"
    assert sent[0].value(b"host") == b"127.0.0.1:28081"
    assert request_body(sent[0]) == 0
    assert keeps_alive(sent[0])

    data = (CAPTURES / name).read_bytes()
    parsed = parse_response(data, LIMITS)
    assert parsed is not None
    head, size = parsed
    assert (head.status, head.reason, head.value(b"server")) == (200, b"OK", b"SRS/7.0.18(Hang)")
    assert not keeps_alive(head)
    body = response_body(head, b"GET")
    if name.endswith(".bin"):
        assert body is Framing.CHUNKED
        assert data[size:].startswith(b"9\r\nFLV")
    else:
        assert body == len(data) - size
        assert data[size:].startswith(b"#EXTM3U")


# What is not complete


def test_any_beginning_of_a_request_waits_for_more() -> None:
    data = b"\r\n\r\nDELETE /rtc/v1/whip/?a=b HTTP/1.1\r\nHost: a\r\nAccept:  \r\n\r\n"
    for size in range(len(data)):
        assert parse_request(data[:size], LIMITS) is None, data[:size]
    assert request(data).method == b"DELETE"


def test_any_beginning_of_a_response_waits_for_more() -> None:
    data = b"HTTP/1.1 404 Not Found\r\nServer: a\r\n\r\n"
    for size in range(len(data)):
        assert parse_response(data[:size], LIMITS) is None, data[:size]
    assert response(data).status == 404


@pytest.mark.parametrize(
    "begun",
    [
        b"\x16\x03\x01",  # TLS
        b"\x03",  # RTMP
        b"(",
        b" ",
        b"GET  ",
        b"GET /\xff",
        b"GET /\n",
        b"GET /\r",
        b"GET / HTTP/1.1\n",
        b"GET / FTP",
        b"GET / HTTP/1.1  ",
        b"HELO example.org\r\n",
        b"A" * 33,
        b"\n",
        b"\r\r",
    ],
)
def test_what_cannot_become_a_request_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(PeerError):
        parse_request(begun, LIMITS)


@pytest.mark.parametrize("begun", [b"\r\n", b"ICY 200 OK", b"HTTQ", b"HTTP 1", b"FLV", b"HTTP/1.1 200 OK\n", b"\x00"])
def test_what_cannot_become_a_response_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(PeerError):
        parse_response(begun, LIMITS)


# What is refused

SMUGGLING = {
    "bare LF ends a field": b"Host: a\nX: y\r\n",
    "bare LF alone": b"Host: a\r\n\nX: y\r\n",
    "bare CR in a value": b"Host: a\r\nX: y\rZ: w\r\n",
    "bare CR before CRLF": b"Host: a\r\nX: y\r\r\n",
    "folded": b"Host: a\r\nX: y\r\n z\r\n",
    "folded with a tab": b"Host: a\r\nX: y\r\n\tContent-Length: 3\r\n",
    "first field indented": b" Host: a\r\nHost: a\r\n",
    "blank before the colon": b"Host: a\r\nTransfer-Encoding : chunked\r\n",
    "tab before the colon": b"Host: a\r\nContent-Length\t: 3\r\n",
    "no colon": b"Host: a\r\nContent-Length 3\r\n",
    "no name": b"Host: a\r\n: 3\r\n",
    "NUL in a value": b"Host: a\r\nX: y\x00\r\n",
    "control byte in a value": b"Host: a\r\nX: \x0by\r\n",
    "DEL in a value": b"Host: a\r\nX: \x7f\r\n",
    "8-bit name": b"Host: a\r\n\xe4: y\r\n",
    "name in quotes": b'Host: a\r\n"X": y\r\n',
    "NUL in a name": b"Host: a\r\nContent-\x00Length: 3\r\n",
    "no Host": b"X: y\r\n",
    "Host without a value": b"Host:\r\n",
    "Host with only blanks": b"Host: \r\n",
    "Host twice": b"Host: a\r\nHost: b\r\n",
    "the same Host twice": b"Host: a\r\nhost: a\r\n",
    "Host twice, one empty": b"Host: a\r\nHost:\r\n",
    "Host with a path": b"Host: a/b\r\n",
    "Host with a user": b"Host: u@a\r\n",
    "Host with a blank": b"Host: a b\r\n",
    "Host with two ports": b"Host: a:1:2\r\n",
    "Host with a port that is none": b"Host: a:x\r\n",
    "Host with open bracket": b"Host: [::1\r\n",
    "Host with half an escape": b"Host: a%4\r\n",
    "8-bit Host": b"Host: \xe4\r\n",
}


@pytest.mark.parametrize("fields", SMUGGLING.values(), ids=SMUGGLING)
def test_fields_that_could_be_understood_in_two_ways_are_refused(fields: bytes) -> None:
    with pytest.raises(PeerError):
        parse_request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n", LIMITS)


@pytest.mark.parametrize("fields", [value for name, value in SMUGGLING.items() if "Host" not in name.split()], ids=repr)
def test_responses_are_read_as_strictly(fields: bytes) -> None:
    with pytest.raises(PeerError):
        parse_response(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", LIMITS)


def test_http_1_0_may_lack_host_but_not_have_two() -> None:
    with pytest.raises(PeerError, match="Host"):
        parse_request(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /\tHTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b" GET / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"G\xe4T / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/11",
        b"GET / HTTP/1",
        b"GET HTTP/1.1",
        b"GET / \r\nHTTP/1.1",
        b"GET / HTTP/1.1\r",
    ],
)
def test_a_request_line_that_is_not_one_is_refused(line: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_request(line + b"\r\nHost: a\r\n\r\n", LIMITS)
    assert not isinstance(caught.value, UnsupportedVersion)


@pytest.mark.parametrize("line", [b"GET / HTTP/2.0", b"GET / HTTP/1.2", b"GET / HTTP/0.9", b"PRI * HTTP/2.0"])
def test_another_version_is_told_apart(line: bytes) -> None:
    with pytest.raises(UnsupportedVersion, match=line[-8:].decode()):
        parse_request(line + b"\r\n", LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/2.0 200 OK",
    ],
)
def test_a_status_line_that_is_not_one_is_refused(line: bytes) -> None:
    with pytest.raises(PeerError):
        parse_response(line + b"\r\n\r\n", LIMITS)


# Limits


def test_a_head_may_have_the_largest_size_and_no_byte_more() -> None:
    for padding, fits in ((0, True), (1, False)):
        data = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * (LIMITS.max_size - 32 + padding))
        assert len(data) == LIMITS.max_size + padding
        if fits:
            assert request(data)
            assert parse_request(data[:-1], LIMITS) is None
        else:
            for end in (data, data + b"body", data[:-1]):
                with pytest.raises(LimitExceeded, match="4096 bytes"):
                    parse_request(end, LIMITS)


def test_a_first_line_without_end_is_given_up() -> None:
    for data in (b"GET /" + b"a" * LIMITS.max_size, b"\r\nGET /" + b"a" * LIMITS.max_size + b" HTTP/1.1\r\n"):
        with pytest.raises(LimitExceeded):
            parse_request(data, LIMITS)
    endless = b"HTTP/1.1 200 ".ljust(LIMITS.max_size, b"a")
    assert parse_response(endless[:-1], LIMITS) is None
    with pytest.raises(LimitExceeded):
        parse_response(endless, LIMITS)


def test_there_may_be_as_many_fields_as_the_limit_says() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (LIMITS.max_fields - 1)
    assert len(request(data + b"\r\n").fields) == LIMITS.max_fields
    with pytest.raises(LimitExceeded, match="20 fields"):
        parse_request(data + b"X: y\r\n\r\n", LIMITS)


# Bodies of requests


def test_a_request_without_length_has_no_body() -> None:
    assert request_body(with_fields()) == 0
    assert request_body(with_fields(b"Content-Length: 0")) == 0


def test_a_request_body_has_a_length_or_is_chunked() -> None:
    assert request_body(with_fields(b"Content-Length: 2979")) == 2979
    assert request_body(with_fields(b"content-length:%d" % (10**18 - 1))) == 10**18 - 1
    assert request_body(with_fields(b"Transfer-Encoding: Chunked")) is Framing.CHUNKED


UNCLEAR = {
    "both": [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
    "both, no length": [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
    "two lengths": [b"Content-Length: 3", b"Content-Length: 4"],
    "the same length twice": [b"Content-Length: 3", b"Content-Length: 3"],
    "two lengths in a list": [b"Content-Length: 3, 4"],
    "the same length in a list": [b"Content-Length: 3, 3"],
    "positive": [b"Content-Length: +3"],
    "negative": [b"Content-Length: -3"],
    "hexadecimal": [b"Content-Length: 0x3"],
    "underscore": [b"Content-Length: 1_0"],
    "blank within": [b"Content-Length: 1 0"],
    "no number": [b"Content-Length: a"],
    "empty": [b"Content-Length:"],
    "8-bit digit": [b"Content-Length: \xb2"],
    "huge": [b"Content-Length: " + b"9" * 19],
    "other coding": [b"Transfer-Encoding: gzip"],
    "identity": [b"Transfer-Encoding: identity"],
    "chunked is not last": [b"Transfer-Encoding: chunked, gzip"],
    "chunked after another": [b"Transfer-Encoding: gzip, chunked"],
    "chunked after another, in two fields": [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
    "chunked twice": [b"Transfer-Encoding: chunked, chunked"],
    "chunked twice, in two fields": [b"Transfer-Encoding: chunked", b"transfer-encoding: chunked"],
    "quoted": [b'Transfer-Encoding: "chunked"'],
    "with a parameter": [b"Transfer-Encoding: chunked;q=1"],
    "empty coding": [b"Transfer-Encoding:"],
    "similar": [b"Transfer-Encoding: xchunked"],
    "trailing comma": [b"Transfer-Encoding: chunked,"],
}


@pytest.mark.parametrize("lines", UNCLEAR.values(), ids=UNCLEAR)
def test_unclear_framing_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(PeerError):
        request_body(with_fields(*lines))
    with pytest.raises(PeerError):
        response_body(answer(*lines), b"GET")


def test_transfer_coding_in_http_1_0_is_refused() -> None:
    with pytest.raises(PeerError, match=r"HTTP/1\.0"):
        request_body(request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"))
    with pytest.raises(PeerError, match=r"HTTP/1\.0"):
        response_body(response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), b"GET")


# Bodies of responses


def test_a_response_body_has_a_length_or_is_chunked_or_ends_with_the_connection() -> None:
    assert response_body(answer(b"Content-Length: 97"), b"GET") == 97
    assert response_body(answer(b"Content-Length: 0"), b"GET") == 0
    assert response_body(answer(b"Transfer-Encoding: chunked"), b"POST") is Framing.CHUNKED
    assert response_body(answer(), b"GET") is Framing.UNTIL_CLOSE


@pytest.mark.parametrize("lines", [[b"Content-Length: 97"], [b"Transfer-Encoding: chunked"], []])
def test_no_body_answers_head_or_tells_that_nothing_is_new(lines: list[bytes]) -> None:
    assert response_body(answer(*lines), b"HEAD") == 0
    assert response_body(answer(*lines, status=b"304 Not Modified"), b"GET") == 0


@pytest.mark.parametrize("status", [b"100 Continue", b"101 Switching Protocols", b"204 No Content"])
def test_statuses_without_body_come_with_none(status: bytes) -> None:
    assert response_body(answer(status=status), b"GET") == 0
    assert response_body(answer(b"Content-Length: 0", status=status), b"GET") == 0
    for line in (b"Content-Length: 1", b"Transfer-Encoding: chunked"):
        with pytest.raises(PeerError, match="a body with the status"):
            response_body(answer(line, status=status), b"GET")


# Whether the connection stays


@pytest.mark.parametrize(
    ("minor", "lines", "kept"),
    [
        (1, [], True),
        (1, [b"Connection: close"], False),
        (1, [b"Connection: Close"], False),
        (1, [b"Connection: keep-alive , CLOSE"], False),
        (1, [b"Connection: Upgrade", b"Connection: close"], False),
        (1, [b"Connection: closed"], True),
        (0, [], False),
        (0, [b"Connection: Keep-Alive"], True),
        (0, [b"Connection: keep-alive, close"], False),
        (0, [b"Keep-Alive: timeout=5"], False),
    ],
)
def test_version_and_connection_say_whether_the_connection_stays(minor: int, lines: list[bytes], kept: bool) -> None:
    head = b"\r\n".join([b"%b", b"Host: a", *lines, b"", b""])
    assert keeps_alive(request(head % (b"GET / HTTP/1.%d" % minor))) is kept
    assert keeps_alive(response(head % (b"HTTP/1.%d 200 OK" % minor))) is kept


def test_connection_options_are_in_lower_case() -> None:
    assert connection_options(with_fields(b"Connection: TE,\tX-A , close")) == [b"te", b"x-a", b"close"]
    assert connection_options(with_fields()) == []


# Anything at all

_PARTS = [
    *[b"GET", b"POST", b" ", b"/", b"*", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"200", b"OK", b"\r\n", b"\r\n\r\n"],
    *[
        b"\r",
        b"\n",
        b"\t",
        b":",
        b": ",
        b",",
        b"Host",
        b"Host: a\r\n",
        b"X: y\r\n",
        b"\x00",
        b"\xff",
        b"Content-Length",
    ],
    *[b"Transfer-Encoding", b"chunked", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"Connection: close\r\n"],
]
_heads = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(_PARTS), max_size=12).map(b"".join))
_tight = HeadLimits(max_size=60, max_fields=3)


@given(_heads)
def test_any_bytes_are_a_head_or_incomplete_or_refused_however_they_come(data: bytes) -> None:
    def outcome(parse: object, size: int) -> object:
        assert callable(parse)
        try:
            return parse(bytearray(data[:size]), _tight)
        except PeerError:
            return "refused"

    for parse in (parse_request, parse_response):
        whole = outcome(parse, len(data))
        first = next((found for size in range(len(data)) if (found := outcome(parse, size)) is not None), whole)
        assert first == whole
        if whole is None:
            assert len(data) < _tight.max_size
        elif whole != "refused":
            assert isinstance(whole, tuple)
            head, size = whole
            assert size <= _tight.max_size
            assert len(head.fields) <= _tight.max_fields
            for name, value in head.fields:
                assert name
                assert not set(name) & set(b" \t\r\n\0:")
                assert not set(value) & set(b"\r\n\0")
                assert value == value.strip(b" \t")


_token = st.text("!#$%&'*+-.^_`|~019azAZ", min_size=1, max_size=12).map(str.encode)
_value = st.lists(st.sampled_from(sorted({9, *range(32, 256)} - {127})), max_size=20).map(
    lambda v: bytes(v).strip(b" \t")
)
_fields = st.lists(st.tuples(_token.filter(lambda name: name.lower() != b"host"), _value), max_size=10)
_blank = st.sampled_from([b"", b" ", b"\t", b" \t "])


@given(_token, _fields, _blank, _blank)
def test_every_proper_head_is_understood(
    method: bytes, fields: list[tuple[bytes, bytes]], before: bytes, after: bytes
) -> None:
    fields = [(b"Host", b"a"), *fields]
    lines = b"".join(b"%b:%b%b%b\r\n" % (name, before, value, after) for name, value in fields)
    head = request(b"%b /x HTTP/1.1\r\n%b\r\n" % (method, lines))
    assert head == RequestHead(method, b"/x", 1, fields)
    assert all(head.value(name.lower()) == b", ".join(head.values(name.lower())) for name, _ in fields)
    answered = response(b"HTTP/1.1 200 OK\r\n%b\r\n" % lines)
    assert answered.fields == fields
    assert answered.by_name == head.by_name


def test_a_target_may_have_bytes_that_should_have_been_escaped() -> None:
    parsed = parse_request(b"GET /live/\xe4\xbd\xa0.flv HTTP/1.1\r\nHost: test\r\n\r\n", LIMITS)
    assert parsed is not None
    assert parsed[0].target == b"/live/\xe4\xbd\xa0.flv"
