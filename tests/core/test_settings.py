"""Settings from the environment: what counts as given, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gramian import options, plugins
from gramian.errors import PluginError
from gramian.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]


def test_settings_name_transports_in_order() -> None:
    """The first is meant where a federation's map does not tell."""
    assert Settings.from_env({"GRAMIAN_TRANSPORT": " s3, nats,,s3"}).transports == ("s3", "nats")
    assert Settings.from_env({"GRAMIAN_TRANSPORT": " "}).transports == ("nats", "s3")


def test_empty_setting_counts_as_not_given() -> None:
    """A line left empty in a file of settings, as with options."""
    assert Settings.from_env(dict.fromkeys(VARIABLES, " ")) == Settings(environment=dict.fromkeys(VARIABLES, " "))


@pytest.mark.parametrize(
    ("text", "on"), [("1", True), ("True", True), ("TRUE ", True), ("", False), ("0", False), ("False", False)]
)
def test_switch_may_be_written_in_any_case(text: str, on: bool) -> None:
    """Old ciphers that an operator forbade must not come back by a capital letter."""
    assert Settings.from_env({"GRAMIAN_REQUIRE_V2": text}).require_v2 is on


@pytest.mark.parametrize("text", ["yes", "on", "2", "ture"])
def test_switch_that_is_neither_on_nor_off_is_refused(text: str) -> None:
    """Off would be a guess, and the dangerous one."""
    with pytest.raises(PluginError, match=f"GRAMIAN_REQUIRE_V2 must be true or false, not '{text}'"):
        Settings.from_env({"GRAMIAN_REQUIRE_V2": text})


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "many", "9" * 5000])
def test_limit_that_is_no_positive_number_is_refused(text: str) -> None:
    """In words, not with a traceback."""
    with pytest.raises(PluginError, match="GRAMIAN_BODY_LIMIT_BYTES must be a positive number of bytes, not '"):
        Settings.from_env({"GRAMIAN_BODY_LIMIT_BYTES": text})


def test_every_variable_that_is_read_is_known() -> None:
    """Else it would be reported as a misspelling of another, and `from_env` would pass over it."""
    texts = [path.read_text() for place in ("core", "plugins") for path in (ROOT / place).rglob("*.py")]
    read = {name for text in texts for name in re.findall(r"\bGRAMIAN_[A-Z0-9_]*[A-Z0-9]\b", text)}
    declared = set()
    for kind, name in (entry.name.split(".") for entry in plugins.published(plugins.GROUP)):
        found = plugins.declared(plugins.load(kind, name), kind, name)
        declared |= {options.variable(name, option.name) for option in found}
    others = {name for name in read if name.startswith("GRAMIAN_ACME_")} | {"GRAMIAN_NODE"}
    assert read - declared - others == set(VARIABLES)


def test_settings_show_no_option() -> None:
    """They may be secrets, and settings are logged."""
    made = Settings.from_env({"GRAMIAN_ACME_PASSWORD": "swordfish", "PATH": "/bin"}, Path("/home"))
    assert made.environment == {"GRAMIAN_ACME_PASSWORD": "swordfish"}
    assert "swordfish" not in repr(made)
