"""The service that keeps a shared balancer going."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from secrets import token_hex

import pytest
from twisted.internet import reactor
from twisted.logger import LogLevel

from srsproxy.balancer.model import Surface
from srsproxy.balancer.policy import least_streams
from srsproxy.balancer.redis.model import Place
from srsproxy.balancer.redis.records import Keys
from srsproxy.balancer.redis.service import RedisService
from srsproxy.errors import ConfigError
from tests.asynchronous import PATIENCE, in_reactor, until
from tests.balancer.helpers import logging, make_knowledge, make_origin, result_of
from tests.balancer.redis.shared import LIFETIMES, STREAM, sharing
from tests.redis_server import RedisServer

KEYS = Keys()
A = make_origin("a")
B = make_origin("b")


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """No test leaves anything to be called later."""
    before = set(reactor.getDelayedCalls())
    yield
    assert set(reactor.getDelayedCalls()) <= before


class Running(RedisService):
    """A service, and what it told.

    :ivar secrets: that all proxies have agreed on.
    :ivar errors: that should end the proxy.
    """

    def __init__(self, place: Place, *, agrees: bool = True, timeout: float = PATIENCE) -> None:
        self.secrets: list[bytes] = []
        self._offered = token_hex()
        self.errors: list[ConfigError] = []
        super().__init__(
            reactor,
            place,
            "",
            make_knowledge(reactor),
            LIFETIMES,
            least_streams,
            timeout,
            Random(1),
            self._offered,
            self.secrets.append if agrees else None,
            self.errors.append,
        )

    @property
    def in_use(self) -> bytes:
        """The secret."""
        return [self._offered.encode(), *self.secrets][-1]

    async def is_ready(self) -> None:
        await until(reactor, lambda: self.balancer.is_ready, "the balancer is ready")


@asynccontextmanager
async def running(*services: Running) -> AsyncIterator[None]:
    for service in services:
        service.startService()
    try:
        yield
    finally:
        for service in services:
            await service.stopService()


class TestSecret:
    @in_reactor
    async def test_all_proxies_agree_on_one(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            services = [Running(server.place) for _ in range(4)]
            async with running(*services):
                for service in services:
                    await service.is_ready()
                assert len({service.in_use for service in services}) == 1
                # One of them had it already.
                assert sorted(len(service.secrets) for service in services) == [0, 1, 1, 1]

    @in_reactor
    async def test_a_proxy_that_comes_later_takes_the_one_in_use(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            await server.command("SET", KEYS.secret, "in-use")
            service = Running(server.place)
            async with running(service):
                await service.is_ready()
                assert service.secrets == [b"in-use"]

    @in_reactor
    async def test_the_one_in_use_is_written_back(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            services = [Running(server.place) for _ in range(2)]
            async with running(*services):
                for service in services:
                    await service.is_ready()
                await server.restart()
                while (written_back := await server.command("GET", KEYS.secret)) is None:
                    pass
                assert [str(written_back).encode()] * 2 == [service.in_use for service in services]

    @in_reactor
    async def test_another_one_that_redis_comes_back_with_is_taken(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place)
            async with running(service):
                await service.is_ready()
                await server.command("SET", KEYS.secret, "another")
                await server.command("SAVE")
                await server.restart()
                await until(reactor, lambda: service.secrets, "that is told")
                assert service.secrets == [b"another"]

    @in_reactor
    async def test_proxies_that_were_told_one_leave_none_in_redis(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place, agrees=False)
            async with running(service):
                await service.is_ready()
                assert await server.command("KEYS", "*") == []


class TestReadiness:
    @in_reactor
    async def test_a_proxy_waits_for_redis_and_is_ready_then(self, tmp_path: Path) -> None:
        server = RedisServer(reactor, tmp_path)
        service = Running(server.place)
        with logging() as logged:
            async with running(service):
                await until(reactor, lambda: logged.at(LogLevel.warn), "that is told")
                assert not service.balancer.is_ready
                async with server:
                    await service.is_ready()
                assert service.balancer.is_ready
        assert service.errors == []
        assert logged.at(LogLevel.warn)[0] == f"Redis at {server.socket} is lost: connect: no such file or directory"

    @in_reactor
    async def test_what_other_proxies_know_is_learnt_before_and_after_an_outage(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place)

            def knows(*servers: str) -> bool:
                return {origin.server for origin in result_of(service.balancer.origins())} == set(servers)

            async with running(service), sharing(reactor, server.place, 1) as (other,):
                await service.is_ready()
                await other.register(A)
                await until(reactor, lambda: knows("a"), "the origin is known")
                await other.pick()
                await server.restart()
                await other.comes(2)
                await other.register(B)
                await until(reactor, lambda: knows("a", "b"), "both origins are known")
                assert await server.command("GET", KEYS.pick(STREAM)) == KEYS.server(A.id)

    @in_reactor
    async def test_a_redis_that_was_emptied_under_way_is_told_again(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place)
            async with running(service):
                await service.is_ready()
                await service.balancer.register(A)
                assert await service.balancer.pick(STREAM, Surface.RTMP) == A
                await server.command("FLUSHALL")
                names = [KEYS.server(A.id), KEYS.pick(STREAM), KEYS.secret]
                while await server.command("EXISTS", *names) != len(names):
                    pass
                assert str(await server.command("GET", KEYS.secret)).encode() == service.in_use
                assert not service.secrets


class TestRefusals:
    @in_reactor
    async def test_a_redis_that_takes_no_secret_is_told_of_once_and_joined_when_it_does(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            await server.command("LPUSH", KEYS.secret, "of another type")
            service = Running(server.place)
            with logging() as logged:
                async with running(service):
                    await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
                    assert not service.balancer.is_ready
                    assert not service.errors
                    await server.command("DEL", KEYS.secret)
                    await service.is_ready()
            (line,) = logged.at(LogLevel.warn)
            assert line.startswith("Redis refuses, so this proxy goes on alone: WRONGTYPE")

    @pytest.mark.parametrize(
        ("wrong", "setting"),
        [
            ({"password": "wrong"}, "PROXY_REDIS_PASSWORD"),
            ({"username": "nobody", "password": "wrong"}, "PROXY_REDIS_USERNAME, PROXY_REDIS_PASSWORD"),
            ({}, "PROXY_REDIS_PASSWORD"),
            ({"password": "right", "db": 99}, "PROXY_REDIS_DB=99"),
        ],
    )
    @in_reactor
    async def test_a_wrong_setting_is_fatal_at_the_start(
        self, tmp_path: Path, wrong: dict[str, str | int], setting: str
    ) -> None:
        async with RedisServer(reactor, tmp_path, password="right") as server:
            service = Running(Place(socket=str(server.socket), **wrong))  # type: ignore[arg-type]  # of both kinds
            async with running(service):
                await until(reactor, lambda: service.errors, "it is refused")
                assert str(service.errors[0]).startswith(f"{setting}: refused by Redis at {server.socket}: ")
                assert not service.balancer.is_ready
                assert service.secrets == []

    @in_reactor
    async def test_a_password_that_is_changed_later_is_told_and_the_proxy_goes_on(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place)
            async with running(service):
                await service.is_ready()
                await service.balancer.register(A)
                await server.kill()
                with logging() as logged:
                    async with RedisServer(reactor, tmp_path, password="changed"):
                        await until(reactor, lambda: logged.at(LogLevel.error), "that is told")
                (line,) = logged.at(LogLevel.error)
                assert line.startswith("Redis refuses us: PROXY_REDIS_PASSWORD: refused by ")
                assert service.errors == []
                assert service.balancer.is_ready
                assert await service.balancer.origins() == [A]


class TestStop:
    @in_reactor
    async def test_a_service_that_has_never_found_redis_stops(self, tmp_path: Path) -> None:
        service = Running(RedisServer(reactor, tmp_path).place)
        with logging() as logged:
            service.startService()
            await until(reactor, lambda: logged.at(LogLevel.warn), "it has tried")
            await service.stopService()
        assert not service.balancer.is_ready

    @in_reactor
    async def test_a_service_stops_while_redis_hangs(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            service = Running(server.place)
            service.startService()
            await service.is_ready()
            await server.pause(60_000)
            asked = service.balancer.look_around()
            await service.stopService()
            await asked
