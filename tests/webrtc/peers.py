"""What tests of WebRTC read and write on the wire: STUN, RFC 4571 frames, SDP, and the HTTP requests of WHIP clients.

It shares no code with what it tests. The peers themselves are :mod:`tests.webrtc.ice_client` and
:mod:`tests.webrtc.rtc_origin`.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from twisted.internet.protocol import DatagramProtocol

from tests.http.origins import HOST, RawHttpClient, Response

Address: TypeAlias = tuple[str, int]
"""Host and port of a UDP socket, as Twisted tells them."""

BINDING_REQUEST: Final = 0x0001
BINDING_RESPONSE: Final = 0x0101

USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
FINGERPRINT: Final = 0x8028
ICE_CONTROLLING: Final = 0x802A

_MAGIC_COOKIE: Final = b"\x21\x12\xa4\x42"
_HEADER_SIZE: Final = 20
_ATTRIBUTE_HEADER_SIZE: Final = 4
_INTEGRITY_SIZE: Final = 20
_FINGERPRINT_SIZE: Final = 4
_FINGERPRINT_XOR: Final = 0x5354554E

_FINGERPRINT_LINE: Final = "a=fingerprint:sha-256 " + ":".join(["5A"] * 32)


# STUN


@dataclass(frozen=True, slots=True)
class Stun:
    """A STUN message, with the bytes that it was read from.

    :ivar attributes: in their order: type, value, offset of the attribute in :attr:`raw`.
    """

    type: int
    transaction_id: bytes
    attributes: tuple[tuple[int, bytes, int], ...]
    raw: bytes

    def value(self, type: int) -> bytes | None:
        """The value of the first attribute of this type."""
        return next((value for kind, value, _ in self.attributes if kind == type), None)

    @property
    def username(self) -> str:
        """USERNAME, which there must be."""
        value = self.value(USERNAME)
        assert value is not None, "no USERNAME"
        return value.decode("latin-1")

    @property
    def mapped_address(self) -> Address:
        """XOR-MAPPED-ADDRESS, which there must be."""
        value = self.value(XOR_MAPPED_ADDRESS)
        assert value is not None, "no XOR-MAPPED-ADDRESS"
        mask = _MAGIC_COOKIE + self.transaction_id
        port = _xor(value[2:4], mask)
        return str(ipaddress.ip_address(_xor(value[4:], mask))), int.from_bytes(port, "big")

    def is_signed_with(self, password: str) -> bool:
        """Whether MESSAGE-INTEGRITY is there and made with this password (RFC 8489, section 14.5)."""
        return any(
            kind == MESSAGE_INTEGRITY and value == _integrity(self.raw[:offset], password)
            for kind, value, offset in self.attributes
        )

    def has_right_fingerprint(self) -> bool:
        """Whether FINGERPRINT is there, last and right (RFC 8489, section 14.7)."""
        kind, value, offset = self.attributes[-1]
        return kind == FINGERPRINT and value == _fingerprint(self.raw[:offset])


def parse_stun(data: bytes) -> Stun:
    """Read a STUN message.

    :raises ValueError: it is none, or not well-formed.
    """
    if len(data) < _HEADER_SIZE or data[0] > 1 or data[4:8] != _MAGIC_COOKIE:
        raise ValueError("no STUN")
    if int.from_bytes(data[2:4], "big") != len(data) - _HEADER_SIZE:
        raise ValueError("not the length that it says")
    attributes = []
    offset = _HEADER_SIZE
    while offset < len(data):
        begin = offset + _ATTRIBUTE_HEADER_SIZE
        size = int.from_bytes(data[offset + 2 : begin], "big")
        end = begin + size + -size % 4
        if end > len(data):
            raise ValueError("an attribute is cut off")
        attributes.append((int.from_bytes(data[offset : offset + 2], "big"), data[begin : begin + size], offset))
        offset = end
    return Stun(int.from_bytes(data[:2], "big"), data[8:_HEADER_SIZE], tuple(attributes), data)


def stun(type: int, transaction_id: bytes, attributes: Sequence[tuple[int, bytes]], password: str | None) -> bytes:
    """Write a STUN message, with MESSAGE-INTEGRITY if there is a password, and with FINGERPRINT."""
    body = b"".join(_attribute(kind, value) for kind, value in attributes)
    message = type.to_bytes(2, "big") + len(body).to_bytes(2, "big") + _MAGIC_COOKIE + transaction_id + body
    if password is not None:
        message += _attribute(MESSAGE_INTEGRITY, _integrity(message, password))
    message += _attribute(FINGERPRINT, _fingerprint(message))
    return _with_length(message, len(message) - _HEADER_SIZE)


def new_transaction_id() -> bytes:
    """A random one."""
    return secrets.token_bytes(12)


def xor_address(address: Address, transaction_id: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (RFC 8489, section 14.2)."""
    host, port = address
    packed = ipaddress.ip_address(host).packed
    mask = _MAGIC_COOKIE + transaction_id
    family = 1 if len(packed) == 4 else 2
    return bytes([0, family]) + _xor(port.to_bytes(2, "big"), mask) + _xor(packed, mask)


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(data, mask, strict=False))


def _attribute(type: int, value: bytes) -> bytes:
    return type.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def _with_length(message: bytes, length: int) -> bytes:
    return message[:2] + length.to_bytes(2, "big") + message[4:]


def _integrity(before: bytes, password: str) -> bytes:
    """MESSAGE-INTEGRITY behind these bytes: the length in the header counts it, and nothing behind it."""
    length = len(before) - _HEADER_SIZE + _ATTRIBUTE_HEADER_SIZE + _INTEGRITY_SIZE
    return hmac.digest(password.encode(), _with_length(before, length), "sha1")


