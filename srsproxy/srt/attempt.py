"""One attempt to have a caller taken by an origin: the handshake, repeated until it is answered or the time is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from srsproxy.errors import DeadlineExceeded, OriginUnreachable, PeerError
from srsproxy.relay.flow import Flow
from srsproxy.srt.handshake import Handshake, RejectionReason
from srsproxy.srt.negotiation import OriginHandshake
from srsproxy.srt.packet import shutdown

_REPEAT: Final = 0.1
"""Seconds after which a request is sent again. Callers take 0.25; but to a proxy, an origin is near, and if one packet
in ten is lost, ten in a row are not."""


_LATE: Final = 5.0
"""Seconds after which an origin that has not answered does not answer any more."""


class Attempt:
    """See the module's text.

    :param name: of the origin's endpoint, for errors.
    :param seconds: in which the origin must answer the induction, and then again the conclusion.
    """

    def __init__(self, clock: IReactorTime, flow: Flow, handshake: OriginHandshake, name: str, seconds: float) -> None:
        self._clock = clock
        self._flow = flow
        self._handshake = handshake
        self._name = name
        self._seconds = seconds
        self._answered: Deferred[Handshake] = Deferred(lambda _: self._stop())
        self._backlog: Handshake | None = None
        self._deadline = 0.0
        self._repeating: IDelayedCall | None = None

    def run(self) -> Deferred[Handshake]:
        """Begin; to be called once. Fires with the origin's answer to the conclusion, which may be a rejection.

        :raises OriginUnreachable: it does not answer the induction, or nobody listens there.
        :raises DeadlineExceeded: it has answered the induction, and not the conclusion. That says more about the
            conclusion than about the origin, and the origin may have taken the caller: so it must not go to another.
        """
        self._await_answer()
        return self._answered

    def answered(self, data: memoryview) -> None:
        """The origin has sent a handshake packet."""
        known = self._handshake.cookie
        try:
            answer = self._handshake.receive(data)
        except PeerError:
            return  # Another one may be better.
        if answer is None:
            if self._handshake.cookie != known:
                self._await_answer()
        elif answer.is_rejection and answer.rejection_reason == RejectionReason.BACKLOG:
            # Too many at once: SRS says so of what it takes some milliseconds later.
            self._backlog = answer
        else:
            self._finish(answer)

    def refused(self) -> None:
        """The origin's machine has said that nobody listens there."""
        self._fail("connection refused")

    def _await_answer(self) -> None:
        self._deadline = self._clock.seconds() + self._seconds
        self._request()

    def _request(self) -> None:
        self._stop()
        if self._flow.refusals:
            self.refused()
        elif self._clock.seconds() < self._deadline:
            self._flow.send(self._handshake.request)
            self._repeating = self._clock.callLater(_REPEAT, self._request)
        elif self._backlog is not None:
            self._finish(self._backlog)
        else:
            what = "induction" if self._handshake.cookie is None else "conclusion"
            self._fail(f"no answer to the {what} within {self._seconds:g} s")

    def _finish(self, answer: Handshake) -> None:
        self._stop()
        if not self._answered.called:
            self._answered.callback(answer)

    def _fail(self, why: str) -> None:
        self._stop()
        kind = OriginUnreachable if self._handshake.cookie is None else DeadlineExceeded
        if not self._answered.called:
            self._answered.errback(kind(f"connect origin {self._name}: {why}"))

    def _stop(self) -> None:
        if self._repeating is not None and self._repeating.active():
            self._repeating.cancel()
        self._repeating = None


class Abandoned:
    """A handshake that was given up after the origin may have taken the caller: if it says so late, it is told that
    nobody comes. Else the stream would be busy for seconds.

    :param ended: called when the flow is closed.
    """

    def __init__(
        self, clock: IReactorTime, flow: Flow, handshake: OriginHandshake, ended: Callable[[Abandoned], None]
    ) -> None:
        self._flow = flow
        self._handshake = handshake
        self._ended = ended
        self._waiting = clock.callLater(_LATE, self.close)
        flow.owner = self

    def answered(self, data: memoryview) -> None:
        """The origin has sent a handshake packet."""
        with contextlib.suppress(PeerError):
            answer = self._handshake.receive(data)
            if answer is not None:
                if not answer.is_rejection:
                    self._flow.send(shutdown(answer.socket_id))
                self.close()

    def close(self) -> None:
        """Wait no longer. To be called once."""
        if self._waiting.active():
            self._waiting.cancel()
        self._flow.close(forgotten=True)
        self._ended(self)
