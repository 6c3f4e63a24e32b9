"""HLS playlists: which URIs are pinned, how, and that nothing else is touched."""

from __future__ import annotations

import gzip
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsproxy.errors import LimitExceeded, PeerError
from srsproxy.http import playlist
from srsproxy.http.playlist import is_master_for_stranger, rewrite
from tests.recorded import CAPTURES

HLS_MASTER = b"""#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1
/live/livestream.m3u8?hls_ctx=5u529f2i
"""
"""What SRS 7.0.18 answers without a context, or with one that it does not know."""

OTHERS = {b"127.0.0.1:28082": b"OTHER", b"origin": b"OTHER", b"[::1]:8080": b"OTHER", b"secure:443": b"SECURE"}


def pin(authority: bytes | None) -> bytes | None:
    return b"OWN" if authority is None else OTHERS.get(authority)


def rewritten(uri: str) -> str:
    """A URI on a line of its own."""
    out = rewrite(f"#EXTM3U\n{uri}\n".encode(), pin).decode()
    return out.removeprefix("#EXTM3U\n").removesuffix("\n")


# URIs


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        # G29: the Go proxy has two & between the parameters.
        ("s-567.ts", "s-567.ts?spbhid=OWN"),
        ("s-567.ts?hls_ctx=5u529f2i", "s-567.ts?hls_ctx=5u529f2i&spbhid=OWN"),
        ("s.ts?", "s.ts?spbhid=OWN"),
        ("s.ts?&", "s.ts?spbhid=OWN"),
        ("s.ts?a=1&", "s.ts?a=1&spbhid=OWN"),
        ("s.ts?a=1&&", "s.ts?a=1&spbhid=OWN"),
        ("s.ts?a=1&&b=2", "s.ts?a=1&&b=2&spbhid=OWN"),
        ("s.ts?&a=1", "s.ts?&a=1&spbhid=OWN"),
        ("s.ts?a=1?b", "s.ts?a=1?b&spbhid=OWN"),
        ("/live/s.m3u8", "/live/s.m3u8?spbhid=OWN"),
        ("../other/s.ts", "../other/s.ts?spbhid=OWN"),
        ("?a=1", "?a=1&spbhid=OWN"),
        ("a b.ts", "a b.ts?spbhid=OWN"),
        ("%E4%BD%A0.ts", "%E4%BD%A0.ts?spbhid=OWN"),
        ("\u4f60.ts", "\u4f60.ts?spbhid=OWN"),
        # a fragment stays at the end
        ("s.ts#t=1", "s.ts?spbhid=OWN#t=1"),
        ("s.ts?a=1#t?b&c", "s.ts?a=1&spbhid=OWN#t?b&c"),
        ("s.ts#", "s.ts?spbhid=OWN#"),
        # a pin that is there is replaced
        ("s.ts?spbhid=old", "s.ts?spbhid=OWN"),
        ("s.ts?spbhid=old&a=1", "s.ts?a=1&spbhid=OWN"),
        ("s.ts?a=1&spbhid=old&b=2", "s.ts?a=1&b=2&spbhid=OWN"),
        ("s.ts?spbhid=old&spbhid=older", "s.ts?spbhid=OWN"),
        ("s.ts?spbhid=old&&hls_ctx=x", "s.ts?hls_ctx=x&spbhid=OWN"),
        ("s.ts?xspbhid=1", "s.ts?xspbhid=1&spbhid=OWN"),
        # an authority that is an origin's is left out
        ("http://127.0.0.1:28082/live/s.ts?a=1", "/live/s.ts?a=1&spbhid=OTHER"),
        ("HTTP://origin/live/s.ts", "/live/s.ts?spbhid=OTHER"),
        ("//origin/live/s.ts", "/live/s.ts?spbhid=OTHER"),
        ("http://[::1]:8080/live/s.ts", "/live/s.ts?spbhid=OTHER"),
        ("http://origin", "/?spbhid=OTHER"),
        ("http://origin?a=1", "/?a=1&spbhid=OTHER"),
        ("http://origin#x", "/?spbhid=OTHER#x"),
        ("http://origin//evil.org/s.ts", "/evil.org/s.ts?spbhid=OTHER"),
        ("http://origin/\\evil.org/s.ts", "/evil.org/s.ts?spbhid=OTHER"),
        ("https://secure/s.ts", "/s.ts?spbhid=SECURE"),
        ("https://secure:443/s.ts", "/s.ts?spbhid=SECURE"),
        # anything with a colon behind a slash or a question mark is no scheme
        ("s.ts?u=http://x/", "s.ts?u=http://x/&spbhid=OWN"),
        ("./mp4:s-1.ts", "./mp4:s-1.ts?spbhid=OWN"),
        # other places
        *(
            (uri, uri)
            for uri in (
                "http://cdn.org/s.ts?a=1",
                "https://cdn.org/s.ts",
                "https://origin/s.ts",
                "//cdn.org/s.ts",
                "http://origin:81/s.ts",
                "http://user@origin/s.ts",
                "http:///s.ts",
                "skd://key",
                "data:text/plain;base64,AAAA",
                "urn:x",
                "http:s.ts",
                "mp4:s-1.ts",
                "{$base}/s.ts",
                "https://{$host}/s.ts",
            )
        ),
    ],
)
def test_a_uri(uri: str, expected: str) -> None:
    assert rewritten(uri) == expected


