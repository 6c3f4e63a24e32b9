"""SRT handshakes (draft-sharabayko-srt, sections 3.2.1 and 4.3), as a listener and a caller exchange them.

A proxy changes little in them: the two ends agree on everything that matters between themselves. What it reads is the
stream id, and that as strictly as it takes to be sure that the origin reads the same one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv6Address, ip_address
from typing import Final, Self

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.srt.packet import CONTROL_BIT, MAX_SEQUENCE, ControlType, is_control

HANDSHAKE_SIZE: Final = 64
"""Bytes of a handshake without extensions, header included."""

MAX_SIZE: Final = 1472
"""Bytes of a handshake: what an IPv4 packet of 1500 bytes leaves. SRS drops what is longer; libsrt's longest handshakes
have about 800 bytes."""

MAX_EXTENSIONS: Final = 16
"""Extensions of a handshake, because each takes time. There are eight types, and none is sent twice."""

MAX_STREAM_ID_SIZE: Final = 512
"""Bytes of a stream id (section 3.2.1.3)."""

LEGACY_VERSION: Final = 4
"""HS Version of callers' inductions, and of all handshakes of SRT before 1.3, which knows no stream ids."""

VERSION: Final = 5
"""HS Version of all other handshakes."""

SRT_MAGIC: Final = 0x4A17
"""Extension Field of a listener's induction: it speaks SRT, not UDT (section 4.3.1.1)."""

DATAGRAM: Final = 2
"""Extension Field of a caller's induction: UDT's socket type, whichever mode the caller is in (section 4.3.1.1). In
version 4, of the conclusion too."""

_CONFIG: Final = 0x4
"""Extension Field: there may be a stream id (section 3.2.1, table 3)."""

MIN_MTU: Final = 44 + 188
"""Bytes of an IPv4 packet with one TS packet in it (headers of IP, UDP and SRT: 20, 8 and 16). libsrt makes its buffers
as large as a caller says: of 90 bytes and less it writes behind their end, and SRS dies."""

MAX_MTU: Final = 1 << 16
"""Bytes: what fits into an IP packet, rounded up."""

MIN_FLOW_WINDOW: Final = 2
"""Packets. A listener of libsrt does not answer less."""

MAX_FLOW_WINDOW: Final = 1 << 18
"""Packets: 345 MB under way. libsrt's default is 25,600, and for each packet it takes some bytes at once."""

_FIRST_REJECTION: Final = 1000
"""The Handshake Type of the rejection reason 0 (section 4.3, table 7)."""

_FIXED: Final = struct.Struct(">HHIIIIHHIIIiII16s")
_EXTENSION: Final = struct.Struct(">HH")


class HandshakeType(IntEnum):
    """Handshake Type (section 3.2.1, table 4). The types of rejections are 1000 and more."""

    INDUCTION = 1
    WAVEAHAND = 0
    CONCLUSION = -1
    AGREEMENT = -2
    DONE = -3


class ExtensionType(IntEnum):
    """Extension Type (section 3.2.1, table 5)."""

    HSREQ = 1
    HSRSP = 2
    KMREQ = 3
    KMRSP = 4
    SID = 5
    CONGESTION = 6
    FILTER = 7
    GROUP = 8


