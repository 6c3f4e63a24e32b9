"""The store against real Redis servers: logging in, losing them and having them back."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.balancer.redis.connection import MAX_REPLY, connect
from srsproxy.balancer.redis.model import CommandRefused, Place, StoreLost
from srsproxy.balancer.redis.scripts import Script
from srsproxy.balancer.redis.store import CONNECTIONS, Store
from srsproxy.errors import ConfigError, describe
from tests.asynchronous import PATIENCE, in_reactor, until
from tests.balancer.helpers import logging
from tests.redis_server import HOST, RedisServer, RunningStore, Sentinel, sentinels

SHORT = 0.2
"""Seconds of a deadline that a test lets pass."""

FOREIGN = "it does not speak the protocol of Redis"

TOO_LARGE = f"a reply of more than {MAX_REPLY} bytes"

ECHO = Script("echo", "return {KEYS[1], ARGV[1]}")


def delayed_calls() -> set[IDelayedCall]:
    return set(reactor.getDelayedCalls())


async def error_replies(server: RedisServer) -> int:
    """How many errors the server has answered with."""
    match = re.search("total_error_replies:([0-9]+)", str(await server.command("INFO", "stats")))
    assert match is not None
    return int(match[1])


class Peer(Protocol):
    """Says the same whatever it is asked."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(self._says)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True


class Peers(Factory[Peer]):
    """A server of such; use it with ``async with``."""

    noisy = False

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.all: list[Peer] = []

    def buildProtocol(self, addr: IAddress | None) -> Peer:
        self.all.append(Peer(self._says))
        return self.all[-1]

    async def __aenter__(self) -> Self:
        self._listening: Any = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(self)
        self.port: int = self._listening.getHost().port
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.stopListening()
        await until(reactor, lambda: all(peer.closed for peer in self.all), "all have gone")

    @property
    def place(self) -> Place:
        return Place(host=HOST, port=self.port)


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """No test leaves a traceback in the log, an error that nobody handles, or anything to be called later."""
    tracebacks: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            tracebacks.append(event)

    before = delayed_calls()
    globalLogPublisher.addObserver(observe)
    yield
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert tracebacks == []
    assert delayed_calls() <= before


