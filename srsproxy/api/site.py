"""What the low-rate HTTP surfaces share: JSON answers and errors, bounded requests, a quiet access log.

An error is always one JSON object ``{"code": <HTTP status>, "error": "what is wrong"}``, except for bytes that are not
HTTP at all, which :mod:`twisted.web.http` answers with an empty 400, and for a head that is too large for it, which it
answers with a 400 or by closing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import Resource

from srsproxy.errors import SrsProxyError, describe, log_failure

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body. A heartbeat with all its summaries has about 1 KB."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the connection, or from the answer before, until a request must have arrived as a whole. Idle keep-alive
connections end after the same time: origins open a new one for each heartbeat anyway."""

ABORT_TIMEOUT: Final = 15.0
"""Seconds for a client to take what is still to be sent to it when its connection is closed."""

_log = Logger()


def json_answer(request: server.Request, value: Mapping[str, object], status: int = http.OK) -> bytes:
    """Set the head of an answer whose body is this JSON object. Returns the body."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, separators=(",", ":")).encode()


def json_error(request: server.Request, status: int, error: str) -> bytes:
    """Set the head of an error. Returns its body."""
    return json_answer(request, {"code": status, "error": error}, status)


def write_answer(request: server.Request, body: bytes) -> None:
    """Write a body that is the whole one, and before it the head."""
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)


def answer_later(request: server.Request, doing: str, body: Deferred[bytes]) -> int:
    """Send the body of the answer when it is there, or an error if it fails. For resources to return.

    :param doing: what is being done, for the log line if it fails.
    """
    connected = True

    def disconnected(_reason: Failure) -> None:
        nonlocal connected
        connected = False

    def failed(failure: Failure) -> bytes:
        log_failure(_log, doing, failure)
        expected = isinstance(failure.value, SrsProxyError)
        status = http.SERVICE_UNAVAILABLE if expected else http.INTERNAL_SERVER_ERROR
        return json_error(request, status, f"{doing}: {describe(failure)}")

    def send(answer: bytes) -> None:
        if connected:
            write_answer(request, answer)
            request.finish()

    request.notifyFinish().addErrback(disconnected)
    body.addErrback(failed).addCallback(send)
    return server.NOT_DONE_YET


class _Node(Resource):
    """A part of a path. What was not put below it is answered with 404."""

    def __init__(self) -> None:
        Resource.__init__(self)

    def getChild(self, path: bytes, request: server.Request) -> Resource:
        return Folder()


class Folder(_Node):
    """A part of a path that is nothing itself, and is answered with 404 too."""

    def render(self, request: server.Request) -> bytes | int:
        return json_error(request, http.NOT_FOUND, "nothing is here")


class ApiResource(_Node):
    """Something at a path. Subclasses name their methods, and have a ``render_`` function for each.

    :cvar allowedMethods: what is not answered with 405.
    """

    allowedMethods: tuple[bytes, ...]

    def render(self, request: server.Request) -> bytes | int:
        if request.method not in self.allowedMethods:
            allowed = b", ".join(self.allowedMethods)
            request.setHeader(b"Allow", allowed)
            return json_error(request, http.NOT_ALLOWED, f"the method must be {allowed.decode()}")
        answer: bytes | int = Resource.render(self, request)
        return answer


class ApiRequest(server.Request):
    """A request whose body is held in memory, and is bounded before and while it is read."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = self._body = BytesIO()
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if self._body.tell() + len(data) > MAX_BODY:
            self._refuse()
        else:
            self._body.write(data)

    @property
    def body(self) -> bytes:
        """All of the request's body."""
        return self._body.getvalue()

    def _refuse(self) -> None:
        """Answer with 413 now. The rest of the body is read and dropped, until its end or until the time for requests
        has passed: closing with unread data would reset the connection, and the client might never see the answer."""
        self._refused = True
        self.clientproto = b"HTTP/1.1"
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        # Pages of other sites shall see why, where they may ask at all.
        self.responseHeaders.setRawHeaders(b"Access-Control-Allow-Origin", [b"*"])
        # The client must not be asked to go on after it was refused.
        self.requestHeaders.removeHeader(b"Expect")
        write_answer(self, json_error(self, http.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BODY} bytes"))

    def process(self) -> None:
        if self._refused:
            server.Request.finish(self)
        else:
            server.Request.process(self)

    def processingFailed(self, reason: Failure) -> None:
        """A bug of ours in a resource, before it has answered."""
        body = Deferred[bytes]()
        answer_later(self, "answer a request", body)
        body.errback(reason)


class _Channel(http.HTTPChannel):
    """A connection on which each request must arrive as a whole within the timeout.

    Twisted's own timeout begins again with every byte that arrives, so that a client which sends one now and then keeps
    its connection for hours.
    """

    _aborting: IDelayedCall | None = None

    def resetTimeout(self) -> None:
        """Nothing: what counts is when the request began."""

    def timeoutConnection(self) -> None:
        """Close, as the base does, but without a line in the log: that no further request came is nothing of note."""
        self.loseConnection()
        self._aborting = self.callLater(ABORT_TIMEOUT, self._abort)

    def _abort(self) -> None:
        self._aborting = None
        ITCPTransport(self.transport).abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._aborting is not None:
            self._aborting.cancel()
            self._aborting = None


class ApiSite(server.Site):
    """A site of low rate. Requests are told at debug level, without what follows the path of a leaf (it may be secret).

    :param reactor: the time for requests is measured with it.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # Twisted declares its wrapper for HTTP/2; any channel will do
    requestFactory = ApiRequest

    def __init__(self, root: Resource, reactor: IReactorTime) -> None:
        server.Site.__init__(self, root, timeout=REQUEST_TIMEOUT, reactor=reactor, parsePOSTFormSubmission=False)

    def startFactory(self) -> None:
        """Without the access log file of the base, and without its clock, which would tick every second."""

    def log(self, request: http.Request) -> None:
        _log.debug(
            "{client}: {method} {path}: {status}",
            client=request.getClientAddress(),
            method=request.method,
            path=b"/" + b"/".join(getattr(request, "prepath", None) or ()),
            status=request.code,
        )

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 only: the limits above are those of its channel."""
        return [b"http/1.1"]


def resource_tree(resources: Mapping[str, Resource]) -> Resource:
    """The root of a site with these resources at these paths (``api/v1/versions``), and 404 everywhere else."""
    root = Folder()
    for path, resource in resources.items():
        *folders, name = path.encode().split(b"/")
        folder: Resource = root
        for part in folders:
            if part not in folder.children:
                folder.putChild(part, Folder())
            folder = folder.children[part]
        folder.putChild(name, resource)
    return root
