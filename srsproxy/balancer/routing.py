"""From a stream key to a working connection: pick an origin, try it, and move on if it cannot be reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.logger import Logger

from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.errors import NoOrigin, OriginRejected, OriginUnreachable, describe, in_background
from srsproxy.interfaces import ILoadBalancer

T = TypeVar("T")

_log = Logger()

Attempt = Callable[[Origin, Endpoint], Awaitable[T]]


async def reach_origin(
    balancer: ILoadBalancer,
    key: str,
    surface: Surface,
    attempt: Attempt[T],
    failed: Callable[[OriginUnreachable], None],
    first: Origin | None = None,
    dial: Surface | None = None,
) -> T:
    """Let ``attempt`` connect to the origin of the stream; one that cannot be reached is reported, and the next tried.

    :param attempt: tries one endpoint; raises :class:`OriginUnreachable` to have the next one tried, of this origin and
        then of another. Any other error ends it.
    :param failed: told of each origin that could not be reached although another may be.
    :param first: tried before those that the balancer picks.
    :param dial: the surface to connect to, if it is not the one that the origin must have.
    :raises NoOrigin: none is registered for this surface.
    :raises OriginUnreachable: all of them were tried in vain; the text is that of the last.
    """
    tried: dict[str, OriginUnreachable] = {}
    while True:
        try:
            origin = first or await balancer.pick(key, surface, tried.keys())
        except NoOrigin:
            if not tried:
                raise
            last = describe(list(tried.values())[-1])
            raise OriginUnreachable(f"none of {len(tried)} origins could be reached, at last {last}") from None
        first = None
        try:
            result = await _first_endpoint(origin, dial or surface, attempt)
        except OriginUnreachable as error:
            tried[origin.id] = error
            failed(error)
            await balancer.report_failure(origin)
            continue
        except OriginRejected:
            # It was reached; what it made of the client says nothing about its health.
            in_background(_log, "report that an origin works", balancer.report_success(origin))
            raise
        in_background(_log, "report that an origin works", balancer.report_success(origin))
        return result


async def _first_endpoint(origin: Origin, surface: Surface, attempt: Attempt[T]) -> T:
    """By the first of the origin's endpoints that works, in the order in which it announces them."""
    unreachable = OriginUnreachable(f"origin {origin.id} announces no {surface.value}")
    for endpoint in origin.dial(surface):
        try:
            return await attempt(origin, endpoint)
        except OriginUnreachable as error:
            unreachable = error
    raise unreachable
