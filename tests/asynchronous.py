"""Coroutines as tests, with their types."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, cast

import pytest_twisted

P = ParamSpec("P")


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in the reactor."""
    return cast("Callable[P, None]", pytest_twisted.ensureDeferred(test))
