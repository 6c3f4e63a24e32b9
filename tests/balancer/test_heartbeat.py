"""From the JSON of a heartbeat to an origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srsproxy.balancer.model import MAX_LISTENERS, Endpoint, Origin, Surface, parse_heartbeat
from srsproxy.errors import PeerError

CAPTURES = Path(__file__).parents[1] / "captures"


def recorded(name: str) -> Any:
    return json.loads((CAPTURES / name).read_bytes().partition(b"\r\n\r\n")[2])


def heartbeat(**changes: Any) -> dict[str, Any]:
    """A minimal heartbeat, changed; a field that is set to ``...`` is left out."""
    body = {"ip": "192.0.2.1", "server": "vid-1", "service": "s1", "pid": "1", "rtmp": ["1935"], **changes}
    return {name: value for name, value in body.items() if value is not ...}


def test_the_recorded_full_heartbeat() -> None:
    origin = parse_heartbeat(recorded("heartbeat_full.http"))
    assert origin == Origin(
        ip="127.0.0.1",
        server="vid-53g0u8r",
        service="iuh43104",
        pid="31232",
        device_id="fx-dev-1",
        rtmp=("29351",),
        http=("28081",),
        api=("29851",),
        srt=("udp://0.0.0.0:29081",),
        rtc=("udp://0.0.0.0:28001", "tcp://0.0.0.0:28001"),
    )


def test_the_recorded_minimal_heartbeat() -> None:
    origin = parse_heartbeat(recorded("heartbeat_min.http"))
    assert origin.dial(Surface.RTMP) == (Endpoint("192.0.2.2", 29353), Endpoint("127.0.0.1", 29354))
    assert origin.dial(Surface.HTTP) == (Endpoint("127.0.0.1", 28083),)
    assert origin.dial(Surface.API) == (Endpoint("192.0.2.2", 29854),)
    assert origin.dial(Surface.SRT) == origin.dial(Surface.RTC) == ()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ip": ...}, "ip: missing"),
        ({"ip": None}, "ip: missing"),
        ({"ip": ""}, "ip: empty"),
        ({"ip": "0.0.0.0"}, "ip: '0.0.0.0' is every address"),
        ({"ip": "a b"}, "ip: 'a b' has characters other than"),
        ({"ip": "a" * 300}, "ip: longer than 253 characters"),
        ({"server": ...}, "server: missing"),
        ({"server": 7}, "server: not a string"),
        ({"server": "a\nb"}, r"server: 'a\\nb' has characters other than"),
        ({"server": "a" * 129}, "server: longer than 128 characters"),
        ({"service": "\ud800"}, "service: .* has characters other than"),
        ({"service": "\u00e4"}, "service: .* has characters other than"),
        ({"pid": 31232}, "pid: not a string"),
        ({"pid": ""}, "pid: empty"),
        ({"device_id": ["x"]}, "device_id: not a string"),
        ({"device_id": "a\x1b[2J"}, "device_id: .* has control characters"),
        ({"device_id": "a" * 257}, "device_id: longer than 256 characters"),
        ({"rtmp": "1935"}, "rtmp: not a list"),
        ({"rtmp": [1935]}, "rtmp: not a list of strings"),
        ({"rtmp": ["1935"] * (MAX_LISTENERS + 1)}, "rtmp: more than 16 listeners"),
        ({"rtmp": ["nonsense"]}, "rtmp: 'nonsense' is no listener"),
        ({"rtmp": ...}, "no listener is announced: set `ports on`"),
        ({"rtmp": []}, "no listener is announced: set `ports on`"),
        ({"srt": ["tcp://0.0.0.0:1"]}, "srt: 'tcp://0.0.0.0:1' runs on tcp, not on udp"),
    ],
)
def test_an_unusable_field_is_named(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(PeerError, match=f"^{error}"):
        parse_heartbeat(heartbeat(**changes))


@pytest.mark.parametrize("body", [None, 1, "x", [], [heartbeat()], True])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(PeerError, match="no JSON object"):
        parse_heartbeat(body)


def test_optional_fields_may_be_absent_null_or_empty() -> None:
    expected = parse_heartbeat(heartbeat())
    assert parse_heartbeat(heartbeat(device_id=None, http=None, srt=[])) == expected
    assert expected.device_id == ""


def test_the_device_id_may_be_any_readable_text() -> None:
    assert parse_heartbeat(heartbeat(device_id="Studio M\u00fcnchen 2")).device_id == "Studio M\u00fcnchen 2"


def test_unknown_fields_are_ignored() -> None:
    assert parse_heartbeat(heartbeat(summaries={"data": 1}, more=[[]])) == parse_heartbeat(heartbeat())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
LISTENERS = st.lists(
    st.text(max_size=20) | st.from_regex(r"\A((tcp|udp)://)?([0-9a-z.:\[\]%-]{0,12}:)?[0-9]{1,6}\Z"), max_size=18
)
HEARTBEATS = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.text(min_size=1, max_size=10) | st.from_regex(r"\A[a-z0-9.:-]{1,8}\Z") | JSON
            for name in ("ip", "server", "service", "pid", "device_id")
        },
        **{surface.value: LISTENERS | JSON for surface in Surface},
        "summaries": JSON,
    },
)


@given(JSON | HEARTBEATS)
@example(heartbeat(ip="::1%0"))
@example(heartbeat(rtmp=["[1:2:3:4:5:6:7:8%]:1"]))
def test_any_json_is_an_origin_that_can_be_dialled_or_a_peer_error(body: object) -> None:
    try:
        origin = parse_heartbeat(body)
    except PeerError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.isprintable()
        return
    endpoints = [endpoint for surface in Surface for endpoint in origin.dial(surface)]
    assert endpoints
    for endpoint in endpoints:
        assert endpoint.host
        assert 0 < endpoint.port < 65536
        assert endpoint.transport in ("tcp", "udp")
    assert origin.id.isascii()
    assert origin.id.isprintable()
    assert str(origin).isprintable()
