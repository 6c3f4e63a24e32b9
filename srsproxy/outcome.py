"""The one named way in which a session ended; counted per protocol, so that a dashboard can be built from it alone."""

from enum import Enum


class Outcome(Enum):
    """How a session ended; exactly one per session."""

    FINISHED = "finished"
    """Both peers ended it in an orderly way."""

    CLIENT_LOST = "client-lost"
    """The client's connection broke (reset, unreachable, stalled beyond its deadline)."""

    ORIGIN_LOST = "origin-lost"
    """The origin's connection broke or ended while the client still wanted it."""

    REJECTED_BY_ORIGIN = "rejected-by-origin"
    """The origin was reached and refused this stream (busy, hook, security)."""

    NO_ORIGIN = "no-origin"
    """No origin is registered that serves this protocol."""

    ORIGIN_UNREACHABLE = "origin-unreachable"
    """Every origin that was tried refused the connection or did not answer it."""

    BAD_REQUEST = "bad-request"
    """The client broke its protocol or went over one of its limits."""

    TIMEOUT = "timeout"
    """A deadline passed: handshake, identification or the origin's answer."""

    REFUSED = "refused"
    """The proxy's own policy refused it: too many connections, shutting down."""

    SHUTDOWN = "shutdown"
    """Still running when the proxy's grace period ended."""

    INTERNAL_ERROR = "internal-error"
    """A bug of ours."""
