"""Finding, importing and calling plugins; nothing that is not selected is imported."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

import pluggy

from gramian import hookspecs, options
from gramian.errors import PluginError
from gramian.options import Option, Options
from gramian.settings import DEFAULT_TRANSPORTS, Settings

log = logging.getLogger(__name__)

GROUP = "gramian"
KEYS_GROUP = "gramian.keys"
HOOKS = {
    "transport": ("gramian_transport",),
    "compute": ("gramian_compute",),
    "identity": ("gramian_identity",),
    "state": ("gramian_state_store",),
    "tokens": ("gramian_token_store",),
    "blobs": ("gramian_blob_store",),
    "scheduler": ("gramian_scheduler",),
    "jobs": ("gramian_job_runner",),
    "uploads": ("gramian_upload_store",),
    "observer": (
        "gramian_snapshot_published",
        "gramian_snapshot_accepted",
        "gramian_snapshot_refused",
        "gramian_federated_updated",
        "gramian_model_built",
    ),
}
"""By kind: the hook that makes its object, or those of which an observer has some."""
_PREFIX = "gramian_"
_API = "gramian_api"


def names(kind: str) -> list[str]:
    """The published names of one kind, sorted, from metadata only."""
    return sorted({name.removeprefix(f"{kind}.") for name in published(GROUP).names if name.startswith(f"{kind}.")})


def selected(settings: Settings) -> list[tuple[str, str]]:
    """(kind, name) of every plugin that the settings name, in the order in which a node opens them."""
    chosen = [(kind, getattr(settings, kind)) for kind in ("identity", "state", "tokens", "blobs", "scheduler", "jobs")]
    chosen += [("jobs", name) for name in (settings.gpu_jobs, settings.sync_jobs) if name]
    chosen += [("compute", settings.compute), ("uploads", settings.uploads)]
    chosen += [("transport", name) for name in settings.transports]
    return chosen + [("observer", name) for name in settings.observers]


def check(settings: Settings) -> None:
    """Load every selected plugin and read its options, so that a mistake shows at the start. Raises PluginError.

    Transports that nobody asked for by name may be absent: federations that need them are refused.
    """
    known: set[str] = set()
    for kind, name in selected(settings):
        try:
            manager, _ = opened(kind, name, settings)
        except PluginError as error:
            if kind != "transport" or settings.transports != DEFAULT_TRANSPORTS:
                raise
            log.info("no federation can use the transport '%s': %s", name, error)
        else:
            known.update(options.variable(name, option.name) for option in declared(manager, kind, name))
    _check_claims(settings)
    _warn_of_misspelt(settings, known)


def _check_claims(settings: Settings) -> None:
    """Two enabled transports must not claim one key: no federation that has it could tell which it means."""
    claims: dict[str, str] = {}
    for entry in published(KEYS_GROUP):
        if entry.value in {f"transport.{name}" for name in settings.transports}:
            other = claims.setdefault(entry.name, entry.value)
            if other != entry.value:
                raise PluginError(
                    f"{other} and {entry.value} both claim the key '{entry.name}' of federations' maps: "
                    "enable one of them (GRAMIAN_TRANSPORT)"
                )


def _warn_of_misspelt(settings: Settings, known: Collection[str]) -> None:
    """A variable that is no option, but nearly one, would be ignored in silence."""
    for name in settings.environment:
        close = [] if name in known else _closest(name, known, 0.9)
        if close and close[0] not in settings.environment:
            log.warning("the variable %s means nothing to the selected plugins; is it to be %s?", name, close[0])


def make(kind: str, name: str, settings: Settings, **context: Any) -> Any:
    """Import the plugin `<kind>.<name>` alone and let it make its object from the options and what `context` adds.

    Raises PluginError, and what the hook raises.
    """
    manager, values = opened(kind, name, settings)
    (hook,) = HOOKS[kind]
    made = getattr(manager.hook, hook)(settings=settings, options=values, **context)
    if made is None:
        raise PluginError(f"the plugin '{kind}.{name}' has no {hook} hook that returns an object")
    return made


def opened(kind: str, name: str, settings: Settings) -> tuple[pluggy.PluginManager, Options]:
    """A plugin, checked, and its options from the environment. Raises PluginError."""
    manager = load(kind, name)
    return manager, options.parse(name, declared(manager, kind, name), settings.environment)


def load(kind: str, name: str) -> pluggy.PluginManager:
    """Import the plugin `<kind>.<name>` alone and check that it fits the hooks. Raises PluginError."""
    entry = find(kind, name)
    module = _imported(entry)
    manager = pluggy.PluginManager("gramian")
    manager.add_hookspecs(hookspecs)
    _check_api(entry, module)
    _check_hooks(entry, module, kind)
    try:
        manager.register(module, entry.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"the plugin '{entry.name}' does not fit the hooks: {error}") from error
    return manager


def declared(manager: pluggy.PluginManager, kind: str, name: str) -> Sequence[Option]:
    """The options of a loaded plugin. Raises PluginError for a declaration that is none."""
    plugin = f"the plugin '{kind}.{name}'"
    try:
        found: Sequence[Option] = manager.hook.gramian_options(kind=kind, name=name) or ()
    except Exception as error:
        raise PluginError(f"{plugin} cannot say its options: {type(error).__name__}: {error}") from error
    if not all(isinstance(option, Option) for option in found):
        raise PluginError(f"{plugin} declares options that are no gramian.hookspecs.Option")
    if len({option.name for option in found}) < len(found):
        raise PluginError(f"{plugin} declares an option twice")
    return found


def find(kind: str, name: str) -> EntryPoint:
    """The one entry point of `<kind>.<name>`. Raises PluginError if there is none, or several that differ."""
    found = {entry.value: entry for entry in published(GROUP) if entry.name == f"{kind}.{name}"}
    if not found:
        known = names(kind)
        close = _closest(name, known)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise PluginError(
            f"no plugin '{name}' of kind {kind} is installed; {meant}known: {', '.join(known) or 'none is installed'}"
        )
    if len(found) > 1:
        raise PluginError(
            f"several installed distributions publish the plugin '{kind}.{name}': "
            f"{', '.join(map(source, found.values()))}; uninstall all but one"
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


def source(entry: EntryPoint) -> str:
    """Where an entry point comes from: its distribution if that is known, and its module."""
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
    return f"{distribution} ({entry.value})"


def _closest(name: str, known: Collection[str], cutoff: float = 0.6) -> list[str]:
    """What was probably meant, if anything; imports what only mistakes need."""
    import difflib

    return difflib.get_close_matches(name, known, 1, cutoff)


def _fits(entry: EntryPoint, key: str) -> bool:
    return key.startswith(entry.name) if entry.name.endswith("_") else key == entry.name


def _imported(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        raise PluginError(f"the plugin '{entry.name}' cannot be imported: {error}; install what it needs") from error
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the plugin '{entry.name}' fails when it is imported: {type(error).__name__}: {error}; "
            f"mend or replace {source(entry)}"
        ) from error


def _check_api(entry: EntryPoint, module: object) -> None:
    spoken = getattr(module, _API, None)
    if spoken is None:
        raise PluginError(
            f"the plugin '{entry.name}' does not say for which version of the hooks it was written: "
            f'its module {entry.module} needs the line {_API} = "{hookspecs.API}"'
        )
    if spoken != hookspecs.API:
        raise PluginError(
            f"the plugin '{entry.name}' was written for version {spoken!r} of the hooks, this Gramian has "
            f"'{hookspecs.API}': install a version of {source(entry)} that fits, or another Gramian"
        )


def _check_hooks(entry: EntryPoint, module: object, kind: str) -> None:
    """What pluggy would pass over, or say without a remedy."""
    plugin = f"the plugin '{entry.name}'"
    own = {name: getattr(module, name) for name in dir(module) if name.startswith(_PREFIX)}
    functions = {name: value for name, value in own.items() if callable(value)}
    for name, function in functions.items():
        _check_hook(plugin, name, function)
    if not functions.keys() & set(HOOKS[kind]):
        raise PluginError(f"{plugin} has no hook of its kind: write {' or '.join(HOOKS[kind])}")


def _check_hook(plugin: str, name: str, function: Callable[..., object]) -> None:
    known = [hook for hook in dir(hookspecs) if hook.startswith(_PREFIX)]
    if name not in known:
        close = _closest(name, known, 0.8)
        if close or hasattr(function, "gramian_impl"):
            meant = f"did you mean {close[0]}? " if close else ""
            raise PluginError(f"{plugin} has a hook '{name}', which there is not; {meant}known: {', '.join(known)}")
        return  # a function of the plugin's own
    if not hasattr(function, "gramian_impl"):
        raise PluginError(f"{plugin} has a function '{name}' that is no hook: put @hookimpl above it")
    allowed = inspect.signature(getattr(hookspecs, name)).parameters
    unknown = [argument for argument in inspect.signature(function).parameters if argument not in allowed]
    if unknown:
        raise PluginError(
            f"{plugin}: the hook '{name}' has no argument {', '.join(unknown)}; it may take {', '.join(allowed)}"
        )
