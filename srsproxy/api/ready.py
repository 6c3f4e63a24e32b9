"""``GET /api/v1/ready``: whether clients should be sent to this proxy; for load balancers and Kubernetes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.web import http
from twisted.web.server import Request

from srsproxy.api.site import ApiResource, json_answer, json_error


class Ready(ApiResource):
    """200 if they should, else 503 and why not.

    :param hindrance: tells that; ``None`` if there is none.
    """

    allowedMethods = (b"GET", b"HEAD")

    def __init__(self, hindrance: Callable[[], str | None]) -> None:
        super().__init__()
        self._hindrance = hindrance

    def render_GET(self, request: Request) -> bytes:
        why = self._hindrance()
        if why is not None:
            return json_error(request, http.SERVICE_UNAVAILABLE, why)
        return json_answer(request, {"code": 0})
