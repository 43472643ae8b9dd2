"""`gramian plugins new`: what it writes works as it stands."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gramian.errors import InvalidRequest
from gramian_local.cli import scaffold


def written(kind: str, directory: Path) -> Path:
    """A new plugin named after its kind, importable and published as if it were installed from `directory`."""
    name = f"my{kind}"
    scaffold.write(name, kind, directory)
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    metadata = directory / f"gramian_{name}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    sections = (
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in e.items()) for group, e in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(sections))
    return directory


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(directory), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_new_plugin_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """The contract of its kind, in several processes, and what it has besides; warnings are errors there too."""
    done = python(written(kind, tmp_path), "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "passed" in done.stdout


@pytest.mark.slow
def test_new_plugins_are_fully_typed(tmp_path: Path) -> None:
    """By mypy's strictest rules, against the protocols that they implement."""
    for kind in scaffold.KINDS:
        written(kind, tmp_path / kind)
    path = os.pathsep.join(str(tmp_path / kind) for kind in scaffold.KINDS)
    packages = [argument for kind in scaffold.KINDS for argument in ("-p", f"gramian_my{kind}")]
    env = {**os.environ, "MYPYPATH": path}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *packages]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_new_plugin_bears_its_name_everywhere(kind: str, tmp_path: Path) -> None:
    """In file names, classes and variables; nothing of the model's name is left."""
    files = scaffold.write("harbour", kind, tmp_path / "new")
    for path in files:
        assert "acme" not in f"{path.relative_to(tmp_path)} {path.read_text()}".lower()
        compile(path.read_text(), path, "exec") if path.suffix == ".py" else None
    project = tomllib.loads((tmp_path / "new" / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["gramian"] == {f"{kind}.harbour": "gramian_harbour"}
    assert f"{kind}.harbour" in (tmp_path / "new" / "README.md").read_text()


def promised() -> dict[str, set[str]]:
    """What the guide promises of each module of Gramian; nothing in particular stands for all of it."""
    guide = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
    rows = re.findall(r"^\| `(gramian[\w.]*)` \| (.*) \|$", guide.partition("## What is promised")[2], re.MULTILINE)
    return {
        module: set() if what.startswith("all") else set(re.findall(r"`(\w+)`", what.partition(":")[0]))
        for module, what in rows
    }


def imported(path: Path) -> set[tuple[str, str]]:
    """(module, name) of what a file imports from Gramian."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return {(module, name) for module, name in found if module.partition(".")[0] == "gramian"}


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_new_plugin_imports_only_what_is_promised(kind: str, tmp_path: Path) -> None:
    """Whoever starts from it must not have to follow every release."""
    files = [path for path in scaffold.write("harbour", kind, tmp_path) if path.suffix == ".py"]
    promise = promised()
    broken = {
        (module, name)
        for path in files
        for module, name in imported(path)
        if module not in promise or (promise[module] and name not in promise[module])
    }
    assert broken == set()


def test_what_is_promised_is_there() -> None:
    """Every name of the guide's list."""
    promise = promised()
    assert len(promise) > 10
    for module, names in promise.items():
        found = importlib.import_module(module)
        assert [name for name in names if not hasattr(found, name)] == []


def test_functions_that_the_guide_names_are_promised() -> None:
    """`gramian.a.b.c` in its text is a module of the list, or a name of one."""
    guide = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
    promise = promised()
    dotted = set(re.findall(r"`(gramian(?:\.[a-z]\w*)+)\b", re.sub(r"```.*?```", "", guide, flags=re.DOTALL)))
    assert len(dotted) > 10
    for name in dotted - {"gramian.keys"}:  # a group of entry points
        module, _, last = name.rpartition(".")
        assert name in promise or last in promise.get(module, set()), name


@pytest.mark.parametrize("name", ["", "Acme", "my-bus", "../x", "1st", "a" * 33, "é"])
def test_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """It becomes part of a package's name, a variable and paths."""
    with pytest.raises(InvalidRequest, match="cannot name a plugin"):
        scaffold.write(name, "state", tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nats", "numpy", "local", "memory"])
def test_name_of_a_module_that_is_installed_is_refused(name: str, tmp_path: Path) -> None:
    """Installed beside it, one of the two would hide the other."""
    with pytest.raises(
        InvalidRequest, match=f"'{name}' cannot name a new plugin: .* gramian_{name}, .* choose another"
    ):
        scaffold.write(name, "transport", tmp_path)
    assert not any(tmp_path.iterdir())


def test_name_of_a_plugin_that_is_installed_is_refused_for_its_kind(tmp_path: Path) -> None:
    """Whatever its module is called: two plugins of one name and kind stop a node that selects them."""
    with pytest.raises(InvalidRequest, match=r"gramian .* \(gramian_local.plugin\) publishes state.sqlite; choose"):
        scaffold.write("sqlite", "state", tmp_path)
    assert scaffold.write("sqlite", "blobs", tmp_path)


@pytest.mark.parametrize("place", ["/proc/nope/x", "/dev/null/x"])
def test_directory_that_cannot_be_written_is_refused(place: str) -> None:
    """In words that say so."""
    with pytest.raises(InvalidRequest, match=f"cannot write {place}: .*; name another --directory"):
        scaffold.write("harbour", "state", Path(place))


def test_files_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    """Not even one of them, and nothing else is written then."""
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"README.md is there already"):
        scaffold.write("harbour", "state", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
