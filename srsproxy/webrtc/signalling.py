"""The HTTP API of WebRTC: WHIP (RFC 9725), WHEP, and SRS's JSON API, for pages of any web site (CORS)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import Resource

from srsproxy.address import client_address, is_within
from srsproxy.api.site import ApiRequest, ApiResource, json_error, write_answer
from srsproxy.config import Settings
from srsproxy.errors import (
    DeadlineExceeded,
    LimitExceeded,
    NoOrigin,
    OriginRejected,
    PeerError,
    SrsProxyError,
    log_failure,
)
from srsproxy.http.forwarding import HOP_BY_HOP, client_chain
from srsproxy.http.head import RequestHead, connection_options
from srsproxy.http.refusal import refusal
from srsproxy.webrtc.negotiation import Negotiator, Rejection, Reply
from srsproxy.webrtc.originapi import Asked

_SDP: Final = b"application/sdp"
_JSON: Final = b"application/json"
_SDP_FRAGMENT: Final = b"application/trickle-ice-sdpfrag"
"""What a PATCH has (RFC 9725, section 4.3.1)."""

_HEADERS: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
"""A list of header names, as a browser asks for them."""

_DEFAULT_HEADERS: Final = b"Authorization, Content-Type, If-Match"
_EXPOSED: Final = b"Location, Link, ETag, Accept-Patch, WWW-Authenticate"
"""What a page may read of an answer: WHIP clients need the Location."""

_HOUR: Final = b"3600"

_OUR_OWN: Final = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"content-length",
    }
)
"""Fields that we tell instead of the origin; browsers refuse an answer that allows an origin twice."""

_log = Logger()


def told(error: SrsProxyError, method: bytes) -> tuple[int, str]:
    """Status and text for a client that cannot be served."""
    match error:
        case LimitExceeded():
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)
        case PeerError():
            return HTTPStatus.BAD_REQUEST, str(error)
        case OriginRejected() if method == b"DELETE":
            return HTTPStatus.FORBIDDEN, "the origin server has not ended the session: this is not its Location"
        case OriginRejected() if method == b"PATCH":
            return HTTPStatus.METHOD_NOT_ALLOWED, "the origin server changes no session"
        case OriginRejected():
            return HTTPStatus.FORBIDDEN, (
                "the origin server has refused the offer and not said why: the stream is published already, "
                "it is not allowed, WebRTC is disabled, or the offer cannot be used"
            )
        case NoOrigin() if method != b"POST":
            return HTTPStatus.NOT_FOUND, "there is no such session"
        case DeadlineExceeded():
            return HTTPStatus.GATEWAY_TIMEOUT, "the origin server has not answered in time"
        case _:
            return refusal(error)


class _Signalling(ApiResource):
    """What all resources do alike."""

    def __init__(self, negotiator: Negotiator, settings: Settings) -> None:
        super().__init__()
        self._negotiator = negotiator
        self._trusted = settings.trusted_addresses

    def render(self, request: server.Request) -> bytes | int:
        request.setHeader(b"Access-Control-Allow-Origin", b"*")
        request.setHeader(b"Access-Control-Expose-Headers", _EXPOSED)
        request.setHeader(b"Cache-Control", b"no-store")
        if len(request.requestHeaders.getRawHeaders(b"host", ())) > 1:
            # Each would name another vhost to somebody (RFC 9112, section 3.2).
            return json_error(request, HTTPStatus.BAD_REQUEST, "there is more than one Host")
        return super().render(request)

    def render_OPTIONS(self, request: ApiRequest) -> bytes:
        wanted = request.getHeader(b"access-control-request-headers") or b""
        request.setHeader(b"Access-Control-Allow-Methods", b", ".join(self.allowedMethods))
        request.setHeader(b"Access-Control-Allow-Headers", wanted if _HEADERS.fullmatch(wanted) else _DEFAULT_HEADERS)
        request.setHeader(b"Access-Control-Max-Age", _HOUR)
        request.setHeader(b"Allow", b", ".join(self.allowedMethods))
        return b""

    def _asked(self, request: ApiRequest) -> Asked:
        fields = [
            (name, value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name.lower() != b"accept-encoding"
            for value in values
        ]
        path, _, query = request.uri.partition(b"?")
        head = RequestHead(request.method, request.uri, int(request.clientproto == b"HTTP/1.1"), fields)
        address = client_address(request.getClientAddress())
        from_front = self._is_front(address)
        return Asked(
            head=head,
            path=path,
            query=query,
            body=request.body,
            chain=client_chain(head, address, self._is_front),
            from_front=from_front,
            scheme="https" if request.isSecure() else "http",
            here=client_address(request.getHost()),
        )

    def _is_front(self, address: str) -> bool:
        return is_within(address, self._trusted)

    def _later(
        self, request: ApiRequest, asked: Asked, ask: Callable[[Asked], Awaitable[Reply]], expected: bytes
    ) -> int:
        """Answer when the origin has.

        :param expected: the type of the body, if the origin has not said.
        """
        connected = True

        def disconnected(_reason: Failure) -> None:
            nonlocal connected
            connected = False

        async def answer() -> None:
            try:
                reply = await ask(asked)
            except Rejection as rejection:
                reply = rejection.reply
            except SrsProxyError as error:
                if connected:
                    write_answer(request, json_error(request, *told(error, asked.head.method)))
                    request.finish()
                return
            if connected:
                _write(request, reply, expected)
            else:
                self._negotiator.forget(asked, reply)

        def failed(failure: Failure) -> None:
            log_failure(_log, "answer an offer", failure)
            if connected:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                write_answer(request, json_error(request, status, "the proxy failed"))
                request.finish()

        request.notifyFinish().addErrback(disconnected)
        Deferred.fromCoroutine(answer()).addErrback(failed)
        return server.NOT_DONE_YET


class Whip(_Signalling):
    """WHIP and WHEP: an offer is posted, and its session is at the Location of the answer."""

    isLeaf = True
    allowedMethods = (b"POST", b"DELETE", b"PATCH", b"OPTIONS")

    def render_OPTIONS(self, request: ApiRequest) -> bytes:
        request.setHeader(b"Accept-Post", _SDP)
        return super().render_OPTIONS(request)

    def render_POST(self, request: ApiRequest) -> bytes | int:
        return self._later(request, self._asked(request), self._negotiator.whip, _SDP)

    def render_DELETE(self, request: ApiRequest) -> bytes | int:
        return self._later(request, self._asked(request), self._negotiator.delete, _SDP)

    def render_PATCH(self, request: ApiRequest) -> bytes | int:
        # SRS takes any other body for an offer, and begins a session.
        kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind != _SDP_FRAGMENT:
            request.setHeader(b"Accept-Patch", _SDP_FRAGMENT)
            return json_error(
                request, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the Content-Type must be {_SDP_FRAGMENT.decode()}"
            )
        return self._later(request, self._asked(request), self._negotiator.patch, _SDP_FRAGMENT)


class JsonApi(_Signalling):
    """SRS's own API: the offer and its answer are members of a JSON object."""

    isLeaf = True
    allowedMethods = (b"POST", b"OPTIONS")

    def __init__(self, negotiator: Negotiator, settings: Settings, *, play: bool) -> None:
        super().__init__(negotiator, settings)
        self._play = play

    def render_POST(self, request: ApiRequest) -> bytes | int:
        async def ask(asked: Asked) -> Reply:
            path = b"/rtc/v1/play/" if self._play else b"/rtc/v1/publish/"
            return await self._negotiator.json(asked, path, play=self._play)

        return self._later(request, self._asked(request), ask, _JSON)


