"""Any sequence of calls to two balancers that share a real Redis, against what a person would say must come out."""

from __future__ import annotations

from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession
from srsproxy.balancer.policy import POLICIES, Candidate, rendezvous
from srsproxy.balancer.redis.balancer import FRESH_FOR, RedisLoadBalancer
from srsproxy.balancer.redis.model import CommandRefused, Reply, StoreLost
from srsproxy.balancer.redis.records import Keys
from srsproxy.balancer.redis.scripts import Script
from srsproxy.errors import NoOrigin
from tests.balancer.helpers import make_knowledge, make_origin, result_of
from tests.balancer.redis.server import Client, RedisError
from tests.balancer.redis.shared import LIFETIMES

KEYS = Keys()
LISTENERS = {"a": {"rtmp": ("1",)}, "b": {"rtmp": ("1",), "srt": ("2",)}, "c": {"rtmp": ("1",), "srt": ("2",)}}

servers = st.sampled_from("abc")
streams = st.sampled_from([f"live/{number}" for number in range(5)])
numbers = st.integers(0, 1)
surfaces = st.sampled_from([Surface.RTMP, Surface.RTMP, Surface.SRT])
excluded_servers = st.just(frozenset[str]()) | st.frozensets(servers, max_size=2)
ids = st.sampled_from("xyz")

EXAMPLES = 60
"""A second's worth."""


