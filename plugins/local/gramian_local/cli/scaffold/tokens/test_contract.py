"""The contract of token stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramian.settings import Settings
from gramian.testing import contract

NOWHERE = {"GRAMIAN_ACME_PATH": "/no/such/directory/tokens"}


class TestAcme(contract("tokens.acme", unreachable=NOWHERE)):  # type: ignore[misc]
    """In a file of its own."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path, environment={"GRAMIAN_ACME_PATH": str(tmp_path / "tokens")})