def test_variables_within_a_relative_uri_stay() -> None:
    assert rewritten("s.ts?t={$token}") == "s.ts?t={$token}&spbhid=OWN"


def test_without_a_token_nothing_changes() -> None:
    text = b"#EXTM3U\ns.ts\nhttp://origin/s.ts\n"
    assert rewrite(text, lambda _: None) == text


# Attributes

_URI_TAGS = [
    "KEY",
    "SESSION-KEY",
    "SESSION-DATA",
    "MAP",
    "MEDIA",
    "I-FRAME-STREAM-INF",
    "PART",
    "PRELOAD-HINT",
    "RENDITION-REPORT",
]


@pytest.mark.parametrize("tag", _URI_TAGS)
def test_the_uri_attribute_of_a_tag(tag: str) -> None:
    for before in ("", "TYPE=AUDIO,", 'NAME="a,b",', 'NAME="a,URI=",X=1,', 'X="",Y=0x1F, '):
        for after in ("", ",IV=0x5D", ',NAME="b,URI="', "\r"):
            line = f'#EXT-X-{tag}:{before}URI="a.mp4?x=1"{after}'
            assert rewritten(line) == f'#EXT-X-{tag}:{before}URI="a.mp4?x=1&spbhid=OWN"{after}'


@pytest.mark.parametrize(
    "line",
    [
        "#EXT-X-KEY:METHOD=NONE",
        '#EXT-X-KEY:METHOD=AES-128,URI="skd://key"',
        '#EXT-X-KEY:METHOD=AES-128,URI="https://keys.org/1"',
        '#EXT-X-KEY:METHOD=AES-128,URI=""',
        '#EXT-X-KEY:METHOD=AES-128,URI="s.key',
        "#EXT-X-KEY:METHOD=AES-128,URI=s.key",
        '#EXT-X-KEY:METHOD=AES-128,X-URI="s.key"',
        '#EXT-X-KEY:METHOD=AES-128,X="URI="s.key"',
        '#EXT-X-KEYS:URI="s.key"',
        '#EXT-X-UNKNOWN:URI="s.ts"',
        '#EXT-X-DATERANGE:ID="1",X-ASSET-URI="s.ts"',
        '#EXT-X-DEFINE:NAME="base",VALUE="s.ts"',
        '#EXT-X-DEFINE:QUERYPARAM="token"',
        '#URI="s.ts"',
        "# s.ts",
        "#",
        "",
        "  ",
        "\t",
        " #EXTINF",
    ],
)
def test_what_stays_as_it_is(line: str) -> None:
    assert rewritten(line) == line
    # Even if an attribute is to be found elsewhere.
    assert rewritten(f'{line}\n#EXT-X-MAP:URI="i.mp4"') == f'{line}\n#EXT-X-MAP:URI="i.mp4?spbhid=OWN"'


def test_line_ends_blanks_a_byte_order_mark_and_bytes_that_are_no_text_stay() -> None:
    text = b"\xef\xbb\xbf#EXTM3U\r\n\r\n#EXT-X-A:\xff\xfe\r\n \ts-\xff.ts \r\n#\x00\nb.ts"
    assert rewrite(text, pin) == (
        b"\xef\xbb\xbf#EXTM3U\r\n\r\n#EXT-X-A:\xff\xfe\r\n \ts-\xff.ts?spbhid=OWN \r\n#\x00\nb.ts?spbhid=OWN"
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>\ns.ts\n", b"\n#EXTM3U\ns.ts\n", b"#EXTM3U8\ns.ts\n", b"#extm3u\ns.ts\n", b"\xff\xfe#\0E\0"]
)
def test_what_is_no_playlist_stays_as_it_is(body: bytes) -> None:
    assert rewrite(body, pin) == body


# Whole playlists


def test_the_master_playlist_of_srs() -> None:
    assert rewrite(HLS_MASTER, pin) == HLS_MASTER.replace(b"5u529f2i", b"5u529f2i&spbhid=OWN")


