"""What a balancer does in Redis, each in one step that nothing comes between: Lua scripts, and the calls of them.

They run in Redis 5 or newer, and not in Redis Cluster, since names of keys are derived inside from what Redis holds.
What a caller gives reaches a script as KEYS and ARGV only, never as part of its text. What is found under a key but is
not what belongs there, be it of another type, counts as absent, and is replaced when something is written.

The *record* of an origin lives for a while after each of its heartbeats. A *pick* is the name of a record, and counts
only while that record lives. Each pick that is set or renewed here is counted among the streams of its origin until it
expires. All times are of Redis's clock; a lifetime starts when the script runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from srsproxy.balancer.model import MAX_ID_LENGTH, MAX_URL_LENGTH, HlsSession, Origin, WebRtcSession
from srsproxy.balancer.redis.records import Keys, decode_origin, encode_go_rtc, encode_hls, encode_origin, encode_webrtc
from srsproxy.errors import PeerError

MAX_PICKS_PER_CALL: Final = 500
"""Picks that one call renews or restores; Redis does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. ``sha`` is what EVALSHA calls it by."""

    name: str
    text: str = field(repr=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """A script with its KEYS and ARGV."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str]


_VALUES: Final = """
-- The text under a key; nil if there is none.
local function get(key)
    local value = redis.pcall('GET', key)
    if type(value) == 'string' then return value end
end

-- What a text says in JSON, if that is an object or an array; else nil.
local function decoded(text)
    local fine, value = pcall(cjson.decode, text)
    if fine and type(value) == 'table' then return value end
end
"""

_ORIGINS: Final = (
    _VALUES
    + """
-- What stands before the id of an origin: in the name of its record, and in the name of the set of its streams.
local records, sets = ARGV[1], ARGV[2]

local function is_record(name)
    return type(name) == 'string' and #name > #records and string.sub(name, 1, #records) == records
end

local function streams_of(record)
    return sets .. string.sub(record, #records + 1)
end

-- In ms since 1970.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text_of(ms)
    return string.format('%.0f', ms)
end
"""
)

_PICKS: Final = (
    _ORIGINS
    + """
local lifetime = ARGV[3]

local function lives(record)
    return is_record(record) and decoded(get(record)) ~= nil
end

-- Counts a pick among the streams of its origin, without those that have expired.
local function count(pick, record)
    local set = streams_of(record)
    local removed = redis.pcall('ZREMRANGEBYSCORE', set, '-inf', text_of(now))
    if type(removed) == 'table' then redis.call('DEL', set) end
    redis.call('ZADD', set, text_of(now + lifetime), pick)
    redis.call('PEXPIRE', set, lifetime)
end

-- Go proxies give picks no end, and never renew one: so that is left as it is.
local function renew(pick)
    if redis.call('PTTL', pick) ~= -1 then redis.call('PEXPIRE', pick, lifetime) end
end

-- Sets a pick, unless it counts and is not the expected one; either way it is renewed. Returns the pick in force; false
-- if nothing is, because the chosen origin is not there.
local function claim(pick, chosen, expected)
    local current = get(pick)
    if current ~= expected and lives(current) then chosen = current end
    if not lives(chosen) then return false end
    if current ~= chosen and is_record(current) then redis.pcall('ZREM', streams_of(current), pick) end
    if current == chosen then renew(pick) else redis.call('SET', pick, chosen, 'PX', lifetime) end
    count(pick, chosen)
    return chosen
end
"""
)

REGISTER: Final = Script(
    "REGISTER",
    _ORIGINS
    + """
local text, lifetime, server, limit, restoring = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7] == 'restore'
local record, all = KEYS[1], KEYS[2]

-- Whether Redis knows of a later heartbeat than the one that is restored.
local function is_newer(name)
    if not restoring or not decoded(get(name)) then return false end
    local left = redis.call('PTTL', name)
    return left == -1 or left >= tonumber(lifetime)
end

-- Whether this is the record of another start of the same server. Names that do not begin alike need no look at the
-- record; those that do may still be of two servers, such as 'a' and 'a-b'.
local starts = records .. server .. '-'
local function is_restarted(name)
    local other = string.sub(name, 1, #starts) == starts and decoded(get(name))
    return other and other.server_id == server
end

local old = get(all)
local listed, restarted, seen = {}, {}, {}
for _, name in ipairs(old and decoded(old) or {}) do
    if is_record(name) and not seen[name] then
        seen[name] = true
        if name == record then
            table.insert(listed, name)
        elseif is_restarted(name) then
            if is_newer(name) then return 0 end
            table.insert(restarted, name)
        elseif redis.call('EXISTS', name) == 1 then
            table.insert(listed, name)
        end
    end
end
if not seen[record] then
    if #listed >= limit then return 0 end
    table.insert(listed, record)
end

for _, name in ipairs(restarted) do redis.call('DEL', name, streams_of(name)) end
if not is_newer(record) then redis.call('SET', record, text, 'PX', lifetime) end
local new = cjson.encode(listed)
if new ~= old then redis.call('SET', all, new) end
return 1
""",
)

