"""Makes ``srsproxy`` a subcommand of ``twistd``."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

srsproxy = ServiceMaker("srsproxy", "srsproxy.tap", "One address in front of many SRS media origins.", "srsproxy")
