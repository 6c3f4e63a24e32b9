"""The contracts between the rooms of srsproxy (zope.interface)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession
    from srsproxy.relay.model import EndReason


class ILoadBalancer(Interface):
    """Knows the origins and which of them has which stream. Every method returns a Deferred, so that memory, Redis and
    a remote process are the same to callers."""

    def register(origin: Origin) -> Deferred[None]:
        """Take a heartbeat. The same ``server`` with another ``service`` or ``pid`` is a restart: the old entry and its
        picks are gone at once."""

    def origins() -> Deferred[list[Origin]]:
        """The origins whose heartbeat has not expired."""

    def pick(key: str, surface: Surface, exclude: Collection[str] = (), prefer: str | None = None) -> Deferred[Origin]:
        """The origin of the stream ``key``, chosen now if it has none; asking keeps the pick alive.

        :param surface: what the caller will dial; an origin that does not announce it is no choice.
        :param exclude: ids of origins that this caller has already tried in vain; a pick on one of them moves.
        :param prefer: the ``server`` to choose, if it is as good as any, for a stream that has no origin.
        :raises NoOrigin: nothing is left to choose from; the text says why (none registered, none with this surface,
            all tried, or the stream's origin lacks the surface: then the stream is not moved, because its other clients
            use that origin).
        :raises LimitExceeded: the key is too long to be kept.
        """

    def pinned(key: str, server: str, surface: Surface) -> Deferred[Origin | None]:
        """The origin with this ``server`` for a client that was sent to it before, such as an HLS viewer; ``None`` if
        it is not registered, does not announce ``surface``, or is down. Keeps the pick of ``key``, if there is one,
        alive, wherever it points."""

    def picked(keys: Sequence[str]) -> Deferred[str | None]:
        """The first of these streams that has an origin, ``None`` if none has. Picks nothing and keeps nothing alive;
        for names that could mean one stream or another."""

    def refresh(keys: Collection[str]) -> Deferred[None]:
        """Keep the picks of streams with running sessions from expiring as idle."""

    def report_failure(origin: Origin) -> Deferred[None]:
        """Connecting to this origin failed: set it aside for a while."""

    def report_success(origin: Origin) -> Deferred[None]:
        """Connecting to this origin worked. Whoever connects reports one or the other; without reports of success, an
        origin that failed once gets few new streams."""

    def save_hls(session: HlsSession) -> Deferred[HlsSession]:
        """Keep the record of a stream, unless the stream has one: then that one lives on and is the result, so that all
        proxies name the same ``spbhid`` in every refresh of a playlist.

        :raises ValueError: the ``spbhid`` belongs to another stream; draw a longer one.
        """

    def load_hls(spbhid: str) -> Deferred[HlsSession | None]:
        """The record saved with this id, or ``None``; asking keeps it alive."""

    def save_webrtc(session: WebRtcSession) -> Deferred[None]:
        """Keep the record of a WebRTC session."""

    def load_webrtc(ufrag: str) -> Deferred[WebRtcSession | None]:
        """The record saved with this STUN username, or ``None``; asking keeps it alive, so a running session asks now
        and then, lest a client that roams late is not known any more."""

    def drop_webrtc(ufrag: str) -> Deferred[None]:
        """The session is over: forget its record, if there is one."""


class IStreamConnection(ITCPTransport, IConsumer, IPushProducer):
    """What Twisted's TCP transports provide, and what wraps them (TLS, ``haproxy:``), in one name."""


class IRelayObserver(Interface):
    """Told what becomes of one relayed direction."""

    def relay_ended(half: IRelayedHalf, reason: EndReason) -> None:
        """The direction is over, and the relay holds nothing of it any more. Called once, never after
        :meth:`IRelayedHalf.stop`, and never from within :meth:`IStreamRelay.relay`."""


