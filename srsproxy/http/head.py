"""Heads of HTTP messages (RFC 9110, RFC 9112): what one says, how its body is framed, whether the connection stays.

Strict, because a proxy and an origin that understand one head in two ways let clients smuggle requests: lines end in
CRLF and in nothing else, a name touches its colon, nothing is folded, and a body has one length. Whatever is not so is
a :class:`~srsproxy.errors.PeerError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, Literal

from srsproxy.errors import LimitExceeded, PeerError

_MAX_METHOD: Final = 32
"""Bytes of a method; the longest that is registered has 17."""

_MAX_BLANK_LINES: Final = 2
"""Blank lines before a request, which are ignored (RFC 9112 section 2.2). Clients that send any send one."""

_MAX_LENGTH_DIGITS: Final = 18
"""Digits of a body's length: any such number fits into 63 bits, which is what peers may count with."""

_MAX_REMEMBERED: Final = 512
"""Header sections whose fields are remembered. A client sends the same ones with all its requests, and an origin the
same ones with a segment for all its viewers."""

_MAX_REMEMBERED_SIZE: Final = 2048
"""Bytes of a header section that is remembered, lest clients fill the memory with large ones."""

# Possessive quantifiers, and no two neighbours that could match the same byte: time is linear in what is scanned.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_BLANK_LINES = rb"(?:\r\n){0,%d}+" % _MAX_BLANK_LINES
_METHOD = rb"%b{1,%d}+" % (_TOKEN, _MAX_METHOD)
_REQUEST_LINE = re.compile(rb"%b(%b) ([\x21-\x7e\x80-\xff]++) HTTP/([0-9])\.([0-9])\r\n" % (_BLANK_LINES, _METHOD))
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-5][0-9][0-9])(?: (%b*+))?\r\n" % _TEXT)
# What may yet become such a line.
_REQUEST_BEGINNING = re.compile(
    rb"%b(?:\r?|%b(?: (?:[\x21-\x7e]++(?: [HTP/.0-9]{0,8}\r?)?)?)?)\Z" % (_BLANK_LINES, _METHOD)
)
_STATUS_BEGINNING = re.compile(rb"(?:H(?:T(?:T(?:P(?:/%b*+\r?)?)?)?)?)?\Z" % _TEXT)
# A match is a whole line whose value does not end in blanks, as nearly all are.
_FIELD = re.compile(rb"^(%b++):[ \t]*+(%b*+)(?<![ \t])\r\n" % (_TOKEN, _TEXT), re.MULTILINE)
_ANY_FIELD = re.compile(rb"(%b++):(%b*+)" % (_TOKEN, _TEXT))
# uri-host and port of RFC 3986; an http URI has no empty host.
_AUTHORITY = re.compile(rb"(?:(?:[0-9A-Za-z\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?")


class UnsupportedVersion(PeerError):
    """The head is of a version that is neither HTTP/1.0 nor HTTP/1.1: 505 for a request."""


class Framing(Enum):
    """How the end of a body is told where its length is not."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How much of a head is taken.

    :ivar max_size: bytes up to and with the blank line.
    :ivar max_fields: header fields.
    """

    max_size: int
    max_fields: int


class Fields(list[tuple[bytes, bytes]]):
    """The header fields of a head in their order: names as they were sent, values without blanks around them. They are
    not changed any more, because heads whose fields are the same share them.

    :ivar by_name: values by lower-case name, in the order of their first appearance; those of a repeated field are
        joined by commas, as RFC 9110 section 5.2 combines them.
    :ivar remembered: what was made of these fields, for whoever makes it again.
    """

    __slots__ = ("by_name", "remembered")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(fields)
        self.remembered: dict[frozenset[bytes], bytes] = {}
        self.by_name = by_name = {name.lower(): value for name, value in self}
        if len(by_name) != len(self):
            for name in by_name:
                by_name[name] = b", ".join(_values(self, name))


def _values(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for sent, value in fields if sent.lower() == name]


