"""The harnesses for the tests beside them; the same modules are run as scripts by the fuzzer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


HARNESSES = load("harnesses")
SEEDS = load("seeds")


@pytest.fixture(scope="session")
def harnesses() -> ModuleType:
    return HARNESSES


@pytest.fixture(scope="session")
def seeds() -> ModuleType:
    return SEEDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness" in metafunc.fixturenames:
        metafunc.parametrize("harness", HARNESSES.HARNESSES)
