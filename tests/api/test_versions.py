"""The health check."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

import srsproxy
from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity, versions_answer
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor
from tests.balancer.helpers import make_balancer

PATH = "/api/v1/versions"
ANSWER = (
    b'{"code":0,"server":"srsproxy-1","service":"abc","pid":"4711",'
    b'"data":{"major":1,"minor":2,"revision":3,"version":"1.2.3"}}'
)


def listening(token: str = "") -> SiteUnderTest:
    clock = Clock()
    identity = ProxyIdentity("srsproxy-1", "abc", "4711", "1.2.3")
    return SiteUnderTest(reactor, build_system_site(clock, make_balancer(clock), token, identity, lambda: None))


@pytest.mark.parametrize("token", ["", "secret"])
@in_reactor
async def test_it_is_shaped_like_that_of_srs_and_needs_no_token(token: str) -> None:
    async with listening(token) as site:
        response = await site.answer(http_request("GET", PATH))
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert response.body == ANSWER


@in_reactor
async def test_head_tells_the_same_without_the_body() -> None:
    async with listening() as site:
        response = await site.answer(http_request("HEAD", PATH))
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["content-length"] == str(len(ANSWER))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@in_reactor
async def test_other_methods_are_405(method: str) -> None:
    async with listening() as site:
        response = await site.answer(http_request(method, PATH))
        assert response.status == 405
        assert response.headers["allow"] == "get, head"
        assert response.error


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.2.3", [1, 2, 3]), ("0.10.0.dev4", [0, 10, 0]), ("2.0.1rc1", [2, 0, 1]), (srsproxy.__version__, None)],
)
def test_the_version_is_told_in_numbers_and_in_full(version: str, numbers: list[int] | None) -> None:
    data = versions_answer(ProxyIdentity("s", "x", "1", version))["data"]
    assert isinstance(data, dict)
    assert data["version"] == version
    told = [data["major"], data["minor"], data["revision"]]
    assert told == (numbers or told)
    assert version.startswith(".".join(map(str, told)))
