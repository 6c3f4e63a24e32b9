"""SDP: ICE credentials, and candidates that become the proxy's addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.webrtc.sdp import MAX_SIZE, CandidateAddress, IceCredentials, ice_credentials, rewrite_candidates
from tests.recorded import http_body

V4 = CandidateAddress("192.0.2.1", 18000, None)
V4_TCP = CandidateAddress("192.0.2.1", 18000, 18001)
V6 = CandidateAddress("2001:db8::1", 18000, None)
V6_TCP = CandidateAddress("2001:db8::1", 18000, 18001)

ORIGIN = "10.1.2.3"
UDP = f"a=candidate:0 1 udp 2130706431 {ORIGIN} 8000 typ host generation 0"
TCP = f"a=candidate:1 1 tcp 2130706431 {ORIGIN} 8000 typ host tcptype passive"
AUDIO = ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0")
VIDEO = ("m=video 9 UDP/TLS/RTP/SAVPF 101", "c=IN IP4 0.0.0.0")
SESSION = ("v=0", "o=SRS 1 2 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite")


def sdp(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def rewritten(*lines: str, to: Sequence[CandidateAddress] = (V4_TCP,)) -> list[str]:
    """The lines of a media section after all that was rewritten."""
    before = (*SESSION, *AUDIO)
    after = rewrite_candidates(sdp(*before, *lines), to)
    assert after.startswith(sdp(*before))
    assert after.endswith("\r\n")
    return after.removeprefix(sdp(*before)).split("\r\n")[:-1]


# Credentials


def test_credentials_of_a_media_section() -> None:
    answer = sdp(*SESSION, *AUDIO, "a=ice-ufrag:abcd1234", "a=ice-pwd:pwd+/pwd", *VIDEO, "a=ice-ufrag:x", "a=ice-pwd:y")
    assert ice_credentials(answer) == IceCredentials("abcd1234", "pwd+/pwd")


def test_credentials_of_the_session() -> None:
    answer = sdp(*SESSION, "a=ice-ufrag:abcd1234", "a=ice-pwd:pwd", *AUDIO, *VIDEO)
    assert ice_credentials(answer) == IceCredentials("abcd1234", "pwd")


def test_credentials_of_a_media_section_go_before_those_of_the_session() -> None:
    # RFC 8839, section 5.4.
    answer = sdp(*SESSION, "a=ice-ufrag:session", "a=ice-pwd:x", *AUDIO, "a=ice-pwd:y", "a=ice-ufrag:audio")
    assert ice_credentials(answer) == IceCredentials("audio", "y")


def test_a_media_section_that_is_refused_has_no_credentials() -> None:
    answer = sdp(*SESSION, "m=audio 0 UDP/TLS/RTP/SAVPF 0", *VIDEO, "a=ice-ufrag:video", "a=ice-pwd:y")
    assert ice_credentials(answer) == IceCredentials("video", "y")


def test_lines_may_end_in_lf_and_the_last_one_in_nothing() -> None:
    assert ice_credentials("m=audio\na=ice-pwd:y\na=ice-ufrag:x") == IceCredentials("x", "y")


def test_credentials_of_agents_that_use_more_characters_than_they_should() -> None:
    assert ice_credentials(sdp(*AUDIO, "a=ice-ufrag:a-_=#", "a=ice-pwd:b-_:=#")) == IceCredentials("a-_=#", "b-_:=#")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        SESSION,
        (*AUDIO, "a=ice-ufrag:x"),
        (*AUDIO, "a=ice-pwd:x"),
        (*AUDIO, "a=ice-ufrag:", "a=ice-pwd:"),
        (*AUDIO, "a=ice-ufrag:x", *VIDEO, "a=ice-pwd:y"),
        (*AUDIO, "a=ice-ufrag:a b", "a=ice-pwd:y"),
        (*AUDIO, "a=ice-ufrag:a:b", "a=ice-pwd:y"),  # no STUN username could be told from it
        (*AUDIO, "a=ice-ufrag:é", "a=ice-pwd:y"),
        (*AUDIO, f"a=ice-ufrag:{'x' * 257}", "a=ice-pwd:y"),
        (*AUDIO, "a=ice-ufrag:x", f"a=ice-pwd:{'y' * 257}"),
        (*AUDIO, " a=ice-ufrag:x", "a=ice-pwd:y"),
        (*AUDIO, "a=ice-ufrag:x\x0ba=ice-pwd:y"),
    ],
)
def test_an_sdp_without_credentials_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(PeerError, match="no ICE credentials"):
        ice_credentials(sdp(*lines))


def test_passwords_are_not_told() -> None:
    assert "secret" not in repr(IceCredentials("ufrag", "secret"))


# Candidates


def test_candidates_become_the_proxys_address() -> None:
    assert rewritten(UDP, TCP) == [
        "a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0",
        "a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive",
    ]


def test_tcp_candidates_are_removed_where_no_media_is_taken_over_tcp() -> None:
    assert rewritten(UDP, TCP, to=[V4]) == ["a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0"]


def test_tcp_candidates_for_the_addresses_that_take_media_over_tcp() -> None:
    assert rewritten(TCP, to=[V4, V6_TCP]) == [
        "a=candidate:1 1 tcp 2130706431 2001:db8::1 18001 typ host tcptype passive"
    ]


def test_there_are_no_udp_candidates_if_the_origin_has_none() -> None:
    assert rewritten(TCP) == ["a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive"]


def test_one_line_for_each_address() -> None:
    name = CandidateAddress("media.example.org", 1, 2)
    assert rewritten(UDP, TCP, to=[V4_TCP, V6, name]) == [
        "a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0",
        "a=candidate:2 1 udp 2130706431 2001:db8::1 18000 typ host generation 0",
        "a=candidate:3 1 udp 2130706431 media.example.org 1 typ host generation 0",
        "a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive",
        "a=candidate:4 1 tcp 2130706431 media.example.org 2 typ host tcptype passive",
    ]


def test_several_candidates_become_one_for_one_address() -> None:
    other = "a=candidate:1 1 udp 2130706430 10.1.2.4 8000 typ host generation 0"
    assert rewritten(UDP, other) == ["a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0"]


def test_candidates_are_used_in_their_order() -> None:
    other = "a=candidate:x 1 UDP 2130706430 fd00::1 8000 typ host network-id 7"
    assert rewritten(UDP, other, to=[V6, V4, V4_TCP]) == [
        "a=candidate:0 1 udp 2130706431 2001:db8::1 18000 typ host generation 0",
        "a=candidate:x 1 UDP 2130706430 192.0.2.1 18000 typ host network-id 7",
    ]


def test_equal_addresses_make_one_candidate() -> None:
    other_port = CandidateAddress("192.0.2.1", 18002, 18001)
    lines = rewritten(UDP, TCP, to=[V4_TCP, V4_TCP, V4, other_port])
    assert [line.split()[4:6] for line in lines] == [
        ["192.0.2.1", "18000"],
        ["192.0.2.1", "18002"],
        ["192.0.2.1", "18001"],
    ]
    assert len({line.split()[0] for line in lines}) == 3


def test_candidates_of_both_transports_in_any_order() -> None:
    other_tcp = f"a=candidate:3 1 TCP 1 {ORIGIN} 8001 typ host tcptype passive ufrag abcd"
    assert rewritten(TCP, UDP, other_tcp, to=[V4_TCP, V6_TCP]) == [
        "a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive",
        "a=candidate:3 1 TCP 1 2001:db8::1 18001 typ host tcptype passive ufrag abcd",
        "a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0",
        "a=candidate:2 1 udp 2130706431 2001:db8::1 18000 typ host generation 0",
    ]


def test_other_attributes_among_candidates_stay() -> None:
    other = f"a=candidate:5 1 udp 1 {ORIGIN} 8001 typ host"
    assert rewritten("a=mid:0", UDP, "a=rtcp-mux", other, "a=end-of-candidates") == [
        "a=mid:0",
        "a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0",
        "a=rtcp-mux",
        "a=end-of-candidates",
    ]


def test_what_a_candidate_says_besides_its_address_stays() -> None:
    line = f"a=candidate:Hc0a80001 1 UDP 659136 {ORIGIN} 54555 typ host generation 0 ufrag EsAw network-id 1 x-y z"
    assert rewritten(line) == [line.replace(f"{ORIGIN} 54555", "192.0.2.1 18000")]


@pytest.mark.parametrize(("to", "hidden"), [(V4, "0.0.0.0"), (V6, "::")])
@pytest.mark.parametrize("kind", ["srflx", "prflx", "relay"])
def test_the_related_address_is_hidden(kind: str, to: CandidateAddress, hidden: str) -> None:
    # RFC 8839, section 5.1.
    line = f"a=candidate:4 1 udp 1694498815 203.0.113.9 40000 typ {kind} raddr {ORIGIN} rport 8000 generation 0"
    assert rewritten(line, to=[to]) == [
        f"a=candidate:4 1 udp 1694498815 {to.host} 18000 typ {kind} raddr {hidden} rport 9 generation 0"
    ]


def test_a_related_address_without_a_port_is_hidden_too() -> None:
    line = f"a=candidate:4 1 udp 1 203.0.113.9 40000 typ srflx RADDR {ORIGIN}"
    assert rewritten(line, to=[V4]) == ["a=candidate:4 1 udp 1 192.0.2.1 18000 typ srflx raddr 0.0.0.0 rport 9"]


@pytest.mark.parametrize(
    "line",
    [
        f"a=candidate:1 1 tcp 1 {ORIGIN} 9 typ host tcptype active",
        f"a=candidate:1 1 tcp 1 {ORIGIN} 8000 typ host tcptype so",
        f"a=candidate:1 1 tcp 1 {ORIGIN} 8000 typ host",
        f"a=candidate:1 2 udp 1 {ORIGIN} 8001 typ host",
        f"a=candidate:1 1 ssltcp 1 {ORIGIN} 443 typ host",
        f"a=candidate:1 1 udp 1 {ORIGIN} 8000",
        f"a=candidate:1 1 udp 1 {ORIGIN} 8000 type host",
        f"a=candidate:1 1 udp 1 {ORIGIN} port typ host",
        f"a=candidate:1 1 udp one {ORIGIN} 8000 typ host",
        f"a=candidate:1  1 udp 1 {ORIGIN} 8000 typ host",
        f"a=candidate: 1 udp 1 {ORIGIN} 8000 typ host",
        f"a=candidate:1 1 udp 1 {ORIGIN} 8000 typ host é",
        f"a=candidate:1 1 udp 1 {ORIGIN} 8000 typ host\ra=x:",
        f"a=candidate:{ORIGIN}",
        "a=candidate:",
        f"A=Candidate:1 1 udp {ORIGIN}",
    ],
)
def test_no_line_that_cannot_be_rewritten_tells_of_the_origin(line: str) -> None:
    assert rewritten("a=mid:0", line, "a=rtcp-mux") == ["a=mid:0", "a=rtcp-mux"]
    assert rewritten("a=mid:0", line, UDP) == rewritten("a=mid:0", UDP)


def test_an_active_tcp_candidate_does_not_take_the_place_of_a_passive_one() -> None:
    active = f"a=candidate:7 1 tcp 1 {ORIGIN} 9 typ host tcptype active"
    assert rewritten(active, TCP) == ["a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive"]


def test_candidates_before_the_first_media_section() -> None:
    assert rewrite_candidates(sdp("v=0", UDP, *AUDIO), [V4]) == sdp("v=0", *rewritten(UDP, to=[V4]), *AUDIO)


def test_each_media_section_has_its_own_candidates() -> None:
    lines = rewritten(UDP, *VIDEO, UDP, TCP, *VIDEO, "a=inactive", to=[V4_TCP, V6])
    mine = [
        "a=candidate:0 1 udp 2130706431 192.0.2.1 18000 typ host generation 0",
        "a=candidate:1 1 udp 2130706431 2001:db8::1 18000 typ host generation 0",
    ]
    assert lines == [
        *mine,
        *VIDEO,
        mine[0],
        mine[1].replace(":1 1 ", ":2 1 "),  # 1 is the foundation of the TCP candidate
        "a=candidate:1 1 tcp 2130706431 192.0.2.1 18001 typ host tcptype passive",
        *VIDEO,
        "a=inactive",
    ]


def test_lines_end_as_they_did() -> None:
    answer = sdp(*SESSION, *AUDIO, UDP, TCP)
    assert rewrite_candidates(answer.replace("\r\n", "\n"), [V4_TCP, V6_TCP]) == rewrite_candidates(
        answer, [V4_TCP, V6_TCP]
    ).replace("\r\n", "\n")


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_candidate_at_the_end_gets_the_end_of_line_that_it_lacks(end: str) -> None:
    answer = end.join([*AUDIO, UDP])
    assert rewrite_candidates(answer, [V4, V6]) == rewrite_candidates(answer + end, [V4, V6])


def test_a_line_that_is_not_whole_stays_so() -> None:
    assert rewrite_candidates("m=audio\r\na=mid:0", [V4]) == "m=audio\r\na=mid:0"
    assert rewrite_candidates(f"m=audio\r\n{UDP}\r\na=mid:0", [V4]).endswith("generation 0\r\na=mid:0")


def test_without_addresses_there_is_nothing_to_rewrite_to() -> None:
    with pytest.raises(ValueError, match="no addresses"):
        rewrite_candidates(sdp(UDP), [])


@pytest.mark.parametrize("read", [ice_credentials, lambda text: rewrite_candidates(text, [V4])])
def test_a_text_that_is_too_long_is_refused(read: object) -> None:
    assert callable(read)
    text = sdp("a=ice-ufrag:x", "a=ice-pwd:y")
    read(text.ljust(MAX_SIZE))
    with pytest.raises(LimitExceeded, match=f"longer than {MAX_SIZE} characters"):
        read(text.ljust(MAX_SIZE + 1))


@pytest.mark.parametrize(
    "unit",
    ["\n", "m=\r\n", "a=candidate:", "a=candidate:\n", f"{UDP}\n", " typ", "a=ice-ufrag:", " tcptype ", " raddr x"],
)
@pytest.mark.parametrize("start", ["", "a=candidate:1 1 tcp 1 h 1 typ host "])
def test_time_grows_with_the_size_only(start: str, unit: str) -> None:
    text = start + unit * ((MAX_SIZE - len(start)) // len(unit))
    begun = process_time()
    rewrite_candidates(text, [V4_TCP, V6_TCP])
    with pytest.raises(PeerError):
        ice_credentials(text)
    assert process_time() - begun < 1


# Recorded traffic


@pytest.mark.parametrize("name", ["whip.response", "whep.response", "rtc_play_legacy.response"])
def test_recorded_answers(name: str) -> None:
    text = http_body(name).decode()
    answer = json.loads(text)["sdp"] if name.startswith("rtc") else text
    after = rewrite_candidates(answer, [V4_TCP])
    assert after == answer.replace("udp 2130706431 127.0.0.1 28001", "udp 2130706431 192.0.2.1 18000").replace(
        "tcp 2130706431 127.0.0.1 28001", "tcp 2130706431 192.0.2.1 18001"
    )
    assert after.count("192.0.2.1") == 4
    assert "127.0.0.1" not in after
    assert ice_credentials(after) == ice_credentials(answer)


@pytest.mark.parametrize(
    ("name", "credentials"),
    [
        ("whip.request", IceCredentials("ftWT", "4dzQOBZLqF2fGQesACIK6H")),
        ("whip.response", IceCredentials("033ty1w4", "04mrd5in59280z4zl08bq48505wubw75")),
        ("whep.request", IceCredentials("PJWy", "Igae68FA8B9iA5nOJoNYVN")),
        ("whep.response", IceCredentials("m5w4865i", "432v13al3726071511s606ed81917331")),
    ],
)
def test_recorded_credentials(name: str, credentials: IceCredentials) -> None:
    assert ice_credentials(http_body(name).decode()) == credentials


# Any input

hosts = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "media.example.org"])
ports = st.integers(1, 3)
some_addresses = st.lists(
    st.builds(CandidateAddress, host=hosts, udp_port=ports, tcp_port=st.none() | ports), min_size=1, max_size=4
)
candidate_lines = st.builds(
    "a=candidate:{} {} {} {} {} 8000{}".format,
    st.sampled_from(["0", "1", "2", "x"]),
    st.sampled_from(["1", "1", "1", "2"]),
    st.sampled_from(["udp", "tcp", "UDP", "TCP", "sctp"]),
    st.sampled_from(["1", "2130706431"]),
    st.sampled_from([ORIGIN, "fd00::1"]),
    st.sampled_from(
        ["", " typ host", " typ host tcptype passive", " typ host tcptype active", f" typ srflx raddr {ORIGIN} rport 1"]
    ),
)
other_lines = st.sampled_from(
    ["m=audio 9 RTP 0", "m=", "a=ice-ufrag:x", "a=ice-pwd:y", "a=mid:0", "", "\r", " ", "a=candidat", "é\x0b\u2028"]
)
some_lines = st.lists(
    st.tuples(candidate_lines | other_lines | st.text(max_size=8), st.sampled_from(["\r\n", "\n", "\r"])), max_size=12
).map(lambda lines: "".join(line + end for line, end in lines))
texts = st.one_of(some_lines, some_lines.map(lambda text: text.rstrip("\r\n")), st.text(max_size=60))


@given(text=texts)
def test_any_text_has_credentials_or_is_a_peer_error(text: str) -> None:
    try:
        credentials = ice_credentials(text)
    except PeerError:
        return
    assert f"a=ice-ufrag:{credentials.ufrag}" in text
    assert f"a=ice-pwd:{credentials.pwd}" in text


@given(text=texts.filter(lambda text: "a=candidate:" not in text.lower()), addresses=some_addresses)
def test_a_text_without_candidates_stays_as_it_is(text: str, addresses: list[CandidateAddress]) -> None:
    assert rewrite_candidates(text, addresses) == text


@given(text=texts, addresses=some_addresses)
def test_rewriting_twice_is_rewriting_once(text: str, addresses: list[CandidateAddress]) -> None:
    once = rewrite_candidates(text, addresses)
    assert rewrite_candidates(once, addresses) == once


@given(text=texts, addresses=some_addresses)
def test_nothing_but_candidates_changes_and_no_two_are_alike(text: str, addresses: list[CandidateAddress]) -> None:
    after = rewrite_candidates(text, addresses)

    def others(lines: str) -> list[str]:
        return [line for line in lines.split("\n") if not line.startswith("a=candidate:")]

    known = {(address.host, address.udp_port) for address in addresses}
    known |= {(address.host, address.tcp_port) for address in addresses if address.tcp_port is not None}
    # A candidate may have been the last line, without its end.
    assert "\n".join(others(after)).rstrip("\n") == "\n".join(others(text)).rstrip("\n")
    for section in after.split("\nm="):
        candidates = [line.rstrip("\r") for line in section.split("\n") if line.startswith("a=candidate:")]
        assert len(set(candidates)) == len(candidates)
        assert {(line.split()[4], int(line.split()[5])) for line in candidates} <= known
        assert not [line for line in candidates if ORIGIN in line or "fd00::1" in line]