class IBoundary(Interface):
    """Where, in what one relayed direction carries, a message ends. Has seen each byte before it is passed on, or has
    declared it opaque; does no I/O."""

    opaque = Attribute(
        "How many of the next bytes belong to the message whatever they are (int); 0 if the next ones must be seen."
    )
    complete = Attribute("Whether the message has ended (bool). Then nothing more is shown to it.")

    def skip(count: int) -> None:
        """So many bytes, at most ``opaque``, went by unseen."""

    def inspect(view: memoryview) -> int:
        """These are the next bytes. Returns how many of them belong to the message: all, unless it ends among them. The
        view is not kept.

        :raises PeerError: they cannot belong to any message; none of them is to be passed on.
        """


class IRelayedHalf(Interface):
    """One relayed direction."""

    relayed = Attribute("Bytes handed to the sink so far (int).")
    blocked = Attribute("Whether the sink takes no more at present, so that the source is not read (bool).")
    bypasses_sink = Attribute(
        "Whether all that was handed to the sink is with the kernel, and nothing in the buffer of its transport (bool)."
    )
    surplus = Attribute("Whether bytes beyond the boundary were read, and dropped (bool).")

    def stop() -> bytes:
        """End the relaying of this direction without closing anything. Returns what was read from the source and could
        not be written yet; the caller writes it before anything else. The source stays paused. No call to the observer
        follows."""

    def data_received(data: bytes) -> None:
        """The source's protocol received ``data`` (``dataReceived``) while this half runs: it is passed on.

        A half that reads the source's socket itself never gets this call nor :meth:`read_closed`, since the source's
        transport is paused then; the protocol need not know which kind it has. The half may end, and tell the observer
        so, before this returns.
        """

    def read_closed() -> None:
        """The source's protocol saw the orderly end of what it receives while this half runs
        (``readConnectionLost``, or ``connectionLost`` with ``ConnectionDone``): the half ends with ``EndReason.EOF``,
        telling the observer before it returns. On any other ``connectionLost``, of either side, the caller stops the
        half."""


class IStreamRelay(Interface):
    """Moves the bytes of one direction, from one Twisted stream transport to another, knowing no protocol."""

    def relay(
        source: IStreamConnection,
        sink: IStreamConnection,
        observer: IRelayObserver,
        bulk: bool,
        boundary: IBoundary | None = None,
        sink_clear: bool = False,
    ) -> IRelayedHalf:
        """Relay everything that arrives at ``source`` to ``sink``, after all that was written to ``sink`` before.

        The caller has paused ``source`` (``pauseProducing``) from within ``dataReceived`` or while nothing can arrive,
        has written what it had already read, and writes no more to ``sink`` until the half ended or was stopped.
        ``sink`` must have no producer registered, and gets none from the caller. When the sink takes no more, the
        source is not read any more, so memory is bounded by the kernel's buffers.

        The relay closes nothing. When the source's peer has half-closed and the last byte is with the sink, the
        observer is told, and may pass that on (:func:`srsproxy.transports.close_write`). Whoever closes one of the
        two transports stops the half first, or as soon as it learns that the transport is closed (``connectionLost``).

        While the half runs, the source's protocol passes what it is told to the half: see
        :meth:`IRelayedHalf.data_received`.

        :param bulk: the source is expected to hold much data at each read (an origin that plays), rather than small
            writes (an encoder that publishes).
        :param boundary: of a message that is not complete yet; the half ends with ``EndReason.COMPLETE`` when it is,
            and all of it is with the sink. Both transports can be used again then, ``source`` once its owner resumes
            it; the observer may have the next message relayed at once. Bytes beyond the message that were read already
            are dropped, and the half's ``surplus`` says so; behind a message of known length there are none unless the
            half goes through Twisted. What the boundary does not accept ends the half with ``EndReason.MALFORMED``.
        :param sink_clear: the caller knows that all that was written to ``sink`` is with the kernel. To find that out
            takes a turn of the reactor.
        """

    def close() -> None:
        """Release what all directions share. Halves that still run are stopped; their observers are not told."""


class IMediaServer(Interface):
    """One protocol's server, as :mod:`srsproxy.service` starts and stops it."""

    name = Attribute("Name in logs and counters, such as ``rtmp`` (str).")

    def drain() -> Deferred[None]:
        """Accept nothing more; fires when the last session has ended."""

    def abort() -> None:
        """End all sessions now."""
