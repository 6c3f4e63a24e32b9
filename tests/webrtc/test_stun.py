"""STUN messages: what is read of them, what is refused, and whether their integrity is told from a forged one."""

from __future__ import annotations

from struct import pack
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.webrtc.sdp import ice_credentials
from srsproxy.webrtc.stun import (
    MAX_ATTRIBUTES,
    MAX_USERNAME_SIZE,
    StunMessage,
    parse,
    split_username,
    verify_integrity,
)
from tests.recorded import datagrams, http_body
from tests.webrtc.peers import (
    BINDING_REQUEST,
    BINDING_RESPONSE,
    FINGERPRINT,
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY,
    PRIORITY,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    stun,
    xor_address,
)

TRANSACTION = b"transaction!"
PASSWORD = "p" * 22
NAME = b"local:remote"
MESSAGE_INTEGRITY_SHA256 = 0x001C
SOFTWARE = 0x8022

# RFC 5769, sections 2.1 to 2.3.
VECTOR_PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
SAMPLE_REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
SAMPLE_IPV4_RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
SAMPLE_IPV6_RESPONSE = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def header(length: int, type: int = BINDING_REQUEST, cookie: bytes = b"\x21\x12\xa4\x42") -> bytes:
    return pack(">HH", type, length) + cookie + TRANSACTION


def request(*attributes: tuple[int, bytes], password: str | None = PASSWORD) -> bytes:
    return stun(BINDING_REQUEST, TRANSACTION, attributes, password)


def with_more(message: bytes, *attributes: tuple[int, bytes]) -> bytes:
    """``message`` with attributes behind its last one."""
    more = b"".join(pack(">HH", type, len(value)) + value + bytes(-len(value) % 4) for type, value in attributes)
    return message[:2] + pack(">H", len(message) - 20 + len(more)) + message[4:] + more


# What is read


def test_a_binding_request_of_a_client() -> None:
    message = parse(request((USERNAME, NAME), (PRIORITY, b"\x6e\x7f\xff\xff"), (ICE_CONTROLLING, bytes(8))))
    assert message == StunMessage(
        type=BINDING_REQUEST,
        transaction_id=TRANSACTION,
        username="local:remote",
        use_candidate=False,
        integrity_at=20 + 16 + 8 + 12,
    )
    assert message.is_binding_request
    assert not message.is_response


def test_a_client_that_has_chosen_its_path() -> None:
    assert parse(request((USERNAME, NAME), (USE_CANDIDATE, b""))).use_candidate


@pytest.mark.parametrize(
    ("type", "is_binding_request", "is_response"),
    [
        (0x0001, True, False),  # Binding request, indication, success and error response
        (0x0011, False, False),
        (0x0101, False, True),
        (0x0111, False, True),
        (0x0003, False, False),  # Allocate request and success response
        (0x0103, False, True),
    ],
)
def test_types_of_messages(type: int, is_binding_request: bool, is_response: bool) -> None:
    message = parse(header(0, type))
    assert (message.type, message.is_binding_request, message.is_response) == (type, is_binding_request, is_response)


def test_a_message_without_attributes() -> None:
    assert parse(header(0)) == StunMessage(BINDING_REQUEST, TRANSACTION, None, False, None)


def test_a_view_is_read_as_bytes_are() -> None:
    data = request((USERNAME, NAME), (USE_CANDIDATE, b""))
    view = memoryview(bytearray(b"before" + data + b"after"))[6:-5]
    assert parse(view) == parse(data)
    assert verify_integrity(view, parse(view), PASSWORD)


