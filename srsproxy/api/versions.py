"""``GET /api/v1/versions`` as SRS answers it: who we are, and that we are there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twisted.web.server import Request

from srsproxy.api.site import ApiResource, json_answer


@dataclass(frozen=True, slots=True)
class ProxyIdentity:
    """What the proxy calls itself in answers shaped like SRS's: ``server`` stays the same, ``service`` is new at every
    start, ``version`` is that of the package (``1.2.3``, maybe with a suffix such as ``1.2.3.dev4``)."""

    server: str
    service: str
    pid: str
    version: str


def versions_answer(identity: ProxyIdentity) -> dict[str, object]:
    """The JSON object of the answer."""
    major, minor, revision = (int(number) for number in re.findall(r"[0-9]+", identity.version)[:3])
    return {
        "code": 0,
        "server": identity.server,
        "service": identity.service,
        "pid": identity.pid,
        "data": {"major": major, "minor": minor, "revision": revision, "version": identity.version},
    }


class Versions(ApiResource):
    """Serves the answer; a health check for load balancers in front of the proxy."""

    allowedMethods = (b"GET", b"HEAD")

    def __init__(self, identity: ProxyIdentity) -> None:
        super().__init__()
        self._answer = versions_answer(identity)

    def render_GET(self, request: Request) -> bytes:
        return json_answer(request, self._answer)
