"""What the HTTP requests and answers of WebRTC mean: WHIP (RFC 9725), WHEP, and SRS's JSON API.

WHIP and WHEP are one to SRS: parameters name the stream, and the end of the path tells whether it is played. The JSON
API has a URL in the body. Requests go on to the origin as they came, so reading is all that happens to them, but for
the ICE credentials that a proxy adds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from srsproxy.errors import PeerError
from srsproxy.streamkey import StreamKey, from_webrtc_url, from_whip, split_params
from srsproxy.values import PublicAddress, public_address
from srsproxy.webrtc.sdp import IceCredentials

_WHIP: Final = b"/rtc/v1/whip/"
_WHEP: Final = b"/rtc/v1/whep/"
MOUNTS: Final = (_WHIP, b"/rtc/v1/whip-play/", _WHEP)
"""Where SRS serves WHIP and WHEP. Whatever follows in a path means nothing but what :func:`read_offer` says."""

_PLAYED: Final = (b"/whip-play/", b"/whep/")

_SESSION: Final = re.compile(rb"(?:^|[&;,])session=[^&;,=]*")
_ESCAPED: Final = re.compile(rb"%(?:2[Bb]|2[Ff]|3[Aa])")
"""What else than letters and digits is in the names of sessions (RFC 8839, section 5.4)."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""What JSON can escape, but nobody can write."""

Action = Literal["publish", "play"]


@dataclass(frozen=True, slots=True)
class OfferTarget:
    """What a WHIP or WHEP client wants, by the target of its request."""

    key: StreamKey
    action: Action

    path: bytes
    """What to ask the origin for, see :func:`served_path`."""


@dataclass(frozen=True, slots=True)
class JsonOffer:
    """What a client of the JSON API wants."""

    key: StreamKey
    action: Action

    sdp: str
    """Its offer."""


@dataclass(frozen=True, slots=True)
class SessionTarget:
    """Which session a DELETE or PATCH is about, by the Location that SRS gave to the client."""

    username: str | None
    """The name by which STUN knows it: ``<origin's ufrag>:<client's ufrag>``; ``None`` if it is not told."""

    key: StreamKey
    """The stream of the session. Its vhost may be another: SRS does not repeat the parameter that named it."""


def served_path(path: bytes) -> bytes:
    """The path to ask an origin for, which means the same: with the slash for whose lack SRS would redirect the client,
    and without what else follows, because it might lead elsewhere.

    :raises PeerError: it is not at one of :data:`MOUNTS`.
    """
    if path + b"/" in MOUNTS:
        return path + b"/"
    if path in MOUNTS:
        return path
    if path.startswith(MOUNTS) and b"#" not in path:
        return _WHEP if path.endswith(_PLAYED) else _WHIP
    raise PeerError("the path is none of WHIP and WHEP")


def _check_query(query: bytes) -> None:
    """
    :raises PeerError: the client chooses the ICE credentials that the origin shall have, or might be understood so:
        SRS keeps a session for a while that a hook has refused, and whoever knows its credentials could use it. Or
        there is a fragment, which SRS does not read.
    """
    if b"ice-ufrag" in query or b"ice-pwd" in query:
        raise PeerError("ice-ufrag and ice-pwd are chosen by the proxy")
    if b"#" in query:
        raise PeerError("the request target has a fragment")


def read_offer(path: bytes, query: bytes, host: bytes, vhosts: frozenset[str]) -> OfferTarget:
    """What a POST means.

    Only a path that ends in ``/whep/`` or ``/whip-play/`` plays by itself: ``/rtc/v1/whep/live`` publishes. All others
    do as ``action`` says, which is to publish if it is empty, and to play if it is anything but ``publish``.

    :param path: as it stands in the request.
    :param query: without its ``?``; empty if there is none.
    :param host: the value of the Host field; empty if there was none.
    :param vhosts: as for :func:`~srsproxy.streamkey.fold_vhost`.
    :raises PeerError: the path is not at one of :data:`MOUNTS`, there is a fragment, which SRS would not read, or the
        client chooses ``ice-ufrag`` or ``ice-pwd``.
    """
    path = served_path(path)
    _check_query(query)
    params = _params(query)
    plays = path.endswith(_PLAYED) or params.get("action", "") not in ("", "publish")
    return OfferTarget(key=_key(params, host, vhosts), action="play" if plays else "publish", path=path)


