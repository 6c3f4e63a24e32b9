"""HLS playlists (RFC 8216 and its second edition), rewritten so that what they name is asked for at the same origin.

Every URI in a playlist of SRS is one of that origin's files, and only this origin has them. The pinning parameter that
is added to each says which origin it is, so that no proxy has to remember what it gave out, and a player finds the same
URI in each refresh.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.http.target import PARAMETER, split_pin
from srsproxy.streamkey import split_params

Pin = Callable[[bytes | None], bytes | None]
"""The token for URIs of this authority (``host:port``, or ``host`` if it is port 80), ``None`` if it is no origin's.
Asked with ``None`` for URIs that name no authority, and so are files of the origin that the playlist is from."""

_HEADER: Final = re.compile(rb"(?:\xef\xbb\xbf)?#EXTM3U(?!\S)")
# Of an attribute list, what is before the URI, which may hold quoted commas; and the URI. Possessive, so that it takes
# linear time.
_TAG_WITH_URI: Final = re.compile(
    rb"#EXT-X-(?:KEY|SESSION-KEY|SESSION-DATA|MAP|MEDIA|I-FRAME-STREAM-INF|PART|PRELOAD-HINT|RENDITION-REPORT):"
    rb'(?:(?:[^",]++|"[^"]*+")*+,)*?[ \t]*URI="([^"]+)"'
)
_ATTRIBUTE: Final = b'URI="'
_NO_URI: Final = (b"#", b"\xef\xbb\xbf")
"""What a line begins with that is no URI, though a blank or a byte order mark is in front of its ``#``."""
_ELSEWHERE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+:|//|\{\$")
"""What a URI begins with that has a scheme or an authority, or may have: a variable can stand for them."""
_WITH_AUTHORITY: Final = re.compile(rb"(?i:(https?):)?//([^/?#\\]*)(.*)", re.DOTALL)
_HTTPS_PORT: Final = b":443"
_PORT: Final = re.compile(rb":[0-9]*\Z")

_CONTEXT: Final = "hls_ctx"
_VARIANT: Final = b"#EXT-X-STREAM-INF:"

_GZIP: Final = 16 + zlib.MAX_WBITS
"""What zlib calls the gzip format."""


def rewrite(playlist: bytes, pin: Pin) -> bytes:
    """The playlist with the pinning parameter in each URI that leads to an origin.

    These are the URI lines, and the ``URI`` attributes of keys, initialization sections, renditions, I-frame playlists,
    parts and session data. A URI that names the authority of an origin becomes one without, so that it leads through
    the proxy. Everything else stays as it is, byte for byte: other authorities and schemes, URIs that begin with a
    variable, which may stand for either, tags, comments, line ends, and the whole of what does not begin with
    ``#EXTM3U``, which is no playlist. Rewriting a second time changes nothing.
    """
    if not _HEADER.match(playlist):
        return playlist
    token = pin(None)
    has_attributes = _ATTRIBUTE in playlist
    lines = playlist.split(b"\n")
    for index, line in enumerate(lines):
        if not line.startswith(b"#"):
            uri = line.strip()
            if uri and not uri.startswith(_NO_URI):
                pinned = _pinned(uri, token, pin)
                lines[index] = pinned if len(uri) == len(line) else line.replace(uri, pinned)
        elif has_attributes and (match := _TAG_WITH_URI.match(line)) is not None:
            start, end = match.span(1)
            lines[index] = line[:start] + _pinned(line[start:end], token, pin) + line[end:]
    return b"\n".join(lines)


def _pinned(uri: bytes, token: bytes | None, pin: Pin) -> bytes:
    """The URI as it is in the rewritten playlist.

    :param token: for a URI without an authority.
    """
    if _ELSEWHERE.match(uri):
        found = _WITH_AUTHORITY.match(uri)
        if found is None:
            return uri
        scheme, authority, rest = found.groups()
        if (scheme or b"").lower() == b"https" and not _PORT.search(authority):
            authority += _HTTPS_PORT
        token = pin(authority)
        if token is not None:
            # A second slash, or what browsers take for one, would make an authority out of the path.
            uri = b"/" + rest.lstrip(b"/\\")
    if token is None:
        return uri
    resource, number_sign, fragment = uri.partition(b"#")
    path, _, query = resource.partition(b"?")
    others = split_pin(query)[1].rstrip(b"&")
    joint = b"?%b&" % others if others else b"?"
    return b"%b%b%b=%b%b%b" % (path, joint, PARAMETER, token, number_sign, fragment)


def is_master_for_stranger(playlist: bytes, target: bytes) -> bool:
    """Whether this is what SRS answers to a viewer who has a context (``hls_ctx``) that SRS does not know, such as one
    that another origin gave him: a master playlist that leads to the very same playlist and context.

    From then on SRS knows the context, and answers the same request with the media playlist that the viewer wants; he
    has been through the master, and would not expect one again.

    :param target: what SRS was asked for, in origin-form.
    """
    if playlist.count(_VARIANT) != 1 or not _HEADER.match(playlist):
        return False
    uris = [line for line in playlist.splitlines() if line and not line.startswith(b"#")]
    path, _, query = target.partition(b"?")
    context = split_params(query.decode("utf-8", "surrogateescape")).get(_CONTEXT)
    if len(uris) != 1 or not context:
        return False
    uri, _, uri_query = uris[0].partition(b"?")
    return uri == path and split_params(uri_query.decode("utf-8", "surrogateescape")).get(_CONTEXT) == context


def unzip(body: bytes, limit: int) -> bytes:
    """What is in a gzip body of one member, as servers write them.

    :param limit: bytes that may come out of it.
    :raises LimitExceeded: it is more.
    :raises PeerError: the body is no gzip, or more or less than one member.
    """
    unzipping = zlib.decompressobj(_GZIP)
    try:
        plain = unzipping.decompress(body, limit + 1)
    except zlib.error as error:
        raise PeerError("a gzip body cannot be decompressed") from error
    if len(plain) > limit:
        raise LimitExceeded(f"a gzip body is longer than {limit} bytes when decompressed")
    if not unzipping.eof:
        raise PeerError("a gzip body ends early")
    if unzipping.unused_data:
        raise PeerError("a gzip body goes on behind its end")
    return plain


def zip(body: bytes) -> bytes:
    """The body as gzip, without a date: the same bytes from the same body."""
    return zlib.compress(body, wbits=_GZIP)
