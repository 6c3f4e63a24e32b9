"""The heads that are sent on: a client's request for the origin, an origin's answer for the client, answers of our own.

Fields go on as they came, in their order and spelling, but for those that are about one connection (RFC 9110 section
7.6.1), those that frame the body, and what a client claims about itself in place of a proxy.

The heads are taken to have passed :mod:`srsproxy.http.head`; other arguments must have no line ends.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from typing import Final, Literal

from srsproxy.http.head import Framing, RequestHead, ResponseHead, connection_options

Field = tuple[bytes, bytes]
"""A header field: name and value."""

HOP_BY_HOP: Final = frozenset(
    {
        b"close",
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What is between two neighbours; ``close`` is no field, but what ``Connection`` mostly names. Credentials for a
forward proxy are not for an origin to see."""

_FRAMED: Final = HOP_BY_HOP | {b"content-length"}

_FROM_FRONT: Final = _FRAMED | {b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip"}
"""What is not sent on of a request that came through a load balancer in front. ``Expect`` is for us to answer, because
SRS never does."""

_FROM_CLIENT: Final = _FROM_FRONT | {b"forwarded", b"x-forwarded-host", b"x-forwarded-port"}
"""The same for a request of a client, which is not to be believed."""

_SELECTING: Final = frozenset({b"accept-encoding", b"if-range", b"range"})
"""What asks for a part, or for a coding."""

_DROPPED: Final = {
    (from_front, with_host, to_rewrite): frozenset(
        (_FROM_FRONT if from_front else _FROM_CLIENT)
        | ({b"host"} if with_host else set())
        | (_SELECTING if to_rewrite else set())
    )
    for from_front in (False, True)
    for with_host in (False, True)
    for to_rewrite in (False, True)
}
"""What is not sent on of a request, by whether it came through a front, gets another ``Host``, and is for a body that
will be rewritten."""

_PROTECTED: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"cache-control",
        b"cookie",
        b"etag",
        b"expires",
        b"forwarded",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"last-modified",
        b"location",
        b"origin",
        b"range",
        b"referer",
        b"set-cookie",
        b"user-agent",
        b"vary",
        b"www-authenticate",
    }
)
_PROTECTED_FAMILIES: Final = (b"access-control-", b"content-", b"x-forwarded-")
"""What ``Connection`` cannot name. Otherwise a client could take from a request what a proxy in front added, or from a
cached answer what makes it safe to show."""

_REWRITTEN: Final = frozenset(
    _FRAMED | {b"accept-ranges", b"content-digest", b"content-md5", b"digest", b"etag", b"repr-digest"}
)
"""What is not sent on with a body that was rewritten, because it would be wrong about it."""

_LISTED_ADDRESS: Final = re.compile(
    rb"[ \t]*(?:\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+))[ \t]*"
)
_ABSOLUTE: Final = re.compile(rb"(?i:https?:)?//([^/?#]*)(.*)")
_NO_WEIGHT: Final = re.compile(rb"[ \t]*q=0(?:\.0*)?[ \t]*", re.IGNORECASE)


def _remaining(head: RequestHead | ResponseHead, dropped: frozenset[bytes]) -> bytes:
    """The lines of the fields that are not dropped, neither by us nor by ``Connection``."""
    remembered = head.remembered.get(dropped)
    if remembered is None:
        named = [
            option
            for option in connection_options(head)
            if option not in _PROTECTED and not option.startswith(_PROTECTED_FAMILIES)
        ]
        without = dropped.union(named)
        lines = [b"%b: %b\r\n" % field for field in head.fields if field[0].lower() not in without]
        head.remembered[dropped] = remembered = b"".join(lines)
    return remembered


def _end_of_body(framing: int | Framing | None) -> bytes:
    """The line that tells where the body ends, if there is any."""
    if framing is Framing.CHUNKED:
        return b"Transfer-Encoding: chunked\r\n"
    return b"Content-Length: %d\r\n" % framing if isinstance(framing, int) else b""


def _takes_gzip(accept_encoding: bytes) -> bool:
    for item in accept_encoding.lower().split(b","):
        coding, _, weight = item.partition(b";")
        if coding.strip(b" \t") in (b"gzip", b"x-gzip"):
            return _NO_WEIGHT.fullmatch(weight) is None
    return False


def _listed_address(entry: bytes) -> str | None:
    """The IP literal of an entry of ``X-Forwarded-For``, written as :func:`srsproxy.address.client_address` does."""
    match = _LISTED_ADDRESS.fullmatch(entry)
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match[match.lastindex or 0].decode())
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def client_chain(head: RequestHead, peer: str, is_trusted: Callable[[str], bool]) -> list[str]:
    """The addresses through which a request came, as far as they can be believed: the client's, which is the rightmost
    one that is no trusted front, then those of the fronts; the TCP peer's is the last.

    A front tells in ``X-Forwarded-For`` who came to it, or, if it has none of that, in ``X-Real-IP``. What the client
    itself wrote to the left of that is not looked at, and neither is what is left of an entry that is no address.

    :param peer: IP literal of the TCP peer.
    :param is_trusted: whether an IP literal is that of a front.
    """
    chain = [peer]
    if is_trusted(peer):
        entries = head.value(b"x-forwarded-for") or head.value(b"x-real-ip") or b""
        for entry in reversed(entries.split(b",")):
            address = _listed_address(entry)
            if address is None:
                break
            chain.append(address)
            if not is_trusted(address):
                break
        chain.reverse()
    return chain


