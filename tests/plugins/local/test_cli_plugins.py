"""`gramian plugins`: what it shows, what it refuses, what it says with its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gramian import plugins
from gramian.errors import InvalidRequest, PluginError
from gramian.testing import SUITES
from gramian_local.cli.main import cli

Run = Callable[..., Result]
CODE = """
from gramian.hookspecs import Option, hookimpl
gramian_api = "1"

@hookimpl
def gramian_options(kind, name):
    return [Option("seed", secret=True, help="Its login."), Option("depth", int, 3, minimum=1, help="How deep.")]

@hookimpl
def gramian_transport(): ...
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `gramian plugins ...` with these variables."""
    for name in [name for name in os.environ if name.startswith("GRAMIAN_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(cli, ["plugins", *arguments], env=env, catch_exceptions=True)

    return invoke


def lines(result: Result) -> list[Sequence[str]]:
    return [line.split("\t") for line in result.output.splitlines()]


def test_list_marks_what_is_selected(run: Run) -> None:
    """As the environment selects it; nothing is imported for that."""
    marks = {row[1]: row[0] for row in lines(run("list", GRAMIAN_TRANSPORT="memory"))}
    assert marks["transport.memory"] == marks["state.sqlite"] == marks["compute.numpy"] == "*"
    assert marks["transport.nats"] == ""


def test_list_check_says_what_is_wrong(run: Run, install: Callable[..., None]) -> None:
    """With status 1 only if it is selected: other broken plugins harm nobody."""
    install("acme", "import nothing_of_that_name", {"transport.acme": "acme"})
    result = run("list", "--check")
    told = {row[1]: row[3] for row in lines(result)}
    assert "cannot be imported: No module named 'nothing_of_that_name'" in told["transport.acme"]
    assert told["state.sqlite"] == "ok"
    assert result.exit_code == 0
    assert run("list", "--check", GRAMIAN_TRANSPORT="nats,acme").exit_code == 1


@pytest.mark.parametrize(
    ("published", "declares", "words"),
    [
        ("transports.odd", "return []", "there is no kind 'transports' of plugins; did you mean transport?"),
        ("plain", "return []", "there is no kind 'plain' of plugins; known: "),
        ("transport.odd", "return 3", "declares its options as int"),
        ("transport.odd", "return Option('x', help='h')", "declares its options as Option"),
        ("transport.odd", "return ['x']", "declares options that are no gramian.hookspecs.Option"),
        ("transport.odd", "raise SystemExit('at once')", "cannot say its options: SystemExit: at once"),
    ],
)
def test_list_check_and_show_say_of_any_mistake_what_it_is(
    run: Run, install: Callable[..., None], published: str, declares: str, words: str
) -> None:
    """And of every other plugin how it is: one mistake does not cost the list."""
    head, _, rest = CODE.partition("    return [")
    install("acme", f"{head}    {declares}\n{rest.partition(chr(10))[2]}", {published: "acme"})
    listed = run("list", "--check")
    told = {row[1]: row[3] for row in lines(listed)}
    assert words in told[published]
    assert told["state.sqlite"] == "ok"
    shown = run("show", published)
    assert shown.exit_code == 1
    assert isinstance(shown.exception, PluginError)


def test_list_check_tells_of_two_distributions_with_one_plugin(run: Run, install: Callable[..., None]) -> None:
    """At both of them, whichever would be imported."""
    install("acme", CODE, {"transport.acme": "acme"})
    install("twin", CODE, {"transport.acme": "acme"})
    told = [row[2:] for row in lines(run("list", "--check")) if row[1] == "transport.acme"]
    assert {source for source, _ in told} == {"acme 1.5 (acme)", "twin 1.5 (acme)"}
    assert all("several installed distributions publish" in problem for _, problem in told)


def test_show_tells_options_and_keys_but_no_secret(run: Run, install: Callable[..., None]) -> None:
    """Name, type, default, the value here, and what it does."""
    install("acme", CODE, {"transport.acme": "acme"}, {"acme_": "transport.acme", "harbour": "transport.acme"})
    result = run("show", "acme", GRAMIAN_ACME_SEED="swordfish", GRAMIAN_ACME_DEPTH="9")
    assert "swordfish" not in result.output
    assert "transport.acme, from acme 1.5 (acme)" in result.output
    assert "keys acme_*, harbour." in result.output
    assert ["GRAMIAN_ACME_SEED", "text", "", "(set)", "Its login."] in lines(result)
    assert ["GRAMIAN_ACME_DEPTH", "a whole number from 1", "3", "9", "How deep."] in lines(result)


def test_show_of_a_name_of_several_kinds_shows_all(run: Run) -> None:
    """Or the one that is named in full."""
    assert "state.sqlite" in run("show", "sqlite").output
    assert "tokens.sqlite" in run("show", "sqlite").output
    assert "tokens.sqlite" not in run("show", "state.sqlite").output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("show", "sqlight"),
            PluginError("no plugin 'sqlight' is installed; did you mean 'sqlite'? `gramian plugins list` shows all"),
        ),
        (
            ("show", "transports.nats"),
            PluginError(
                "no plugin 'transports.nats' is installed; did you mean 'transport.nats'? "
                "`gramian plugins list` shows all"
            ),
        ),
        (("show", "zzz"), PluginError("no plugin 'zzz' is installed; `gramian plugins list` shows all")),
        (("check", "sqlite"), InvalidRequest("'sqlite' is several plugins; name one: state.sqlite, tokens.sqlite")),
    ],
)
def test_name_that_means_nothing_or_too_much_is_refused(run: Run, arguments: Sequence[str], error: Exception) -> None:
    """`gramian` prints these errors in one line."""
    result = run(*arguments)
    assert result.exit_code == 1
    assert repr(result.exception) == repr(error)


def test_check_runs_the_contract_against_the_live_home(run: Run, tmp_path: Path) -> None:
    """One line per test, then the sum; what the tests wrote is gone."""
    result = run("check", "blobs.files", "--only", "test_list", GRAMIAN_HOME=str(tmp_path / "home"))
    assert result.exit_code == 0, result.output
    assert [row[:2] for row in lines(result)[:2]] == [
        ["test_list_gives_digest_size_and_time", "passed"],
        ["test_list_of_unused_space_is_empty", "passed"],
    ]
    assert lines(result)[-1] == ["2 passed"]
    assert [path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()] == []


def test_check_of_a_wrong_plugin_says_why_and_fails(run: Run, install: Callable[..., None], tmp_path: Path) -> None:
    """What the test is about, and what was found instead."""
    code = CODE.partition("@hookimpl\ndef gramian_transport")[0].replace("secret=True, ", "")
    code += "import threading\n@hookimpl\ndef gramian_job_runner():\n    return Runner()\n"
    code += "class Runner:\n    patience_s = 0\n    def submit(self, cid, number, execute):\n        execute()\n"
    code += "        return ''\n    def failure(self, handle):\n        return 'no idea'\n    def close(self): ...\n"
    install("acme", code, {"jobs.acme": "acme"})
    result = run("check", "acme", "--only", "handle", GRAMIAN_HOME=str(tmp_path))
    assert result.exit_code == 1
    assert "Only what is certain is told." in result.output
    assert "assert 'no idea' == ''" in result.output
    assert "0 passed, 1 failed" in result.output


def test_check_passes_a_transport_its_keys(run: Run, tmp_path: Path) -> None:
    """A live configuration of a transport is a federation's map."""
    result = run(
        "check",
        "memory",
        "--one-process",
        "--set",
        "memory_space=cli",
        "--only",
        "roster",
        "--one-process",
        GRAMIAN_HOME=str(tmp_path),
    )
    assert result.exit_code == 0, result.output
    assert run("check", "memory", "--set", "memory_space").exit_code == 2