def test_what_was_read_of_a_view_outlives_its_buffer() -> None:
    buffer = bytearray(request((USERNAME, NAME)))
    message = parse(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert (message.transaction_id, message.username) == (TRANSACTION, "local:remote")


def test_of_equal_attributes_the_first_counts() -> None:
    signed = request((USERNAME, NAME))
    twice = with_more(signed, (MESSAGE_INTEGRITY, bytes(20)))
    assert parse(twice) == parse(signed)
    assert verify_integrity(twice, parse(twice), PASSWORD)


def test_what_follows_the_integrity_does_not_count() -> None:
    # RFC 8489, section 14.5.
    signed = with_more(request(), (USE_CANDIDATE, b""), (USERNAME, NAME))
    message = parse(signed)
    assert not message.use_candidate
    assert message.username is None
    assert verify_integrity(signed, message, PASSWORD)


@pytest.mark.parametrize("place", ["before the integrity", "after it", "both after it"])
def test_a_second_username_is_refused_because_srs_takes_the_last(place: str) -> None:
    other = (USERNAME, b"victim:remote")
    if place == "before the integrity":
        data = request((USERNAME, NAME), other)
    elif place == "after it":
        data = with_more(request((USERNAME, NAME)), other)
    else:
        data = with_more(request(), (USERNAME, NAME), other)
    with pytest.raises(PeerError, match="two USERNAMEs"):
        parse(data)


def test_the_longest_username() -> None:
    name = b"a" * 256 + b":" + b"b" * 256
    assert len(name) == MAX_USERNAME_SIZE
    assert parse(request((USERNAME, name))).username == name.decode()


def test_a_username_that_is_not_ascii() -> None:
    # RFC 5769, section 2.4.
    assert parse(request((USERNAME, "マトリックス".encode()))).username == "マトリックス"


def test_as_many_attributes_as_are_taken() -> None:
    attributes = [(SOFTWARE, b"x")] * (MAX_ATTRIBUTES - 3)
    assert parse(request((USERNAME, NAME), *attributes)).username == "local:remote"  # with integrity and fingerprint


def test_a_username_is_two_ufrags() -> None:
    assert split_username("local:remote") == ("local", "remote")
    assert split_username("local:re:mote") == ("local", "re:mote")
    assert split_username(":") == ("", "")


def test_a_username_of_one_ufrag_is_refused() -> None:
    with pytest.raises(PeerError, match="not two ufrags"):
        split_username("local")


# What is refused


def test_g3_half_an_attribute_header_is_refused() -> None:
    # A datagram that ends the Go proxy.
    with pytest.raises(PeerError, match="the length of the STUN message is wrong"):
        parse(header(2) + b"\x00\x06")


def test_g4_an_attribute_without_its_padding_is_refused() -> None:
    # A datagram that ends the Go proxy.
    with pytest.raises(PeerError, match="the length of the STUN message is wrong"):
        parse(header(5) + b"\x00\x06\x00\x01a")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than its header"),
        (header(0)[:19], "shorter than its header"),
        (header(0, cookie=b"\x21\x12\xa4\x43"), "no STUN message"),
        (header(0, type=0x4001), "no STUN message"),
        (header(0) + bytes(4), "length of the STUN message is wrong"),
        (header(8) + bytes(4), "length of the STUN message is wrong"),
        (header(0xFFFC), "length of the STUN message is wrong"),
        (header(1) + b"a", "length of the STUN message is wrong"),
        (header(4) + pack(">HH", USERNAME, 1), "longer than what is left"),
        (header(4) + pack(">HH", SOFTWARE, 0xFFFF), "longer than what is left"),
        (header(8) + pack(">HH", SOFTWARE, 5) + bytes(4), "longer than what is left"),
        (request((USERNAME, b"x" * (MAX_USERNAME_SIZE + 1))), "USERNAME of the STUN message is longer than 513 bytes"),
        (request((USERNAME, b"\xff:\xff")), "not UTF-8"),
        (request((MESSAGE_INTEGRITY, bytes(19))), "MESSAGE-INTEGRITY of the STUN message has a wrong size"),
        (request((MESSAGE_INTEGRITY, bytes(32))), "MESSAGE-INTEGRITY of the STUN message has a wrong size"),
    ],
)
def test_what_is_no_right_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        parse(data)


