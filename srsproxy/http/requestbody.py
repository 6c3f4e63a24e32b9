"""The body of a request, held in memory: what is asked for with one is small, and hardly ever has one."""

from __future__ import annotations

from typing import Final

from srsproxy.errors import LimitExceeded
from srsproxy.http.boundary import ChunkDecoder
from srsproxy.http.head import Framing, RequestHead, request_body

MAX_REQUEST_BODY: Final = 64 * 1024
"""Bytes of a body without its framing."""


class RequestBody:
    """Collects a body.

    :ivar complete: whether all of it is there.
    """

    __slots__ = ("_decoder", "_missing", "_parts", "_size", "complete")

    def __init__(self, framing: int | Framing) -> None:
        """
        :raises LimitExceeded: over :data:`MAX_REQUEST_BODY`.
        """
        self._decoder = ChunkDecoder() if framing is Framing.CHUNKED else None
        self._missing = framing if isinstance(framing, int) else 0
        self._parts: list[bytes] = []
        self._size = self._missing
        self.complete = False
        self._check()

    @classmethod
    def of(cls, request: RequestHead) -> RequestBody | None:
        """That of a request; ``None`` if it has none.

        :raises PeerError: its framing cannot be right.
        :raises LimitExceeded: over :data:`MAX_REQUEST_BODY`.
        """
        framing = request_body(request)
        return cls(framing) if framing else None

    def receive_data(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what comes after it.

        :raises PeerError: bad chunked framing.
        :raises LimitExceeded: over :data:`MAX_REQUEST_BODY`.
        """
        if self._decoder is None:
            own, rest = data[: self._missing], data[self._missing :]
            self._missing -= len(own)
            self._parts.append(own)
            self.complete = not self._missing
            return rest
        for piece in self._decoder.receive_data(data):
            self._parts.append(bytes(piece))
            self._size += len(piece)
        self._check()
        self.complete = self._decoder.complete
        return self._decoder.leftover

    @property
    def content(self) -> bytes:
        """What has come so far, without its framing."""
        return b"".join(self._parts)

    def _check(self) -> None:
        if self._size > MAX_REQUEST_BODY:
            raise LimitExceeded(f"the body of the request is longer than {MAX_REQUEST_BODY} bytes")
