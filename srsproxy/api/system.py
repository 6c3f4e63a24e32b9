"""The system API (port 12025): what origins and operators talk to, and clients should not reach."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Site

from srsproxy.api.ready import Ready
from srsproxy.api.register import Register
from srsproxy.api.site import ApiSite, resource_tree
from srsproxy.api.versions import ProxyIdentity, Versions
from srsproxy.interfaces import ILoadBalancer


def build_system_site(
    reactor: IReactorTime,
    balancer: ILoadBalancer,
    token: str,
    identity: ProxyIdentity,
    hindrance: Callable[[], str | None],
) -> Site:
    """The factory for connections to the system API.

    :param token: what origins must have at the end of the path to register; empty if anyone may.
    :param hindrance: why no clients should be sent here, if there is a reason.
    """
    return ApiSite(
        resource_tree(
            {
                "api/v1/srs/register": Register(balancer, token, identity.pid, reactor),
                "api/v1/versions": Versions(identity),
                "api/v1/ready": Ready(hindrance),
            }
        ),
        reactor,
    )