def with_credentials(query: bytes, credentials: IceCredentials) -> bytes:
    """The query of a request with the ICE credentials that SRS shall have.

    They are put before the others: SRS would take them for a value if they came behind a name that has none.
    """
    added = f"ice-ufrag={credentials.ufrag}&ice-pwd={credentials.pwd}".encode("ascii")
    if not query:
        return added
    # SRS reads "&&" as one separator, and what follows in another way than the client's query by itself.
    return added + (b";" if query.startswith(b"&") else b"&") + query


def session_query(query: bytes) -> bytes:
    """The query of a request about a session with the session's name as SRS has written it. SRS decodes nothing: it
    would not know a name in which a client has percent-encoded ``+``, ``/`` or ``:``, but answer as if it did."""
    return _SESSION.sub(lambda name: _ESCAPED.sub(lambda escaped: unquote_to_bytes(escaped[0]), name[0]), query)


def read_session(query: bytes, host: bytes, vhosts: frozenset[str]) -> SessionTarget:
    """What a DELETE or PATCH is about. Parameters are as for :func:`read_offer`.

    :param query: see :func:`session_query`.
    :raises PeerError: the client chooses ``ice-ufrag`` or ``ice-pwd``.
    """
    _check_query(query)
    params = _params(query)
    return SessionTarget(params.get("session") or None, _key(params, host, vhosts))


def eip(query: bytes) -> PublicAddress | None:
    """The address that the client wants for a candidate in its answer: ``eip``, or else ``candidate``; ``None`` if it
    gives none, or what is no address."""
    params = _params(query)
    try:
        return public_address(params.get("eip") or params.get("candidate") or "")
    except ValueError:
        return None


def read_json_offer(body: bytes, play: bool, vhosts: frozenset[str]) -> JsonOffer:
    """What a POST to the JSON API means.

    :param play: whether it is to ``/rtc/v1/play/`` and not to ``/rtc/v1/publish/``.
    :param vhosts: as for :func:`~srsproxy.streamkey.fold_vhost`.
    :raises PeerError: the body is no JSON object, or ``sdp`` or ``streamurl`` is no string, or the latter is no URL.
    """
    members = _json_object(body)
    sdp, streamurl = members.get("sdp"), members.get("streamurl")
    if not isinstance(sdp, str) or not isinstance(streamurl, str):
        raise PeerError("the offer has not both sdp and streamurl, which are strings")
    if _SURROGATE.search(streamurl):
        raise PeerError("streamurl has half a character")
    return JsonOffer(from_webrtc_url(streamurl, vhosts), "play" if play else "publish", sdp)


def rewrite_json_answer(body: bytes, rewrite: Callable[[str], str]) -> tuple[bytes, str | None]:
    """The answer of the JSON API to pass on, and the SDP that came with it. Of the JSON value only ``sdp`` changes.

    An answer that says why there is no session, by a ``code`` other than 0, has no SDP and is passed on as it is.

    :param rewrite: makes the SDP to pass on. What it raises is raised.
    :raises PeerError: the body is neither.
    """
    members = _json_object(body)
    sdp = members.get("sdp")
    if isinstance(sdp, str):
        members["sdp"] = rewrite(sdp)
        return json.dumps(members, separators=(",", ":")).encode("ascii"), sdp
    if members.get("code", 0) != 0:
        return body, None
    raise PeerError("the answer has neither an SDP nor a code that is not 0")


def _params(query: bytes) -> dict[str, str]:
    return split_params(query.decode("utf-8", "surrogateescape"))


def _key(params: dict[str, str], host: bytes, vhosts: frozenset[str]) -> StreamKey:
    # An IPv6 address has more colons, and is nobody's vhost.
    return from_whip(host.partition(b":")[0].decode("utf-8", "surrogateescape"), params, vhosts)


def _json_object(body: bytes) -> dict[str, object]:
    """
    :raises PeerError: the body is no JSON object.
    """
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PeerError("the body is no JSON") from error
    if not isinstance(value, dict):
        raise PeerError("the body is no JSON object")
    return value
