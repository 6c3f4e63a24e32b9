"""Writing to a connection without waiting for the reactor."""

from __future__ import annotations

from collections.abc import Callable

from srsproxy.interfaces import IStreamConnection
from srsproxy.relay.handover import SinkDrain
from srsproxy.transports import raw_socket


class Writer:
    """Hands what is written to the kernel at once, if it takes it.

    A Twisted transport writes when the reactor comes round again, which costs two changes to the reactor's interest and
    a turn of its loop: as much as all else that is done for a small answer. What the kernel does not take goes through
    the transport's buffer, in order, and so does everything where the bytes are not the socket's own (TLS).

    :ivar clear: whether all that was written is with the kernel.
    """

    __slots__ = ("_drain", "_drained", "_lent", "_socket", "_transport", "clear")

    def __init__(self, transport: IStreamConnection, drained: Callable[[], None]) -> None:
        """
        :param drained: called whenever :attr:`clear` becomes true again, from the reactor.
        """
        self._transport = transport
        self._socket = raw_socket(transport)
        self._drained: Callable[[], None] | None = drained
        self._drain: SinkDrain | None = None
        self._lent = False
        self.clear = True

    def write(self, data: bytes) -> None:
        """Write; never blocks, raises nothing for a connection that is lost."""
        if self.clear and self._socket is not None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = 0  # The transport meets the same error, and tells its protocol.
            if sent == len(data):
                return
            data = data[sent:]
        self._transport.write(data)
        if self._drain is None and not self._lent:
            self._await_drained()

    def lend(self) -> bool:
        """Let another have the transport (a relay, a producer): stop watching it. What is written until
        :meth:`take_back` goes through the transport's buffer. Returns whether that is known to be empty."""
        clear, self.clear = self.clear, False
        self._lent = True
        self._cancel()
        return clear

    def take_back(self, clear: bool = False) -> None:
        """The other has done.

        :param clear: nothing is in the transport's buffer. If that is not known, it is watched until it is so.
        """
        self._lent = False
        if clear:
            self.clear = True
        else:
            self._await_drained()

    def close(self) -> None:
        """The connection is gone, or is to be closed: tell nobody any more."""
        self._drained = None
        self._lent = True
        self._cancel()

    def _await_drained(self) -> None:
        self.clear = False
        self._drain = SinkDrain(self._transport, self._emptied, self._lost)
        self._drain.start()

    def _cancel(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.cancel()

    def _emptied(self) -> None:
        self._drain = None
        self.clear = True
        if self._drained is not None:
            self._drained()

    def _lost(self) -> None:
        self._drain = None
