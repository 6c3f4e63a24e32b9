"""The proxy's own pages, on connections that carry streams as well: static files and the health check."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from twisted.internet import reactor

from srsproxy.http import local
from srsproxy.outcome import Outcome
from tests.asynchronous import in_reactor
from tests.http.origins import Ending, RawHttpClient, Response
from tests.http.proxied import CHUNKED, FILE, LIVE, ProxiedOrigins, answered, chunk

SECRET = b"not to be served"
SEVERAL_BUFFERS = 8 << 20
"""Bytes that fit into no socket's buffers."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pages; beside it is a file that is none."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "players" / "empty").mkdir(parents=True)
    (root / "index.html").write_bytes(b"<p>index</p>")
    (root / "players" / "index.html").write_bytes(b"<p>players</p>")
    (root / "players" / "play.js").write_bytes(b"0123456789")
    (root / "players" / "empty" / "unlisted.txt").write_bytes(b"x")
    (root / "large.bin").write_bytes(bytes(range(256)) * (SEVERAL_BUFFERS // 256))
    os.utime(root / "index.html", (1_000_000_000, 1_000_000_000))
    return root


def proxied(root: Path | None) -> ProxiedOrigins:
    return ProxiedOrigins(reactor, static_files=root)


def assert_not_found(response: Response) -> None:
    assert response.status == 404
    assert response.field(b"Content-Type") == b"application/json"
    assert json.loads(response.body) == {"code": 404, "error": "nothing is here"}


@pytest.mark.parametrize(
    ("target", "kind", "body"),
    [
        ("/", b"text/html", b"<p>index</p>"),
        ("/?a=b", b"text/html", b"<p>index</p>"),
        ("/index.html", b"text/html", b"<p>index</p>"),
        ("/players/", b"text/html", b"<p>players</p>"),
        ("/players/play.js", b"javascript", b"0123456789"),
        ("/players/play.js?v=1", b"javascript", b"0123456789"),
        ("http://test/players/play.js", b"javascript", b"0123456789"),
        ("/./players/play.js", b"javascript", b"0123456789"),
    ],
)
@in_reactor
async def test_files_are_served_with_their_type(root: Path, target: str, kind: bytes, body: bytes) -> None:
    async with proxied(root) as lab:
        response = await lab.get(target)
        assert response.status == 200
        assert kind in (response.field(b"Content-Type") or b"")
        assert response.body == body
        assert lab.origin.requests == []
        await lab.ended("http", Outcome.FINISHED)


@in_reactor
async def test_large_files_arrive_whole_and_the_connection_lives_on(root: Path) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        for _ in range(2):
            assert (await client.get("/large.bin")).body == (root / "large.bin").read_bytes()


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=20-30", 416, b""),
        ("nonsense", 200, b"0123456789"),
    ],
)
@in_reactor
async def test_parts_of_files_are_served(root: Path, wanted: str, status: int, body: bytes) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        response = await client.get("/players/play.js", f"Range: {wanted}")
        assert (response.status, response.body) == (status, body)
        if status == 206:
            first = b"0123456789".index(body)
            assert response.field(b"Content-Range") == b"bytes %d-%d/10" % (first, first + len(body) - 1)
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize(("age", "status"), [(0, 304), (100, 304), (-100, 200)])
@in_reactor
async def test_files_that_have_not_changed_are_not_sent_again(root: Path, age: int, status: int) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        response = await client.get("/index.html")
        assert response.field(b"Last-Modified") == formatdate(1_000_000_000, usegmt=True).encode()
        since = formatdate(1_000_000_000 + age, usegmt=True)
        response = await client.get("/index.html", f"If-Modified-Since: {since}")
        assert response.status == status
        assert response.body == (b"" if status == 304 else b"<p>index</p>")
        assert (await client.get("/")).status == 200


