"""ICE credentials that say by themselves which origin a session is at, so that any proxy can serve its media.

SRS lets the caller choose the ``ice-ufrag`` and ``ice-pwd`` that it answers an offer with. The proxy chooses::

    ufrag = nonce (8 characters) + token of the origin (16 characters, see srsproxy.balancer.pins)
    pwd   = keyed hash of <ufrag>:<client's ufrag>

The USERNAME of a client's first STUN request has both ufrags. A proxy that has never heard of the session finds the
origin by the token; and since it can compute the password, it can tell a client that was given it, in the SDP answer,
from one that has made the name up or overheard it (RFC 8445, section 7.3; RFC 8489, section 9.1).

So whoever knows such a password is served without a question to the balancer. Nobody may choose such a ufrag himself:
SRS keeps a session for a while that a hook has refused, and its client would know the name of it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b32encode
from typing import Final

from srsproxy.balancer.pins import TOKEN_LENGTH, Pins
from srsproxy.webrtc.sdp import IceCredentials

_NONCE_LENGTH: Final = 8
"""Characters of 5 bits. Among a million sessions alive at one origin, two would have one name as likely as not; then
the origin chooses another name for one, and that session is found through the balancer."""

_PASSWORD_SIZE: Final = 20
"""Bytes, which are 32 characters: the most that SRS takes; 128 bits are asked for (RFC 8445, section 5.3)."""

_UFRAG: Final = re.compile(rf"[a-z2-7]{{{_NONCE_LENGTH + TOKEN_LENGTH}}}")

_PURPOSE: Final = b"ice-pwd "
"""Hashed first: what the same secret is also used for, tokens, has no spaces."""


class Credentials:
    """Makes such credentials, and knows them again.

    :param secret: what all proxies in front of the same origins share.
    """

    def __init__(self, secret: bytes, pins: Pins) -> None:
        self._secret = secret
        self._pins = pins

    def rekey(self, secret: bytes) -> None:
        """Use another secret from now on; the tokens of origins have their own."""
        self._secret = secret

    def draw(self, server: str, client_ufrag: str) -> IceCredentials:
        """New ones for a session at this origin.

        :param client_ufrag: of the client's offer.
        """
        ufrag = _base32(secrets.token_bytes(_NONCE_LENGTH * 5 // 8)) + self._pins.token(server)
        return IceCredentials(ufrag, self._hash(f"{ufrag}:{client_ufrag}"))

    def are_ours(self, username: str) -> bool:
        """Whether the ufrag of the origin's side of a session has the form of those that are made here.

        :param username: ``<origin's ufrag>:<client's ufrag>``.
        """
        return _UFRAG.fullmatch(username.partition(":")[0]) is not None

    def password(self, username: str) -> str | None:
        """The password of the origin's side of a session, or ``None`` if its ufrag was not made here.

        :param username: ``<origin's ufrag>:<client's ufrag>``.
        """
        return self._hash(username) if self.are_ours(username) else None

    async def server(self, username: str) -> str | None:
        """The ``server`` of the origin of a session whose ufrag was made here, if it is registered."""
        return await self._pins.resolve(username.partition(":")[0][_NONCE_LENGTH:])

    def _hash(self, username: str) -> str:
        hashed = hmac.digest(self._secret, _PURPOSE + username.encode(), "sha256")
        return _base32(hashed[:_PASSWORD_SIZE])


def _base32(data: bytes) -> str:
    return b32encode(data).decode("ascii").lower()
