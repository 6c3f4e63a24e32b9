"""What players get of a stream, and what is kept for them."""

from __future__ import annotations

import pytest

from srsproxy.demo import live
from srsproxy.demo.live import LiveStream, Player, Streams
from srsproxy.rtmp.amf0 import encode
from srsproxy.rtmp.message import Message, MessageType
from srsproxy.streamkey import StreamKey
from tests.rtmp_client import SEQUENCE_HEADERS

KEY = StreamKey("__defaultVhost__", "live", "s")
METADATA = Message(4, MessageType.DATA_AMF0, 1, 0, encode("onMetaData", {}))
HEADERS = [Message(6, kind, 1, 0, payload) for kind, payload in SEQUENCE_HEADERS]


def picture(timestamp: int, key: bool = False, size: int = 10) -> Message:
    return Message(6, MessageType.VIDEO, 1, timestamp, (b"\x17\x01" if key else b"\x27\x01") + bytes(size))


def sound(timestamp: int, size: int = 10) -> Message:
    return Message(4, MessageType.AUDIO, 1, timestamp, b"\xaf\x01" + bytes(size))


class Listener(Player):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Message] = []
        self.times: list[int] = []

    def write_frame(self, frame: Message, timestamp: int) -> None:
        self.frames.append(frame)
        self.times.append(timestamp)


def published(*messages: Message) -> tuple[Streams, LiveStream]:
    """A stream whose publisher has sent these messages."""
    streams = Streams()
    stream = streams.publish(KEY)
    assert stream is not None
    for message in messages:
        stream.take(message)
    return streams, stream


def test_a_new_player_gets_metadata_then_audio_and_video_headers_then_all_since_the_last_key_frame() -> None:
    video_header, audio_header = HEADERS
    group = [picture(200, key=True), sound(220), picture(240)]
    streams, stream = published(video_header, audio_header, METADATA, picture(0, key=True), sound(20), *group)
    player = Listener()
    streams.join(KEY, player)
    stream.take(picture(280))
    assert player.frames == [METADATA, audio_header, video_header, *group, picture(280)]


def test_time_begins_at_zero_for_each_player() -> None:
    streams, stream = published(*HEADERS, picture(5000, key=True), sound(5020))
    player = Listener()
    streams.join(KEY, player)
    stream.take(picture(5040))
    assert player.times == [0, 0, 0, 20, 40]


def test_a_frame_before_the_first_one_is_not_before_zero() -> None:
    streams, _stream = published(picture(1000, key=True), sound(990))
    player = Listener()
    streams.join(KEY, player)
    assert player.times == [0, 0]


def test_time_goes_on_when_the_next_publisher_begins_anew() -> None:
    streams, stream = published(picture(100, key=True))
    player = Listener()
    streams.join(KEY, player)
    stream.take(picture(140))
    streams.unpublish(stream)
    assert streams.publish(KEY) is stream
    stream.take(picture(0, key=True))
    stream.take(picture(40))
    assert player.times == [0, 40, 40, 80]


def test_nothing_is_left_for_new_players_of_a_stream_that_ended() -> None:
    streams, stream = published(METADATA, *HEADERS, picture(0, key=True))
    early = Listener()
    streams.join(KEY, early)
    streams.unpublish(stream)
    late = Listener()
    streams.join(KEY, late)
    assert late.frames == []


def test_pictures_before_the_first_key_frame_are_not_kept() -> None:
    streams, _ = published(*HEADERS, picture(0), sound(10))
    player = Listener()
    streams.join(KEY, player)
    assert player.frames == HEADERS[::-1]


def test_a_group_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_GROUP", 10_000)
    frames = [picture(0, key=True), *(picture(time, size=1000) for time in range(40, 800, 40))]
    streams, stream = published(*HEADERS, *frames)
    player = Listener()
    streams.join(KEY, player)
    assert player.frames == HEADERS[::-1]
    stream.take(picture(800, key=True))
    assert player.frames[2:] == [picture(800, key=True)]


@pytest.mark.parametrize(
    "message",
    [
        Message(3, MessageType.COMMAND_AMF0, 1, 0, encode("foo", 0.0)),
        Message(4, MessageType.AUDIO, 1, 0, b""),
        Message(6, MessageType.VIDEO, 1, 0, b""),
        Message(4, MessageType.DATA_AMF0, 1, 0, encode("@setDataFrame", "onCuePoint")),
    ],
)
def test_what_is_no_frame_is_not_passed_on(message: Message) -> None:
    streams, stream = published()
    player = Listener()
    streams.join(KEY, player)
    stream.take(message)
    assert player.frames == []


