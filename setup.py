"""How srsproxy is built and installed; all metadata is here."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The one in the package, read without importing it: its dependencies may not be installed yet."""
    match = re.search(
        r'^__version__ = "(.+)"$', (HERE / "srsproxy/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    if match is None:
        raise RuntimeError("srsproxy/__init__.py has no __version__")
    return match[1]


setup(
    name="srsproxy",
    version=version(),
    description="One address in front of many SRS media origins, as a Twisted application",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    author="srsproxy contributors",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Video",
    ],
    python_requires=">=3.11",
    # twisted.plugins has no __init__.py here: the plugin goes next to Twisted's own, and no file of Twisted's is ours.
    packages=[*find_packages(include=["srsproxy", "srsproxy.*"]), "twisted.plugins"],
    # Says where all packages are, even though it is the default: only then does an editable install put this folder on
    # sys.path, where Twisted looks for plugins. Else it is an import hook, which Twisted's search does not see.
    package_dir={"": "."},
    install_requires=[
        # event loop, endpoints, HTTP, logging, twistd; 26.4 is the first with server endpoints "tls:" (RTMPS)
        "twisted>=26.4",
        # contracts between the parts of srsproxy, in Twisted's way
        "zope.interface>=6",
        # TLS in Twisted's endpoints "ssl:" and "tls:", and towards Redis
        "pyopenssl>=24",
        # checks that the certificate of a Redis server is for its host
        "service-identity>=24.1",
        # the protocol of Redis, for the load balancer that proxies share; 1.6 is what its connections were written for
        "txredisapi>=1.6",
        # .env files with quotes, comments and "export", as other tools read them
        "python-dotenv>=1.0",
        # durations as users of the Go proxy write them: 1m30s
        "durationpy>=0.7",
    ],
    extras_require={
        "dev": [
            # WebRTC clients, and origins whose ICE is replaced by SRS's: that needs what a newer one may have changed
            "aiortc~=1.16.0",
            # builds wheel and source archive
            "build",
            # property-based tests of the parsers
            "hypothesis",
            # which module may import which
            "import-linter",
            # types; mypy-zope teaches it zope.interface, and says which mypy it can work with
            "mypy",
            "mypy-zope",
            # the tests read the Kubernetes manifests, and compare them with the schemas that this brings along
            "kubernetes-validate",
            "pyyaml",
            "types-pyyaml",
            # tests, some of which need a running reactor
            "pytest>=8",
            "pytest-twisted",
            # style; a newer one brings new rules
            "ruff~=0.17.0",
            # the tests install srsproxy without network, with what builds it at hand
            "setuptools>=77",
        ],
    },
    zip_safe=False,
)
