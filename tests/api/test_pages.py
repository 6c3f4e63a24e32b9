"""The site of static files and the health check, without the proxy in front of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

from srsproxy.api.pages import build_pages_site
from srsproxy.api.versions import ProxyIdentity
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor

IDENTITY = ProxyIdentity("srsproxy-1", "abc", "4711", "1.2.3")


def listening(root: Path | None) -> SiteUnderTest:
    return SiteUnderTest(reactor, build_pages_site(Clock(), root, IDENTITY))


@in_reactor
async def test_it_serves_files_and_the_version(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"<p>hello</p>")
    async with listening(tmp_path) as site:
        assert (await site.answer(http_request("GET", "/"))).body == b"<p>hello</p>"
        assert (await site.answer(http_request("GET", "/api/v1/versions"))).json["code"] == 0


@in_reactor
async def test_files_that_are_put_there_later_are_served(tmp_path: Path) -> None:
    async with listening(tmp_path) as site:
        assert (await site.answer(http_request("GET", "/new.txt"))).status == 404
        (tmp_path / "new.txt").write_bytes(b"new")
        assert (await site.answer(http_request("GET", "/new.txt"))).body == b"new"


@pytest.mark.parametrize(
    "path", ["/", "/sub/", "/nothing", "/nothing/at/all", "/api", "/api/", "/api/v1", "/api/v2/versions"]
)
@in_reactor
async def test_all_else_is_not_found_and_told_as_json(tmp_path: Path, path: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "unlisted").write_bytes(b"x")
    for root in (tmp_path, None):
        async with listening(root) as site:
            response = await site.answer(http_request("GET", path))
            assert response.status == 404
            assert response.error == "nothing is here"


@in_reactor
async def test_the_api_is_not_hidden_by_files(tmp_path: Path) -> None:
    (tmp_path / "api" / "v1").mkdir(parents=True)
    (tmp_path / "api" / "v1" / "versions").write_bytes(b"file")
    async with listening(tmp_path) as site:
        assert (await site.answer(http_request("GET", "/api/v1/versions"))).json["code"] == 0


@in_reactor
async def test_a_file_that_may_not_be_read_is_no_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    async with listening(tmp_path) as site:
        assert (await site.answer(http_request("GET", "/loop"))).status in (403, 404)
