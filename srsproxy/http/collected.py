"""A playlist on its way from an origin to a viewer: taken in whole, and changed so that it leads the viewer back."""

from __future__ import annotations

from typing import Final

from srsproxy.errors import LimitExceeded
from srsproxy.http import playlist
from srsproxy.http.boundary import ChunkDecoder
from srsproxy.http.head import Framing, ResponseHead

_GZIP: Final = frozenset({b"gzip", b"x-gzip"})


class CollectedPlaylist:
    """Collects the body of an answer.

    :ivar complete: whether all of it is there.
    :ivar ends_with_connection: whether only the end of the connection says so.
    """

    __slots__ = ("_body", "_decoder", "_gzipped", "_limit", "_missing", "complete", "ends_with_connection")

    def __init__(self, head: ResponseHead, framing: int | Framing, limit: int) -> None:
        """
        :param limit: bytes that the playlist may have, before and after decompression.
        """
        self._gzipped = (head.value(b"content-encoding") or b"").lower() in _GZIP
        self._limit = limit
        self._body = b""
        self._decoder = ChunkDecoder() if framing is Framing.CHUNKED else None
        self._missing = framing if isinstance(framing, int) else 0
        self.ends_with_connection = framing is Framing.UNTIL_CLOSE
        self.complete = framing == 0

    def receive_data(self, data: bytes) -> bool:
        """Take the next bytes; whether there were more than belong to the body.

        :raises PeerError: bad chunked framing.
        :raises LimitExceeded: too long.
        """
        surplus = b""
        if self._decoder is not None:
            self._body += b"".join(self._decoder.receive_data(data))
            self.complete, surplus = self._decoder.complete, self._decoder.leftover
        elif self.ends_with_connection:
            self._body += data
        else:
            surplus = data[self._missing :]
            own = data[: self._missing] if surplus else data
            self._missing -= len(own)
            self._body += own
            self.complete = not self._missing
        if len(self._body) + self._missing > self._limit:
            raise LimitExceeded(f"a playlist is longer than {self._limit} bytes")
        return bool(surplus)

    def text(self) -> bytes:
        """The playlist, decompressed.

        :raises PeerError: it cannot be.
        :raises LimitExceeded: it is too long.
        """
        return playlist.unzip(self._body, self._limit) if self._gzipped else self._body

    def rewritten(self, text: bytes, pin: playlist.Pin) -> bytes:
        """The body that the viewer gets, in the coding that the origin's had.

        :param text: the playlist.
        :param pin: see :func:`srsproxy.http.playlist.rewrite`.
        """
        changed = playlist.rewrite(text, pin)
        return playlist.zip(changed) if self._gzipped else changed
