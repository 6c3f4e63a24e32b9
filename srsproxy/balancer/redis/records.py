"""Names of keys and texts of values in Redis: the Go proxy's, which may use the same Redis, and a few of our own.

Everything is text. Names of streams are bytes on the wire, so whoever sends these texts encodes them as UTF-8 with
surrogate escapes, and decodes what comes back likewise. What is in Redis counts as a peer's: it may be anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession, parse_heartbeat
from srsproxy.errors import PeerError

_MAX_DECODED: Final = 2_000
"""Records of origins that are kept as they were read, because all proxies look at all of them each second: twice as
many as there can be."""

MAX_RECORD_LENGTH: Final = 65_536
"""Characters of a record; ours have a few hundred, and those with the longest fields a few thousand."""

_ACTIONS: Final = ("publish", "play")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys. Behind ``srs-proxy-`` are the Go proxy's, behind ``srsproxy-`` our own, which it ignores.

    :param prefix: stands before each name and a colon, as ``PROXY_REDIS_KEY_PREFIX`` of newer Go proxies does; empty
        for names without, which older ones have.
    """

    prefix: str = ""

    def _named(self, name: str) -> str:
        return f"{self.prefix}:{name}" if self.prefix else name

    def server(self, origin_id: str) -> str:
        """The record of an origin. This name is also what the list of origins and the picks hold."""
        return self._named(f"srs-proxy-server:{origin_id}")

    @property
    def all_servers(self) -> str:
        """The list of the names of all records of origins, a JSON array."""
        return self._named("srs-proxy-all-servers")

    def pick(self, key: str) -> str:
        """Which origin a stream has: the name of its record."""
        return self._named(f"srs-proxy-url:{key}")

    def hls(self, key: str) -> str:
        """The HLS record of a stream."""
        return self._named(f"srs-proxy-hls:{key}")

    def spbhid(self, spbhid: str) -> str:
        """The same record, by the id that is in the URIs of playlists."""
        return self._named(f"srs-proxy-spbhid:{spbhid}")

    def rtc(self, key: str) -> str:
        """The Go proxy's latest WebRTC record of a stream; nobody reads it."""
        return self._named(f"srs-proxy-rtc:{key}")

    def ufrag(self, ufrag: str) -> str:
        """The Go proxy's WebRTC record by the STUN username ``<origin's>:<client's>``."""
        return self._named(f"srs-proxy-ufrag:{ufrag}")

    def streams(self, origin_id: str) -> str:
        """The streams of an origin, a sorted set: names of picks by the time at which they expire, in ms since 1970."""
        return self._named(f"srsproxy-streams:{origin_id}")

    def webrtc(self, ufrag: str) -> str:
        """Our own WebRTC record, with what it takes to serve the client at another proxy."""
        return self._named(f"srsproxy-webrtc:{ufrag}")

    @property
    def secret(self) -> str:
        """What the tokens of all proxies are made with."""
        return self._named("srsproxy-secret")

    def origin_id(self, pick: str) -> str | None:
        """The id of the origin that a pick names; ``None`` if this is no pick of ours nor of a Go proxy's."""
        start = self.server("")
        return pick[len(start) :] or None if pick.startswith(start) else None


def encode_origin(origin: Origin, update_at: datetime) -> str:
    """The record of an origin.

    :param update_at: time of its heartbeat; aware of its zone.
    """
    fields: dict[str, object] = {
        "ip": origin.ip,
        "device_id": origin.device_id,
        "server_id": origin.server,
        "service_id": origin.service,
        "pid": origin.pid,
        **{surface.value: origin.listeners(surface) for surface in Surface},
        "update_at": update_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    return _encode({name: value for name, value in fields.items() if value})


@lru_cache(maxsize=_MAX_DECODED)
def decode_origin(text: str) -> Origin:
    """The origin in a record. How old it is tells the lifetime of its key, whatever the clock of the writer said.

    :raises PeerError: it is none.
    """
    fields = _decode(text)
    return parse_heartbeat({**fields, "server": fields.get("server_id"), "service": fields.get("service_id")})


def encode_hls(session: HlsSession) -> str:
    """The record of an HLS session, for both of its keys."""
    return _encode({"spbhid": session.spbhid, "stream_url": session.key, "full_url": session.full_url})


def decode_hls(text: str) -> HlsSession:
    """
    :raises PeerError: the text is no record of an HLS session.
    """
    fields = _decode(text)
    return HlsSession(_text(fields, "spbhid"), _text(fields, "stream_url"), _text(fields, "full_url"))


def encode_webrtc(session: WebRtcSession) -> str:
    """Our own record of a WebRTC session: the Go proxy's fields, and more."""
    return _encode(
        {
            "stream_url": session.key,
            "ufrag": session.ufrag,
            "server": session.server,
            "ice_pwd": session.ice_pwd,
            "action": session.action,
        }
    )


def decode_webrtc(text: str) -> WebRtcSession:
    """
    :raises PeerError: the text is no record of ours of a WebRTC session.
    """
    fields = _decode(text)
    action = _text(fields, "action")
    if action not in _ACTIONS:
        raise PeerError(f"action: {action[:20]!r} is not {' or '.join(_ACTIONS)}")
    return WebRtcSession(
        key=_text(fields, "stream_url"),
        ufrag=_text(fields, "ufrag"),
        server=_text(fields, "server"),
        ice_pwd=_text(fields, "ice_pwd"),
        action=action,
    )


def encode_go_rtc(session: WebRtcSession) -> str:
    """The Go proxy's record of a WebRTC session."""
    return _encode({"stream_url": session.key, "ufrag": session.ufrag})


def _encode(fields: dict[str, object]) -> str:
    # Not escaped: surrogate escapes become the bytes that they stand for, which Redis's own JSON parser takes.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _decode(text: str) -> dict[str, Any]:
    """
    :raises PeerError: the text is no JSON object, or too long to be a record.
    """
    if len(text) > MAX_RECORD_LENGTH:
        raise PeerError(f"the record is longer than {MAX_RECORD_LENGTH} characters")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PeerError("the record is not JSON") from error
    if not isinstance(fields, dict):
        raise PeerError("the record is no JSON object")
    return fields


def _text(fields: dict[str, Any], name: str) -> str:
    """A field that must be there."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise PeerError(f"{name}: missing, or no text")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        # It could not be sent back to Redis as part of a key.
        raise PeerError(f"{name}: has characters that are none") from error
    return value
