"""A chunk reader that also keeps the bytes its messages were made of, so that they can be passed on verbatim."""

from __future__ import annotations

from srsproxy.rtmp.chunk import ChunkReader
from srsproxy.rtmp.message import Message


class RecordingReader:
    """Messages out of a chunk stream, and the exact bytes up to the end of each.

    What is kept is bounded by the reader's own limits plus one read, as long as the caller takes the bytes of each
    message or bounds :attr:`recorded` itself.
    """

    __slots__ = ("_raw", "_start", "reader")

    def __init__(self, reader: ChunkReader) -> None:
        self.reader = reader
        self._raw = bytearray()
        self._start = 0

    @property
    def recorded(self) -> int:
        """Bytes kept: received and not yet taken."""
        return len(self._raw)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._raw += data
        self.reader.receive_data(data)

    def next_message(self) -> Message | None:
        """The next whole message, or ``None`` if more bytes are needed.

        :raises PeerError: the bytes are no chunk stream, or over a limit.
        """
        return self.reader.next_message()

    def take(self, message: Message) -> bytes:
        """All recorded bytes up to the end of ``message``, once."""
        size = message.end - self._start
        data = bytes(self._raw[:size])
        del self._raw[:size]
        self._start = message.end
        return data

    def take_all(self) -> bytes:
        """All recorded bytes, parsed or not; the reader is of no use afterwards."""
        data = bytes(self._raw)
        self._raw.clear()
        return data
