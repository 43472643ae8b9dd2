"""Dependencies point inward: http -> use cases -> domain, and never from the core to a plugin."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core" / "gramian"
OUTSIDE = {"flask", "werkzeug", "nats", "boto3", "waitress", "sqlite3", "rich", "click"}
IO = {"socket", "http", "subprocess", "time", "os", "threading", "asyncio", "pathlib"}
WITH_A_LOCK = CORE / "domain" / "typed.py"
"""The one place in the domain that knows of threads: what it guards against would end the process."""


def modules(package: str) -> list[Path]:
    return sorted((CORE / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full dotted names of everything a module imports when it runs, types only excepted."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    typing_only = [
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", modules("domain"), ids=lambda path: str(path.relative_to(CORE)))
def test_domain_module_imports_nothing_outward_and_does_no_io(path: Path) -> None:
    """The domain knows no I/O, clock, framework or use case."""
    names = imported(path)
    assert not roots(names) & (OUTSIDE | IO) - ({"threading"} if path == WITH_A_LOCK else set())
    inner = {name for name in names if name.startswith("gramian.")}
    assert all(name.startswith(("gramian.domain", "gramian.errors")) for name in inner), inner


@pytest.mark.parametrize("path", modules("usecases"), ids=lambda path: str(path.relative_to(CORE)))
def test_use_case_module_knows_no_framework_and_no_edge(path: Path) -> None:
    """Use cases reach outside through the ports only."""
    names = imported(path)
    assert not roots(names) & OUTSIDE
    assert not any(name.startswith("gramian.http") for name in names)


@pytest.mark.parametrize("path", modules("."), ids=lambda path: str(path.relative_to(CORE)))
def test_core_module_imports_no_plugin(path: Path) -> None:
    """The core never names a plugin's package."""
    assert not any(root.startswith("gramian_") for root in roots(imported(path)))


@pytest.mark.parametrize("module", ["gramian.http.federation", "gramian.http.projects", "gramian.http.jobs"])
def test_light_endpoints_import_neither_numpy_nor_nats(module: str) -> None:
    """What a function that manages federations pays at a cold start."""
    heavy = ["numpy", "nats", "scipy", "safetensors"]
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
