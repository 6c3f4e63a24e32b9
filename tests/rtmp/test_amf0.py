"""AMF0: what each marker means, and that nothing else than a PeerError comes of bad input."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, Date, EcmaArray, Limits, decode_all, decode_one, encode
from srsproxy.rtmp.chunk import ChunkReader
from srsproxy.rtmp.message import MessageType
from tests.recorded import RTMP_NAMES, rtmp
from tests.strategies import amf_values

# The examples are written down from the specification, byte by byte.
WRITTEN: list[tuple[bytes, AmfValue]] = [
    (b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0),
    (b"\x00\xc0\x9f\x40\x00\x00\x00\x00\x00", -2000.0),
    (b"\x01\x00", False),
    (b"\x01\x01", True),
    (b"\x02\x00\x00", ""),
    (b"\x02\x00\x04live", "live"),
    (b"\x02\x00\x03\xe4\xbd\xa0", "你"),
    (b"\x02\x00\x02\xff\xc3", "\udcff\udcc3"),
    (b"\x02\xff\xff" + b"x" * 0xFFFF, "x" * 0xFFFF),
    (b"\x0c\x00\x01\x00\x00" + b"x" * 0x10000, "x" * 0x10000),
    (b"\x03\x00\x00\x09", {}),
    (
        b"\x03\x00\x03app\x02\x00\x04live\x00\x01v\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x00\x00\x09",
        {"app": "live", "v": 1.0},
    ),
    (b"\x03\x00\x00\x05\x00\x00\x09", {"": None}),
    (b"\x05", None),
    (b"\x06", UNDEFINED),
    (b"\x08\x00\x00\x00\x00\x00\x00\x09", EcmaArray()),
    (b"\x08\x00\x00\x00\x01\x00\x01k\x01\x01\x00\x00\x09", EcmaArray(k=True)),
    (b"\x0a\x00\x00\x00\x00", []),
    (b"\x0a\x00\x00\x00\x02\x05\x0a\x00\x00\x00\x01\x06", [None, [UNDEFINED]]),
    (b"\x0b\x42\x6d\x1a\x94\xa2\x00\x00\x00\xff\xc4", Date(1e12, -60)),
]
ONLY_READ: list[tuple[bytes, AmfValue]] = [
    (b"\x01\x07", True),
    (b"\x0c\x00\x00\x00\x01x", "x"),
    (b"\x08\xff\xff\xff\xff\x00\x01k\x05\x00\x00\x09", EcmaArray(k=None)),
    (b"\x03\x00\x01k\x05\x00\x01k\x06\x00\x00\x09", {"k": UNDEFINED}),
    (b"\x0d", UNDEFINED),
    (b"\x0f\x00\x00\x00\x04<a/>", "<a/>"),
    (b"\x10\x00\x05Point\x00\x01x\x05\x00\x00\x09", {"x": None}),
]
SHORT = [(data, value) for data, value in WRITTEN + ONLY_READ if len(data) < 100]


def same(a: AmfValue, b: AmfValue) -> bool:
    """Equal, and of the same types throughout: to Python, True is 1.0 and an EcmaArray is a dict."""
    return a == b and repr(a) == repr(b) and _types(a) == _types(b)


def _types(value: AmfValue) -> object:
    if isinstance(value, dict):
        return type(value), [_types(item) for item in value.values()]
    if isinstance(value, list):
        return list, [_types(item) for item in value]
    return type(value)


def nested(depth: int) -> bytes:
    """Strict arrays of one item within each other."""
    return b"\x0a\x00\x00\x00\x01" * depth + b"\x05"


@pytest.mark.parametrize(("data", "value"), WRITTEN + ONLY_READ, ids=lambda x: repr(x)[:40])
def test_a_value_is_read(data: bytes, value: AmfValue) -> None:
    (read,) = decode_all(data)
    assert same(read, value)
    assert decode_one(memoryview(data)) == (value, len(data))


@pytest.mark.parametrize(("data", "value"), WRITTEN, ids=lambda x: repr(x)[:40])
def test_a_value_is_written(data: bytes, value: AmfValue) -> None:
    assert encode(value) == data


@pytest.mark.parametrize(("data", "value"), SHORT, ids=lambda x: repr(x)[:40])
def test_a_value_cut_short_at_any_length_is_an_error(data: bytes, value: AmfValue) -> None:
    for size in range(len(data)):
        with pytest.raises(PeerError, match="ends in the middle"):
            decode_one(data[:size])
        if size:
            with pytest.raises(PeerError, match="ends in the middle"):
                decode_all(data[:size])


@pytest.mark.parametrize(("data", "value"), WRITTEN + ONLY_READ, ids=lambda x: repr(x)[:40])
def test_what_follows_a_value_is_left_alone(data: bytes, value: AmfValue) -> None:
    assert decode_one(b"before" + data + b"\xffbehind", len(b"before")) == (value, len(b"before") + len(data))


def test_values_follow_each_other() -> None:
    data = b"".join(data for data, _ in WRITTEN)
    assert decode_all(data) == [value for _, value in WRITTEN]
    assert encode(*(value for _, value in WRITTEN)) == data
    assert decode_all(b"") == []


def test_whole_numbers_are_written_as_numbers() -> None:
    assert encode(1) == encode(1.0)


def test_every_other_marker_is_refused() -> None:
    for marker in {*range(256)} - {data[0] for data, _ in WRITTEN + ONLY_READ}:
        with pytest.raises(PeerError, match=f"marker {marker:#04x} at byte 0 is not supported"):
            decode_one(bytes([marker]) + bytes(64))


def test_an_object_end_has_no_name() -> None:
    with pytest.raises(PeerError, match="object end behind a name at byte 4"):
        decode_one(b"\x03\x00\x01k\x09")


def test_nesting_is_limited() -> None:
    limits = Limits(max_depth=3)
    assert decode_one(nested(3), limits=limits)[0] == [[[None]]]
    with pytest.raises(LimitExceeded, match="deeper than 3"):
        decode_one(nested(4), limits=limits)
    with pytest.raises(LimitExceeded, match="deeper than 16"):
        decode_all(b"\x03\x00\x01k" * 100_000)


def test_depth_counts_what_is_open_not_what_was() -> None:
    siblings = nested(2) * 5
    assert decode_all(siblings, limits=Limits(max_depth=2)) == [[[None]]] * 5
    with pytest.raises(LimitExceeded):
        decode_all(siblings + nested(3), limits=Limits(max_depth=2))


def test_the_number_of_values_is_limited_over_all_of_them() -> None:
    limits = Limits(max_items=4)
    assert decode_all(b"\x05" * 4, limits=limits) == [None] * 4
    with pytest.raises(LimitExceeded, match="more than 4"):
        decode_all(b"\x05" * 5, limits=limits)
    with pytest.raises(LimitExceeded, match="more than 4"):
        decode_all(b"\x03" + b"\x00\x01k\x05" * 4 + b"\x00\x00\x09", limits=limits)


def test_an_array_cannot_claim_more_values_than_may_come() -> None:
    assert decode_one(b"\x0a\x00\x00\x00\x03\x05\x05\x05", limits=Limits(max_items=4))[0] == [None] * 3
    with pytest.raises(LimitExceeded, match="array of 4294967295 values"):
        decode_one(b"\x0a\xff\xff\xff\xff")


def test_a_long_property_name_cannot_be_written() -> None:
    assert encode({"k" * 0xFFFF: None})[1:3] == b"\xff\xff"
    with pytest.raises(ValueError, match="65536"):
        encode({"k" * 0x10000: None})


@pytest.mark.parametrize("name", RTMP_NAMES)
def test_recorded_commands_are_written_as_they_were_sent(name: str) -> None:
    reader = ChunkReader(max_message_size=0xFFFFFF)
    reader.receive_data(rtmp(name).chunks)
    commands = [m.payload for m in iter(reader.next_message, None) if m.type == MessageType.COMMAND_AMF0]
    assert commands
    for payload in commands:
        values = decode_all(payload)
        assert decode_all(encode(*values)) == values
        # SRS leaves the count of its arrays at 0.
        assert encode(*values) == payload or (name.endswith(".s2c") and b"\x08\x00\x00\x00\x00" in payload)


@given(st.lists(amf_values, max_size=4))
def test_values_survive_being_written_and_read(values: list[AmfValue]) -> None:
    read = decode_all(encode(*values), limits=Limits(max_depth=100, max_items=1000))
    assert len(read) == len(values)
    assert all(same(a, b) for a, b in zip(read, values, strict=True))


@given(st.binary(max_size=60))
def test_bytes_in_strings_survive(raw: bytes) -> None:
    data = b"\x02" + len(raw).to_bytes(2, "big") + raw
    assert encode(*decode_all(data)) == data


@given(st.lists(st.sampled_from([bytes([n]) for n in range(20)] + [b"\x00\x00\x09", b"\x00\x01k"])).map(b"".join))
def test_bad_input_gives_a_peer_error_or_few_values(data: bytes) -> None:
    limits = Limits(max_depth=4, max_items=8)
    try:
        values = decode_all(data, limits=limits)
    except PeerError:
        return
    assert sum(_count(value) for value in values) <= limits.max_items


def _count(value: AmfValue) -> int:
    items: list[AmfValue] = (
        list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    )
    return 1 + sum(_count(item) for item in items)


@given(st.data(), amf_values)
def test_a_damaged_value_gives_a_peer_error_or_another_value(data: st.DataObject, value: AmfValue) -> None:
    good = encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:at] + data.draw(st.binary(max_size=3)) + good[at + 1 :]
    for size in itertools.chain(range(0, len(damaged), 7), [len(damaged)]):
        try:
            decode_all(damaged[:size])
        except PeerError:
            continue
