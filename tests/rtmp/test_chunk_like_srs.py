"""The chunk stream: what SRS was seen to read, what was recorded of it and its clients, and any other input."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.rtmp.chunk import MIN_CHUNK_SIZE, ChunkWriter
from srsproxy.rtmp.message import Message, MessageType, set_chunk_size
from tests.chunks import CONTINUATION, MAX, bytewise, header, payloads, read, reader, start
from tests.recorded import RTMP_NAMES, rtmp
from tests.strategies import chunk_streams, splits

# --- what SRS reads -------------------------------------------------------------------------------


class Then(Enum):
    """What becomes of a message behind the chunks in question."""

    READ = "read"
    REFUSED = "refused"
    SWALLOWED = "swallowed"
    """Its first bytes were taken for something else."""


X = 0xFFFFFF
T1, T2, T0 = b"\x01\x00\x00\x00", b"\x02\x00\x00\x00", bytes(4)
NEXT = ChunkWriter().write(3, MessageType.COMMAND_AMF0, 0, b"\x02\x00\x0ccreateStream\x00\x40\x22" + bytes(6) + b"\x05")


# Each was sent to SRS 7.0.18, with a createStream behind it: it answered, closed the connection, or waited for more.
SEEN = {
    "type 1 begins a chunk stream": (header(1, length=3) + b"abc", Then.READ),
    "type 1 begins chunk stream 2 (G8)": (header(1, length=3, csid=2) + b"abc", Then.READ),
    "type 2 begins a chunk stream": (header(2), Then.REFUSED),
    "type 3 begins a chunk stream": (header(3), Then.REFUSED),
    "type 3 continues": (start() + CONTINUATION + b"x" * 72, Then.READ),
    "type 2 continues": (start() + header(2, 5) + b"x" * 72, Then.READ),
    "type 1 continues": (start() + header(1, 0, 200) + b"x" * 72, Then.READ),
    "type 1 continues with another type": (start() + header(1, 0, 200, type=98) + b"x" * 72, Then.READ),
    "type 1 continues with another length": (start() + header(1, 0, 250) + b"x" * 122, Then.REFUSED),
    "type 0 within a message": (start() + header(0, 0, 200) + b"x" * 72, Then.REFUSED),
    "type 0 after Abort": (
        start() + header(0, 0, 4, csid=2, type=MessageType.ABORT, msid=0) + b"\0\0\0\4" + header(0, 0, 1) + b"x",
        Then.REFUSED,
    ),
    "type 3 after Abort": (
        start() + header(0, 0, 4, csid=2, type=MessageType.ABORT, msid=0) + b"\0\0\0\4" + CONTINUATION + b"x" * 72,
        Then.READ,
    ),
    "empty messages": (header(0) + header(3) + header(3) + header(1), Then.READ),
    "extended, repeated": (start(X, extended=T1) + CONTINUATION + T1 + b"x" * 72, Then.READ),
    "extended, left out": (start(X, extended=T1) + CONTINUATION + b"x" * 72, Then.READ),
    "extended, left out once": (
        start(X, 300, T1) + CONTINUATION + b"x" * 128 + CONTINUATION + T1 + b"x" * 44,
        Then.READ,
    ),
    "extended, another is payload": (start(X, extended=T1) + CONTINUATION + T0 + b"x" * 68, Then.READ),
    "extended, another is no timestamp": (start(X, extended=T1) + CONTINUATION + T0 + b"x" * 72, Then.SWALLOWED),
    "extended, compared without its top bit": (
        start(X, extended=b"\x81\0\0\0") + CONTINUATION + T1 + b"x" * 72,
        Then.READ,
    ),
    "extended 0, repeated": (start(X, extended=T0) + CONTINUATION + T0 + b"x" * 72, Then.READ),
    "extended 0, left out": (start(X, extended=T0) + CONTINUATION + b"x" * 72, Then.SWALLOWED),
    "extended 0, another follows and is repeated": (
        start(X, 300, T0) + CONTINUATION + T1 + b"x" * 128 + CONTINUATION + T1 + b"x" * 44,
        Then.READ,
    ),
    "extended 0, another follows, then a third": (
        start(X, 300, T0) + CONTINUATION + T1 + b"x" * 128 + CONTINUATION + T2 + b"x" * 40,
        Then.READ,
    ),
    "extended in a new type 3 message": (header(0, X, 3) + T1 + b"abc" + CONTINUATION + T2 + b"abc", Then.READ),
    "extended left out of a new type 3 message": (
        header(0, X, 3) + T1 + b"abc" + CONTINUATION + b"abc",
        Then.SWALLOWED,
    ),
    "no longer extended after type 2": (
        header(0, X, 3) + T1 + b"abc" + header(2, 5) + b"abc" + CONTINUATION + b"abc",
        Then.READ,
    ),
    "extended in type 1 is absolute": (
        header(0, 1000, 1) + b"x" + header(1, X, 200) + T1 + b"x" * 128 + CONTINUATION + T1 + b"x" * 72,
        Then.READ,
    ),
    "extended in type 1 is no delta": (
        header(0, 1000, 1) + b"x" + header(1, X, 200) + T1 + b"x" * 128 + CONTINUATION + b"\1\0\3\xe8" + b"x" * 72,
        Then.SWALLOWED,
    ),
    "extended in type 2 within a message": (start(1000) + header(2, X) + b"\0\0\3\xe8" + b"x" * 72, Then.READ),
    "extended in type 2 within a message, another": (start(1000) + header(2, X) + T1 + b"x" * 68, Then.READ),
    "a delta within a message counts": (
        start(1000, 300) + header(2, 5) + b"x" * 128 + header(2, X) + b"\0\0\3\xed" + b"x" * 44,
        Then.READ,
    ),
    "SetChunkSize below 128": (ChunkWriter().write(2, 1, 0, set_chunk_size(127)), Then.REFUSED),
    "SetChunkSize 128": (ChunkWriter().write(2, 1, 0, set_chunk_size(128)), Then.READ),
    "SetChunkSize with the top bit": (ChunkWriter().write(2, 1, 0, b"\x80\0\x10\0"), Then.REFUSED),
    "SetChunkSize of three bytes": (ChunkWriter().write(2, 1, 0, b"\0\x10\0"), Then.REFUSED),
    "SetChunkSize of five bytes": (ChunkWriter().write(2, 1, 0, b"\0\0\x10\0!"), Then.READ),
    "SetChunkSize of no bytes": (ChunkWriter().write(2, 1, 0, b""), Then.READ),
    "SetChunkSize on any chunk and message stream": (
        ChunkWriter().write(7, 1, 1, set_chunk_size(255)) + header(0, 0, 255) + b"x" * 255,
        Then.READ,
    ),
}


@pytest.mark.parametrize(("data", "then"), SEEN.values(), ids=SEEN.keys())
def test_chunks_are_read_as_srs_reads_them(data: bytes, then: Then) -> None:
    for pieces in ([data + NEXT], bytewise(data + NEXT)):
        client = reader(min_chunk_size=MIN_CHUNK_SIZE)
        if then is Then.REFUSED:
            with pytest.raises(PeerError):
                read(pieces, client)
        else:
            found = read(pieces, client)
            assert (NEXT[12:] in payloads(found)) == (then is Then.READ)


def test_a_missing_extended_timestamp_is_noticed_without_waiting_for_four_bytes() -> None:
    """SRS waits; a peer whose command ended like this would wait for the answer."""
    data = start(X, 130, T1) + CONTINUATION + b"ab"
    assert payloads(read([data])) == [b"x" * 128 + b"ab"]


def test_a_later_header_changes_the_type_of_an_unfinished_message() -> None:
    data = start() + header(1, 0, 200, type=MessageType.COMMAND_AMF0) + b"x" * 72
    assert [m.type for m in read([data])] == [MessageType.COMMAND_AMF0]


# --- any input ------------------------------------------------------------------------------------


def outcome(pieces: Iterable[bytes], limit: int = 300) -> tuple[list[Message], str]:
    """The messages, and the error that ended it. Checks on the way that no more is held than the limits allow."""
    chunks = reader(max_message_size=limit)
    found: list[Message] = []
    for piece in pieces:
        chunks.receive_data(piece)
        try:
            while (message := chunks.next_message()) is not None:
                found.append(message)
                chunks.take(message)
        except PeerError as error:
            return found, str(error)
        # Two unfinished messages in chunks of one byte with headers of 7 at most, and a chunk that is not complete.
        assert chunks.recorded <= 2 * limit * 8 + limit + 18
    return found, ""


@given(st.data(), st.binary(max_size=100) | chunk_streams())
def test_any_input_in_any_split_gives_the_same_messages_or_the_same_peer_error(
    data: st.DataObject, stream: bytes
) -> None:
    whole = outcome([stream])
    assert outcome(bytewise(stream)) == whole
    assert outcome(data.draw(splits(stream))) == whole


@given(st.data(), st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_a_damaged_recording_gives_messages_or_a_peer_error(data: st.DataObject, at: int, damage: bytes) -> None:
    stream = rtmp(data.draw(st.sampled_from(RTMP_NAMES))).chunks[:4000]
    outcome([stream[:at] + damage + stream[at + len(damage) :]], limit=MAX)


# --- recorded sessions ----------------------------------------------------------------------------

DIALOGUE = 4096
"""In every recording a stream has been agreed on and media has begun, if it does, well before this byte."""

SERVERS = [name for name in RTMP_NAMES if name.endswith(".s2c")]


def check(recorded: bytes, pieces: list[bytes], expected: list[Message]) -> None:
    """The pieces give the messages, ``end`` included, and leave the bytes that belong to none."""
    chunks = reader()
    assert read(pieces, chunks) == expected
    assert b"".join(chunks.take(message) for message in expected) + chunks.take_all() == recorded


@pytest.mark.parametrize("name", RTMP_NAMES)
def test_a_recording_gives_the_same_messages_byte_by_byte(name: str) -> None:
    recorded = rtmp(name).chunks
    expected = read([recorded])
    assert len(expected) >= 6
    check(recorded, bytewise(recorded), expected)


@pytest.mark.parametrize("name", RTMP_NAMES)
def test_a_recorded_dialogue_gives_the_same_messages_in_every_split_in_two(name: str) -> None:
    recorded = rtmp(name).chunks[:DIALOGUE]
    expected = read([recorded])
    for at in range(len(recorded) + 1):
        check(recorded, [recorded[:at], recorded[at:]], expected)


@pytest.mark.parametrize("name", RTMP_NAMES)
def test_a_recording_gives_the_same_messages_with_every_header_split(name: str) -> None:
    """Behind the dialogue, all headers are split at the same place at once, which takes one pass for each place and not
    one for each message: a reader that has returned a message has nothing left of the split before it. A split within a
    payload is like any other such split."""
    recorded = rtmp(name).chunks
    expected = read([recorded])
    for place in range(-1, 16):
        cuts = [message.end + place for message in expected]
        pieces = [recorded[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(recorded)])]
        check(recorded, pieces, expected)


@pytest.mark.parametrize("name", SERVERS)
def test_each_message_of_srs_can_be_read_alone(name: str) -> None:
    """SRS writes type 0 headers only. So a client can be given its bytes from any message on (wire-facts 2.6)."""
    recorded = rtmp(name).chunks
    begin, chunk_size = 0, 128
    for message in read([recorded]):
        part = reader(chunk_size=chunk_size)
        (alone,) = read([recorded[begin : message.end]], part)
        assert alone == replace(message, end=message.end - begin)
        begin, chunk_size = message.end, part.chunk_size
