"""Real SRT through a real ``twistd srsproxy``: ffmpeg and libsrt's programs, with listeners of libsrt as origins."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.asynchronous import in_reactor, until
from tests.e2e.srt_cluster import DOWN, ENOUGH, FOREVER, HOST, Cluster, Player, Publisher, cluster, play, publish
from tests.processes import Program, codecs, live_source
from tests.srt.programs import LibsrtCallers
from tests.srt.traffic import PAYLOAD_SIZE

PASSPHRASE: Final = "a passphrase"
ENCRYPTED: Final = ("--passphrase", PASSPHRASE)
WRONG: Final = "another passphrase"

SECURED: Final = 2
"""SRT_KM_S_SECURED: both have the key."""

# Reject reasons of libsrt (srt.h, access_control.h).
BAD_SECRET: Final = 10
UNSECURE: Final = 11
MESSAGE_API: Final = 12
BAD_REQUEST: Final = 1400
OVERLOAD: Final = 1402
FORBIDDEN: Final = 1403
BAD_MODE: Final = 1405

AT_ONCE: Final = 1000
"""Milliseconds: far less than the 3000 after which a caller gives up by itself."""


async def rejections(callers: LibsrtCallers) -> list[int]:
    """With which reason each caller is rejected; all must be at once."""
    await callers.wait()
    told = sorted(callers.events("rejected"), key=lambda event: int(event["caller"]))
    assert max(event["milliseconds"] for event in told) < AT_ONCE
    return [event["reason"] for event in told]


# Publishing and playing


async def decoded_pictures(url: str, most: int) -> int:
    """How many pictures ffmpeg has decoded when a stream ends, or when there were so many."""
    command = ("ffmpeg", "-loglevel", "error", "-nostdin", "-nostats", "-progress", "-", "-analyzeduration", "1000000")
    async with Program(reactor, (*command, "-i", url, "-frames:v", str(most), "-f", "null", "-")) as player:
        assert await player.wait(30.0) == 0, player.output
        *_, count = re.findall("^frame=(.*)", player.output, re.MULTILINE)
        return int(count)


@in_reactor
async def test_ffmpeg_publishes_and_plays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        source = live_source(60.0)[:-1]
        publisher = await running.run("ffmpeg", *source, "mpegts", running.url(publish("s")))
        await running.proxy.read("publish __defaultVhost__/live/s: started on origin")
        probed = Deferred.fromCoroutine(codecs(reactor, running.url(play("s"))))
        assert await decoded_pictures(running.url(play("s")), 20) == 20
        assert await probed == {"h264", "aac"}
        assert running.accepted(publish("s"), play("s")) == [[], [publish("s"), play("s"), play("s")]]
        assert publisher.exit_code is None
        publisher.signal(signal.SIGINT)
        await running.proxy.read("publish __defaultVhost__/live/s from 127.0.0.1: finished")
        await running.origin_of(publish("s")).told("closed", stream_id=publish("s"))


async def transmit(running: Cluster, stream: str, *options: str) -> None:
    """``srt-live-transmit`` publishes a stream, and plays all of it from when it has begun."""
    async with Publisher(running.url(publish(stream), *options)):
        await running.proxy.read(f"publish __defaultVhost__/live/{stream}: started")
        async with Player(running.url(play(stream), *options)) as player:
            await until(reactor, lambda: player.reception.packets >= ENOUGH, f"{ENOUGH} payloads are played")
            assert (player.reception.missing, player.reception.wrong) == (0, 0)


@in_reactor
@pytest.mark.parametrize(
    "options", [(), ("transtype=live", "messageapi=1", "latency=200", "nakreport=0")], ids=["plain", "with options"]
)
async def test_srt_live_transmit_publishes_and_plays(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with cluster(tmp_path) as running:
        await transmit(running, "s", *options)
        assert running.accepted(publish("s"), play("s")) == [[], [publish("s"), play("s")]]


@in_reactor
async def test_encrypted_media_of_all_key_lengths_passes_untouched(tmp_path: Path) -> None:
    async with cluster(tmp_path, *ENCRYPTED) as running:
        streams = {f"s{length}": length for length in (16, 24, 32)}
        options = {name: (f"passphrase={PASSPHRASE}", f"pbkeylen={length}") for name, length in streams.items()}
        await gatherResults([Deferred.fromCoroutine(transmit(running, name, *options[name])) for name in streams])
        for name, length in streams.items():
            for stream_id in (publish(name), play(name)):
                (told,) = running.origin_of(stream_id).events("accepted", stream_id=stream_id)
                assert (told["key_state"], told["key_length"]) == (SECURED, length)


@in_reactor
async def test_keys_are_refreshed_while_media_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, *ENCRYPTED) as running:
        refresh = (*FOREVER, "--key-refresh", "50", "--rate", "500")
        players = await running.call(play("s"), options=ENCRYPTED)
        await players.all_connected()
        await running.call(publish("s"), options=(*ENCRYPTED, *refresh))
        told = await players.received(6 * 50)
        assert (told["missing"], told["wrong"]) == (0, 0)


@in_reactor
async def test_all_players_of_a_stream_get_it_from_the_origin_that_has_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        streams = [f"s{number}" for number in range(4)]
        played = await running.call(*(play(name) for name in streams for _ in range(3)))
        await played.all_connected()
        published = await running.call(*map(publish, streams), options=FOREVER)
        await published.all_connected()
        for number in range(12):
            told = await played.received(ENOUGH, caller=number)
            assert (told["missing"], told["wrong"]) == (0, 0)
        for name in streams:
            assert running.accepted(publish(name), play(name)) == [[], [publish(name), *[play(name)] * 3]]
        assert [len(origin.events("accepted")) for origin in running.origins] == [8, 8]


# What caller and origin agree upon


@in_reactor
async def test_latencies_are_those_that_caller_and_origin_have_agreed_upon(tmp_path: Path) -> None:
    async with cluster(tmp_path, "--latency", "120") as running:
        agreed = {20: 120, 120: 120, 2000: 2000}
        called = {
            latency: await running.call(
                *(publish(f"s{latency}"), play(f"s{latency}")),
                options=("--latency", str(latency), *FOREVER),
            )
            for latency in agreed
        }
        for latency, callers in called.items():
            for told in await callers.all_connected():
                assert (told["latency"], told["peer_latency"]) == (agreed[latency], agreed[latency])
        for latency in agreed:
            for stream_id in (publish(f"s{latency}"), play(f"s{latency}")):
                (told,) = running.origin_of(stream_id).events("accepted", stream_id=stream_id)
                assert (told["latency"], told["peer_latency"]) == (agreed[latency], agreed[latency])
            told = await running.origin_of(publish(f"s{latency}")).received(ENOUGH, stream_id=publish(f"s{latency}"))
            assert (told["missing"], told["wrong"]) == (0, 0)


@in_reactor
async def test_a_file_arrives_whole(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(4_000_000)
    sent, folder = tmp_path / "file.bin", tmp_path / "received"
    sent.write_bytes(content)
    folder.mkdir()
    port = free_udp_port()
    async with cluster(tmp_path, origins=0) as running:
        listener = f"srt://{HOST}:{port}?mode=listener"
        receiver = await running.run("srt-file-transmit", "-v", listener, f"file://{folder}/")
        await receiver.read(r"listen\.\.\.")
        await running.register("files", (HOST, port))
        # The program makes the file's name the stream id, but often too late, when it calls already.
        sender = await running.run("srt-file-transmit", f"file://{sent}", running.url(sent.name))
        assert await sender.wait() == 0, sender.output
        assert await receiver.wait() == 0, receiver.output
        assert sha256((folder / sent.name).read_bytes()).digest() == sha256(content).digest()
        await running.proxy.read(
            "play __defaultVhost__/live/file from 127.0.0.1: finished after .* s, 4[0-9]{6} bytes in"
        )


@in_reactor
@pytest.mark.parametrize("mode", [("--file",), ("--file", "--messages")], ids=["stream", "messages"])
async def test_file_mode_goes_both_ways(tmp_path: Path, mode: tuple[str, ...]) -> None:
    async with cluster(tmp_path, *mode, "--echo") as running:
        sender = await running.call(publish("s"), options=(*mode, "--packets", "2000", "--rate", "100000"))
        told = await sender.received(2000)
        assert (told["missing"], told["wrong"]) == (0, 0)


def free_udp_port() -> int:
    """A port that is free now, for a program that cannot be told to take any free one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


