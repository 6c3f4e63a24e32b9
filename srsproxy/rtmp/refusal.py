"""What a client is told when it is not served."""

from __future__ import annotations

from twisted.python.failure import Failure

from srsproxy.errors import OriginRejected, PeerError, Refused, outcome_of
from srsproxy.outcome import Outcome
from srsproxy.rtmp.events import Action

_TEXTS = {
    Outcome.NO_ORIGIN: ("NetStream.Failed", "no origin server is available for this stream"),
    Outcome.ORIGIN_UNREACHABLE: ("NetStream.Failed", "the origin server cannot be reached"),
    Outcome.ORIGIN_LOST: ("NetStream.Failed", "the connection to the origin server was lost"),
    Outcome.TIMEOUT: ("NetStream.Failed", "the origin server did not answer in time"),
    Outcome.INTERNAL_ERROR: ("NetStream.Failed", "internal error of the proxy"),
}
"""What a client is told, by outcome: nothing that names an address or an origin."""


def refusal(error: BaseException | Failure, action: Action | None) -> tuple[str, str]:
    """Status code and description for a client: OBS and librtmp give up at these codes, ffmpeg prints the text."""
    bad_name = "NetStream.Play.StreamNotFound" if action is Action.PLAY else "NetStream.Publish.BadName"
    match error.value if isinstance(error, Failure) else error:
        case OriginRejected(code=code):
            return code or bad_name, "the origin server refused the stream: it is in use, or not allowed"
        case PeerError() | Refused() as told:
            return bad_name, str(told)
    return _TEXTS[outcome_of(error)]