class _Head:
    """What heads of both kinds have.

    :ivar minor: of the version, HTTP/1.minor: 0 or 1.
    :ivar fields: see :class:`Fields`; any list will do to make a head.
    :ivar by_name: see :class:`Fields`.
    :ivar remembered: see :class:`Fields`.
    """

    __slots__ = ("by_name", "fields", "minor", "remembered")

    minor: int
    fields: list[tuple[bytes, bytes]]
    by_name: dict[bytes, bytes]
    remembered: dict[frozenset[bytes], bytes]

    def __post_init__(self) -> None:
        fields = self.fields
        if not isinstance(fields, Fields):
            self.fields = fields = Fields(fields)
        self.by_name = fields.by_name
        self.remembered = fields.remembered

    def value(self, name: bytes) -> bytes | None:
        """The value of the field with this lower-case name, joined by commas if it is repeated; ``None`` without it."""
        return self.by_name.get(name)

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields with this lower-case name."""
        return _values(self.fields, name)


# Frozen ones would take three times as long to make.
@dataclass(slots=True)
class RequestHead(_Head):
    """The head of a request.

    :ivar method: case-sensitive.
    :ivar target: as it was sent, in whatever form (RFC 9112 section 3.2): visible, not empty; what is not ASCII is
        taken as SRS takes it, though it should have been escaped.
    """

    method: bytes
    target: bytes
    minor: int
    fields: list[tuple[bytes, bytes]]


@dataclass(slots=True)
class ResponseHead(_Head):
    """The head of a response.

    :ivar status: 100 to 599.
    :ivar reason: the reason phrase; may be empty.
    """

    minor: int
    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]


def _minor(major: bytes, minor: bytes) -> int:
    if major != b"1" or minor not in b"01":
        raise UnsupportedVersion(f"HTTP/{major.decode()}.{minor.decode()} is not spoken here")
    return 0 if minor == b"0" else 1


def _odd_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of lines of which at least one is wrong, or has blanks at its end."""
    fields = []
    for number, line in enumerate(block.split(b"\r\n")[:-1], 1):
        match = _ANY_FIELD.fullmatch(line)
        if match is None:
            raise PeerError(f"line {number} of the header is not a name, a colon and a value")
        fields.append((match[1], match[2].strip(b" \t")))
    return fields


@lru_cache(maxsize=_MAX_REMEMBERED)
def _parsed(block: bytes) -> Fields:
    """The fields of lines that all have their ends."""
    fields = _FIELD.findall(block)
    # Matches are whole lines, and no two are in one line: as many as there are lines are all lines.
    return Fields(fields if len(fields) == block.count(b"\n") else _odd_fields(block))


def _fields(data: bytes | bytearray, start: int, limits: HeadLimits) -> tuple[Fields, int] | None:
    """The fields that begin at ``start``, after the first line, and where the head ends; ``None`` if that has not come
    yet."""
    end = data.find(b"\r\n\r\n", start - 2, limits.max_size)
    if end < 0:
        if len(data) >= limits.max_size:
            raise LimitExceeded(f"the head is longer than {limits.max_size} bytes")
        return None
    end += 2
    if data.count(b"\n", start, end) > limits.max_fields:
        raise LimitExceeded(f"the head has more than {limits.max_fields} fields")
    block = bytes(data[start:end])
    parse = _parsed if len(block) <= _MAX_REMEMBERED_SIZE else _parsed.__wrapped__
    return parse(block), end + 2


def _no_first_line(data: bytes | bytearray, beginning: re.Pattern[bytes], what: str, limits: HeadLimits) -> None:
    """What to do without a first line: nothing, if it may yet come."""
    if beginning.match(data) is None:
        raise PeerError(f"the first line is none of {what}")
    if len(data) >= limits.max_size:
        raise LimitExceeded(f"the head is longer than {limits.max_size} bytes")


