"""Tokens of origins."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from srsproxy.balancer import pins as pins_module
from srsproxy.balancer.model import Origin
from srsproxy.balancer.pins import REFRESH_INTERVAL, TOKEN_LENGTH, Pins, is_token
from srsproxy.errors import OriginUnreachable
from srsproxy.http.playlist import rewrite
from tests.balancer.helpers import make_origin, result_of

A = make_origin("vid-a", http=("8080",), api=("127.0.0.1:1985",))
B = make_origin("vid-b", http=("80", "[2001:db8::1]:8081"), rtmp=("1935",))
NAMED = Origin("Origin.Example", "vid-c", "s", "1", "", http=("8080",))


class Balancer:
    """Of a balancer, what pins use: tells the origins at once, or when it is told to."""

    def __init__(self, *origins: Origin) -> None:
        self.registered = list(origins)
        self.asked: list[Deferred[list[Origin]]] = []
        self.slow = False

    def origins(self) -> Deferred[list[Origin]]:
        answer: Deferred[list[Origin]] = Deferred() if self.slow else succeed(self.registered)
        self.asked.append(answer)
        return answer


def make_pins(*origins: Origin, secret: bytes = b"secret") -> tuple[Pins, Balancer, Clock]:
    balancer, clock = Balancer(*origins), Clock()
    return Pins(secret, cast("Any", balancer), clock), balancer, clock


def resolve(pins: Pins, pin: str) -> str | None:
    return result_of(Deferred.fromCoroutine(pins.resolve(pin)))


# Tokens


def test_a_token_is_the_same_at_every_proxy_with_the_same_secret() -> None:
    one, _, _ = make_pins()
    other, _, _ = make_pins()
    assert one.token("vid-a") == other.token("vid-a") == one.token("vid-a")
    assert one.token("vid-a") == "nhrjqmaqbq2t5lpu"


def test_a_token_tells_origins_apart_and_needs_no_escaping() -> None:
    pins, _, _ = make_pins()
    tokens = {pins.token(f"vid-{number}") for number in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch("[a-z2-7]{16}", token) for token in tokens)


def test_a_token_depends_on_the_secret() -> None:
    one, _, _ = make_pins()
    other, _, _ = make_pins(secret=b"other")
    assert one.token("vid-a") != other.token("vid-a")


def test_a_restart_of_the_origin_does_not_change_its_token() -> None:
    pins, balancer, clock = make_pins(A)
    token = pins.token(A.server)
    balancer.registered = [make_origin("vid-a", service="s2", pid="2", http=("8080",))]
    clock.advance(REFRESH_INTERVAL)
    assert resolve(pins, token) == A.server


def test_the_number_of_tokens_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins_module, "MAX_KEPT", 10)
    pins, _, _ = make_pins()
    tokens = [pins.token(f"vid-{number}") for number in range(100)]
    assert len(pins._tokens) <= 10
    assert [pins.token(f"vid-{number}") for number in range(100)] == tokens


# Back to the origin


def test_a_token_leads_to_its_origin() -> None:
    pins, balancer, _ = make_pins(A, B)
    token = pins.token(A.server)
    assert pins.server(token) is None
    assert resolve(pins, token) == A.server
    assert pins.server(token) == A.server
    assert resolve(pins, pins.token(B.server)) == B.server
    assert len(balancer.asked) == 1


def test_a_token_of_an_origin_that_is_not_registered_leads_nowhere() -> None:
    pins, _, _ = make_pins(A)
    assert resolve(pins, pins.token("vid-gone")) is None
    assert resolve(pins, "x" * TOKEN_LENGTH) is None


def test_the_table_is_not_reloaded_more_often_than_once_in_the_interval() -> None:
    pins, balancer, clock = make_pins(A)
    for number in range(100):
        assert resolve(pins, f"{number:016}") is None
    assert len(balancer.asked) == 1
    balancer.registered.append(B)
    clock.advance(REFRESH_INTERVAL * 0.9)
    assert resolve(pins, pins.token(B.server)) is None
    clock.advance(REFRESH_INTERVAL * 0.2)
    assert resolve(pins, pins.token(B.server)) == B.server
    assert len(balancer.asked) == 2


def test_a_clock_that_is_set_back_does_not_stop_reloads() -> None:
    pins, balancer, clock = make_pins(A)
    clock.advance(1000)
    result_of(pins.refresh())
    clock.rightNow = 1.0
    result_of(pins.refresh())
    assert len(balancer.asked) == 2


def test_a_reload_forgets_origins_that_are_gone() -> None:
    pins, balancer, clock = make_pins(A)
    token = pins.token(A.server)
    assert resolve(pins, token) == A.server
    balancer.registered = [B]
    clock.advance(REFRESH_INTERVAL)
    result_of(pins.refresh())
    assert pins.server(token) is None
    assert pins.authority(b"192.0.2.1:8080") is None


def test_a_go_proxys_id_is_nobodys_token() -> None:
    pins, balancer, _ = make_pins(A)
    assert not is_token("7a1b2c3")
    assert resolve(pins, "7a1b2c3") is None
    assert balancer.asked == []
    assert is_token(pins.token(A.server))


# One reload for all who wait


def test_all_who_ask_while_a_reload_runs_wait_for_the_same_one() -> None:
    pins, balancer, clock = make_pins()
    balancer.slow = True
    waiting = [Deferred.fromCoroutine(pins.resolve(pins.token(A.server))) for _ in range(10)]
    clock.advance(REFRESH_INTERVAL * 5)
    waiting.append(Deferred.fromCoroutine(pins.resolve(pins.token(A.server))))
    (reload,) = balancer.asked
    assert not any(one.called for one in waiting)
    reload.callback([A])
    assert [result_of(one) for one in waiting] == [A.server] * 11


def test_one_who_does_not_wait_any_more_takes_nothing_from_the_others() -> None:
    pins, balancer, _ = make_pins()
    balancer.slow = True
    first, second = pins.refresh(), pins.refresh()
    first.cancel()
    with pytest.raises(CancelledError):
        result_of(first)
    balancer.asked[0].callback([A])
    assert result_of(second) is None
    assert pins.server(pins.token(A.server)) == A.server


def test_a_reload_that_fails_is_told_to_all_who_wait_and_leaves_the_table() -> None:
    pins, balancer, clock = make_pins(A)
    result_of(pins.refresh())
    clock.advance(REFRESH_INTERVAL)
    balancer.slow = True
    waiting = [Deferred.fromCoroutine(pins.resolve("x" * TOKEN_LENGTH)) for _ in range(2)]
    balancer.asked[-1].errback(OriginUnreachable("no Redis"))
    for one in waiting:
        with pytest.raises(OriginUnreachable, match="no Redis"):
            result_of(one)
    assert pins.server(pins.token(A.server)) == A.server
    assert resolve(pins, "x" * TOKEN_LENGTH) is None
    clock.advance(REFRESH_INTERVAL)
    balancer.slow = False
    balancer.registered = [B]
    assert resolve(pins, pins.token(B.server)) == B.server


# Authorities


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        (b"192.0.2.1:8080", A),
        (b"127.0.0.1:1985", A),
        (b"192.0.2.1", B),
        (b"192.0.2.1:80", B),
        (b"[2001:db8::1]:8081", B),
        (b"[2001:DB8::1]:8081", B),
        (b"origin.example:8080", NAMED),
        (b"ORIGIN.example:8080", NAMED),
        (b"192.0.2.1:1935", None),
        (b"127.0.0.1:8080", None),
        (b"127.0.0.1", None),
        (b"[2001:db8::1]", None),
        (b"origin.example", None),
        (b"192.0.2.1:", None),
        (b"user@192.0.2.1:8080", None),
        (b"", None),
        (b":8080", None),
        (b"\xff:80", None),
    ],
)
def test_the_authority_of_an_origin(name: bytes, origin: Origin | None) -> None:
    pins, _, _ = make_pins(A, B, NAMED)
    assert pins.authority(name) is None
    result_of(pins.refresh())
    assert pins.authority(name) == (None if origin is None else pins.token(origin.server))


def test_a_playlist_is_pinned_to_its_origin_and_to_others_that_it_names() -> None:
    pins, _, _ = make_pins(A, B)
    result_of(pins.refresh())
    text = "#EXTM3U\ns.ts\nhttp://192.0.2.1:8080/a.key\nhttp://192.0.2.1/b.key\nhttp://cdn.org/c.key\n"
    a, b = pins.token(A.server), pins.token(B.server)
    assert rewrite(text.encode(), pins.pinning(A)).decode() == (
        f"#EXTM3U\ns.ts?spbhid={a}\n/a.key?spbhid={a}\n/b.key?spbhid={b}\nhttp://cdn.org/c.key\n"
    )


def test_an_origins_own_addresses_are_known_before_the_table_is_loaded() -> None:
    pins, balancer, _ = make_pins(A, B)
    pin = pins.pinning(A)
    assert pin(None) == pin(b"192.0.2.1:8080") == pins.token(A.server).encode()
    assert pin(b"192.0.2.1") is None
    assert balancer.asked == []


def test_an_address_that_two_origins_announce_is_that_of_the_playlists_origin() -> None:
    twin = make_origin("vid-twin", http=("8080",))
    pins, _, _ = make_pins(A, twin)
    result_of(pins.refresh())
    for origin in (A, twin):
        assert pins.pinning(origin)(b"192.0.2.1:8080") == pins.token(origin.server).encode()