class RejectionReason(IntEnum):
    """Why a connection is refused: libsrt's own reasons (section 4.3, table 7, where each is 1000 more), and from 1000
    on those that libsrt predefines for applications, after the status codes of HTTP. Any from 2000 on is free."""

    UNKNOWN = 0
    SYSTEM = 1
    PEER = 2
    RESOURCE = 3
    ROGUE = 4
    BACKLOG = 5
    IPE = 6
    CLOSE = 7
    VERSION = 8
    RDVCOOKIE = 9
    BADSECRET = 10
    UNSECURE = 11
    MESSAGEAPI = 12
    CONGESTION = 13
    FILTER = 14
    GROUP = 15
    TIMEOUT = 16
    CRYPTO = 17

    FALLBACK = 1000
    KEY_NOTSUP = 1001
    FILEPATH = 1002
    HOSTNOTFOUND = 1003
    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    OVERLOAD = 1402
    FORBIDDEN = 1403
    NOT_FOUND = 1404
    BAD_MODE = 1405
    UNACCEPTABLE = 1406
    CONFLICT = 1409
    NOTSUP_MEDIA = 1415
    LOCKED = 1423
    FAILED_DEPEND = 1424
    ISE = 1500
    UNIMPLEMENTED = 1501
    GATEWAY = 1502
    DOWN = 1503
    UNSUPPORTED_VERSION = 1505
    NOROOM = 1507


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension of a handshake."""

    type: int
    """Extension Type: one of :class:`ExtensionType`, or unknown."""

    content: bytes
    """Extension Contents, a multiple of 4 bytes."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """One handshake; ``bytes(handshake)`` is its packet."""

    version: int
    """HS Version."""

    encryption: int
    """Encryption Field: bytes of the key divided by 8; 0 if the sender leaves it to the peer."""

    extension: int
    """Extension Field: what it means depends on the handshake type."""

    initial_sequence_number: int
    """Initial Packet Sequence Number."""

    mtu: int
    """Maximum Transmission Unit Size, in bytes."""

    flow_window: int
    """Maximum Flow Window Size, in packets."""

    type: int
    """Handshake Type: one of :class:`HandshakeType`, or a rejection."""

    socket_id: int
    """SRT Socket ID: the sender's, but in a listener's induction and in a rejection it is the caller's."""

    cookie: int
    """SYN Cookie."""

    peer_ip: bytes
    """Peer IP Address: what the sender takes for the address of the receiver, see :func:`encode_peer_ip`. The draft
    says that it is the sender's own; libsrt does as is said here."""

    extensions: bytes = b""
    """All that follows, see :meth:`parse_extensions`."""

    destination: int = 0
    """Destination Socket ID: 0 if the sender does not know one yet."""

    timestamp: int = 0
    """Timestamp, see :func:`srsproxy.srt.packet.timestamp`."""

    subtype: int = 0
    """Subtype, which means nothing in a handshake."""

    information: int = 0
    """Type-specific Information, which means nothing in a handshake."""

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Self:
        """Read a packet. What its fields mean is not looked at, nor are its extensions.

        :raises LimitExceeded: it is longer than :data:`MAX_SIZE`.
        :raises PeerError: it is no handshake.
        """
        if not is_control(data, ControlType.HANDSHAKE):
            raise PeerError("the packet is no handshake")
        if len(data) < HANDSHAKE_SIZE:
            raise PeerError(f"the handshake has {len(data)} bytes, less than {HANDSHAKE_SIZE}")
        if len(data) > MAX_SIZE:
            raise LimitExceeded(f"the handshake has {len(data)} bytes, more than {MAX_SIZE}")
        _, subtype, information, timestamp, destination, *fields = _FIXED.unpack_from(data)
        version, encryption, extension, sequence_number, mtu, flow_window, type, socket_id, cookie, peer_ip = fields
        return cls(
            version=version,
            encryption=encryption,
            extension=extension,
            initial_sequence_number=sequence_number,
            mtu=mtu,
            flow_window=flow_window,
            type=type,
            socket_id=socket_id,
            cookie=cookie,
            peer_ip=peer_ip,
            extensions=bytes(data[HANDSHAKE_SIZE:]),
            destination=destination,
            timestamp=timestamp,
            subtype=subtype,
            information=information,
        )

    def __bytes__(self) -> bytes:
        fixed = _FIXED.pack(
            CONTROL_BIT | ControlType.HANDSHAKE,
            self.subtype,
            self.information,
            self.timestamp,
            self.destination,
            self.version,
            self.encryption,
            self.extension,
            self.initial_sequence_number,
            self.mtu,
            self.flow_window,
            self.type,
            self.socket_id,
            self.cookie,
            self.peer_ip,
        )
        return fixed + self.extensions

    @property
    def is_rejection(self) -> bool:
        """Whether the sender refuses the connection."""
        return self.type >= _FIRST_REJECTION

    @property
    def rejection_reason(self) -> int:
        """Why, in a rejection: one of :class:`RejectionReason`, or one of the origin's own."""
        return self.type - _FIRST_REJECTION

    def check_parameters(self) -> None:
        """
        :raises PeerError: a field is such that libsrt refuses it, is silent, or comes to harm.
        """
        if self.initial_sequence_number >= MAX_SEQUENCE:
            raise PeerError(f"the initial sequence number is {self.initial_sequence_number}, not below {MAX_SEQUENCE}")
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise PeerError(f"the maximum transmission unit has {self.mtu} bytes, not {MIN_MTU} to {MAX_MTU}")
        if not MIN_FLOW_WINDOW <= self.flow_window <= MAX_FLOW_WINDOW:
            window = f"{MIN_FLOW_WINDOW} to {MAX_FLOW_WINDOW}"
            raise PeerError(f"the flow window has {self.flow_window} packets, not {window}")

    def parse_extensions(self) -> tuple[Extension, ...]:
        """The extensions, in their order; unknown ones too.

        :raises LimitExceeded: there are more than :data:`MAX_EXTENSIONS`.
        :raises PeerError: one ends behind the packet, or there is a stream id that the Extension Field does not
            announce: libsrt would not see it.
        """
        extensions: list[Extension] = []
        data, at = self.extensions, 0
        while at < len(data):
            if len(extensions) == MAX_EXTENSIONS:
                raise LimitExceeded(f"the handshake has more than {MAX_EXTENSIONS} extensions")
            if len(data) - at < _EXTENSION.size:
                raise PeerError("the handshake ends within the head of an extension")
            type, words = _EXTENSION.unpack_from(data, at)
            at += _EXTENSION.size
            end = at + 4 * words
            if end > len(data):
                raise PeerError("an extension of the handshake is longer than what is left")
            if type == ExtensionType.SID and not self.extension & _CONFIG:
                raise PeerError("the handshake has a stream id that it does not announce")
            extensions.append(Extension(type, data[at:end]))
            at = end
        return tuple(extensions)


