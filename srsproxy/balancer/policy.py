"""Pure choice of the origin for a new stream: which ones could take it, and which of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple

from srsproxy.balancer.health import Health
from srsproxy.balancer.model import Origin, Surface
from srsproxy.errors import NoOrigin


class Candidate(NamedTuple):
    """An origin that could take a new stream, and how many it has."""

    origin: Origin
    streams: int


Policy = Callable[[Sequence[Candidate], str, Random], Origin]
"""Takes one candidate or more, the stream's key, and a source of random numbers."""


def least_streams(candidates: Sequence[Candidate], _key: str, random: Random) -> Origin:
    """The origin with the fewest streams; any one of them if there are several."""
    fewest = min(candidate.streams for candidate in candidates)
    return random.choice([candidate.origin for candidate in candidates if candidate.streams == fewest])


def uniform(candidates: Sequence[Candidate], _key: str, random: Random) -> Origin:
    """Any origin, as the Go proxy does."""
    return random.choice(candidates).origin


def rendezvous(candidates: Sequence[Candidate], key: str, _random: Random) -> Origin:
    """The origin that all who know the same ones choose, without asking each other (highest random weight hashing): as
    a hash of the stream and the origin has it. An origin that comes or goes moves its own streams only."""

    def weight(candidate: Candidate) -> bytes:
        name = f"{candidate.origin.server}\n{key}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(name, digest_size=16).digest()

    return max(candidates, key=weight).origin


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType({"least-streams": least_streams, "random": uniform})
"""By the name that the setting ``PROXY_PICK_POLICY`` takes."""


def best_candidates(
    candidates: Collection[Candidate],
    surface: Surface,
    exclude: Collection[str],
    health: Callable[[str], Health],
) -> list[Candidate]:
    """Those that a stream may go to, which are equally healthy: all healthy ones, or else all suspects, or else,
    because trying is better than refusing, all that are down.

    :param surface: what the client needs; an origin that does not announce it is no choice.
    :param exclude: ids of origins that were tried already.
    :param health: the health of an origin by its id.
    :raises NoOrigin: there is none; the text says why.
    """
    if not candidates:
        raise NoOrigin("no origin is registered")
    announcing = [candidate for candidate in candidates if candidate.origin.listeners(surface)]
    if not announcing:
        raise NoOrigin(f"no origin announces {surface.value}")
    untried = [candidate for candidate in announcing if candidate.origin.id not in exclude]
    if not untried:
        which = "the only origin" if len(announcing) == 1 else f"all {len(announcing)} origins"
        those = "" if len(announcing) == len(candidates) else f" with {surface.value}"
        raise NoOrigin(f"{which}{those} {'was' if len(announcing) == 1 else 'were'} tried")
    by_health: dict[Health, list[Candidate]] = {}
    for candidate in untried:
        by_health.setdefault(health(candidate.origin.id), []).append(candidate)
    return next(by_health[state] for state in Health if state in by_health)
