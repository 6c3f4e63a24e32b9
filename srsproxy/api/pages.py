"""What the stream server has of its own: static files, and the version as a health check."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.static import File

from srsproxy.api.site import ApiSite, Folder, resource_tree
from srsproxy.api.versions import ProxyIdentity, Versions


class _StaticFile(File):
    """A file, or a folder that shows its ``index.html`` and no list of what is in it."""

    childNotFound = Folder()  # type: ignore[assignment]  # Twisted declares the class of its own page

    def getChild(self, path: bytes, request: Request) -> Resource:
        # No file has such a name, and asking the system for one is an error.
        return Folder() if b"\0" in path else File.getChild(self, path, request)

    def directoryListing(self) -> Resource:
        return Folder()


def build_pages_site(reactor: IReactorTime, static_files: Path | None, identity: ProxyIdentity) -> ApiSite:
    """The factory of HTTP connections to these pages.

    :param static_files: the root of the static files; none if ``None``.
    """
    api = {"v1/versions": Versions(identity)}
    if static_files is None:
        return ApiSite(resource_tree({f"api/{path}": page for path, page in api.items()}), reactor)
    root = _StaticFile(str(static_files))
    root.putChild(b"api", resource_tree(api))
    return ApiSite(root, reactor)
