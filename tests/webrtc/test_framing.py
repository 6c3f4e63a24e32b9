"""Frames of RFC 4571."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import PeerError
from srsproxy.webrtc.framing import MAX_FRAME, FrameGuard, first_frame
from tests.webrtc.peers import BINDING_REQUEST, USERNAME, FrameReader, frame, stun

REQUEST = stun(BINDING_REQUEST, bytes(12), [(USERNAME, b"a:b")], "pwd")

MALFORMED = [
    bytes.fromhex("000100022112a442") + bytes(14),
    bytes.fromhex("000100052112a442") + bytes(12) + bytes.fromhex("0006000161"),
    b"\x00",
    b"\x03" + bytes(MAX_FRAME - 1),
]

packets = st.one_of(
    st.binary(min_size=1, max_size=MAX_FRAME).filter(lambda packet: packet[0] > 3), st.just(REQUEST), st.just(b"")
)


def passes(stream: bytes, cuts: list[int]) -> tuple[bytes, PeerError | None]:
    """What a guard lets pass of a stream that comes in pieces, and why it lets no more pass."""
    guard = FrameGuard()
    passed = b""
    for piece in pieces(stream, cuts):
        try:
            size = guard.inspect(memoryview(piece))
        except PeerError as error:
            return passed, error
        passed += piece[:size]
    return passed, None


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream, cut there."""
    ends = sorted({cut % (len(stream) + 1) for cut in cuts} | {len(stream)})
    return [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@given(packet=st.binary(max_size=MAX_FRAME), behind=st.binary(max_size=5))
def test_the_first_frame_is_there_when_all_of_it_is(packet: bytes, behind: bytes) -> None:
    stream = frame(packet)
    for size in {0, 1, 2, len(stream) - 1} - {len(stream)}:
        assert first_frame(stream[:size]) is None
    assert first_frame(stream + behind) == packet


def test_a_first_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(PeerError, match="1501 bytes"):
        first_frame((MAX_FRAME + 1).to_bytes(2, "big"))


@given(stream=st.lists(packets, max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_packets_pass_however_they_come(stream: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(map(frame, stream))
    assert passes(whole, cuts) == (whole, None)
    assert FrameReader().read(whole) == stream


@given(
    malformed=st.sampled_from(MALFORMED),
    before=st.lists(packets, max_size=3),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_stun_that_is_none_never_passes_as_a_whole(malformed: bytes, before: list[bytes], cuts: list[int]) -> None:
    passed, error = passes(b"".join(map(frame, [*before, malformed])), cuts)

    assert error is not None
    assert FrameReader().read(passed) == before[: len(FrameReader().read(passed))]


@given(before=st.lists(packets, max_size=3), cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_frame_that_is_too_long_does_not_pass(before: list[bytes], cuts: list[int]) -> None:
    begin = b"".join(map(frame, before))

    _, error = passes(begin + (MAX_FRAME + 1).to_bytes(2, "big"), cuts)

    assert str(error) == f"a frame has {MAX_FRAME + 1} bytes, more than {MAX_FRAME}"


def test_a_part_that_was_not_seen_cannot_be_skipped() -> None:
    guard = FrameGuard()
    assert (guard.complete, guard.opaque) == (False, 0)
    guard.skip(0)
    with pytest.raises(ValueError, match="skipped"):
        guard.skip(1)
