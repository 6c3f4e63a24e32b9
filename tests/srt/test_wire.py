"""What the peers of SRT tests read and write, against recorded traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor

from tests.recorded import datagrams
from tests.srt import wire
from tests.srt.peers import HOST, Connection, ScriptedCaller
from tests.srt.wire import Handshake

RECORDINGS = ["srt_publish_plain", "srt_publish_encrypted"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_handshakes_are_read_and_written(name: str) -> None:
    induction, cookie, conclusion, answer = (Handshake.parse(one.data) for one in datagrams(name)[:4])

    assert (induction.type, induction.version, induction.extension) == (wire.INDUCTION, 4, 2)
    assert (cookie.type, cookie.version, cookie.extension) == (wire.INDUCTION, 5, wire.MAGIC)
    assert conclusion.type == answer.type == wire.CONCLUSION
    assert conclusion.cookie == answer.cookie == cookie.cookie
    assert conclusion.stream_id.endswith("m=publish")
    assert induction.peer_ip == wire.encode_peer_ip(HOST)
    assert [bytes(one) for one in (induction, cookie, conclusion, answer)] == [one.data for one in datagrams(name)[:4]]


def test_a_scripted_caller_writes_handshakes_as_a_recorded_one_does() -> None:
    recorded = [Handshake.parse(one.data) for one in datagrams("srt_publish_plain")[:3]]
    number, socket_id = recorded[0].initial_sequence_number, recorded[0].socket_id
    caller = ScriptedCaller(reactor, (HOST, 1), recorded[2].stream_id, number=number, socket_id=socket_id)
    caller.handshakes.append(recorded[1])

    assert caller.induction(timestamp=recorded[0].timestamp) == recorded[0]
    assert caller.conclusion(timestamp=recorded[2].timestamp) == recorded[2]


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_scripted_origin_writes_answers_as_a_recorded_one_does(name: str) -> None:
    *_, conclusion, answer = (Handshake.parse(one.data) for one in datagrams(name)[:4])

    written = Connection(reactor, lambda packet: None, (HOST, 1), conclusion, answer.socket_id).answer

    assert replace(written, timestamp=answer.timestamp, encryption=answer.encryption) == answer


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_packets_are_written(name: str) -> None:
    for packet in [one.data for one in datagrams(name)[4:]]:
        peer, timestamp = wire.destination(packet), wire.word(packet, 8)
        type = wire.control_type(packet)
        if type is None:
            written = wire.data_packet(
                wire.word(packet, 0), wire.word(packet, 4), peer, packet[16:], timestamp=timestamp
            )
            encrypted = packet[4] & 0x18
            assert written[:4] + bytes([written[4] | encrypted]) + written[5:] == packet
        else:
            assert packet == wire.control(
                type, peer, info=wire.word(packet, 4), timestamp=timestamp, body=packet[wire.HEADER_SIZE :]
            )


@given(st.integers(0, wire.SEQUENCES - 1), st.integers(0, 1000))
def test_sequence_numbers_begin_again_at_0(number: int, count: int) -> None:
    assert wire.distance(number, wire.after(number, count)) == count
    assert wire.distance(wire.after(number, count), number) == -count


@given(st.integers(0, wire.SEQUENCES - 1), st.integers(0, 100))
def test_lost_packets_are_named_and_found(first: int, count: int) -> None:
    body = wire.loss_list(first, wire.after(first, count))

    assert wire.read_loss_list(body) == [wire.after(first, index) for index in range(count + 1)]
