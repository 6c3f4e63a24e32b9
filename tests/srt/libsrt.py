"""As much of libsrt as the test programs call, by ctypes; names and numbers are those of libsrt 1.5's srt.h.

A call that libsrt fails raises :class:`SrtError`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Self, TypeAlias

Address: TypeAlias = tuple[str, int]

_SONAMES: Final = tuple(
    f"libsrt{flavour}.so.{version}" for version in ("1.5", "1.4") for flavour in ("-gnutls", "-openssl", "")
)
"""Debian has one library for each library of cryptography; ffmpeg depends on the first."""

INVALID_SOCKET: Final = -1
ERROR: Final = -1

# Options. All that are used are of type int, bool (which may be written as int) or string.
SNDSYN: Final = 1
RCVSYN: Final = 2
LATENCY: Final = 23
PASSPHRASE: Final = 26
PBKEYLEN: Final = 27
KMSTATE: Final = 28
CONNTIMEO: Final = 36
RCVLATENCY: Final = 43
PEERLATENCY: Final = 44
STREAMID: Final = 46
MESSAGEAPI: Final = 48
TRANSTYPE: Final = 50
KMREFRESHRATE: Final = 51
KMPREANNOUNCE: Final = 52

LIVE: Final = 0
FILE: Final = 1

REJ_UNKNOWN: Final = 0
"""The reject reason of a socket that was not rejected."""

# Events.
IN: Final = 0x1
OUT: Final = 0x4
ERR: Final = 0x8

_EPOLL_ENABLE_EMPTY: Final = 1

# Errors.
ECONNLOST: Final = 2001
ENOCONN: Final = 2002
EASYNCSND: Final = 6001
EASYNCRCV: Final = 6002

MAX_MESSAGE: Final = 1456
"""Bytes of the largest live payload: an Ethernet packet without the headers."""

_MAX_STREAM_ID: Final = 512
_MAX_EVENTS: Final = 256
_STATISTICS_SIZE: Final = 2048
"""Bytes; more than CBytePerfMon has in any version."""

_STATISTICS_BEGIN: Final = struct.Struct("@qqqiii")
_INT: Final = ctypes.c_int
_LISTEN_CALLBACK: Final = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, _INT, _INT, ctypes.c_void_p, ctypes.c_char_p)


class _Event(ctypes.Structure):
    _fields_ = [("fd", _INT), ("events", _INT)]


def _load() -> ctypes.CDLL:
    found = [ctypes.util.find_library(name) for name in ("srt-gnutls", "srt-openssl", "srt")]
    for name in (*_SONAMES, *filter(None, found)):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(errno.ENOENT, "libsrt is not installed; Debian has it in libsrt1.5-gnutls, on which ffmpeg depends")


_library: Final = _load()
_library.srt_getlasterror_str.restype = ctypes.c_char_p


class SrtError(Exception):
    """What srt_getlasterror says; :attr:`code` is one of its numbers."""

    def __init__(self) -> None:
        self.code = int(_library.srt_getlasterror(None))
        super().__init__(f"{_library.srt_getlasterror_str().decode()} ({self.code})")


def _checked(result: int) -> int:
    if result == ERROR:
        raise SrtError
    return result


def start_up() -> None:
    """srt_startup. libsrt's log is off: what goes wrong is told by errors."""
    _checked(_library.srt_startup())
    _library.srt_setloglevel(0)


def clean_up() -> None:
    """srt_cleanup: ends all sockets and threads."""
    _library.srt_cleanup()


def _sockaddr(address: Address) -> Any:
    host, port = address
    if ":" in host:
        packed = struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, _packed(host), 0)
    else:
        packed = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), _packed(host))
    return ctypes.create_string_buffer(packed, len(packed))


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


