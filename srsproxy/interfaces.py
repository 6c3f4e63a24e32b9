"""The contracts between the rooms of srsproxy (zope.interface)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import ITransport

    from srsproxy.balancer.model import Origin, Surface
    from srsproxy.relay.model import EndReason


class ILoadBalancer(Interface):
    """Knows the origins and which of them has which stream. Every method returns a Deferred, so that memory, Redis and a
    remote process are the same to callers."""

    def register(origin: Origin) -> Deferred[None]:
        """Take a heartbeat. The same ``server`` with another ``service`` or ``pid`` is a restart: the old entry and its
        picks are gone at once."""

    def origins() -> Deferred[list[Origin]]:
        """The origins whose heartbeat has not expired."""

    def pick(key: str, surface: Surface, exclude: Collection[str] = ()) -> Deferred[Origin]:
        """The origin of the stream ``key``, chosen now if it has none; asking keeps the pick alive.

        :param surface: what the caller will dial; an origin that does not announce it is no choice.
        :param exclude: ids of origins that this caller has already tried in vain; a pick on one of them moves.
        :raises NoOrigin: nothing is left to choose from; the text says why (none registered, none with this surface, all
            tried).
        """

    def refresh(keys: Collection[str]) -> Deferred[None]:
        """Keep the picks of streams with running sessions from expiring as idle."""

    def report_failure(origin: Origin) -> Deferred[None]:
        """Connecting to this origin failed: set it aside for a while."""

    def report_success(origin: Origin) -> Deferred[None]:
        """Connecting to this origin worked."""


class IRelayObserver(Interface):
    """Told what becomes of one relayed direction."""

    def relay_ended(half: IRelayedHalf, reason: EndReason) -> None:
        """The direction is over, and the relay holds nothing of it any more. Called once, never after
        :meth:`IRelayedHalf.stop`, and never from within :meth:`IStreamRelay.relay`."""


class IRelayedHalf(Interface):
    """One relayed direction."""

    relayed = Attribute("Bytes delivered to the sink's kernel buffer so far (int).")

    def stop() -> bytes:
        """End the relaying of this direction without closing anything. Returns what was read from the source and could
        not be written yet; the caller writes it before anything else. The source stays paused. No call to the observer
        follows."""


class IStreamRelay(Interface):
    """Moves the bytes of one direction, from one Twisted stream transport to another, knowing no protocol."""

    def relay(source: ITransport, sink: ITransport, observer: IRelayObserver, bulk: bool) -> IRelayedHalf:
        """Relay everything that arrives at ``source`` to ``sink``, after all that was written to ``sink`` before.

        The caller has paused ``source`` (``pauseProducing``) from within ``dataReceived`` or while nothing can arrive, has
        written what it had already read, and writes no more to ``sink`` until the half ended or was stopped. ``sink`` must
        have no producer registered. A source that is full stops being read, so memory is bounded by the kernel's buffers.
        When the source's peer half-closes, the sink's write side is closed after the last byte.

        :param bulk: the source is expected to hold much data at each read (an origin that plays), rather than small
            writes (an encoder that publishes).
        """


class IMediaServer(Interface):
    """One protocol's server, as :mod:`srsproxy.service` starts and stops it."""

    name = Attribute("Name in logs and counters, such as ``rtmp`` (str).")

    def drain() -> Deferred[None]:
        """Accept nothing more; fires when the last session has ended."""

    def abort() -> None:
        """End all sessions now."""
