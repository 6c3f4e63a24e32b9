"""A Redis for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.balancer.redis.recorded import RECORDED
from tests.balancer.redis.server import Client, redis_server


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[Path]:
    with redis_server() as path:
        yield path


@pytest.fixture
def connect(redis_socket: Path) -> Iterator[Callable[[], Client]]:
    """Makes connections to a Redis that is empty at first."""
    clients: list[Client] = []

    def connect() -> Client:
        clients.append(Client(redis_socket))
        return clients[-1]

    connect().command("FLUSHALL")
    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def redis(connect: Callable[[], Client]) -> Client:
    return connect()


@pytest.fixture
def go_redis(redis: Client) -> Client:
    """As the Go proxy left it."""
    for key, entry in RECORDED.items():
        expiry = () if entry.left < 0 else ("PX", entry.left)
        redis.command("SET", key, entry.value, *expiry)
    return redis
