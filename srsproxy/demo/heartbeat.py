"""Registers an origin at a proxy, like the ``heartbeat`` section of SRS's configuration does (wire-facts 7.1)."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http import OK, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from srsproxy.balancer.model import Origin, Surface
from srsproxy.errors import SrsProxyError, log_failure

INTERVAL: Final = 10.0
"""Seconds between two heartbeats; SRS's default."""

TIMEOUT: Final = 5.0
"""Seconds until a heartbeat must have been answered."""

_MAX_ANSWER = 200
"""Bytes of an answer that are kept: all of the usual ones, and enough of an error to see what it is."""

_log = Logger()


class HeartbeatFailed(SrsProxyError):
    """A heartbeat was not answered."""


class HeartbeatRefused(HeartbeatFailed):
    """The proxy did not take a heartbeat; the text says what it answered."""


class Heartbeat(Service):
    """Sends a heartbeat when it starts and then every :data:`INTERVAL` seconds. If one fails, the log tells it.

    :param url: the proxy's ``http://host:port/api/v1/srs/register``.
    :param origin: what to register.
    """

    def __init__(self, reactor: Any, url: str, origin: Origin) -> None:
        self._reactor = reactor
        self._url = url
        self._origin = origin
        self._agent = Agent(reactor, connectTimeout=TIMEOUT / 2)
        self._beat = LoopingCall(self._send_and_tell)
        self._beat.clock = reactor

    def startService(self) -> None:
        """Send the first heartbeat."""
        Service.startService(self)
        self._stopped = self._beat.start(INTERVAL)

    def stopService(self) -> Deferred[LoopingCall]:
        """Send no more; the proxy is not told. Fires when the last one is through."""
        Service.stopService(self)
        self._beat.stop()
        return self._stopped

    async def send(self) -> None:
        """Send one heartbeat.

        :raises HeartbeatFailed: it was not answered, or refused (:class:`HeartbeatRefused`).
        """
        posted = Deferred.fromCoroutine(self._post()).addTimeout(TIMEOUT, self._reactor, self._late)
        try:
            code, answer = await posted
        except (ConnectError, ConnectionClosed, DNSLookupError, ResponseFailed) as error:
            raise HeartbeatFailed(f"POST {self._url}") from error
        if code != OK:
            text = answer.decode("utf-8", "replace")
            raise HeartbeatRefused(f"POST {self._url}: answered {code} {text!r}")

    async def _post(self) -> tuple[int, bytes]:
        headers = Headers({b"Content-Type": [b"application/json"]})
        body = _Body(json.dumps(_heartbeat(self._origin)).encode())
        response = await self._agent.request(b"POST", self._url.encode(), headers, body)
        answer = _Answer()
        response.deliverBody(answer)
        return response.code, await answer.complete

    def _late(self, _result: object, timeout: float) -> NoReturn:
        """Whatever becomes of a request that was cancelled for its time."""
        raise HeartbeatFailed(f"POST {self._url}: no answer within {timeout:g} s")

    def _send_and_tell(self) -> Deferred[None]:
        sent = Deferred.fromCoroutine(self.send())
        return sent.addErrback(lambda failure: log_failure(_log, f"register {self._origin}", failure))


def _heartbeat(origin: Origin) -> dict[str, object]:
    """SRS's JSON: a surface that has no listener is not mentioned."""
    surfaces = {surface.value: origin.listeners(surface) for surface in Surface if origin.listeners(surface)}
    return {
        "device_id": origin.device_id,
        "ip": origin.ip,
        "server": origin.server,
        "service": origin.service,
        "pid": origin.pid,
        **surfaces,
    }


class _Answer(Protocol):
    """Takes the body of an answer."""

    def __init__(self) -> None:
        self._body = b""
        self.complete: Deferred[bytes] = Deferred(self._cancel)

    def dataReceived(self, data: bytes) -> None:
        self._body = (self._body + data)[:_MAX_ANSWER]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(self._body)
        else:
            self.complete.errback(reason)

    def _cancel(self, _complete: object) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


@implementer(IBodyProducer)
class _Body:
    """A request's body that is small enough to be written at once."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing to do: all is written."""

    def resumeProducing(self) -> None:
        """Nothing to do: all is written."""

    def stopProducing(self) -> None:
        """Nothing to do: all is written."""
