"""Pipes to splice through: shared by all, owned by one relayed direction only while it holds something."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final

PIPE_CAPACITY: Final = 256 * 1024
"""Bytes asked for per pipe, and most that one splice moves: more per system call saves nothing measurable. The kernel
gives less to an unprivileged process that has many pipes."""

MAX_SPARE_PIPES: Final = 16
"""Empty pipes kept open, so that sinks that stall and recover in turn do not open and close pipes all the time."""


class Pipe:
    """Both ends of one non-blocking pipe."""

    __slots__ = ("read_end", "write_end")

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Over the user's limit for pipes, it stays at the size that the kernel gave it.
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_CAPACITY)

    def read(self, size: int) -> bytes:
        """The ``size`` bytes that the pipe holds; Linux gives all that there is at once."""
        return os.read(self.read_end, size)

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class PipePool:
    """Empty pipes. A splice borrows one with :meth:`borrow`, and takes it away only if it leaves something in it."""

    __slots__ = ("spare",)

    def __init__(self) -> None:
        self.spare: list[Pipe] = []

    def borrow(self) -> Pipe | None:
        """An empty pipe that stays in the pool, or ``None`` when the process is out of descriptors."""
        if not self.spare:
            try:
                self.spare.append(Pipe())
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                return None
        return self.spare[-1]

    def take(self) -> Pipe:
        """The pipe that :meth:`borrow` gave last now belongs to the caller, because it is not empty any more."""
        return self.spare.pop()

    def give_back(self, pipe: Pipe) -> None:
        """The caller has emptied the pipe that it had taken."""
        if len(self.spare) < MAX_SPARE_PIPES:
            self.spare.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close the spare pipes; the pool stays usable."""
        while self.spare:
            self.spare.pop().close()