def test_too_many_attributes_are_refused() -> None:
    with pytest.raises(LimitExceeded, match=f"more than {MAX_ATTRIBUTES} attributes"):
        parse(request(*[(SOFTWARE, b"")] * MAX_ATTRIBUTES))


def test_thousands_of_attributes_take_little_time() -> None:
    most = header(0xFFFC) + pack(">HH", SOFTWARE, 0) * (0xFFFC // 4)
    begun = process_time()
    for _ in range(1_000):
        with pytest.raises(LimitExceeded):
            parse(most)
    assert process_time() - begun < 1  # all 16,383 attributes would take some ms each time


# Integrity


@pytest.mark.parametrize(
    ("data", "username"),
    [(SAMPLE_REQUEST, "evtj:h6vY"), (SAMPLE_IPV4_RESPONSE, None), (SAMPLE_IPV6_RESPONSE, None)],
    ids=["request", "IPv4 response", "IPv6 response"],
)
def test_the_vectors_of_rfc_5769(data: bytes, username: str | None) -> None:
    message = parse(data)
    assert message.transaction_id.hex() == "b7e7a701bc34d686fa87dfae"
    assert message.username == username
    assert message.is_response == (username is None)
    assert verify_integrity(data, message, VECTOR_PASSWORD)
    assert not verify_integrity(data, message, VECTOR_PASSWORD.lower())


def test_without_the_attribute_there_is_no_integrity() -> None:
    data = request((USERNAME, NAME), password=None)
    assert not verify_integrity(data, parse(data), PASSWORD)
    assert not verify_integrity(data, parse(data), "")


def test_an_integrity_by_another_hash_is_none() -> None:
    data = request((USERNAME, NAME), (MESSAGE_INTEGRITY_SHA256, bytes(32)), password=None)
    assert not verify_integrity(data, parse(data), PASSWORD)


def test_an_integrity_before_which_nothing_stands() -> None:
    data = request()
    assert verify_integrity(data, parse(data), PASSWORD)


def test_the_integrity_of_a_message_that_goes_on() -> None:
    data = with_more(request((USERNAME, NAME)), (MESSAGE_INTEGRITY_SHA256, bytes(32)), (FINGERPRINT, bytes(4)))
    assert verify_integrity(data, parse(data), PASSWORD)


def test_the_integrity_of_a_long_message() -> None:
    data = request((SOFTWARE, bytes(60_000)), (USERNAME, NAME))
    message = parse(data)
    assert message.username == "local:remote"
    assert verify_integrity(data, message, PASSWORD)
    assert not verify_integrity(data.replace(NAME, NAME.upper()), message, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 64, "x" * 65, "x" * 256])
def test_passwords_of_any_length(password: str) -> None:
    # Keys of HMAC-SHA1 that are longer than 64 bytes are hashed first.
    data = request((USERNAME, NAME), password=password)
    assert verify_integrity(data, parse(data), password)
    assert not verify_integrity(data, parse(data), password + "x")


# Recorded traffic


def test_recorded_messages_are_signed_with_the_password_of_the_answer() -> None:
    pwd = ice_credentials(http_body("whep.response").decode()).pwd
    recorded = [datagram for datagram in datagrams("rtc_whep_udp") if datagram.data[0] < 2]
    messages = [parse(datagram.data) for datagram in recorded]

    assert [message.is_binding_request for message in messages] == [datagram.to_server for datagram in recorded]
    assert {message.username for message in messages} == {"m5w4865i:PJWy"}
    assert [message.use_candidate for message in messages] == [False, False, True, False]
    for datagram, message in zip(recorded, messages, strict=True):
        assert verify_integrity(datagram.data, message, pwd)
        assert not verify_integrity(datagram.data, message, pwd[:-1])


def test_nothing_else_that_was_recorded_is_stun() -> None:
    others = [datagram.data for datagram in datagrams("rtc_whep_udp") if datagram.data[0] > 1]
    assert len(others) == 76
    for data in others:
        with pytest.raises(PeerError):
            parse(data)


