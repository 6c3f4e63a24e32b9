"""What names a stream: the identity that SRS itself computes, as the key under which the balancer keeps its pick.

Two names that SRS takes for one stream must give one key, or its player is sent to an origin that does not have it.
Two streams that share a key only land on the same origin, which is harmless. So every host that is not known to be a
vhost of its own folds into ``__defaultVhost__``, as it does in an origin that has no such vhost configured.

Nothing is percent-decoded, and everything is case sensitive, because that is how SRS compares names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from srsproxy.errors import PeerError

DEFAULT_VHOST = "__defaultVhost__"
DEFAULT_APP = "__defaultApp__"
"""The app of a tcUrl that has none."""

_PARAM_SEPARATOR = re.compile("&&|[=,&;]")
_URL = re.compile(
    r"""
    (?P<scheme>[^:/?\#]+)://
    (?:[^/?\#@]*@)?                                     # user and password name no stream
    (?P<host>\[[^\]/?\#@]+\]|[^\[\]:/?\#@]+)
    (?::(?P<port>[0-9]{1,5}))?
    (?P<path>/[^?\#]*)
    (?:\?(?P<query>[^\#]*))?
    (?:\#.*)?
    """,
    re.VERBOSE | re.DOTALL,
)
_MAX_PORT = 65535
_WITHOUT_BLANKS = str.maketrans("", "", " \r\n\t")


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


def resolve_vhost(host: str, params: Mapping[str, str], vhosts: frozenset[str]) -> str:
    """The vhost that a client asks for, in every protocol.

    :param host: the host name that the client dialled, without its port.
    :param params: the parameters it gave; ``vhost``, or else ``domain``, counts before the host.
    :param vhosts: the vhosts, besides the default one, that are configured at the origins.
    """
    explicit = params.get("vhost") or params.get("domain") or DEFAULT_VHOST
    candidate = host if explicit == DEFAULT_VHOST else explicit
    return candidate if candidate in vhosts else DEFAULT_VHOST


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
class _Url:
    host: str
    path: str
    query: str


def _parse_url(text: str) -> _Url:
    match = _URL.fullmatch(text)
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        raise PeerError(f"unusable stream URL {text!r}")
    return _Url(host=match["host"], path=match["path"], query=match["query"] or "")


def _rtmp_url(tc_url: str, stream: str, connect_param: str) -> _Url:
    """The URL of a stream: tcUrl and stream name joined, and a query between them moved behind the name."""
    url = tc_url.replace("...vhost...", "?vhost=") + "/" + stream.removeprefix("/") + connect_param
    slash = url.rfind("/")
    query = re.search("[?#]", url[:slash])
    if query is not None:
        at = query.start()
        url = url[:at] + url[slash:] + url[at:slash]
    return _parse_url(url.replace("/_definst_", ""))


def from_rtmp(tc_url: str, stream: str, vhosts: frozenset[str]) -> StreamKey:
    """The stream that an RTMP client means.

    SRS reads tcUrl twice, at connect and at publish or play, and the second time with the query of the first appended.
    When that leaves a second ``?`` in the query, only what follows it counts. So a tcUrl with a query and a stream name
    with a query lose their vhost; they must lose it here too.

    :param tc_url: the ``tcUrl`` of the connect command.
    :param stream: the stream name of the publish, releaseStream or play command; it may carry parameters.
    :param vhosts: as for :func:`resolve_vhost`.
    :raises PeerError: no stream is named, or tcUrl is no URL. SRS closes such connections.
    """
    at_connect = _rtmp_url(tc_url, "", "").query
    url = _rtmp_url(tc_url, stream, f"?{at_connect}" if at_connect else "")
    first, mark, second = url.query.partition("?")
    params = split_params(second if mark else first)

    app, _, name = url.path.removeprefix("/").rpartition("/")
    app = app or DEFAULT_APP
    if not name:
        app, _, name = app.partition("/")
    app, name = (part.translate(_WITHOUT_BLANKS).strip("/") for part in (app, name))
    if not app or not name:
        raise PeerError(f"no stream is named by tcUrl {tc_url!r} and stream name {stream!r}")
    app, _, name = f"{app}/{strip_extension(name)}".rpartition("/")
    return StreamKey(resolve_vhost(url.host, params, vhosts), app, name)
