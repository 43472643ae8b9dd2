"""The contract of observers, and what this one writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gramian_acme
from gramian.events import ModelBuilt
from gramian.settings import Settings
from gramian.testing import contract


class TestAcme(contract("observer.acme")):  # type: ignore[misc]
    """With a file of its own."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(environment={"GRAMIAN_ACME_PATH": str(tmp_path / "events")})


def test_line_has_the_event_and_its_figures(tmp_path: Path) -> None:
    """One line of JSON per event."""
    event = ModelBuilt("clinic", "study", "model", "mlr", "federated", 90, 12)
    gramian_acme.gramian_model_built({"path": tmp_path / "events"}, event)
    written = json.loads((tmp_path / "events").read_text())
    assert (written["event"], written["model_id"], written["rows"]) == ("ModelBuilt", "model", 90)
