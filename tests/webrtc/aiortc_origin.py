"""An SRS origin of WebRTC as far as a proxy can tell, made of aiortc. Run it as a program::

    python -m tests.webrtc.aiortc_origin --name a --register http://127.0.0.1:12025/api/v1/srs/register

Whoever plays ``app/stream`` gets what is published as that, decoded and encoded again. It speaks SRS's HTTP API (WHIP,
WHEP and JSON), takes the ICE credentials of the query, is an ICE lite agent on one UDP port, and registers by
heartbeats. What happens is told in lines of JSON on standard output; each has a member ``event``:

``listening``
    ``api`` and ``rtc`` are its ports.
``session``
    An offer was answered: ``action`` (publish or play), ``stream`` (app/stream), ``session`` (the ufrags of both ends,
    as in a USERNAME), ``by`` (the path of the request).
``connected``
    The DTLS handshake of ``session`` is complete.
``ended``
    ``session`` is gone; ``why`` is ``deleted`` (DELETE), or the state that its connection came to: ``closed`` by its
    client, or ``failed``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from aiortc.exceptions import OperationError
from av.frame import Frame
from av.packet import Packet

from tests.webrtc.aiortc_http import Request, Response, fetch, serve
from tests.webrtc.aiortc_ice import LiteAgent, SharedPort, Transport, random_string

Action: TypeAlias = Literal["publish", "play"]

HOST: Final = "127.0.0.1"

WHIP: Final = "/rtc/v1/whip/"

OFFERS: Final[Mapping[str, Action]] = {WHIP: "publish", "/rtc/v1/whep/": "play", "/rtc/v1/whip-play/": "play"}
"""Paths that take an SDP."""

JSON_OFFERS: Final[Mapping[str, Action]] = {"/rtc/v1/publish/": "publish", "/rtc/v1/play/": "play"}
"""Paths that take an SDP in JSON."""

CORS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, HEAD, PUT, DELETE, OPTIONS",
    "access-control-expose-headers": "Server,range,Content-Length,Content-Range",
    "access-control-allow-headers": "origin,range,accept-encoding,referer,Cache-Control,X-Proxy-Authorization,"
    "X-Requested-With,Content-Type",
}
"""What an origin adds for browsers. SRS has ``*`` everywhere; this one is stricter: no page may read the Location."""

HEARTBEAT_INTERVAL: Final = 0.5
"""Seconds. SRS's ten would be too long for a test to wait until a new proxy knows its origins."""


class Refused(Exception):
    """The offer is not taken."""


def tell(event: str, **members: object) -> None:
    """Say what has happened."""
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


class Stream:
    """What is published under one name, for any number of players, who may be there first."""

    def __init__(self) -> None:
        self.is_published = False
        self._relay = MediaRelay()
        self._tracks: dict[str, asyncio.Future[MediaStreamTrack]] = {}

    def _track(self, kind: str) -> asyncio.Future[MediaStreamTrack]:
        return self._tracks.setdefault(kind, asyncio.get_running_loop().create_future())

    async def publish(self, track: MediaStreamTrack) -> None:
        """This is what is played from now on."""
        self._track(track.kind).set_result(track)
        # It is read even if nobody plays: what is not read piles up in aiortc.
        drain = MediaBlackhole()
        drain.addTrack(self._relay.subscribe(track))
        await drain.start()

    def unpublish(self) -> None:
        """Its publisher has gone: those who come now wait for another."""
        self.is_published = False
        self._tracks = {kind: track for kind, track in self._tracks.items() if not track.done()}

    async def subscribe(self, kind: str) -> MediaStreamTrack:
        """What is published, once it is."""
        return self._relay.subscribe(await asyncio.shield(self._track(kind)))


