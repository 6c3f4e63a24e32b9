"""What a proxy says to an origin and to a caller, from what the other has said."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.srt.handshake import Handshake
from srsproxy.srt.negotiation import OriginHandshake
from tests.recorded import datagrams
from tests.srt import wire

RECORDINGS = ["srt_publish_plain", "srt_publish_encrypted"]

PEER_IP = wire.encode_peer_ip("192.0.2.1")

COOKIE, ORIGIN_COOKIE = 0x01020304, 0xFFFEFDFC
"""Of the proxy, and of the origin."""

COOKIE_AT, PEER_IP_AT, TIMESTAMP_AT = 44, 48, 8


def with_field(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with other bytes in one place."""
    return packet[:at] + value + packet[at + len(value) :]


def with_cookie(packet: bytes, cookie: int) -> bytes:
    """The packet with another cookie."""
    return with_field(packet, COOKIE_AT, cookie.to_bytes(4, "big"))


class Recorded:
    """The handshake of a caller with an origin."""

    def __init__(self, name: str) -> None:
        self.induction, self.induction_answer, self.conclusion, self.answer = (one.data for one in datagrams(name)[:4])

    def begin(self) -> OriginHandshake:
        """The proxy has got the caller's conclusion with its own cookie."""
        return OriginHandshake(Handshake.parse(with_cookie(self.conclusion, COOKIE)), PEER_IP)

    def induced(self) -> OriginHandshake:
        """The origin has answered the induction."""
        handshake = self.begin()
        assert handshake.receive(memoryview(with_cookie(self.induction_answer, ORIGIN_COOKIE))) is None
        return handshake


def changed(packet: bytes, **fields: Any) -> memoryview:
    """The packet with other values of these fields."""
    return memoryview(bytes(replace(wire.Handshake.parse(packet), **fields)))


@pytest.fixture(params=RECORDINGS)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    return Recorded(request.param)


def test_the_origin_gets_the_induction_that_the_caller_has_sent(recorded: Recorded) -> None:
    now = recorded.conclusion[TIMESTAMP_AT : TIMESTAMP_AT + 4]

    assert recorded.begin().request == with_field(recorded.induction, TIMESTAMP_AT, now)


def test_the_origin_gets_the_conclusion_byte_for_byte_but_for_the_cookie(recorded: Recorded) -> None:
    assert recorded.induced().request == with_cookie(recorded.conclusion, ORIGIN_COOKIE)


def test_the_caller_gets_the_answer_byte_for_byte_but_for_the_cookie_and_its_address(recorded: Recorded) -> None:
    handshake = recorded.induced()
    answer = handshake.receive(memoryview(with_cookie(recorded.answer, ORIGIN_COOKIE)))

    assert answer is not None
    assert handshake.answer_to_caller(answer) == with_field(with_cookie(recorded.answer, COOKIE), PEER_IP_AT, PEER_IP)


def test_an_answer_that_comes_again_is_the_same(recorded: Recorded) -> None:
    handshake = recorded.induced()
    answers = [handshake.receive(memoryview(recorded.answer)) for _ in range(3)]

    assert answers[0] == answers[1] == answers[2] is not None
    assert handshake.request == with_cookie(recorded.conclusion, ORIGIN_COOKIE)


@pytest.mark.parametrize("reason", [0, wire.BADSECRET, wire.FORBIDDEN, 2000, 0x7FFFFFFF - wire.REJECTION])
@pytest.mark.parametrize("induced", [False, True])
def test_a_rejection_is_an_answer_whenever_it_comes(recorded: Recorded, reason: int, induced: bool) -> None:
    handshake = recorded.induced() if induced else recorded.begin()
    answer = handshake.receive(changed(recorded.answer, type=wire.REJECTION + reason))

    assert answer is not None
    assert answer.rejection_reason == reason
    told = wire.Handshake.parse(handshake.answer_to_caller(answer))
    assert (told.rejection, told.cookie, told.peer_ip) == (reason, COOKIE, PEER_IP)


def test_a_conclusion_before_the_induction_is_no_answer(recorded: Recorded) -> None:
    handshake = recorded.begin()

    assert handshake.receive(memoryview(recorded.answer)) is None
    assert handshake.cookie is None


def test_a_second_induction_changes_nothing(recorded: Recorded) -> None:
    handshake = recorded.induced()

    assert handshake.receive(changed(recorded.induction_answer, cookie=7)) is None
    assert handshake.cookie == ORIGIN_COOKIE


@pytest.mark.parametrize("type", [0, 2, 999, 0x80000000, 0xFFFFFFFD, 0xFFFFFFFE])
def test_a_handshake_of_another_type_is_no_answer(recorded: Recorded, type: int) -> None:
    for handshake in (recorded.begin(), recorded.induced()):
        cookie = handshake.cookie
        assert handshake.receive(changed(recorded.answer, type=type)) is None
        assert handshake.cookie == cookie


@pytest.mark.parametrize("type", [wire.INDUCTION, wire.CONCLUSION, wire.REJECTION])
def test_a_handshake_for_another_socket_is_no_answer(recorded: Recorded, type: int) -> None:
    other = wire.destination(recorded.answer) ^ 1
    for handshake in (recorded.begin(), recorded.induced()):
        cookie = handshake.cookie
        assert handshake.receive(changed(recorded.answer, type=type, destination=other)) is None
        assert handshake.cookie == cookie


def test_a_malformed_handshake_is_an_error(recorded: Recorded) -> None:
    with pytest.raises(PeerError):
        recorded.begin().receive(memoryview(recorded.answer[:63]))


@given(st.lists(st.one_of(st.binary(max_size=100), st.binary(min_size=62).map(b"\x80\0".__add__)), max_size=5))
def test_whatever_an_origin_sends_is_an_answer_or_none_or_an_error_of_its_own(packets: list[bytes]) -> None:
    handshake = Recorded(RECORDINGS[0]).begin()
    for packet in packets:
        with contextlib.suppress(PeerError):
            answer = handshake.receive(memoryview(packet))
            if answer is not None:
                wire.Handshake.parse(handshake.answer_to_caller(answer))
        wire.Handshake.parse(handshake.request)
