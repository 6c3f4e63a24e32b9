"""The secret that proxies agree on when they have found Redis: what was made with another before is made anew."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from srsproxy.balancer.pins import Pins
from srsproxy.srt.cookies import Cookies
from srsproxy.webrtc.credentials import Credentials
from tests.balancer.helpers import make_balancer, make_origin, result_of

ORIGIN = make_origin("vid-a", http=("8080",))
CALLER = "192.0.2.1", 40_000


def make_pins(secret: bytes) -> Pins:
    balancer = make_balancer(Clock())
    result_of(balancer.register(ORIGIN))
    return Pins(secret, balancer, Clock())


def resolve(pins: Pins, token: str) -> str | None:
    return result_of(Deferred.fromCoroutine(pins.resolve(token)))


def test_tokens_of_origins_are_those_of_a_proxy_that_had_the_secret_from_the_start() -> None:
    pins, other = make_pins(b"own"), make_pins(b"agreed")
    before = pins.token("vid-a")
    assert before != other.token("vid-a")
    assert resolve(pins, before) == "vid-a"
    pins.rekey(b"agreed")
    assert pins.token("vid-a") == other.token("vid-a")
    assert pins.server(before) is pins.authority(b"192.0.2.1:8080") is None
    # Without waiting until the table may be reloaded again.
    assert resolve(pins, other.token("vid-a")) == "vid-a"
    assert resolve(pins, before) is None
    assert pins.authority(b"192.0.2.1:8080") == other.token("vid-a")


def test_ice_credentials_are_those_of_a_proxy_that_had_the_secret_from_the_start() -> None:
    pins, other_pins = make_pins(b"own"), make_pins(b"agreed")
    credentials, other = Credentials(b"own", pins), Credentials(b"agreed", other_pins)
    pins.rekey(b"agreed")
    credentials.rekey(b"agreed")
    drawn = credentials.draw("vid-a", "client")
    username = f"{drawn.ufrag}:client"
    assert other.password(username) == credentials.password(username) == drawn.pwd
    assert result_of(Deferred.fromCoroutine(other.server(username))) == "vid-a"


def test_srt_cookies_are_those_of_a_proxy_that_had_the_secret_from_the_start() -> None:
    cookies, other = Cookies(b"own"), Cookies(b"agreed")
    before = cookies.make(CALLER, 0)
    assert not other.is_valid(before, CALLER, 0)
    cookies.rekey(b"agreed")
    assert not cookies.is_valid(before, CALLER, 0)
    assert other.is_valid(cookies.make(CALLER, 0), CALLER, 0)
