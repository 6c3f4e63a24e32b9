"""ffmpeg as a player: it reads a stream of the demo origin as FLV, and makes something else of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from srsproxy.demo.child import Child, Children, find_program
from srsproxy.demo.live import FlvPlayer

# A second of the stream is enough to see what is in it; FLV of audio only would be looked at for much longer.
_INPUT: Final = ("-hide_banner", "-loglevel", "error", "-analyzeduration", "1000000", "-f", "flv", "-i", "pipe:0")

_log = Logger()


class Ffmpeg(FlvPlayer):
    """Feeds a stream to an ffmpeg of its own, which is started by the first frame and ends with the publish.

    Frames wait here while ffmpeg does not read, because nobody takes its output.

    :param options: what follows ffmpeg's input, on its command line.
    :param take_output: gets what it writes to its standard output.
    :param ended: called once: when it has ended, or the publish before it was started.
    :ivar folder: where it is going to work; this process's own folder if not set.
    :ivar child: ``None`` before the first frame.
    :ivar over: it takes no more frames: its stream has ended, or it has.
    :raises NoSuchProgram: it is not installed.
    """

    def __init__(
        self,
        children: Children,
        options: Sequence[str],
        take_output: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self._children = children
        self._command = (find_program("ffmpeg"), *_INPUT, *options, "pipe:1")
        self._take_output = take_output
        self._ended = ended
        self.folder: Path | None = None
        self.child: Child | None = None
        self.over = False

    def begin(self) -> None:
        self.child = self._children.start(self._command, self.folder, self._take_output)
        self.child.transport.registerProducer(self, True)
        self.child.ended().addCallback(self._child_ended)

    def write(self, data: bytes) -> None:
        if self.child is not None and not self.over:
            self.child.transport.write(data)

    def publish_ended(self) -> None:
        """ffmpeg is given time to write the rest."""
        super().publish_ended()
        if self.over:
            return
        self.over = True
        self.stopProducing()
        if self.child is None:
            self._ended()
        else:
            self.child.transport.unregisterProducer()
            self.child.transport.closeStdin()

    def kill(self) -> None:
        """Nobody wants its output any more."""
        self.over = True
        if self.child is not None:
            self.child.kill()

    def _child_ended(self, status: int) -> None:
        if not self.over:
            self.over = True
            errors = self.child.errors if self.child is not None else ""
            _log.warn("ffmpeg ended with status {status}: {errors}", status=status, errors=errors)
        self._ended()
