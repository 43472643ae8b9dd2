"""Putting a node together on one machine: home, plugins, this process's instance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gramian import plugins
from gramian.node import Node, Vault
from gramian.settings import Settings
from gramian_local.home import Home, open_home
from gramian_local.instance import Instance


@contextmanager
def opened(settings: Settings, path: Path | None) -> Iterator[tuple[Node, Home]]:
    """A node on the home at `path`, closed at the end. Raises StoreError, PluginError."""
    home = open_home(path)
    settings = dataclasses.replace(settings, home=home.root)
    instance = Instance(home)
    state = plugins.make("state", settings.state, settings)
    node = Node(
        state=state,
        tokens=plugins.make("tokens", settings.tokens, settings),
        blobs=plugins.make("blobs", settings.blobs, settings),
        scheduler=plugins.make("scheduler", settings.scheduler, settings, state=state),
        jobs=plugins.make("jobs", settings.jobs, settings),
        vault=Vault(home.master_key),
        settings=settings,
        instance=instance.id,
        instance_alive=instance.alive,
    )
    try:
        yield node, home
    finally:
        node.close()
        instance.close()
