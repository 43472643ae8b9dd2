"""Options that plugins declare, and their values from the environment: `GRAMIAN_<PLUGIN>_<OPTION>`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from gramian.errors import InvalidRequest, PluginError

Options: TypeAlias = Mapping[str, Any]
"""A plugin's options by name: each of its declared type, or None if it was not given and has no default."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}
_LARGEST = 2**63 - 1
SWITCHES = {"true": True, "1": True, "false": False, "0": False}
"""What a switch may be, in any case."""


class Option(msgspec.Struct, frozen=True):
    """One setting of a plugin. `type`: str, int, float, bool or Path.

    `name` is lower-case words joined by `_`, with the unit last (`timeout_s`); `help` says what it does, in one line.
    A `secret` is never shown. `minimum` and `maximum` bound numbers. Raises ValueError for what is no declaration.
    """

    name: str
    type: type = str
    default: Any = None
    required: bool = False
    secret: bool = False
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"option '{self.name}': names are lower-case words joined by _")
        if self.type not in _WORDS:
            raise ValueError(f"option '{self.name}': the type must be str, int, float, bool or Path")
        if not self.help or not self.help.isprintable():
            raise ValueError(f"option '{self.name}': help is needed, one line that says what it does")
        self._check_bounds()
        if self.default is not None and (self.required or not self._is_typed(self.default)):
            raise ValueError(f"option '{self.name}': a default must be of its type, and what is required has none")
        if isinstance(self.default, int | float) and not self._allows(self.default):
            raise ValueError(f"option '{self.name}': the default {self.default} is not {self.expected()}")

    def parse(self, text: str) -> Any:
        """The value of a text. Raises ValueError, without the text, for one that cannot be meant."""
        if self.type is bool:
            return SWITCHES[text.lower()] if text.lower() in SWITCHES else self._refuse()
        try:
            value = self.type(text)
        except ValueError:
            return self._refuse()
        if self.type is int and abs(value) > _LARGEST:
            raise ValueError(f"must be {self.expected()}, and within 64 bits")
        if isinstance(value, int | float) and not self._allows(value):
            self._refuse()
        return value

    def expected(self) -> str:
        """What a value must be, in words: `a whole number from 1 to 64`."""
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" to {self.maximum:g}"
        if high and not low:
            high = f" up to {self.maximum:g}"
        return _WORDS[self.type] + low + high

    def _check_bounds(self) -> None:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds and self.type not in (int, float):
            raise ValueError(f"option '{self.name}': only numbers have a minimum or a maximum")
        if not all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds):
            raise ValueError(f"option '{self.name}': a minimum and a maximum are numbers")
        if bounds != sorted(bounds):
            raise ValueError(f"option '{self.name}': the minimum {self.minimum} is above the maximum {self.maximum}")

    def _is_typed(self, value: Any) -> bool:
        return isinstance(value, Path) if self.type is Path else type(value) is self.type

    def _allows(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return math.isfinite(value) and low <= value <= high

    def _refuse(self) -> Any:
        raise ValueError(f"must be {self.expected()}")


def variable(plugin: str, option: str) -> str:
    """The environment variable of a plugin's option; `plugin` is its name without the kind."""
    return f"GRAMIAN_{plugin}_{option}".upper().replace("-", "_").replace(".", "_")


def parse(plugin: str, declared: Sequence[Option], environment: Mapping[str, str]) -> Options:
    """The values of all declared options; an empty text counts as not given.

    Raises PluginError that names the variable, says what it is for, and shows no secret.
    """
    return {option.name: _value(plugin, option, environment) for option in declared}


def whole_number(texts: Mapping[str, str], key: str, default: int, *, low: int, high: int) -> int:
    """For transports: a number of a federation's map, `default` if it is not given. Raises InvalidRequest."""
    text = texts.get(key, "").strip() or str(default)
    if not re.fullmatch(r"[0-9]{1,16}", text) or not low <= int(text) <= high:
        raise InvalidRequest(f"{key} must be a whole number from {low} to {high}")
    return int(text)


def _value(plugin: str, option: Option, environment: Mapping[str, str]) -> Any:
    name = variable(plugin, option.name)
    text = environment.get(name, "").strip()
    if not text:
        if option.required:
            raise PluginError(f"{name} is missing: {option.help} ({option.expected()})")
        return option.default
    try:
        return option.parse(text)
    except ValueError as error:
        shown = "" if option.secret else f", not '{text[:80]}'"
        raise PluginError(f"{name} {error}{shown}: {option.help}") from None
