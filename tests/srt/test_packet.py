"""Headers of SRT packets, and the control packets that a proxy makes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.srt.packet import (
    HEADER_SIZE,
    MAX_SEQUENCE,
    ControlType,
    control_packet,
    destination_socket_id,
    is_control,
    is_usable_dropreq,
    sequence_number,
    shutdown,
    timestamp,
)
from tests.recorded import datagrams

RECORDED = ["srt_publish_plain", "srt_publish_encrypted"]
DATA = pack(">IIII", 0x12345678, 0xE0000001, 1_000_000, 0x3A3C7CD2) + b"\x47" * 188


def types(data: bytes) -> list[ControlType]:
    """All that it is said to be."""
    return [type for type in ControlType if is_control(data, type)]


# What is read


def test_the_header_of_a_data_packet() -> None:
    assert types(DATA) == []
    assert sequence_number(DATA) == 0x12345678
    assert timestamp(DATA) == 1_000_000
    assert destination_socket_id(DATA) == 0x3A3C7CD2


@pytest.mark.parametrize("type", ControlType)
def test_the_header_of_a_control_packet(type: ControlType) -> None:
    data = pack(">HHIII", 0x8000 + type, 3, 7, 0xFFFFFFFF, 0x80000001) + b"more"
    assert types(data) == [type]
    assert timestamp(data) == 0xFFFFFFFF
    assert destination_socket_id(data) == 0x80000001


def test_types_that_nobody_knows() -> None:
    assert types(pack(">HHIII", 0x8009, 0, 0, 0, 0)) == []
    assert types(pack(">HHIII", 0x0005, 0, 0, 0, 0)) == []


@pytest.mark.parametrize("size", [4, 16, 28], ids=["light", "small", "full"])
def test_an_ack_tells_the_number_that_it_acknowledges(size: int) -> None:
    cif = pack(">I", 0x744EE0A8).ljust(size, b"\xff")
    assert sequence_number(pack(">HHIII", 0x8002, 0, 1, 2, 3) + cif) == 0x744EE0A8


def test_the_first_and_the_last_sequence_number() -> None:
    for number in (0, MAX_SEQUENCE):
        assert sequence_number(pack(">IIII", number, 0, 0, 0)) == number
        assert sequence_number(pack(">HHIIII", 0x8002, 0, 0, 0, 0, number)) == number


@pytest.mark.parametrize("type", [type for type in ControlType if type != ControlType.ACK])
def test_other_control_packets_have_no_sequence_number(type: ControlType) -> None:
    assert sequence_number(pack(">HHIIII", 0x8000 + type, 0, 1, 2, 3, 4)) is None


def test_what_an_ack_tells_that_is_no_sequence_number() -> None:
    assert sequence_number(pack(">HHIIII", 0x8002, 0, 0, 0, 0, MAX_SEQUENCE + 1)) is None


def test_an_ack_that_is_too_short() -> None:
    ack = pack(">HHIIII", 0x8002, 0, 0, 0, 0, 1)
    for size in range(len(ack)):
        assert sequence_number(ack[:size]) is None


@pytest.mark.parametrize("packet", [DATA, shutdown(1)], ids=["data", "control"])
def test_nothing_is_told_by_what_is_shorter_than_a_header(packet: bytes) -> None:
    for size in range(HEADER_SIZE):
        data = packet[:size]
        assert types(data) == []
        assert (destination_socket_id(data), timestamp(data), sequence_number(data)) == (0, 0, None)


def test_a_view_is_read_as_bytes_are() -> None:
    view = memoryview(bytearray(b"before" + DATA))[6:]
    assert (destination_socket_id(view), timestamp(view), sequence_number(view)) == (
        destination_socket_id(DATA),
        timestamp(DATA),
        sequence_number(DATA),
    )
    assert is_control(memoryview(shutdown(1)), ControlType.SHUTDOWN)


# What is written


def test_a_shutdown_is_what_libsrt_sends() -> None:
    data = shutdown(0x0B0DB70B)
    assert data.hex() == "8005000000000000000000000b0db70b00000000"
    assert types(data) == [ControlType.SHUTDOWN]


def test_a_control_packet_with_all_it_may_have() -> None:
    data = control_packet(ControlType.ACK, 0xFFFFFFFF, timestamp=5, info=6, cif=b"\0\0\0\7")
    assert data == pack(">HHIIII", 0x8002, 0, 6, 5, 0xFFFFFFFF, 7)


@given(
    type=st.sampled_from(ControlType),
    destination=st.integers(0, 0xFFFFFFFF),
    at=st.integers(0, 0xFFFFFFFF),
    info=st.integers(0, 0xFFFFFFFF),
    cif=st.binary(max_size=40),
)
def test_what_is_written_is_read(type: ControlType, destination: int, at: int, info: int, cif: bytes) -> None:
    data = control_packet(type, destination, at, info, cif)
    assert types(data) == [type]
    assert (destination_socket_id(data), timestamp(data)) == (destination, at)
    assert data[4:8] == info.to_bytes(4)
    assert data[HEADER_SIZE:] == cif


@given(st.binary(max_size=40))
def test_any_bytes_can_be_asked(data: bytes) -> None:
    assert len(types(data)) <= 1
    assert 0 <= destination_socket_id(data) <= 0xFFFFFFFF
    assert 0 <= timestamp(data) <= 0xFFFFFFFF
    number = sequence_number(data)
    assert number is None or 0 <= number <= MAX_SEQUENCE


# Recorded traffic


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_packets_are_told_apart(name: str) -> None:
    counts: Counter[str] = Counter()
    for datagram in datagrams(name):
        found = types(datagram.data)
        assert len(found) == (datagram.data[0] >> 7)
        counts[found[0].name if found else "data"] += 1
    assert counts["HANDSHAKE"] == 4
    assert set(counts) == {"HANDSHAKE", "ACK", "ACKACK", "data"}
    assert counts["ACK"] == counts["ACKACK"] > 10


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_packets_are_for_the_socket_that_the_handshake_told(name: str) -> None:
    _, induction, _, conclusion, *rest = datagrams(name)
    callers, listeners = (int.from_bytes(packet.data[40:44]) for packet in (induction, conclusion))
    for datagram in rest:
        assert destination_socket_id(datagram.data) == (listeners if datagram.to_server else callers)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_sequence_numbers_go_on_from_the_first(name: str) -> None:
    first = int.from_bytes(datagrams(name)[0].data[24:28])
    sent, acknowledged = [], []
    for datagram in datagrams(name):
        number = sequence_number(datagram.data)
        if number is not None and datagram.to_server:
            sent.append(number)
        elif number is not None:
            acknowledged.append(number)
            assert first < number <= sent[-1] + 1
    assert sent == list(range(first, first + len(sent)))
    assert acknowledged == sorted(set(acknowledged))
    assert len(sent) > len(acknowledged) > 10


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("to_server", [True, False])
def test_recorded_times_never_go_back(name: str, to_server: bool) -> None:
    # Those of a listener begin anew with the socket that it makes for the caller.
    rest = [datagram.data for datagram in datagrams(name)[3:] if datagram.to_server == to_server]
    assert all(before <= after for before, after in pairwise(timestamp(data) for data in rest))


# What would do harm


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 900), (MAX_SEQUENCE - 3, 7), (0, 0xFFFF)])
def test_a_message_drop_request_of_a_few_packets_is_usable(first: int, last: int) -> None:
    assert is_usable_dropreq(control_packet(ControlType.DROPREQ, 1, info=3, cif=pack(">II", first, last)))


@pytest.mark.parametrize(
    "cif",
    [
        pack(">II", 0, 0x10000),
        pack(">II", 0, MAX_SEQUENCE - 1),
        pack(">II", 9, 8),
        pack(">II", 0, MAX_SEQUENCE + 1),
        pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        pack(">I", 1),
        pack(">III", 1, 2, 3),
        b"",
    ],
)
def test_a_message_drop_request_of_very_many_packets_or_of_another_size_is_not(cif: bytes) -> None:
    assert not is_usable_dropreq(control_packet(ControlType.DROPREQ, 1, cif=cif))
