"""Finding and loading plugins: what is wrong is named, with the remedy, and only what is selected is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gramian import hookspecs, plugins
from gramian.errors import PluginError
from gramian.settings import Settings

Install = Callable[..., None]

GOOD = """
from pathlib import Path
from gramian.hookspecs import Option, hookimpl
gramian_api = "1"

@hookimpl
def gramian_options(kind, name):
    return [Option("lanes", int, 2, minimum=1, help="How many lanes."), Option("place", Path, help="Where.")]

@hookimpl
def gramian_compute(options):
    return dict(options)
"""


def settings(**environment: str) -> Settings:
    return Settings(environment=environment)


def test_selected_plugin_gets_its_options(install: Install) -> None:
    """Parsed, typed, and its own only."""
    install("acme", GOOD, {"compute.acme": "acme"})
    made = plugins.make("compute", "acme", settings(GRAMIAN_ACME_LANES="7", GRAMIAN_OTHER_LANES="9"))
    assert made == {"lanes": 7, "place": None}
    assert "acme" in plugins.names("compute")


def test_bad_option_stops_the_plugin(install: Install) -> None:
    """With the variable's name and the option's help."""
    install("acme", GOOD, {"compute.acme": "acme"})
    with pytest.raises(
        PluginError, match=r"GRAMIAN_ACME_LANES must be a whole number from 1, not '0': How many lanes."
    ):
        plugins.make("compute", "acme", settings(GRAMIAN_ACME_LANES="0"))


def test_unknown_plugin_names_the_known_ones() -> None:
    """A misspelt setting is mended in a minute."""
    with pytest.raises(
        PluginError, match=r"no plugin 'nunpy' of kind compute is installed; did you mean 'numpy'\? known: "
    ):
        plugins.make("compute", "nunpy", settings())


HEAD = 'from gramian.hookspecs import Option, hookimpl\ngramian_api = "1"\n'

OPTIONS = HEAD + "@hookimpl\ndef gramian_compute(): ...\n@hookimpl\ndef gramian_options(kind, name): return "


def test_functions_of_a_plugin_may_have_its_prefix(install: Install) -> None:
    """What is near no hook and not marked is the plugin's own affair."""
    install("acme", GOOD + "\ndef gramian_acme_helper(x): ...\n", {"compute.acme": "acme"})
    assert plugins.make("compute", "acme", settings())


def test_plugin_may_be_an_object_of_a_module(install: Install) -> None:
    """An entry point can name one; its methods are the hooks."""
    code = (
        HEAD
        + "class Acme:\n    gramian_api = '1'\n    @hookimpl\n    def gramian_compute(self):\n        return self\n"
    )
    install("acme", code + "made = Acme()\n", {"compute.acme": "acme:made"})
    assert type(plugins.make("compute", "acme", settings())).__name__ == "Acme"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import not_installed_anywhere", "cannot be imported: No module named 'not_installed_anywhere'; install"),
        ("from gramian.hookspecs import hookimpl", r'module acme needs the line gramian_api = "1"'),
        ('gramian_api = "2"', "for version '2' of the hooks, this Gramian has '1': install a version of acme 1.5"),
        ("raise SystemExit(3)", r"fails when it is imported: SystemExit: 3; mend"),
        (
            "raise RuntimeError('at once')",
            r"fails when it is imported: RuntimeError: at once; mend .* acme 1.5 \(acme\)",
        ),
        (HEAD + "@hookimpl\ndef gramian_conpute(): ...", "'gramian_conpute', .* did you mean gramian_compute"),
        (HEAD + "@hookimpl\ndef gramian_compute(setings): ...", "no argument setings; it may take settings, options"),
        (HEAD + "def gramian_compute(): ...", "'gramian_compute' that is no hook: put @hookimpl above"),
        (HEAD + "@hookimpl\ndef compute(): ...", "has no hook of its kind: write gramian_compute"),
        (HEAD + "@hookimpl\ndef gramian_transport(): ...", "has no hook of its kind: write gramian_compute"),
        (HEAD + "@hookimpl\ndef gramian_compute(): return None", "has no gramian_compute hook that returns an object"),
        (OPTIONS + "[Option('X', help='h')]", "cannot say its options: ValueError: option 'X'"),
        (OPTIONS + "[Option('x', help='h')] * 2", "declares an option twice"),
        (OPTIONS + "['x']", "declares options that are no gramian.hookspecs.Option"),
    ],
)
def test_broken_plugin_is_named_with_the_remedy(install: Install, code: str, words: str) -> None:
    """Imports, the API's version, hooks and their arguments, options: each before it is used."""
    install("acme", code, {"compute.acme": "acme"})
    with pytest.raises(PluginError, match=words) as caught:
        plugins.make("compute", "acme", settings())
    assert "compute.acme" in str(caught.value)


