"""An offer and its answer: choosing the origin, asking it, and leading the client to our own ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from twisted.logger import Logger

from srsproxy.balancer.model import Endpoint, Origin, Surface, WebRtcSession
from srsproxy.balancer.routing import reach_origin
from srsproxy.errors import (
    NoOrigin,
    OriginLost,
    OriginRejected,
    OriginUnreachable,
    PeerError,
    SrsProxyError,
    describe,
    in_background,
    outcome_of,
)
from srsproxy.http.head import ResponseHead
from srsproxy.http.upstream import OriginConnection
from srsproxy.limits import Admission
from srsproxy.log import ContextLogger, new_context_id
from srsproxy.outcome import Outcome
from srsproxy.webrtc.addresses import candidates, public_addresses
from srsproxy.webrtc.offer import (
    Action,
    read_json_offer,
    read_offer,
    read_session,
    rewrite_json_answer,
    served_path,
    session_query,
    with_credentials,
)
from srsproxy.webrtc.originapi import Asked, OriginApi
from srsproxy.webrtc.sdp import CandidateAddress, IceCredentials, ice_credentials, rewrite_candidates
from srsproxy.webrtc.sessions import MediaSession, Sessions
from srsproxy.webrtc.shared import SOURCE, Shared

_MAX_TOLD: Final = 200
"""Bytes of an origin's refusal that the log tells."""

_CANDIDATE: Final = "\na=candidate:"

