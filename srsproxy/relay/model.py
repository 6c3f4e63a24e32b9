"""What the data plane tells its observers."""

from enum import Enum


class EndReason(Enum):
    """How one relayed direction ended."""

    EOF = "eof"
    """The source's peer closed its write side, and the sink has been given all bytes. Nothing was closed here."""

    SOURCE_LOST = "source-lost"
    """The source's connection broke."""

    SINK_LOST = "sink-lost"
    """The sink's connection broke; bytes may be undelivered."""

    COMPLETE = "complete"
    """The boundary was reached: the sink has been given the whole message, and both connections live on."""

    MALFORMED = "malformed"
    """The source sent what its boundary does not accept; none of that was passed on."""
