"""AMF0, the notation of RTMP's commands and metadata (Adobe, "Action Message Format -- AMF 0", December 2007).

============== ============================ ==========================================================
marker         AMF0                         Python
============== ============================ ==========================================================
00             number                       ``float``
01             boolean                      ``bool``
02, 0C         string, long string          ``str``; bytes that are not UTF-8 become surrogate escapes
03             object                       ``dict``
05             null                         ``None``
06             undefined                    :data:`UNDEFINED`
08             ECMA array                   :class:`EcmaArray`
0A             strict array                 ``list``
0B             date                         :class:`Date`
============== ============================ ==========================================================

Read but never written: an XML document (0F) is a ``str``, a typed object (10) a ``dict`` without its class name, and
unsupported (0D) is :data:`UNDEFINED`. Refused: references (07), since a few of them can describe an enormous value, the
switch to AMF3 (11), and the reserved movie clip (04) and record set (0E).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, TypeAlias, assert_never

from srsproxy.errors import LimitExceeded, PeerError


class Undefined(Enum):
    """The type of :data:`UNDEFINED`."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED
"""ActionScript's ``undefined``, which is not its ``null``."""


@dataclass(frozen=True, slots=True)
class Date:
    """``ms``: milliseconds since 1970 UTC. ``tz``: reserved for a time zone in minutes, should be 0."""

    ms: float
    tz: int = 0


class EcmaArray(dict[str, "AmfValue"]):
    """An associative array: like an object, but written with a count in front."""


