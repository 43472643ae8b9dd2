"""Documents that name tests, and tests that the documents name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "docs" / "security.md"


def named_tests() -> list[tuple[str, str]]:
    """(file, function) of every test that the threat table names."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", SECURITY.read_text())


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_backs_a_promise_exists() -> None:
    """A line of the threat table is worth as much as its tests."""
    assert len(named_tests()) > 50
    missing = [
        f"{file}::{name}"
        for file, name in named_tests()
        if not (ROOT / "tests" / file).exists() or name not in functions(ROOT / "tests" / file)
    ]
    assert missing == []


def test_every_threat_names_a_test() -> None:
    """None is answered by words alone."""
    table = SECURITY.read_text().split("## Threats and answers")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 20
    assert [line.split("|")[1].strip() for line in lines if "::test_" not in line.split("|")[3]] == []


def test_security_is_linked_from_the_readme() -> None:
    assert "docs/security.md" in (ROOT / "README.md").read_text()
