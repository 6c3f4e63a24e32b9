"""What names a stream: the identity that SRS itself computes, as the key under which the balancer keeps its pick.

Two names that SRS takes for one stream must give one key, or its player is sent to an origin that does not have it.
Two streams that share a key only land on the same origin, which is harmless. So every host that is not known to be a
vhost of its own folds into ``__defaultVhost__``, as it does in an origin that has no such vhost configured.

Nothing is percent-decoded, and everything is case sensitive, because that is how SRS compares names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from srsproxy.errors import PeerError

DEFAULT_VHOST = "__defaultVhost__"
DEFAULT_APP = "__defaultApp__"
"""The app of a tcUrl that has none."""

WEBRTC_APP = "live"
WEBRTC_STREAM = "livestream"
"""What a WHIP or WHEP client means that names no app or no stream."""

SRT_APP = "live"
"""The app of an SRT client's resource that has none, unless the origins have another ``default_app``."""

_PARAM_SEPARATOR = re.compile("&&|[=,&;]")
_QUERY_OR_FRAGMENT = re.compile("[?#]")
_SLASHES = re.compile("//+")
_BLANKS = str.maketrans("", "", " \r\n\t")
_MAX_PORT = 65535
_TOLD = 200
"""Characters of a name that an error tells; a peer may send many thousands."""

