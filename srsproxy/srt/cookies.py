"""Handshake cookies: how a listener knows, without keeping anything, that a caller is where it says it is.

A caller gets a cookie in the answer to its induction and must send it back in its conclusion (draft-sharabayko-srt,
section 4.3.1.1). The cookie is a keyed hash of the caller's address and of the time, so any proxy with the same secret
can check it, also one that has just been started.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from srsproxy.relay.udpsockets import Address

_PERIOD: Final = 60
"""Seconds after which an address gets another cookie. The one before is still taken; callers give up after 3 s."""

_SIZE: Final = 4
"""Bytes (draft-sharabayko-srt, section 3.2.1)."""


class Cookies:
    """Makes them, and knows them again.

    :param secret: what all proxies in front of the same origins share.
    """

    def __init__(self, secret: bytes) -> None:
        self.rekey(secret)

    def rekey(self, secret: bytes) -> None:
        """Use another secret from now on."""
        self._key = hmac.digest(secret, b"srt cookie", "sha256")

    def make(self, address: Address, now: float) -> int:
        """The cookie for a caller.

        :param now: seconds since the epoch.
        """
        return self._cookie(address, int(now // _PERIOD))

    def is_valid(self, cookie: int, address: Address, now: float) -> bool:
        """Whether the caller has got this cookie, and lately."""
        period = int(now // _PERIOD)
        return cookie in (self._cookie(address, period), self._cookie(address, period - 1))

    def _cookie(self, address: Address, period: int) -> int:
        text = f"{address[0]} {address[1]} {period}".encode()
        cookie = int.from_bytes(hashlib.blake2s(text, digest_size=_SIZE, key=self._key).digest())
        # An induction has the cookie 0, and whoever answers it another one.
        return cookie or 1
