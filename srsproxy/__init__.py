"""One address in front of many SRS media origins; see README.rst."""

__version__ = "0.1.0"
