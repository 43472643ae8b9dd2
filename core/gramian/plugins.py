"""Finding, importing and calling plugins; nothing that is not selected is imported."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from gramian import hookspecs
from gramian.errors import PluginError
from gramian.settings import Settings

GROUP = "gramian"


def available() -> dict[str, EntryPoint]:
    """All published plugins by `<kind>.<name>`, from metadata only. Raises PluginError for a name published twice."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"two installed distributions publish the plugin '{entry.name}': {other.value} and {entry.value}; "
                "uninstall one"
            )
    return found


def names(kind: str) -> list[str]:
    """The published names of one kind, sorted."""
    return sorted(name.removeprefix(f"{kind}.") for name in available() if name.startswith(f"{kind}."))


def make(kind: str, name: str, settings: Settings, **context: Any) -> Any:
    """Import the plugin `<kind>.<name>` alone and let it make its object. Raises PluginError."""
    entry = available().get(f"{kind}.{name}")
    if entry is None:
        known = ", ".join(names(kind)) or "none is installed"
        raise PluginError(f"no plugin '{name}' of kind {kind} is installed; known: {known}")
    try:
        module = entry.load()
    except ImportError as error:
        raise PluginError(f"the plugin '{entry.name}' cannot be imported: {error}; install what it needs") from error
    manager = pluggy.PluginManager("gramian")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, entry.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"the plugin '{entry.name}' does not fit the hooks: {error}") from error
    made = getattr(manager.hook, _HOOKS[kind])(settings=settings, **context)
    if made is None:
        raise PluginError(f"the plugin '{entry.name}' has no {_HOOKS[kind]} hook that returns an object")
    return made


_HOOKS = {
    "transport": "gramian_transport",
    "compute": "gramian_compute",
    "state": "gramian_state_store",
    "tokens": "gramian_token_store",
    "blobs": "gramian_blob_store",
    "scheduler": "gramian_scheduler",
    "jobs": "gramian_job_runner",
}
