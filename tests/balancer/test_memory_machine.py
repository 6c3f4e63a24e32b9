"""Any sequence of calls to the balancer in memory, against what a person would say must come out."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.task import Clock

from srsproxy.balancer.model import Origin, Surface
from srsproxy.errors import NoOrigin
from tests.balancer.helpers import ORIGIN_LIFETIME, PICK_LIFETIME, make_balancer, make_origin, result_of

MAX_PICKS = 4
SERVERS = st.sampled_from("abc")
KEYS = st.sampled_from([f"live/{number}" for number in range(7)])
SURFACES = st.sampled_from([Surface.RTMP, Surface.RTMP, Surface.SRT])
EXCLUDED = st.just(frozenset[str]()) | st.frozensets(SERVERS)
LISTENERS = {"a": {"rtmp": ("1",)}, "b": {"rtmp": ("1",), "srt": ("2",)}, "c": {"rtmp": ("1",), "srt": ("2",)}}


class BalancerMachine(RuleBasedStateMachine):
    """The model knows heartbeats, picks in the order of their last use, and which origins ever failed to be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        with patch("srsproxy.balancer.knowledge.MAX_PICKS", MAX_PICKS):
            self.balancer = make_balancer(self.clock)
        self.starts = dict.fromkeys("abc", 0)
        self.registered: dict[str, tuple[Origin, float]] = {}
        self.picks: dict[str, tuple[str, float]] = {}
        self.doubtful: set[str] = set()

    def now(self) -> float:
        return float(self.clock.seconds())

    def living(self) -> dict[str, Origin]:
        """By id, the origins that are registered."""
        heartbeats = self.registered.values()
        return {origin.id: origin for origin, at in heartbeats if self.now() < at + ORIGIN_LIFETIME}

    def forget(self) -> None:
        """Picks that died: of age, or because they were the longest idle of too many. Those of dead origins count among
        the many, but are never used again, even if the origin returns."""
        self.picks = {key: (id_, at) for key, (id_, at) in self.picks.items() if self.now() < at + PICK_LIFETIME}
        for key in list(self.picks)[: max(0, len(self.picks) - MAX_PICKS)]:
            del self.picks[key]
        living = self.living()
        self.picks = {key: (id_ if id_ in living else "", at) for key, (id_, at) in self.picks.items()}

    def use(self, key: str, origin_id: str) -> None:
        self.picks.pop(key, None)
        self.picks[key] = (origin_id, self.now())
        self.forget()

    @initialize()
    def all_register(self) -> None:
        for server in "abc":
            self.heartbeat(server)

    @rule(server=SERVERS)
    def heartbeat(self, server: str) -> None:
        origin = make_origin(server, f"s{self.starts[server]}", "1", **LISTENERS[server])
        result_of(self.balancer.register(origin))
        self.registered[server] = (origin, self.now())

    @rule(server=SERVERS)
    def restart(self, server: str) -> None:
        self.starts[server] += 1
        self.heartbeat(server)
        self.forget()

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0, 80.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.forget()

    @rule(server=SERVERS, times=st.integers(1, 3))
    def fail(self, server: str, times: int) -> None:
        for origin in [origin for origin in self.living().values() if origin.server == server]:
            self.doubtful.add(origin.id)
            for _ in range(times):
                result_of(self.balancer.report_failure(origin))

    @rule(server=SERVERS)
    def succeed(self, server: str) -> None:
        for origin in [origin for origin in self.living().values() if origin.server == server]:
            self.doubtful.discard(origin.id)
            result_of(self.balancer.report_success(origin))

    @rule(keys=st.lists(KEYS))
    def refresh(self, keys: list[str]) -> None:
        result_of(self.balancer.refresh(keys))
        for key in keys:
            if key in self.picks:
                self.use(key, self.picks[key][0])

    @rule(key=KEYS, server=SERVERS, surface=SURFACES)
    def pinned(self, key: str, server: str, surface: Surface) -> None:
        self.forget()
        living = {origin.server: origin for origin in self.living().values()}
        origin = result_of(self.balancer.pinned(key, server, surface))
        if key in self.picks:
            self.use(key, self.picks[key][0])
        expected = living.get(server)
        if expected is None or not expected.listeners(surface):
            assert origin is None
        elif expected.id not in self.doubtful:
            assert origin is expected
        else:
            assert origin in (None, expected)

    @rule(keys=st.lists(KEYS))
    def picked(self, keys: list[str]) -> None:
        self.forget()
        expected = next((key for key in keys if key in self.picks and self.picks[key][0]), None)
        assert result_of(self.balancer.picked(keys)) == expected

    @rule(key=KEYS, surface=SURFACES, excluded=EXCLUDED)
    def pick(self, key: str, surface: Surface, excluded: frozenset[str]) -> None:
        self.forget()
        living = self.living()
        exclude = {origin.id for origin in living.values() if origin.server in excluded}
        possible = {id_ for id_, origin in living.items() if origin.listeners(surface)} - exclude
        current, _at = self.picks.get(key, ("", 0.0))
        settled = current and current not in exclude and current not in self.doubtful
        try:
            picked = result_of(self.balancer.pick(key, surface, exclude))
        except NoOrigin:
            assert not possible or (current and current not in exclude and current not in possible)
            return
        assert picked.id in possible
        assert picked is living[picked.id]
        if settled:
            assert picked.id == current
        elif not current and not possible & self.doubtful:
            streams = {id_: sum(other == id_ for other, _at in self.picks.values()) for id_ in possible}
            assert streams[picked.id] == min(streams.values())
        self.use(key, picked.id)

    @invariant()
    def the_origins_are_those_whose_heartbeat_is_fresh(self) -> None:
        assert {origin.id: origin for origin in result_of(self.balancer.origins())} == self.living()

    @invariant()
    def nothing_is_left_to_the_clock(self) -> None:
        assert not self.clock.getDelayedCalls()


TestBalancerMachine = BalancerMachine.TestCase
TestBalancerMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
