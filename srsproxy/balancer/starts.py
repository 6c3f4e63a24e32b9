"""Which start of each origin is registered: a session at an earlier one is over, whether or not anybody says so."""

from __future__ import annotations

from twisted.logger import Logger

from srsproxy.balancer.model import Origin
from srsproxy.errors import in_background
from srsproxy.interfaces import ILoadBalancer

_log = Logger()


class Starts:
    """What was known when :meth:`learn` was called last."""

    def __init__(self, balancer: ILoadBalancer) -> None:
        self._balancer = balancer
        self._ids: dict[str, str] = {}

    def learn(self) -> None:
        """Ask the balancer."""

        def learnt(origins: list[Origin]) -> None:
            self._ids = {origin.server: origin.id for origin in origins}

        in_background(_log, "look for restarted origins", self._balancer.origins().addCallback(learnt))

    def is_over(self, origin: Origin) -> bool:
        """Whether another start of the origin is registered."""
        return self._ids.get(origin.server, origin.id) != origin.id