def test_plugin_published_twice_is_refused_when_selected_only(install: Install) -> None:
    """Which of the two runs must not depend on the order of directories; others are not concerned."""
    install("acme", GOOD, {"compute.acme": "acme", "compute.numpy2": "acme"})
    install("acne", GOOD, {"compute.acme": "acne"})
    with pytest.raises(PluginError, match=r"several .* publish .*compute.acme.*acne 1.5 \(acne\), acme 1.5 \(acme\)"):
        plugins.make("compute", "acme", settings())
    assert plugins.make("compute", "numpy2", settings())


def test_plugin_installed_twice_in_the_same_version_is_one(install: Install) -> None:
    """An editable checkout beside an installed wheel shows everything twice."""
    install("acme", GOOD, {"compute.acme": "acme"})
    install("twin", GOOD, {"compute.acme": "acme"})
    assert plugins.make("compute", "acme", settings())


def test_broken_plugin_that_is_not_selected_is_not_imported(install: Install) -> None:
    """Whatever else is installed cannot stop the server."""
    install("acme", "raise SystemExit('imported')", {"compute.acme": "acme"})
    assert plugins.make("compute", "numpy", settings())
    assert "acme" not in sys.modules


def test_key_is_claimed_by_the_longest_name(install: Install) -> None:
    """From metadata alone: a name that ends in `_` is a prefix, and a longer one or the whole key wins."""
    claims = {"bus_": "transport.bus", "bus_v2_": "transport.bus2", "bus_x": "transport.x", "bus_y_": "compute.bus"}
    install("acme", "raise SystemExit('imported')", {}, claims)
    for key, name in {
        "bus_hosts": "bus",
        "bus_v2_hosts": "bus2",
        "bus_x": "x",
        "bus_xy": "bus",
        "bus_y_z": "bus",
    }.items():
        assert plugins.claimants("transport", key, ()) == {name}
    assert not plugins.claimants("transport", "bus", ())


def test_key_of_two_plugins_is_the_enabled_ones(install: Install) -> None:
    """What is merely installed takes nothing away."""
    install("acme", "", {}, {"nats_": "transport.acme"})
    assert plugins.claimants("transport", "nats_hosts", ["nats"]) == {"nats"}
    assert plugins.claimants("transport", "nats_hosts", ["nats", "acme"]) == {"nats", "acme"}


def test_settings_name_transports_in_order() -> None:
    """The first is meant where a federation's map does not tell."""
    assert Settings.from_env({"GRAMIAN_TRANSPORT": " s3, nats,,s3"}).transports == ("s3", "nats")
    assert Settings.from_env({"GRAMIAN_TRANSPORT": " "}).transports == ("nats", "s3")


def test_settings_show_no_option() -> None:
    """They may be secrets, and settings are logged."""
    made = Settings.from_env({"GRAMIAN_ACME_PASSWORD": "swordfish", "PATH": "/bin"}, Path("/home"))
    assert made.environment == {"GRAMIAN_ACME_PASSWORD": "swordfish"}
    assert "swordfish" not in repr(made)


def test_check_names_the_first_selected_plugin_that_is_wrong(install: Install) -> None:
    """All of them are looked at before anything is opened, also those that are needed later only."""
    install("acme", GOOD, {"compute.acme": "acme", "observer.acme": "acme"})
    plugins.check(Settings(compute="acme"))
    with pytest.raises(PluginError, match="GRAMIAN_ACME_LANES"):
        plugins.check(Settings(compute="acme", environment={"GRAMIAN_ACME_LANES": "many"}))
    with pytest.raises(PluginError, match=r"'observer.acme' has no hook of its kind"):
        plugins.check(Settings(observers=("acme",)))


