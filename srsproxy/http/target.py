"""What the target of an HTTP request means: a live stream, a playlist or another file of an origin, or a page of ours.

All that a name can tell is its extension, and for a few names that is not enough: ``/live/cam-1.ts`` is the live stream
``live/cam-1``, or a segment of ``live/cam``. :attr:`Target.keys` has every stream that may be meant. Who has more than
one asks the balancer which of them exists (``picked``), and takes :attr:`Target.key` if none does, so that a name that
means nothing does not become one more stream; :meth:`Target.kind_of` then tells what was asked for::

    key = target.key if len(target.keys) == 1 else await balancer.picked(target.keys) or target.key

SRS looks up a live stream by the vhost that the client asks for, but a playlist or a segment by its path alone. So the
stream of a file may have any vhost, and a vhost may be the first part of the path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from srsproxy.errors import PeerError
from srsproxy.streamkey import DEFAULT_VHOST, from_http, split_params

PARAMETER: Final = b"spbhid"
"""The query parameter that pins a request to an origin; the Go proxy's name for it."""

MAX_KEYS: Final = 16
"""Streams that one file may belong to. Each is one look-up; files of more vhosts are found by their pin, or by the host
that the client names."""

MAX_REMEMBERED: Final = 2048
"""Targets whose meaning is remembered."""

MAX_REMEMBERED_SIZE: Final = 512
"""Bytes of the path of one, and of the query if it counts, lest clients fill the memory with long ones."""

_MAX_NUMBERS: Final = 3
"""Numbers at the end of a segment's name: a sequence number, and maybe a date or a time before it."""

_TOLD: Final = 200
"""Bytes of a target that an error tells."""

_ORIGIN_FORM: Final = re.compile(rb"(/[^\0- \x7f?#]*)(?:\?([^\0- \x7f#]*))?")
_ABSOLUTE_FORM: Final = re.compile(
    rb"(?i:https?)://((?:\[[0-9A-Fa-f:.]+\]|[^\0- \x7f-\xff?#/@:\[\]]+)(?::[0-9]{1,5})?)"
    rb"(/[^\0- \x7f?#]*)?(?:\?([^\0- \x7f#]*))?"
)
_PARAMETER: Final = re.compile(rb"(?:\A|&&?)%b(?:=([^&]*))?(?=&|\Z)" % PARAMETER)
_PIN: Final = re.compile(rb"[0-9A-Za-z_-]{1,16}")
"""A token of ours has 16 characters, one of the Go proxy 7."""


class Kind(Enum):
    """What is asked for."""

    LIVE = "live"
    """A stream, as one response without end."""

    PLAYLIST = "playlist"
    """An HLS playlist."""

    FILE = "file"
    """Another file that an origin has: a segment, an initialization section, a key, a DASH manifest."""

    LOCAL = "local"
    """Nothing of an origin's: a static file or the API."""


_NEVER_FILES: Final = (b"/api/", b"/console/", b"/rtc/")
"""Paths that SRS controls itself by. Its API may share the port of its streams, and is not for viewers."""

