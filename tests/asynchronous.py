"""Coroutines as tests, and waiting in them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, cast

import pytest_twisted
from twisted.internet.task import deferLater

P = ParamSpec("P")

PATIENCE: Final = 20.0
"""Seconds after which something awaited is taken for never coming."""


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in the reactor."""
    return cast("Callable[P, None]", pytest_twisted.ensureDeferred(test))


async def until(reactor: Any, true: Callable[[], object], what: str) -> None:
    """Wait until ``true()``: looked at again and again while the reactor runs, for :data:`PATIENCE` seconds."""
    begin = reactor.seconds()
    while not true():
        if reactor.seconds() - begin > PATIENCE:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}, {true}")
        await deferLater(reactor, 0.001)
