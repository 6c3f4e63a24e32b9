"""The handshake with one origin on behalf of a caller (draft-sharabayko-srt, section 4.3.1), without I/O and clocks.

A caller has answered the proxy's induction with its conclusion, which is where it names its stream. Only then is it
known which origin is to have it. So the proxy repeats the induction there, and passes the conclusion on with the cookie
of the origin instead of its own. All else stays as it is: what caller and origin agree upon, encryption included, is
between them. In the origin's answer, the caller finds the cookie that it knows, and its own address.
"""

from __future__ import annotations

from dataclasses import replace

from srsproxy.srt.handshake import Handshake, HandshakeType, RejectionReason, induction_of, rejection


class OriginHandshake:
    """One such handshake.

    :ivar cookie: the origin's, once it has answered the induction.
    :ivar encryption: Encryption Field of that answer: 0 if the origin does not care for the length of keys.
    """

    def __init__(self, conclusion: Handshake, peer_ip: bytes) -> None:
        """
        :param conclusion: the caller's.
        :param peer_ip: the caller's address as handshakes tell it.
        """
        self._conclusion = conclusion
        self._peer_ip = peer_ip
        self.cookie: int | None = None
        self.encryption = 0

    @property
    def request(self) -> bytes:
        """What the origin is asked; to be sent again and again, until it has answered, and once more whenever the
        caller has not got the answer."""
        if self.cookie is None:
            return induction_of(self._conclusion)
        return bytes(replace(self._conclusion, cookie=self.cookie))

    def receive(self, data: memoryview) -> Handshake | None:
        """A handshake packet of the origin.

        :returns: its answer to the conclusion, which may be a rejection; ``None`` if this is of no further interest.
        :raises PeerError: it is malformed.
        """
        answer = Handshake.parse(data)
        if answer.destination != self._conclusion.socket_id:
            return None  # It is for whoever has had this port before.
        if answer.type == HandshakeType.INDUCTION and self.cookie is None:
            self.cookie = answer.cookie
            self.encryption = answer.encryption
        elif answer.is_rejection or (answer.type == HandshakeType.CONCLUSION and self.cookie is not None):
            return answer
        return None

    def answer_to_caller(self, answer: Handshake) -> bytes:
        """The origin's answer as the caller must get it."""
        return bytes(replace(answer, cookie=self._conclusion.cookie, peer_ip=self._peer_ip))

    def rejection(self, reason: RejectionReason) -> bytes:
        """What the caller is to get if it repeats its conclusion when it is of no use any more."""
        return rejection(self._conclusion, reason)
