"""`gramian plugins new`: what it writes works as it stands."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("name", ["", "Acme", "my-bus", "../x", "1st", "a" * 33, "é"])
def test_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """It becomes part of a package's name, a variable and paths."""
    with pytest.raises(InvalidRequest, match="cannot name a plugin"):
        scaffold.write(name, "state", tmp_path)
    assert not any(tmp_path.iterdir())


def test_files_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    """Not even one of them, and nothing else is written then."""
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"README.md is there already"):
        scaffold.write("harbour", "state", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
