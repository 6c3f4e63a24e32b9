"""STUN messages (RFC 8489), as far as ICE (RFC 8445) tells by them whose session a client's packets belong to.

Only what that takes is read: the name of the session, whether the client has made its choice, and the integrity that
proves it. This is done for every STUN datagram that anyone sends, so what costs little is checked first.
"""

from __future__ import annotations

import hmac
from struct import Struct
from typing import Final, NamedTuple

from srsproxy.errors import LimitExceeded, PeerError

MAX_USERNAME_SIZE: Final = 513
"""Bytes of a USERNAME: two ufrags of up to 256 characters and the colon between them (RFC 8839, section 5.4)."""

MAX_ATTRIBUTES: Final = 32
"""Attributes of a message, because each takes time; browsers send up to about ten."""

STUN_BYTES: Final = frozenset(range(4))
"""First bytes of STUN messages, among all that comes to one port (RFC 7983, section 7)."""

BINDING_REQUEST: Final = 0x0001
"""The message type by which a client asks whether a path works (RFC 8445, section 7.2)."""

_RESPONSE: Final = 0x0100
"""The bit of a message type that success and error responses have, and requests and indications have not."""

_MAGIC_COOKIE: Final = 0x2112A442
_USERNAME: Final = 0x0006
_MESSAGE_INTEGRITY: Final = 0x0008
_USE_CANDIDATE: Final = 0x0025

_INTEGRITY_SIZE: Final = 20
"""Bytes of an HMAC-SHA1."""

_HEADER: Final = Struct(">HHI12s")
_ATTRIBUTE: Final = Struct(">HH")
_LENGTH: Final = Struct(">H")


class StunMessage(NamedTuple):
    """One STUN message. A tuple, because a frozen dataclass would take three times as long to make."""

    type: int
    """Method and class (RFC 8489, section 5), such as :data:`BINDING_REQUEST`."""

    transaction_id: bytes
    """12 bytes; those of a response are its request's."""

    username: str | None
    """USERNAME: in a request ``<ufrag of the receiver>:<ufrag of the sender>`` (RFC 8445, section 7.2.2)."""

    use_candidate: bool
    """Whether the client has chosen the path that this comes by."""

    integrity_at: int | None
    """Where MESSAGE-INTEGRITY begins, in bytes."""

    @property
    def is_binding_request(self) -> bool:
        """Whether it asks for a Binding response."""
        return self.type == BINDING_REQUEST

    @property
    def is_response(self) -> bool:
        """Whether it answers a request, well or badly."""
        return self.type & _RESPONSE != 0


def parse(data: bytes | memoryview) -> StunMessage:
    """Read a datagram, or the payload of a frame, that is one STUN message.

    Unknown attributes are skipped. The first of several equal ones counts, and none that follows MESSAGE-INTEGRITY does
    (RFC 8489, sections 14 and 14.5). A second USERNAME is refused wherever it is, because SRS would take the last: a
    client would be one to us, and another to the origin.

    :raises LimitExceeded: it has too many attributes.
    :raises PeerError: it is none, or it breaks a rule of what is read here.
    """
    size = len(data)
    if size < _HEADER.size:
        raise PeerError("the STUN message is shorter than its header")
    message_type, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if cookie != _MAGIC_COOKIE or message_type > 0x3FFF:
        raise PeerError("the datagram is no STUN message")
    if length != size - _HEADER.size or length & 3:
        raise PeerError("the length of the STUN message is wrong")

    username: str | None = None
    named = use_candidate = False
    integrity_at: int | None = None
    at = _HEADER.size
    for _ in range(MAX_ATTRIBUTES):
        if at == size:
            break
        # At least 4 bytes are left, because the length and all steps are multiples of 4.
        attribute, length = _ATTRIBUTE.unpack_from(data, at)
        end = at + 4 + length
        if end > size:
            raise PeerError("an attribute of the STUN message is longer than what is left")
        if attribute == _USERNAME:
            if named:
                raise PeerError("the STUN message has two USERNAMEs")
            named = True
            if integrity_at is None:
                username = _username(data[at + 4 : end])
        elif integrity_at is None:
            if attribute == _MESSAGE_INTEGRITY:
                if length != _INTEGRITY_SIZE:
                    raise PeerError("MESSAGE-INTEGRITY of the STUN message has a wrong size")
                integrity_at = at
            elif attribute == _USE_CANDIDATE:
                use_candidate = True
        at = (end + 3) & ~3
    if at != size:
        raise LimitExceeded(f"the STUN message has more than {MAX_ATTRIBUTES} attributes")
    return StunMessage(message_type, transaction_id, username, use_candidate, integrity_at)


def _username(value: bytes | memoryview) -> str:
    if len(value) > MAX_USERNAME_SIZE:
        raise PeerError(f"USERNAME of the STUN message is longer than {MAX_USERNAME_SIZE} bytes")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise PeerError("USERNAME of the STUN message is not UTF-8") from None


def verify_integrity(data: bytes | memoryview, message: StunMessage, password: str) -> bool:
    """Whether the sender knows the password: MESSAGE-INTEGRITY, HMAC-SHA1, with a short-term credential (RFC 8489,
    sections 9.1 and 14.5). A message without the attribute has no integrity.

    :param data: what ``message`` was parsed from.
    :param password: the ``ice-pwd`` of the receiver of a request, which is also that of the sender of its response.
    """
    at = message.integrity_at
    if at is None:
        return False
    value_at = at + _ATTRIBUTE.size
    end = value_at + _INTEGRITY_SIZE
    # What follows MESSAGE-INTEGRITY does not count, in the length neither.
    covered = b"".join((data[:2], _LENGTH.pack(end - _HEADER.size), data[4:at]))
    return hmac.compare_digest(hmac.digest(password.encode(), covered, "sha1"), data[value_at:end])


def split_username(username: str) -> tuple[str, str]:
    """The ufrag of the receiver and that of the sender of the request.

    :raises PeerError: the name has no colon.
    """
    local, colon, remote = username.partition(":")
    if not colon:
        raise PeerError("USERNAME of the STUN message is not two ufrags")
    return local, remote