@in_reactor
async def test_head_of_a_file_tells_its_length(root: Path) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        client.request("/large.bin", method="HEAD")
        response = await client.response(to_head_request=True)
        assert response.field(b"Content-Length") == b"%d" % SEVERAL_BUFFERS
        assert (await client.get("/")).body == b"<p>index</p>"


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/players/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2e/secret.txt",
        "/.%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/players/%2e%2e/%2e%2e/secret.txt",
        "/players%2f..%2f..%2fsecret.txt",
        "//../secret.txt",
        "/..//secret.txt",
        "/..;/secret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/..%00/secret.txt",
        "/index.html%00/../../secret.txt",
        "{root}/../secret.txt",
        "/{root}/../secret.txt",
        "/%2f{root}/index.html",
        "http://test/../secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
    ],
)
@in_reactor
async def test_nothing_outside_the_root_is_served(root: Path, target: str) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        response = await client.get(target.format(root=root))
        assert response.status in (400, 403, 404)
        assert SECRET not in client.received
        assert lab.origin.requests == []
        assert (await client.get("/")).body == b"<p>index</p>"


@pytest.mark.parametrize(
    "target",
    [
        "/" + "a" * 5_000,
        "/players?\udcff",
        "/players\udcff",
        "/players/?\udcff",
        "/%ff",
        "/a\udcc3\udcbc",
        "/players?[",
        "//[/players",
    ],
)
@in_reactor
async def test_odd_names_are_no_errors_of_ours(root: Path, target: str) -> None:
    async with proxied(root) as lab:
        assert (await lab.get(target)).status in (200, 302, 400, 404)


@in_reactor
async def test_links_lead_where_they_were_made_to_lead(root: Path) -> None:
    (root / "linked.txt").symlink_to(root / "players" / "play.js")
    async with proxied(root) as lab:
        assert (await lab.get("/linked.txt")).body == b"0123456789"


@pytest.mark.parametrize("target", ["/nothing", "/players/nothing.js", "/players/play.js/more", "/api", "/api/v1/x"])
@in_reactor
async def test_what_is_not_there_is_not_found(root: Path, target: str) -> None:
    async with proxied(root) as lab:
        assert_not_found(await lab.get(target))


@in_reactor
async def test_folders_are_not_listed(root: Path) -> None:
    async with proxied(root) as lab:
        assert_not_found(await lab.get("/players/empty/"))


@in_reactor
async def test_a_folder_without_its_slash_leads_to_itself_through_the_proxy(root: Path) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        response = await client.get("/players", "Host: proxy.example:8080")
        assert response.status in (301, 302)
        assert response.field(b"Location") == b"/players/"
        assert (await client.get("/players/")).body == b"<p>players</p>"


@pytest.mark.parametrize("target", ["/", "/index.html", "/../secret.txt", "/live/"])
@in_reactor
async def test_without_a_root_there_are_no_files(target: str) -> None:
    async with proxied(None) as lab:
        response = await lab.get(target)
        if ".." in target:
            assert response.status == 400
        else:
            assert_not_found(response)


@pytest.mark.parametrize("with_root", [True, False])
@in_reactor
async def test_the_health_check_needs_neither_files_nor_origins(root: Path, with_root: bool) -> None:
    async with ProxiedOrigins(reactor, 0, static_files=root if with_root else None) as lab:
        client = await lab.client()
        for target in ("/api/v1/versions", "/api/v1/versions?callback=x"):
            response = await client.get(target)
            assert response.status == 200
            assert response.field(b"Content-Type") == b"application/json"
            content = json.loads(response.body)
            assert content["code"] == 0
            assert content["data"]["version"] == "1.2.3"


async def get_page_and_stream(lab: ProxiedOrigins, client: RawHttpClient) -> None:
    lab.origin.answer(CHUNKED, chunk(b"stream"), Ending.FIN)
    lab.origin.answer(answered(b"segment"))
    assert (await client.get("/players/play.js")).body == b"0123456789"
    assert (await client.get(LIVE)).body == b"stream"
    assert (await client.get("/")).body == b"<p>index</p>"
    assert (await client.get(FILE)).body == b"segment"


@in_reactor
async def test_pages_and_streams_share_a_connection(root: Path) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        for _ in range(3):
            await get_page_and_stream(lab, client)


@in_reactor
async def test_media_are_the_origins_even_if_there_is_such_a_file(root: Path) -> None:
    (root / "live").mkdir()
    (root / "live" / "s.flv").write_bytes(b"file")
    async with proxied(root) as lab:
        lab.origin.answer(answered(b"stream"))
        assert (await lab.get(LIVE)).body == b"stream"