ORIGINS: Final = Script(
    "ORIGINS",
    _ORIGINS
    + """
local found, seen = {}, {}
local list = get(KEYS[1])
for _, name in ipairs(list and decoded(list) or {}) do
    if is_record(name) and not seen[name] then
        seen[name] = true
        local text = get(name)
        if text then
            local streams = redis.pcall('ZCOUNT', streams_of(name), text_of(now), '+inf')
            table.insert(found, name)
            table.insert(found, text)
            table.insert(found, redis.call('PTTL', name))
            table.insert(found, type(streams) == 'number' and streams or 0)
        end
    end
end
return found
""",
)

LOOK_UP: Final = Script(
    "LOOK_UP",
    _PICKS
    + """
local record = get(KEYS[1])
if not lives(record) then return nil end
renew(KEYS[1])
count(KEYS[1], record)
return record
""",
)

CLAIM: Final = Script(
    "CLAIM",
    _PICKS
    + """
return claim(KEYS[1], ARGV[4], ARGV[5])
""",
)

REFRESH: Final = Script(
    "REFRESH",
    _PICKS
    + """
for _, pick in ipairs(KEYS) do
    local record = get(pick)
    -- One without a record may get it back: an origin with running sessions is only late with its heartbeat.
    if is_record(record) then
        renew(pick)
        count(pick, record)
    end
end
""",
)

RESTORE_PICKS: Final = Script(
    "RESTORE_PICKS",
    _PICKS
    + """
local in_force = {}
for index, pick in ipairs(KEYS) do in_force[index] = claim(pick, ARGV[3 + index], '') or '' end
return in_force
""",
)

SAVE_HLS: Final = Script(
    "SAVE_HLS",
    _VALUES
    + """
local text, lifetime, stream, ids = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local longest_id, longest_url = tonumber(ARGV[5]), tonumber(ARGV[6])

-- The stream and the id in the record under a key; nil if it is none that a proxy could use.
local function record(key)
    local value = get(key)
    local found = value and decoded(value)
    if not found then return end
    local id, url = found.spbhid, found.full_url
    if type(found.stream_url) ~= 'string' or type(id) ~= 'string' or type(url) ~= 'string' then return end
    if #id > longest_id or not string.find(id, '^[!-~]+$') or #url > longest_url or url == '' then return end
    return value, found.stream_url, id
end

-- Both keys have the same record and the same lifetime, unless a Go proxy has given the stream another id since.
local function save(value, by_id)
    redis.call('SET', KEYS[1], value, 'PX', lifetime)
    redis.call('SET', by_id, value, 'PX', lifetime)
    return value
end

local value, of, id = record(KEYS[1])
if of == stream then
    local _, taken_by = record(ids .. id)
    if not taken_by or taken_by == stream then return save(value, ids .. id) end
end
local _, taken_by = record(KEYS[2])
if taken_by and taken_by ~= stream then return nil end
return save(text, KEYS[2])
""",
)

LOAD_HLS: Final = Script(
    "LOAD_HLS",
    _VALUES
    + """
local lifetime, by_stream = ARGV[1], ARGV[2]
local text = get(KEYS[1])
local found = text and decoded(text)
if not found or type(found.stream_url) ~= 'string' then return nil end
redis.call('PEXPIRE', KEYS[1], lifetime)
redis.call('PEXPIRE', by_stream .. found.stream_url, lifetime)
return text
""",
)

SAVE_WEBRTC: Final = Script(
    "SAVE_WEBRTC",
    _VALUES
    + """
local text, go_text, lifetime, restoring = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == 'restore'
if restoring and get(KEYS[1]) then return end
redis.call('SET', KEYS[1], text, 'PX', lifetime)
redis.call('SET', KEYS[2], go_text, 'PX', lifetime)
redis.call('SET', KEYS[3], go_text, 'PX', lifetime)
""",
)

LOAD_WEBRTC: Final = Script(
    "LOAD_WEBRTC",
    _VALUES
    + """
local lifetime = ARGV[1]
local text = get(KEYS[1])
if text then
    redis.call('PEXPIRE', KEYS[1], lifetime)
    redis.call('PEXPIRE', KEYS[2], lifetime)
end
return text
""",
)


class Registered(NamedTuple):
    """An origin in Redis. ``lifetime`` is what is left of it, in seconds; ``None`` if it does not end."""

    origin: Origin
    lifetime: float | None
    streams: int


def _ms(seconds: float) -> str:
    # Redis takes no lifetime of 0.
    return str(max(1, round(seconds * 1000)))


def _names(keys: Keys) -> list[str]:
    """What the scripts of origins and picks derive names of keys from."""
    return [keys.server(""), keys.streams("")]


