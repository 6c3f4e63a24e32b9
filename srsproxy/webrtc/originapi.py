"""Asking an origin's HTTP API on behalf of a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from srsproxy.balancer.model import Origin, Surface
from srsproxy.errors import OriginUnreachable, in_background
from srsproxy.http.call import call
from srsproxy.http.forwarding import origin_request, relocated
from srsproxy.http.head import RequestHead, ResponseHead
from srsproxy.http.upstream import OriginConnection
from srsproxy.webrtc.shared import Shared

_log = Logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's request.

    :ivar head: of the request.
    :ivar path: of its target.
    :ivar query: of its target, without the question mark.
    :ivar chain: addresses through which it came, see :func:`srsproxy.http.forwarding.client_chain`.
    :ivar from_front: whether the TCP peer is a trusted front.
    :ivar scheme: ``http`` or ``https``.
    :ivar here: the address at which the TCP peer has reached us; may be no IP address.
    """

    head: RequestHead
    path: bytes
    query: bytes
    body: bytes
    chain: Sequence[str]
    from_front: bool
    scheme: str
    here: str

    @property
    def host(self) -> bytes:
        """The value of its Host field."""
        return self.head.value(b"host") or b""


class OriginApi:
    """Passes requests on to origins."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def call(self, asked: Asked, origin: Origin, target: bytes) -> tuple[ResponseHead, bytes]:
        """Connect to this origin, and ask it.

        :raises SrsProxyError: there is no answer.
        """
        endpoint = next(iter(origin.dial(Surface.API)), None)
        if endpoint is None:
            raise OriginUnreachable(f"origin {origin.id} announces no API")
        return await self.ask(asked, origin, await self._shared.pool.connect(endpoint), target)

    async def ask(
        self, asked: Asked, origin: Origin, connection: OriginConnection, target: bytes
    ) -> tuple[ResponseHead, bytes]:
        """Send the client's request on, and wait for the answer. Its Location leads to us, also if the origin has
        written an absolute URL of its API.

        :param target: instead of the client's.
        :raises SrsProxyError: there is no answer.
        """
        request = origin_request(
            asked.head,
            target=target,
            chain=asked.chain,
            from_front=asked.from_front,
            scheme=asked.scheme,
            authority=None if asked.host else connection.name.encode(),
            body=len(asked.body),
            to_rewrite=True,
        )
        shared = self._shared
        head, body = await call(
            shared.reactor,
            connection,
            asked.head.method,
            request + asked.body,
            shared.head_limits,
            shared.settings.webrtc_origin_timeout,
        )
        return _led_back(head, origin), body

    def take_back(self, asked: Asked, origin: Origin, head: ResponseHead) -> None:
        """Tell the origin that a session which it has begun is not wanted; else its stream would be busy for half a
        minute.

        :param head: of its answer to the offer.
        """
        location = head.value(b"location") or b""
        if not location.startswith(b"/"):
            return
        delete = replace(asked, head=RequestHead(b"DELETE", location, 1, asked.head.fields), body=b"")
        in_background(_log, "take back an offer", Deferred.fromCoroutine(self.call(delete, origin, location)))


def _led_back(head: ResponseHead, origin: Origin) -> ResponseHead:
    location = head.value(b"location")
    if location is None:
        return head
    authorities = [str(endpoint).lower().encode() for endpoint in origin.dial(Surface.API)]
    changed = relocated(location, [*authorities, *[name.removesuffix(b":80") for name in authorities]])
    return replace(
        head, fields=[(name, changed if name.lower() == b"location" else value) for name, value in head.fields]
    )
