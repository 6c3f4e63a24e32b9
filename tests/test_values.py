"""What the text of a setting means, kind by kind; what each kind refuses is in test_config.py."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from srsproxy import values
from srsproxy.values import (
    ANNOUNCED,
    DATAGRAM_LISTENER,
    DURATION,
    DURATION_OR_ZERO,
    HOST,
    NAMES,
    NETWORKS,
    STREAM_LISTENER,
    BindAddress,
    Listener,
)


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("30s", 30.0),
            ("1m30s", 90.0),
            ("500ms", 0.5),
            ("1.5h", 5400.0),
            (".5s", 0.5),
            ("1.s", 1.0),
            ("250us", 0.00025),
            ("250µs", 0.00025),  # micro sign
            ("250μs", 0.00025),  # Greek mu
            ("2000ns", 0.000002),
            ("1h2m3s4ms", 3723.004),
            ("240h", 864000.0),
        ],
    )
    def test_durations_are_gos(self, text: str, seconds: float) -> None:
        assert DURATION.parse(text) == pytest.approx(seconds)

    def test_zero_is_a_duration_where_it_means_at_once(self) -> None:
        assert DURATION_OR_ZERO.parse("0s") == 0
        with pytest.raises(ValueError, match=r"^$"):
            DURATION.parse("0s")

    @pytest.mark.parametrize("separator", [",", ", ", " ,", ",,"])
    def test_lists_are_separated_by_commas(self, separator: str) -> None:
        assert NAMES.parse(f"a.example{separator}b_2") == {"a.example", "b_2"}

    def test_networks(self) -> None:
        assert NETWORKS.parse("192.0.2.1, 10.0.0.0/8, 2001:db8::/32") == (
            ipaddress.ip_network("192.0.2.1/32"),
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("2001:db8::/32"),
        )

    @pytest.mark.parametrize(
        "text", ["1935", "127.0.0.1:1935", ":1935", "[::1]:1935", "origin.example:1935", "udp://0.0.0.0:8000"]
    )
    def test_endpoints_of_origins_are_kept_as_announced(self, text: str) -> None:
        assert ANNOUNCED.parse(text) == text

    @pytest.mark.parametrize("text", ["192.0.2.1", "::1", "redis", "redis-1.example.com"])
    def test_hosts(self, text: str) -> None:
        assert HOST.parse(text) == text


class TestListeners:
    @pytest.mark.parametrize(
        ("text", "host", "port", "description"),
        [
            ("127.0.0.1:1935", "127.0.0.1", 1935, "tcp:1935:interface=127.0.0.1:backlog=1024"),
            ("localhost:1935", "127.0.0.1", 1935, "tcp:1935:interface=127.0.0.1:backlog=1024"),
            ("[::1]:0", "::1", 0, "tcp6:0:interface=\\:\\:1:backlog=1024"),
            ("[2001:DB8::0]:65535", "2001:db8::", 65535, "tcp6:65535:interface=2001\\:db8\\:\\::backlog=1024"),
        ],
    )
    def test_address(self, text: str, host: str, port: int, description: str) -> None:
        listener = STREAM_LISTENER.parse(text)
        assert listener.where == BindAddress(host, port)
        assert listener.endpoint_description() == description
        assert DATAGRAM_LISTENER.parse(text) == BindAddress(host, port)

    @pytest.mark.parametrize(
        ("dual_stack", "interface", "description"),
        [
            (True, "::", "tcp6:1935:interface=\\:\\::backlog=1024"),
            (False, "0.0.0.0", "tcp:1935:interface=0.0.0.0:backlog=1024"),
        ],
    )
    @pytest.mark.parametrize("text", ["1935", ":1935"])
    def test_port_alone_is_all_interfaces(
        self, monkeypatch: pytest.MonkeyPatch, text: str, dual_stack: bool, interface: str, description: str
    ) -> None:
        monkeypatch.setattr(values, "_dual_stack", lambda: dual_stack)
        assert STREAM_LISTENER.parse(text).endpoint_description() == description
        assert DATAGRAM_LISTENER.parse(text).interface == interface

    def test_all_interfaces_include_those_of_ipv4(self) -> None:
        interface = BindAddress("", 0).interface
        with socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET) as listener:
            listener.bind((interface, 0))
            listener.listen()
            socket.create_connection(("127.0.0.1", listener.getsockname()[1])).close()

    def test_no_dual_stack_where_ipv6_is_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_ipv6(*_args: object) -> None:
            raise OSError(97, "Address family not supported by protocol")

        monkeypatch.setattr("socket.socket", no_ipv6)
        assert BindAddress("", 1).interface == "0.0.0.0"

    @pytest.mark.parametrize(
        "text", ["tcp:1935", "unix:/run/srsproxy/rtmp.sock", "haproxy:tcp:1935:interface=127.0.0.1", "tcp6:1935"]
    )
    def test_endpoint_description_is_taken_as_it_is(self, text: str) -> None:
        listener = STREAM_LISTENER.parse(text)
        assert listener.endpoint_description() == text
        assert str(listener) == text

    def test_endpoint_with_certificates(self, tmp_path: Path) -> None:
        text = f"tls:{tmp_path}:443"
        with pytest.raises(ValueError, match=r"no \*\.pem in"):
            STREAM_LISTENER.parse(text)
        (tmp_path / "a.pem").touch()
        assert STREAM_LISTENER.parse(text) == Listener(text)

    @pytest.mark.parametrize(("text", "shown"), [("1935", ":1935"), ("1.2.3.4:5", "1.2.3.4:5"), ("[::1]:5", "[::1]:5")])
    def test_address_is_shown_as_it_is_written(self, text: str, shown: str) -> None:
        assert str(STREAM_LISTENER.parse(text)) == shown
