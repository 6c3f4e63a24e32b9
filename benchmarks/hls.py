"""HLS: an origin of files, what a player learns from its playlists, and wrk, which asks for that at full speed."""

from __future__ import annotations

import http.client
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from benchmarks.processes import HERE, Address, BenchError, find_tool, run_tool
from benchmarks.relays import nginx

CONNECTIONS = 32
"""Kept by wrk: each has one request at a time."""
_SEGMENTS = 5
_FIRST_SEGMENT = 567
_MASTER_PATH = "/live/bench.m3u8"
_CONTEXT = "hls_ctx=5u529f2i"
"""What SRS tells the players of a stream apart by; it is on every URI of theirs."""
_TIMEOUT = 5.0
_MAX_FAILED = 0.001
"""The share of requests that may fail: connections may end, but a relay that fails more often did other work."""


@contextmanager
def hls_origin(directory: Path, segment_bytes: int) -> Iterator[Address]:
    """nginx with the files of one stream, as SRS writes them: a master playlist, a media playlist, and segments."""
    with tempfile.TemporaryDirectory(prefix="hls-", dir=directory) as root:
        live = Path(root, "live")
        live.mkdir()
        live.joinpath("master.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n{_MASTER_PATH}?{_CONTEXT}\n"
        )
        media = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:{_FIRST_SEGMENT}\n#EXT-X-TARGETDURATION:3\n"
        for number in range(_FIRST_SEGMENT, _FIRST_SEGMENT + _SEGMENTS):
            media += f"#EXTINF:2.000, no desc\nbench-{number}.ts?{_CONTEXT}\n"
            live.joinpath(f"bench-{number}.ts").write_bytes(bytes(segment_bytes))
        live.joinpath("bench.m3u8").write_text(media)
        with nginx(find_tool("nginx"), "nginx-hls.conf", directory, root=root) as origin:
            yield origin.address


@dataclass(frozen=True, slots=True)
class Playable:
    """What a player asks for while it plays: paths with their queries."""

    playlist: str
    segments: list[str]


def playable(address: Address, segment_bytes: int) -> Playable:
    """Begin to play as players do: the URIs in the playlists are as the relay wrote them.

    :raises BenchError: one of the requests failed, or a segment is not as long as it should be.
    """
    (playlist,) = _uris(address, _MASTER_PATH)
    segments = _uris(address, playlist)
    if len(segments) != _SEGMENTS:
        raise BenchError(f"{playlist} has {len(segments)} segments, not {_SEGMENTS}")
    for segment in segments:
        size = len(_get(address, segment))
        if size != segment_bytes:
            raise BenchError(f"{segment} has {size} bytes, not {segment_bytes}")
    return Playable(playlist, segments)


def _uris(address: Address, path: str) -> list[str]:
    lines = _get(address, path).decode().splitlines()
    found = [urlsplit(urljoin(path, line)) for line in lines if line and not line.startswith("#")]
    return [uri._replace(scheme="", netloc="").geturl() for uri in found]


def _get(address: Address, path: str) -> bytes:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"GET {path} at {address} failed: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise BenchError(f"GET {path} at {address} failed: {response.status} {response.reason}")
    return body


@dataclass(frozen=True, slots=True)
class Answered:
    """What wrk has seen."""

    requests: int
    seconds: float


def run_wrk(address: Address, paths: Sequence[str], seconds: float) -> Answered:
    """Ask for the paths in turn for that time, as fast as they are answered.

    :raises BenchError: wrk is not installed, or too many requests failed.
    """
    options = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds:.0f}s", "-s", str(HERE / "hls.lua")]
    told = json.loads(run_tool([find_tool("wrk"), *options, f"http://{address}", "--", *paths]).splitlines()[-1])
    failed = told["refused"] + told["broken"]
    if failed > _MAX_FAILED * told["requests"]:
        raise BenchError(f"of {told['requests']} requests {told['refused']} were refused, {told['broken']} broke off")
    return Answered(told["requests"] - told["refused"], told["seconds"])
