"""The chunk stream: what is read, what is refused, where messages end, and how much is held."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded
from srsproxy.rtmp.chunk import MAX_CHUNK_STREAMS, ChunkWriter
from srsproxy.rtmp.message import Message, MessageType, set_chunk_size
from tests.chunks import CONTINUATION, UNKNOWN, bytewise, header, payloads, read, reader, start
from tests.strategies import messages, splits

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


def test_a_type_1_header_on_a_fresh_chunk_stream_counts_from_nothing() -> None:
    (message,) = read([header(1, 40, 1, type=8) + b"a"])
    assert (message.type, message.msid, message.timestamp) == (8, 0, 40)


def test_an_empty_message_is_read_with_its_last_header_byte() -> None:
    chunks = reader()
    assert payloads(read([ChunkWriter().write(64, UNKNOWN, 1, b"")], chunks)) == [b""]
    assert payloads(read([b"\xc0\x00"], chunks)) == [b""]


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
    assert read([written]) == [Message(4, UNKNOWN, 1, 0, payload[:size], end=len(written))]


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


def test_messages_tell_where_they_ended() -> None:
    first, second = ChunkWriter().write(4, UNKNOWN, 1, b"a" * 300), ChunkWriter().write(5, UNKNOWN, 1, b"b")
    chunks = reader()
    ends = [message.end for message in read([first + second + b"\x04\x00"], chunks)]
    assert ends == [len(first), len(first + second)]


def test_the_bytes_of_each_message_can_be_taken_and_the_rest_as_well() -> None:
    first, second = ChunkWriter().write(4, UNKNOWN, 1, b"a" * 300), ChunkWriter().write(5, UNKNOWN, 1, b"b")
    rest = start(0, 300) + CONTINUATION + b"x"
    for pieces in ([first + second + rest], bytewise(first + second + rest)):
        chunks = reader()
        assert [chunks.take(message) for message in read(pieces, chunks)] == [first, second]
        assert chunks.recorded == len(rest)
        assert chunks.take_all() == rest


def test_bytes_that_are_not_taken_are_kept_with_those_of_the_next_message() -> None:
    first, second = ChunkWriter().write(4, UNKNOWN, 1, b"a" * 300), ChunkWriter().write(5, UNKNOWN, 1, b"b")
    chunks = reader()
    _, message = read([first, second], chunks)
    assert chunks.take(message) == first + second


def test_a_stream_cannot_be_cut_within_a_message_of_another_chunk_stream() -> None:
    chunks = reader()
    other = ChunkWriter().write(5, UNKNOWN, 1, b"other")
    assert payloads(read([start(0, 300) + other], chunks)) == [b"other"]
    assert not chunks.at_boundary
    assert payloads(read([CONTINUATION + b"x" * 128 + CONTINUATION + b"x" * 44 + b"rest"], chunks)) == [b"x" * 300]
    assert chunks.at_boundary


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
        (message,) = read([data[size:] + b"\x44"], chunks)
        assert message.payload == b"payload" * 30
        assert chunks.take(message) == data
        assert chunks.recorded == 1


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


def test_the_time_to_read_a_message_grows_with_its_length_only() -> None:
    def seconds(size: int) -> float:
        data = ChunkWriter().write(4, UNKNOWN, 1, bytes(size))
        begun = process_time()
        assert len(read([data[at : at + 8] for at in range(0, len(data), 8)])) == 1
        return process_time() - begun

    # Eight times the length takes eight times as long, or sixty-four if bytes are moved at each read.
    assert seconds(0x80000) < 24 * max(seconds(0x10000) for _ in range(3))
