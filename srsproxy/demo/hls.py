"""HLS of the demo origin's streams, made by ffmpeg and served like SRS serves it (wire-facts 4).

ffmpeg writes the segments of one stream to a temporary folder, and the playlist, as often as it changes, to its
standard output. SRS makes HLS of whatever is published; here it begins with the first request for a playlist, which
therefore waits for the first segment.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.web.http import NOT_FOUND
from twisted.web.server import NOT_DONE_YET, Request

from srsproxy.api.site import ApiResource, answer_later, json_error
from srsproxy.demo.ffmpeg import Ffmpeg
from srsproxy.rtmp.events import Action
from srsproxy.streamkey import StreamKey, split_params

if TYPE_CHECKING:
    from srsproxy.demo.origin import DemoOrigin

CONTEXT: Final = "hls_ctx"
"""The query parameter by which SRS knows its HLS players again."""

MAX_CONTEXTS: Final = 1000
"""Players that are known again, the latest ones; a few dozen bytes each. SRS forgets them after a time."""

_FILE: Final = re.compile(r"(?P<stream>.+)-(?P<name>[0-9]+\.(?:ts|m4s|key)|init\.mp4)", re.DOTALL)
"""A stream's files are called ``<stream>-<name>`` in URLs, and ``<name>`` in its folder."""

_CONTENT_TYPES: Final = {
    ".ts": b"video/MP2T",
    ".m4s": b"video/iso.segment",
    ".mp4": b"video/mp4",
    ".key": b"application/octet-stream",
}
_PLAYLIST_TYPE: Final = b"application/vnd.apple.mpegurl"

_KEY_NAME: Final = "0.key"
_KEY_SIZE = 16
_KEY_INFO: Final = "key_info"

_PLAYLIST_OPTIONS: Final = ("-hls_time", "1", "-hls_list_size", "5", "-hls_delete_threshold", "5")
_HLS: Final = ("-c", "copy", "-f", "hls", *_PLAYLIST_OPTIONS, "-hls_flags", "delete_segments+omit_endlist")


