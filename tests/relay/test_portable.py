"""What only the way through Twisted's transports can run into."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from srsproxy.relay.model import EndReason
from tests.asynchronous import in_reactor
from tests.relay.wires import Lines, turns


@pytest.mark.parametrize("tls", [False, True])
@in_reactor
async def test_a_source_that_ends_after_the_sink_was_lost_is_not_the_end(tls: bool) -> None:
    async with Lines(portable=True, tls_client=tls, tls_origin=tls) as lines:
        line = await lines.relayed()
        line.back.forgetful = True
        await turns()
        half = line.front.half
        assert half is not None
        # The transport below, if it is TLS.
        transport: Any = getattr(line.back.transport, "transport", line.back.transport)
        transport.connectionLost(Failure(ConnectionAborted()))
        half.read_closed()
        assert not line.front.ended
        assert await line.front.ends() is EndReason.SINK_LOST
