"""The image of the GPU's container: building it needs Docker, which tests do without; what can be checked is."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "functions" / "gpu_pulse"
LINES = (IMAGE / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def test_dockerfile_is_free_of_lint() -> None:
    """All of hadolint's rules."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed: it has no wheel for this machine")
    done = subprocess.run([program, IMAGE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_base_is_a_pinned_cuda_runtime() -> None:
    """One, by its exact tag."""
    (base,) = instructions("FROM")
    assert re.fullmatch(r"nvidia/cuda:12\.\d+\.\d+-runtime-ubuntu\d\d\.\d\d", base)


def test_container_is_nobody_special() -> None:
    """A user with a number, so that the platform can see that it is not root, and nothing after it becomes root."""
    assert instructions("USER") == ["10001:10001"]
    assert not [line for line in LINES[LINES.index("USER 10001:10001") :] if line.startswith("RUN")]


def test_copied_files_are_there_and_not_ignored() -> None:
    """Whoever builds gets them all; secrets and homes that lie beside them stay behind."""
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert ignore[0] == "*"
    kept = [entry[1:] for entry in ignore if entry.startswith("!")]
    for copied in instructions("COPY"):
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_pinned_versions_are_those_that_the_project_allows() -> None:
    """Of every requirement that the extras name too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = [Requirement(text) for texts in project["optional-dependencies"].values() for text in texts]
    pinned = [Requirement(line) for line in (IMAGE / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert {"cupy-cuda12x", "array-api-compat", "numpy"} <= {each.name for each in pinned}
    for pin in pinned:
        (specifier,) = pin.specifier
        version = specifier.version.replace("*", "0")
        assert specifier.operator == "=="
        assert all(version in each.specifier for each in allowed if each.name == pin.name), pin


def test_command_needs_nothing_of_a_server() -> None:
    """What the `local` extra brings is not in the image."""
    absent = ("platformdirs", "rich", "waitress", "pytest", "sklearn")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from gramian_local.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "pulse", "--help"], capture_output=True, text=True, check=True, timeout=30
    )
    assert "--pid" in done.stdout
