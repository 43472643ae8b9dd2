"""The contract of state stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramian.settings import Settings
from gramian.testing import contract


class TestAcme(contract("state.acme")):  # type: ignore[misc]
    """In a file of its own."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path, environment={"GRAMIAN_ACME_PATH": str(tmp_path / "items")})