# Rejections


async def printed(running: Cluster, stream_id: str, options: Sequence[str], reason: str) -> None:
    """Both ffmpeg and ``srt-live-transmit`` end with this reason when they play."""
    url = running.url(stream_id, *options)
    for command in (
        ("ffmpeg", "-loglevel", "error", "-nostdin", "-i", url, "-f", "null", "-"),
        ("srt-live-transmit", "-a:no", url, "file://con"),
    ):
        program = await running.run(*command)
        await program.wait()
        assert f"REJECT reported from HS processing: {reason}" in program.output


@in_reactor
async def test_a_wrong_passphrase_a_missing_one_and_an_unexpected_one_are_told_as_such(tmp_path: Path) -> None:
    async with cluster(tmp_path, *ENCRYPTED, origins=1) as running:
        wrong = await running.call(publish("s"), play("s"), options=("--passphrase", WRONG))
        missing = await running.call(publish("s"), play("s"))
        assert await rejections(wrong) == [BAD_SECRET] * 2
        assert await rejections(missing) == [UNSECURE] * 2
        await printed(running, play("s"), [f"passphrase={WRONG}"], "Incorrect passphrase")
        await printed(running, play("s"), [], "Password required or unexpected")
        await running.proxy.read(
            r"publish __defaultVhost__/live/s from 127\.0\.0\.1: rejected-by-origin: .* BADSECRET \(10\)"
        )
        right = await running.call(publish("s"), options=ENCRYPTED)
        await right.all_connected()
    async with cluster(tmp_path, origins=1) as running:
        unexpected = await running.call(publish("s"), play("s"), options=ENCRYPTED)
        assert await rejections(unexpected) == [UNSECURE] * 2


