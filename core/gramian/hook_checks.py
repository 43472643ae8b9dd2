"""Whether a module fits the hooks: what pluggy would pass over in silence, or refuse without a remedy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from gramian import hookspecs
from gramian.errors import PluginError

_PREFIX = "gramian_"
_API = "gramian_api"
_MARK = "gramian_impl"


def check(entry: EntryPoint, module: object, hooks: Sequence[str]) -> None:
    """Raises PluginError unless the module behind `entry` was written for this API, and has one of `hooks`."""
    plugin = f"the plugin '{entry.name}'"
    _check_api(plugin, entry, module)
    found = dict(_hooks(module))
    for name, function in found.items():
        _check_hook(plugin, name, function)
    if not found.keys() & set(hooks):
        raise PluginError(f"{plugin} has no hook of its kind: write {' or '.join(hooks)}")


def closest(name: str, known: Collection[str], cutoff: float = 0.6) -> list[str]:
    """What was probably meant, if anything; imports what only mistakes need."""
    import difflib

    return difflib.get_close_matches(name, known, 1, cutoff)


def _check_api(plugin: str, entry: EntryPoint, module: object) -> None:
    spoken = getattr(module, _API, None)
    line = f'{_API} = "{hookspecs.API}"'
    if spoken is None:
        raise PluginError(
            f"{plugin} does not say for which version of the hooks it was written: "
            f"its module {entry.module} needs the line {line}"
        )
    if not isinstance(spoken, str):
        raise PluginError(
            f"{plugin} gives the version of the hooks as {spoken!r}, which is no text: its module {entry.module} "
            f"needs quotation marks, as in {line}"
        )
    if spoken != hookspecs.API:
        raise PluginError(
            f"{plugin} was written for version {spoken!r} of the hooks, this Gramian has "
            f"'{hookspecs.API}': install a version of {source(entry)} that fits, or another Gramian"
        )


def source(entry: EntryPoint) -> str:
    """Where an entry point comes from: its distribution if that is known, and its module."""
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
    return f"{distribution} ({entry.value})"


def said(error: BaseException) -> str:
    """What a plugin raised, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _hooks(module: object) -> Iterator[tuple[str, Callable[..., object]]]:
    """What is a hook, or is meant to be one: by its name or its mark."""
    for name in dir(module):
        value = getattr(module, name)
        if callable(value) and (name.startswith(_PREFIX) or _mark(value) is not None):
            yield name, value


def _mark(function: object) -> Mapping[str, Any] | None:
    """What `@hookimpl` leaves on a function; some objects have an attribute of any name, which is no such thing."""
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return None
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, dict) else None


def _check_hook(plugin: str, name: str, function: Callable[..., object]) -> None:
    known = [hook for hook in dir(hookspecs) if hook.startswith(_PREFIX)]
    mark = _mark(function)
    if mark is not None and mark.get("specname"):
        raise PluginError(f"{plugin}: call the function '{name}' {mark['specname']}, instead of giving a specname")
    if name not in known:
        close = closest(name, known, 0.8 if mark is None else 0.6)
        if close or mark is not None:
            meant = f"did you mean {close[0]}? " if close else ""
            raise PluginError(f"{plugin} has a hook '{name}', which there is not; {meant}known: {', '.join(known)}")
        return  # a function of the plugin's own
    if mark is None:
        raise PluginError(f"{plugin} has a function '{name}' that is no hook: put @hookimpl above it")
    _check_form(f"{plugin}: the hook '{name}'", function, mark)
    _check_arguments(f"{plugin}: the hook '{name}'", name, function)


def _check_form(hook: str, function: Callable[..., object], mark: Mapping[str, Any]) -> None:
    """Nobody awaits, iterates or wraps: the value that the function returns is taken."""
    if inspect.isclass(function):
        raise PluginError(f"{hook} is a class: write a function that returns an object of it")
    if mark.get("wrapper") or mark.get("hookwrapper"):
        raise PluginError(f"{hook} is a wrapper, and there is no other plugin to wrap: write @hookimpl alone")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{hook} is asynchronous, and nobody awaits it: write def without async")
    if inspect.isgeneratorfunction(function):
        raise PluginError(f"{hook} yields, and nobody iterates over it: return a value instead")


def _check_arguments(hook: str, name: str, function: Callable[..., object]) -> None:
    """Arguments come by position, and those with a default do not come at all."""
    allowed = inspect.signature(getattr(hookspecs, name)).parameters
    taken = inspect.signature(function).parameters.values()
    named = [each for each in taken if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    unknown = [each.name for each in named if each.name not in allowed]
    may = f"it may take {', '.join(allowed)}"
    if unknown:
        raise PluginError(f"{hook} has no argument {', '.join(unknown)}; {may}")
    if len(named) < len(taken):
        raise PluginError(f"{hook} must name its arguments, without * and **; {may}")
    if any(each.kind is each.KEYWORD_ONLY for each in named):
        raise PluginError(f"{hook} gets its arguments by position: leave out the *")
    defaulted = [each.name for each in named if each.default is not each.empty]
    if defaulted:
        raise PluginError(f"{hook} would never get what has a default: leave out that of {', '.join(defaulted)}")