class Played(MediaStreamTrack):
    """One track of a stream, for one player."""

    def __init__(self, stream: Stream, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._stream = stream
        self._source: MediaStreamTrack | None = None

    async def recv(self) -> Frame | Packet[Any]:
        if self._source is None:
            self._source = await self._stream.subscribe(self.kind)
        return await self._source.recv()

    def stop(self) -> None:
        super().stop()
        if self._source is not None:
            self._source.stop()


@dataclass
class Session:
    """One client."""

    action: Action
    stream: Stream
    agent: LiteAgent
    token: str = field(default_factory=lambda: random_string(9))
    peer: RTCPeerConnection = field(
        default_factory=lambda: RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
    )
    played: list[Played] = field(default_factory=list)

    async def answer(self, offer: str) -> str:
        """The answer to an SDP, in SRS's manner.

        :raises Refused: it is no offer of audio and video that this can take.
        """
        kinds = re.findall("^m=(audio|video) ", offer, re.MULTILINE)
        if not kinds:
            raise Refused("no media")
        self.stream.is_published |= self.action == "publish"
        if self.action == "publish":
            for kind in kinds:
                self.peer.addTransceiver(kind, "recvonly")
        else:
            self.played = [Played(self.stream, kind) for kind in kinds]
            for track in self.played:
                self.peer.addTransceiver(track, "sendonly")
        self.agent.attach(self.peer)
        if "a=setup:actpass" in offer:
            # SRS has the client begin the handshake; aiortc would begin it.
            self.peer.getTransceivers()[0].receiver.transport._set_role("server")
        try:
            await self.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await self.peer.setLocalDescription()
        except (ValueError, OperationError) as error:
            await self.close()
            raise Refused(str(error)) from error
        if self.action == "publish":
            for receiver in self.peer.getReceivers():
                await self.stream.publish(receiver.track)
        answer = self.peer.localDescription.sdp
        answer = re.sub(r"^(m=\w+) \d+", r"\1 9", answer, flags=re.MULTILINE)
        answer = re.sub(r"^c=.*?(?=\r)", "c=IN IP4 0.0.0.0", answer, flags=re.MULTILINE)
        return answer.replace("a=group:", "a=ice-lite\r\na=group:", 1)

    async def close(self) -> None:
        """End it, without a word to the client but DTLS's."""
        if self.action == "publish":
            self.stream.unpublish()
        for track in self.played:
            track.stop()
        await self.peer.close()


class Origin:
    """Its sessions and streams, and its HTTP API.

    :ivar identity: what it says of itself in heartbeats and in answers of the JSON API.
    """

    def __init__(self, name: str, port: SharedPort) -> None:
        self.identity = {"server": name, "service": random_string(8), "pid": str(os.getpid())}
        self._port = port
        self._streams: dict[str, Stream] = {}
        self._sessions: dict[str, Session] = {}

    async def respond(self, request: Request) -> Response | None:
        """Answer one request; None as SRS does it: by closing the connection."""
        response = await self._respond(request)
        if response is None or "origin" not in request.headers:
            return response
        return replace(response, headers={**response.headers, **CORS})

    async def _respond(self, request: Request) -> Response | None:
        match request.method:
            case "POST" if action := OFFERS.get(request.path):
                return await self._whip(action, request)
            case "POST" if action := JSON_OFFERS.get(request.path):
                return await self._json(action, request)
            case "DELETE" if request.path in OFFERS:
                return await self._delete(request)
            case "OPTIONS":
                return Response(200)
        return None

    async def _whip(self, action: Action, request: Request) -> Response | None:
        if request.query.get("action") == "play":
            action = "play"
        app, stream = request.query.get("app", "live"), request.query.get("stream", "livestream")
        credentials = request.query.get("ice-ufrag"), request.query.get("ice-pwd")
        try:
            username, token, sdp = await self._open(action, f"{app}/{stream}", request, request.body, *credentials)
        except Refused:
            return None
        location = f"{WHIP}?action=delete&token={token}&app={app}&stream={stream}&session={username}"
        return Response(201, sdp, {"content-type": "application/sdp", "location": location})

    async def _json(self, action: Action, request: Request) -> Response:
        try:
            offer = json.loads(request.body)
            name = urlsplit(offer["streamurl"]).path.lstrip("/")
            username, _, sdp = await self._open(action, name, request, offer["sdp"])
            body = {"code": 0, **self.identity, "sdp": sdp, "sessionid": username}
        except (ValueError, KeyError, TypeError, Refused):
            body = {"code": 400, **self.identity}
        return Response(200, json.dumps(body), {"content-type": "application/json"})

    async def _open(
        self, action: Action, name: str, request: Request, offer: str, ufrag: str | None = None, pwd: str | None = None
    ) -> tuple[str, str, str]:
        """A new session: the ufrags of both ends, the token to delete it, and the SDP."""
        remote_ufrag = re.search(r"^a=ice-ufrag:(\S+)", offer, re.MULTILINE)
        if remote_ufrag is None:
            raise Refused("no ICE")
        stream = self._streams.setdefault(name, Stream())
        if action == "publish" and stream.is_published:
            raise Refused("busy")
        try:
            session = Session(action, stream, LiteAgent(self._port, ufrag, pwd))
        except ValueError as error:
            raise Refused(str(error)) from error
        username = f"{session.agent.local_username}:{remote_ufrag[1]}"

        async def changed() -> None:
            if session.peer.connectionState == "connected":
                tell("connected", session=username)
            elif session.peer.connectionState in ("closed", "failed"):
                await self._end(username, session.peer.connectionState)

        session.peer.on("connectionstatechange", changed)
        sdp = await session.answer(offer)
        self._sessions[username] = session
        tell("session", action=action, stream=name, session=username, by=request.path)
        return username, session.token, sdp

    async def _delete(self, request: Request) -> Response | None:
        username = request.query.get("session", "")
        session = self._sessions.get(username)
        if session is not None:
            if request.query.get("token") != session.token:
                return None
            await self._end(username, "deleted")
        return Response(200)

    async def _end(self, username: str, why: str) -> None:
        session = self._sessions.pop(username, None)
        if session is not None:
            tell("ended", session=username, why=why)
            await session.close()

    async def send_heartbeats(self, url: str, api: int, rtc: int) -> None:
        """Register again and again, whether someone listens or not."""
        heartbeat: dict[str, Any] = {"device_id": self.identity["server"], "ip": HOST, **self.identity}
        heartbeat |= {"api": [f"{HOST}:{api}"], "rtc": [f"{self._port.transport}://{HOST}:{rtc}"]}
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                await fetch("POST", url, json.dumps(heartbeat), "application/json")
            await asyncio.sleep(HEARTBEAT_INTERVAL)


async def run(name: str, register: str | None, api_port: int, rtc_port: int, transport: Transport) -> None:
    """Be an origin until the process ends."""
    port = await SharedPort.bind(HOST, rtc_port, transport)
    origin = Origin(name, port)
    server = await serve(HOST, api_port, origin.respond)
    api, (_, rtc) = server.sockets[0].getsockname()[1], port.address
    tell("listening", name=name, api=api, rtc=rtc)
    if register is not None:
        await origin.send_heartbeats(register, api, rtc)
    await server.serve_forever()


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description="An SRS origin of WebRTC as far as a proxy can tell.")
    parser.add_argument("--name", required=True, help="its server id")
    parser.add_argument("--register", metavar="URL", help="where heartbeats go to")
    parser.add_argument("--api-port", type=int, default=0, help="port of the HTTP API; any that is free by default")
    parser.add_argument("--rtc-port", type=int, default=0, help="port of media; any that is free by default")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp", help="what media goes over")
    options = parser.parse_args()
    asyncio.run(run(options.name, options.register, options.api_port, options.rtc_port, options.transport))


if __name__ == "__main__":
    main()
