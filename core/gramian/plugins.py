"""Finding, importing and calling plugins; nothing that is not selected is imported."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

import pluggy

from gramian import hook_checks, hookspecs, options
from gramian.errors import GramianError, PluginError
from gramian.hook_checks import closest, said, source
from gramian.options import Option, Options
from gramian.settings import DEFAULT_TRANSPORTS, VARIABLES, Settings

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
_OWN_KEYS = ("sync_sched", "pid", "persist")
_OWN_PREFIX = "fed_"


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
    known, transports = set(VARIABLES), []
    for kind, name in selected(settings):
        try:
            manager, _ = opened(kind, name, settings)
        except PluginError as error:
            if kind != "transport" or settings.transports != DEFAULT_TRANSPORTS:
                raise
            log.info("no federation can use the transport '%s': %s", name, error)
        else:
            known.update(options.variable(name, option.name) for option in declared(manager, kind, name))
            transports += [name] if kind == "transport" else []
    _check_claims(transports)
    _warn_of_misspelt(settings, known)


def _check_claims(transports: Sequence[str]) -> None:
    """Two enabled transports must not claim one key: no federation that has it could tell which it means. Nor may one
    claim what Gramian itself reads."""
    claims: dict[str, str] = {}
    for name in transports:
        for key in keys("transport", name):
            if key.startswith(_OWN_PREFIX) or any(_fits(key, own) for own in _OWN_KEYS):
                raise PluginError(
                    f"the plugin 'transport.{name}' claims the key '{key}' of federations' maps, which is Gramian's "
                    f"own: mend or replace {source(find('transport', name))}, or do not enable it (GRAMIAN_TRANSPORT)"
                )
            other = claims.setdefault(key, name)
            if other != name:
                raise PluginError(
                    f"transport.{other} and transport.{name} both claim the key '{key}' of federations' maps: "
                    "enable one of them (GRAMIAN_TRANSPORT)"
                )


def _warn_of_misspelt(settings: Settings, known: Collection[str]) -> None:
    """A variable that is neither a setting nor an option, but nearly one, would be ignored in silence."""
    for name in settings.environment:
        close = [] if name in known else closest(name, known, 0.9)
        if close and close[0] not in settings.environment:
            log.warning(
                "the variable %s means nothing to Gramian and its selected plugins; is it to be %s?", name, close[0]
            )


def make(kind: str, name: str, settings: Settings, **context: Any) -> Any:
    """Import the plugin `<kind>.<name>` alone and let it make its object from the options and what `context` adds.

    Raises PluginError, also in place of what no hook should raise, and the other errors of Gramian that one raises.
    """
    manager, values = opened(kind, name, settings)
    (hook,) = HOOKS[kind]
    plugin = f"the plugin '{kind}.{name}'"
    try:
        made = getattr(manager.hook, hook)(settings=settings, options=values, **context)
    except GramianError:
        raise
    except (Exception, SystemExit) as error:
        log.debug("%s fails in its hook %s", plugin, hook, exc_info=True)
        raise PluginError(f"{plugin} fails in its hook {hook}: {said(error)}") from error
    if made is None:
        raise PluginError(f"{plugin} has no {hook} hook that returns an object")
    if isinstance(made, type):
        raise PluginError(f"{plugin}: its hook {hook} returns the class {made.__name__} instead of an object of it")
    return made


def opened(kind: str, name: str, settings: Settings) -> tuple[pluggy.PluginManager, Options]:
    """A plugin, checked, and its options from the environment. Raises PluginError."""
    manager = load(kind, name)
    return manager, options.parse(name, declared(manager, kind, name), settings.environment)


def load(kind: str, name: str) -> pluggy.PluginManager:
    """Import the plugin `<kind>.<name>` alone and check that it fits the hooks. Raises PluginError."""
    _check_kind(kind)
    entry = find(kind, name)
    module = _imported(entry)
    manager = pluggy.PluginManager("gramian")
    manager.add_hookspecs(hookspecs)
    try:
        hook_checks.check(entry, module, HOOKS[kind])
        manager.register(module, entry.name)
        manager.check_pending()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"the plugin '{entry.name}' does not fit the hooks: {said(error)}") from error
    return manager


def declared(manager: pluggy.PluginManager, kind: str, name: str) -> Sequence[Option]:
    """The options of a loaded plugin. Raises PluginError for a declaration that is none, and nothing else."""
    plugin = f"the plugin '{kind}.{name}'"
    try:
        found = manager.hook.gramian_options(kind=kind, name=name)
        if found is None:
            return ()
        if not isinstance(found, Sequence):
            raise PluginError(f"{plugin} declares its options as {type(found).__name__}: its hook must return a list")
        found = tuple(found)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{plugin} cannot say its options: {said(error)}") from error
    if not all(isinstance(option, Option) for option in found):
        raise PluginError(f"{plugin} declares options that are no gramian.hookspecs.Option")
    if len({option.name for option in found}) < len(found):
        raise PluginError(f"{plugin} declares an option twice")
    return found


def find(kind: str, name: str) -> EntryPoint:
    """The one entry point of `<kind>.<name>`. Raises PluginError if there is none, or several distributions have it."""
    found = [entry for entry in published(GROUP) if entry.name == f"{kind}.{name}"]
    if not found:
        known = names(kind)
        close = closest(name, known)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise PluginError(
            f"no plugin '{name}' of kind {kind} is installed; {meant}known: {', '.join(known) or 'none is installed'}"
        )
    if len(found) > 1:  # which module is meant is not enough: two distributions may both have one of that name
        sources = sorted(set(map(source, found)))
        if len(sources) > 1:
            raise PluginError(
                f"several installed distributions publish the plugin '{kind}.{name}': "
                f"{', '.join(sources)}; uninstall all but one"
            )
    return found[0]


def claimants(kind: str, key: str, preferred: Collection[str]) -> Collection[str]:
    """Names of the plugins of one kind that claim a key of federation maps, from metadata only; of the `preferred`
    ones if there are any, so that what is merely installed takes nothing from them.

    An entry of the group `gramian.keys` is `key = "<kind>.<name>"`; a key that ends in `_` stands for all that begin
    with it, and the longest that fits counts. Nobody can claim a key that Gramian itself reads.
    """
    if is_own(key):
        return set()
    fitting = [entry for entry in _claims(f"{kind}.") if _fits(entry.name, key) and _is_publishers(entry)]
    enabled = [entry for entry in fitting if entry.value.removeprefix(f"{kind}.") in preferred] or fitting
    longest = max((len(entry.name) for entry in enabled), default=0)
    return {entry.value.removeprefix(f"{kind}.") for entry in enabled if len(entry.name) == longest}


def keys(kind: str, name: str) -> list[str]:
    """The keys of federations' maps that a plugin claims, sorted, from metadata only."""
    plugin = f"{kind}.{name}"
    return sorted({entry.name for entry in _claims(plugin) if entry.value == plugin and _is_publishers(entry)})


