"""The contract of transports, and what this one makes of a federation's keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramian.errors import InvalidRequest
from gramian.testing import contract
from gramian_acme.transport import AcmeTransport


class TestAcme(contract("transport.acme", unreachable={"acme_path": "/no/such/directory/bus"})):  # type: ignore[misc]
    """On a bus of its own."""

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        return {"acme_path": str(tmp_path / "bus")}


@pytest.mark.parametrize("keys", [{"acme_path": "bus"}, {"acme_path": "/bus", "acme_max_bytes": "much"}])
def test_bad_key_is_named(keys: dict[str, str]) -> None:
    """Whoever founds a federation learns what to change."""
    with pytest.raises(InvalidRequest, match=list(keys)[-1]):
        AcmeTransport(poll_s=1).check_options(keys)