class DirectStore:
    """A store that waits for each answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.up = True

    async def run(self, script: Script, keys: Any, args: Any) -> Reply:
        return await self.command("EVAL", script.text, len(keys), *keys, *args)

    async def command(self, *words: str | int) -> Reply:
        if not self.up:
            raise StoreLost("lost")
        try:
            reply: Reply = self._client.command(*words)
        except RedisError as error:
            raise CommandRefused(str(error)) from None
        return reply


class Proxy:
    """One of the two.

    :ivar answers: of each stream, the id of the origin that it said last, and when.
    """

    def __init__(self, client: Client, seed: int) -> None:
        self.clock = Clock()
        self.store = DirectStore(client)
        self.knowledge = make_knowledge(self.clock, seed)
        store: Any = self.store
        self.balancer = RedisLoadBalancer(
            self.clock, self.knowledge, store, KEYS, LIFETIMES, POLICIES["least-streams"], 1.0
        )
        self.answers: dict[str, tuple[str, float]] = {}

    def knows(self) -> dict[str, str]:
        """The ids of the origins of streams, as far as known here."""
        return {key: origin.id for key, origin in self.knowledge.picks().items()}

    def restore(self) -> None:
        """Redis is back, and what was chosen without it is told to it."""
        result_of(Deferred.fromCoroutine(self.balancer.restore()))
        result_of(self.balancer.look_around())


class SharingMachine(RuleBasedStateMachine):
    """The model knows the origins, the picks, which origins ever failed, and the sessions. So little time passes that
    nothing dies of age, but answers do get old. All proxies look around whenever an origin comes."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        client.command("FLUSHALL")
        self.proxies = [Proxy(client, seed) for seed in range(2)]
        self.origins: dict[str, Origin] = {}
        self.picks: dict[str, str] = {}
        self.doubtful: set[str] = set()
        self.hls: dict[str, HlsSession] = {}
        self.webrtc: dict[str, WebRtcSession] = {}
        self.up = True
        for proxy in self.proxies:
            proxy.restore()
        for server in "abc":
            self._register(0, make_origin(server, "s0", "1", **LISTENERS[server]))

    def _register(self, number: int, origin: Origin) -> None:
        result_of(self.proxies[number].balancer.register(origin))
        self.origins[origin.server] = origin
        for proxy in self.proxies:
            result_of(proxy.balancer.look_around())

    def by_id(self) -> dict[str, Origin]:
        return {origin.id: origin for origin in self.origins.values()}

    def pick_in_redis(self, key: str) -> str:
        record = self.client.command("GET", KEYS.pick(key))
        return KEYS.origin_id(record) or ""

    # Time and origins

    @rule(seconds=st.sampled_from([FRESH_FOR / 4, FRESH_FOR]))
    def pass_time(self, seconds: float) -> None:
        for proxy in self.proxies:
            proxy.clock.advance(seconds)
            result_of(proxy.balancer.look_around())

    @rule(number=numbers, server=servers)
    def heartbeat(self, number: int, server: str) -> None:
        self._register(number, self.origins[server])

    @precondition(lambda self: self.up)
    @rule(number=numbers, server=servers)
    def restart(self, number: int, server: str) -> None:
        old = self.origins[server]
        new = make_origin(server, f"s{int(old.service[1:]) + 1}", "1", **LISTENERS[server])
        self._register(number, new)
        self.picks = {key: origin_id for key, origin_id in self.picks.items() if origin_id != old.id}

    @rule(number=numbers, server=servers, times=st.integers(1, 3))
    def fail(self, number: int, server: str, times: int) -> None:
        self.doubtful.add(self.origins[server].id)
        for _ in range(times):
            result_of(self.proxies[number].balancer.report_failure(self.origins[server]))

    @rule(server=servers)
    def succeed(self, server: str) -> None:
        self.doubtful.discard(self.origins[server].id)
        for proxy in self.proxies:
            result_of(proxy.balancer.report_success(self.origins[server]))

    # Streams

    def says(self, proxy: Proxy, key: str) -> str | None:
        """The origin that a proxy says without asking Redis."""
        said, at = proxy.answers.get(key, ("", 0.0))
        is_fresh = self.up and said in self.by_id() and proxy.clock.seconds() - at < FRESH_FOR
        return said if is_fresh else None

    @rule(number=numbers, key=streams, surface=surfaces, excluded=excluded_servers)
    def pick(self, number: int, key: str, surface: Surface, excluded: frozenset[str]) -> None:
        proxy = self.proxies[number]
        exclude = {self.origins[server].id for server in excluded}
        living = self.by_id()
        possible = {id_ for id_, origin in living.items() if origin.listeners(surface)} - exclude
        said = self.says(proxy, key)
        current = said or (self.picks if self.up else proxy.knows()).get(key, "")
        settled = current and current not in exclude and current not in self.doubtful
        try:
            picked = result_of(proxy.balancer.pick(key, surface, exclude))
        except NoOrigin:
            assert not possible or (current not in possible and current not in exclude) or self.picks[key] != current
            if self.up and not said and key in self.picks:
                proxy.answers[key] = (self.picks[key], proxy.clock.seconds())  # It has asked.
            return
        assert picked.id in possible
        assert picked == living[picked.id]
        if settled:
            assert picked.id == current
        elif not (current or self.up or self.doubtful):
            assert picked == rendezvous([Candidate(living[id_], 0) for id_ in sorted(possible)], key, Random())
        if self.up and not (settled and said):
            self.picks[key] = self.pick_in_redis(key)
            assert picked.id in (self.picks[key], said)
            if picked.id == self.picks[key]:
                proxy.answers[key] = (picked.id, proxy.clock.seconds())

    @rule(number=numbers, keys=st.lists(streams, min_size=1))
    def picked(self, number: int, keys: list[str]) -> None:
        proxy = self.proxies[number]
        if self.up and not all(self.says(proxy, key) for key in keys):
            for key in set(keys) & set(self.picks):
                proxy.answers[key] = (self.picks[key], proxy.clock.seconds())
        first = result_of(proxy.balancer.picked(keys))
        assert first == next((key for key in keys if key in proxy.knows()), None)
        assert not self.up or first == next((key for key in keys if key in self.picks), None)

    @rule(number=numbers, keys=st.lists(streams))
    def refresh(self, number: int, keys: list[str]) -> None:
        result_of(self.proxies[number].balancer.refresh(keys))

    # Sessions

    @precondition(lambda self: self.up)
    @rule(number=numbers, key=streams, spbhid=ids)
    def save_hls(self, number: int, key: str, spbhid: str) -> None:
        session = HlsSession(spbhid, key, f"http://{number}/")
        in_force = next((one for one in self.hls.values() if one.key == key), None)
        try:
            kept = result_of(self.proxies[number].balancer.save_hls(session))
        except ValueError:
            assert in_force is None
            assert self.hls[spbhid].key != key
            return
        assert kept == (in_force or session)
        self.hls[kept.spbhid] = kept

    @precondition(lambda self: self.up)
    @rule(number=numbers, spbhid=ids)
    def load_hls(self, number: int, spbhid: str) -> None:
        assert result_of(self.proxies[number].balancer.load_hls(spbhid)) == self.hls.get(spbhid)

    @precondition(lambda self: self.up)
    @rule(number=numbers, key=streams, ufrag=ids)
    def save_webrtc(self, number: int, key: str, ufrag: str) -> None:
        self.webrtc[ufrag] = WebRtcSession(key, ufrag, "a", "password", "play")
        result_of(self.proxies[number].balancer.save_webrtc(self.webrtc[ufrag]))

    @precondition(lambda self: self.up)
    @rule(number=numbers, ufrag=ids)
    def load_webrtc(self, number: int, ufrag: str) -> None:
        assert result_of(self.proxies[number].balancer.load_webrtc(ufrag)) == self.webrtc.get(ufrag)

    @precondition(lambda self: self.up)
    @rule(number=numbers, ufrag=ids)
    def drop_webrtc(self, number: int, ufrag: str) -> None:
        result_of(self.proxies[number].balancer.drop_webrtc(ufrag))
        self.webrtc.pop(ufrag, None)

    # Outages

    @precondition(lambda self: self.up)
    @rule(is_empty=st.booleans())
    def lose(self, is_empty: bool) -> None:
        self.up = False
        for proxy in self.proxies:
            proxy.store.up = False
        if is_empty:
            self.client.command("FLUSHALL")
            self.picks, self.hls, self.webrtc = {}, {}, {}

    @precondition(lambda self: not self.up)
    @rule(first=numbers)
    def come_back(self, first: int) -> None:
        self.up = True
        for proxy in (self.proxies[first], self.proxies[1 - first]):
            known = proxy.knows()
            self.picks = {**known, **self.picks}
            self.hls = {**{one.spbhid: one for one in proxy.knowledge.hls_sessions()}, **self.hls}
            self.webrtc = {**{one.ufrag: one for one in proxy.knowledge.webrtc_sessions()}, **self.webrtc}
            proxy.store.up = True
            proxy.restore()
            proxy.answers = {key: (self.picks[key], proxy.clock.seconds()) for key in known}

    @invariant()
    def both_know_the_origins(self) -> None:
        for proxy in self.proxies:
            assert {origin.server: origin for origin in result_of(proxy.balancer.origins())} == self.origins

    @invariant()
    def redis_has_the_picks_and_counts_them(self) -> None:
        if self.up:
            assert {key: self.pick_in_redis(key) for key in self.picks} == self.picks
            sets = {id_: self.client.command("ZCARD", KEYS.streams(id_)) for id_ in self.by_id()}
            assert sets == {id_: list(self.picks.values()).count(id_) for id_ in sets}

    def teardown(self) -> None:
        """In the end both say the same of every stream."""
        if self.doubtful:
            return
        if not self.up:
            self.come_back(0)
        self.pass_time(FRESH_FOR)
        for key, origin_id in self.picks.items():
            assert [result_of(proxy.balancer.pick(key, Surface.RTMP)).id for proxy in self.proxies] == [origin_id] * 2


@patch("srsproxy.balancer.redis.balancer.GUESSING_FOR", 0.0)
def test_two_balancers_that_share_a_redis_are_one(redis: Client) -> None:
    machine: Any = lambda: SharingMachine(redis)  # noqa: E731  # it is declared to be a class
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=40))
