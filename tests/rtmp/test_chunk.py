"""The chunk stream: what is read, what is refused, where messages end, and how much is held."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp.chunk import MAX_CHUNK_STREAMS, MIN_CHUNK_SIZE, ChunkReader, ChunkWriter
from srsproxy.rtmp.message import Message, MessageType, set_chunk_size
from tests.recorded import RTMP_NAMES, rtmp
from tests.strategies import chunk_streams, messages, splits

MAX = 0xFFFFFF
UNKNOWN = 0x63
"""A message type without a meaning."""


def reader(**options: int) -> ChunkReader:
    return ChunkReader(**{"max_message_size": MAX, **options})


def read(pieces: Iterable[bytes], chunks: ChunkReader | None = None) -> list[Message]:
    """All messages of a stream that comes in pieces."""
    chunks = chunks or reader()
    found: list[Message] = []
    for piece in pieces:
        chunks.receive_data(piece)
        found += iter(chunks.next_message, None)
    return found


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def header(fmt: int, stamp: int = 0, length: int = 0, *, csid: int = 4, type: int = UNKNOWN, msid: int = 1) -> bytes:
    """A one-byte basic header and a message header, without an extended timestamp."""
    fields = stamp.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([type]) + msid.to_bytes(4, "little")
    return bytes([fmt << 6 | csid]) + fields[: (11, 7, 3, 0)[fmt]]


def payloads(found: Iterable[Message]) -> list[bytes]:
    return [message.payload for message in found]


# --- what is written and read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("csid", "first", "continuation"),
    [
        (2, b"\x02", b"\xc2"),
        (63, b"\x3f", b"\xff"),
        (64, b"\x00\x00", b"\xc0\x00"),
        (319, b"\x00\xff", b"\xc0\xff"),
        (320, b"\x01\x00\x01", b"\xc1\x00\x01"),
        (65599, b"\x01\xff\xff", b"\xc1\xff\xff"),
    ],
)
def test_basic_headers_have_one_to_three_bytes(csid: int, first: bytes, continuation: bytes) -> None:
    """The Go proxy reads and writes the longer ones wrongly (wire-facts G7)."""
    written = ChunkWriter().write(csid, UNKNOWN, 0x01020304, b"x" * 129, 0x0A0B0C)
    assert written == first + b"\x0a\x0b\x0c\x00\x00\x81\x63\x04\x03\x02\x01" + b"x" * 128 + continuation + b"x"
    assert read([written]) == [Message(csid, UNKNOWN, 0x01020304, 0x0A0B0C, b"x" * 129, end=len(written))]


def test_the_three_byte_form_may_name_a_chunk_stream_that_needs_two() -> None:
    first, second = read([b"\x01\x06\x00" + header(0, length=1)[1:] + b"a" + b"\xc0\x06" + b"b"])
    assert (first.csid, first.payload) == (70, b"a")
    assert (second.csid, second.payload) == (70, b"b")


def test_each_header_type_leaves_out_what_the_chunk_stream_knows() -> None:
    data = (
        header(0, 1000, 1, type=8, msid=7)
        + b"a"
        + header(1, 20, 2, type=9)
        + b"bb"
        + header(2, 30)
        + b"cc"
        + header(3)
        + b"dd"
        + header(0, 5, 1, type=18, msid=9)
        + b"e"
        + header(3)
        + b"f"
    )
    assert [(m.type, m.msid, m.timestamp, m.payload) for m in read([data])] == [
        (8, 7, 1000, b"a"),
        (9, 7, 1020, b"bb"),
        (9, 7, 1050, b"cc"),
        (9, 7, 1080, b"dd"),
        (18, 9, 5, b"e"),
        (18, 9, 10, b"f"),
    ]


def test_timestamps_wrap_at_31_bits() -> None:
    data = ChunkWriter().write(4, UNKNOWN, 1, b"a", 0x7FFFFFFF) + header(2, 2) + b"b"
    assert [m.timestamp for m in read([data])] == [0x7FFFFFFF, 1]


@pytest.mark.parametrize("stamp", [0xFFFFFE, 0xFFFFFF, 0x1000000, 0xFFFFFFFF])
def test_extended_timestamps_are_written_in_every_chunk(stamp: int) -> None:
    written = ChunkWriter().write(4, UNKNOWN, 1, b"x" * 300, stamp)
    field = stamp.to_bytes(4, "big") if stamp >= 0xFFFFFF else b""
    start = header(0, min(stamp, 0xFFFFFF), 300)
    assert written == start + field + b"x" * 128 + b"\xc4" + field + b"x" * 128 + b"\xc4" + field + b"x" * 44
    (message,) = read([written])
    assert (message.timestamp, message.payload) == (stamp & 0x7FFFFFFF, b"x" * 300)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 256, 257])
def test_the_writer_cuts_the_payload_at_its_chunk_size(size: int) -> None:
    payload = bytes(range(256)) + b"!"
    written = ChunkWriter().write(4, UNKNOWN, 1, memoryview(payload)[:size])
    assert len(written) == 12 + size + (max(size, 1) - 1) // 128
    assert payloads(read([written])) == [payload[:size]]


def test_the_writer_uses_a_new_chunk_size_at_once() -> None:
    writer = ChunkWriter(4096)
    assert len(writer.write(4, UNKNOWN, 1, bytes(4096))) == 12 + 4096
    writer.chunk_size = 60000
    assert len(writer.write(4, UNKNOWN, 1, bytes(60001))) == 12 + 60001 + 1


@pytest.mark.parametrize("csid", [-1, 0, 1, 65600])
def test_the_writer_knows_which_chunk_streams_there_are(csid: int) -> None:
    with pytest.raises(ValueError, match=f"chunk stream {csid} is not between 2 and 65599"):
        ChunkWriter().write(csid, UNKNOWN, 0, b"")


@pytest.mark.parametrize(
    ("type", "msid", "size", "stamp"),
    [(256, 0, 0, 0), (1, 2**32, 0, 0), (1, 0, 2**24, 0), (1, 0, 0, 2**32), (1, 0, 0, -1)],
)
def test_the_writer_refuses_numbers_that_do_not_fit(type: int, msid: int, size: int, stamp: int) -> None:
    with pytest.raises(OverflowError):
        ChunkWriter().write(3, type, msid, bytes(size), stamp)


@given(st.data(), st.lists(messages, max_size=6), st.sampled_from([1, 2, 128, 4096]))
def test_messages_survive_being_written_and_read_in_any_split(
    data: st.DataObject, sent: list[Message], chunk_size: int
) -> None:
    writer = ChunkWriter(chunk_size)
    stream = b"".join(writer.write(m.csid, m.type, m.msid, m.payload, m.timestamp) for m in sent)
    found = read(data.draw(splits(stream)), reader(chunk_size=chunk_size))
    assert [(m.csid, m.type, m.msid, m.timestamp, m.payload) for m in found] == [
        (m.csid, m.type, m.msid, m.timestamp, m.payload) for m in sent
    ]


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
CONTINUATION = header(3)


def start(stamp: int = 0, length: int = 200, extended: bytes = b"") -> bytes:
    """The first chunk of a message that goes on."""
    return header(0, stamp, length) + extended + b"x" * 128


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


# --- chunk size -----------------------------------------------------------------------------------


def test_the_chunk_size_changes_behind_its_message_even_within_another() -> None:
    change = ChunkWriter().write(2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(5))
    chunks = reader()
    found = read([start(0, 135) + change + CONTINUATION + b"abcde" + CONTINUATION + b"fg"], chunks)
    assert payloads(found) == [set_chunk_size(5), b"x" * 128 + b"abcdefg"]
    assert chunks.chunk_size == 5


def test_an_origin_may_set_any_chunk_size() -> None:
    for size in (1, 127, 65537, 0x7FFFFFFF):
        chunks = reader()
        read([ChunkWriter().write(2, MessageType.SET_CHUNK_SIZE, 0, set_chunk_size(size))], chunks)
        assert chunks.chunk_size == size


def test_reading_can_begin_within_a_connection() -> None:
    first, second = b"x" * 5000, b"y" * 70000
    writer = ChunkWriter(60000)
    stream = writer.write(6, UNKNOWN, 1, first) + writer.write(6, UNKNOWN, 1, second)
    before = reader(chunk_size=60000)
    before.receive_data(stream)
    message = before.next_message()
    assert message is not None
    after = reader(chunk_size=before.chunk_size)
    assert payloads(read([stream[message.end :]], after)) == [second]


# --- where messages end ---------------------------------------------------------------------------


def test_positions_tell_where_each_message_ended() -> None:
    first, second = ChunkWriter().write(4, UNKNOWN, 1, b"a" * 300), ChunkWriter().write(5, UNKNOWN, 1, b"b")
    chunks = reader()
    chunks.receive_data(first + second + b"\x04\x00")
    assert (chunks.consumed, chunks.pending) == (0, len(first + second) + 2)
    message = chunks.next_message()
    assert message is not None
    assert (message.end, chunks.consumed, chunks.pending) == (len(first), len(first), len(second) + 2)
    message = chunks.next_message()
    assert message is not None
    assert (message.end, chunks.consumed, chunks.pending) == (len(first + second), len(first + second), 2)
    assert chunks.next_message() is None
    assert chunks.take_rest() == b"\x04\x00"


def test_a_partial_message_counts_as_pending_and_its_whole_chunks_as_consumed() -> None:
    chunks = reader()
    assert read(bytewise(start(0, 300) + CONTINUATION + b"x" * 50), chunks) == []
    assert chunks.consumed == 12 + 128
    assert chunks.pending == 12 + 128 + 1 + 50


def test_the_rest_holds_the_message_that_has_begun_behind_the_cut() -> None:
    whole = ChunkWriter().write(4, UNKNOWN, 1, b"a")
    chunks = reader()
    read([whole, start(0, 300), CONTINUATION + b"x"], chunks)
    assert chunks.at_boundary
    assert chunks.take_rest() == start(0, 300) + CONTINUATION + b"x"


def test_the_rest_before_any_message_is_everything() -> None:
    chunks = reader()
    read([start(0, 300)], chunks)
    assert chunks.at_boundary
    assert chunks.take_rest() == start(0, 300)


def test_a_stream_cannot_be_cut_within_a_message_of_another_chunk_stream() -> None:
    chunks = reader()
    other = ChunkWriter().write(5, UNKNOWN, 1, b"other")
    assert payloads(read([start(0, 300) + other], chunks)) == [b"other"]
    assert not chunks.at_boundary
    with pytest.raises(RuntimeError, match="at_boundary"):
        chunks.take_rest()
    assert payloads(read([CONTINUATION + b"x" * 128 + CONTINUATION + b"x" * 44 + b"rest"], chunks)) == [b"x" * 300]
    assert chunks.at_boundary
    assert chunks.take_rest() == b"rest"


def test_chunk_streams_may_be_interleaved() -> None:
    a, b = header(0, 1, 256, csid=4), header(0, 2, 256, csid=63)
    data = a + b"a" * 128 + b + b"b" * 128 + b"\xc4" + b"A" * 128 + b"\xff" + b"B" * 128
    for pieces in ([data], bytewise(data)):
        assert [(m.csid, m.timestamp, m.payload) for m in read(pieces)] == [
            (4, 1, b"a" * 128 + b"A" * 128),
            (63, 2, b"b" * 128 + b"B" * 128),
        ]


@pytest.mark.parametrize("csid", [4, 64, 320])
@pytest.mark.parametrize("stamp", [0, 0x1000000])
def test_a_message_cut_short_at_any_length_is_waited_for(csid: int, stamp: int) -> None:
    data = ChunkWriter().write(csid, UNKNOWN, 1, b"payload" * 30, stamp)
    for size in range(len(data)):
        chunks = reader()
        assert read([data[:size]], chunks) == []
        assert chunks.take_rest() == data[:size]
        assert payloads(read([data[size:] + b"\x44"], chunks)) == [b"payload" * 30]
        assert chunks.pending == 1


# --- limits ---------------------------------------------------------------------------------------


def test_the_size_of_a_message_is_limited_before_it_arrives() -> None:
    data = ChunkWriter().write(4, UNKNOWN, 1, bytes(1000))
    assert len(read([data], reader(max_message_size=1000))) == 1
    with pytest.raises(LimitExceeded, match=r"message of 1000 bytes \(limit 999\)"):
        read([data[:12]], reader(max_message_size=999))


def test_the_number_of_chunk_streams_is_limited() -> None:
    chunks = reader()
    writer = ChunkWriter()
    for csid in range(2, 2 + MAX_CHUNK_STREAMS):
        read([writer.write(csid, UNKNOWN, 1, b"x")] * 3, chunks)
    with pytest.raises(LimitExceeded, match="64 chunk streams"):
        read([writer.write(1000, UNKNOWN, 1, b"x")], chunks)


def test_unfinished_messages_are_limited_together() -> None:
    """A client may interleave two messages of full size, not one on each chunk stream."""
    chunks = reader(max_message_size=1280)
    for csid in (4, 5):
        first = header(0, 0, 1280, csid=csid) + b"x" * 128
        read([first] + [bytes([0xC0 | csid]) + b"x" * 128] * 8, chunks)
    read([header(0, 0, 1280, csid=6) + b"x" * 128, header(0, 0, 1280, csid=7) + b"x" * 128], chunks)
    with pytest.raises(LimitExceeded, match="unfinished messages of 2688 bytes"):
        read([header(0, 0, 1280, csid=8) + b"x" * 128], chunks)


def test_finished_messages_do_not_count_as_unfinished() -> None:
    chunks = reader(max_message_size=1280)
    data = ChunkWriter().write(4, UNKNOWN, 1, bytes(1280))
    assert len(read([data] * 50, chunks)) == 50
    assert chunks.pending == 0


def test_the_time_to_read_a_message_grows_with_its_length_only() -> None:
    def seconds(size: int) -> float:
        data = ChunkWriter().write(4, UNKNOWN, 1, bytes(size))
        begun = process_time()
        assert len(read([data[at : at + 8] for at in range(0, len(data), 8)])) == 1
        return process_time() - begun

    # Eight times the length takes eight times as long, or sixty-four if bytes are moved at each read.
    assert seconds(0x80000) < 24 * max(seconds(0x10000) for _ in range(3))


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
        except PeerError as error:
            return found, str(error)
        # Two unfinished messages in chunks of one byte with headers of 7 at most, and a chunk that is not complete.
        assert chunks.pending <= 2 * limit * 8 + limit + 18
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
    assert chunks.take_rest() == recorded[expected[-1].end if expected else 0 :]


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
