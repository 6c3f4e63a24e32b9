"""The demo origin's HTTP side: what its clients asked, and what serves which path (wire-facts 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from srsproxy.api.site import ApiResource, ApiSite, Folder, resource_tree
from srsproxy.api.versions import Versions
from srsproxy.demo.hls import Hls
from srsproxy.demo.http_live import LiveStreams

if TYPE_CHECKING:
    from srsproxy.demo.origin import DemoOrigin

_CROSS_ORIGIN: Final = {
    b"Access-Control-Allow-Origin": b"*",
    b"Access-Control-Allow-Headers": b"*",
    b"Access-Control-Allow-Methods": b"*",
    b"Access-Control-Expose-Headers": b"*",
    b"Access-Control-Allow-Credentials": b"false",
    b"Access-Control-Request-Private-Network": b"true",
}
"""What SRS answers pages of other sites with."""


@dataclass(frozen=True, slots=True, eq=False)
class HttpVisit:
    """What one HTTP request has told the origin.

    :ivar peer: the address that it came from.
    :ivar uri: as it was sent.
    """

    peer: str
    method: str
    uri: str
    headers: Headers


class _Options(ApiResource):
    isLeaf = True
    allowedMethods = (b"OPTIONS",)

    def render_OPTIONS(self, request: Request) -> bytes:
        return b""


class _Root(Folder):
    def __init__(self, origin: DemoOrigin) -> None:
        super().__init__()
        self._origin = origin
        self._api = resource_tree({"v1/versions": Versions(origin.identity)})
        self._hls = Hls(origin)
        self._live = LiveStreams(origin)
        self._options = _Options()

    def getChild(self, path: bytes, request: Request) -> Resource:
        uri = request.uri.decode("utf-8", "surrogateescape")
        peer = request.getClientAddress().host
        self._origin.requests.append(HttpVisit(peer, request.method.decode("ascii"), uri, request.requestHeaders))
        if request.requestHeaders.hasHeader(b"Origin"):
            for name, value in _CROSS_ORIGIN.items():
                request.setHeader(name, value)
        if request.method == b"OPTIONS":
            return self._options
        if path == b"api":
            return self._api
        return self._hls if self._hls.serves(uri.partition("?")[0]) else self._live


def build_http_site(origin: DemoOrigin) -> Site:
    """The factory for HTTP connections."""
    return ApiSite(_Root(origin), origin.reactor)