@in_reactor
async def test_many_at_once_and_slow_ones_too(root: Path) -> None:
    async with proxied(root) as lab:
        slow = [await lab.client() for _ in range(20)]
        for client in slow:
            client.request("/large.bin")
            await client.head()
            client.pause()
        for _ in range(20):
            assert (await lab.get("/players/play.js")).body == b"0123456789"
        for client in slow[::2]:
            await client.abort()
        for client in slow[1::2]:
            client.resume()
            assert len(await client.read(SEVERAL_BUFFERS)) == SEVERAL_BUFFERS


CROWD = 100
"""Clients that ask in the same moment: more than Twisted would let wait, fewer than any kernel does."""


async def statuses_of_a_crowd(lab: ProxiedOrigins) -> Counter[int]:
    """What becomes of requests for a page of ours that the proxy reads in one turn of the reactor."""
    clients = [await lab.client() for _ in range(CROWD)]
    for client in clients:
        client.request("/api/v1/versions")
    statuses: Counter[int] = Counter()
    for client in clients:
        response = await client.response()
        assert "code" in json.loads(response.body)
        statuses[response.status] += 1
    return statuses


@in_reactor
async def test_all_of_a_crowd_are_served_at_once() -> None:
    async with proxied(None) as lab:
        assert await statuses_of_a_crowd(lab) == {200: CROWD}


@in_reactor
async def test_where_the_kernel_takes_fewer_that_is_no_bad_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "TCP_BACKLOG", 1)
    async with proxied(None) as lab:
        statuses = await statuses_of_a_crowd(lab)
        assert set(statuses) <= {200, 503}
        assert statuses[200] > 0
        # It was for that moment.
        assert (await lab.get("/api/v1/versions")).status == 200


@in_reactor
async def test_a_page_that_is_asked_for_when_the_site_has_stopped_is_unavailable() -> None:
    async with proxied(None) as lab:
        client = await lab.client()
        for _ in range(2):
            await lab.proxy.local.stopService()
            response = await client.get("/api/v1/versions")
            assert response.status == 503
            assert json.loads(response.body)["code"] == 503
        lab.proxy.local.startService()
        assert (await client.get("/api/v1/versions")).status == 200


@in_reactor
async def test_so_is_one_whose_request_is_whole_when_the_proxy_drains_already() -> None:
    async with proxied(None) as lab:
        client = await lab.client()
        client.send(b"GET /api/v1/versions HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await client.response()).status == 100
        drained = lab.proxy.http_server.drain()
        await lab.proxy.local.stopService()
        client.send(b"body")
        response = await client.response()
        assert response.status == 503
        assert response.field(b"Connection") == b"close"
        assert await client.wait_closed()
        await drained


@pytest.mark.parametrize("target", ["/players?\udcff", "/players\udcff", "/\udcc3\udcbc.html", "/?\udcc3\udcbc=1"])
@pytest.mark.parametrize("pin", ["", "&spbhid=AAAAAAAAAAAAAAAA", "&spbhid=%41", "&spbhid=\udcff"])
@in_reactor
async def test_raw_bytes_in_the_name_of_a_page_are_a_bad_request(root: Path, target: str, pin: str) -> None:
    async with proxied(root) as lab:
        client = await lab.client()
        response = await client.get(target + (pin if "?" in target else pin.replace("&", "?")))
        assert response.status == 400
        assert response.field(b"Content-Type") == b"application/json"
        assert json.loads(response.body)["code"] == 400
        assert lab.origin.requests == []
        assert (await client.get("/")).body == b"<p>index</p>"


@in_reactor
async def test_the_socket_between_is_no_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    async with proxied(root) as lab:
        assert (await lab.get("/")).status == 200
        assert list(empty.iterdir()) == []


@in_reactor
async def test_where_it_must_be_a_file_it_is_private_and_gone_afterwards(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    monkeypatch.setattr(sys, "platform", "other")
    async with proxied(root) as lab:
        (folder,) = empty.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (await lab.get("/")).status == 200
    assert list(empty.iterdir()) == []
