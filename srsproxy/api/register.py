"""``POST /api/v1/srs/register``: where SRS sends its heartbeat."""

from __future__ import annotations

import hmac
import json
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.web import http
from twisted.web.server import Request

from srsproxy.address import client_address
from srsproxy.api.site import ApiRequest, ApiResource, answer_later, json_answer, json_error
from srsproxy.balancer.expiry import ExpiringTable
from srsproxy.balancer.model import parse_heartbeat
from srsproxy.errors import PeerError
from srsproxy.interfaces import ILoadBalancer

REFUSAL_INTERVAL: Final = 60.0
"""Seconds between two lines at warning level about refused heartbeats of one address. SRS ignores what it is answered,
so the log is where the operator learns what is wrong; but a heartbeat comes every 10 seconds."""

_MAX_REFUSED: Final = 1_000
"""Addresses that are remembered for that."""

_log = Logger()


def _decode(body: bytes) -> object:
    """
    :raises PeerError: the body is no JSON.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise PeerError(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise PeerError("the body is no JSON that a heartbeat could be: nested too deep") from None


class Register(ApiResource):
    """Takes heartbeats, with the secret token as one more part of the path if there is a token.

    SRS sends neither the query nor the user and password of its heartbeat URL, so the path is where a secret can be.
    """

    isLeaf = True
    allowedMethods = (b"POST",)

    def __init__(self, balancer: ILoadBalancer, token: str, pid: str, clock: IReactorTime) -> None:
        super().__init__()
        self._balancer = balancer
        self._token = token.encode()
        self._pid = pid
        self._clock = clock
        self._refused = ExpiringTable[str, None](REFUSAL_INTERVAL, _MAX_REFUSED, lambda _: None)

    def render(self, request: Request) -> bytes | int:
        rest = b"/".join(request.postpath or ())
        if self._token:
            if not hmac.compare_digest(rest, self._token):
                return self._refuse(request, http.FORBIDDEN, "the path does not end in the right token")
        elif request.postpath:
            return json_error(request, http.NOT_FOUND, "nothing is here")
        return super().render(request)

    def render_POST(self, request: ApiRequest) -> bytes | int:
        try:
            origin = parse_heartbeat(_decode(request.body))
        except PeerError as error:
            return self._refuse(request, http.BAD_REQUEST, str(error))
        registered: Deferred[None] = self._balancer.register(origin)
        return answer_later(
            request,
            f"register origin {origin.id}",
            registered.addCallback(lambda _: json_answer(request, {"code": 0, "pid": self._pid})),
        )

    def _refuse(self, request: Request, status: int, error: str) -> bytes:
        client = client_address(request.getClientAddress())
        now = self._clock.seconds()
        self._refused.expire(now)
        level = LogLevel.debug if client in self._refused else LogLevel.warn
        if level is LogLevel.warn:
            self._refused.store(client, None, now)
        _log.emit(level, "heartbeat from {client} refused: {error}", client=client, error=error)
        return json_error(request, status, error)
