"""How the wrong plugins beside this file are made: each is an attribute of its module, published by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gramian.hookspecs import hookimpl
from gramian.settings import Settings


def plugin(hook: str, make: Callable[[Path], Any]) -> SimpleNamespace:
    """A plugin whose `hook` makes its object from the home's directory."""

    @hookimpl
    def implementation(settings: Settings) -> Any:
        assert settings.home is not None
        settings.home.mkdir(parents=True, exist_ok=True)
        return make(settings.home)

    return SimpleNamespace(gramian_api="1", **{hook: implementation})
