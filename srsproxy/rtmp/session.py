"""One RTMP client and what is done for it, from accept to outcome.

The phases of its life are told in :mod:`srsproxy.rtmp.phase`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from srsproxy.address import client_address
from srsproxy.balancer.model import Endpoint, Origin, Surface
from srsproxy.balancer.routing import reach_origin
from srsproxy.clients import Client
from srsproxy.deadline import Deadline
from srsproxy.errors import (
    DeadlineExceeded,
    OriginLost,
    OriginRejected,
    OriginUnreachable,
    PeerError,
    Refused,
    SrsProxyError,
    describe,
    outcome_of,
)
from srsproxy.interfaces import IRelayedHalf, IRelayObserver, IStreamConnection
from srsproxy.limits import Admission, Rate
from srsproxy.log import ContextLogger, new_context_id
from srsproxy.outcome import Outcome
from srsproxy.relay.model import EndReason
from srsproxy.rtmp import events
from srsproxy.rtmp.events import Action, Forward, MediaBegins, StreamNamed, StreamReleased
from srsproxy.rtmp.negotiation import CLOSE_STREAM
from srsproxy.rtmp.phase import Phase
from srsproxy.rtmp.refusal import refusal
from srsproxy.rtmp.shared import SOURCE, Shared
from srsproxy.rtmp.upstream import Upstream
from srsproxy.stats import Session
from srsproxy.transports import Throttle, close_write, tune

LINGER = 0.5
"""Seconds in which a client may read why it is refused before its connection is reset: closing at once, with bytes
of it unread, would reset the connection and lose the answer."""

SWITCH_TIMEOUT = 3.0
"""Seconds in which a player's origin must have closed after it was told to, when the player asks for another stream."""

MAX_STREAM_CHANGES = 16
"""Streams that a client may name at once on one connection: each costs a connection to an origin, and a pick."""

STREAM_CHANGE_RATE = 1.0
"""And a second, in the long run."""

MESSAGE_BURST = 10.0
"""Seconds' worth of messages that a client may send at once; encoders and players send a few in all."""

HALF_CLOSE_TIMEOUT = 5.0
"""Seconds in which an origin must close after its publisher has."""


