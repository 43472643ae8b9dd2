"""The contract of transports, and what this one makes of a federation's keys."""

from __future__ import annotations

import sqlite3
from contextlib import closing
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


def test_removal_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    """Not even what no member can see any more."""
    with closing(AcmeTransport(poll_s=1).open({"acme_path": str(tmp_path / "bus")})) as link:
        link.create("f0", max_blob_bytes=1000)
        link.put_roster("f0", b"roster", expect=None)
        link.put_blob("f0", "a1", "01", [b"chunk"])
        link.nudge("f0", b"news")
        link.destroy("f0")
    with closing(sqlite3.connect(tmp_path / "bus")) as bus:
        for table in ("places", "entries", "chunks", "nudges"):
            assert bus.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("keys", [{"acme_path": "bus"}, {"acme_path": "/bus", "acme_max_bytes": "much"}])
def test_bad_key_is_named(keys: dict[str, str]) -> None:
    """Whoever founds a federation learns what to change."""
    with pytest.raises(InvalidRequest, match=list(keys)[-1]):
        AcmeTransport(poll_s=1).check_options(keys)
