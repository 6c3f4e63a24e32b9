"""Handshake cookies: made for an address and a minute, and known again by whoever has the secret."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from srsproxy.relay.udpsockets import Address
from srsproxy.srt.cookies import Cookies

CALLER = "192.0.2.1", 40000
COOKIES = Cookies(b"secret")

MINUTE = 60

hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
addresses = st.tuples(hosts, st.integers(0, 65535))
times = st.floats(0, 4e9)


@given(addresses, times)
def test_a_cookie_is_the_same_for_a_minute_and_fits_its_field(address: Address, now: float) -> None:
    begin = now // MINUTE * MINUTE
    cookie = COOKIES.make(address, now)

    assert 0 < cookie < 1 << 32
    assert COOKIES.make(address, begin) == cookie == COOKIES.make(address, begin + 59)


@given(addresses, times)
def test_a_cookie_is_taken_from_its_address_in_its_minute_and_the_next(address: Address, now: float) -> None:
    cookie = COOKIES.make(address, now)
    begin = now // MINUTE * MINUTE

    for later in (now, begin, begin + 59, begin + 60, begin + 119):
        assert COOKIES.is_valid(cookie, address, later)
    for other in (begin - 1, begin + 120, begin + 3600):
        assert not COOKIES.is_valid(cookie, address, other)


@given(addresses, addresses, times)
@example(("192.0.2.1", 40000), ("192.0.2.2", 40000), 0)
@example(("192.0.2.1", 40000), ("192.0.2.1", 40001), 0)
@example(("192.0.2.1", 40000), ("::ffff:192.0.2.1", 40000), 0)
@example(("192.0.2.1", 11), ("192.0.2.11", 1), 0)
def test_a_cookie_is_not_taken_from_another_address(address: Address, other: Address, now: float) -> None:
    assume(address != other)

    assert not COOKIES.is_valid(COOKIES.make(address, now), other, now)


@given(st.binary(min_size=1), st.binary(min_size=1), times)
def test_a_cookie_is_known_to_all_with_the_same_secret_and_to_no_others(
    secret: bytes, other: bytes, now: float
) -> None:
    assume(secret.rstrip(b"\0") != other.rstrip(b"\0"))
    cookie = Cookies(secret).make(CALLER, now)

    assert Cookies(secret).is_valid(cookie, CALLER, now)
    assert not Cookies(other).is_valid(cookie, CALLER, now)


@given(st.integers(0, (1 << 32) - 1))
@example(0)
@example(1)
def test_guessed_cookies_are_not_taken(cookie: int) -> None:
    now = 1e9
    assume(cookie not in (COOKIES.make(CALLER, now), COOKIES.make(CALLER, now - MINUTE)))

    assert not COOKIES.is_valid(cookie, CALLER, now)


def test_an_ipv6_caller_gets_the_same_cookie_in_whatever_flow_it_sends() -> None:
    cookie = COOKIES.make(("2001:db8::1", 40000, 0, 0), 0)

    assert COOKIES.is_valid(cookie, ("2001:db8::1", 40000, 7, 0), 0)


def test_no_cookie_is_0_which_an_induction_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zeros:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def digest(self) -> bytes:
            return bytes(4)

    monkeypatch.setattr(hashlib, "blake2s", Zeros)

    assert COOKIES.make(CALLER, 0) != 0
