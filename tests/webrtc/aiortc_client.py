"""A WebRTC client that publishes pictures which a player can check, or plays and checks them. Run it as a program::

    python -m tests.webrtc.aiortc_client publish 'http://127.0.0.1:11985/rtc/v1/whip/?app=live&stream=s'
    python -m tests.webrtc.aiortc_client play 'http://127.0.0.1:11985/rtc/v1/whep/?app=live&stream=s' --frames 30

``webrtc://127.0.0.1:11985/live/s`` instead goes by SRS's JSON API. A publisher runs until SIGTERM, a player also until
it has seen that many pictures; it ends with 1 if it has not. What happens is told in lines of JSON on standard output;
each has a member ``event``:

``answer``
    ``status``, ``location`` and the lines of ``candidates`` of the answer.
``refused``
    There is no such answer, but ``status`` and ``body``, or an ``error`` instead of them.
``connecting``, ``connected``, ``closed``, ``failed``
    What aiortc says of the connection.
``frames``
    ``video`` and ``audio`` frames were decoded so far; every :data:`FRAME_RATE` of video.
``wrong``
    A picture is not of this stream, or stands still; ``seen`` and ``wanted`` are its chroma.
``deleted``
    ``status`` of the DELETE of the answer's Location.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import signal
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Final
from urllib.parse import parse_qs, urljoin, urlsplit

import aioice.ice
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from av.video.plane import VideoPlane

from tests.webrtc.aiortc_http import fetch

WIDTH: Final = 160
HEIGHT: Final = 120
FRAME_RATE: Final = 15

TOLERANCE: Final = 10
"""How far from what was encoded the luma or chroma of a plain picture may be after two codecs; chroma of two streams
differ by more, as a rule."""


def tell(event: str, **members: object) -> None:
    """Say what has happened."""
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


def loopback_only(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """What aioice is to gather candidates from; it would take all but loopback."""
    return ["127.0.0.1"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL asks for.

    :ivar api: where the offer goes to.
    :ivar stream: the last part of the stream's name, which gives the pictures their colour.
    :ivar streamurl: for the JSON API; None for WHIP and WHEP.
    """

    api: str
    stream: str
    streamurl: str | None

    @classmethod
    def parse(cls, url: str, action: str) -> Target:
        """That of ``url``; the JSON API has another path for each action."""
        parts = urlsplit(url)
        if parts.scheme == "webrtc":
            return cls(f"http://{parts.netloc}/rtc/v1/{action}/", parts.path.rpartition("/")[2], url)
        return cls(url, parse_qs(parts.query).get("stream", ["livestream"])[0], None)