def test_check_misses_no_transport_that_was_asked_for() -> None:
    """One of the default ones may lack what it needs: federations over the others work."""
    plugins.check(Settings())
    with pytest.raises(PluginError, match="no plugin 'natz' of kind transport is installed; did you mean 'nats'"):
        plugins.check(Settings(transports=("natz",)))


def test_default_transport_that_lacks_what_it_needs_is_left_out(
    install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An extra that is not installed stops nobody who does not use it; named by somebody it is a mistake."""
    install("acme", "import nothing_of_that_name", {"transport.acme": "acme"})
    caplog.set_level("INFO")
    with pytest.raises(PluginError, match="cannot be imported"):
        plugins.check(Settings(transports=("nats", "acme")))
    monkeypatch.setattr(plugins, "DEFAULT_TRANSPORTS", ("nats", "acme"))
    plugins.check(Settings(transports=("nats", "acme")))
    assert "no federation can use the transport 'acme'" in caplog.text


def test_check_refuses_two_enabled_transports_that_claim_one_key(install: Install) -> None:
    """Each alone is fine."""
    install(
        "acme",
        GOOD.replace("gramian_compute", "gramian_transport"),
        {"transport.acme": "acme"},
        {"nats_": "transport.acme"},
    )
    plugins.check(Settings(transports=("nats",)))
    plugins.check(Settings(transports=("acme",)))
    with pytest.raises(PluginError, match="both claim the key 'nats_' of federations' maps: enable one"):
        plugins.check(Settings(transports=("nats", "acme")))


def test_check_warns_of_a_variable_that_is_nearly_an_option(caplog: pytest.LogCaptureFixture) -> None:
    """It would be ignored in silence; others' variables and those of plugins that are not selected are left alone."""
    odd = ("GRAMIAN_SQLITE_BUSY_TIMEOUT", "GRAMIAN_DYNAMODB_TABLE", "GRAMIAN_HOME", "GRAMIAN_THREADS_WORKERS")
    plugins.check(Settings(environment=dict.fromkeys(odd, "3")))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "GRAMIAN_SQLITE_BUSY_TIMEOUT means nothing" in warned[0]
    assert "GRAMIAN_SQLITE_BUSY_TIMEOUT_S?" in warned[0]


def test_every_kind_has_hooks_and_every_hook_a_kind() -> None:
    """A hook that is in no kind would never be called."""
    listed = [hook for hooks in plugins.HOOKS.values() for hook in hooks]
    declared = [name for name in vars(hookspecs) if name.startswith("gramian_") and name != "gramian_options"]
    assert sorted(listed) == sorted(declared)


COLD_START = """
import time, flask, msgspec, cryptography, gramian.ports, gramian.settings
started = time.process_time()
from gramian import plugins
plugins.check(gramian.settings.Settings())
plugins.claimants("transport", "nats_hosts", ("nats",))
print(time.process_time() - started)
"""


def test_plugin_system_costs_less_than_30_ms_of_a_cold_start() -> None:
    """All selected plugins found, imported and checked, on top of what every function imports (best of three)."""
    command = [sys.executable, "-c", COLD_START]
    seconds = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3)]
    assert min(seconds) < 0.030


ALL_LOADED = """
import sys
from gramian import plugins
for entry in plugins.published("gramian"):
    kind, _, name = entry.name.partition(".")
    plugins.declared(plugins.load(kind, name), kind, name)
heavy = ("numpy", "scipy", "nats", "boto3", "cupy", "platformdirs", "sqlite3")
print([name for name in heavy if name in sys.modules])
"""


def test_every_plugin_of_ours_loads_and_imports_nothing_heavy() -> None:
    """Hooks, options and API version fit; what a plugin needs is imported when it is used."""
    done = subprocess.run([sys.executable, "-c", ALL_LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
