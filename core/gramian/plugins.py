"""Finding, importing and calling plugins; nothing that is not selected is imported."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

import pluggy

from gramian import hookspecs, options
from gramian.errors import PluginError
from gramian.options import Option
from gramian.settings import Settings

GROUP = "gramian"
KEYS_GROUP = "gramian.keys"
HOOKS = {
    "transport": "gramian_transport",
    "compute": "gramian_compute",
    "state": "gramian_state_store",
    "tokens": "gramian_token_store",
    "blobs": "gramian_blob_store",
    "scheduler": "gramian_scheduler",
    "jobs": "gramian_job_runner",
}
"""The hook that makes the object of each kind."""


def names(kind: str) -> list[str]:
    """The published names of one kind, sorted, from metadata only."""
    return sorted({name.removeprefix(f"{kind}.") for name in published(GROUP).names if name.startswith(f"{kind}.")})


def make(kind: str, name: str, settings: Settings, **context: Any) -> Any:
    """Import the plugin `<kind>.<name>` alone and let it make its object. Raises PluginError."""
    manager = load(kind, name)
    values = options.parse(name, declared(manager, kind, name), settings.environment)
    made = getattr(manager.hook, HOOKS[kind])(settings=settings, options=values, **context)
    if made is None:
        raise PluginError(f"the plugin '{kind}.{name}' has no {HOOKS[kind]} hook that returns an object")
    return made


def load(kind: str, name: str) -> pluggy.PluginManager:
    """Import the plugin `<kind>.<name>` alone and check that it fits the hooks. Raises PluginError."""
    entry = find(kind, name)
    try:
        module = entry.load()
    except ImportError as error:
        raise PluginError(f"the plugin '{entry.name}' cannot be imported: {error}; install what it needs") from error
    _check_api(entry, module)
    manager = pluggy.PluginManager("gramian")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, entry.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"the plugin '{entry.name}' does not fit the hooks: {error}") from error
    return manager


def declared(manager: pluggy.PluginManager, kind: str, name: str) -> Sequence[Option]:
    """The options of a loaded plugin. Raises PluginError for a declaration that is none."""
    try:
        return manager.hook.gramian_options(kind=kind, name=name) or ()
    except ValueError as error:
        raise PluginError(f"the plugin '{kind}.{name}' declares a wrong option: {error}") from error


def find(kind: str, name: str) -> EntryPoint:
    """The one entry point of `<kind>.<name>`. Raises PluginError if there is none, or several that differ."""
    found = {entry.value: entry for entry in published(GROUP) if entry.name == f"{kind}.{name}"}
    if not found:
        known = ", ".join(names(kind)) or "none is installed"
        raise PluginError(f"no plugin '{name}' of kind {kind} is installed; known: {known}")
    if len(found) > 1:
        raise PluginError(
            f"several installed distributions publish the plugin '{kind}.{name}': "
            f"{', '.join(map(_source, found.values()))}; uninstall all but one"
        )
    return next(iter(found.values()))


def claimants(kind: str, key: str, preferred: Collection[str]) -> Collection[str]:
    """Names of the plugins of one kind that claim a key of federation maps, from metadata only; of the `preferred`
    ones if there are any.

    An entry of the group `gramian.keys` is `key = "<kind>.<name>"`; a key that ends in `_` stands for all that begin
    with it, and the longest that fits counts.
    """
    fitting = [entry for entry in published(KEYS_GROUP) if entry.value.startswith(f"{kind}.") and _fits(entry, key)]
    longest = max((len(entry.name) for entry in fitting), default=0)
    claiming = {entry.value.removeprefix(f"{kind}.") for entry in fitting if len(entry.name) == longest}
    return claiming.intersection(preferred) or claiming


@lru_cache
def published(group: str) -> EntryPoints:
    """All entry points of a group, read once: the metadata of everything installed takes longest of all here."""
    return entry_points(group=group)


def _fits(entry: EntryPoint, key: str) -> bool:
    return key.startswith(entry.name) if entry.name.endswith("_") else key == entry.name


def _check_api(entry: EntryPoint, module: object) -> None:
    spoken = getattr(module, "gramian_api", None)
    if spoken is None:
        raise PluginError(
            f"the plugin '{entry.name}' does not say for which version of the hooks it was written: "
            f'its module {entry.module} needs the line gramian_api = "{hookspecs.API}"'
        )
    if spoken != hookspecs.API:
        raise PluginError(
            f"the plugin '{entry.name}' was written for version {spoken!r} of the hooks, this Gramian has "
            f"'{hookspecs.API}': install a version of {_source(entry)} that fits, or another Gramian"
        )


def _source(entry: EntryPoint) -> str:
    """Where an entry point comes from: its distribution if that is known, and its module."""
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
    return f"{distribution} ({entry.value})"