def chroma(stream: str) -> tuple[int, int]:
    """U and V of the pictures of a stream."""
    number = zlib.crc32(stream.encode())
    return 48 + 20 * (number % 9), 48 + 20 * (number // 9 % 9)


class Pictures(MediaStreamTrack):
    """Plain pictures with the colour of their stream, each brighter than the one before until they begin anew."""

    kind = "video"

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._chroma = chroma(stream)
        self._count = 0
        self._begin = asyncio.get_running_loop().time()

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        await asyncio.sleep(self._begin + self._count / FRAME_RATE - asyncio.get_running_loop().time())
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        luma = 32 + 4 * self._count % 192
        for plane, level in zip(frame.planes, (luma, *self._chroma), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.pts, frame.time_base = self._count, Fraction(1, FRAME_RATE)
        self._count += 1
        return frame


def level(plane: VideoPlane) -> float:
    """The mean of the row in the middle."""
    begin = plane.height // 2 * plane.line_size
    return sum(bytes(plane)[begin : begin + plane.width]) / plane.width


class Viewer:
    """Counts what it is played, and looks at it.

    :ivar frames: how many frames of each kind were decoded.
    :ivar is_right: nothing has been wrong so far.
    """

    def __init__(self, stream: str, enough: int, ended: asyncio.Event) -> None:
        self.frames: Counter[str] = Counter()
        self.is_right = True
        self._wanted = chroma(stream)
        self._enough = enough
        self._ended = ended
        self._lumas: list[float] = []

    async def watch(self, track: MediaStreamTrack) -> None:
        """Take what comes until it ends."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.frames[track.kind] += 1
            if isinstance(frame, VideoFrame):
                self._look(frame)

    def _look(self, frame: VideoFrame) -> None:
        luma, *seen = (level(plane) for plane in frame.planes)
        self._lumas.append(luma)
        if self.frames["video"] % FRAME_RATE == 0:
            tell("frames", video=self.frames["video"], audio=self.frames["audio"])
            stands_still = max(self._lumas) - min(self._lumas) < TOLERANCE
            self._lumas.clear()
            if stands_still or any(abs(a - b) > TOLERANCE for a, b in zip(seen, self._wanted, strict=True)):
                tell("wrong", seen=seen, wanted=self._wanted, stands_still=stands_still)
                self.is_right = False
                self._ended.set()
        if self.has_seen_enough:
            self._ended.set()

    @property
    def has_seen_enough(self) -> bool:
        """Whether it has what it came for."""
        return self.frames["video"] >= self._enough and self.frames["audio"] > 0


async def signal_offer(target: Target, offer: str) -> tuple[str, str | None] | None:
    """The SDP of the answer, and where to delete the session; None if there is none."""
    body, content_type = offer, "application/sdp"
    if target.streamurl is not None:
        wanted = {"api": target.api, "streamurl": target.streamurl, "sdp": offer, "tid": "1", "clientip": None}
        body, content_type = json.dumps(wanted), "application/json"
    try:
        response = await fetch("POST", target.api, body, content_type)
    except (OSError, http.client.HTTPException) as error:
        tell("refused", error=repr(error))
        return None
    if target.streamurl is not None:
        answer = json.loads(response.body).get("sdp") if response.status == 200 else None
    else:
        answer = response.body if response.status == 201 else None
    if answer is None:
        tell("refused", status=response.status, body=response.body)
        return None
    location = response.headers.get("location")
    candidates = re.findall(r"^a=(candidate:.*?)\r?$", answer, re.MULTILINE)
    tell("answer", status=response.status, location=location, candidates=candidates)
    return answer, urljoin(target.api, location) if location is not None else None


async def run(action: str, target: Target, enough: int) -> bool:
    """Be a client until SIGTERM, until it has seen enough, or until its connection ends.

    :returns: whether all went well.
    """
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    viewer = Viewer(target.stream, enough, ended)
    watching: set[asyncio.Task[None]] = set()
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))

    def changed() -> None:
        tell(peer.connectionState)
        if peer.connectionState in ("closed", "failed"):
            ended.set()

    def added(track: MediaStreamTrack) -> None:
        watching.add(asyncio.create_task(viewer.watch(track)))

    peer.on("connectionstatechange", changed)
    if action == "publish":
        for track in (AudioStreamTrack(), Pictures(target.stream)):
            peer.addTransceiver(track, "sendonly")
    else:
        peer.on("track", added)
        for kind in ("audio", "video"):
            peer.addTransceiver(kind, "recvonly")
    try:
        await peer.setLocalDescription()
        answer = await signal_offer(target, peer.localDescription.sdp)
        if answer is None:
            return False
        sdp, location = answer
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await ended.wait()
        is_good = peer.connectionState == "connected" and (action == "publish" or viewer.has_seen_enough)
        if location is not None:
            tell("deleted", status=(await fetch("DELETE", location)).status)
    finally:
        await peer.close()
    return is_good and viewer.is_right


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description="Publishes pictures by WebRTC, or plays and checks them.")
    parser.add_argument("action", choices=("publish", "play"))
    parser.add_argument("url", help="of WHIP or WHEP, or webrtc://HOST:PORT/APP/STREAM")
    parser.add_argument("--frames", type=int, default=2 * FRAME_RATE, help="how many pictures a player wants to see")
    options = parser.parse_args()
    aioice.ice.get_host_addresses = loopback_only
    is_good = asyncio.run(run(options.action, Target.parse(options.url, options.action), options.frames))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