class Segments(Enum):
    """What an origin's segments are; SRS has no fragmented MP4."""

    TS = ("-hls_segment_filename", "%d.ts")
    ENCRYPTED_TS = (*TS, "-hls_key_info_file", _KEY_INFO)
    """With AES-128; the URI of the key names the origin itself, as SRS's does if ``hls_key_url`` is set."""
    FMP4 = ("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "%d.m4s")


class _Packager:
    """Makes the HLS of one stream, until its publish ends.

    :param ended: called when nothing is left of it.
    :raises NoSuchProgram: ffmpeg is not installed.
    """

    def __init__(self, origin: DemoOrigin, key: StreamKey, ended: Callable[[], None]) -> None:
        self._streams = origin.streams
        self._name = key.stream
        self._ended = ended
        self._playlist = ""
        self._waiting: list[Deferred[str]] = []
        options = (*_HLS, "-hls_base_url", f"{key.stream}-", *origin.segments.value)
        self._ffmpeg = Ffmpeg(origin.children, options, self._written, self._clean_up)
        self._folder = TemporaryDirectory(prefix="srsproxy-demo-")
        self._ffmpeg.folder = folder = Path(self._folder.name)
        if origin.segments is Segments.ENCRYPTED_TS:
            (folder / _KEY_NAME).write_bytes(secrets.token_bytes(_KEY_SIZE))
            url = f"http://{origin.http_address}/{key.app}/{key.stream}-{_KEY_NAME}"
            info = f"{url}\n{_KEY_NAME}\n{secrets.token_hex(_KEY_SIZE)}\n"
            (folder / _KEY_INFO).write_text(info, "utf-8", "surrogateescape")
        self._stream = self._streams.join(key, self._ffmpeg)

    @property
    def over(self) -> bool:
        """Whether the publish has ended."""
        return self._ffmpeg.over

    def playlist(self) -> Deferred[str]:
        """The playlist, once it has a segment; empty if there never was one."""
        if self._playlist:
            return succeed(self._playlist)
        waiting: Deferred[str] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def read(self, name: str) -> bytes | None:
        """A file's content; ``None`` if it is not there, maybe not any more."""
        try:
            return Path(self._folder.name, name).read_bytes()
        except FileNotFoundError:
            return None

    def _written(self, output: bytes) -> None:
        """ffmpeg has written a playlist, in one piece, since that is shorter than what a pipe takes at once."""
        _, header, latest = output.decode("utf-8", "surrogateescape").rpartition("#EXTM3U\n")
        self._playlist = header + latest.replace('URI="init.mp4"', f'URI="{self._name}-init.mp4"')
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(self._playlist)

    def _clean_up(self) -> None:
        self._tell()
        self._streams.leave(self._stream, self._ffmpeg)
        self._folder.cleanup()
        self._ended()


class Hls(ApiResource):
    """The playlists and segments of an origin's streams, at any path. Like SRS's, they do not depend on vhosts."""

    isLeaf = True
    allowedMethods = (b"GET", b"HEAD")

    def __init__(self, origin: DemoOrigin) -> None:
        super().__init__()
        self._origin = origin
        self._packagers: dict[StreamKey, _Packager] = {}
        self._contexts: dict[str, None] = {}

    def serves(self, path: str) -> bool:
        """Whether there may be something of ours at a path: a stream whose name looks like a segment's is live."""
        if path.endswith(".m3u8"):
            return True
        return _FILE.fullmatch(path) is not None and self._published(path.rpartition(".")[0]) is None

    def render_GET(self, request: Request) -> bytes | int:
        path, _, query = request.uri.decode("utf-8", "surrogateescape").partition("?")
        if path.endswith(".m3u8"):
            return self._playlist(request, path, query)
        return self._file(request, path)

    def _playlist(self, request: Request, path: str, query: str) -> bytes | int:
        key = self._published(path.removesuffix(".m3u8"))
        if key is None:
            return json_error(request, NOT_FOUND, "nobody publishes this stream")
        context = split_params(query).get(CONTEXT, "")
        known = context in self._contexts
        if not known and self._origin.refuses(key, Action.PLAY):
            request.loseConnection()
            return NOT_DONE_YET

        def answer(playlist: str) -> bytes:
            if not playlist:
                return json_error(request, NOT_FOUND, "the stream has ended before its first segment")
            request.setHeader(b"Content-Type", _PLAYLIST_TYPE)
            text = _with_context(playlist, context) if known else self._master(path, query, context)
            return text.encode("utf-8", "surrogateescape")

        return answer_later(request, "make a playlist", self._packager(key).playlist().addCallback(answer))

    def _master(self, path: str, query: str, context: str) -> str:
        """A master playlist for a player that is not known, maybe of an origin before this one."""
        if not context:
            context = secrets.token_hex(4)
            query = f"&{query}" if query else ""
        else:
            query = ""
        if len(self._contexts) == MAX_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[context] = None
        stream = "#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1"
        return f"#EXTM3U\n{stream}\n{path}?{CONTEXT}={context}{query}\n"

    def _file(self, request: Request, path: str) -> bytes:
        file = _FILE.fullmatch(path)
        key = file and self._published(file["stream"])
        packager = self._packagers.get(key) if key else None
        content = packager.read(file["name"]) if file and packager else None
        if file is None or content is None:
            return json_error(request, NOT_FOUND, "no such file")
        request.setHeader(b"Content-Type", _CONTENT_TYPES[Path(file["name"]).suffix])
        return content

    def _published(self, path: str) -> StreamKey | None:
        """The stream that is published now and has this path."""
        streams = self._origin.streams.published
        return next((key for key in streams if f"/{key.app}/{key.stream}" == path), None)

    def _packager(self, key: StreamKey) -> _Packager:
        packager = self._packagers.get(key)
        if packager is None or packager.over:

            def ended() -> None:
                if self._packagers.get(key) is packager:
                    del self._packagers[key]

            packager = self._packagers[key] = _Packager(self._origin, key, ended)
        return packager


def _with_context(playlist: str, context: str) -> str:
    """A media playlist for a player that is known."""
    return playlist.replace(".ts\n", f".ts?{CONTEXT}={context}\n")