@in_reactor
async def test_an_origins_own_rejections_reach_the_caller(tmp_path: Path) -> None:
    async with cluster(tmp_path, "--reject", f"live/s={FORBIDDEN}") as running:
        callers = await running.call(publish("s"), play("s"))
        assert await rejections(callers) == [FORBIDDEN] * 2
        await printed(running, play("s"), [], "Application-defined rejection reason")
        file = await running.call(publish("file"), options=("--file",))
        assert await rejections(file) == [MESSAGE_API]


@in_reactor
async def test_a_stream_that_the_origin_refuses_ends_the_session_as_it_does_with_srs(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        first = await running.call(publish("s"), options=FOREVER)
        await first.all_connected()
        second = await running.call(publish("s"))
        await second.told("closed")
        await running.proxy.read("publish __defaultVhost__/live/s from 127.0.0.1: rejected-by-origin")
        assert not first.events("closed")
        await running.origin_of(publish("s")).received(ENOUGH)


@in_reactor
async def test_what_cannot_be_served_is_rejected_at_once_and_told_why(tmp_path: Path) -> None:
    unusable = {
        "#!::m=publish": BAD_REQUEST,
        "#!::r=,m=publish": BAD_REQUEST,
        "#!::r=live/s,m=bidirectional": BAD_MODE,
    }
    async with cluster(tmp_path) as running:
        callers = await running.call(*unusable)
        assert await rejections(callers) == list(unusable.values())
        await printed(running, "#!::m=publish", [], "Application-defined rejection reason")
        assert running.accepted(*unusable) == [[], []]


@in_reactor
@pytest.mark.parametrize(("settings", "reason"), [({}, DOWN), ({"PROXY_MAX_CONNECTIONS": "1"}, OVERLOAD)])
async def test_too_many_callers_and_callers_without_any_origin_are_rejected_at_once(
    tmp_path: Path, settings: dict[str, str], reason: int
) -> None:
    async with cluster(tmp_path, origins=len(settings), **settings) as running:
        if settings:
            first = await running.call(play("s"))
            await first.all_connected()
        callers = await running.call(publish("s"), play("s"))
        assert await rejections(callers) == [reason] * 2


# The operator's view


@in_reactor
async def test_all_lines_of_a_session_have_its_context(tmp_path: Path) -> None:
    async with cluster(tmp_path, "--reject", f"live/no={FORBIDDEN}", PROXY_LOG_FORMAT="json") as running:
        publisher = await running.call(publish("s"), options=("--packets", str(ENOUGH), "--rate", "1000"))
        await publisher.told("sent")
        await publisher.stop()
        await running.proxy.read("finished")
        rejected = await running.call(play("no"))
        await rejections(rejected)
        await running.proxy.read("rejected-by-origin")
        lines = [json.loads(line) for line in running.proxy.output.splitlines()]
        sessions = [line for line in lines if "__defaultVhost__" in line["message"]]
        started, finished, refused = sessions
        assert re.fullmatch(r"publish __defaultVhost__/live/s: started on origin[01]-s-1", started["message"])
        assert finished["message"].startswith("publish __defaultVhost__/live/s from 127.0.0.1: finished after ")
        assert finished["received"] > ENOUGH * PAYLOAD_SIZE
        assert re.fullmatch(
            r"play __defaultVhost__/live/no from 127\.0\.0\.1: rejected-by-origin: "
            r"origin origin[01]-s-1: rejected the caller, FORBIDDEN \(1403\)",
            refused["message"],
        )
        assert [line["level"] for line in sessions] == ["info", "info", "warn"]
        assert started["context"] == finished["context"] != refused["context"]
        assert {len(line["context"]) for line in sessions} == {7}
