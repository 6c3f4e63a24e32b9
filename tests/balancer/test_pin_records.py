"""What Go proxies find in the balancer that they share with us."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from srsproxy.balancer.memory import MemoryLoadBalancer
from srsproxy.balancer.model import HlsSession, Origin, Surface
from srsproxy.balancer.pins import PinRecords, Pins
from srsproxy.balancer.policy import least_streams
from tests.balancer.helpers import PICK_LIFETIME, SESSION_LIFETIME, logging, make_knowledge, make_origin, result_of

A = make_origin("a", http=("8080",))
B = make_origin("b", http=("8080",))
LIFETIME = min(PICK_LIFETIME, SESSION_LIFETIME)


class CountingBalancer(MemoryLoadBalancer):
    """One that counts the records that it is given."""

    saved = 0

    def save_hls(self, session: HlsSession) -> Deferred[HlsSession]:
        self.saved += 1
        return super().save_hls(session)


class Lab:
    """Records in a balancer of this process, and what a Go proxy would make of them."""

    def __init__(self, *origins: Origin) -> None:
        self.clock = Clock()
        self.balancer = CountingBalancer(make_knowledge(self.clock), least_streams)
        self.pins = Pins(b"secret", self.balancer, self.clock)
        self.records = PinRecords(self.balancer, self.pins, self.clock, LIFETIME)
        self.register(*origins)

    def register(self, *origins: Origin) -> None:
        """Take a heartbeat of each."""
        for origin in origins:
            result_of(self.balancer.register(origin))

    def stream(self, server: str) -> str | None:
        """The stream in the record of an origin's pin."""
        record = result_of(self.balancer.load_hls(self.pins.token(server)))
        return None if record is None else record.key

    def led_to(self, server: str) -> Origin | None:
        """Where a Go proxy leads those who have an origin's pin."""
        stream = self.stream(server)
        return None if stream is None else result_of(self.balancer.pick(stream, Surface.HTTP))


def test_the_pin_of_each_origin_leads_there() -> None:
    lab = Lab(A, B)
    for origin in (A, B, A):
        lab.records.keep(origin)
    assert lab.led_to("a") == A
    assert lab.led_to("b") == B


def test_an_origin_whose_playlists_nobody_has_gets_no_record() -> None:
    lab = Lab(A, B)
    lab.records.keep(A)
    assert lab.led_to("b") is None


def test_no_client_can_name_the_stream_of_an_origin() -> None:
    lab = Lab(A)
    lab.records.keep(A)
    # Theirs are vhost/app/stream.
    assert (lab.stream("a") or "").count("/") == 1


def test_records_live_while_playlists_are_given_out_and_are_written_seldom() -> None:
    lab = Lab(A)
    for _ in range(3 * round(LIFETIME)):
        lab.records.keep(A)
        lab.clock.advance(1.0)
    assert lab.led_to("a") == A
    assert lab.balancer.saved <= 3 * 12
    lab.clock.advance(LIFETIME)
    assert lab.stream("a") is None


def test_a_restarted_origin_is_led_to_at_once() -> None:
    lab = Lab(A)
    lab.records.keep(A)
    restarted = make_origin("a", service="s2", http=("8081",))
    lab.register(restarted, B)
    # The other one has fewer streams.
    assert result_of(lab.balancer.pick("live/s", Surface.HTTP, prefer="a")) == restarted
    lab.records.keep(restarted)
    assert lab.led_to("a") == restarted


def test_a_pick_that_was_moved_while_the_origin_was_away_comes_back() -> None:
    lab = Lab(A, B)
    lab.records.keep(A)
    assert result_of(lab.balancer.pick(lab.stream("a") or "", Surface.HTTP, {A.id})) == B
    lab.clock.advance(LIFETIME / 4)
    lab.records.keep(A)
    assert lab.led_to("a") == A


def test_an_origin_that_is_gone_meanwhile_is_no_trouble() -> None:
    lab = Lab()
    with logging() as logged:
        lab.records.keep(A)
    assert logged.at(LogLevel.debug)[0] == "keep the record of a pin: no origin is registered"
    assert logged.at(LogLevel.warn) == []
    assert lab.stream("a") is None
