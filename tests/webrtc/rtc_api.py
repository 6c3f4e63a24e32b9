"""The HTTP API of an origin of WebRTC, which answers as SRS does (wire-facts 5.1 and 5.2)."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from twisted.internet.defer import maybeDeferred

from tests.http.origins import HOST, Ending, Gate, Request, ScriptedHttpOrigin, Step
from tests.webrtc.peers import Address, Candidate, IceParameters, Stun, parse_sdp

_MOUNTS: Final = ("/rtc/v1/whip", "/rtc/v1/whep", "/rtc/v1/whip-play")
_JSON_API: Final = ("/rtc/v1/play", "/rtc/v1/publish")

_CORS: Final = (
    "Access-Control-Allow-Origin: *",
    "Access-Control-Allow-Methods: GET, POST, HEAD, PUT, DELETE, OPTIONS",
    "Access-Control-Expose-Headers: Server,range,Content-Length,Content-Range",
    "Access-Control-Allow-Headers: origin,range,accept-encoding,referer,Cache-Control,X-Proxy-Authorization,"
    "X-Requested-With,Content-Type",
)

_FINGERPRINT_LINE: Final = "a=fingerprint:sha-256 " + ":".join(["57"] * 32)

_CLOSED_WITHOUT_A_WORD: Final = (Ending.FIN,)


class Credentials(Enum):
    """What an origin makes of ``ice-ufrag`` and ``ice-pwd`` in a query."""

    HONOURED = auto()
    IGNORED = auto()
    CLASHING = auto()
    """As if the username that would result were taken: the ufrag is another one, the password is that of the query."""


@dataclass(eq=False, slots=True)
class RtcSession:
    """A session of an origin.

    :ivar bindings: the Binding requests that came for it, in order.
    :ivar addresses: the UDP addresses that they came from, each once, in order of their first.
    :ivar media: all else that came from there, in order.
    :ivar send: sends a packet to where the latest Binding request came from.
    """

    app: str
    stream: str
    action: str
    local: IceParameters
    remote: IceParameters
    token: str
    bindings: list[Stun] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    media: list[bytes] = field(default_factory=list)
    send: Callable[[bytes], object] | None = None

    @property
    def username(self) -> str:
        """What Binding requests for it have; its id in a ``Location``."""
        return f"{self.local.ufrag}:{self.remote.ufrag}"


class RtcApi(ScriptedHttpOrigin):
    """What is not scripted is answered as SRS would answer it.

    :ivar sessions: those that there are, by username.
    :ivar ended: those that are over.
    :ivar hosts: what its ``candidate`` setting has; its own address at first.
    :ivar transports: what its answers have candidates for.
    :ivar credentials: what it makes of those in a query.
    :ivar gate: where its answers wait, if they do.
    :ivar api_as_candidates: whether an IPv4 address in Host becomes a candidate too, as SRS's default is.
    """

    udp_port: int
    tcp_port: int

    def __init__(self, reactor: Any, transports: Sequence[str]) -> None:
        super().__init__(reactor)
        self.sessions: dict[str, RtcSession] = {}
        self.ended: list[RtcSession] = []
        self.hosts = [HOST]
        self.transports = tuple(transports)
        self.credentials = Credentials.HONOURED
        self.gate: Gate | None = None
        self.api_as_candidates = True

    def forget(self, session: RtcSession) -> None:
        """A session is over; its client is not told."""
        del self.sessions[session.username]
        self.ended.append(session)

    def next_answer(self) -> Sequence[Step]:
        """What was scripted, or what SRS would answer. As it answers only one request on a connection, the request is
        the latest that has come."""
        if self._answers:
            return self._answers.popleft()
        answer = self._answer_as_srs(self.requests[-1])
        return answer if self.gate is None else (self.gate, *answer)

    async def close_api(self) -> None:
        """From now on connections to the API are refused."""
        await maybeDeferred(self._listening.stopListening)

    def _answer_as_srs(self, request: Request) -> Sequence[Step]:
        path, _, query = request.target.decode("ascii").partition("?")
        mount = path.rstrip("/")
        if request.method == b"OPTIONS":
            return _answer(request, "200 OK")
        if not any(mount == known or mount.startswith(f"{known}/") for known in (*_MOUNTS, *_JSON_API)):
            return _answer(request, "404 Not Found")
        if mount == path and mount in (*_MOUNTS, *_JSON_API):
            return _answer(request, "302 Found", f"Location: {path}/?{query}")
        if mount in _JSON_API:
            return self._answer_json(request, path)
        match request.method:
            case b"POST":
                return self._answer_offer(request, path, _parameters(query))
            case b"DELETE":
                return self._answer_delete(request, _parameters(query))
        return _CLOSED_WITHOUT_A_WORD

    def _answer_offer(self, request: Request, path: str, query: dict[str, str]) -> Sequence[Step]:
        plays = path.endswith(("/whep/", "/whip-play/")) or query.get("action") == "play"
        asked = IceParameters(query.get("ice-ufrag", _random(8)), query.get("ice-pwd", _random(32)))
        if not 4 <= len(asked.ufrag) <= 32 or not 22 <= len(asked.pwd) <= 32:
            return _CLOSED_WITHOUT_A_WORD
        session = self._open_session(
            request.body.decode(),
            query.get("app", "live"),
            query.get("stream", "livestream"),
            "play" if plays else "publish",
            asked,
        )
        if session is None:
            return _CLOSED_WITHOUT_A_WORD
        location = (
            f"Location: /rtc/v1/whip/?action=delete&token={session.token}&app={session.app}&stream={session.stream}"
            f"&session={session.username}"
        )
        sdp = self._answer_sdp(session, request, query)
        return _answer(request, "201 Created", "Content-Type: application/sdp", location, body=sdp)

    def _answer_delete(self, request: Request, query: dict[str, str]) -> Sequence[Step]:
        session = self.sessions.get(query.get("session", ""))
        if session is not None and query.get("token") != session.token:
            return _CLOSED_WITHOUT_A_WORD
        if session is not None:
            self.forget(session)
        return _answer(request, "200 OK")

    def _answer_json(self, request: Request, path: str) -> Sequence[Step]:
        session = None
        try:
            asked = json.loads(request.body)
            *_, app, stream = asked["streamurl"].partition("?")[0].split("/")
            offer = asked["sdp"]
        except (ValueError, KeyError):
            pass
        else:
            action = "play" if path.startswith("/rtc/v1/play") else "publish"
            session = self._open_session(offer, app, stream, action, IceParameters(_random(8), _random(32)))
        if session is None:
            answer: dict[str, object] = {"code": 400}
        else:
            answer = {"code": 0, "server": "vid-53g0u8r", "service": "service", "pid": "1"}
            answer["sdp"] = self._answer_sdp(session, request, _parameters(request.target.decode().partition("?")[2]))
            answer["sessionid"] = session.username
        return _answer(
            request, "200 OK", "Content-Type: application/json", body=json.dumps(answer, separators=(",", ":"))
        )

    def _open_session(self, offer: str, app: str, stream: str, action: str, local: IceParameters) -> RtcSession | None:
        """A new session; ``None`` for an offer that is none, and for a stream that has a publisher already."""
        try:
            remote = parse_sdp(offer)
        except ValueError:
            return None
        if not offer.startswith("v=0") or not remote.ufrag:
            return None
        if action == "publish" and any(
            (session.app, session.stream, session.action) == (app, stream, action) for session in self.sessions.values()
        ):
            return None
        if self.credentials is Credentials.IGNORED:
            local = IceParameters(_random(8), _random(32))
        if self.credentials is Credentials.CLASHING or f"{local.ufrag}:{remote.ufrag}" in self.sessions:
            local = IceParameters(_random(8), local.pwd)
        session = RtcSession(app, stream, action, local, remote, token=_random(9))
        self.sessions[session.username] = session
        return session

    def _answer_sdp(self, session: RtcSession, request: Request, query: dict[str, str]) -> str:
        direction, name = ("sendonly", "Play") if session.action == "play" else ("recvonly", "Publish")
        lines = ["v=0", "o=SRS/7.0.18(Hang) 94526271445984 2 IN IP4 0.0.0.0", f"s=SRS{name}Session", "t=0 0"]
        lines += ["a=ice-lite", "a=group:BUNDLE 0 1", f"a=msid-semantic: WMS {session.app}/{session.stream}"]
        for mid, media in enumerate(["audio 9 UDP/TLS/RTP/SAVPF 111", "video 9 UDP/TLS/RTP/SAVPF 106"]):
            codec = "111 opus/48000/2" if mid == 0 else "106 H264/90000"
            lines += [f"m={media}", "c=IN IP4 0.0.0.0", f"a=ice-ufrag:{session.local.ufrag}"]
            lines += [f"a=ice-pwd:{session.local.pwd}", _FINGERPRINT_LINE, "a=setup:passive", f"a=mid:{mid}"]
            lines += [f"a={direction}", "a=rtcp-mux", "a=rtcp-rsize", f"a=rtpmap:{codec}"]
            for foundation, candidate in enumerate(self._candidates(request, query)):
                ending = "tcptype passive" if candidate.transport == "tcp" else "generation 0"
                lines.append(
                    f"a=candidate:{foundation} 1 {candidate.transport} 2130706431 {candidate.host} {candidate.port}"
                    f" typ host {ending}"
                )
        return "\r\n".join([*lines, ""])

    def _candidates(self, request: Request, query: dict[str, str]) -> list[Candidate]:
        hosts = set(self.hosts)
        ports: dict[str, int] = {}
        api = (request.field(b"Host") or b"").decode().partition(":")[0]
        if self.api_as_candidates and api.replace(".", "").isdigit():
            hosts.add(api)
        for name in ("eip", "candidate"):
            if name in query:
                host, port = _split_address(query[name])
                hosts.add(host)
                if port:
                    ports[host] = port
        own = {"udp": self.udp_port, "tcp": self.tcp_port}
        return [
            Candidate(transport, host, ports.get(host, own[transport]))
            for host in sorted(hosts)
            for transport in self.transports
        ]


def _split_address(address: str) -> tuple[str, int]:
    """Host and port of an address that may have one; 0 if it has none."""
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (address, 0)


def _parameters(query: str) -> dict[str, str]:
    """The parameters of a query as they are: nothing is decoded."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return {name: value for name, _, value in pairs}


def _answer(request: Request, status: str, *fields: str, body: str = "") -> Sequence[Step]:
    """A whole answer in the style of SRS."""
    cors = _CORS if request.field(b"Origin") is not None else ()
    lines = [f"HTTP/1.1 {status}", "Connection: Close", *fields, f"Content-Length: {len(body)}", *cors]
    return "\r\n".join([*lines, "Server: SRS/7.0.18(Hang)", "", body]).encode(), Ending.FIN


def _random(length: int) -> str:
    """As SRS's random ufrags, passwords and tokens."""
    return "".join(secrets.choice(string.digits + string.ascii_lowercase) for _ in range(length))