def test_an_encrypted_media_playlist_of_srs() -> None:
    recorded = (CAPTURES / "hls_media_aes128.m3u8").read_bytes()
    key = b'URI="http://127.0.0.1:28082/live/enc-3.key"'
    assert recorded.count(key) == 1
    assert rewrite(recorded, pin) == recorded.replace(key, b'URI="/live/enc-3.key?spbhid=OTHER"').replace(
        b"?hls_ctx=b38yk88t", b"?hls_ctx=b38yk88t&spbhid=OWN"
    )
    assert b"28082" not in rewrite(recorded, pin)


_SAMPLES = [
    # several variants, and renditions
    """#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English, stereo",DEFAULT=YES,URI="<audio/en.m3u8>"
#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="CC",INSTREAM-ID="CC1"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="Deutsch",LANGUAGE="de",URI="<subs/de.m3u8?x=1>"
#EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS="avc1.4d401f,mp4a.40.2",RESOLUTION=640x360,AUDIO="a"
<low/index.m3u8>
#EXT-X-STREAM-INF:BANDWIDTH=7680000,CODECS="hvc1.1.6.L120.90",AUDIO="a"
<high/index.m3u8?x=1>
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=86000,URI="<low/iframe.m3u8>",CODECS="avc1.4d401f"
#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI="skd://key",KEYFORMAT="com.apple.streamingkeydelivery",KEYFORMATVERSIONS="1"
#EXT-X-CONTENT-STEERING:SERVER-URI="https://steering.example/"
""",
    # fMP4
    """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-VERSION:7
#EXT-X-MAP:URI="<init.mp4>",BYTERANGE="718@0"
#EXTINF:4.0,
#EXT-X-BYTERANGE:1000@718
<s-0.m4s>
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="<init2.mp4?v=2>"
#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00.000Z
#EXTINF:4.0,
<s-1.m4s>
#EXT-X-ENDLIST
""",
    # low latency
    """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=12.0
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-SKIP:SKIPPED-SEGMENTS=3
#EXTINF:4.00008,
<fileSequence271.mp4>
#EXT-X-PART:DURATION=0.33334,URI="<filePart272.a.mp4>"
#EXT-X-PART:DURATION=0.33334,INDEPENDENT=YES,URI="<filePart272.b.mp4>",BYTERANGE="20000@0"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="<filePart273.c.mp4>"
#EXT-X-RENDITION-REPORT:URI="<../1M/waitForMSN.php>",LAST-MSN=273,LAST-PART=2
""",
    # audio only, with CRLF and no end of the last line
    "#EXTM3U\r\n#EXT-X-TARGETDURATION:10\r\n#EXTINF:9.984,\r\n<a-0.aac>\r\n#EXTINF:10,title, with comma\r\n<a-1.aac>",
]


@pytest.mark.parametrize("sample", _SAMPLES, ids=["variants", "fmp4", "low latency", "audio"])
def test_playlists_of_other_origins(sample: str) -> None:
    """Marked is what must be pinned."""
    unmarked = sample.replace("<", "").replace(">", "").encode()
    expected = []
    for part in sample.split("<"):
        uri, mark, rest = part.partition(">")
        joint = "&" if "?" in uri else "?"
        expected.append(f"{uri}{joint}spbhid=OWN{rest}" if mark else part)
    assert rewrite(unmarked, pin) == "".join(expected).encode()


# Any playlist

_WORDS = [
    *(b"\n", b"\r\n", b"\r", b" ", b"\t", b"#", b"?", b"&", b"&&", b"=", b":", b"/", b"//", b"\\", b'"', b",", b"."),
    *(b"#EXT-X-KEY:", b"#EXT-X-MAP:", b"#EXT-X-MEDIA:", b"#EXTINF:1,", b'URI="', b'URI="s.key"', b'A="x,y"', b"{$a}"),
    *(b"spbhid=", b"spbhid", b"s-1.ts", b"http:", b"https:", b"origin", b"cdn.org", b"skd://", b"\xff", b"\0", b"OWN"),
    b"\xef\xbb\xbf",
]
_playlists = st.lists(st.sampled_from(_WORDS)).map(lambda words: b"#EXTM3U\n" + b"".join(words)) | st.binary()


@given(_playlists)
def test_rewriting_again_changes_nothing(text: bytes) -> None:
    once = rewrite(text, pin)
    assert rewrite(once, pin) == once


@given(_playlists)
def test_lines_without_a_uri_stay(text: bytes) -> None:
    before, after = text.split(b"\n"), rewrite(text, pin).split(b"\n")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        if (old.startswith(b"#") and b'URI="' not in old) or not old.strip():
            assert old == new
        assert new.count(b"spbhid=") <= old.count(b"spbhid=") + 1
        assert old == new or new.count(b"spbhid=OWN") or new.count(b"spbhid=OTHER")


