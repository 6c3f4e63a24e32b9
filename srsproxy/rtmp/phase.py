"""What an RTMP session is doing.

At any time each direction of the client's connection has one reader and one writer, by phase:

=========== ===================================== ==========================================================
phase       client to origin                      origin to client
=========== ===================================== ==========================================================
NAMING      parsed here                           answered here
ROUTING     waits in the kernel                   nothing is said
STARTING    parsed here, then written             parsed by the upstream, then written
RUNNING     publisher: relayed raw, once its      publisher: the same
            media has begun; player: the same     player: relayed raw
SWITCHING   waits in the kernel                   relayed raw to its end
CLIENT_DONE ended                                 parsed by the upstream, then written
LINGERING   discarded                             an error status was the last
=========== ===================================== ==========================================================

A stream that is released leads back to NAMING: a publisher's at once, because its origin answers in whole messages; a
player's by way of SWITCHING, because only the end of its origin's bytes is sure to be a message boundary.
"""

from enum import Enum, auto


class Phase(Enum):
    """See the module's text."""

    NAMING = auto()
    ROUTING = auto()
    STARTING = auto()
    RUNNING = auto()
    SWITCHING = auto()
    CLIENT_DONE = auto()
    LINGERING = auto()