class TestCommands:
    @in_reactor
    async def test_replies_of_all_kinds(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            assert await store.command("SET", "key", "value") == "OK"
            assert await store.command("GET", "key") == "value"
            assert await store.command("GET", "other") is None
            assert await store.command("SET", "number", 12) == "OK"
            assert await store.command("GET", "number") == "12"
            assert await store.command("INCR", "number") == 13
            nested = "return {1, {'a', {}, false, '*2\\r\\n'}, '', 'b'}"
            assert await store.command("EVAL", nested, 0) == [1, ["a", [], None, "*2\r\n"], "", "b"]

    @in_reactor
    async def test_bytes_that_are_no_text_come_back_as_they_were(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            text = b"live/\xff\xc3\xbc".decode(errors="surrogateescape")
            await store.command("SET", text, text)
            assert await store.command("GET", text) == text
            assert await store.command("STRLEN", text) == len(b"live/\xff\xc3\xbc")

    @in_reactor
    async def test_script_runs_whether_redis_has_seen_it_or_not(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            for _ in range(3):
                assert await store.run(ECHO, ["key"], ["value"]) == ["key", "value"]
            statistics = await server.command("INFO", "commandstats")
            assert isinstance(statistics, str)
            assert "cmdstat_evalsha:calls=3," in statistics
            assert "cmdstat_eval:calls=1," in statistics

    @in_reactor
    async def test_error_of_redis_is_told_and_costs_nothing_else(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            await store.command("SET", "key", "value")
            with pytest.raises(CommandRefused, match=r"^WRONGTYPE "):
                await store.command("LPUSH", "key", "value")
            with pytest.raises(CommandRefused, match="user_script"):
                await store.run(Script("broken", "return redis.call('LPUSH', 'key', 'value')"), [], [])
            assert await store.command("GET", "key") == "value"
            assert store.times_up == 1

    @in_reactor
    async def test_what_no_encoding_has_is_refused(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            with pytest.raises(CommandRefused):
                await store.command("GET", "\ud800")
            assert await store.command("GET", "key") is None

    @in_reactor
    async def test_many_at_once_each_get_their_own_reply(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            commands = [Deferred.fromCoroutine(store.command("ECHO", f"{number}")) for number in range(5000)]
            assert await gatherResults(commands) == [f"{number}" for number in range(5000)]
            clients = await server.command("CLIENT", "LIST")
            assert str(clients).count(" cmd=echo ") == CONNECTIONS

    @in_reactor
    async def test_large_reply(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            text = f"return {{string.rep('x', {MAX_REPLY // 4}), string.rep('y', {MAX_REPLY // 4})}}"
            reply = await store.command("EVAL", text, 0)
            assert reply == ["x" * (MAX_REPLY // 4), "y" * (MAX_REPLY // 4)]

    @in_reactor
    async def test_caller_that_waits_no_more_disturbs_nobody(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            commands = [Deferred.fromCoroutine(store.command("ECHO", f"{number}")) for number in range(4)]
            commands[1].cancel()
            assert await commands[0] == "0"
            assert await commands[2] == "2"
            assert await commands[3] == "3"
            with pytest.raises(CancelledError):
                await commands[1]


class TestLogin:
    @in_reactor
    async def test_tcp(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path, tcp=True) as server,
            RunningStore(reactor, Place(host="localhost", port=server.port)) as store,
        ):
            await store.comes()

    @in_reactor
    async def test_database(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path) as server,
            RunningStore(reactor, Place(socket=str(server.socket), db=3)) as store,
        ):
            await store.comes()
            for _ in range(CONNECTIONS):
                await store.command("INCR", "key")
            assert await server.command("DBSIZE") == 0
            assert str(await server.command("INFO", "keyspace")).splitlines()[1].startswith("db3:keys=1,")

    @in_reactor
    async def test_password(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path, password="secret") as server,
            RunningStore(reactor, server.place) as store,
        ):
            await store.comes()
            assert await store.command("GET", "key") is None

    @in_reactor
    async def test_username(self, tmp_path: Path) -> None:
        alice = ("--user", "alice", "on", ">secret", "~*", "+@all")
        async with (
            RedisServer(reactor, tmp_path, *alice) as server,
            RunningStore(reactor, Place(socket=str(server.socket), username="alice", password="secret")) as store,
        ):
            await store.comes()
            assert await store.command("ACL", "WHOAMI") == "alice"

    @pytest.mark.parametrize(
        ("of_server", "place", "setting"),
        [
            ("secret", Place(password="guess-me"), "PROXY_REDIS_PASSWORD"),
            ("secret", Place(), "PROXY_REDIS_PASSWORD"),
            ("secret", Place(db=1), "PROXY_REDIS_PASSWORD"),
            ("", Place(password="guess-me"), "PROXY_REDIS_PASSWORD"),
            ("secret", Place(username="bob", password="guess-me"), "PROXY_REDIS_USERNAME, PROXY_REDIS_PASSWORD"),
            ("", Place(db=16), "PROXY_REDIS_DB=16"),
        ],
        ids=["wrong-password", "no-password", "db-without-password", "password-of-none", "wrong-username", "db"],
    )
    @in_reactor
    async def test_refusal_names_the_setting_once(
        self, tmp_path: Path, of_server: str, place: Place, setting: str
    ) -> None:
        async with RedisServer(reactor, tmp_path, password=of_server) as server:
            place = replace(place, socket=str(server.socket))
            async with RunningStore(reactor, place) as store:
                await until(reactor, lambda: store.refusals, "a refusal")
                while await error_replies(server) < 2:
                    pass
                assert not store.up
            (refusal,) = store.refusals
            assert refusal.startswith(f"{setting}: refused by Redis at {server.socket}: ")
            assert "guess-me" not in refusal

    @in_reactor
    async def test_refused_until_redis_is_told_otherwise(self, tmp_path: Path) -> None:
        place = Place(socket=str(tmp_path / "redis.sock"), password="secret")
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, place) as store:
            await until(reactor, lambda: store.refusals, "a refusal")
            await server.command("CONFIG", "SET", "requirepass", "secret")
            await store.comes()

    @in_reactor
    async def test_no_room_for_clients_is_no_refusal(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path, "--maxclients", "1", password="secret") as server:
            with logging() as logged:
                async with RunningStore(reactor, server.place) as store:
                    await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
            assert store.refusals == []
            assert "max number of clients" in logged.at(LogLevel.warn)[0]

    def test_host_that_cannot_be(self) -> None:
        with pytest.raises(ConfigError, match=r"^PROXY_REDIS_HOST=aaa"):
            RunningStore(reactor, Place(host="a" * 64))


class TestTls:
    @in_reactor
    async def test_authority_and_host_name_are_right(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path, tls=True, password="secret") as server:
            place = Place(host="localhost", port=server.port, password="secret", tls=True, ca=server.ca)
            async with RunningStore(reactor, place) as store:
                await store.comes()
                large = "x" * 1_000_000
                await store.command("SET", "key", large)
                assert await store.command("GET", "key") == large
                await server.kill()
                await store.goes()
                await server.restart()
                await store.comes(2)
                assert await store.command("GET", "key") is None

    @pytest.mark.parametrize(
        ("host", "trusts", "reason"),
        [("localhost", False, "certificate verify failed"), (HOST, True, "VerificationError")],
        ids=["unknown-authority", "other-host"],
    )
    @in_reactor
    async def test_certificate_is_wrong(self, tmp_path: Path, host: str, trusts: bool, reason: str) -> None:
        async with RedisServer(reactor, tmp_path, tls=True) as server:
            place = Place(host=host, port=server.port, tls=True, ca=server.ca if trusts else None)
            with logging() as logged:
                async with RunningStore(reactor, place) as store:
                    await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
            assert store.times_up == 0
            assert reason in logged.at(LogLevel.warn)[0]

    @in_reactor
    async def test_server_without_tls(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path, tcp=True) as server:
            with logging() as logged:
                place = Place(host="localhost", port=server.port, tls=True)
                async with RunningStore(reactor, place, SHORT) as store:
                    await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
            assert store.times_up == 0

    def test_file_of_authorities_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^PROXY_REDIS_CA=.*/none.pem: cannot be read"):
            RunningStore(reactor, Place(tls=True, ca=tmp_path / "none.pem"))

    def test_file_of_authorities_is_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("garbage")
        with pytest.raises(ConfigError, match=r"^PROXY_REDIS_CA=.*/ca.pem: expected certificates in PEM form"):
            RunningStore(reactor, Place(tls=True, ca=tmp_path / "ca.pem"))


class TestLoss:
    @in_reactor
    async def test_comes_later(self, tmp_path: Path) -> None:
        server = RedisServer(reactor, tmp_path)
        with logging() as logged:
            async with RunningStore(reactor, server.place) as store:
                await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
                assert not store.up
                with pytest.raises(StoreLost, match=rf"^Redis at {server.socket} is lost$"):
                    await store.command("PING")
                async with server:
                    await store.comes()
                    assert await store.command("PING") == "PONG"
                    assert logged.at(LogLevel.info) == [f"Redis at {server.socket} is there"]
                    assert logged.at(LogLevel.warn) == [
                        f"Redis at {server.socket} is lost: connect: no such file or directory",
                    ]

    @in_reactor
    async def test_killed_and_restarted_empty(self, tmp_path: Path) -> None:
        with logging() as logged:
            async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
                await store.comes()
                await store.command("SET", "key", "value")
                await server.kill()
                await store.goes()
                for _ in range(100):
                    with pytest.raises(StoreLost):
                        await store.command("GET", "key")
                await server.restart()
                await store.comes(2)
                assert await store.command("GET", "key") is None
        assert len(logged.at(LogLevel.warn)) == 1
        assert len(logged.at(LogLevel.info)) == 2

    @in_reactor
    async def test_outage_is_logged_once(self, tmp_path: Path) -> None:
        with logging() as logged:
            async with Peers(b"") as peers, RunningStore(reactor, peers.place, SHORT):
                await until(reactor, lambda: len(peers.all) >= 2, "another attempt")
        assert logged.at(LogLevel.warn) == [f"Redis at {HOST}:{peers.port} is lost: no answer within {SHORT:g} s"]

    @in_reactor
    async def test_paused(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place, SHORT) as store:
            await store.comes()
            await server.pause(int(3 * SHORT * 1000))
            begin = reactor.seconds()
            commands = [Deferred.fromCoroutine(store.command("PING")) for _ in range(CONNECTIONS + 1)]
            for command in commands:
                with pytest.raises(StoreLost) as caught:
                    await command
                assert describe(caught.value) == f"Redis at {server.socket}: no answer within {SHORT:g} s"
            assert SHORT <= reactor.seconds() - begin < 2 * SHORT
            assert not store.up
            with pytest.raises(StoreLost, match=r"is lost$"):
                await store.command("PING")
            await store.comes(2)
            assert await store.command("PING") == "PONG"

    @in_reactor
    async def test_each_command_has_its_own_deadline(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place, SHORT) as store:
            await store.comes()
            begin = reactor.seconds()
            while reactor.seconds() - begin < 2 * SHORT:
                await store.command("PING")
            assert store.times_up == 1

    @in_reactor
    async def test_too_many_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("srsproxy.balancer.redis.store.MAX_WAITING", 100)
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            await server.pause(10_000)
            waiting = [Deferred.fromCoroutine(store.command("PING")) for _ in range(100)]
            with pytest.raises(StoreLost, match="100 commands wait"):
                await store.command("PING")
            await server.kill()
            for command in waiting:
                with pytest.raises(StoreLost):
                    await command

    @in_reactor
    async def test_no_longer_the_master(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server, RunningStore(reactor, server.place) as store:
            await store.comes()
            await server.command("REPLICAOF", HOST, 1)
            with pytest.raises(StoreLost, match=r"^Redis at") as caught:
                await store.run(Script("write", "return redis.call('SET', 'key', 'value')"), [], [])
            assert "READONLY" in describe(caught.value)
            assert not store.up
            await server.command("REPLICAOF", "NO", "ONE")
            await store.comes(2)

    @pytest.mark.parametrize(
        ("says", "reason"),
        [
            (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", FOREIGN),
            (b"\x00\xff\xfe\r\n", FOREIGN),
            (b"+\xff\r\n", FOREIGN),
            (b"x" * 100_000, FOREIGN),
            (b"$x\r\n", FOREIGN),
            (b"*-5\r\n", FOREIGN),
            (b":\xd9\xa3\r\n", FOREIGN),
            (b":1\r\n", FOREIGN),
            (b"*-1\r\n", FOREIGN),
            (b"garbage\r\n+PONG\r\n", FOREIGN),
            (b"$999999999\r\n", TOO_LARGE),
            (b"*2\r\n" + b"$2000000\r\n%s\r\n*9\r\n" % bytes(2_000_000) * 5, TOO_LARGE),
            (b"+PONG\r\n+PONG\r\n", "a reply to nothing"),
        ],
        ids=[
            "http",
            "binary",
            "no-text",
            "endless-line",
            "no-length",
            "negative-length",
            "other-digits",
            "number",
            "nothing",
            "answer-after-garbage",
            "long-string",
            "many-strings",
            "twice",
        ],
    )
    @in_reactor
    async def test_something_else_than_redis(self, says: bytes, reason: str) -> None:
        with logging() as logged:
            async with Peers(says) as peers, RunningStore(reactor, peers.place) as store:
                await until(reactor, lambda: len(peers.all) > CONNECTIONS, "another attempt")
        assert store.times_up == 0
        assert logged.at(LogLevel.warn) == [f"Redis at {HOST}:{peers.port} is lost: {reason}"]

    @in_reactor
    async def test_nothing_counts_after_what_is_wrong(self) -> None:
        async with Peers(b"garbage\r\n+PONG\r\n") as peers:
            endpoint = TCP4ClientEndpoint(reactor, HOST, peers.port)
            connection = await connect(endpoint, reactor, PATIENCE)
            with pytest.raises(StoreLost, match=FOREIGN):
                await connection.call("PING")
            await connection.close()


class TestSentinels:
    @in_reactor
    async def test_replica_takes_over(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path / "1", tcp=True) as master,
            RedisServer(reactor, tmp_path / "2", tcp=True, replica_of=master) as replica,
        ):
            while "master_link_status:up" not in str(await replica.command("INFO", "replication")):
                pass
            async with Sentinel(reactor, tmp_path / "3", master) as sentinel:
                await sentinel.knows_replica()
                async with RunningStore(reactor, sentinels([sentinel.port])) as store:
                    await store.comes()
                    await store.command("SET", "key", "value")
                    while await replica.command("GET", "key") is None:
                        pass
                    await master.kill()
                    await store.goes()
                    await store.comes(2)
                    assert await store.command("GET", "key") == "value"
                    assert await replica.command("DEL", "key") == 1

    @in_reactor
    async def test_first_that_knows_is_believed(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path / "1", tcp=True) as master,
            Peers(b"*-1\r\n") as ignorant,
            Peers(b"-ERR unknown command\r\n") as refusing,
            Peers(b"") as silent,
            Sentinel(reactor, tmp_path / "2", master) as sentinel,
        ):
            place = sentinels([ignorant.port, refusing.port, silent.port, sentinel.port])
            async with RunningStore(reactor, place, SHORT) as store:
                await store.comes()
                asked = [*ignorant.all, *refusing.all, *silent.all]
                assert len(asked) == 3
                await until(reactor, lambda: all(peer.closed for peer in asked), "nobody is kept waiting")

    @pytest.mark.parametrize(
        "says",
        [
            b"*-1\r\n",
            b"*2\r\n$1\r\nh\r\n$5\r\n65536\r\n",
            b"*2\r\n:1\r\n:2\r\n",
            b"+OK\r\n",
            b"*2\r\n$2\r\na.\r\n:1\r\n",
        ],
    )
    @in_reactor
    async def test_nobody_knows(self, says: bytes) -> None:
        with logging() as logged:
            async with Peers(says) as peers, RunningStore(reactor, sentinels([peers.port]), SHORT):
                await until(reactor, lambda: len(peers.all) >= 2, "another attempt")
        assert logged.at(LogLevel.warn) == [
            f"Redis {Sentinel.NAME} (by Sentinel) is lost: "
            f"Sentinel {HOST}:{peers.port}: it knows no master {Sentinel.NAME}"
        ]

    @in_reactor
    async def test_errors_of_all_are_told(self, tmp_path: Path) -> None:
        with logging() as logged:
            place = Place(sentinels=((HOST, 1), ("a" * 64, 1)), master="main")
            async with RunningStore(reactor, place, SHORT):
                await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")
        (warning,) = logged.at(LogLevel.warn)
        assert f"Sentinel {HOST}:1: connect: connection refused; Sentinel aaa" in warning

    @in_reactor
    async def test_replica_is_not_taken_for_the_master(self, tmp_path: Path) -> None:
        async with (
            RedisServer(reactor, tmp_path / "1", "--replicaof", f"{HOST} 1", tcp=True) as replica,
            Peers(f"*2\r\n${len(HOST)}\r\n{HOST}\r\n$5\r\n{replica.port:05}\r\n".encode()) as mistaken,
        ):
            with logging() as logged:
                async with RunningStore(reactor, sentinels([mistaken.port])) as store:
                    await until(reactor, lambda: len(mistaken.all) >= 2, "another attempt")
                    assert store.times_up == 0
                    await replica.command("REPLICAOF", "NO", "ONE")
                    await store.comes()
        assert logged.at(LogLevel.warn) == [f"Redis {Sentinel.NAME} (by Sentinel) is lost: it is not the master"]


class TestClose:
    @in_reactor
    async def test_commands_that_wait_fail(self, tmp_path: Path) -> None:
        async with RedisServer(reactor, tmp_path) as server:
            async with RunningStore(reactor, server.place) as store:
                await store.comes()
                await server.pause(10_000)
                waiting = Deferred.fromCoroutine(store.command("PING"))
            with pytest.raises(StoreLost):
                await waiting
            with pytest.raises(StoreLost):
                await store.command("PING")

    @in_reactor
    async def test_while_connecting(self) -> None:
        async with RunningStore(reactor, Place(host="localhost", port=1)):
            pass

    @in_reactor
    async def test_while_logging_in(self) -> None:
        async with Peers(b"") as peers, RunningStore(reactor, peers.place):
            await until(reactor, lambda: peers.all, "a connection")

    @in_reactor
    async def test_while_waiting_for_another_attempt(self) -> None:
        with logging() as logged:
            async with RunningStore(reactor, Place(host=HOST, port=1)):
                await until(reactor, lambda: logged.at(LogLevel.warn), "a warning")

    @in_reactor
    async def test_within_tls(self, tmp_path: Path) -> None:
        async with Peers(b"") as peers, RunningStore(reactor, replace(peers.place, tls=True)):
            await until(reactor, lambda: peers.all, "a connection")

    @in_reactor
    async def test_by_who_is_told_that_it_is_there(self, tmp_path: Path) -> None:
        closing: list[Deferred[None]] = []

        def close() -> None:
            closing.append(Deferred.fromCoroutine(store.close()))

        async with RedisServer(reactor, tmp_path) as server:
            store = Store(reactor, server.place, close, lambda _error: None, timeout=PATIENCE, random=Random(1))
            store.start()
            await until(reactor, lambda: closing, "it is there")
            await closing[0]
            assert not store.up

    @in_reactor
    async def test_by_who_is_told_that_it_is_refused(self, tmp_path: Path) -> None:
        closing: list[Deferred[None]] = []

        def close(_error: ConfigError) -> None:
            closing.append(Deferred.fromCoroutine(store.close()))

        async with RedisServer(reactor, tmp_path, password="secret") as server:
            place = Place(socket=str(server.socket))
            store = Store(reactor, place, lambda: None, close, timeout=PATIENCE, random=Random(1))
            store.start()
            await until(reactor, lambda: closing, "a refusal")
            await closing[0]

    @in_reactor
    async def test_without_a_start(self) -> None:
        store = RunningStore(reactor, Place())
        await store.close()
        with pytest.raises(StoreLost):
            await store.command("PING")
