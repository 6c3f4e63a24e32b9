"""The scripted origin and the raw client, with each other: tests of the proxy rely on what they say."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.asynchronous import in_reactor, until
from tests.http.origins import HOST, Ending, Endless, Gate, RawHttpClient, ScriptedHttpOrigin
from tests.rtmp_client import PeerClosed

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def connect(origin: ScriptedHttpOrigin) -> RawHttpClient:
    return await RawHttpClient.connect(reactor, HOST, origin.port)


@in_reactor
async def test_requests_are_collected_as_they_came() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        client = await connect(origin)
        client.request("/a?b=c", "x-name: 1", "X-Name: 2", method="POST", body=b"body")
        request = await origin.asked()
        assert (request.method, request.target, request.body) == (b"POST", b"/a?b=c", b"body")
        assert request.field(b"host") == b"test"
        assert request.all(b"X-NAME") == [b"1", b"2"]
        assert request.field(b"Accept") is None
        assert request.connection is origin.connections[0]
        assert request.connection.received.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: test\r\nx-name: 1\r\n")


@in_reactor
async def test_a_request_counts_when_its_body_is_whole() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        client = await connect(origin)
        client.request("/a")
        client.send(b"POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo")
        await origin.asked(1)
        client.send(b"dyGET /c HTTP/1.1\r\n\r\n")
        assert (await origin.asked(3)).target == b"/c"
        assert origin.requests[1].body == b"body"


@in_reactor
async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        gate = Gate()
        origin.answer(OK + b"Content-Length: 3\r\n\r\n", b"o", gate, b"ne")
        origin.answer(OK + b"content-length: 3\r\n\r\ntwo")
        client = await connect(origin)
        client.request("/1")
        client.request("/2")
        await client.head()
        assert await client.read(1) == b"o"
        await origin.asked(2)
        assert gate.reached
        assert client.unread == b""
        gate.open()
        assert await client.read(2) == b"ne"
        assert (await client.response()).body == b"two"
        assert origin.open_connections == 1


@in_reactor
async def test_chunks_are_read_one_by_one_or_to_the_end_of_the_body() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        origin.always = (CHUNKED, b"2;x=y\r\nab\r\n", b"A\r\n0123456789\r\n", b"0\r\nTrailer: x\r\n\r\n")
        client = await connect(origin)
        client.request("/")
        await client.head()
        assert [await client.chunk() for _ in range(3)] == [b"ab", b"0123456789", b""]
        client.request("/")
        await client.head()
        assert await client.chunked(3) == b"ab0123456789"
        assert await client.chunked(1) == b""
        response = await client.get("/")
        assert (response.status, response.body) == (200, b"ab0123456789")


@pytest.mark.parametrize(("ending", "lost"), [(Ending.FIN, ConnectionDone), (Ending.RST, ConnectionLost)])
@in_reactor
async def test_an_answer_ends_as_it_should(ending: Ending, lost: type[Exception]) -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        gate = Gate()
        origin.answer(OK + b"\r\nto the end", gate, ending)
        client = await connect(origin)
        client.request("/")
        await client.head()
        assert await client.read(10) == b"to the end"
        gate.open()
        assert await client.wait_closed() is (ending is Ending.FIN)
        assert client.lost is not None
        assert client.lost.check(lost)
        await origin.closed()
        assert (origin.open_connections, len(origin.connections)) == (0, 1)


@in_reactor
async def test_a_body_until_the_end_and_one_that_is_cut_short_are_told_apart() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        origin.answer(OK + b"\r\n", b"whole", Ending.FIN)
        origin.answer(OK + b"Content-Length: 6\r\n\r\n", b"short", Ending.FIN)
        assert (await (await connect(origin)).get("/")).body == b"whole"
        client = await connect(origin)
        with pytest.raises(PeerClosed):
            await client.get("/")
        assert client.unread == b"short"


@in_reactor
async def test_silence_and_how_clients_leave() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        patient, rude = await connect(origin), await connect(origin)
        patient.request("/")
        rude.request("/")
        await origin.asked(2)
        assert origin.open_connections == 2
        await rude.abort()
        await origin.closed(1)
        patient.close_write()
        await origin.closed(2)
        ends = [connection.lost.value for connection in origin.connections if connection.lost is not None]
        assert sorted(type(end).__name__ for end in ends) == ["ConnectionDone", "ConnectionLost"]
        assert await patient.wait_closed()
        assert patient.closed


@in_reactor
async def test_an_endless_answer_stops_while_it_is_not_read() -> None:
    async with ScriptedHttpOrigin(reactor) as origin:
        endless = Endless(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        origin.answer(CHUNKED, endless, b"0\r\n\r\n")
        client = await connect(origin)
        client.pause()
        client.request("/")
        seen = -1

        def stopped() -> bool:
            nonlocal seen
            before, seen = seen, endless.sent
            return 0 < before == seen

        await until(reactor, stopped, "nothing more is sent")
        client.resume()
        await client.head()
        await client.chunked(2 * seen)
        endless.end()
        assert len(await client.chunked(endless.sent)) % 0x10000 == 0
        assert client.unread == b""
