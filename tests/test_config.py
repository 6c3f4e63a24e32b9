"""Settings: names, defaults, precedence, what is refused and how that is told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from srsproxy.config import (
    SETTINGS,
    Group,
    LoadBalancerType,
    LogFormat,
    LogThreshold,
    PickPolicy,
    Setting,
    Settings,
    explain_unknown,
)
from srsproxy.errors import ConfigError, describe
from srsproxy.values import BindAddress, Listener

ROOT = Path(__file__).parent.parent

# wire-facts: "Settings of the Go proxy": name, value in the environment for the default, default
GO_SETTINGS: dict[str, object] = {
    "PROXY_RTMP_SERVER": Listener(BindAddress("", 11935)),
    "PROXY_HTTP_SERVER": Listener(BindAddress("", 18080)),
    "PROXY_HTTP_API": Listener(BindAddress("", 11985)),
    "PROXY_SYSTEM_API": Listener(BindAddress("", 12025)),
    "PROXY_WEBRTC_SERVER": BindAddress("", 18000),
    "PROXY_SRT_SERVER": BindAddress("", 20080),
    "PROXY_STATIC_FILES": None,
    "PROXY_LOAD_BALANCER_TYPE": LoadBalancerType.MEMORY,
    "PROXY_REDIS_HOST": "127.0.0.1",
    "PROXY_REDIS_PORT": 6379,
    "PROXY_REDIS_PASSWORD": "",
    "PROXY_REDIS_DB": 0,
    "PROXY_GRACE_QUIT_TIMEOUT": 20.0,
    "PROXY_FORCE_QUIT_TIMEOUT": 30.0,
    "PROXY_DEFAULT_BACKEND_ENABLED": False,
    "PROXY_DEFAULT_BACKEND_IP": "127.0.0.1",
    "PROXY_DEFAULT_BACKEND_RTMP": "1935",
    "PROXY_DEFAULT_BACKEND_HTTP": "",
    "PROXY_DEFAULT_BACKEND_API": "1985",
    "PROXY_DEFAULT_BACKEND_RTC": "8000",
    "PROXY_DEFAULT_BACKEND_SRT": "10080",
}
OWN_SETTINGS: dict[str, object] = {
    "PROXY_PROFILE": None,
    "PROXY_VHOSTS": frozenset(),
    "PROXY_TRUSTED_ADDRESSES": (),
    "PROXY_LOG_FORMAT": LogFormat.TEXT,
    "PROXY_LOG_LEVEL": LogThreshold.INFO,
    "PROXY_REGISTER_TOKEN": "",
    "PROXY_REDIS_SOCKET": "",
    "PROXY_REDIS_USERNAME": "",
    "PROXY_REDIS_KEY_PREFIX": "",
    "PROXY_REDIS_TLS": False,
    "PROXY_REDIS_CA": None,
    "PROXY_REDIS_SENTINELS": (),
    "PROXY_REDIS_SENTINEL_MASTER": "mymaster",
    "PROXY_REDIS_TIMEOUT": 1.0,
    "PROXY_ORIGIN_LIFETIME": 300.0,
    "PROXY_PICK_LIFETIME": 120.0,
    "PROXY_HLS_LIFETIME": 120.0,
    "PROXY_WEBRTC_LIFETIME": 120.0,
    "PROXY_PICK_POLICY": PickPolicy.LEAST_STREAMS,
    "PROXY_ORIGIN_SET_ASIDE": 10.0,
    "PROXY_ORIGIN_DOWN_AFTER": 3,
    "PROXY_ORIGIN_CONNECT_TIMEOUT": 3.0,
    "PROXY_RTMP_HANDSHAKE_TIMEOUT": 10.0,
    "PROXY_RTMP_IDENTIFY_TIMEOUT": 30.0,
    "PROXY_RTMP_ORIGIN_TIMEOUT": 5.0,
    "PROXY_RTMP_START_TIMEOUT": 30.0,
    "PROXY_RTMP_REPUBLISH_TIMEOUT": 180.0,
    "PROXY_RTMP_MAX_MESSAGE_SIZE": 131072,
    "PROXY_RTMP_MAX_UNIDENTIFIED_BYTES": 262144,
    "PROXY_RTMP_MAX_COMMANDS": 64,
    "PROXY_RTMP_MAX_AMF_DEPTH": 16,
    "PROXY_RTMP_MAX_AMF_ITEMS": 1024,
    "PROXY_RTMP_REAL_ADDRESS": False,
    "PROXY_HTTP_REQUEST_TIMEOUT": 10.0,
    "PROXY_HTTP_IDLE_TIMEOUT": 60.0,
    "PROXY_HTTP_ORIGIN_TIMEOUT": 10.0,
    "PROXY_HTTP_WAIT_TIMEOUT": 30.0,
    "PROXY_HTTP_MAX_HEAD_SIZE": 16384,
    "PROXY_HTTP_MAX_FIELDS": 100,
    "PROXY_HTTP_MAX_PLAYLIST_SIZE": 1048576,
    "PROXY_CLUSTER_SECRET": "",
    "PROXY_WEBRTC_TCP_SERVER": None,
    "PROXY_RTC_CANDIDATE": (),
    "PROXY_WEBRTC_ORIGIN_TIMEOUT": 10.0,
    "PROXY_WEBRTC_START_TIMEOUT": 30.0,
    "PROXY_WEBRTC_IDLE_TIMEOUT": 30.0,
    "PROXY_SRT_ORIGIN_TIMEOUT": 1.0,
    "PROXY_SRT_HANDSHAKE_TIMEOUT": 2.5,
    "PROXY_SRT_IDLE_TIMEOUT": 10.0,
    "PROXY_MAX_CONNECTIONS": 0,
    "PROXY_MAX_CONNECTIONS_PER_ADDRESS": 0,
    "PROXY_MAX_PENDING_PER_ADDRESS": 2048,
    "PROXY_RTMP_MAX_MESSAGE_RATE": 200,
    "PROXY_STALL_TIMEOUT": 30.0,
    "PROXY_RELAY_FLUSH_INTERVAL": 0.0,
}

# Kinds that take any text at all.
ANY_TEXT = {
    "PROXY_CLUSTER_SECRET",
    "PROXY_REDIS_KEY_PREFIX",
    "PROXY_REDIS_PASSWORD",
    "PROXY_REDIS_SENTINEL_MASTER",
    "PROXY_REDIS_SOCKET",
    "PROXY_REDIS_USERNAME",
}

# Wrong values of each kind, and what the error must say to be of help.
BAD_ADDRESSES = ["0x50", "-1", "65536", "1.2.3.4", "1.2.3:80", "256.1.1.1:80", "::1:80", "[::1]", "[1.2.3.4]:80", "80 "]
BAD_STREAM_LISTENERS = [*BAD_ADDRESSES, "example.com:80", "nosuch:80", "tcp", "tcp:http", "tcp:80:nosuch=1", "tcp:80\\"]
BAD_VALUES: dict[str, tuple[list[str], str]] = {
    "listener": (BAD_STREAM_LISTENERS, "expected PORT, IP:PORT, [IPV6]:PORT or a Twisted endpoint description"),
    "address": ([*BAD_ADDRESSES, "udp:80", "tcp:80"], "expected PORT, IP:PORT or [IPV6]:PORT"),
    "duration": (
        [
            "30",
            "0",
            "-1s",
            "+1s",
            "1 s",
            "1d",
            "1mm",
            "1y",
            "s",
            "1s rubbish 2s",
            "1s,2s",
            "..s",
            ".s",
            "\u0661s",
            "241h",
            "9" * 400 + "h",
        ],
        "expected a duration such as",
    ),
    "folder": (["/nonexistent/folder", __file__], "expected the path of a folder (there is none)"),
    "file": (["/nonexistent/file", str(Path(__file__).parent)], "expected the path of a file (there is none)"),
    "sentinels": (["a b", "1.2.3", "a:0", "a:65536", "a:b", "udp://a", "a/b"], "expected IP addresses or host names"),
    "on|off": (["true", "1", "ON", "yes"], "expected on or off"),
    "host": (["a b", "http://a", "a/b", "[::1]", "a:"], "expected an IP address or a host name"),
    "endpoint": (["0", "65536", "x", "a b:1", "http://1.2.3.4:80", "1935,1936"], "expected PORT or IP:PORT"),
    "names": (["a b", "a,b/c", "a,-"], "expected names separated by commas"),
    "networks": (
        ["10.0.0.1/8", "localhost", "10.0.0.0/33", "::1/129", "1.1.1.1 2.2.2.2"],
        "expected IP addresses or networks",
    ),
    "addresses": (
        [
            "a b",
            "1.2.3",
            "1.2.3.4:0",
            "1.2.3.4:65536",
            "a:b",
            "::1:x",
            "[1.2.3.4]:80",
            "udp://1.2.3.4",
            "a/b",
            "auto,a b",
        ],
        "expected auto, or IP addresses or host names",
    ),
    "token": (["a/b", "a b", "a%20b", "..", "a?b"], "expected letters, digits, _ and -"),
    "text|json": (["xml", "JSON"], "expected text or json"),
    "debug|info|warn|error": (["warning", "critical"], "expected debug or info or warn or error"),
    "memory|redis": (["sqlite"], "expected memory or redis"),
    "least-streams|random": (["round-robin"], "expected least-streams or random"),
}
BAD_NUMBERS = ["x", "-1", "+1", "1.5", "1_0", " 1", "1k", "0x10", "\u0661", "99999999999", "4294967296"]


def bad_values(setting: Setting) -> tuple[list[str], str]:
    return BAD_VALUES.get(setting.kind.name, (BAD_NUMBERS, "expected a whole number from "))


def load(text: str, name: str = "PROXY_RTMP_SERVER") -> Settings:
    return Settings.load({}, {name: text}, None)


def by_name(name: str) -> Setting:
    return next(setting for setting in SETTINGS if setting.environment_name == name)


def each_setting(exclude: frozenset[str] | set[str] = frozenset()) -> pytest.MarkDecorator:
    chosen = [setting for setting in SETTINGS if setting.environment_name not in exclude]
    return pytest.mark.parametrize("setting", chosen, ids=lambda setting: setting.environment_name)


class TestTable:
    def test_has_every_setting_of_the_go_proxy_and_ours(self) -> None:
        assert {setting.environment_name for setting in SETTINGS} == {*GO_SETTINGS, *OWN_SETTINGS}

    @pytest.mark.parametrize(("name", "expected"), [*GO_SETTINGS.items(), *OWN_SETTINGS.items()])
    def test_default(self, name: str, expected: object) -> None:
        settings = Settings.load({}, {}, None)
        value = getattr(settings, by_name(name).attribute)
        assert (type(value), value) == (type(expected), expected)

    def test_settings_without_arguments_have_the_defaults(self) -> None:
        assert Settings() == Settings.load({}, {}, None)

    @each_setting()
    def test_default_is_a_value_that_a_user_may_give(self, setting: Setting) -> None:
        given = Settings.load({}, {setting.environment_name: setting.default}, None)
        assert given == Settings()

    @each_setting()
    def test_is_fit_for_help(self, setting: Setting) -> None:
        assert setting.help
        assert not setting.help.endswith(".")
        assert setting.option == setting.environment_name.removeprefix("PROXY_").lower().replace("_", "-")

    def test_groups_are_not_scattered(self) -> None:
        order = list(dict.fromkeys(setting.group for setting in SETTINGS))
        assert order == list(Group)
        assert [s.group for s in SETTINGS] == sorted((s.group for s in SETTINGS), key=order.index)

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Settings().redis_port = 1  # type: ignore[misc]
        assert not hasattr(Settings(), "__dict__")

    def test_sample_file_lists_exactly_the_settings_with_their_defaults(self) -> None:
        sample = (ROOT / "etc/srsproxy.env.sample").read_text(encoding="utf-8")
        entries = re.findall(r"^#(\w+)=(.*)$|^## (.*)$", sample, re.MULTILINE)
        expected: list[tuple[str, str, str]] = []
        for setting in SETTINGS:
            if ("", "", setting.group.value) not in expected:
                expected.append(("", "", setting.group.value))
            expected.append((setting.environment_name, setting.default, ""))
        assert entries == expected

    def test_sample_file_explains_every_setting(self) -> None:
        sample = " ".join((ROOT / "etc/srsproxy.env.sample").read_text(encoding="utf-8").replace("#", " ").split())
        assert [setting.option for setting in SETTINGS if f"{setting.help} [{setting.kind.name}]" not in sample] == []

    def test_values_reach_their_fields(self, tmp_path: Path) -> None:
        settings = Settings.load(
            {},
            {
                "PROXY_STATIC_FILES": str(tmp_path),
                "PROXY_LOG_FORMAT": "json",
                "PROXY_LOG_LEVEL": "warn",
                "PROXY_LOAD_BALANCER_TYPE": "redis",
                "PROXY_PICK_POLICY": "random",
                "PROXY_RTMP_REAL_ADDRESS": "on",
                "PROXY_REGISTER_TOKEN": "Ab-_9",
                "PROXY_HTTP_WAIT_TIMEOUT": "1m",
                "PROXY_CLUSTER_SECRET": "any text: ü",
            },
            None,
        )
        assert settings == Settings(
            static_files=tmp_path,
            log_format=LogFormat.JSON,
            log_level=LogThreshold.WARN,
            load_balancer_type=LoadBalancerType.REDIS,
            pick_policy=PickPolicy.RANDOM,
            rtmp_real_address=True,
            register_token="Ab-_9",
            http_wait_timeout=60.0,
            cluster_secret="any text: ü",
        )


class TestPrecedence:
    @pytest.fixture
    def dotenv(self, tmp_path: Path) -> Path:
        path = tmp_path / ".env"
        path.write_text("PROXY_REDIS_PORT=3\n", encoding="utf-8")
        return path

    @pytest.mark.parametrize(
        ("option", "variable", "expected"),
        [("1", "2", 1), ("1", None, 1), (None, "2", 2), (None, None, 3), ("", "2", 2), ("", "", 3)],
    )
    def test_option_over_environment_over_file(
        self, dotenv: Path, option: str | None, variable: str | None, expected: int
    ) -> None:
        environ = {} if variable is None else {"PROXY_REDIS_PORT": variable}
        assert Settings.load({"redis-port": option}, environ, dotenv).redis_port == expected

    def test_default_without_any(self, tmp_path: Path) -> None:
        assert Settings.load({}, {}, tmp_path / ".env").redis_port == 6379

    def test_empty_in_file_counts_as_unset(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("PROXY_REDIS_PORT=\nPROXY_VHOSTS\n", encoding="utf-8")
        assert Settings.load({}, {}, tmp_path / ".env") == Settings()

    def test_go_pprof_is_taken_for_profile(self) -> None:
        assert load("localhost:6060", "GO_PPROF").profile == Listener(BindAddress("127.0.0.1", 6060))

    def test_profile_wins_over_go_pprof(self) -> None:
        settings = Settings.load({}, {"GO_PPROF": "1", "PROXY_PROFILE": "2"}, None)
        assert settings.profile == Listener(BindAddress("", 2))

    def test_go_pprof_in_environment_wins_over_profile_in_file(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("PROXY_PROFILE=2\n", encoding="utf-8")
        assert Settings.load({}, {"GO_PPROF": "1"}, tmp_path / ".env").profile == Listener(BindAddress("", 1))


class TestDotenv:
    @pytest.mark.parametrize(
        ("line", "password"),
        [
            ("PROXY_REDIS_PASSWORD=a b", "a b"),
            ("export PROXY_REDIS_PASSWORD=a", "a"),
            ("PROXY_REDIS_PASSWORD='a # b'", "a # b"),
            ('PROXY_REDIS_PASSWORD="a\\"b"', 'a"b'),
            ("PROXY_REDIS_PASSWORD=a # comment", "a"),
            ("  PROXY_REDIS_PASSWORD = a", "a"),
            ("PROXY_REDIS_PASSWORD=a$HOME${HOME}", "a$HOME${HOME}"),
            ("PROXY_REDIS_PASSWORD=a\nPROXY_REDIS_PASSWORD=b", "b"),
            ("PROXY_REDIS_PASSWORD=a\nPROXY_REDIS_PASSWORD=", ""),
            ("\ufeffPROXY_REDIS_PASSWORD=a", "a"),
            ("# comment\n\nPROXY_REDIS_PASSWORD=ü\r\n", "ü"),
        ],
    )
    def test_syntax(self, tmp_path: Path, line: str, password: str) -> None:
        (tmp_path / ".env").write_text(line, encoding="utf-8", newline="")
        assert Settings.load({}, {}, tmp_path / ".env").redis_password == password

    def test_line_that_is_no_assignment_is_told_with_its_number(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("PROXY_REDIS_PORT=1\nPROXY_REDIS DB=1\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=re.escape(f"{path} line 2: 'PROXY_REDIS DB=1': expected NAME=value")):
            Settings.load({}, {}, path)

    def test_file_that_is_not_utf_8_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_bytes(b"PROXY_REDIS_PASSWORD=\xff\n")
        with pytest.raises(ConfigError, match=re.escape(f"{path}: expected UTF-8 text")):
            Settings.load({}, {}, path)

    def test_file_that_cannot_be_read_is_told_with_the_reason(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.mkdir()
        with pytest.raises(ConfigError) as caught:
            Settings.load({}, {}, path)
        assert describe(caught.value) == f"{path}: cannot be read: is a directory"

    def test_errors_say_that_the_value_is_in_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("PROXY_REDIS_PORT=x\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=re.escape(f"PROXY_REDIS_PORT in {path}='x': expected")):
            Settings.load({}, {}, path)


class TestRefusal:
    @each_setting(exclude=ANY_TEXT)
    def test_of_wrong_values_names_setting_value_and_right_form(self, setting: Setting) -> None:
        texts, expected = bad_values(setting)
        for text in texts:
            with pytest.raises(ConfigError) as caught:
                load(text, setting.environment_name)
            line = describe(caught.value)
            shown = "(hidden)" if setting.secret else repr(text[:100])
            assert line.startswith(f"{setting.environment_name}={shown}: {expected}")

    @each_setting(exclude=ANY_TEXT)
    def test_names_the_option_if_that_was_used(self, setting: Setting) -> None:
        text = bad_values(setting)[0][0]
        with pytest.raises(ConfigError, match=rf"^--{setting.option}="):
            Settings.load({setting.option: text}, {setting.environment_name: setting.default}, None)

    def test_names_the_alias_if_that_was_used(self) -> None:
        with pytest.raises(ConfigError, match=r"^GO_PPROF='x': expected"):
            load("x", "GO_PPROF")

    # not parametrized: pytest-twisted cannot run such a test for more than one parameter
    @given(setting=st.sampled_from(SETTINGS), text=st.text(min_size=1) | st.text("a1.:\0\n\U0010ffff", min_size=500))
    @hypothesis_settings(max_examples=1000)
    def test_of_any_text_is_one_line(self, setting: Setting, text: str) -> None:
        try:
            load(text, setting.environment_name)
        except ConfigError as error:
            line = describe(error)
            assert line.isprintable()
            assert len(line) < 2000

    def test_keeps_secrets(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load("hunter/2", "PROXY_REGISTER_TOKEN")
        assert "hunter" not in describe(caught.value)
        secrets = {
            "PROXY_REGISTER_TOKEN": "hunter2",
            "PROXY_REDIS_PASSWORD": "hunter3",
            "PROXY_CLUSTER_SECRET": "hunter4",
        }
        settings = Settings.load({}, secrets, None)
        assert (settings.register_token, settings.redis_password) == ("hunter2", "hunter3")
        assert settings.cluster_secret == "hunter4"
        assert "hunter" not in repr(settings)

    def test_tells_what_is_wrong_with_a_certificate(self, tmp_path: Path) -> None:
        path = tmp_path / "missing.pem"
        with pytest.raises(ConfigError, match=rf"^PROXY_RTMP_SERVER=.*No such file or directory.*{path}"):
            load(f"ssl:443:privateKey={path}")

    @pytest.mark.parametrize(
        ("name", "least", "most"),
        [
            ("PROXY_REDIS_PORT", 1, 65535),
            ("PROXY_REDIS_DB", 0, 2**31 - 1),
            ("PROXY_ORIGIN_DOWN_AFTER", 1, 2**31 - 1),
            ("PROXY_RTMP_MAX_MESSAGE_SIZE", 1024, 2**24 - 1),
            ("PROXY_RTMP_MAX_UNIDENTIFIED_BYTES", 4096, 2**31 - 1),
            ("PROXY_RTMP_MAX_COMMANDS", 4, 2**31 - 1),
            ("PROXY_RTMP_MAX_AMF_DEPTH", 1, 100),
            ("PROXY_RTMP_MAX_AMF_ITEMS", 16, 2**31 - 1),
            ("PROXY_HTTP_MAX_HEAD_SIZE", 1024, 2**20),
            ("PROXY_HTTP_MAX_FIELDS", 8, 1000),
            ("PROXY_HTTP_MAX_PLAYLIST_SIZE", 1024, 2**26),
        ],
    )
    def test_of_numbers_out_of_range(self, name: str, least: int, most: int) -> None:
        for number in (least, most):
            assert getattr(load(str(number), name), by_name(name).attribute) == number
        for number in (least - 1, most + 1):
            with pytest.raises(ConfigError, match=rf"expected a whole number from {least} to {most}\b"):
                load(str(number), name)

    def test_of_a_force_quit_before_the_grace_period_ends(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Settings.load({"grace-quit-timeout": "1m"}, {}, None)
        assert str(caught.value) == "PROXY_FORCE_QUIT_TIMEOUT='30s': expected no less than --grace-quit-timeout='1m'"

    def test_not_of_a_force_quit_just_when_the_grace_period_ends(self) -> None:
        assert load("30s", "PROXY_GRACE_QUIT_TIMEOUT").grace_quit_timeout == 30


class TestUnknownNames:
    def test_are_collected_from_environment_and_file(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("PROXY_B=1\nOTHER=1\nPROXY_REDIS_DB=1\nPROXY_EMPTY=\n", encoding="utf-8")
        settings = Settings.load({}, {"PROXY_A": "1", "PATH": "/bin", "GO_PPROF": "1"}, tmp_path / ".env")
        assert settings.unknown_names == ("PROXY_A", "PROXY_B")

    def test_like_a_known_one_bring_a_suggestion(self) -> None:
        line = explain_unknown("PROXY_RTMP_SEVER")
        assert line == "PROXY_RTMP_SEVER is no setting; did you mean PROXY_RTMP_SERVER?"

    def test_like_none_bring_no_suggestion(self) -> None:
        assert explain_unknown("PROXY_SERVICE_HOST") == "PROXY_SERVICE_HOST is no setting"