_UNENCODED: Final = "surrogateescape"
"""How bytes that are not UTF-8 stand in text."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client is answered.

    :ivar head: the origin's, with what it leads to changed.
    :ivar session: that has begun.
    """

    head: ResponseHead
    body: bytes
    session: MediaSession | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What an offer asks for.

    :ivar client: the ICE credentials of the client.
    :ivar is_json: whether it came by SRS's JSON API, where the origin's credentials cannot be chosen.
    """

    key: str
    action: Action
    path: bytes
    client: IceCredentials
    is_json: bool
    context: str = field(default_factory=new_context_id)

    @property
    def doing(self) -> str:
        """For the log."""
        return f"{self.action} {self.key}"


class Rejection(OriginRejected):
    """The origin has answered that it does not want the offer.

    :ivar reply: what it said.
    """

    def __init__(self, reply: Reply, message: str, code: str) -> None:
        super().__init__(message, code)
        self.reply = reply


class Negotiator:
    """Answers offers, and what is asked about their sessions."""

    def __init__(self, shared: Shared, sessions: Sessions) -> None:
        self._shared = shared
        self._sessions = sessions
        self._api = OriginApi(shared)

    async def whip(self, asked: Asked) -> Reply:
        """A POST by WHIP (RFC 9725, section 4.2) or WHEP.

        :raises PeerError: the request cannot be understood.
        :raises SrsProxyError: there is no answer to it.
        """
        vhosts = self._shared.settings.vhosts
        target = read_offer(asked.path, asked.query, asked.host, vhosts)
        sdp = asked.body.decode("utf-8", _UNENCODED)
        return await self._answer(
            asked,
            _Wish(
                key=str(target.key),
                action=target.action,
                path=target.path,
                client=ice_credentials(sdp),
                is_json=False,
            ),
        )

    async def json(self, asked: Asked, path: bytes, *, play: bool) -> Reply:
        """A POST to SRS's JSON API. Raises as :meth:`whip` does.

        :param path: of the API at the origin.
        """
        if b"callback=" in asked.query:
            raise PeerError("JSONP is not spoken here; pages of other sites may ask for JSON")
        target = read_json_offer(asked.body, play, self._shared.settings.vhosts)
        return await self._answer(
            asked,
            _Wish(
                key=str(target.key),
                action=target.action,
                path=path,
                client=ice_credentials(target.sdp),
                is_json=True,
            ),
        )

    async def delete(self, asked: Asked) -> Reply:
        """A DELETE of a session (RFC 9725, section 4.2).

        :raises NoOrigin: nothing is known of the session.
        :raises SrsProxyError: there is no answer to it.
        """
        asked = replace(asked, query=session_query(asked.query), body=b"")
        target = read_session(asked.query, asked.host, self._shared.settings.vhosts)
        origin = await self._owner(target.username, str(target.key))
        head, body = await self._api.call(asked, origin, _target(served_path(asked.path), asked.query))
        if head.status < HTTPStatus.MULTIPLE_CHOICES and target.username is not None:
            session = self._sessions.get(target.username)
            if session is not None:
                self._sessions.end(session, Outcome.FINISHED, forgotten=True)
            await self._shared.balancer.drop_webrtc(target.username)
        return Reply(head, body)

    async def patch(self, asked: Asked) -> Reply:
        """A PATCH of a session: trickle ICE, or a restart of ICE (RFC 9725, section 4.3).

        SRS knows neither, and takes a body that it can read for an offer. So it is given ICE credentials that nobody
        learns, lest a session begins that its hooks have refused; and one that has begun is taken back.

        :raises NoOrigin: nothing is known of the session.
        :raises SrsProxyError: there is no answer to it.
        """
        public = public_addresses(self._shared, asked)
        asked = replace(asked, query=session_query(asked.query))
        target = read_session(asked.query, asked.host, self._shared.settings.vhosts)
        origin = await self._owner(target.username, str(target.key))
        query = with_credentials(asked.query, self._shared.credentials.draw(origin.server, ""))
        head, body = await self._api.call(asked, origin, _target(served_path(asked.path), query))
        if head.status == HTTPStatus.CREATED:
            self._api.take_back(asked, origin, head)
            raise OriginRejected(f"origin {origin.id}: took a PATCH for an offer")
        sdp = body.decode("utf-8", _UNENCODED)
        if _CANDIDATE in sdp:
            body = rewrite_candidates(sdp, candidates(self._shared, public, origin)).encode("utf-8", _UNENCODED)
        return Reply(head, body)

    def forget(self, asked: Asked, reply: Reply) -> None:
        """The client is gone, and has not got its answer."""
        if reply.session is not None:
            self._sessions.end(reply.session, Outcome.CLIENT_LOST)
            in_background(_log, "drop a session", self._shared.balancer.drop_webrtc(reply.session.username))
            self._api.take_back(asked, reply.session.origin, reply.head)

    # Offers

    async def _answer(self, asked: Asked, wish: _Wish) -> Reply:
        try:
            admission = self._sessions.admit(asked.chain[0])
            try:
                return await self._answer_admitted(asked, wish, admission)
            except BaseException:
                admission.leave()
                raise
        except SrsProxyError as error:
            record = self._shared.log.open(SOURCE, wish.context, asked.chain[0])
            record.key, record.action = wish.key, wish.action
            self._shared.log.close(record, outcome_of(error), error)
            raise

    async def _answer_admitted(self, asked: Asked, wish: _Wish, admission: Admission) -> Reply:
        public = public_addresses(self._shared, asked)
        origin, connection = await self._reach(wish)
        query = asked.query
        if not wish.is_json:
            query = with_credentials(query, self._shared.credentials.draw(origin.server, wish.client.ufrag))
        head, body = await self._api.ask(asked, origin, connection, _target(wish.path, query))
        if HTTPStatus.MULTIPLE_CHOICES <= head.status < HTTPStatus.BAD_REQUEST:
            raise OriginLost(f"{connection.name}: sends the client elsewhere, to {head.value(b'location') or b''!r}")
        if head.status >= HTTPStatus.BAD_REQUEST:
            told = f"{connection.name}: {head.status} {head.reason.decode('latin-1')}"
            raise Rejection(Reply(head, body), told, str(head.status))
        try:
            body, answer = self._rewritten(wish, candidates(self._shared, public, origin), body)
            if answer is None:
                told = body[:_MAX_TOLD].decode("latin-1")
                raise Rejection(Reply(head, body), f"{connection.name}: {told}", str(head.status))
            session = await self._begin(wish, origin, ice_credentials(answer), admission)
        except Rejection:
            raise
        except PeerError as error:
            self._api.take_back(asked, origin, head)
            raise OriginLost(f"{connection.name}: its answer cannot be used") from error
        except BaseException:
            self._api.take_back(asked, origin, head)
            raise
        return Reply(head, body, session)

    async def _begin(self, wish: _Wish, origin: Origin, own: IceCredentials, admission: Admission) -> MediaSession:
        """Begin the session that the origin has begun.

        :param own: the ICE credentials of the origin.
        :raises SrsProxyError: that cannot be.
        """
        negotiated = WebRtcSession(wish.key, f"{own.ufrag}:{wish.client.ufrag}", origin.server, own.pwd, wish.action)
        session = self._sessions.begin(negotiated, origin, admission, wish.context)
        try:
            await self._shared.balancer.save_webrtc(negotiated)
        except SrsProxyError as error:
            self._sessions.fail(session, error)
            raise
        return session

    async def _reach(self, wish: _Wish) -> tuple[Origin, OriginConnection]:
        """A connection to the API of the stream's origin."""

        async def attempt(origin: Origin, endpoint: Endpoint) -> tuple[Origin, OriginConnection]:
            return origin, await self._shared.pool.connect(endpoint)

        def failed(error: OriginUnreachable) -> None:
            log = ContextLogger(SOURCE, wish.context)
            log.warn("{what}: {reason}; trying the next origin", what=wish.doing, reason=describe(error))

        return await reach_origin(self._shared.balancer, wish.key, Surface.RTC, attempt, failed, dial=Surface.API)

    def _rewritten(self, wish: _Wish, addresses: Sequence[CandidateAddress], body: bytes) -> tuple[bytes, str | None]:
        """The body for the client, and the SDP of the origin in it, if there is any.

        :raises PeerError: it is not what it should be.
        """

        def rewrite(sdp: str) -> str:
            changed = rewrite_candidates(sdp, addresses)
            if _CANDIDATE in sdp and _CANDIDATE not in changed:
                raise PeerError("it takes media over TCP only: set PROXY_WEBRTC_TCP_SERVER")
            return changed

        if wish.is_json:
            return rewrite_json_answer(body, rewrite)
        sdp = body.decode("utf-8", _UNENCODED)
        return rewrite(sdp).encode("utf-8", _UNENCODED), sdp

    # Sessions

    async def _owner(self, username: str | None, key: str) -> Origin:
        """The origin of a session.

        :raises NoOrigin: nothing is known of it.
        :raises OriginUnreachable: it is gone.
        """
        balancer, credentials = self._shared.balancer, self._shared.credentials
        if username is None:
            if await balancer.picked([key]) is None:
                raise NoOrigin("no session is named")
            return await balancer.pick(key, Surface.RTC)
        session = self._sessions.get(username)
        if session is not None:
            return session.origin
        negotiated = await balancer.load_webrtc(username)
        server = negotiated.server if negotiated is not None else None
        if server is None and credentials.password(username) is not None:
            server = await credentials.server(username)
        if server is None:
            raise NoOrigin("the session is not known")
        origin = await balancer.pinned(key, server, Surface.API)
        if origin is None:
            raise OriginUnreachable(f"origin {server} of the session is gone")
        return origin


def _target(path: bytes, query: bytes) -> bytes:
    return b"%b?%b" % (path, query) if query else path