def is_own(key: str) -> bool:
    """Whether Gramian itself reads this key of federations' maps, now or in a later version."""
    return key.startswith(_OWN_PREFIX) or key in _OWN_KEYS


@lru_cache
def published(group: str) -> EntryPoints:
    """All entry points of a group, read once: the metadata of everything installed takes longest of all here."""
    return entry_points(group=group)


def _claims(beginning: str) -> Iterable[EntryPoint]:
    return (entry for entry in published(KEYS_GROUP) if entry.value.startswith(beginning))


def _is_publishers(claim: EntryPoint) -> bool:
    """Whether a claim is made by the distribution that publishes the plugin: another one cannot speak for it."""
    own = claim.dist.entry_points if claim.dist is not None else ()
    return any(entry.group == GROUP and entry.name == claim.value for entry in own)


def _fits(claim: str, key: str) -> bool:
    return key.startswith(claim) if claim.endswith("_") else key == claim


def _check_kind(kind: str) -> None:
    if kind not in HOOKS:
        close = closest(kind, HOOKS)
        meant = f"did you mean {close[0]}? " if close else ""
        raise PluginError(f"there is no kind '{kind}' of plugins; {meant}known: {', '.join(HOOKS)}")


def _imported(entry: EntryPoint) -> Any:
    try:
        _ = entry.module
    except (AttributeError, AssertionError, ValueError) as error:
        raise PluginError(
            f"the plugin '{entry.name}' is published as '{entry.value}', which is no module: "
            f'write `"{entry.name}" = "module"` or "module:object" in the metadata of its distribution'
        ) from error
    try:
        return entry.load()
    except ImportError as error:
        raise PluginError(f"the plugin '{entry.name}' cannot be imported: {error}; install what it needs") from error
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the plugin '{entry.name}' fails when it is imported: {said(error)}; mend or replace {source(entry)}"
        ) from error