def test_frames_wait_for_a_player_that_is_paused() -> None:
    streams, stream = published()
    player = Listener()
    streams.join(KEY, player)
    player.pauseProducing()
    frames = [picture(0, key=True), sound(20), picture(40)]
    for frame in frames:
        stream.take(frame)
    assert player.frames == []
    player.resumeProducing()
    assert player.frames == frames
    assert player.times == [0, 20, 40]


def test_a_player_that_is_paused_while_it_catches_up_gets_the_rest_later() -> None:
    class Hesitant(Listener):
        def write_frame(self, frame: Message, timestamp: int) -> None:
            super().write_frame(frame, timestamp)
            self.pauseProducing()

    frames = [picture(0, key=True), sound(20), picture(40)]
    streams, _ = published(*frames)
    player = Hesitant()
    streams.join(KEY, player)
    assert player.frames == frames[:1]
    player.resumeProducing()
    assert player.frames == frames[:2]
    player.resumeProducing()
    assert player.frames == frames


def test_a_player_that_does_not_keep_up_begins_again_at_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 10_000)
    streams, stream = published(*HEADERS, picture(0, key=True))
    player = Listener()
    streams.join(KEY, player)
    player.pauseProducing()
    for time in range(40, 4000, 40):
        stream.take(picture(time, size=1000))
    player.resumeProducing()
    assert player.frames[3:] == []
    stream.take(picture(4000))
    assert player.frames[3:] == []
    stream.take(picture(4040, key=True))
    stream.take(picture(4080))
    assert player.frames[3:] == [*HEADERS[::-1], picture(4040, key=True), picture(4080)]
    assert player.times[-2:] == [4040, 4080]


def test_a_player_of_sound_alone_begins_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 10_000)
    header = HEADERS[1]
    streams, stream = published(header)
    player = Listener()
    streams.join(KEY, player)
    player.pauseProducing()
    for time in range(0, 400, 20):
        stream.take(sound(time, size=1000))
    player.resumeProducing()
    player.frames.clear()
    stream.take(sound(400))
    stream.take(sound(420))
    assert player.frames[-1] == sound(420)
    assert len(player.frames) <= 3


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_what_waits_for_a_player_is_bounded_whatever_the_frames_are_like(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 1_000_000)
    streams, stream = published()
    player = Listener()
    streams.join(KEY, player)
    most = 0
    for time in range(10_000):
        player.pauseProducing()
        stream.take(picture(time, key=True, size=size))
        if time % 997 == 0:
            player.frames.clear()
            player.resumeProducing()
            most = max(most, sum(len(frame.payload) for frame in player.frames), len(player.frames) * 100)
    assert 0 < most <= 1_000_000


def test_a_player_that_left_gets_nothing_of_what_waited() -> None:
    streams, stream = published()
    player = Listener()
    streams.join(KEY, player)
    player.pauseProducing()
    stream.take(picture(0, key=True))
    player.stopProducing()
    streams.leave(stream, player)
    stream.take(picture(40))
    player.resumeProducing()
    assert player.frames == []


def test_a_stream_has_one_publisher() -> None:
    streams, stream = published()
    assert streams.publish(KEY) is None
    streams.unpublish(stream)
    assert streams.publish(KEY) is not None


def test_streams_and_players_are_counted_while_they_are_there() -> None:
    streams, stream = published()
    player = Listener()
    streams.join(KEY, player)
    assert streams.published == {KEY}
    assert streams.players == 1
    streams.unpublish(stream)
    assert streams.published == frozenset()
    assert streams.players == 1
    streams.leave(stream, player)
    assert streams.players == 0


def test_until_fires_when_its_condition_comes_to_hold_and_not_before() -> None:
    streams, _stream = published()
    player = Listener()
    joined = streams.until(lambda: streams.players == 1)
    cancelled = streams.until(lambda: streams.players == 1)
    errors: list[object] = []
    cancelled.addErrback(errors.append)
    cancelled.cancel()
    assert not joined.called
    streams.join(KEY, player)
    assert joined.called
    assert len(errors) == 1
    assert streams.until(lambda: streams.players == 1).called