class SrtSocket:
    """A socket of libsrt.

    :ivar id: its number in libsrt, which is its socket id on the wire, too.
    """

    def __init__(self, id: int | None = None) -> None:
        self.id = _checked(_library.srt_create_socket()) if id is None else id

    # Options

    def set(self, option: int, value: int | str) -> None:
        """srt_setsockflag."""
        data = value.encode() if isinstance(value, str) else struct.pack("@i", value)
        _checked(_library.srt_setsockflag(self.id, option, data, len(data)))

    def get(self, option: int) -> int:
        """srt_getsockflag of a number."""
        value, size = _INT(), _INT(ctypes.sizeof(_INT))
        _checked(_library.srt_getsockflag(self.id, option, ctypes.byref(value), ctypes.byref(size)))
        return value.value

    @property
    def latencies(self) -> dict[str, int]:
        """Milliseconds for which this side and the peer keep what they receive, as agreed upon: members of events."""
        return {"latency": self.get(RCVLATENCY), "peer_latency": self.get(PEERLATENCY)}

    @property
    def stream_id(self) -> str:
        """SRTO_STREAMID."""
        value, size = ctypes.create_string_buffer(_MAX_STREAM_ID + 1), _INT(_MAX_STREAM_ID + 1)
        _checked(_library.srt_getsockflag(self.id, STREAMID, value, ctypes.byref(size)))
        return value.raw[: size.value].decode()

    # Connections

    def bind(self, address: Address) -> None:
        """srt_bind."""
        name = _sockaddr(address)
        _checked(_library.srt_bind(self.id, name, len(name)))

    @property
    def port(self) -> int:
        """The UDP port that it is bound to."""
        name = ctypes.create_string_buffer(28)
        _checked(_library.srt_getsockname(self.id, name, ctypes.byref(_INT(len(name)))))
        return int.from_bytes(name.raw[2:4], "big")

    @property
    def peer_port(self) -> int:
        """The UDP port of the peer."""
        name = ctypes.create_string_buffer(28)
        _checked(_library.srt_getpeername(self.id, name, ctypes.byref(_INT(len(name)))))
        return int.from_bytes(name.raw[2:4], "big")

    def listen(self, backlog: int, decide: Callable[[str], int | None]) -> None:
        """srt_listen, after srt_listen_callback.

        :param decide: is called with the stream id in a thread of libsrt's; returns the reason to reject it with.
        """

        def callback(_opaque: object, id: int, _version: int, _peer: object, stream_id: bytes) -> int:
            reason = decide((stream_id or b"").decode())
            if reason is None:
                return 0
            _library.srt_setrejectreason(id, reason)
            return ERROR

        # libsrt does not keep it alive.
        self._callback = _LISTEN_CALLBACK(callback)
        _checked(_library.srt_listen_callback(self.id, self._callback, None))
        _checked(_library.srt_listen(self.id, backlog))

    def accept(self) -> SrtSocket:
        """srt_accept; the accepted socket does not block either, if this one does not."""
        return SrtSocket(_checked(_library.srt_accept(self.id, None, None)))

    def connect(self, address: Address) -> None:
        """srt_connect; returns at once if the socket does not block (:data:`RCVSYN`)."""
        name = _sockaddr(address)
        _checked(_library.srt_connect(self.id, name, len(name)))

    @property
    def reject_reason(self) -> int:
        """srt_getrejectreason."""
        return int(_library.srt_getrejectreason(self.id))

    def close(self) -> None:
        """srt_close."""
        _library.srt_close(self.id)

    # Data

    def send(self, data: bytes) -> int:
        """srt_send; returns how many bytes were taken."""
        return _checked(_library.srt_send(self.id, data, len(data)))

    def receive(self, size: int = MAX_MESSAGE) -> bytes:
        """srt_recv."""
        buffer = ctypes.create_string_buffer(size)
        received = _checked(_library.srt_recv(self.id, buffer, size))
        return buffer.raw[:received]

    @property
    def unacknowledged(self) -> int:
        """Packets that the peer has not acknowledged."""
        blocks = ctypes.c_size_t()
        _checked(_library.srt_getsndbuffer(self.id, ctypes.byref(blocks), None))
        return blocks.value

    @property
    def retransmitted(self) -> int:
        """Packets that were sent again."""
        buffer = ctypes.create_string_buffer(_STATISTICS_SIZE)
        _checked(_library.srt_bstats(self.id, buffer, 0))
        *_, retransmitted = _STATISTICS_BEGIN.unpack_from(buffer)
        return int(retransmitted)


class Epoll:
    """srt_epoll_uwait with level-triggered events."""

    def __init__(self) -> None:
        self._id = _checked(_library.srt_epoll_create())
        _checked(_library.srt_epoll_set(self._id, _EPOLL_ENABLE_EMPTY))
        self._events = (_Event * _MAX_EVENTS)()

    def watch(self, srt: SrtSocket, events: int) -> None:
        """From now on for these events (:data:`IN`, :data:`OUT`, :data:`ERR`)."""
        _checked(_library.srt_epoll_update_usock(self._id, srt.id, ctypes.byref(_INT(events))))

    def forget(self, srt: SrtSocket) -> None:
        """No longer."""
        _library.srt_epoll_remove_usock(self._id, srt.id)

    def wait(self, milliseconds: int) -> list[tuple[int, int]]:
        """Socket ids and their events; empty after so many milliseconds."""
        count = _checked(_library.srt_epoll_uwait(self._id, self._events, _MAX_EVENTS, ctypes.c_int64(milliseconds)))
        return [(event.fd, event.events) for event in self._events[: min(count, _MAX_EVENTS)]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _library.srt_epoll_release(self._id)
