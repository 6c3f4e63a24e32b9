"""The RTMP server: accepts clients, and ends them when the proxy ends."""

from __future__ import annotations

from srsproxy.clients import ClientFactory
from srsproxy.rtmp.session import RtmpClient
from srsproxy.rtmp.shared import SOURCE, Shared


class RtmpServer(ClientFactory[RtmpClient]):
    """Protocol factory of RTMP clients."""

    name = SOURCE

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def new_client(self) -> RtmpClient:
        return RtmpClient(self._shared, self.gone)
