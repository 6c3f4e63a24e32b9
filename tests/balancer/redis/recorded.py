"""What the Go proxy 1.5.0 wrote to Redis."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from tests.recorded import CAPTURES


class Entry(NamedTuple):
    """A value, and how many ms it lives; -1 for ever."""

    value: str
    left: int


RECORDED: Final = {
    key: Entry(entry["value"], entry["ttl_ms"])
    for key, entry in json.loads((CAPTURES / "redis_go_proxy.json").read_text()).items()
}
"""By key: three origins, five streams (one name has other letters than ASCII, one is not UTF-8), HLS for each with a
few refreshes of the playlist, one WebRTC session."""
