"""Live streams over HTTP: ``/<app>/<stream>.flv``, and ``.ts``, ``.aac``, ``.mp3``, made by ffmpeg (wire-facts 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.python.failure import Failure
from twisted.web.http import NOT_FOUND
from twisted.web.server import NOT_DONE_YET, Request

from srsproxy.api.site import ApiResource, json_error
from srsproxy.demo.child import Children
from srsproxy.demo.ffmpeg import Ffmpeg
from srsproxy.demo.live import FlvPlayer
from srsproxy.rtmp.events import Action
from srsproxy.streamkey import StreamKey, fold_vhost, requested_vhost, split_params, strip_extension

if TYPE_CHECKING:
    from srsproxy.demo.origin import DemoOrigin

_MOUNT_DEPTH = 2
"""Parts of a path that SRS takes for an app and a stream before the stream is published."""


@dataclass(frozen=True, slots=True)
class Remux:
    """How ffmpeg makes another format of a stream.

    :ivar options: those of its output.
    """

    content_type: bytes
    options: Sequence[str]


REMUXED: Final = {
    ".ts": Remux(b"video/MP2T", ("-c", "copy", "-flush_packets", "1", "-f", "mpegts")),
    ".aac": Remux(b"audio/x-aac", ("-vn", "-c:a", "copy", "-flush_packets", "1", "-f", "adts")),
    ".mp3": Remux(b"audio/mpeg", ("-vn", "-c:a", "libmp3lame", "-flush_packets", "1", "-f", "mp3")),
}
"""By the extension of the path."""


class _FlvAnswer(FlvPlayer):
    """Writes the head of the answer with the first frame, like SRS: a stream that nobody publishes is not answered."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        request.registerProducer(self, True)

    def begin(self) -> None:
        self._request.setHeader(b"Content-Type", b"video/x-flv")

    def write(self, data: bytes) -> None:
        self._request.write(data)

    def publish_ended(self) -> None:
        # SRS does not end the chunked body either.
        self._request.loseConnection()


class _RemuxedAnswer(Ffmpeg):
    """Writes what ffmpeg makes of the stream, and the head of the answer before it."""

    def __init__(self, request: Request, children: Children, remux: Remux) -> None:
        super().__init__(children, remux.options, self._output, request.loseConnection)
        self._request = request
        self._content_type = remux.content_type
        self._answered = False
        self._gone = False
        request.notifyFinish().addBoth(self._leave)

    def _leave(self, _reason: Failure | None) -> None:
        self._gone = True
        self.kill()

    def _output(self, data: bytes) -> None:
        if self._gone:
            return
        if not self._answered:
            self._answered = True
            self._request.setHeader(b"Content-Type", self._content_type)
            self._request.registerProducer(self.child, True)
        self._request.write(data)


class LiveStreams(ApiResource):
    """All streams of an origin, at any path."""

    isLeaf = True
    allowedMethods = (b"GET",)

    def __init__(self, origin: DemoOrigin) -> None:
        super().__init__()
        self._origin = origin

    def render_GET(self, request: Request) -> bytes | int:
        path, _, query = request.uri.decode("utf-8", "surrogateescape").partition("?")
        app, _, file = path.removeprefix("/").rpartition("/")
        stream = strip_extension(file)
        extension = file.removeprefix(stream)
        if not app or extension not in (".flv", *REMUXED):
            return json_error(request, NOT_FOUND, "no live stream has such a path")
        host = request.getRequestHostname().decode("utf-8", "surrogateescape")
        key = StreamKey(fold_vhost(requested_vhost(host, split_params(query)), self._origin.vhosts), app, stream)
        if key not in self._origin.streams.published and path.count("/") != _MOUNT_DEPTH:
            return json_error(request, NOT_FOUND, "no live stream has such a path")
        if self._origin.refuses(key, Action.PLAY):
            request.loseConnection()
        else:
            self._play(request, key, extension)
        return NOT_DONE_YET

    def _play(self, request: Request, key: StreamKey, extension: str) -> None:
        request.setHeader(b"Connection", b"close")
        player: _FlvAnswer | _RemuxedAnswer
        if extension == ".flv":
            player = _FlvAnswer(request)
        else:
            player = _RemuxedAnswer(request, self._origin.children, REMUXED[extension])
        stream = self._origin.streams.join(key, player)

        def leave(_reason: Failure | None) -> None:
            self._origin.streams.leave(stream, player)

        request.notifyFinish().addBoth(leave)
