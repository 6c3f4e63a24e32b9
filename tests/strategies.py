"""Hypothesis strategies that several tests share."""

from __future__ import annotations

import itertools
import math

from hypothesis import strategies as st

from srsproxy.rtmp.amf0 import UNDEFINED, AmfValue, Date, EcmaArray
from srsproxy.rtmp.message import Message
from srsproxy.srt.handshake import MAX_SIZE, Handshake, HandshakeType


def splits(data: bytes, max_cuts: int = 12) -> st.SearchStrategy[list[bytes]]:
    """``data`` in pieces, as reads from a socket might bring it; some may be empty."""
    cuts = st.lists(st.integers(0, len(data)), max_size=max_cuts).map(sorted)
    return cuts.map(lambda at: [data[start:end] for start, end in itertools.pairwise([0, *at, len(data)])])


# What decodes from bytes: no surrogates but those that stand for bytes, and none of these that would join up.
amf_text = st.binary(max_size=24).map(lambda raw: raw.decode("utf-8", "surrogateescape"))

_amf_scalars: st.SearchStrategy[AmfValue] = st.one_of(
    st.none(),
    st.just(UNDEFINED),
    st.booleans(),
    st.floats(allow_nan=False),
    amf_text,
    st.builds(Date, ms=st.floats(allow_nan=False), tz=st.integers(-0x8000, 0x7FFF)),
)


def _amf_containers(values: st.SearchStrategy[AmfValue]) -> st.SearchStrategy[AmfValue]:
    properties = st.dictionaries(amf_text, values, max_size=4)
    return st.one_of(st.lists(values, max_size=4), properties, properties.map(EcmaArray))


amf_values: st.SearchStrategy[AmfValue] = st.recursive(_amf_scalars, _amf_containers, max_leaves=20)
"""Any value that AMF0 can carry, except NaN, which does not equal itself."""

messages: st.SearchStrategy[Message] = st.builds(
    Message,
    csid=st.sampled_from([2, 3, 63, 64, 319, 320, 65599]),
    # Not SetChunkSize, whose payload is not arbitrary.
    type=st.integers(2, 255),
    msid=st.integers(0, 0xFFFFFFFF),
    timestamp=st.sampled_from([0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0x78787878, 0x7FFFFFFF]),
    # Little else than what a timestamp may look like.
    payload=st.integers(0, 400).flatmap(
        lambda size: st.sampled_from([b"\x00", b"x", b"\xff", b"\x7f\xff\xff\xff"]).map(
            lambda unit: (unit * math.ceil(size / len(unit)))[:size]
        )
    ),
)

_uint16 = st.integers(0, 0xFFFF)
_uint32 = st.integers(0, 0xFFFFFFFF)

handshakes: st.SearchStrategy[Handshake] = st.builds(
    Handshake,
    version=st.sampled_from([4, 5]) | _uint32,
    encryption=st.sampled_from([0, 2, 3, 4]) | _uint16,
    extension=st.sampled_from([0, 1, 2, 5, 7, 0x4A17]) | _uint16,
    initial_sequence_number=_uint32,
    mtu=st.just(1500) | _uint32,
    flow_window=st.just(8192) | _uint32,
    type=st.sampled_from(HandshakeType) | st.integers(-0x80000000, 0x7FFFFFFF),
    socket_id=_uint32,
    cookie=_uint32,
    peer_ip=st.binary(min_size=16, max_size=16),
    extensions=st.binary(max_size=40) | st.just(bytes(MAX_SIZE - 64)),
    destination=_uint32,
    timestamp=_uint32,
    subtype=_uint16,
    information=_uint32,
)
"""Any SRT handshake, whatever it may mean."""


@st.composite
def chunk_streams(draw: st.DrawFn) -> bytes:
    """Chunks with plausible headers of all types, on a few chunk streams, that mostly, but not always, fit together."""
    out = bytearray()
    length_of: dict[int, int] = {}
    left_of: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 8))):
        csid = draw(st.sampled_from([2, 4, 4, 4, 63, 64, 320]))
        known = csid in length_of
        left = left_of.get(csid, 0)
        fmt = draw(st.sampled_from([3, 3, 3, 2, 1] if left else [0, 1, 2, 3] if known else [0, 0, 1]))
        basic = fmt << 6
        if csid < 64:
            out.append(basic | csid)
        elif csid < 320:
            out += bytes([basic, csid - 64])
        else:
            out += bytes([basic | 1, (csid - 64) & 0xFF, (csid - 64) >> 8])
        if fmt < 3:
            out += draw(st.sampled_from([0, 5, 1000, 0xFFFFFF, 0xFFFFFF])).to_bytes(3, "big")
        length = length_of.get(csid, 0)
        if fmt < 2:
            # A continuation has to keep its length, and does at most times.
            length = draw(st.sampled_from([0, 1, 3, 100, 128, 129, 300] + [length] * (9 if left else 1)))
            out += length.to_bytes(3, "big") + draw(st.sampled_from([b"\x08", b"\x09", b"\x63", b"\x01"]))
        if fmt == 0:
            out += b"\x01\x00\x00\x00"
        out += draw(st.sampled_from([b"", b"", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00", b"\x81\x00\x00\x00"]))
        size = min(left or length, 128)
        out += draw(st.sampled_from([b"\x00", b"\x01", b"x"])) * max(
            0, size + draw(st.sampled_from([0, 0, 0, 0, -4, 1]))
        )
        length_of[csid] = length
        left_of[csid] = (left or length) - size
    return bytes(out)
