"""Plugins of third parties, as the tests of the plugin surface need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gramian import plugins

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes a distribution that is installed until the test ends: a module `<name>` and its entry points."""
    made: list[str] = []

    def installed(name: str, code: str, entries: Mapping[str, str], keys: Mapping[str, str] | None = None) -> None:
        root = tmp_path / f"site-{name}"
        metadata = root / f"{name}-1.5.dist-info"
        metadata.mkdir(parents=True)
        (root / f"{name}.py").write_text(code)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        groups = {plugins.GROUP: entries, plugins.KEYS_GROUP: keys or {}}
        sections = [
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items()) for group, lines in groups.items()
        ]
        (metadata / "entry_points.txt").write_text("\n".join(sections))
        monkeypatch.syspath_prepend(root)
        made.append(name)
        plugins.published.cache_clear()

    yield installed
    for name in made:
        sys.modules.pop(name, None)
    monkeypatch.undo()
    plugins.published.cache_clear()
