"""How the wrong plugins beside this file are made: each is an attribute of its module, published by that."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from gramian.hookspecs import hookimpl
from gramian.settings import Settings
from gramian_local.cli import scaffold

SCAFFOLD = Path(scaffold.__file__).parent / "scaffold"


def scaffolded(kind: str, module: str) -> ModuleType:
    """What `gramian plugins new` would write, to be made wrong."""
    specification = importlib.util.spec_from_file_location(f"scaffolded_{kind}", SCAFFOLD / kind / f"{module}.py")
    assert specification is not None
    assert specification.loader is not None
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


def plugin(hook: str, make: Callable[[Path], Any]) -> SimpleNamespace:
    """A plugin whose `hook` makes its object from the home's directory."""

    @hookimpl
    def implementation(settings: Settings) -> Any:
        assert settings.home is not None
        with suppress(OSError):  # a home that cannot be made leads nowhere
            settings.home.mkdir(parents=True, exist_ok=True)
        return make(settings.home)

    return SimpleNamespace(gramian_api="1", **{hook: implementation})
