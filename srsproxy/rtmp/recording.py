"""A chunk reader that keeps the bytes its messages are made of until they are taken, to be passed on verbatim."""

from __future__ import annotations

from srsproxy.rtmp.chunk import ChunkReader
from srsproxy.rtmp.message import Message


class RecordingReader(ChunkReader):
    """Messages out of a chunk stream, and the exact bytes up to the end of each.

    Memory is bounded as for any chunk reader as long as the caller takes the bytes of each message, or bounds
    :attr:`recorded` itself.
    """

    @property
    def recorded(self) -> int:
        """Bytes kept: received and not yet taken."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def take(self, message: Message) -> bytes:
        """All bytes up to the end of ``message`` that were not taken before."""
        size = message.end - self._base
        data = bytes(self._buffer[:size])
        self._drop(size)
        return data

    def take_all(self) -> bytes:
        """All bytes that were not taken before, parsed or not; the reader is of no use afterwards."""
        return bytes(self._buffer)
