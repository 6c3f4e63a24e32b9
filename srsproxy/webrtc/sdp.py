"""SDP (RFC 8866), as far as a proxy must read and change it: the ICE attributes of RFC 8839."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from srsproxy.errors import LimitExceeded, PeerError

MAX_SIZE: Final = 65_536
"""Characters of a session description. A browser that offers all its codecs, for audio, video and a few layers of
simulcast, writes less than 20,000."""

# The end of a line is a part of it; RFC 8866 asks for CRLF, and to be content with LF.
_LINE: Final = re.compile(r"[^\n]*+\n|[^\n]++")
# ice-char is narrower in RFC 8839, but there are agents that use "-" and "_" too. A colon would split a STUN username.
_UFRAG: Final = re.compile(r"a=ice-ufrag:([!-9;-~]{1,256})[ \t]*(?:\r?\n)?")
_PWD: Final = re.compile(r"a=ice-pwd:([!-~]{1,256})[ \t]*(?:\r?\n)?")
_CANDIDATE_PREFIX: Final = "a=candidate:"
# Of component 1, the only one, because WebRTC sends RTCP with RTP (RFC 8834, section 4.5).
_CANDIDATE: Final = re.compile(
    r"a=candidate:(?P<foundation>[!-~]+) 1 (?P<transport>udp|tcp) (?P<priority>[0-9]{1,10}) [!-~]+ [0-9]{1,5}"
    r"(?P<rest> typ [!-~]+(?: [ -~]*)?)(?P<end>\r?\n)?",
    re.IGNORECASE,
)
_PASSIVE: Final = re.compile(r" tcptype passive\b", re.IGNORECASE)
_RELATED: Final = re.compile(r" raddr [!-~]+(?: rport [!-~]+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """What one agent is called, and the key to the integrity of what is sent to it (RFC 8839, section 5.4)."""

    ufrag: str
    pwd: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CandidateAddress:
    """Where clients reach the proxy. ``host`` is an IP literal without brackets, or a name; ``tcp_port`` is ``None``
    where no media is taken over TCP."""

    host: str
    udp_port: int
    tcp_port: int | None


def ice_credentials(sdp: str) -> IceCredentials:
    """The ICE credentials of the first media section that has its own, or else those of the session. With BUNDLE, which
    SRS insists on, there is only one pair.

    :raises LimitExceeded: the text is longer than :data:`MAX_SIZE`.
    :raises PeerError: there are none.
    """
    session, *media = _sections(sdp)
    for section in (*media, session):
        ufrag, pwd = (next(filter(None, map(pattern.fullmatch, section)), None) for pattern in (_UFRAG, _PWD))
        if ufrag is not None and pwd is not None:
            return IceCredentials(ufrag[1], pwd[1])
    raise PeerError("the SDP has no ICE credentials")


def rewrite_candidates(answer: str, addresses: Sequence[CandidateAddress]) -> str:
    """An answer whose candidates are the proxy's addresses instead of the origin's.

    In each media section that has UDP candidates, there is one for each address afterwards, and the same for TCP. As
    far as there are as many, they are the old ones but for host and port, and in their order; others are like the last,
    with a foundation of their own. The related address of what is no host candidate is hidden (RFC 8839, section 5.1).

    No candidate of the origin's is left. So what cannot be rewritten is removed: TCP candidates if no address has a
    port for them, those that do not wait for connections, which a proxy does not make (RFC 6544, section 4.5), other
    components and transports, and lines that are no candidates by the grammar. There may be none afterwards. Whatever
    else the origin tells of its addresses, as in ``o=`` and ``c=``, stays: SRS has ``0.0.0.0`` there.

    :param addresses: of two equal ones, one is left out.
    :raises LimitExceeded: the answer is longer than :data:`MAX_SIZE`.
    :raises ValueError: there are no addresses.
    """
    if not addresses:
        raise ValueError("there are no addresses for the candidates")
    targets = {
        "udp": dict.fromkeys((address.host, address.udp_port) for address in addresses),
        "tcp": dict.fromkeys((address.host, address.tcp_port) for address in addresses if address.tcp_port is not None),
    }
    end = "\r\n" if "\r\n" in answer else "\n"
    return "".join(line for section in _sections(answer) for line in _rewritten(section, targets, end))


def _sections(sdp: str) -> list[list[str]]:
    """The lines of the session, and of each media section."""
    if len(sdp) > MAX_SIZE:
        raise LimitExceeded(f"the SDP is longer than {MAX_SIZE} characters")
    sections: list[list[str]] = [[]]
    for line in _LINE.findall(sdp):
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _rewritten(section: list[str], targets: Mapping[str, Collection[tuple[str, int]]], end: str) -> Iterator[str]:
    """The lines of a section, with all candidates where the first one was."""
    old: dict[str, list[re.Match[str]]] = {}
    for line in section:
        match = _CANDIDATE.fullmatch(line)
        if match is not None:
            transport = match["transport"].lower()
            if transport == "udp" or _PASSIVE.search(match["rest"]):
                old.setdefault(transport, []).append(match)
    used = {match["foundation"] for matches in old.values() for match in matches}
    unused = (text for text in map(str, itertools.count()) if text not in used)
    new = [
        _candidate(matches[min(index, len(matches) - 1)], None if index < len(matches) else next(unused), target, end)
        for transport, matches in old.items()
        for index, target in enumerate(targets[transport])
    ]
    for line in section:
        if line[: len(_CANDIDATE_PREFIX)].lower() != _CANDIDATE_PREFIX:
            yield line
        elif new:
            yield from new
            new = []


def _candidate(template: re.Match[str], foundation: str | None, target: tuple[str, int], end: str) -> str:
    """A candidate like ``template``.

    :param foundation: another than that of ``template``.
    :param end: of the line, if ``template`` has none.
    """
    host, port = target
    hidden = f" raddr {'::' if ':' in host else '0.0.0.0'} rport 9"  # noqa: S104 - nothing is bound to it
    return (
        f"a=candidate:{foundation or template['foundation']} 1 {template['transport']} {template['priority']} "
        f"{host} {port}{_RELATED.sub(hidden, template['rest'])}{template['end'] or end}"
    )
