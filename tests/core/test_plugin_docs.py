"""The guide for authors of plugins says what is so: its code is that of files, and no hook or command is left out."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from gramian import hookspecs, plugins
from gramian.testing import SUITES
from gramian_local.cli.plugins import plugins as commands

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "plugins.md").read_text()
INCLUDED = re.findall(r"<!-- ([\w./-]+\.py)(?:: ([\w, ]+))? -->\n\n```python\n(.*?)```\n", GUIDE, re.DOTALL)
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("gramian_"))


def source(path: str, names: str) -> str:
    """A file, or the classes and functions of that name in it, as they stand there."""
    text = (ROOT / path).read_text()
    if not names:
        return text
    found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    lines = text.splitlines()
    parts = []
    for name in names.split(", "):
        node = found[name]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        parts.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n\n\n".join(parts) + "\n"


@pytest.mark.parametrize(("path", "names", "block"), INCLUDED, ids=[f"{path} {names}" for path, names, _ in INCLUDED])
def test_code_of_the_guide_is_that_of_the_file(path: str, names: str, block: str) -> None:
    """Paste it anew from there when this fails; the file is what the tests run."""
    assert block == source(path, names)


def test_all_python_of_the_guide_is_included() -> None:
    """No block stands for itself."""
    assert GUIDE.count("```python") == len(INCLUDED) == GUIDE.count("<!-- ") > 5


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_place_in_the_guide(hook: str) -> None:
    """In a table or a text, besides the code."""
    assert f"`{hook}`" in re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_typed_documented_and_tested(hook: str) -> None:
    """A third party codes from the docstring; a test or a plugin under test implements it."""
    specification = getattr(hookspecs, hook)
    assert len(specification.__doc__) > 40
    assert "return" in specification.__annotations__
    places = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "plugins" / "local").rglob("*.py")]
    assert any(hook in path.read_text() for path in places if path != Path(__file__))


@pytest.mark.parametrize("lead", ["Called", "Wins:", "Returns", "Raises"])
@pytest.mark.parametrize("hook", HOOKS)
def test_docstring_of_a_hook_says_four_things(hook: str, lead: str) -> None:
    """When it is called, which plugin wins, what it returns, what it may raise: each once, at the start of a line, in
    at least a word."""
    (line,) = [line for line in inspect.getdoc(getattr(hookspecs, hook)).splitlines() if line.startswith(f"{lead} ")]
    assert line.removeprefix(lead).strip(" .")


@pytest.mark.parametrize("kind", plugins.HOOKS)
def test_kind_has_a_row_in_the_guide(kind: str) -> None:
    """With the name of its contract suite, if there is one."""
    (row,) = [line for line in GUIDE.splitlines() if line.startswith(f"| `{kind}` |")]
    assert SUITES.get(kind, "").partition(":")[2] in row


@pytest.mark.parametrize("command", commands.commands)
def test_command_is_mentioned_in_the_guide(command: str) -> None:
    """`gramian plugins ...`."""
    assert f"gramian plugins {command}" in GUIDE


def test_links_of_the_guide_lead_somewhere() -> None:
    """Within the repository."""
    links = re.findall(r"\]\((\.\./[^)#]+)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
