"""The system API (port 12025): what origins and operators talk to, and clients should not reach."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Site

from srsproxy.api.register import Register
from srsproxy.api.site import ApiSite, resource_tree
from srsproxy.api.versions import ProxyIdentity, Versions
from srsproxy.interfaces import ILoadBalancer


def build_system_site(reactor: IReactorTime, balancer: ILoadBalancer, token: str, identity: ProxyIdentity) -> Site:
    """The factory for connections to the system API.

    :param token: what origins must have at the end of the path to register; empty if anyone may.
    """
    return ApiSite(
        resource_tree(
            {
                "api/v1/srs/register": Register(balancer, token, identity.pid, reactor),
                "api/v1/versions": Versions(identity),
            }
        ),
        reactor,
    )
