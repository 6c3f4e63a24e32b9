"""The HTTP API for clients: what other rooms have there, and the version as a health check."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource

from srsproxy.api.site import ApiSite, resource_tree
from srsproxy.api.versions import ProxyIdentity, Versions


def build_http_api_site(reactor: IReactorTime, identity: ProxyIdentity, resources: Mapping[str, Resource]) -> ApiSite:
    """The factory of connections to the HTTP API.

    :param resources: by path.
    """
    return ApiSite(resource_tree({"api/v1/versions": Versions(identity), **resources}), reactor)
