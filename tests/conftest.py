"""Fixtures for the whole test tree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("gramian.testing")


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A real nats-server, shared: each test uses a federation of its own."""
    nats_server = pytest.importorskip("gramian_local.nats_server")
    with nats_server.NatsServer.start(tmp_path_factory.mktemp("nats")) as server:
        yield server
