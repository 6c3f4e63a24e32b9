"""SRT's sessions: the stream ids that callers come with. The load generator is the callers, and the origin."""

from __future__ import annotations


def stream_ids(stream: str, numbers: range) -> list[bytes]:
    """Of a publisher and a player in turn, each of a stream of its own.

    :param stream: the streams are called ``<stream>-<number>``.
    """
    modes = ("publish", "request")
    return [f"#!::r=live/{stream}-{number},m={modes[number % len(modes)]}".encode() for number in numbers]
