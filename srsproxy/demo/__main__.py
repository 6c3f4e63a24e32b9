"""``python -m srsproxy.demo``, which is ``make demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from srsproxy.demo.tour import DemoFailed, Tour, TourOptions
from srsproxy.errors import SrsProxyError, describe


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def parse_options(arguments: Sequence[str]) -> TourOptions:
    """The options on the command line. Ends the process if they are wrong, or ask for help."""
    parser = argparse.ArgumentParser(
        prog="python -m srsproxy.demo",
        description="Start srsproxy with two small origins, publish a test stream to it, and see that it plays.",
    )
    free = "0: any that is free"
    parser.add_argument("--rtmp-port", type=_port, default=11935, metavar="PORT", help=f"of srsproxy (11935; {free})")
    parser.add_argument(
        "--http-port", type=_port, default=18080, metavar="PORT", help=f"its HTTP streams and HLS (18080; {free})"
    )
    parser.add_argument(
        "--system-port", type=_port, default=12025, metavar="PORT", help=f"its system API (12025; {free})"
    )
    parser.add_argument("--once", action="store_true", help="end when the stream plays; so without a terminal")
    options = parser.parse_args(arguments)
    once = options.once or sys.stdin is None or not sys.stdin.isatty()
    return TourOptions(options.rtmp_port, options.http_port, options.system_port, once)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _main(reactor: Any, options: TourOptions) -> None:
    tour = Tour(reactor, options, _tell)
    ended: Deferred[None] = Deferred()

    def stopping() -> Deferred[None]:
        tour.end()
        return ended

    # Whatever stops the reactor waits until nothing is left running.
    reactor.addSystemEventTrigger("before", "shutdown", stopping)
    try:
        await tour.take()
    except SrsProxyError as error:
        sys.stderr.write(f"The demo failed: {describe(error)}\n")
        if isinstance(error, DemoFailed):
            sys.stderr.writelines(f"    {line}\n" for line in error.seen)
        raise SystemExit(1) from error
    finally:
        ended.callback(None)


if __name__ == "__main__":
    react(_main, [parse_options(sys.argv[1:])])
