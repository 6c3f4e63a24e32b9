"""The balancer of a single proxy: everything in the memory of this process."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.model import HlsSession, Origin, Surface, WebRtcSession
from srsproxy.balancer.policy import Policy
from srsproxy.interfaces import ILoadBalancer


@implementer(ILoadBalancer)
class MemoryLoadBalancer:
    """Origins, picks and sessions of this process only; all Deferreds have fired when they are returned.

    :param policy: chooses the origin of a new stream.
    """

    def __init__(self, knowledge: Knowledge, policy: Policy) -> None:
        self._knowledge = knowledge
        self._policy = policy

    def register(self, origin: Origin) -> Deferred[None]:
        return execute(self._knowledge.register, origin)

    def origins(self) -> Deferred[list[Origin]]:
        return succeed(self._knowledge.origins())

    def pick(
        self, key: str, surface: Surface, exclude: Collection[str] = (), prefer: str | None = None
    ) -> Deferred[Origin]:
        return execute(self._pick, key, surface, exclude, prefer)

    def _pick(self, key: str, surface: Surface, exclude: Collection[str], prefer: str | None) -> Origin:
        held = self._knowledge.held(key, surface, exclude)
        if held is not None:
            return held
        chosen = self._knowledge.choose(key, surface, exclude, prefer, self._policy)
        self._knowledge.assign(key, chosen, tried=True)
        return chosen

    def pinned(self, key: str, server: str, surface: Surface) -> Deferred[Origin | None]:
        return succeed(self._knowledge.pinned(key, server, surface))

    def picked(self, keys: Sequence[str]) -> Deferred[str | None]:
        return succeed(next((key for key in keys if self._knowledge.origin_of(key) is not None), None))

    def refresh(self, keys: Collection[str]) -> Deferred[None]:
        return execute(self._knowledge.refresh, keys)

    def report_failure(self, origin: Origin) -> Deferred[None]:
        return execute(self._knowledge.failed, origin)

    def report_success(self, origin: Origin) -> Deferred[None]:
        return execute(self._knowledge.succeeded, origin)

    def save_hls(self, session: HlsSession) -> Deferred[HlsSession]:
        return execute(self._knowledge.save_hls, session)

    def load_hls(self, spbhid: str) -> Deferred[HlsSession | None]:
        return succeed(self._knowledge.load_hls(spbhid))

    def save_webrtc(self, session: WebRtcSession) -> Deferred[None]:
        return execute(self._knowledge.save_webrtc, session)

    def load_webrtc(self, ufrag: str) -> Deferred[WebRtcSession | None]:
        return succeed(self._knowledge.load_webrtc(ufrag))

    def drop_webrtc(self, ufrag: str) -> Deferred[None]:
        return execute(self._knowledge.drop_webrtc, ufrag)
