"""The records of HLS and WebRTC sessions that proxies share, and what this proxy knows of them."""

from __future__ import annotations

from collections.abc import Callable

from srsproxy.balancer.knowledge import Knowledge
from srsproxy.balancer.model import HlsSession, WebRtcSession
from srsproxy.balancer.redis import scripts
from srsproxy.balancer.redis.model import Lifetimes, StoreError
from srsproxy.balancer.redis.records import Keys, decode_hls, decode_webrtc
from srsproxy.balancer.redis.store import Store
from srsproxy.errors import PeerError


class SharedSessions:
    """See the module's text.

    :param failed: told what was done without Redis, and why.
    :param has_joined: tells whether Redis has all that this proxy knows: only then does it decide what is over.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        store: Store,
        keys: Keys,
        lifetimes: Lifetimes,
        failed: Callable[[str, Exception], None],
        has_joined: Callable[[], bool],
    ) -> None:
        self._knowledge = knowledge
        self._store = store
        self._keys = keys
        self._lifetimes = lifetimes
        self._failed = failed
        self._has_joined = has_joined

    async def save_hls(self, session: HlsSession) -> HlsSession:
        """See :meth:`ILoadBalancer.save_hls`."""
        try:
            text = await self._store.run(*scripts.save_hls(self._keys, session, self._lifetimes.hls))
        except StoreError as error:
            self._failed(f"HLS session of {session.key} kept here", error)
            return self._knowledge.save_hls(session)
        if not isinstance(text, str):
            raise ValueError(f"spbhid {session.spbhid!r} is that of another stream")
        kept = decode_hls(text)
        self._knowledge.learn_hls(kept)
        return kept

    async def load_hls(self, spbhid: str) -> HlsSession | None:
        """See :meth:`ILoadBalancer.load_hls`."""
        try:
            text = await self._store.run(*scripts.load_hls(self._keys, spbhid, self._lifetimes.hls))
            if isinstance(text, str):
                self._knowledge.learn_hls(decode_hls(text))
        except (StoreError, PeerError) as error:
            self._failed(f"HLS session {spbhid} looked for here", error)
        return self._knowledge.load_hls(spbhid)

    async def save_webrtc(self, session: WebRtcSession) -> None:
        """See :meth:`ILoadBalancer.save_webrtc`."""
        self._knowledge.save_webrtc(session)
        try:
            await self._store.run(*scripts.save_webrtc(self._keys, session, self._lifetimes.webrtc))
        except StoreError as error:
            self._failed("WebRTC session kept here", error)

    async def load_webrtc(self, ufrag: str) -> WebRtcSession | None:
        """See :meth:`ILoadBalancer.load_webrtc`."""
        try:
            text = await self._store.run(*scripts.load_webrtc(self._keys, ufrag, self._lifetimes.webrtc))
            session = decode_webrtc(text) if isinstance(text, str) else None
        except (StoreError, PeerError) as error:
            self._failed("WebRTC session looked for here", error)
            return self._knowledge.load_webrtc(ufrag)
        if session is None and not self._has_joined():
            return self._knowledge.load_webrtc(ufrag)
        if session is None:
            self._knowledge.drop_webrtc(ufrag)
        else:
            self._knowledge.save_webrtc(session)
        return session

    async def drop_webrtc(self, ufrag: str) -> None:
        """See :meth:`ILoadBalancer.drop_webrtc`."""
        self._knowledge.drop_webrtc(ufrag)
        try:
            await self._store.command("DEL", self._keys.webrtc(ufrag), self._keys.ufrag(ufrag))
        except StoreError as error:
            self._failed("WebRTC session dropped here only", error)

    async def restore(self) -> None:
        """Write back all, where Redis has nothing newer.

        :raises StoreError: Redis is of no use.
        """
        for hls in self._knowledge.hls_sessions():
            await self._store.run(*scripts.save_hls(self._keys, hls, self._lifetimes.hls))
        for webrtc in self._knowledge.webrtc_sessions():
            if self._knowledge.load_webrtc(webrtc.ufrag) is not None:  # It may have ended meanwhile.
                await self._store.run(*scripts.save_webrtc(self._keys, webrtc, self._lifetimes.webrtc, restore=True))
