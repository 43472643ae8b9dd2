"""The NATS transport keeps the contract of all transports."""

from __future__ import annotations

import pytest

from gramian.testing.transport import TransportContract
from gramian_local.nats_server import NatsServer
from gramian_nats.transport import NatsTransport


class TestNatsTransport(TransportContract):
    """Against a real server, shared by the session."""

    @pytest.fixture
    def transport(self, transport: NatsTransport) -> NatsTransport:
        return transport

    @pytest.fixture
    def options(self, nats_server: NatsServer) -> dict[str, str]:
        return {"nats_hosts": nats_server.url, "nats_req_timeout": "10"}