@implementer(IRelayObserver)
class RtmpClient(Client):
    """See the module's text.

    :param gone: called with this client when its connection is gone.
    :ivar session: the record of this connection.
    """

    session: Session
    transport: IStreamConnection

    def __init__(self, shared: Shared, gone: Callable[[RtmpClient], None]) -> None:
        self._shared = shared
        self._gone = gone
        self._phase = Phase.NAMING
        self._action: Action | None = None
        self._limited = False
        self._routing: Deferred[None] | None = None
        self._early = b""
        self._upstream: Upstream | None = None
        self._half: IRelayedHalf | None = None

    @property
    def _publishes(self) -> bool:
        return self._action is Action.PUBLISH

    # The client's transport

    def connectionMade(self) -> None:
        address = client_address(self.transport.getPeer())
        self.session = self._shared.sessions.open(SOURCE, new_context_id(), address)
        self._negotiation = self._shared.client_negotiation(address)
        self._admission = Admission(self._shared.limits, address)
        self._deadline = Deadline(self._shared.reactor)
        now = self.session.started
        self._changes = Rate("changes of the stream", STREAM_CHANGE_RATE, MAX_STREAM_CHANGES, now)
        rate = self._shared.settings.rtmp_max_message_rate
        self._messages = Rate("messages", rate, rate * MESSAGE_BURST, now)
        tune(self.transport, self._shared.settings.stall_timeout)
        try:
            self._admission.enter()
        except Refused as error:
            self._fail(error)
            return
        self._expect("no RTMP handshake", self._shared.settings.rtmp_handshake_timeout)

    def dataReceived(self, data: bytes) -> None:
        if self.session.outcome is not None:
            # Discarded while we linger; and a transport that is closing may still deliver what it has.
            return
        if self._phase in (Phase.ROUTING, Phase.SWITCHING):
            # A TLS transport delivers what it has decrypted even while it is paused.
            self._early += data
        elif self._publishes and self._half is not None:
            self._half.data_received(data)
        else:
            self._receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        clean = reason.check(ConnectionDone)
        if clean and self._publishes and self._half is not None:
            self._half.read_closed()
        self._finish(Outcome.FINISHED if clean else Outcome.CLIENT_LOST)
        self._deadline.cancel()
        self._admission.leave()
        self._gone(self)

    def _receive(self, data: bytes) -> None:
        handshaken = self._negotiation.handshaken
        try:
            if not handshaken:
                self._look_at_address()
            self._negotiation.receive_data(data)
            if self._negotiation.handshaken and not handshaken:
                self._greeted()
            self._converse()
        except (PeerError, Refused) as error:
            self._fail(error)

    def _look_at_address(self) -> None:
        """Behind the PROXY protocol, the client's own address is known when its first bytes are, and not before."""
        address = client_address(self.transport.getPeer())
        if address != self._admission.address:
            self.session.peer = address
            self._negotiation = self._shared.client_negotiation(address)
            self._admission.move(address)

    def _greeted(self) -> None:
        if self._negotiation.real_address is not None:
            self.session.peer = self._negotiation.real_address
        elapsed = self._shared.reactor.seconds() - self.session.started
        self._expect("no stream was named", max(self._shared.settings.rtmp_identify_timeout - elapsed, 0.0))

    def _converse(self) -> None:
        """Act on all that the client has said."""
        while self.session.outcome is None and (event := self._negotiation.next_event()) is not None:
            self._flush()
            match event:
                case Forward(data):
                    self._messages.spend(self._shared.reactor.seconds())
                    self.session.received += len(data)
                    self._required_upstream.transport.write(data)
                case MediaBegins(data):
                    self._publisher_media_begins(data)
                case StreamReleased():
                    self._switch()
                case StreamNamed():
                    self._start_routing(event)
        self._flush()

    def _flush(self) -> None:
        if data := self._negotiation.data_to_send():
            self.transport.write(data)

    # Routing: from a stream's name to an origin that has heard it

    def _start_routing(self, named: StreamNamed) -> None:
        self._changes.spend(self._shared.reactor.seconds())
        self._phase = Phase.ROUTING
        self.transport.pauseProducing()
        self._deadline.cancel()
        self._drop_upstream()
        self._admission.identified()
        self._action, self._limited = named.action, named.limited
        self.session.key, self.session.action = str(named.key), named.action.value
        self._routing = Deferred.fromCoroutine(self._route(named))
        self._routing.addErrback(self._routing_failed)

    async def _route(self, named: StreamNamed) -> None:
        shared = self._shared

        async def attempt(origin: Origin, endpoint: Endpoint) -> Upstream:
            settings, negotiation = shared.settings, shared.origin_negotiation(named, self.session.peer)
            self._upstream = upstream = Upstream(str(endpoint), negotiation, self, settings.stall_timeout)
            self._log.debug("{what}: dialling origin {origin}", what=self.session.doing, origin=upstream.name)
            await upstream.open(shared.reactor, endpoint, settings.origin_connect_timeout, settings.rtmp_origin_timeout)
            self.session.origin = origin.id
            return upstream

        upstream = await reach_origin(shared.balancer, str(named.key), Surface.RTMP, attempt, self._origin_failed)
        self._routing = None
        self._join(upstream, named)

    def _origin_failed(self, error: OriginUnreachable) -> None:
        self._log.warn("{what}: {reason}; trying the next origin", what=self.session.doing, reason=describe(error))

    def _routing_failed(self, failure: Failure) -> None:
        self._routing = None
        # The end of the session cancels its routing.
        if self.session.outcome is None:
            self._fail(failure)

    def _join(self, upstream: Upstream, named: StreamNamed) -> None:
        """Both sides have said all that they had to say to us: let them talk to each other."""
        self._phase = Phase.STARTING
        self._expect(f"origin {upstream.name}: no answer", self._shared.settings.rtmp_start_timeout)
        self._negotiation.announce_chunk_size(upstream.chunk_size)
        self._flush()
        self.session.received += len(named.prelude)
        upstream.transport.registerProducer(Throttle(self.transport), True)
        if self._publishes:
            self.transport.registerProducer(Throttle(upstream.transport), True)
        self._negotiation.watch()
        self.transport.resumeProducing()
        early, self._early = self._early, b""
        self._receive(early)
        upstream.release()

    # The origin's side (UpstreamOwner)

    def upstream_event(self, upstream: Upstream, event: events.OriginEvent) -> None:
        match event:
            case events.Answer(data, chunk_size):
                self.session.sent += len(data)
                self.transport.write(data)
                self._negotiation.chunk_size_changed(chunk_size)
            case events.Started():
                self._started(upstream)
            case MediaBegins(data):
                self._player_media_begins(upstream, data)
            case events.PublishReleased() if self._phase is Phase.RUNNING:
                self._publish_released()
            case events.ToldRejection(code, description):
                self._finish(Outcome.REJECTED_BY_ORIGIN, OriginRejected(f"{code} ({description})"))
                self._linger()
            case events.PublishedAgain():
                self._fail(Refused("another stream was published before the release of the last was answered"))

    def upstream_lost(self, upstream: Upstream, error: BaseException | None) -> None:
        match self._phase:
            case Phase.CLIENT_DONE:
                self._finish(Outcome.FINISHED)
                self.transport.loseConnection()
            case Phase.NAMING:
                # A released publisher's last origin need not wait for what comes next.
                self._drop_upstream()
            case Phase.SWITCHING if isinstance(error, ConnectionDone):
                self._switched()
            case _:
                self._origin_gone(error)

    def _origin_gone(self, cause: BaseException | None = None) -> None:
        name = self._required_upstream.name
        broke = cause is not None and not isinstance(cause, ConnectionDone)
        error: SrsProxyError
        if isinstance(cause, PeerError):
            error = OriginLost(f"origin {name} does not speak RTMP")
        elif self._phase in (Phase.RUNNING, Phase.SWITCHING) or (broke and not self._publishes):
            error = OriginLost(f"origin {name} {'broke' if broke else 'closed'} the connection")
        else:
            # Busy, refused by a hook, not allowed: SRS says nothing and closes (wire-facts 2.4).
            error = OriginRejected(f"origin {name} closed the connection instead of serving the stream")
        error.__cause__ = cause
        self._fail(error)

    def _started(self, upstream: Upstream) -> None:
        if self._phase is Phase.STARTING:
            self._deadline.cancel()
            if self._publishes:
                # A player that a hook refuses is told Play.Start all the same: it is served when media comes.
                self._phase = Phase.RUNNING
        self._log.info("{what}: started on origin {origin}", what=self.session.doing, origin=upstream.name)

    def _publisher_media_begins(self, data: bytes) -> None:
        upstream = self._required_upstream
        self.transport.pauseProducing()
        upstream.transport.unregisterProducer()
        self.session.received += len(data)
        upstream.transport.write(data)
        self._half = self._shared.relay.relay(self.transport, upstream.transport, self, bulk=False)

    def _player_media_begins(self, upstream: Upstream, data: bytes) -> None:
        self._deadline.cancel()
        self._phase = Phase.RUNNING
        upstream.transport.pauseProducing()
        self.session.sent += len(data)
        self.transport.write(data)
        self._half = upstream.half = self._shared.relay.relay(upstream.transport, self.transport, self, bulk=True)

    # Another stream on the same connection

    def _publish_released(self) -> None:
        """The publisher's stream is free, and its next words are for us; its origin may end what it was saying."""
        rest = self._stop_relay()
        self._phase = Phase.NAMING
        self._expect("no further stream was named", self._shared.settings.rtmp_republish_timeout)
        self._negotiation.resume(rest)
        self.transport.resumeProducing()
        self._receive(b"")

    def _switch(self) -> None:
        """A player wants another stream: have its origin end, so that the relay stops at a message boundary."""
        self._phase = Phase.SWITCHING
        self.transport.pauseProducing()
        if self._half is None:
            self._switched()
            return
        upstream = self._required_upstream
        self._expect(f"origin {upstream.name}: closeStream not obeyed", SWITCH_TIMEOUT)
        upstream.transport.unregisterProducer()
        upstream.transport.write(CLOSE_STREAM)
        close_write(upstream.transport)

    def _switched(self) -> None:
        self._phase = Phase.NAMING
        self._stop_relay()
        self._drop_upstream()
        self._expect("no further stream was named", self._shared.settings.rtmp_identify_timeout)
        self._negotiation.resume()
        self.transport.resumeProducing()
        early, self._early = self._early, b""
        self._receive(early)

    # The relay (IRelayObserver)

    def relay_ended(self, half: IRelayedHalf, reason: EndReason) -> None:
        self._half = None
        self._count_relayed(half)
        match reason:
            case EndReason.EOF if self._publishes:
                self._client_done()
            case EndReason.EOF if self._phase is Phase.SWITCHING:
                self._switched()
            case EndReason.EOF if self._limited:
                self._finish(Outcome.FINISHED)
                self.transport.loseConnection()
            case EndReason.SOURCE_LOST if self._publishes:
                self._client_lost()
            case EndReason.SINK_LOST if not self._publishes:
                self._client_lost()
            case _:
                self._origin_gone()

    def _client_lost(self) -> None:
        self._finish(Outcome.CLIENT_LOST)
        self.transport.abortConnection()

    def _client_done(self) -> None:
        """A publisher has said its last word; what its origin still answers is passed on until that closes as well."""
        self._phase = Phase.CLIENT_DONE
        self._expect("the origin did not close", HALF_CLOSE_TIMEOUT)
        close_write(self._required_upstream.transport)

    def _stop_relay(self) -> bytes:
        """Take the relayed direction back; returns what it could not deliver. Harmless if there is none."""
        half, self._half = self._half, None
        if half is None:
            return b""
        rest = half.stop()
        self._count_relayed(half)
        return rest

    def _count_relayed(self, half: IRelayedHalf) -> None:
        if self._publishes:
            self.session.received += half.relayed
        else:
            self.session.sent += half.relayed

    # Ends

    def _expect(self, what: str, seconds: float) -> None:
        self._deadline.expect(what, seconds, self._too_late)

    def _too_late(self, what: str) -> None:
        if self._phase in (Phase.LINGERING, Phase.CLIENT_DONE):
            self._finish(Outcome.FINISHED)
            self.transport.abortConnection()
        else:
            self._fail(DeadlineExceeded(what))

    def finish(self) -> None:
        """The proxy is to end. Who has not named a stream has nothing to finish."""
        if self.session.key is None:
            self._finish(Outcome.REFUSED)
            self.transport.abortConnection()

    def shut_down(self) -> None:
        """The proxy ends: so does this session, now."""
        self._finish(Outcome.SHUTDOWN)
        self.transport.abortConnection()

    def _fail(self, error: BaseException | Failure) -> None:
        """End the session by an error, and say why to a client that can understand it."""
        relayed_raw = self._phase in (Phase.RUNNING, Phase.SWITCHING) and not self._publishes
        self._finish(outcome_of(error), error)
        if not self._negotiation.connected:
            self.transport.abortConnection()
        elif relayed_raw:
            # The relay stops anywhere in a message: nothing that we write could be understood behind it.
            self.transport.loseConnection()
        else:
            self._negotiation.refuse(*refusal(error, self._action))
            self._flush()
            self._linger()

    def _linger(self) -> None:
        """Close, but give the client the time to read what was said last."""
        self._phase = Phase.LINGERING
        self.transport.resumeProducing()
        close_write(self.transport)
        self._expect("the client did not close", LINGER)

    def _finish(self, outcome: Outcome, error: BaseException | Failure | None = None) -> None:
        """Record how the session ended and let go of the origin. What comes later changes nothing any more."""
        if self.session.outcome is not None:
            return
        self._deadline.cancel()
        self._stop_relay()
        self._shared.sessions.close(self.session, outcome, error)
        routing, self._routing = self._routing, None
        if routing is not None:
            routing.cancel()
        self._drop_upstream()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self.transport.unregisterProducer()
            upstream.close()

    @property
    def _required_upstream(self) -> Upstream:
        if self._upstream is None:
            raise ValueError(f"session {self.session.context} has no origin")
        return self._upstream

    @property
    def _log(self) -> ContextLogger:
        return ContextLogger(SOURCE, self.session.context)
