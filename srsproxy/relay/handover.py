"""Taking a connection's socket over from its Twisted transport, and giving it back.

The transport keeps its descriptor all along, so that it stays the one that closes it: a duplicate of the descriptor
would not survive the ``shutdown`` that Twisted does on closing either, and would cost a descriptor per connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from srsproxy.interfaces import IStreamConnection


@implementer(IPullProducer)
class SinkDrain:
    """Waits until all that was written to a transport has reached the kernel.

    A transport asks a pull producer for more exactly when its write buffer has run empty, so the second time it asks,
    all that was written before :meth:`start` is in the kernel's hands.
    """

    __slots__ = ("_asked", "_drained", "_lost", "_sink")

    def __init__(self, sink: IStreamConnection, drained: Callable[[], object], lost: Callable[[], object]) -> None:
        """
        :param drained: called once, never from within :meth:`start`, when the buffer is empty.
        :param lost: called instead when the connection is or goes away; possibly from within :meth:`start`.
        """
        self._sink = sink
        self._drained = drained
        self._lost = lost
        self._asked = False

    def start(self) -> None:
        """Begin to wait; the transport must have no producer."""
        self._sink.registerProducer(self, False)

    def cancel(self) -> None:
        """Stop waiting: neither callback is called any more."""
        self._sink.unregisterProducer()

    def resumeProducing(self) -> None:
        """The transport asks for data: first on registration, then whenever its buffer has run empty."""
        if not self._asked:
            self._asked = True
            # The buffer may be empty already; writing nothing makes the transport look at it.
            self._sink.writeSequence([b""])
        else:
            self._sink.unregisterProducer()
            self._drained()

    def stopProducing(self) -> None:
        """The transport's connection is gone."""
        self._lost()
