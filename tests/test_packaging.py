"""What installing srsproxy puts where, and that twistd finds it then."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import twisted
from srsproxy.values import DURATION

ROOT = Path(__file__).parent.parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))

# Not for installation, and much of it large.
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "build", "dist", "*.egg-info", "dropin.cache", "results", "captures", "node_modules"
)
TWISTD = "from twisted.scripts.twistd import run; run()"
# txredisapi imports the reactor; so the one module that imports it is only imported to connect to Redis.
IMPORT_ALL = """
import pkgutil, sys, srsproxy
for module in pkgutil.walk_packages(srsproxy.__path__, "srsproxy."):
    if not module.name.endswith("__main__") and module.name != "srsproxy.balancer.redis.connection":
        __import__(module.name)
sys.exit("the reactor was imported" if "twisted.internet.reactor" in sys.modules else 0)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command, run without the settings that others have for Python and pip."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_"))}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Environment:
    """A fresh virtual environment with a Twisted of its own; other dependencies are those of the running Python."""

    def __init__(self, path: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", path, cwd=path.parent)
        self.python = path / "bin/python"
        self.elsewhere = path / "elsewhere"
        self.elsewhere.mkdir()
        self.site_packages = next(path.glob("lib/python*/site-packages"))
        self.twisted = self.site_packages / "twisted"
        skipped = shutil.ignore_patterns("test", "__pycache__", "dropin.cache", "srsproxy_plugin.py")
        shutil.copytree(Path(twisted.__file__).parent, self.twisted, ignore=skipped)
        (self.site_packages / "dependencies.pth").write_text(f"{SITE_PACKAGES}\n", encoding="utf-8")

    def pip(self, *arguments: str | Path) -> None:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python)
        run(*pip, *arguments, cwd=self.elsewhere)

    def install(self, *arguments: str | Path) -> None:
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *arguments)

    def plugins(self) -> list[str]:
        """The commands that twistd offers."""
        text = run(self.python, "-c", TWISTD, "--help", cwd=self.elsewhere)
        return re.findall(r"^    ([a-z-]+)  ", text.partition("\nCommands:\n")[2], re.MULTILINE)

    def twisteds_files(self) -> dict[str, str]:
        """Checksums of the files in Twisted's folder, but for what Python and Twisted write there themselves."""
        return {
            str(path.relative_to(self.twisted)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.twisted.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.name != "dropin.cache"
        }


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy, as building leaves files behind."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture
def wheel(source: Path, tmp_path: Path) -> Path:
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    run(*build, "--outdir", tmp_path, source, cwd=tmp_path)
    return next(tmp_path.glob("*.whl"))


def test_wheel_has_the_package_and_the_plugin_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "srsproxy").rglob("*.py")}
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == modules | {"twisted/plugins/srsproxy_plugin.py"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_twistd_finds_srsproxy_installed_from_a_wheel(environment: Environment, wheel: Path) -> None:
    assert "srsproxy" not in environment.plugins()
    environment.install(wheel)
    assert "srsproxy" in environment.plugins()


def test_twistd_finds_srsproxy_installed_from_the_repository(environment: Environment, source: Path) -> None:
    environment.install(source)
    assert "srsproxy" in environment.plugins()


def test_twistd_finds_srsproxy_installed_editable(environment: Environment, source: Path) -> None:
    environment.install("--editable", source)
    assert "srsproxy" in environment.plugins()
    assert not (environment.twisted / "plugins/srsproxy_plugin.py").exists()


def test_twisted_is_as_before_after_uninstalling(environment: Environment, wheel: Path) -> None:
    before = environment.twisteds_files()
    commands = environment.plugins()
    environment.install(wheel)
    while_installed = environment.twisteds_files()
    assert while_installed.keys() - before.keys() == {"plugins/srsproxy_plugin.py"}
    assert before.items() <= while_installed.items()
    environment.plugins()
    environment.pip("uninstall", "--yes", "srsproxy")
    assert environment.twisteds_files() == before
    assert environment.plugins() == commands


def test_importing_the_package_imports_no_reactor(tmp_path: Path) -> None:
    run(sys.executable, "-c", IMPORT_ALL, cwd=tmp_path)


def test_the_players_of_the_browser_tests_are_pinned_and_no_registry_is_named() -> None:
    folder = ROOT / "tests/browser"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    installed = [package for path, package in locked.items() if path]
    assert all("integrity" in package and "resolved" not in package for package in installed)


def test_plugin_folder_is_no_package_of_ours() -> None:
    assert [path.name for path in (ROOT / "twisted").rglob("*.py")] == ["srsproxy_plugin.py"]


def test_systemd_waits_longer_than_the_proxy_takes_to_end() -> None:
    unit = (ROOT / "etc/srsproxy.service").read_text(encoding="utf-8")
    (timeout,) = re.findall(r"^TimeoutStopSec=(\S+)$", unit, re.MULTILINE)
    sample = (ROOT / "etc/srsproxy.env.sample").read_text(encoding="utf-8")
    (force,) = re.findall(r"^#PROXY_FORCE_QUIT_TIMEOUT=(\S+)$", sample, re.MULTILINE)
    assert DURATION.parse(timeout) > DURATION.parse(force)
