"""The RTMP handshake, both sides of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from ipaddress import AddressValueError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.rtmp.handshake import PACKET_SIZE, RANDOM_SIZE, ClientHandshake, ServerHandshake, real_address_prefix
from tests.recorded import HANDSHAKE_SIZE, RTMP_NAMES, rtmp
from tests.strategies import splits

OURS = bytes(range(256)) * 6
RANDOM = OURS[:RANDOM_SIZE]
NOW = 0x1_0203_0405  # of which 32 bits are sent
PACKET = b"\x02\x03\x04\x05" + bytes(4) + RANDOM
PEERS = b"their packet, any 1536 bytes".ljust(PACKET_SIZE, b"~")
ECHO = b"no echo of ours, and nobody minds".ljust(PACKET_SIZE, b"!")
CLIENT_SENDS = b"\x03" + PEERS + ECHO
CLIENTS = sorted(name for name in RTMP_NAMES if name.endswith(".c2s"))
SERVERS = sorted(name for name in RTMP_NAMES if name.endswith(".s2c"))


def server(*, accept_real_address: bool = False) -> ServerHandshake:
    return ServerHandshake(now_ms=NOW, random=RANDOM, accept_real_address=accept_real_address)


def client() -> ClientHandshake:
    return ClientHandshake(now_ms=NOW, random=RANDOM)


def feed(handshake: ServerHandshake | ClientHandshake, *pieces: bytes) -> tuple[bytes, bytes]:
    """Returns what the handshake sent, and what it left for the chunk stream; pieces after its end go there at once."""
    sent = rest = b""
    for piece in pieces:
        if handshake.done:
            rest += piece
        else:
            assert handshake.unconsumed == b""
            sent += handshake.receive_data(piece)
    return sent, handshake.unconsumed + rest


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
def test_the_server_answers_and_leaves_the_rest(cut: Callable[[bytes], list[bytes]]) -> None:
    handshake = server()
    sent, rest = feed(handshake, *cut(CLIENT_SENDS + b"chunks"))
    assert sent == b"\x03" + PACKET + PEERS
    assert handshake.done
    assert rest == b"chunks"
    assert handshake.real_address is None


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
def test_the_client_answers_and_leaves_the_rest(cut: Callable[[bytes], list[bytes]]) -> None:
    handshake = client()
    assert handshake.start() == b"\x03" + PACKET
    sent, rest = feed(handshake, *cut(b"\x03" + PEERS + ECHO + b"chunks"))
    assert sent == PEERS
    assert handshake.done
    assert rest == b"chunks"


def test_the_server_answers_as_soon_as_c1_is_complete_and_not_before() -> None:
    handshake = server()
    assert handshake.receive_data(CLIENT_SENDS[:PACKET_SIZE]) == b""
    assert len(handshake.receive_data(CLIENT_SENDS[PACKET_SIZE : PACKET_SIZE + 1])) == HANDSHAKE_SIZE
    assert not handshake.done
    assert handshake.receive_data(ECHO) == b""
    assert handshake.done


def test_the_client_answers_as_soon_as_s1_is_complete_and_not_before() -> None:
    handshake = client()
    assert handshake.receive_data(b"\x03" + PEERS[:-1]) == b""
    assert handshake.receive_data(PEERS[-1:]) == PEERS
    assert not handshake.done


@pytest.mark.parametrize("make", [server, client])
def test_a_handshake_cut_short_at_any_length_is_not_done(
    make: Callable[[], ServerHandshake | ClientHandshake],
) -> None:
    for size in range(HANDSHAKE_SIZE):
        handshake = make()
        handshake.receive_data(CLIENT_SENDS[:size])
        assert not handshake.done
        assert handshake.unconsumed == b""


@pytest.mark.parametrize("make", [server, client])
def test_the_first_byte_alone_betrays_a_peer_that_speaks_something_else(
    make: Callable[[], ServerHandshake | ClientHandshake],
) -> None:
    for first in set(range(256)) - {0x03}:
        with pytest.raises(PeerError, match=f"begins with {first:#04x}"):
            make().receive_data(bytes([first]))


def test_an_http_request_gets_no_answer() -> None:
    with pytest.raises(PeerError, match="0x47"):
        server().receive_data(b"GET / HTTP/1.1\r\n\r\n".ljust(HANDSHAKE_SIZE))


def test_data_behind_the_end_is_not_taken() -> None:
    handshake = server()
    handshake.receive_data(CLIENT_SENDS)
    with pytest.raises(RuntimeError):
        handshake.receive_data(b"chunks")


def test_the_number_of_random_bytes_is_checked() -> None:
    with pytest.raises(ValueError, match="1528"):
        ServerHandshake(now_ms=0, random=b"few")


@pytest.mark.parametrize("name", CLIENTS)
def test_recorded_clients_are_understood(name: str) -> None:
    recording = rtmp(name)
    sent, rest = feed(server(), recording.data)
    assert sent.endswith(recording.data[1 : 1 + PACKET_SIZE])
    assert rest == recording.chunks


@pytest.mark.parametrize("name", SERVERS)
def test_recorded_servers_are_understood(name: str) -> None:
    recording = rtmp(name)
    sent, rest = feed(client(), recording.data)
    assert sent == recording.data[1 : 1 + PACKET_SIZE]
    assert rest == recording.chunks


def test_our_two_sides_understand_each_other() -> None:
    ours, theirs = client(), ServerHandshake(now_ms=1, random=bytes(RANDOM_SIZE))
    assert theirs.receive_data(ours.receive_data(theirs.receive_data(ours.start()))) == b""
    assert ours.done
    assert theirs.done


class TestRealAddress:
    """The prefix by which a proxy in front tells the client's address."""

    @pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
    @pytest.mark.parametrize("extra", [0, 1, 12, 1020])
    def test_it_is_taken_from_the_first_four_bytes(self, extra: int, cut: Callable[[bytes], list[bytes]]) -> None:
        handshake = server(accept_real_address=True)
        prefix = b"\xf3" + (4 + extra).to_bytes(2, "big") + b"\xc0\xa8\x01\xc8" + b"\xf3" * extra
        sent, rest = feed(handshake, *cut(prefix + CLIENT_SENDS + b"chunks"))
        assert handshake.real_address == "192.168.1.200"
        assert sent == b"\x03" + PACKET + PEERS
        assert rest == b"chunks"

    def test_it_may_be_missing(self) -> None:
        handshake = server(accept_real_address=True)
        assert feed(handshake, CLIENT_SENDS + b"chunks") == (b"\x03" + PACKET + PEERS, b"chunks")
        assert handshake.real_address is None

    @pytest.mark.parametrize("size", [0, 3, 1025, 0xFFFF])
    def test_its_length_is_limited(self, size: int) -> None:
        handshake = server(accept_real_address=True)
        with pytest.raises(PeerError, match=f"prefix of {size} bytes"):
            handshake.receive_data(b"\xf3" + size.to_bytes(2, "big"))

    def test_two_in_a_row_are_refused(self) -> None:
        handshake = server(accept_real_address=True)
        handshake.receive_data(real_address_prefix("192.0.2.1"))
        with pytest.raises(PeerError, match="0xf3"):
            handshake.receive_data(b"\xf3")

    def test_it_is_refused_from_those_who_may_not_send_it(self) -> None:
        with pytest.raises(PeerError, match="0xf3"):
            ServerHandshake(now_ms=NOW, random=RANDOM).receive_data(real_address_prefix("192.0.2.1"))

    def test_other_protocols_are_refused_where_it_is_accepted(self) -> None:
        with pytest.raises(PeerError, match="0x16"):
            server(accept_real_address=True).receive_data(b"\x16\x03\x01")

    def test_it_is_written_with_exactly_four_bytes(self) -> None:
        # SRS refuses lengths whose low byte has its top bit set.
        assert real_address_prefix("192.168.1.200") == b"\xf3\x00\x04\xc0\xa8\x01\xc8"

    @pytest.mark.parametrize("address", ["::1", "::ffff:192.0.2.1", "localhost", ""])
    def test_only_ipv4_can_be_told(self, address: str) -> None:
        with pytest.raises(AddressValueError):
            real_address_prefix(address)


@given(st.data(), st.booleans())
def test_splits_make_no_difference(data: st.DataObject, prefixed: bool) -> None:
    whole = (real_address_prefix("192.0.2.1") if prefixed else b"") + CLIENT_SENDS + b"chunks"
    handshake = server(accept_real_address=True)
    assert feed(handshake, *data.draw(splits(whole))) == (b"\x03" + PACKET + PEERS, b"chunks")
    assert handshake.real_address == ("192.0.2.1" if prefixed else None)


@given(st.data(), st.binary(max_size=8), st.booleans())
def test_anything_gives_an_answer_or_a_peer_error(data: st.DataObject, start: bytes, accept: bool) -> None:
    handshake = server(accept_real_address=accept)
    received = start + bytes(data.draw(st.integers(0, 2 * HANDSHAKE_SIZE)))
    sent = 0
    for piece in itertools.takewhile(lambda _: not handshake.done, data.draw(splits(received))):
        try:
            sent += len(handshake.receive_data(piece))
        except PeerError:
            break
    assert sent in (0, HANDSHAKE_SIZE)
