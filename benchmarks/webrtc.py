"""WebRTC's signalling: an origin that answers offers, clients that make them, and the STUN request of each client."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import secrets
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from benchmarks.processes import Address, BenchError

_WHIP = "/rtc/v1/whip/"
_TIMEOUT = 10.0
_POLL_INTERVAL = 0.02
"""Seconds: how often the server looks whether it is to end."""
_MEDIA = """m={kind} 9 UDP/TLS/RTP/SAVPF {payload}\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:{ufrag}\r
a=ice-pwd:{pwd}\r
a=fingerprint:sha-256 {fingerprint}\r
a=setup:{setup}\r
a=mid:{mid}\r
a={direction}\r
a=rtcp-mux\r
a=rtpmap:{payload} {codec}\r
{candidate}"""
_FINGERPRINT = ":".join(["5A"] * 32)

_MAGIC_COOKIE = 0x2112A442
_BINDING_REQUEST = 0x0001
_USERNAME = 0x0006
_MESSAGE_INTEGRITY = 0x0008
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT_ATTRIBUTE = 0x8028
_ICE_CONTROLLING = 0x802A
_FINGERPRINT_XOR = 0x5354554E


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Of one ICE agent, RFC 8839, section 5.4."""

    ufrag: str
    pwd: str

    @classmethod
    def new(cls) -> _Credentials:
        return cls(secrets.token_hex(4), secrets.token_hex(16))

    @classmethod
    def of(cls, sdp: str) -> _Credentials:
        """:raises BenchError: it has none."""
        found = [re.search(rf"^a=ice-{name}:(\S+)", sdp, re.MULTILINE) for name in ("ufrag", "pwd")]
        ufrag, pwd = (match[1] if match else "" for match in found)
        if not ufrag or not pwd:
            raise BenchError(f"no ICE credentials in this SDP:\n{sdp}")
        return cls(ufrag, pwd)


def _sdp(credentials: _Credentials, *, offer: bool, candidate: str = "") -> str:
    """An offer or an answer for one audio and one video track."""
    lines = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" + "a=ice-lite\r\n" * (not offer)
    for mid, (kind, payload, codec) in enumerate((("audio", 111, "opus/48000/2"), ("video", 96, "H264/90000"))):
        lines += _MEDIA.format(
            kind=kind,
            payload=payload,
            codec=codec,
            ufrag=credentials.ufrag,
            pwd=credentials.pwd,
            fingerprint=_FINGERPRINT,
            setup="actpass" if offer else "passive",
            mid=mid,
            direction="sendonly" if offer else "recvonly",
            candidate=candidate,
        )
    return lines


class _OriginApi(ThreadingHTTPServer):
    """The API of an origin as SRS has it, as far as WHIP needs it: whoever makes an offer is welcome."""

    daemon_threads = True

    def __init__(self, api: Address, rtc: Address) -> None:
        self.candidate = f"a=candidate:0 1 udp 2130706431 {rtc.host} {rtc.port} typ host generation 0\r\n"
        super().__init__((api.host, api.port), _Offer)


class _Offer(BaseHTTPRequestHandler):
    """One connection of a client, or of a proxy."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """An answer is one write: a second one would wait for the acknowledgement of the first."""
    server: _OriginApi

    def handle(self) -> None:
        # A proxy may be done with its connection before the end of it has been seen here.
        with suppress(ConnectionResetError):
            super().handle()

    def do_POST(self) -> None:
        offered = _Credentials.of(self.rfile.read(int(self.headers["Content-Length"])).decode())
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        # Those that the client, or a proxy, asks for: SRS does so.
        asked = ("ice-ufrag" in query) and _Credentials(query["ice-ufrag"], query["ice-pwd"])
        credentials = asked or _Credentials.new()
        answer = _sdp(credentials, offer=False, candidate=self.server.candidate).encode()
        session = f"{credentials.ufrag}:{offered.ufrag}"
        names = f"app={query['app']}&stream={query['stream']}"
        self.send_response(http.client.CREATED)
        self.send_header("Content-Type", "application/sdp")
        self.send_header("Location", f"{_WHIP}?action=delete&token={secrets.token_hex(4)}&{names}&session={session}")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Each request is no news."""


@contextmanager
def origin_api(api: Address, rtc: Address) -> Iterator[None]:
    """Answer offers.

    :param api: where.
    :param rtc: where the origin takes media, for the answers.
    """
    with _OriginApi(api, rtc) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_INTERVAL,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def signal_sessions(api: Address, stream: str, numbers: range) -> list[bytes]:
    """Make an offer for each session; the STUN request with which its client comes.

    :param stream: the streams are called ``<stream>-<number>``.
    :raises BenchError: one was not accepted.
    """
    connection = http.client.HTTPConnection(api.host, api.port, timeout=_TIMEOUT)
    try:
        return [_signal(connection, f"{stream}-{number}", number) for number in numbers]
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"WHIP at {api} failed: {error}") from error
    finally:
        connection.close()


def _signal(connection: http.client.HTTPConnection, stream: str, number: int) -> bytes:
    offered = _Credentials.new()
    path = f"{_WHIP}?app=live&stream={stream}"
    connection.request("POST", path, _sdp(offered, offer=True), {"Content-Type": "application/sdp"})
    response = connection.getresponse()
    answer = response.read().decode()
    if response.status != http.client.CREATED:
        raise BenchError(f"POST {path} failed: {response.status} {response.reason}\n{answer}")
    answered = _Credentials.of(answer)
    return _binding_request(number, f"{answered.ufrag}:{offered.ufrag}", answered.pwd)


def _binding_request(number: int, username: str, pwd: str) -> bytes:
    """A STUN Binding request as a browser makes it, RFC 8489 and 8445, section 7.1.1.

    :param number: of the session; the last four bytes of the transaction id.
    """
    transaction = secrets.token_bytes(8) + number.to_bytes(4, "big")
    attributes = b"".join(
        (
            _attribute(_USERNAME, username.encode()),
            _attribute(_ICE_CONTROLLING, secrets.token_bytes(8)),
            _attribute(_USE_CANDIDATE, b""),
            _attribute(_PRIORITY, (1853824767).to_bytes(4, "big")),
        )
    )
    # Both checks count the header with a length that includes the attribute itself.
    checked = _stun_header(transaction, len(attributes) + 24) + attributes
    attributes += _attribute(_MESSAGE_INTEGRITY, hmac.digest(pwd.encode(), checked, hashlib.sha1))
    checked = _stun_header(transaction, len(attributes) + 8) + attributes
    return checked + _attribute(_FINGERPRINT_ATTRIBUTE, (zlib.crc32(checked) ^ _FINGERPRINT_XOR).to_bytes(4, "big"))


def _stun_header(transaction: bytes, length: int) -> bytes:
    words = (_BINDING_REQUEST << 16 | length).to_bytes(4, "big") + _MAGIC_COOKIE.to_bytes(4, "big")
    return words + transaction


def _attribute(kind: int, value: bytes) -> bytes:
    return (kind << 16 | len(value)).to_bytes(4, "big") + value + bytes(-len(value) % 4)