def parse_request(data: bytes | bytearray, limits: HeadLimits) -> tuple[RequestHead, int] | None:
    """The request at the beginning of ``data``, and the size of its head with the blank line: its body follows there.

    ``None`` if the head is not complete; ask again with all of it when more has come. At most ``limits.max_size`` bytes
    are looked at each time.

    :raises UnsupportedVersion: it is of another version of HTTP.
    :raises LimitExceeded: the head is too long, or has too many fields.
    :raises PeerError: it is no HTTP, or breaks a rule that must not be broken. The first line is judged as it comes,
        the fields when all are there.
    """
    line = _REQUEST_LINE.match(data)
    if line is None:
        _no_first_line(data, _REQUEST_BEGINNING, "an HTTP request", limits)
        return None
    method, target, major, minor_digit = line.groups()
    minor = _minor(major, minor_digit)
    rest = _fields(data, line.end(), limits)
    if rest is None:
        return None
    fields, size = rest
    head = RequestHead(method, target, minor, fields)
    host = head.by_name.get(b"host")
    if host is None:
        if minor:
            raise PeerError("the request has no Host")
    elif _AUTHORITY.fullmatch(host) is None:  # neither do two match: they are joined by a comma and a blank
        raise PeerError("the request's Host is not one host, with or without a port")
    return head, size


def parse_response(data: bytes | bytearray, limits: HeadLimits) -> tuple[ResponseHead, int] | None:
    """The response at the beginning of ``data``, and the size of its head: as :func:`parse_request`, errors too."""
    line = _STATUS_LINE.match(data)
    if line is None:
        _no_first_line(data, _STATUS_BEGINNING, "an HTTP response", limits)
        return None
    major, minor_digit, status, reason = line.groups()
    minor = _minor(major, minor_digit)
    rest = _fields(data, line.end(), limits)
    if rest is None:
        return None
    fields, size = rest
    return ResponseHead(minor, int(status), reason or b"", fields), size


def _framing(head: RequestHead | ResponseHead) -> int | Literal[Framing.CHUNKED] | None:
    """What the fields say about the body's end; ``None`` if they say nothing.

    Stricter than RFC 9112 section 6.3 must be: the same length told twice is an error too.
    """
    coding = head.by_name.get(b"transfer-encoding")
    length = head.by_name.get(b"content-length")
    if coding is None:
        if length is None:
            return None
        if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
            raise PeerError("Content-Length is not one number of bytes")
        return int(length)
    if length is not None:
        raise PeerError("there are both Transfer-Encoding and Content-Length")
    if head.minor == 0:
        raise PeerError("there is a Transfer-Encoding in HTTP/1.0")
    if coding.lower() != b"chunked":
        raise PeerError("Transfer-Encoding is not just chunked")
    return Framing.CHUNKED


def request_body(head: RequestHead) -> int | Literal[Framing.CHUNKED]:
    """Where the body ends: its length in bytes (0: there is none), or :attr:`Framing.CHUNKED`.

    :raises PeerError: the head is not clear about it.
    """
    return _framing(head) or 0


def response_body(head: ResponseHead, request_method: bytes) -> int | Framing:
    """Where the body of an answer to this method ends: its length in bytes (0: there is none), or how its end is told.

    :raises PeerError: the head is not clear about it, or a status that has no body comes with one.
    """
    framing = _framing(head)
    if head.status < 200 or head.status == 204:
        if framing:
            raise PeerError(f"there is a body with the status {head.status}")
        return 0
    if head.status == 304 or request_method == b"HEAD":
        return 0
    return Framing.UNTIL_CLOSE if framing is None else framing


def connection_options(head: RequestHead | ResponseHead) -> list[bytes]:
    """What the fields ``Connection`` list, in lower case."""
    value = head.by_name.get(b"connection")
    return [] if value is None else [option.strip(b" \t") for option in value.lower().split(b",")]


def keeps_alive(head: RequestHead | ResponseHead) -> bool:
    """Whether its sender means to keep the connection after this message (RFC 9112 section 9.3).

    SRS says ``Close`` in all its answers, and keeps the connection.
    """
    options = connection_options(head)
    return b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
