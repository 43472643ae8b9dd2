"""Options of plugins: what may be declared, and what a value may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian import options
from gramian.errors import PluginError
from gramian.options import Option

TIMEOUT = Option("timeout_s", float, 2.5, minimum=0.1, maximum=60, help="Seconds to wait.")


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (Option("table", help="h"), " users ", "users"),
        (Option("count", int, help="h"), "12", 12),
        (TIMEOUT, "3", 3.0),
        (Option("on", bool, help="h"), "True", True),
        (Option("on", bool, help="h"), "0", False),
        (Option("place", Path, help="h"), "/srv/x", Path("/srv/x")),
    ],
)
def test_value_has_the_declared_type(option: Option, text: str, value: Any) -> None:
    """Whatever the environment holds is text; the plugin gets what it declared."""
    given = options.parse("mine", [option], {options.variable("mine", option.name): text})[option.name]
    assert given == value
    assert type(given) is type(value)


def test_variable_is_named_for_plugin_and_option() -> None:
    """Also where a plugin's name has characters that no variable has."""
    assert options.variable("my-bus.v2", "timeout_s") == "GRAMIAN_MY_BUS_V2_TIMEOUT_S"


def test_absent_or_empty_value_is_the_default() -> None:
    """A line left empty in a file of settings means nothing."""
    assert options.parse("mine", [TIMEOUT], {}) == {"timeout_s": 2.5}
    assert options.parse("mine", [TIMEOUT], {"GRAMIAN_MINE_TIMEOUT_S": " "}) == {"timeout_s": 2.5}
    assert options.parse("mine", [Option("table", help="h")], {}) == {"table": None}


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        (TIMEOUT, "soon", r"GRAMIAN_MINE_TIMEOUT_S must be a number from 0.1 to 60, not 'soon': Seconds to wait."),
        (TIMEOUT, "61", "from 0.1 to 60"),
        (TIMEOUT, "nan", "from 0.1 to 60"),
        (TIMEOUT, "-inf", "from 0.1 to 60"),
        (Option("count", int, maximum=9, help="h"), "10", "must be a whole number up to 9"),
        (Option("count", int, help="h"), "1.5", "must be a whole number"),
        (Option("count", int, help="h"), "9" * 400, "must be a whole number, and within 64 bits"),
        (
            Option("count", int, minimum=1, help="h"),
            "-" + "9" * 400,
            "must be a whole number from 1, and within 64 bits",
        ),
        (Option("count", int, help="h"), "9" * 5000, "must be a whole number"),
        (TIMEOUT, "9" * 400, "from 0.1 to 60"),
        (Option("on", bool, help="h"), "perhaps", "must be true or false"),
    ],
)
def test_value_that_cannot_be_meant_is_refused_with_name_and_help(option: Option, text: str, words: str) -> None:
    """Whoever set it reads which variable, what it may be and what it is for."""
    with pytest.raises(PluginError, match=words):
        options.parse("mine", [option], {options.variable("mine", option.name): text})


def test_missing_required_option_is_named() -> None:
    """Before anything is opened with half of what it needs."""
    with pytest.raises(PluginError, match=r"GRAMIAN_MINE_TABLE is missing: Name of the table. \(text\)"):
        options.parse("mine", [Option("table", required=True, help="Name of the table.")], {})


def test_refused_secret_is_not_shown() -> None:
    """Errors end up in logs."""
    option = Option("pin", int, secret=True, help="The PIN.")
    with pytest.raises(PluginError, match=r"GRAMIAN_MINE_PIN must be a whole number: The PIN.") as caught:
        options.parse("mine", [option], {"GRAMIAN_MINE_PIN": "swordfish"})
    assert "swordfish" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "declaration",
    [
        {"name": "Table"},
        {"name": "a__b"},
        {"name": ""},
        {"type": list},
        {"help": ""},
        {"help": "two\nlines"},
        {"default": 3},
        {"default": True, "type": int},
        {"default": "x", "required": True},
        {"type": int, "default": 0, "minimum": 5},
        {"type": float, "default": 5.5, "maximum": 5},
        {"type": float, "default": float("nan")},
        {"type": int, "minimum": 5, "maximum": 3},
        {"type": int, "minimum": "5"},
        {"type": int, "maximum": True},
        {"type": float, "maximum": float("inf")},
        {"minimum": 5},
        {"type": bool, "maximum": 1},
        {"type": Path, "minimum": 0},
    ],
)
def test_wrong_declaration_is_refused(declaration: dict[str, Any]) -> None:
    """A mistake of the plugin's author, found when the module is imported."""
    with pytest.raises(ValueError, match="option '"):
        Option(**{"name": "table", "help": "h", **declaration})


@given(st.text())
def test_any_text_is_a_value_or_refused(text: str) -> None:
    """Nothing but PluginError comes of what somebody typed."""
    declared = [TIMEOUT, Option("count", int, minimum=1, help="h"), Option("on", bool, help="h")]
    for option in declared:
        try:
            value = options.parse("mine", [option], {options.variable("mine", option.name): text})[option.name]
        except PluginError:
            continue
        assert value is None or isinstance(value, option.type)
