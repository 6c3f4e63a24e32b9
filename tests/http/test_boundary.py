"""Where bodies end, and what is payload in them, however they are split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.http.boundary import (
    LAST_CHUNK,
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    ChunkDecoder,
    ChunkedBoundary,
    LengthBoundary,
)
from srsproxy.interfaces import IBoundary
from tests.recorded import CAPTURES
from tests.strategies import splits

FramingT = TypeVar("FramingT")


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def through(boundary: IBoundary, pieces: Iterable[bytes], skips: bool = True) -> int:
    """Show a boundary a stream as the relay does; returns how many of its bytes belong to the message.

    :param skips: opaque bytes are not shown.
    """
    seen = 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest and not boundary.complete:
            if skips and boundary.opaque:
                count = min(boundary.opaque, len(rest))
                boundary.skip(count)
            else:
                count = boundary.inspect(rest)
                assert count == len(rest) or boundary.complete
            seen += count
            rest = rest[count:]
    return seen


def shown(boundary: IBoundary, pieces: Iterable[bytes]) -> int:
    """As :func:`through`, and nothing is opaque."""
    return through(boundary, pieces, skips=False)


def decoded(decoder: ChunkDecoder, pieces: Iterable[bytes]) -> bytes:
    """All payload of a stream that is cut off where the body ends."""
    return b"".join(part for piece in pieces if not decoder.complete for part in decoder.receive_data(piece))


def told(
    follow: Callable[[FramingT, Iterable[bytes]], int | bytes], framing: FramingT, pieces: Iterable[bytes]
) -> int | bytes | str:
    """What ``follow`` returns, or the text of the error of the peer's that it raises."""
    try:
        return follow(framing, pieces)
    except PeerError as error:
        return str(error)


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# Of known length


def test_a_length_is_a_boundary() -> None:
    assert verifyObject(IBoundary, LengthBoundary(1))
    assert verifyObject(IBoundary, ChunkedBoundary())


def test_no_length_is_complete_at_once() -> None:
    assert LengthBoundary(0).complete
    assert not LengthBoundary(1).complete


def test_a_length_is_opaque_to_its_end() -> None:
    boundary = LengthBoundary(10)
    boundary.skip(4)
    assert boundary.opaque == 6
    assert boundary.inspect(memoryview(b"1234")) == 4
    assert not boundary.complete
    assert boundary.inspect(memoryview(b"12and more")) == 2
    assert boundary.complete
    assert boundary.opaque == 0


# Chunks

EXTENSIONS = (b"", b";x", b" ; x=y", b';a="b c";d=\xff')
TRAILERS = (b"", b"X: y\r\n", b"a:\r\nb-c: d\te\xff\r\n")

bodies = st.builds(
    lambda parts, zeros, extension, trailers: (
        b"".join(itertools.starmap(chunk, parts)) + zeros + extension + b"\r\n" + trailers + b"\r\n",
        b"".join(data for data, _ in parts),
    ),
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(EXTENSIONS)), max_size=5),
    st.sampled_from([b"0", b"000"]),
    st.sampled_from(EXTENSIONS),
    st.sampled_from(TRAILERS),
)
"""Chunked bodies with their payload."""

chunkish = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b"0", b"3", b"a", b";", b" ", b"abc", b":", b"1\r\nx\r\n", b"0\r\n"]),
    max_size=12,
).map(b"".join)
"""What looks like chunks and mostly is none."""