AmfValue: TypeAlias = "float | bool | str | Undefined | Date | EcmaArray | dict[str, AmfValue] | list[AmfValue] | None"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one :func:`decode_all` or :func:`decode_one` may build. Bytes are limited by the message that holds them."""

    max_depth: int = 16
    """Arrays and objects within each other. Connect, the deepest command, has 2; the decoder recurses."""

    max_items: int = 1024
    """Values in all. A value takes 1 byte on the wire and up to a hundred here; connect has about 20."""


DEFAULT_LIMITS: Final = Limits()


class _Marker(IntEnum):
    NUMBER = 0x00
    BOOLEAN = 0x01
    STRING = 0x02
    OBJECT = 0x03
    NULL = 0x05
    UNDEFINED = 0x06
    ECMA_ARRAY = 0x08
    OBJECT_END = 0x09
    STRICT_ARRAY = 0x0A
    DATE = 0x0B
    LONG_STRING = 0x0C
    UNSUPPORTED = 0x0D
    XML_DOCUMENT = 0x0F
    TYPED_OBJECT = 0x10


_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_NUMBER = struct.Struct(">d")
_DATE = struct.Struct(">dh")
_MAX_U16 = 0xFFFF


class _Decoder:
    """A cursor over one AMF0 text, and what is left of its limits."""

    __slots__ = ("_data", "_depth_left", "_items_left", "_limits", "offset")

    def __init__(self, data: bytes | memoryview, offset: int, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._depth_left = limits.max_depth
        self._items_left = limits.max_items
        self.offset = offset

    def _skip(self, size: int) -> int:
        """Step over ``size`` bytes; returns where they begin."""
        start = self.offset
        if len(self._data) - start < size:
            raise PeerError(f"AMF0 ends in the middle of a value at byte {start}")
        self.offset = start + size
        return start

    def _byte(self) -> int:
        return self._data[self._skip(1)]

    def _u16(self) -> int:
        value: int = _U16.unpack_from(self._data, self._skip(2))[0]
        return value

    def _u32(self) -> int:
        value: int = _U32.unpack_from(self._data, self._skip(4))[0]
        return value

    def _text(self, size: int) -> str:
        start = self._skip(size)
        return str(self._data[start : start + size], "utf-8", "surrogateescape")

    def _properties(self, into: dict[str, AmfValue]) -> None:
        """Name and value pairs up to the end mark, an empty name with marker 09."""
        while True:
            name = self._text(self._u16())
            marker = self._byte()
            if marker == _Marker.OBJECT_END:
                if name:
                    raise PeerError(f"AMF0 object end behind a name at byte {self.offset - 1}")
                return
            into[name] = self._value(marker)

    def _array(self) -> list[AmfValue]:
        count = self._u32()
        if count > self._items_left:
            raise LimitExceeded(f"AMF0 array of {count} values (limit {self._limits.max_items})")
        return [self.value() for _ in range(count)]

    def _container(self, marker: int) -> AmfValue:
        if not self._depth_left:
            raise LimitExceeded(f"AMF0 nested deeper than {self._limits.max_depth}")
        self._depth_left -= 1
        value: EcmaArray | dict[str, AmfValue] | list[AmfValue]
        if marker == _Marker.STRICT_ARRAY:
            value = self._array()
        elif marker == _Marker.ECMA_ARRAY:
            self._u32()  # the count is only a hint (section 2.10); the end mark counts
            value = EcmaArray()
            self._properties(value)
        else:
            if marker == _Marker.TYPED_OBJECT:
                self._text(self._u16())
            value = {}
            self._properties(value)
        self._depth_left += 1
        return value

    def value(self) -> AmfValue:
        return self._value(self._byte())

    def _value(self, marker: int) -> AmfValue:
        """The value whose marker has just been read."""
        if not self._items_left:
            raise LimitExceeded(f"more than {self._limits.max_items} AMF0 values")
        self._items_left -= 1
        match marker:
            case _Marker.NUMBER:
                number: float = _NUMBER.unpack_from(self._data, self._skip(8))[0]
                return number
            case _Marker.BOOLEAN:
                return self._byte() != 0
            case _Marker.STRING:
                return self._text(self._u16())
            case _Marker.LONG_STRING | _Marker.XML_DOCUMENT:
                return self._text(self._u32())
            case _Marker.NULL:
                return None
            case _Marker.UNDEFINED | _Marker.UNSUPPORTED:
                return UNDEFINED
            case _Marker.DATE:
                return Date(*_DATE.unpack_from(self._data, self._skip(10)))
            case _Marker.OBJECT | _Marker.ECMA_ARRAY | _Marker.STRICT_ARRAY | _Marker.TYPED_OBJECT:
                return self._container(marker)
        raise PeerError(f"AMF0 marker {marker:#04x} at byte {self.offset - 1} is not supported")


def decode_one(data: bytes | memoryview, offset: int = 0, *, limits: Limits = DEFAULT_LIMITS) -> tuple[AmfValue, int]:
    """The value at ``offset``, and the offset behind it.

    :raises PeerError: the value is truncated, or of a kind that is refused.
    :raises LimitExceeded: it is more than ``limits`` allow.
    """
    decoder = _Decoder(data, offset, limits)
    return decoder.value(), decoder.offset


def decode_all(data: bytes | memoryview, *, limits: Limits = DEFAULT_LIMITS) -> list[AmfValue]:
    """All values of ``data``, one after the other. Raises as :func:`decode_one` does."""
    decoder = _Decoder(data, 0, limits)
    values: list[AmfValue] = []
    while decoder.offset < len(data):
        values.append(decoder.value())
    return values


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encode_properties(value: dict[str, AmfValue], put: Callable[[bytes], object]) -> None:
    for name, item in value.items():
        raw = _encode_text(name)
        if len(raw) > _MAX_U16:
            raise ValueError(f"an AMF0 property name has at most {_MAX_U16} bytes, not {len(raw)}")
        put(_U16.pack(len(raw)) + raw)
        _encode_value(item, put)
    put(b"\x00\x00\x09")


def _encode_value(value: AmfValue, put: Callable[[bytes], object]) -> None:
    match value:
        case None:
            put(b"\x05")
        case Undefined():
            put(b"\x06")
        case bool():
            put(b"\x01\x01" if value else b"\x01\x00")
        case float() | int():
            put(b"\x00" + _NUMBER.pack(value))
        case str():
            raw = _encode_text(value)
            if len(raw) > _MAX_U16:
                put(b"\x0c" + _U32.pack(len(raw)) + raw)
            else:
                put(b"\x02" + _U16.pack(len(raw)) + raw)
        case EcmaArray():
            put(b"\x08" + _U32.pack(len(value)))
            _encode_properties(value, put)
        case dict():
            put(b"\x03")
            _encode_properties(value, put)
        case list():
            put(b"\x0a" + _U32.pack(len(value)))
            for item in value:
                _encode_value(item, put)
        case Date():
            put(b"\x0b" + _DATE.pack(value.ms, value.tz))
        case _:
            assert_never(value)


def encode(*values: AmfValue) -> bytes:
    """The values, one after the other.

    :raises ValueError: a property name is longer than 65535 bytes.
    """
    parts: list[bytes] = []
    for value in values:
        _encode_value(value, parts.append)
    return b"".join(parts)
