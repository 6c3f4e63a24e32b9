"""What a client is told that cannot be served: no address, no id, no inner text, which are for the log."""

from __future__ import annotations

from http import HTTPStatus

from srsproxy.errors import (
    DeadlineExceeded,
    LimitExceeded,
    NoOrigin,
    OriginRejected,
    OriginUnreachable,
    PeerError,
    Refused,
    SrsProxyError,
)
from srsproxy.http.head import UnsupportedVersion

_ANSWERS: dict[type[SrsProxyError], tuple[HTTPStatus, str]] = {
    NoOrigin: (HTTPStatus.SERVICE_UNAVAILABLE, "there is no origin server for this stream"),
    OriginUnreachable: (HTTPStatus.BAD_GATEWAY, "no origin server of this stream can be reached"),
    OriginRejected: (HTTPStatus.FORBIDDEN, "the origin server closed the connection without an answer: not allowed"),
    DeadlineExceeded: (
        HTTPStatus.GATEWAY_TIMEOUT,
        "the origin server has not answered in time; a live stream may not be published",
    ),
    LimitExceeded: (HTTPStatus.REQUEST_URI_TOO_LONG, "the name of the stream is too long"),
    PeerError: (HTTPStatus.BAD_REQUEST, "the request target names no page"),
    Refused: (HTTPStatus.SERVICE_UNAVAILABLE, "the proxy takes no more connections"),
}


def refusal(error: BaseException | None) -> tuple[int, str]:
    """Status and text for a client whose request failed by this error on its way to an answer."""
    for kind, answer in _ANSWERS.items():
        if isinstance(error, kind):
            return answer
    if isinstance(error, SrsProxyError):
        return HTTPStatus.BAD_GATEWAY, "the origin server's answer cannot be used"
    return HTTPStatus.INTERNAL_SERVER_ERROR, "the proxy failed"


def bad_request(error: PeerError, *, in_body: bool) -> tuple[int, str]:
    """Status and text for a client whose request cannot be understood. The text is about what the client sent."""
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, UnsupportedVersion):
        status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    elif isinstance(error, LimitExceeded):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if in_body else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return status, str(error)