# What SRS's URL parser takes. The rest matters too: a stream name that it does not take is handled in another way.
_URL = re.compile(
    r"""
    [A-Za-z]+ ://
    (?: [A-Za-z0-9_.!~*'()%;:&=+$,-]* @ )?
    (?: \[ [0-9A-Fa-f:.%]+ \] | (?P<host> __defaultVhost__ [A-Za-z0-9.-]* | [A-Za-z0-9.-]+ ) )
    (?: :0* (?P<port> [0-9]{1,5}) )?
    (?P<path> (?: / [!-"$->@-~]* )? )
    (?: \? (?P<query> [!-"$-~]* ) )?
    (?: \# (?P<fragment> [!-~]* ) )?
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class StreamKey:
    """One stream. ``str(key)`` is its identity, and is the Go proxy's key too: ``__defaultVhost__/live/livestream``.

    ``stream`` has no ``/``; wherever the client put the border, SRS sees one path. Names are bytes on the wire: what is
    not UTF-8 stands as surrogate escapes.
    """

    vhost: str
    app: str
    stream: str

    def __str__(self) -> str:
        return f"{self.vhost}/{self.app}/{self.stream}"


def requested_vhost(host: str, params: Mapping[str, str]) -> str:
    """The vhost that a client asks for, in every protocol.

    :param host: the host name that it dialled, without the port.
    :param params: the parameters that it gave; ``vhost``, or else ``domain``, goes before the host.
    """
    explicit = params.get("vhost") or params.get("domain") or DEFAULT_VHOST
    return host if explicit == DEFAULT_VHOST else explicit


def fold_vhost(requested: str, vhosts: frozenset[str]) -> str:
    """The vhost that serves the request: one of ``vhosts``, which the origins have configured, or the default one."""
    return requested if requested in vhosts else DEFAULT_VHOST


def split_params(query: str) -> dict[str, str]:
    """The parameters of a query as SRS splits them: at any separator, taken pairwise, the last of equal names counts.

    A name without a value takes the next name for its value; that is SRS's reading, not a mistake here.
    """
    words = _PARAM_SEPARATOR.split(query)
    return dict(zip(words[::2], [*words[1::2], ""], strict=False))


def strip_extension(stream: str) -> str:
    """The stream name without what follows its last dot: ``livestream.flv`` is ``livestream``."""
    name, dot, _ = stream.rpartition(".")
    return name if dot else stream


@dataclass(frozen=True, slots=True)
class _Reading:
    """What SRS gets out of a tcUrl and a stream name."""

    vhost: str
    app: str
    stream: str
    param: str
    """The query and the fragment, with their marks."""


def _read(tc_url: str, stream: str, before: _Reading | None) -> _Reading | None:
    """Read the two as one URL. ``None`` if it is none.

    :param before: the reading at connect. It leaves its parameters, to be appended, and its vhost, to be kept unless
        the parameters name another.
    """
    url = tc_url.replace("...vhost...", "?vhost=") + "/" + stream.removeprefix("/") + (before.param if before else "")
    slash = url.rfind("/")
    if (mark := _QUERY_OR_FRAGMENT.search(url, 0, slash)) is not None:
        # rtmp://host/app?query/stream, as FMLE has it, is meant as rtmp://host/app/stream?query.
        url = url[: mark.start()] + url[slash:] + url[mark.start() : slash]
    match = _URL.fullmatch(url.replace("/_definst_", ""))
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        return None

    query, fragment = match["query"] or "", match["fragment"] or ""
    # Of two queries in a row only the second is split; of more, the second and what is left of the others.
    first, second_mark, second = query.partition("?")
    params = split_params(second if second_mark else first)
    param = f"?{query}" if query or fragment else ""
    if fragment:
        param += f"#{fragment}"
    if (params.get("vhost") or params.get("domain")) == DEFAULT_VHOST and "&" not in param:
        param = ""  # it says nothing, so it is not appended
    app, _, name = match["path"].removeprefix("/").rpartition("/")
    host = match["host"] or ""  # an IPv6 address is nobody's vhost
    vhost = requested_vhost(before.vhost if before else host, params)
    return _Reading(vhost.strip("/"), app or DEFAULT_APP, name, param)


def _key(vhost: str, app: str, stream: str, vhosts: frozenset[str]) -> StreamKey:
    """The stream of these names; ``stream`` may have slashes and an extension."""
    app, _, name = f"{app}/{strip_extension(stream)}".rpartition("/")
    return StreamKey(fold_vhost(vhost, vhosts), app, name)


def from_rtmp(tc_url: str, stream: str, vhosts: frozenset[str]) -> StreamKey:
    """The stream that an RTMP client means.

    SRS reads tcUrl at connect, and again, together with the stream name, at publish or play. The second reading has the
    parameters of the first appended to its own, which has odd results that must be the same here: a tcUrl with a query
    and a stream name with a query lose their vhost. A name that makes no URL, such as one with a blank or not in ASCII,
    is taken as it is, with its parameters.

    :param tc_url: the ``tcUrl`` of the connect command.
    :param stream: the stream name of the publish, releaseStream or play command; it may carry parameters.
    :param vhosts: as for :func:`fold_vhost`.
    :raises PeerError: no stream is named, or tcUrl is no URL. SRS closes such connections.
    """
    at_connect = _read(tc_url, "", None)
    if at_connect is None:
        raise PeerError(f"tcUrl {tc_url[:_TOLD]!r} is not usable")
    reading = _read(tc_url, stream, at_connect) or replace(at_connect, stream=stream)
    app, name = reading.app, reading.stream
    if not name and app != DEFAULT_APP:
        # tcUrl holds the stream too: rtmp://host/app/stream.
        app, slash, name = app.partition("/")
        if not slash:
            name = reading.param.partition("/")[2]
    app, name = app.strip("/"), name.translate(_BLANKS).strip("/")
    if not app or not name:
        raise PeerError(f"tcUrl {tc_url[:_TOLD]!r} with stream name {stream[:_TOLD]!r} names no stream")
    return _key(reading.vhost, app, name, vhosts)


def from_http(host: str, path: str, params: Mapping[str, str], vhosts: frozenset[str]) -> StreamKey:
    """The stream that an HTTP client means by ``/app/stream.flv``, or by the name of a playlist.

    Parameters ``app`` and ``stream`` mean nothing. A path without an app gets the app that RTMP gives to a tcUrl
    without one. Repeated slashes count as one: playlists are files, which SRS finds so, and as a live stream it knows
    none of that name, whoever is asked.

    :param host: the host name that the client asked for, without the port.
    :param path: the path as it stands in the request, with its leading slash.
    :param params: the parameters of the query, as :func:`split_params` has them.
    :param vhosts: as for :func:`fold_vhost`.
    :raises PeerError: no stream is named.
    """
    if "//" in path:
        path = _SLASHES.sub("/", path)
    app, _, name = path.removeprefix("/").rpartition("/")
    stream = strip_extension(name)
    if not stream:
        raise PeerError(f"the path {path[:_TOLD]!r} names no stream")
    return StreamKey(fold_vhost(_http_vhost(host, params), vhosts), app or DEFAULT_APP, stream)


def _http_vhost(host: str, params: Mapping[str, str]) -> str:
    """The vhost that an HTTP client asks for. Unlike in RTMP, ``__defaultVhost__`` goes before the host too."""
    return params.get("vhost") or params.get("domain") or host


def from_whip(host: str, params: Mapping[str, str], vhosts: frozenset[str]) -> StreamKey:
    """The stream that a WHIP or WHEP client means, whose path says nothing about it. Parameters are as for
    :func:`from_http`, and ``app`` and ``stream`` have defaults; nothing is trimmed."""
    return _key(
        _http_vhost(host, params), params.get("app") or WEBRTC_APP, params.get("stream") or WEBRTC_STREAM, vhosts
    )


def from_webrtc_url(url: str, vhosts: frozenset[str]) -> StreamKey:
    """The stream that a client of SRS's JSON API for WebRTC means by ``webrtc://host/app/stream``.

    It is read as an RTMP client's names are, but only once, and nothing is trimmed. ``/app/stream`` alone will do. What
    SRS cannot read, because it has a blank or is not ASCII, names a stream without an app by what follows its last
    slash.

    :param url: the ``streamurl``; it may carry parameters.
    :param vhosts: as for :func:`fold_vhost`.
    :raises PeerError: it is neither a URL nor a path.
    """
    if url.startswith("/"):
        url = f"webrtc://{DEFAULT_VHOST}{url}"
    if "://" not in url:
        raise PeerError(f"streamurl {url[:_TOLD]!r} is no URL")
    tc_url, _, stream = url.rpartition("/")
    reading = _read(tc_url, stream, None) or _Reading("", "", stream, "")
    return _key(reading.vhost, reading.app, reading.stream, vhosts)


def from_srt(vhost: str, resource: str, vhosts: frozenset[str]) -> StreamKey:
    """The stream that an SRT client means by ``app/stream``, which may have a query. The first slash is the border, be
    it one within the query. Nothing is trimmed, and no parameter names a vhost.

    :param vhost: the vhost that the stream id names; empty if it names none.
    :param resource: what else it names, see :func:`srsproxy.srt.streamid.read_stream_id`.
    :param vhosts: as for :func:`fold_vhost`.
    """
    app, slash, stream = resource.partition("/")
    if not slash:
        app, stream = SRT_APP, resource
    return _key(vhost, app, stream.partition("?")[0], vhosts)