def _fingerprint(before: bytes) -> bytes:
    length = len(before) - _HEADER_SIZE + _ATTRIBUTE_HEADER_SIZE + _FINGERPRINT_SIZE
    return (zlib.crc32(_with_length(before, length)) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


# RFC 4571


def frame(packet: bytes) -> bytes:
    """A packet as it goes over TCP."""
    return len(packet).to_bytes(2, "big") + packet


class FrameReader:
    """Takes the bytes of a TCP connection apart into packets."""

    def __init__(self) -> None:
        self._unread = b""

    def read(self, data: bytes) -> list[bytes]:
        """The packets that are complete with these bytes."""
        self._unread += data
        packets = []
        while len(self._unread) >= 2:
            end = 2 + int.from_bytes(self._unread[:2], "big")
            if len(self._unread) < end:
                break
            packets.append(self._unread[2:end])
            self._unread = self._unread[end:]
        return packets


# UDP


class Datagrams(DatagramProtocol):
    """Gives every datagram of a socket to a function, with the address that it came from."""

    def __init__(self, received: Callable[[bytes, Address], object]) -> None:
        self._received = received

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self._received(datagram, addr)


# SDP


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host candidate."""

    transport: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class IceParameters:
    """What a description says of its side's ICE; ``candidates`` in their order."""

    ufrag: str
    pwd: str
    candidates: tuple[Candidate, ...] = ()

    def first(self, transport: str) -> Candidate:
        """The first candidate on this transport."""
        return next(candidate for candidate in self.candidates if candidate.transport == transport)


@dataclass(frozen=True, slots=True)
class IcePair:
    """What one side of an ICE session knows: its own parameters and the peer's."""

    local: IceParameters
    remote: IceParameters

    @property
    def username(self) -> str:
        """USERNAME of the requests that this side sends (RFC 8445, section 7.2.2)."""
        return f"{self.remote.ufrag}:{self.local.ufrag}"


def new_ice_parameters() -> IceParameters:
    """Random ones, with the characters that software which handles queries likes to change."""
    return IceParameters(f"+/{secrets.token_hex(4)}", f"/+{secrets.token_hex(12)}")


def offer_sdp(ice: IceParameters, direction: str = "sendonly") -> str:
    """The offer of a browser-like client that trickles its candidates (none is in the offer)."""
    lines = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1"]
    for mid, media in enumerate(["audio 9 UDP/TLS/RTP/SAVPF 111", "video 9 UDP/TLS/RTP/SAVPF 106"]):
        codec = "111 opus/48000/2" if mid == 0 else "106 H264/90000"
        lines += [f"m={media}", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0"]
        lines += [f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.pwd}", "a=ice-options:trickle", _FINGERPRINT_LINE]
        lines += ["a=setup:actpass", f"a=mid:{mid}", f"a={direction}", "a=rtcp-mux", f"a=rtpmap:{codec}"]
    return "\r\n".join([*lines, ""])


def parse_sdp(sdp: str) -> IceParameters:
    """The ICE parameters of a description whose media sections must all have the same, as those of BUNDLE have.

    :raises ValueError: they differ, or there is no media section.
    """
    _, *sections = sdp.replace("\r\n", "\n").split("\nm=")
    found = {_section(section) for section in sections}
    if len(found) != 1:
        raise ValueError(f"not one set of ICE parameters: {found}")
    return found.pop()


def _section(section: str) -> IceParameters:
    values: dict[str, str] = {}
    candidates = []
    for line in section.split("\n"):
        name, _, value = line.removeprefix("a=").partition(":")
        if name != "candidate":
            values[name] = value
            continue
        _, component, transport, _, host, port, typ, kind, *_ = value.split(" ")
        if (component, typ, kind) != ("1", "typ", "host"):
            raise ValueError(f"no host candidate of RTP: {line}")
        candidates.append(Candidate(transport.lower(), host, int(port)))
    return IceParameters(values.get("ice-ufrag", ""), values.get("ice-pwd", ""), tuple(candidates))


# HTTP


class WhipClient:
    """Sends the requests of a WHIP or WHEP client, each on a connection of its own.

    :param port: of the HTTP API at loopback.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self.port = port

    async def request(self, method: str, target: str, *fields: str, body: bytes = b"", host: str = HOST) -> Response:
        """Send a request, and read the whole response; ``fields`` as in :meth:`RawHttpClient.request`.

        :raises PeerClosed: there was no whole response.
        """
        client = await RawHttpClient.connect(self._reactor, host, self.port)
        try:
            client.request(target, *fields, method=method, body=body)
            return await client.response(to_head_request=method == "HEAD")
        finally:
            if not client.closed:
                await client.abort()

    async def offer(self, target: str, sdp: str, *fields: str, host: str = HOST) -> Response:
        """POST an offer."""
        return await self.request(
            "POST", target, "Content-Type: application/sdp", *fields, body=sdp.encode(), host=host
        )

    async def negotiate(self, target: str, *fields: str, host: str = HOST) -> Negotiated:
        """POST an offer with new ICE parameters, and read the answer, which must be one.

        :param fields: more fields of the head.
        """
        local = new_ice_parameters()
        response = await self.offer(target, offer_sdp(local), *fields, host=host)
        assert response.status == 201, response
        location = response.field(b"Location")
        assert location is not None, response
        return Negotiated(IcePair(local, parse_sdp(response.body.decode())), location.decode(), response)

    async def delete(self, location: str) -> Response:
        """DELETE a session."""
        return await self.request("DELETE", location)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a client has after its offer was answered."""

    ice: IcePair
    location: str
    response: Response