def test_a_long_hostile_playlist_takes_little_time() -> None:
    """The largest that is taken has 1 MiB; were the time quadratic, this would take hours."""
    start = process_time()
    for word in _WORDS:
        for head in (b"#EXTM3U\n", b"#EXTM3U\n#EXT-X-KEY:", b"#EXTM3U\ns?", b'#EXTM3U\n#EXT-X-KEY:URI="s?'):
            text = head + word * (100_000 // len(word))
            rewrite(text, pin)
            is_master_for_stranger(text + b"#EXT-X-STREAM-INF:", b"/live/s.m3u8?hls_ctx=a" + word * 10_000)
    assert process_time() - start < 20


# Masters for strangers

_TARGET = b"/live/livestream.m3u8?hls_ctx=5u529f2i"


def test_the_master_that_srs_gives_to_a_viewer_with_an_unknown_context() -> None:
    assert is_master_for_stranger(HLS_MASTER, _TARGET)
    # SRS drops the other parameters then.
    assert is_master_for_stranger(HLS_MASTER, b"/live/livestream.m3u8?a=1&&hls_ctx=5u529f2i&b=2")
    assert is_master_for_stranger(HLS_MASTER, b"/live/livestream.m3u8?hls_ctx=x&hls_ctx=5u529f2i")
    assert is_master_for_stranger(HLS_MASTER.replace(b"\n", b"\r\n"), _TARGET)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        # a new viewer
        (HLS_MASTER, b"/live/livestream.m3u8"),
        (HLS_MASTER, b"/live/livestream.m3u8?a=1"),
        (HLS_MASTER, b"/live/livestream.m3u8?hls_ctx="),
        (HLS_MASTER.replace(b"5u529f2i", b"&hls_ctx="), b"/live/livestream.m3u8?hls_ctx="),
        (HLS_MASTER.replace(b"=5u529f2i", b"=1197e23i&&hls_ctx=5u529f2i"), b"/live/livestream.m3u8?&hls_ctx=5u529f2i"),
        # another context, another playlist
        (HLS_MASTER, b"/live/livestream.m3u8?hls_ctx=aaaaaaaa"),
        (HLS_MASTER, b"/live/other.m3u8?hls_ctx=5u529f2i"),
        # a real master, a media playlist, something else
        (HLS_MASTER + HLS_MASTER.removeprefix(b"#EXTM3U\n"), _TARGET),
        (HLS_MASTER + b"/live/livestream.m3u8?hls_ctx=5u529f2i\n", _TARGET),
        (b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", _TARGET),
        (b"#EXTM3U\n#EXTINF:2,\nlivestream-1.ts?hls_ctx=5u529f2i\n", _TARGET),
        (HLS_MASTER.removeprefix(b"#EXTM3U\n"), _TARGET),
        (b"", _TARGET),
    ],
)
def test_other_playlists_are_no_master_for_a_stranger(text: bytes, target: bytes) -> None:
    assert not is_master_for_stranger(text, target)


@given(_playlists, st.binary())
def test_any_bytes_may_or_may_not_be_a_master(text: bytes, target: bytes) -> None:
    assert not is_master_for_stranger(text, target)


# gzip


@given(st.binary())
def test_what_was_zipped_can_be_unzipped(body: bytes) -> None:
    assert playlist.unzip(playlist.zip(body), len(body)) == body
    assert gzip.decompress(playlist.zip(body)) == body
    assert playlist.unzip(gzip.compress(body), len(body)) == body


def test_zipping_knows_no_time() -> None:
    assert playlist.zip(HLS_MASTER)[4:8] == bytes(4)


def test_a_body_that_is_too_long_when_unzipped_is_refused() -> None:
    bomb = playlist.zip(bytes(10_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(LimitExceeded, match="longer than 9999999 bytes"):
        playlist.unzip(bomb, 9_999_999)
    assert len(playlist.unzip(bomb, 10_000_000)) == 10_000_000


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "ends early"),
        (playlist.zip(HLS_MASTER)[:-1], "ends early"),
        (playlist.zip(HLS_MASTER) + b"x", "goes on behind its end"),
        (playlist.zip(HLS_MASTER) * 2, "goes on behind its end"),
        (HLS_MASTER, "cannot be decompressed"),
        (playlist.zip(HLS_MASTER)[:-8] + bytes(8), "cannot be decompressed"),
    ],
)
def test_a_body_that_is_no_gzip_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        playlist.unzip(body, 1000)


@given(st.binary() | st.binary().map(lambda tail: playlist.zip(HLS_MASTER)[:20] + tail))
def test_any_body_is_unzipped_or_refused(body: bytes) -> None:
    try:
        assert len(playlist.unzip(body, 1000)) <= 1000
    except PeerError:
        return