def test_check_of_a_transport_without_its_keys_says_how_to_give_them(run: Run) -> None:
    """In one line, instead of the same failure in every test."""
    result = run("check", "nats")
    assert result.exit_code == 1
    assert isinstance(result.exception, InvalidRequest)
    assert "nats_hosts" in str(result.exception)
    assert "--set KEY=VALUE" in str(result.exception)


@pytest.mark.parametrize("kind", plugins.HOOKS)
def test_every_kind_can_be_checked(kind: str) -> None:
    """None lacks a suite."""
    assert kind in SUITES


@pytest.mark.parametrize("plugin", ["identity.home", "uploads.files"])
def test_check_runs_the_contract_of_what_a_home_has(run: Run, plugin: str, tmp_path: Path) -> None:
    """Not of transports and stores alone."""
    result = run("check", plugin, "--one-process", GRAMIAN_HOME=str(tmp_path / "home"))
    assert result.exit_code == 0, result.output
    assert " 0 failed" not in result.output
    assert " passed" in lines(result)[-1][0]


def without(module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`gramian plugins ...` where a module is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; from gramian_local.cli import main; main()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRAMIAN_")}
    command = [sys.executable, "-c", code, "plugins", *arguments]
    return subprocess.run(command, env=clean | env, capture_output=True, text=True, timeout=60)


def test_check_needs_no_more_than_the_extra_for_testing() -> None:
    """What finds a home on one machine is no part of it, and a plugin from elsewhere needs none."""
    done = without("platformdirs", "check", "memory", "--one-process", "--set", "memory_space=cli", "--only", "roster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize(("module", "extra"), [("pytest", "testing"), ("numpy", "testing,numeric")])
def test_check_says_what_to_install(module: str, extra: str, tmp_path: Path) -> None:
    """In one line, with the extra that has it."""
    done = without(module, "check", "compute.numpy", GRAMIAN_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"gramian: the contract needs {module}: pip install 'gramian[{extra}]'\n"


def test_serve_refuses_a_wrong_option_before_it_opens_anything(tmp_path: Path) -> None:
    """In one line with the variable and its meaning; no home is made."""
    env = {**os.environ, "GRAMIAN_THREADS_WORKERS": "none", "GRAMIAN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "gramian_local", "serve", "--port", "0", "--no-nats"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "gramian: GRAMIAN_THREADS_WORKERS must be a whole number from 1 to 64, not 'none': "
        "Most background jobs at once in one process."
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("import nmpy", " fails in its hook gramian_identity: ModuleNotFoundError: No module named 'nmpy'"),
        ("return dict", ": its hook gramian_identity returns the class dict instead of an object of it"),
        ("raise SystemExit(3)", " fails in its hook gramian_identity: SystemExit: 3"),
    ],
)
def test_serve_names_a_hook_that_fails_in_one_line(
    install: Callable[..., None], tmp_path: Path, hook: str, words: str
) -> None:
    """Plugin, hook, and what was wrong."""
    code = CODE.partition("@hookimpl")[0] + f"@hookimpl\ndef gramian_identity():\n    {hook}\n"
    install("acme", code, {"identity.acme": "acme"})
    env = {**os.environ, "GRAMIAN_IDENTITY": "acme", "PYTHONPATH": str(tmp_path / "site-acme")}
    command = [sys.executable, "-m", "gramian_local", "serve", "--port", "0", "--no-nats"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"gramian: the plugin 'identity.acme'{words}" or words in done.stderr
