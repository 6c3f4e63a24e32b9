"""SRT handshakes: what is read of them, and what a proxy answers and asks.

What is expected was seen on SRS 7.0.18 and libsrt 1.5.1.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.srt.handshake import (
    HANDSHAKE_SIZE,
    MAX_EXTENSIONS,
    MAX_FLOW_WINDOW,
    MAX_MTU,
    MAX_SIZE,
    MAX_STREAM_ID_SIZE,
    MIN_MTU,
    SRT_MAGIC,
    Extension,
    ExtensionType,
    Handshake,
    HandshakeType,
    RejectionReason,
    encode_peer_ip,
    induction_answer,
    induction_of,
    rejection,
    stream_id,
)
from srsproxy.srt.packet import ControlType, is_control, shutdown
from tests.recorded import datagrams
from tests.srt.wire import CONFIG_FLAG, HSREQ_FLAG, KMREQ_FLAG, extension, latency_extension, stream_id_extension
from tests.strategies import handshakes

RECORDED = ["srt_publish_plain", "srt_publish_encrypted"]
HSREQ = latency_extension(1, 0xBF, 120)
SID = stream_id_extension("#!::r=live/s,m=publish")

CONCLUSION = Handshake(
    version=5,
    encryption=2,
    extension=HSREQ_FLAG | CONFIG_FLAG,
    initial_sequence_number=0x744EE0A6,
    mtu=1500,
    flow_window=8192,
    type=HandshakeType.CONCLUSION,
    socket_id=0x3A3C7CD2,
    cookie=0x27F6BB09,
    peer_ip=encode_peer_ip("192.0.2.1"),
    extensions=HSREQ + SID,
    timestamp=1423,
)
INDUCTION = replace(CONCLUSION, version=4, encryption=0, extension=2, type=1, cookie=0, extensions=b"", timestamp=235)


def recorded(name: str) -> list[bytes]:
    """The induction of the caller and its answer, the conclusion of the caller and its answer."""
    return [datagram.data for datagram in datagrams(name) if is_control(datagram.data, ControlType.HANDSHAKE)]


def extensions_of(tail: bytes, flags: int = HSREQ_FLAG | CONFIG_FLAG) -> tuple[Extension, ...]:
    return replace(CONCLUSION, extension=flags, extensions=tail).parse_extensions()


# What is read


def test_the_fields_of_a_handshake() -> None:
    data = pack(
        ">HHIIIIHHIIIiII",
        *(0x8000, 1, 2, 3, 4),
        *(5, 6, 7, 0xFFFFFFF8, 9, 10, -11, 0xFFFFFFF2, 0xFFFFFFF3),
    )
    assert Handshake.parse(data + bytes(range(16)) + b"more") == Handshake(
        version=5,
        encryption=6,
        extension=7,
        initial_sequence_number=0xFFFFFFF8,
        mtu=9,
        flow_window=10,
        type=-11,
        socket_id=0xFFFFFFF2,
        cookie=0xFFFFFFF3,
        peer_ip=bytes(range(16)),
        extensions=b"more",
        destination=4,
        timestamp=3,
        subtype=1,
        information=2,
    )


@pytest.mark.parametrize(
    ("type", "is_rejection"), [(1, False), (0, False), (-1, False), (-2, False), (999, False), (1000, True)]
)
def test_which_types_are_rejections(type: int, is_rejection: bool) -> None:
    assert replace(CONCLUSION, type=type).is_rejection == is_rejection


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (1000, RejectionReason.UNKNOWN),
        (1010, RejectionReason.BADSECRET),
        (1017, RejectionReason.CRYPTO),
        (2400, RejectionReason.BAD_REQUEST),
        (2503, RejectionReason.DOWN),
        (3007, 2007),
    ],
)
def test_the_reason_of_a_rejection(type: int, reason: int) -> None:
    assert replace(CONCLUSION, type=type).rejection_reason == reason


def test_a_view_is_read_as_bytes_are_and_may_change_then() -> None:
    buffer = bytearray(b"before" + bytes(CONCLUSION))
    handshake = Handshake.parse(memoryview(buffer)[6:])
    buffer[:] = bytes(len(buffer))
    assert handshake == CONCLUSION


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no handshake"),
        (shutdown(1), "no handshake"),
        (b"\0" + bytes(CONCLUSION)[1:], "no handshake"),
        (bytes(INDUCTION)[:63], "has 63 bytes, less than 64"),
    ],
)
def test_what_is_no_handshake_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        Handshake.parse(data)


def test_a_handshake_is_refused_that_is_longer_than_srs_would_take() -> None:
    longest = bytes(INDUCTION).ljust(MAX_SIZE, b"\0")
    assert bytes(Handshake.parse(longest)) == longest
    with pytest.raises(LimitExceeded, match=f"has {MAX_SIZE + 1} bytes, more than {MAX_SIZE}"):
        Handshake.parse(longest + b"\0")


# Extensions


def test_the_extensions_of_a_conclusion() -> None:
    assert CONCLUSION.parse_extensions() == (
        Extension(ExtensionType.HSREQ, HSREQ[4:]),
        Extension(ExtensionType.SID, SID[4:]),
    )


def test_extensions_that_nobody_knows_are_skipped() -> None:
    tail = HSREQ + extension(99, b"what") + extension(100, b"") + SID
    found = extensions_of(tail)
    assert [each.type for each in found] == [1, 99, 100, 5]
    assert stream_id(found) == "#!::r=live/s,m=publish"


def test_a_handshake_without_extensions() -> None:
    assert extensions_of(b"") == ()
    assert stream_id(()) is None


def test_as_many_extensions_as_are_taken() -> None:
    assert len(extensions_of(extension(99, b"") * MAX_EXTENSIONS)) == MAX_EXTENSIONS
    with pytest.raises(LimitExceeded, match=f"more than {MAX_EXTENSIONS} extensions"):
        extensions_of(extension(99, b"") * (MAX_EXTENSIONS + 1))


@pytest.mark.parametrize("before", [b"", HSREQ + SID], ids=["alone", "last"])
@pytest.mark.parametrize(
    ("tail", "why"),
    [
        pytest.param(b"ab", "ends within the head of an extension", id="g2"),
        (b"\x00\x05\x00", "ends within the head of an extension"),
        (b"\x00\x05\x00\x01", "longer than what is left"),
        (b"\x00\x05\x00\x01abc", "longer than what is left"),
        # Four times these are no more than what is left, in 16 bits.
        pytest.param(b"\x00\x05\x40\x00", "longer than what is left", id="g2, length 65536"),
        pytest.param(b"\x00\x05\x40\x01abcd", "longer than what is left", id="g2, length 65540"),
        (b"\x00\x05\xff\xffabcd", "longer than what is left"),
    ],
)
def test_extensions_that_do_not_fit_are_refused(before: bytes, tail: bytes, why: str) -> None:
    # With one of these, SRS goes by the extensions before it. The Go proxy ends.
    with pytest.raises(PeerError, match=why):
        extensions_of(before + tail)


@pytest.mark.parametrize("flags", [0, HSREQ_FLAG, HSREQ_FLAG | KMREQ_FLAG])
def test_a_stream_id_that_is_not_announced_is_refused_because_srs_would_not_see_it(flags: int) -> None:
    with pytest.raises(PeerError, match="a stream id that it does not announce"):
        extensions_of(HSREQ + SID, flags)


# Stream ids


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"3210", "0123"),
        (b"3210\x00\x0054", "012345"),
        (b"3210\x00654", "0123456"),
        (b"\x00\x00\x000", "0"),
        (bytes(4), ""),
        # It ends at a zero byte.
        (b"\x002107654", "012"),
        (b"32\x000", "0"),
        (b"321\x007654", ""),
        # Not ASCII, and not UTF-8
        (b"\x00\x00\xa9\xc3", "é"),
        (b"\x00\xff\x80a", "a\udc80\udcff"),
    ],
)
def test_the_text_of_a_stream_id(content: bytes, expected: str) -> None:
    assert stream_id((Extension(ExtensionType.SID, content),)) == expected


def test_the_longest_stream_id() -> None:
    longest = "s" * MAX_STREAM_ID_SIZE
    assert stream_id(extensions_of(stream_id_extension(longest))) == longest


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (extension(5, b""), "the stream id has 0 bytes"),
        (stream_id_extension("s" * (MAX_STREAM_ID_SIZE + 1)), "the stream id has 516 bytes"),
        (SID + SID, "two stream ids"),
        (stream_id_extension("live/s") + HSREQ + SID, "two stream ids"),
    ],
)
def test_a_stream_id_is_refused_that_libsrt_refuses_or_that_is_one_of_two(tail: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        stream_id(extensions_of(tail))


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=128))
def test_any_stream_id_that_a_caller_has_is_read(text: str) -> None:
    assert stream_id(extensions_of(HSREQ + stream_id_extension(text))) == text


# Addresses


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("127.0.0.1", "0100007f 00000000 00000000 00000000"),
        ("192.0.2.133", "850200c0 00000000 00000000 00000000"),
        ("::1", "00000000 00000000 00000000 01000000"),
        ("2001:db8:102:304:506:708:90a:b0c", "b80d0120 04030201 08070605 0c0b0a09"),
        ("fe80::1%eth0", "000080fe 00000000 00000000 01000000"),
        ("::ffff:192.0.2.133", "850200c0 00000000 00000000 00000000"),
    ],
)
def test_addresses_are_written_as_libsrt_does(host: str, encoded: str) -> None:
    assert encode_peer_ip(host).hex(" ", 4) == encoded


# Answers and requests of a proxy


def test_the_answer_to_an_induction() -> None:
    answer = induction_answer(INDUCTION, 0xFEDCBA98, encode_peer_ip("192.0.2.9"), 0)
    assert len(answer) == HANDSHAKE_SIZE
    assert Handshake.parse(answer) == replace(
        INDUCTION,
        version=5,
        extension=SRT_MAGIC,
        cookie=0xFEDCBA98,
        peer_ip=encode_peer_ip("192.0.2.9"),
        destination=INDUCTION.socket_id,
        timestamp=0,
    )


def test_the_answer_to_an_induction_is_not_longer_than_it() -> None:
    request = replace(INDUCTION, encryption=9, extensions=bytes(100))
    answer = induction_answer(request, 1, request.peer_ip, 0)
    assert answer == induction_answer(INDUCTION, 1, request.peer_ip, 0)


def test_a_rejection_is_the_request_with_another_type() -> None:
    answer = rejection(CONCLUSION, RejectionReason.BAD_MODE)
    assert len(answer) == HANDSHAKE_SIZE
    assert Handshake.parse(answer) == replace(
        CONCLUSION, type=2405, extensions=b"", destination=CONCLUSION.socket_id, timestamp=0
    )


@pytest.mark.parametrize("reason", RejectionReason)
def test_all_reasons_can_be_told(reason: RejectionReason) -> None:
    answer = Handshake.parse(rejection(CONCLUSION, reason))
    assert answer.is_rejection
    assert answer.rejection_reason == reason


def test_the_induction_of_a_conclusion() -> None:
    assert induction_of(replace(CONCLUSION, timestamp=INDUCTION.timestamp)) == bytes(INDUCTION)


# Recorded traffic


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_handshakes_are_written_as_they_were_read(name: str) -> None:
    packets = recorded(name)
    assert [Handshake.parse(data).type for data in packets] == [1, 1, -1, -1]
    for data in packets:
        assert bytes(Handshake.parse(data)) == data


@pytest.mark.parametrize(
    ("name", "named", "of_request", "of_answer"),
    [
        ("srt_publish_plain", "#!::r=live/srtplain,m=publish", [(1, 12), (5, 32)], [(2, 12)]),
        ("srt_publish_encrypted", "#!::r=live/srtenc,m=publish", [(1, 12), (5, 28), (3, 56)], [(2, 12), (4, 56)]),
    ],
)
def test_recorded_extensions(
    name: str, named: str, of_request: list[tuple[int, int]], of_answer: list[tuple[int, int]]
) -> None:
    *inductions, request, answer = (Handshake.parse(data) for data in recorded(name))
    assert [each.parse_extensions() for each in inductions] == [(), ()]
    found, answered = request.parse_extensions(), answer.parse_extensions()
    assert [(each.type, len(each.content)) for each in found] == of_request
    assert [(each.type, len(each.content)) for each in answered] == of_answer
    assert stream_id(found) == named
    assert stream_id(answered) is None

    contents = {each.type: each.content for each in (*found, *answered)}
    # libsrt 1.5.1, latency 120 ms; SRS has no delay when it receives.
    assert contents[ExtensionType.HSREQ].hex(" ", 4) == "00010501 000000bf 00780000"
    assert contents[ExtensionType.HSRSP].hex(" ", 4) == "00010501 000000b5 00000078"
    # The key comes back as it was sent.
    assert contents.get(ExtensionType.KMREQ) == contents.get(ExtensionType.KMRSP)


@pytest.mark.parametrize("name", RECORDED)
def test_the_answer_to_a_recorded_induction_differs_by_what_the_origin_chooses(name: str) -> None:
    request, answer, *_ = (Handshake.parse(data) for data in recorded(name))
    ours = Handshake.parse(induction_answer(request, answer.cookie, encode_peer_ip("127.0.0.1"), answer.encryption))
    assert replace(ours, encryption=answer.encryption, timestamp=answer.timestamp) == answer


@pytest.mark.parametrize("name", RECORDED)
def test_the_induction_of_a_recorded_conclusion_is_what_was_recorded(name: str) -> None:
    induction, _, conclusion, _ = (Handshake.parse(data) for data in recorded(name))
    assert induction_of(replace(conclusion, timestamp=induction.timestamp)) == bytes(induction)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_conclusion_is_refused_if_it_is_cut_within_an_extension(name: str) -> None:
    whole = recorded(name)[2]
    extensions = Handshake.parse(whole).parse_extensions()
    ends = [HANDSHAKE_SIZE]
    for each in extensions:
        ends.append(ends[-1] + 4 + len(each.content))
    assert ends[-1] == len(whole)
    for size in range(len(whole)):
        if size in ends:
            assert Handshake.parse(whole[:size]).parse_extensions() == extensions[: ends.index(size)]
        else:
            with pytest.raises(PeerError):
                Handshake.parse(whole[:size]).parse_extensions()


# Any input

types = st.sampled_from([*ExtensionType, 0, 99])


@given(handshakes)
def test_any_handshake_is_read_as_it_was_written(handshake: Handshake) -> None:
    assert Handshake.parse(bytes(handshake)) == handshake


@given(handshakes, st.integers(0, 0xFFFFFFFF), st.binary(min_size=16, max_size=16))
def test_whatever_is_asked_the_answers_are_short_and_for_the_caller(
    request: Handshake, cookie: int, peer_ip: bytes
) -> None:
    for data in (induction_answer(request, cookie, peer_ip, 0), rejection(request, RejectionReason.ROGUE)):
        assert len(data) == HANDSHAKE_SIZE
        assert Handshake.parse(data).destination == request.socket_id


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\x80\x00" + bytes(62) + tail))
def test_any_bytes_are_a_handshake_or_a_peer_error(data: bytes) -> None:
    try:
        handshake = Handshake.parse(data)
    except PeerError:
        return
    assert bytes(handshake) == data
    with suppress(PeerError):
        stream_id(handshake.parse_extensions())


@given(
    extensions=st.lists(
        st.tuples(types, st.integers(0, 8) | st.integers(0, 0xFFFF), st.binary(max_size=32)),
        max_size=MAX_EXTENSIONS + 2,
    ),
    extra=st.binary(max_size=5),
)
def test_any_extensions_are_read_whole_or_are_a_peer_error(
    extensions: list[tuple[int, int, bytes]], extra: bytes
) -> None:
    tail = b"".join(pack(">HH", type, words) + content for type, words, content in extensions) + extra
    try:
        found = extensions_of(tail)
    except PeerError:
        return
    assert b"".join(pack(">HH", each.type, len(each.content) // 4) + each.content for each in found) == tail
    with suppress(PeerError):
        stream_id(found)


@given(
    extensions=st.lists(st.tuples(types, st.binary(max_size=40)), max_size=MAX_EXTENSIONS),
)
def test_the_extensions_that_a_peer_writes_are_read(extensions: list[tuple[int, bytes]]) -> None:
    found = extensions_of(b"".join(extension(type, content) for type, content in extensions))
    assert found == tuple(Extension(type, content + bytes(-len(content) % 4)) for type, content in extensions)


def test_the_answer_to_an_induction_tells_the_length_of_keys() -> None:
    assert Handshake.parse(induction_answer(INDUCTION, 1, INDUCTION.peer_ip, 4)).encryption == 4


# What would do harm


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", 0),
        ("mtu", 64),
        ("mtu", MIN_MTU - 1),
        ("mtu", MAX_MTU + 1),
        ("mtu", 2**32 - 1),
        ("flow_window", 0),
        ("flow_window", 1),
        ("flow_window", MAX_FLOW_WINDOW + 1),
        ("flow_window", 2**31),
        ("initial_sequence_number", 2**31 - 1),
        ("initial_sequence_number", 2**31),
    ],
)
def test_parameters_that_libsrt_refuses_or_dies_of_are_found(field: str, value: int) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(PeerError):
        replace(INDUCTION, **changes).check_parameters()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", MIN_MTU),
        ("mtu", 1500),
        ("mtu", MAX_MTU),
        ("flow_window", 2),
        ("flow_window", MAX_FLOW_WINDOW),
        ("initial_sequence_number", 0),
        ("initial_sequence_number", 2**31 - 2),
    ],
)
def test_parameters_in_use_are_taken(field: str, value: int) -> None:
    changes: dict[str, Any] = {field: value}
    replace(INDUCTION, **changes).check_parameters()
