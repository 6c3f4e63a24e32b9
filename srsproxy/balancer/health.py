"""Passive health: what connections to the origins teach about them. Pure; the caller passes the time in.

Theory of operation. Every origin begins healthy. A failure sets it aside for a while, and a success ends that at once::

    HEALTHY --failed--> SUSPECT --failed, down_after times in a row--> DOWN
       ^                   |                                             |
       +---- the time to set it aside has passed: on trial --------------+
       +---- succeeded

An origin on trial looks healthy until one new stream has been sent there (:meth:`OriginHealth.tried`); from then on it
is a suspect, so that others wait for the verdict instead of all running into the same connect timeout. A failure on
trial counts as one more in the row; if no verdict comes, the trial begins again after the time to set aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Health(Enum):
    """What to do with an origin; in order of preference."""

    HEALTHY = "healthy"
    """Takes new streams."""

    SUSPECT = "suspect"
    """Takes no new streams while there are healthy origins, but keeps those that it has: a single failure does not mean
    that they are gone, and moving one would part its viewers from its publisher."""

    DOWN = "down"
    """Loses its streams to any better origin: a dead host must not cost every client a connect timeout."""


@dataclass(slots=True)
class _Setback:
    """Failures since the last success."""

    failures: int
    until: float
    on_trial: bool = False


class OriginHealth:
    """The state of every origin that failed since its last success, by id.

    :param set_aside: seconds for which an origin is set aside after each failure.
    :param down_after: failures in a row that make an origin down.
    """

    def __init__(self, set_aside: float, down_after: int) -> None:
        self._set_aside = set_aside
        self._down_after = down_after
        self._setbacks: dict[str, _Setback] = {}

    def failed(self, origin_id: str, now: float) -> None:
        """A connection to the origin failed.

        Failures are in a row if each comes while the origin is set aside for the one before. An origin that was down is
        so again at the first failure after its time, because nothing has worked in between.
        """
        setback = self._setbacks.get(origin_id)
        failures = 1
        if setback is not None and (now < setback.until or setback.failures >= self._down_after):
            failures += setback.failures
        self._setbacks[origin_id] = _Setback(failures, now + self._set_aside)

    def succeeded(self, origin_id: str) -> bool:
        """A connection to the origin worked. Returns whether anything was held against it until now."""
        return self._setbacks.pop(origin_id, None) is not None

    def tried(self, origin_id: str, now: float) -> None:
        """A new stream is sent to the origin, whose answer tells how it is."""
        setback = self._setbacks.get(origin_id)
        if setback is not None and now >= setback.until:
            setback.on_trial = True
            setback.until = now + self._set_aside

    def forget(self, origin_id: str) -> None:
        """The origin is no longer registered."""
        self._setbacks.pop(origin_id, None)

    def state(self, origin_id: str, now: float) -> Health:
        """How the origin is."""
        setback = self._setbacks.get(origin_id)
        if setback is None or now >= setback.until:
            return Health.HEALTHY
        return Health.DOWN if setback.failures >= self._down_after and not setback.on_trial else Health.SUSPECT
