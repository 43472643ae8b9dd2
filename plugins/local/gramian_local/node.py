"""A node on one machine, together with its home."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gramian import node
from gramian.settings import Settings
from gramian_local.home import Home, open_home


@contextmanager
def opened(settings: Settings, path: Path | None) -> Iterator[tuple[node.Node, Home]]:
    """A node on the home at `path`, closed at the end. Raises StoreError, PluginError."""
    home = open_home(path)
    with node.opened(dataclasses.replace(settings, home=home.root)) as made:
        yield made, home