# Any input

ufrags = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789+/", min_size=1, max_size=256)
passwords = st.text("abcXYZ019+/", min_size=22, max_size=256)
types = st.sampled_from([USERNAME, MESSAGE_INTEGRITY, USE_CANDIDATE, MESSAGE_INTEGRITY_SHA256, SOFTWARE, FINGERPRINT])
unknown = st.tuples(st.sampled_from([PRIORITY, ICE_CONTROLLING, SOFTWARE, 0xC057]), st.binary(max_size=40))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_peer_error(data: bytes) -> None:
    try:
        parse(data)
    except PeerError:
        return
    assert len(data) >= 20


@given(
    attributes=st.lists(
        st.tuples(types, st.integers(0, 40) | st.integers(0, 0xFFFF), st.binary(max_size=24)), max_size=8
    ),
    extra=st.binary(max_size=3),
)
def test_any_attributes_are_a_message_or_a_peer_error(attributes: list[tuple[int, int, bytes]], extra: bytes) -> None:
    body = b"".join(pack(">HH", type, length) + value for type, length, value in attributes) + extra
    data = header(len(body)) + body
    try:
        message = parse(data)
    except PeerError:
        return
    assert message == parse(memoryview(data))
    assert not verify_integrity(data, message, PASSWORD)
    if message.integrity_at is not None:
        assert data[message.integrity_at :][:4] == pack(">HH", MESSAGE_INTEGRITY, 20)


@given(data=st.sampled_from([SAMPLE_REQUEST, SAMPLE_IPV6_RESPONSE]), size=st.integers(0, 108))
def test_a_message_cut_short_or_too_long_is_refused(data: bytes, size: int) -> None:
    for other in (data[: size % len(data)], data + bytes(size + 1)):
        with pytest.raises(PeerError):
            parse(other)


@given(
    transaction_id=st.binary(min_size=12, max_size=12),
    local=ufrags,
    remote=ufrags,
    before=st.lists(unknown, max_size=6),
    after=st.lists(unknown, max_size=6),
    use_candidate=st.booleans(),
    password=passwords,
)
def test_what_a_client_writes_is_read(
    transaction_id: bytes,
    local: str,
    remote: str,
    before: list[tuple[int, bytes]],
    after: list[tuple[int, bytes]],
    use_candidate: bool,
    password: str,
) -> None:
    chosen = [(USE_CANDIDATE, b"")] if use_candidate else []
    attributes = [*before, (USERNAME, f"{local}:{remote}".encode()), *chosen, *after]
    data = stun(BINDING_REQUEST, transaction_id, attributes, password)
    message = parse(data)
    assert message[:4] == (BINDING_REQUEST, transaction_id, f"{local}:{remote}", use_candidate)
    assert split_username(f"{local}:{remote}") == (local, remote)
    assert verify_integrity(data, message, password)
    assert not verify_integrity(data, message, password + "x")


@given(bit=st.integers(0, len(SAMPLE_REQUEST) * 8 - 1))
def test_no_bit_of_what_is_signed_can_be_changed(bit: int) -> None:
    changed = bytearray(SAMPLE_REQUEST)
    changed[bit // 8] ^= 1 << bit % 8
    data = bytes(changed)
    try:
        message = parse(data)
    except PeerError:
        return
    behind = SAMPLE_REQUEST.index(b"\x80\x28\x00\x04")
    assert verify_integrity(data, message, VECTOR_PASSWORD) == (bit // 8 >= behind)


def test_the_address_in_a_response_is_of_no_account() -> None:
    response = stun(
        BINDING_RESPONSE,
        TRANSACTION,
        [(XOR_MAPPED_ADDRESS, xor_address(("192.0.2.1", 1234), TRANSACTION))],
        PASSWORD,
    )
    message = parse(response)
    assert message.is_response
    assert verify_integrity(response, message, PASSWORD)
