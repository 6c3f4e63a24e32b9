"""Whether clients should be sent to a proxy, as load balancers ask it."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity
from tests.api.http_client import SiteUnderTest, http_request
from tests.asynchronous import in_reactor
from tests.balancer.helpers import make_balancer

PATH = "/api/v1/ready"


def listening(*hindrances: str | None) -> SiteUnderTest:
    """The site of a proxy that is asked so often."""
    clock, told = Clock(), iter(hindrances)
    identity = ProxyIdentity("srsproxy-1", "abc", "4711", "1.2.3")
    return SiteUnderTest(reactor, build_system_site(clock, make_balancer(clock), "", identity, lambda: next(told)))


@in_reactor
async def test_a_proxy_without_hindrance_is_ready() -> None:
    async with listening(None) as site:
        response = await site.answer(http_request("GET", PATH))
        assert response.status == 200
        assert response.json == {"code": 0}


@in_reactor
async def test_another_says_why_it_is_not_each_time() -> None:
    async with listening("Redis is lost", None, "the proxy is shutting down") as site:
        answers = [await site.answer(http_request("GET", PATH)) for _ in range(3)]
        assert [answer.status for answer in answers] == [503, 200, 503]
        assert answers[0].error == "Redis is lost"
        assert answers[2].error == "the proxy is shutting down"


@in_reactor
async def test_the_status_can_be_had_without_the_body() -> None:
    async with listening(None, "Redis is lost") as site:
        assert [(await site.answer(http_request("HEAD", PATH))).status for _ in range(2)] == [200, 503]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@in_reactor
async def test_it_can_only_be_asked(method: str) -> None:
    async with listening() as site:
        response = await site.answer(http_request(method, PATH))
        assert response.status == 405
        assert response.headers["allow"] == "get, head"
