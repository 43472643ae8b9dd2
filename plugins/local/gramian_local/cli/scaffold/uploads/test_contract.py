"""The contract of stores of uploads."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramian.settings import Settings
from gramian.testing import contract

# No directory can be made below a file.
NOWHERE = {"GRAMIAN_ACME_PATH": "/dev/null/uploads"}


class TestAcme(contract("uploads.acme", unreachable=NOWHERE)):  # type: ignore[misc]
    """In a directory of its own."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path, environment={"GRAMIAN_ACME_PATH": str(tmp_path / "uploads")})
