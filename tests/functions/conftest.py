"""What the tests of the functions share: the generator of events, and handlers as Lambda would find them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def loaded(path: Path) -> ModuleType:
    """A module by its path: those in functions/ are in no package."""
    spec = importlib.util.spec_from_file_location(f"bundle_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def events() -> ModuleType:
    """functions/events.py."""
    return loaded(ROOT / "functions" / "events.py")