behind = st.sampled_from([b"", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
"""What follows the body."""


@given(bodies.flatmap(lambda body: behind.flatmap(lambda rest: st.tuples(st.just(body), splits(body[0] + rest)))))
def test_any_split_has_the_same_end_and_the_same_payload(
    example: tuple[tuple[bytes, bytes], list[bytes]],
) -> None:
    (body, payload), pieces = example
    for skips in (False, True):
        boundary = ChunkedBoundary()
        assert through(boundary, pieces, skips) == len(body)
        assert boundary.complete
        assert not boundary.between_chunks
    decoder = ChunkDecoder()
    assert decoded(decoder, pieces) == payload
    assert decoder.complete


@given(st.one_of(chunkish, st.binary()))
@example(b"0\r\n" + b"a:\r\n" * MAX_TRAILERS)
@example(b"1;" + b"x" * MAX_CHUNK_LINE)
def test_any_bytes_raise_a_peer_error_or_nothing_and_splitting_them_changes_nothing(data: bytes) -> None:
    results = []
    for pieces in ([data], bytewise(data)):
        boundary, decoder = ChunkedBoundary(), ChunkDecoder()
        results.append((told(shown, boundary, pieces), told(decoded, decoder, pieces)))
        assert (boundary.complete, boundary.payload_left) == (decoder.complete, decoder.payload_left)
    assert results[0] == results[1]


@given(bodies.flatmap(lambda body: st.tuples(st.just(body[0]), st.integers(0, len(body[0]) - 1))))
def test_where_it_is_between_chunks_the_last_chunk_ends_it(example: tuple[bytes, int]) -> None:
    body, cut = example
    boundary = ChunkedBoundary()
    through(boundary, [body[:cut]])
    if boundary.between_chunks:
        assert through(boundary, [LAST_CHUNK]) == len(LAST_CHUNK)
        assert boundary.complete


@pytest.mark.parametrize(
    ("seen", "between"),
    [
        (b"", True),
        (b"3", False),
        (b"3\r", False),
        (b"3\r\n", False),
        (b"3\r\nab", False),
        (b"3\r\nabc", False),
        (b"3\r\nabc\r", False),
        (b"3\r\nabc\r\n", True),
        (b"3\r\nabc\r\n0", False),
        (b"3\r\nabc\r\n0\r\n", False),
        (b"3\r\nabc\r\n0\r\nX: y\r\n", False),
        (b"3\r\nabc\r\n0\r\n\r\n", False),
    ],
)
def test_it_is_between_chunks_exactly_behind_the_end_of_one(seen: bytes, between: bool) -> None:
    for pieces in ([seen], bytewise(seen)):
        boundary, decoder = ChunkedBoundary(), ChunkDecoder()
        through(boundary, pieces)
        decoded(decoder, pieces)
        assert boundary.between_chunks is between
        assert decoder.between_chunks is between


def test_the_data_of_a_chunk_and_the_line_end_behind_it_are_opaque() -> None:
    boundary = ChunkedBoundary()
    assert boundary.opaque == 0
    through(boundary, [b"1c000\r\nfirst"])
    assert boundary.opaque == 0x1C000 - 5 + 2
    boundary.skip(0x1C000 - 6)
    assert boundary.opaque == 3
    boundary.skip(2)
    assert (boundary.opaque, boundary.between_chunks) == (1, False)
    boundary.skip(1)
    assert (boundary.opaque, boundary.between_chunks) == (0, True)


def test_what_follows_the_body_is_left_over() -> None:
    decoder = ChunkDecoder()
    assert decoded(decoder, [b"3\r\nabc\r\n0\r\n\r", b"\nGET /"]) == b"abc"
    assert decoder.leftover == b"GET /"


def test_payload_is_not_copied() -> None:
    data = b"5\r\nabcde\r\n"
    (piece,) = ChunkDecoder().receive_data(data)
    assert piece.obj is data


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"0x3\r\nabc\r\n",
        b"-3\r\n",
        b"+3\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"1_0\r\n",
        b";x\r\n",
        b"3\nabc\r\n",
        b"3;x\nabc\r\n",
        b"3;x\ry\r\n",
        b"3;\x00\r\n",
        b"\xb2\r\n",
        b"1000000000000000\r\n",
        b"3\r\nabc\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabc\r\r\n",
        b"0\r\n\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n: y\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\n folded\r\n",
        b"0\r\nX: \x00\r\n",
    ],
)
def test_what_is_no_chunked_body_is_refused(body: bytes) -> None:
    for pieces in ([body], bytewise(body)):
        with pytest.raises(PeerError):
            shown(ChunkedBoundary(), pieces)
        with pytest.raises(PeerError):
            decoded(ChunkDecoder(), pieces)


def test_the_largest_chunk_has_fifteen_digits() -> None:
    boundary = ChunkedBoundary()
    through(boundary, [b"f" * 15 + b"\r\n"])
    assert boundary.opaque == 16**15 - 1 + 2


def test_a_line_may_be_as_long_as_its_limit() -> None:
    line = b"3;" + b"x" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    for pieces in ([line], bytewise(line)):
        boundary = ChunkedBoundary()
        through(boundary, pieces)
        assert boundary.opaque == 3 + 2
    longer = line[:2] + b"x" + line[2:]
    for pieces in ([longer], bytewise(longer), bytewise(longer[:-1])):
        with pytest.raises(LimitExceeded):
            through(ChunkedBoundary(), pieces)


def test_trailers_may_be_as_long_as_their_limit() -> None:
    field = b"x: " + b"y" * 59 + b"\r\n"
    fields = b"0\r\n" + field * (MAX_TRAILERS // len(field) - 1) + field[:3] + field[5:]
    for pieces in ([fields + b"\r\n"], bytewise(fields + b"\r\n")):
        boundary = ChunkedBoundary()
        through(boundary, pieces)
        assert boundary.complete
    longer = fields.replace(b"y", b"yy", 1) + b"\r\n"
    for pieces in ([longer], bytewise(longer)):
        with pytest.raises(LimitExceeded):
            through(ChunkedBoundary(), pieces)


# As SRS sends it


def test_a_recorded_response_of_srs_that_was_cut_off() -> None:
    recorded = (CAPTURES / "http_flv_response.bin").read_bytes()
    body = recorded[recorded.index(b"\r\n\r\n") + 4 :]
    results = set()
    for size in (1, 7, 1448, 4096, len(body)):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        boundary, decoder = ChunkedBoundary(), ChunkDecoder()
        assert through(boundary, pieces) == len(body)
        payload = decoded(decoder, pieces)
        results.add((payload, boundary.opaque, boundary.between_chunks, decoder.payload_left))
    ((payload, opaque, between, of_decoder),) = results
    assert payload.startswith(b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x12")
    # It was cut off within a chunk.
    assert opaque > 0
    assert opaque == of_decoder + 2
    assert not between