def origin_request(
    head: RequestHead,
    *,
    target: bytes,
    chain: Sequence[str],
    from_front: bool,
    scheme: str,
    authority: bytes | None = None,
    body: int | Literal[Framing.CHUNKED] = 0,
    method: bytes | None = None,
    to_rewrite: bool = False,
) -> bytes:
    """The head of the request for the origin, in HTTP/1.1.

    :param target: in origin-form, without the host.
    :param chain: what :func:`client_chain` found. The origin is told all of it in ``X-Forwarded-For``, where SRS
        believes the first, and the client in ``X-Real-IP``, which SRS knows by this spelling only.
    :param from_front: the peer is a trusted front: what it says in ``X-Forwarded-Proto`` and ``Forwarded`` goes on.
    :param scheme: ``http`` or ``https``: what the client, as far as we see, speaks.
    :param authority: the ``Host`` to send instead of the client's. Needed if the target was in absolute-form (RFC 9112
        section 3.2.2), or if the client has sent none, as HTTP/1.0 may.
    :param body: what :func:`srsproxy.http.head.request_body` found. A length of 0 is told only if the client told it.
    :param method: instead of the client's.
    :param to_rewrite: the answer's body will be rewritten: the whole is asked for, compressed with gzip at the most.
    """
    parts = [b"%b %b HTTP/1.1\r\n" % (method or head.method, target)]
    if authority is not None:
        parts.append(b"Host: %b\r\n" % authority)
    told_scheme = (from_front and head.value(b"x-forwarded-proto")) or scheme.encode()
    parts.append(_remaining(head, _DROPPED[from_front, authority is not None, to_rewrite]))
    client, addresses = chain[0].encode(), ", ".join(chain).encode()
    parts.append(b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\n" % (addresses, client))
    parts.append(b"X-Forwarded-Proto: %b\r\n" % told_scheme)
    if to_rewrite:
        gzip = _takes_gzip(head.value(b"accept-encoding") or b"")
        parts.append(b"Accept-Encoding: gzip\r\n" if gzip else b"Accept-Encoding: identity\r\n")
    if body != 0 or b"content-length" in head.by_name:
        parts.append(_end_of_body(body))
    parts.append(b"\r\n")
    return b"".join(parts)


def client_response(
    head: ResponseHead,
    *,
    framing: int | Framing | None,
    keep_alive: bool,
    request_minor: int,
    replaced: Sequence[Field] = (),
    rewritten: bool = False,
) -> bytes:
    """The head of the answer for the client.

    :param framing: how the body that is sent ends; after :attr:`~srsproxy.http.head.Framing.UNTIL_CLOSE` the connection
        is not kept. ``None`` if none is sent because the request was ``HEAD``: then the origin's ``Content-Length``, if
        it has sent one, says what ``GET`` would bring. Does not matter for statuses that have no body.
    :param keep_alive: the client may send another request.
    :param request_minor: of the client's HTTP version.
    :param replaced: fields to send instead of the origin's fields with these names, or to add.
    :param rewritten: the body is not the origin's any more, but has its coding.
    :raises ValueError: chunks for a client of HTTP/1.0, which cannot read them.
    """
    if framing is Framing.CHUNKED and request_minor == 0:
        raise ValueError("HTTP/1.0 has no chunks")
    status = head.status
    without_length = status < 200 or status == 204
    if without_length or status == 304:
        framing = None
    names = HOP_BY_HOP if framing is None and not without_length else _REWRITTEN if rewritten else _FRAMED
    if replaced:
        names = names.union([name.lower() for name, _ in replaced])
    return b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
        status,
        head.reason,
        _remaining(head, names),
        b"".join([b"%b: %b\r\n" % field for field in replaced]),
        _end_of_body(framing),
        _connection(keep_alive and framing is not Framing.UNTIL_CLOSE, request_minor),
    )


def _connection(keep_alive: bool, request_minor: int) -> bytes:
    """The line that tells whether the connection stays, unless the version says so."""
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"" if request_minor else b"Connection: keep-alive\r\n"


def relocated(location: bytes, authorities: Collection[bytes]) -> bytes:
    """A ``Location`` that leads the client back to us: without scheme and authority, if the authority is one of these,
    which are the origin's, in lower case; else as it is."""
    match = _ABSOLUTE.fullmatch(location)
    if match is None or match[1].lower() not in authorities:
        return location
    rest = match[2]
    if rest[:1] != b"/":
        return b"/" + rest
    # Two slashes at the beginning would name another host, and browsers take a backslash for one.
    return b"/." + rest if rest[1:2] in (b"/", b"\\") else rest


def answer(
    status: int,
    body: bytes = b"",
    *,
    head_only: bool,
    keep_alive: bool,
    request_minor: int,
    fields: Sequence[Field] = (),
) -> bytes:
    """A whole answer of our own.

    :param head_only: leave the body out, because the request was ``HEAD``.
    :param keep_alive: the client may send another request.
    :param request_minor: of the client's HTTP version.
    :param fields: to send, besides those about the connection and the body's length.
    """
    head = b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
        status,
        HTTPStatus(status).phrase.encode(),
        b"".join([b"%b: %b\r\n" % field for field in fields]),
        _end_of_body(None if status in (204, 304) else len(body)),
        _connection(keep_alive, request_minor),
    )
    return head if head_only else head + body


def error_answer(
    status: int,
    error: str,
    *,
    head_only: bool,
    keep_alive: bool,
    request_minor: int,
    extra: Sequence[Field] = (),
) -> bytes:
    """A whole answer that tells an error, as :func:`srsproxy.api.site.json_error` does, to players of any web page.

    :param extra: fields to add.
    """
    return answer(
        status,
        json.dumps({"code": status, "error": error}, separators=(",", ":")).encode(),
        head_only=head_only,
        keep_alive=keep_alive,
        request_minor=request_minor,
        fields=[
            (b"Content-Type", b"application/json"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Cache-Control", b"no-store"),
            *extra,
        ],
    )