def register(
    keys: Keys, origin: Origin, update_at: datetime, lifetime: float, limit: int, restore: bool = False
) -> Call:
    """A heartbeat. Other starts of the same ``server`` are restarted ones: their records are gone, and so are the picks
    on them. The list of origins loses those whose record has gone.

    The result is 1; or 0 if nothing was done, because ``limit`` origins are listed already, or because a later start of
    the server is known than the one that is to be restored.

    :param update_at: its time; aware of its zone.
    :param lifetime: seconds that the record lives from now on.
    :param restore: the heartbeat is an old one, with so much left of its lifetime: whatever lives longer is newer.
    """
    args = [*_names(keys), encode_origin(origin, update_at), _ms(lifetime), origin.server, str(limit)]
    return Call(REGISTER, [keys.server(origin.id), keys.all_servers], [*args, "restore" if restore else ""])


def origins(keys: Keys) -> Call:
    """The listed origins whose record lives; :func:`parse_origins` reads the result."""
    return Call(ORIGINS, [keys.all_servers], _names(keys))


def parse_origins(keys: Keys, result: Sequence[str | int]) -> list[Registered]:
    """The result of :func:`origins`, without records that nobody can use, or that stand under a wrong name.

    It has name, record, ms left (-1: forever) and number of streams of each in turn.
    """
    registered = []
    for name, text, left, streams in zip(*[iter(result)] * 4, strict=True):
        try:
            origin = decode_origin(str(text))
        except PeerError:
            continue
        if keys.server(origin.id) == name:
            registered.append(Registered(origin, None if int(left) < 0 else int(left) / 1000, int(streams)))
    return registered


def look_up(keys: Keys, key: str, lifetime: float) -> Call:
    """The pick of a stream, which is renewed unless it has no end, as those of Go proxies; nil if it has none that
    counts. :meth:`Keys.origin_id` tells the origin."""
    return Call(LOOK_UP, [keys.pick(key)], [*_names(keys), _ms(lifetime)])


def claim(keys: Keys, key: str, chosen: str, expected: str | None, lifetime: float) -> Call:
    """Set the pick of a stream to an origin, if it has none that counts or has the expected one. The result is the pick
    in force; it is renewed, whichever it is, unless it has no end. It is nil if the chosen origin has no record.

    :param chosen: the id of the origin.
    :param expected: the id of the origin that the stream is to be moved away from.
    """
    moved_from = "" if expected is None else keys.server(expected)
    return Call(CLAIM, [keys.pick(key)], [*_names(keys), _ms(lifetime), keys.server(chosen), moved_from])


def refresh(keys: Keys, streams: Iterable[str], lifetime: float) -> Iterator[Call]:
    """Renew the picks of these streams, if they have any; there is no result."""
    args = [*_names(keys), _ms(lifetime)]
    for batch in _batches(streams):
        yield Call(REFRESH, [keys.pick(key) for key in batch], args)


def restore_picks(keys: Keys, picks: Mapping[str, str], lifetime: float) -> Iterator[Call]:
    """Set picks, ids of origins by streams, where there are none that count. The result of each call is a list of the
    picks in force, in order; empty where there is none, because the origin has no record."""
    for batch in _batches(picks):
        args = [*_names(keys), _ms(lifetime), *(keys.server(picks[key]) for key in batch)]
        yield Call(RESTORE_PICKS, [keys.pick(key) for key in batch], args)


def _batches(streams: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(streams)
    while batch := list(islice(rest, MAX_PICKS_PER_CALL)):
        yield batch


def save_hls(keys: Keys, session: HlsSession, lifetime: float) -> Call:
    """Keep this record of a stream, unless it has one: the result is the record in force, which is renewed. It is nil
    if the id belongs to another stream. Restoring a record is the same."""
    args = [encode_hls(session), _ms(lifetime), session.key, keys.spbhid(""), str(MAX_ID_LENGTH), str(MAX_URL_LENGTH)]
    return Call(SAVE_HLS, [keys.hls(session.key), keys.spbhid(session.spbhid)], args)


def load_hls(keys: Keys, spbhid: str, lifetime: float) -> Call:
    """The record with this id, which is renewed; or nil."""
    return Call(LOAD_HLS, [keys.spbhid(spbhid)], [_ms(lifetime), keys.hls("")])


def save_webrtc(keys: Keys, session: WebRtcSession, lifetime: float, restore: bool = False) -> Call:
    """Keep the record of a session, for ourselves and for Go proxies; there is no result.

    :param restore: only if there is none.
    """
    args = [encode_webrtc(session), encode_go_rtc(session), _ms(lifetime), "restore" if restore else ""]
    return Call(SAVE_WEBRTC, [keys.webrtc(session.ufrag), keys.rtc(session.key), keys.ufrag(session.ufrag)], args)


def load_webrtc(keys: Keys, ufrag: str, lifetime: float) -> Call:
    """Our record of the session with this STUN username, which is renewed, as is the Go proxy's; or nil."""
    return Call(LOAD_WEBRTC, [keys.webrtc(ufrag), keys.ufrag(ufrag)], [_ms(lifetime)])
