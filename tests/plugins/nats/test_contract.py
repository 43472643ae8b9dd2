"""The NATS transport keeps the contract of all transports."""

from __future__ import annotations

import pytest

from gramian.testing import contract
from gramian_local.nats_server import NatsServer
from gramian_nats.transport import NatsTransport

NOWHERE = {"nats_hosts": "nats://127.0.0.1:1", "nats_req_timeout": "1"}


class TestNatsTransport(contract("transport.nats", unreachable=NOWHERE, patience_s=5.0)):
    """Against a real server, shared by the session."""

    @pytest.fixture
    def transport(self, transport: NatsTransport) -> NatsTransport:
        return transport

    @pytest.fixture
    def options(self, nats_server: NatsServer) -> dict[str, str]:
        return {"nats_hosts": nats_server.url, "nats_req_timeout": "10"}