def stream_id(extensions: tuple[Extension, ...]) -> str | None:
    """The stream id (section 3.2.1.3): ``None`` if there is none. Bytes that are not UTF-8 stand as surrogate escapes.

    It ends at its first zero byte, as it does for libsrt.

    :raises PeerError: it is empty or longer than :data:`MAX_STREAM_ID_SIZE`, which libsrt refuses, or there are two, of
        which libsrt would take the last.
    """
    contents = [extension.content for extension in extensions if extension.type == ExtensionType.SID]
    if not contents:
        return None
    if len(contents) > 1:
        raise PeerError("the handshake has two stream ids")
    (content,) = contents
    if not 0 < len(content) <= MAX_STREAM_ID_SIZE:
        raise PeerError(f"the stream id has {len(content)} bytes, not 1 to {MAX_STREAM_ID_SIZE}")
    return _reverse_words(content).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _reverse_words(data: bytes) -> bytes:
    """``data`` with the bytes of each 32-bit word in reverse. libsrt does so to texts and IP addresses, as it takes
    their bytes in memory for little-endian numbers, and sends all numbers in network order."""
    count = len(data) // 4
    return struct.pack(f">{count}I", *struct.unpack(f"<{count}I", data))


def encode_peer_ip(host: str) -> bytes:
    """The 16 bytes of Peer IP Address as libsrt has them on the wire.

    :param host: an IPv4 or IPv6 address. An IPv4 address in IPv6 counts as IPv4, which any peer understands.
    """
    address = ip_address(host)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return _reverse_words(address.packed.ljust(16, b"\0"))


def induction_answer(request: Handshake, cookie: int, peer_ip: bytes, encryption: int) -> bytes:
    """A listener's answer to a caller's induction (section 4.3.1.1). It never is longer than the request.

    :param cookie: what the conclusion of the caller has to repeat.
    :param peer_ip: the caller's address, from :func:`encode_peer_ip`.
    :param encryption: Encryption Field: what a caller takes whose key may have any length.
    """
    return bytes(
        replace(
            request,
            version=VERSION,
            encryption=encryption,
            extension=SRT_MAGIC,
            cookie=cookie,
            peer_ip=peer_ip,
            extensions=b"",
            destination=request.socket_id,
            timestamp=0,
        )
    )


def rejection(request: Handshake, reason: RejectionReason) -> bytes:
    """A listener's answer that refuses the connection which a caller's conclusion asks for (section 4.3.1.2). All but
    its type is as in the request."""
    return bytes(
        replace(
            request,
            type=_FIRST_REJECTION + reason,
            extensions=b"",
            destination=request.socket_id,
            timestamp=0,
        )
    )


def induction_of(conclusion: Handshake) -> bytes:
    """The induction by which the caller of a conclusion began, or would have begun with another listener (section
    4.3.1.1): libsrt's callers change nothing else of their handshake in between."""
    return bytes(
        replace(
            conclusion,
            version=LEGACY_VERSION,
            encryption=0,
            extension=DATAGRAM,
            type=HandshakeType.INDUCTION,
            cookie=0,
            extensions=b"",
            destination=0,
        )
    )