def signalling_resources(negotiator: Negotiator, settings: Settings) -> Mapping[str, Resource]:
    """What the HTTP API has of WebRTC, by path."""
    whip = Whip(negotiator, settings)
    return {
        "rtc/v1/whip": whip,
        "rtc/v1/whip-play": whip,
        "rtc/v1/whep": whip,
        "rtc/v1/publish": JsonApi(negotiator, settings, play=False),
        "rtc/v1/play": JsonApi(negotiator, settings, play=True),
    }


def _write(request: ApiRequest, reply: Reply, expected: bytes) -> None:
    """Answer as the origin has, but for what is between neighbours."""
    request.setResponseCode(reply.head.status, reply.head.reason)
    if reply.body and reply.head.value(b"content-type") is None:
        request.setHeader(b"Content-Type", expected)
    dropped = HOP_BY_HOP.union(_OUR_OWN, connection_options(reply.head))
    by_name: dict[bytes, list[bytes]] = {}
    for name, value in reply.head.fields:
        if name.lower() not in dropped:
            by_name.setdefault(name.lower(), []).append(value)
    for name, values in by_name.items():
        request.responseHeaders.setRawHeaders(name, values)
    if reply.head.status == HTTPStatus.NO_CONTENT:
        request.write(b"")
    else:
        write_answer(request, reply.body)
    request.finish()
