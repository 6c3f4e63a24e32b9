"""The demo origin's HTTP side: ``GET /<app>/<stream>.flv`` and ``GET /api/v1/versions`` (wire-facts 3)."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import NOT_FOUND
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from srsproxy.api.site import ApiResource, ApiSite, Folder, json_error, resource_tree
from srsproxy.api.versions import ProxyIdentity, Versions
from srsproxy.demo import flv
from srsproxy.demo.live import Player, Streams
from srsproxy.rtmp.message import Message
from srsproxy.streamkey import StreamKey, fold_vhost, requested_vhost, split_params, strip_extension

_MOUNT_DEPTH = 2
"""Parts of a path that SRS takes for an app and a stream before the stream is published."""


class _FlvPlayer(Player):
    """Writes the head of the answer with the first frame, like SRS: a stream that nobody publishes is not answered."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._begun = False

    def write_frame(self, frame: Message, timestamp: int) -> None:
        if not self._begun:
            self._begun = True
            self._request.setHeader(b"Content-Type", b"video/x-flv")
            self._request.write(flv.HEADER)
        self._request.write(flv.tag(frame.type, frame.payload, timestamp))

    def publish_ended(self) -> None:
        # SRS does not end the chunked body either.
        self._request.loseConnection()


class _LiveFlv(ApiResource):
    isLeaf = True
    allowedMethods = (b"GET",)

    def __init__(self, streams: Streams, vhosts: frozenset[str]) -> None:
        super().__init__()
        self._streams = streams
        self._vhosts = vhosts

    def render_GET(self, request: Request) -> bytes | int:
        key = self._key(request)
        if key is None:
            return json_error(request, NOT_FOUND, "no live stream has such a path")
        request.setHeader(b"Connection", b"close")
        player = _FlvPlayer(request)
        request.registerProducer(player, True)
        stream = self._streams.join(key, player)

        def leave(_reason: Failure | None) -> None:
            self._streams.leave(stream, player)

        request.notifyFinish().addBoth(leave)
        return NOT_DONE_YET

    def _key(self, request: Request) -> StreamKey | None:
        path, _, query = request.uri.decode("utf-8", "surrogateescape").partition("?")
        app, _, file = path.removeprefix("/").rpartition("/")
        if not app or not file.endswith(".flv"):
            return None
        host = request.getRequestHostname().decode("utf-8", "surrogateescape")
        vhost = fold_vhost(requested_vhost(host, split_params(query)), self._vhosts)
        key = StreamKey(vhost, app, strip_extension(file))
        return key if key in self._streams.published or path.count("/") == _MOUNT_DEPTH else None


class _Root(Folder):
    def __init__(self, live: Resource) -> None:
        super().__init__()
        self._live = live

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._live


def build_http_site(reactor: IReactorTime, streams: Streams, vhosts: frozenset[str], identity: ProxyIdentity) -> Site:
    """The factory for HTTP connections."""
    root = _Root(_LiveFlv(streams, vhosts))
    root.putChild(b"api", resource_tree({"v1/versions": Versions(identity)}))
    return ApiSite(root, reactor)
