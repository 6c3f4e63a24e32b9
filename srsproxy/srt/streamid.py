"""What an SRT stream id means: which stream, and whether it is published or played.

SRS reads the syntax of SRT Access Control (draft-sharabayko-srt, appendix B) in a way of its own, which is the one that
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from srsproxy.errors import PeerError
from srsproxy.streamkey import StreamKey, from_srt, split_params

Action = Literal["publish", "play"]

_ACCESS_CONTROL: Final = "#!::"
"""How a stream id of keys and values begins; any other is a resource."""

_DEFAULT: Final = "#!::r=live/livestream,m=publish"
"""What SRS takes for the stream id of a caller that has none."""

_ACTIONS: Final[dict[str, Action]] = {"publish": "publish", "request": "play"}
"""The values of ``m``."""

_TOLD: Final = 200
"""Characters of a stream id that an error tells."""


class BadMode(PeerError):
    """A stream id whose ``m`` is neither ``publish`` nor ``request``."""


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """What an SRT caller wants."""

    key: StreamKey
    action: Action


def read_stream_id(stream_id: str | None, vhosts: frozenset[str]) -> StreamTarget:
    """What a stream id means.

    ``#!::h=host,r=app/stream,m=publish`` is the usual form. ``h`` may also be the resource, or the vhost, a slash and
    the resource; ``r`` goes before. Without ``m``, the stream is played. A stream id of another form is a resource that
    is played.

    :param stream_id: ``None`` if the caller has none.
    :param vhosts: as for :func:`~srsproxy.streamkey.fold_vhost`.
    :raises BadMode: SRS does not know the mode.
    :raises PeerError: no stream is named.
    """
    stream_id = stream_id or _DEFAULT
    if not stream_id.startswith(_ACCESS_CONTROL):
        return StreamTarget(from_srt("", stream_id, vhosts), "play")

    params = split_params(stream_id.removeprefix(_ACCESS_CONTROL).replace("?", ","))
    mode = params.pop("m", "request")
    action = _ACTIONS.get(mode.lower())
    if action is None:
        raise BadMode(f"the mode {mode[:_TOLD]!r} of the stream id is neither publish nor request")

    vhost = resource = ""
    query = []
    for name, value in sorted(params.items()):
        if name == "h":
            host, slash, rest = value.partition("/")
            if slash and "/" not in rest:
                resource = value
            else:
                vhost, resource = host, rest
                query.append(f"vhost={host}")
        elif name == "r":
            resource = value
        else:
            query.append(f"{name}={value}")
    if not resource:
        raise PeerError(f"the stream id {stream_id[:_TOLD]!r} names no stream")
    if query:
        # It matters to a resource that has no slash, if one of these has.
        resource += "?" + "&".join(query)
    return StreamTarget(from_srt(vhost, resource, vhosts), action)