_FILE: Final = (Kind.FILE, "hls")
_BY_EXTENSION: Final[dict[bytes, tuple[Kind, str]]] = {
    b"flv": (Kind.LIVE, "flv"),
    b"ts": (Kind.LIVE, "ts"),
    b"aac": (Kind.LIVE, "aac"),
    b"mp3": (Kind.LIVE, "mp3"),
    b"m3u8": (Kind.PLAYLIST, "hls"),
    b"key": _FILE,
    b"m4s": _FILE,
    b"m4a": _FILE,
    b"m4v": _FILE,
    b"cmfa": _FILE,
    b"cmfv": _FILE,
    b"vtt": _FILE,
    b"mpd": _FILE,
}
_NOTHING: Final = (Kind.LOCAL, "")
_DASH_INITIALIZATION: Final = b"-init.mp4"
_DASH: Final = frozenset({b"m4s", b"mp4"})
_DASH_TRACKS: Final = frozenset({"audio", "video"})
_NO_PARAMS: Final[dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """A request target that was understood."""

    kind: Kind
    """If this is ``LIVE`` and there are several keys, :meth:`kind_of` knows better."""

    format: str
    """The extension of a live stream; ``hls`` for playlists and all other files, those of DASH too; empty for
    ``LOCAL``."""

    keys: tuple[str, ...]
    """The streams that may be meant, likeliest first, at most ``MAX_KEYS``; none for ``LOCAL``."""

    pin: str | None
    """The value of the pinning parameter; ``None`` if there is none that could be of any use."""

    needs_pin: bool
    """Whether it is a file only because of its pin: if no origin has that, it is a page of ours."""

    forwarded: bytes
    """What to ask the origin for: the target in origin-form, as the client wrote it but for the pinning parameter."""

    path: bytes
    """The path of ``forwarded``."""

    authority: bytes
    """The host, and port, that the client means: ``Host``, or what an absolute-form says instead."""

    @property
    def key(self) -> str:
        """The stream to take if nobody knows any of ``keys``: of a name that could be a segment's, the stream of the
        segment, because that is the same one for all its segments. Not for ``LOCAL``."""
        return self.keys[1 if self._is_ambiguous else 0]

    def kind_of(self, key: str) -> Kind:
        """What is asked for, given which one of ``keys`` is meant."""
        return Kind.FILE if self._is_ambiguous and key != self.keys[0] else self.kind

    @property
    def _is_ambiguous(self) -> bool:
        return self.kind is Kind.LIVE and len(self.keys) > 1


def read_target(target: bytes, host: bytes, vhosts: frozenset[str]) -> Target:
    """What a request asks for.

    The pinning parameter is ``spbhid`` between two ``&``, to the letter. Every one of them is kept from the origin, and
    the last counts, as it does for other parameters in SRS; one that is empty, has other characters than a pin has,
    percent-encoded ones included, or is longer than any, is no pin.

    :param target: of the request line, in origin-form or absolute-form (RFC 9112, section 3.2).
    :param host: the value of the Host field; empty if there was none.
    :param vhosts: as for :func:`~srsproxy.streamkey.fold_vhost`.
    :raises PeerError: the target has neither form, has a fragment, climbs with ``..`` (SRS closes such connections
        without a word), or its name is an extension and nothing else.
    """
    authority = host
    match = _ORIGIN_FORM.fullmatch(target)
    if match is not None:
        path, query = match.groups()
        forwarded = target
    else:
        authority, path, query = _read_absolute(target)
        forwarded = path if query is None else b"%b?%b" % (path, query)
    if b".." in path and b".." in path.split(b"/"):
        raise PeerError(f"the path {path[:_TOLD].decode('latin-1')} climbs up")

    pin = None
    if query is not None:
        value, others = split_pin(query)
        if value is not None:
            query = others
            forwarded = b"%b?%b" % (path, query) if query else path
            pin = value.decode("ascii") if _PIN.fullmatch(value) else None

    by_vhost = query if vhosts and query is not None and (b"vhost" in query or b"domain" in query) else None
    meaning = _meaning if len(path) + len(by_vhost or b"") <= MAX_REMEMBERED_SIZE else _meaning.__wrapped__
    kind, media, keys, needs_pin = meaning(path, by_vhost, authority if vhosts else b"", vhosts, pin is not None)
    if kind is Kind.LOCAL and not forwarded.isascii():
        raise PeerError("the request target is not ASCII")
    return Target(kind, media, keys, pin, needs_pin, forwarded, path, authority)


@lru_cache(maxsize=MAX_REMEMBERED)
def _meaning(
    path: bytes, query: bytes | None, authority: bytes, vhosts: frozenset[str], pinned: bool
) -> tuple[Kind, str, tuple[str, ...], bool]:
    """Kind, format and keys of a target, and whether it needs its pin; remembered because the viewers of a stream ask
    for the same.

    :param query: if it may name a vhost.
    """
    extension = path.rpartition(b".")[2]
    if b"/" + path.lstrip(b"/") == b"/metrics" or (b"/" + path.lstrip(b"/")).startswith(_NEVER_FILES):
        return Kind.LOCAL, "", (), False
    kind, media = _BY_EXTENSION.get(extension, _NOTHING)
    needs_pin = False
    if kind is Kind.LOCAL and path.endswith(_DASH_INITIALIZATION):
        kind, media = _FILE
    elif pinned and kind is not Kind.PLAYLIST and not path.endswith(b"/"):
        # Playlists pin nothing but files, whatever their names are.
        needs_pin = kind is Kind.LOCAL
        kind, media = _FILE
    if kind is Kind.LOCAL:
        return kind, media, (), False

    key = _requested_key(path, query, authority, vhosts)
    keys: tuple[str, ...] = (key,)
    if kind is Kind.LIVE:
        if extension == b"ts" and (streams := _streams_of_segment(key, False)):
            keys = (key, *_in_any_vhost(streams, vhosts))[:MAX_KEYS]
    elif kind is Kind.PLAYLIST or extension == b"mpd":
        keys = _in_any_vhost(keys, vhosts)
    else:
        keys = _in_any_vhost((*_streams_of_segment(key, extension in _DASH), key), vhosts)
    return kind, media, keys, needs_pin


def _read_absolute(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """The authority, the path and the query of an absolute-form."""
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        what = "has a fragment" if b"#" in target else "is neither in origin-form nor in absolute-form"
        raise PeerError(f"the request target {target[:_TOLD]!r} {what}")
    authority, path, query = match.groups()
    return authority, path or b"/", query


def split_pin(query: bytes) -> tuple[bytes | None, bytes]:
    """The value of the pinning parameter, the last if there are several, and the query without them.

    Each takes one separator with it, which is ``&`` or, as SRS and the playlists of the Go proxy have it, ``&&``: one
    too many would make SRS misread the parameter behind it.
    """
    if PARAMETER not in query:
        return None, query
    values = _PARAMETER.findall(query)
    rest = _PARAMETER.sub(b"", query)
    if not query.startswith(b"&"):
        # The first parameter was a pin, if there is a separator now.
        rest = rest.removeprefix(b"&").removeprefix(b"&")
    return values[-1] if values else None, rest


def _requested_key(path: bytes, query: bytes | None, authority: bytes, vhosts: frozenset[str]) -> str:
    """The stream of this path and the vhost that the client asks for."""
    host, params = "", _NO_PARAMS
    if vhosts:
        # An IPv6 address has more colons, and is nobody's vhost.
        host = authority.partition(b":")[0].decode("utf-8", "surrogateescape")
        if query:
            params = split_params(query.decode("utf-8", "surrogateescape"))
    return str(from_http(host, path.decode("utf-8", "surrogateescape"), params, vhosts))


def _streams_of_segment(key: str, dash: bool) -> tuple[str, ...]:
    """The streams that this may name a segment of, likeliest first; none if it has no number.

    SRS writes ``[stream]-[seq].ts`` for HLS, unless it is told to add more numbers, and ``[stream]/video-[seq].m4s``
    for DASH.

    :param dash: whether it may be a file of DASH.
    """
    streams: list[str] = []
    stream, hyphen, number = key.rpartition("-")
    while hyphen and (number.isdecimal() or number == "init") and stream[-1] != "/" and len(streams) < _MAX_NUMBERS:
        folder, _, name = stream.rpartition("/")
        if dash and name in _DASH_TRACKS and folder.count("/") > 1:
            return (folder, stream)
        streams.append(stream)
        stream, hyphen, number = stream.rpartition("-")
    return tuple(streams)


def _in_any_vhost(keys: tuple[str, ...], vhosts: frozenset[str]) -> tuple[str, ...]:
    """The streams of these names, which have the requested vhost, in that and in every other vhost."""
    if not vhosts:
        return keys
    streams: dict[str, None] = {}
    for key in keys:
        requested, _, path = key.partition("/")
        first, _, rest = path.partition("/")
        if first in vhosts and "/" in rest:
            streams[path] = None
        streams[key] = None
        for vhost in _in_order(vhosts):
            if vhost != requested:
                streams[f"{vhost}/{path}"] = None
    return tuple(streams)[:MAX_KEYS]


@lru_cache(maxsize=1)
def _in_order(vhosts: frozenset[str]) -> list[str]:
    """The vhosts, the default one first; they are settings, so all requests have the same."""
    return [DEFAULT_VHOST, *sorted(vhosts - {DEFAULT_VHOST})][:MAX_KEYS]
