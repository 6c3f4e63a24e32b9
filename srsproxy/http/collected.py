"""An origin's answer that is taken in whole."""

from __future__ import annotations

from typing import Final

from srsproxy.errors import LimitExceeded
from srsproxy.http import playlist
from srsproxy.http.boundary import ChunkDecoder
from srsproxy.http.head import Framing, ResponseHead

_GZIP: Final = frozenset({b"gzip", b"x-gzip"})


class CollectedBody:
    """Collects the body of an answer.

    :ivar body: what is there of it.
    :ivar complete: whether all of it is there.
    :ivar ends_with_connection: whether only the end of the connection says so.
    """

    __slots__ = ("_decoder", "_limit", "_missing", "_what", "body", "complete", "ends_with_connection")

    def __init__(self, what: str, framing: int | Framing, limit: int) -> None:
        """
        :param what: names it in errors.
        :param limit: bytes that it may have.
        """
        self._what = what
        self._limit = limit
        self._decoder = ChunkDecoder() if framing is Framing.CHUNKED else None
        self._missing = framing if isinstance(framing, int) else 0
        self.body = b""
        self.ends_with_connection = framing is Framing.UNTIL_CLOSE
        self.complete = framing == 0

    def receive_data(self, data: bytes) -> bool:
        """Take the next bytes; whether there were more than belong to the body.

        :raises PeerError: bad chunked framing.
        :raises LimitExceeded: too long.
        """
        surplus = b""
        if self._decoder is not None:
            self.body += b"".join(self._decoder.receive_data(data))
            self.complete, surplus = self._decoder.complete, self._decoder.leftover
        elif self.ends_with_connection:
            self.body += data
        else:
            surplus = data[self._missing :]
            own = data[: self._missing] if surplus else data
            self._missing -= len(own)
            self.body += own
            self.complete = not self._missing
        if len(self.body) + self._missing > self._limit:
            raise LimitExceeded(f"{self._what} is longer than {self._limit} bytes")
        return bool(surplus)


class CollectedPlaylist(CollectedBody):
    """A playlist on its way from an origin to a viewer, to be changed so that it leads the viewer back."""

    __slots__ = ("_gzipped",)

    def __init__(self, head: ResponseHead, framing: int | Framing, limit: int) -> None:
        """
        :param limit: bytes that the playlist may have, before and after decompression.
        """
        super().__init__("a playlist", framing, limit)
        self._gzipped = (head.value(b"content-encoding") or b"").lower() in _GZIP

    def text(self) -> bytes:
        """The playlist, decompressed.

        :raises PeerError: it cannot be.
        :raises LimitExceeded: it is too long.
        """
        return playlist.unzip(self.body, self._limit) if self._gzipped else self.body

    def rewritten(self, text: bytes, pin: playlist.Pin) -> bytes:
        """The body that the viewer gets, in the coding that the origin's had.

        :param text: the playlist.
        :param pin: see :func:`srsproxy.http.playlist.rewrite`.
        """
        changed = playlist.rewrite(text, pin)
        return playlist.zip(changed) if self._gzipped else changed
