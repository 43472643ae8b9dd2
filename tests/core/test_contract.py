"""`gramian.testing.contract` and the program around it: what they refuse, and what they tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gramian.errors import PluginError
from gramian.settings import Settings
from gramian.testing import contract, running
from gramian.testing.processes import Worker


def test_contract_of_a_kind_without_suite_is_refused() -> None:
    """Also a name without its kind."""
    for name in ("identities.home", "sqlite", ""):
        with pytest.raises(ValueError, match=r"no contract suite .* kinds with one: transport, compute"):
            contract(name)


def test_contract_with_a_misspelt_attribute_is_refused() -> None:
    """It would run with the suite's own value, and nobody would know."""
    with pytest.raises(TypeError, match="StateStoreContract has no attribute thread"):
        contract("state.sqlite", thread=2)
    with pytest.raises(TypeError, match="ComputeContract has no attribute unreachable"):
        contract("compute.numpy", unreachable={"GRAMIAN_NUMPY_X": "1"})


def test_run_of_no_test_is_an_error() -> None:
    """Not a success."""
    with pytest.raises(
        PluginError, match=r"no test of the contract of 'jobs.threads' was run \(pytest: NO_TESTS_COLLECTED"
    ):
        running.run("jobs.threads", only="nothing_of_that_name")


def test_run_tells_what_each_test_is_about(tmp_path: Path) -> None:
    """With its result, its time, and why it was skipped."""
    options = {"memory_space": "told"}
    found = running.run(
        "transport.memory", options=options, only="roster or reached", environment={"GRAMIAN_HOME": str(tmp_path)}
    )
    told = {outcome.test: outcome for outcome in found}
    assert told["test_head_and_roster_are_written_by_compare_and_set"].result == "passed"
    assert told["test_head_and_roster_are_written_by_compare_and_set"].meaning.startswith(
        "Each write names the revision"
    )
    assert told["test_place_that_cannot_be_reached_is_said_in_time"].result == "skipped"
    assert "`unreachable`" in told["test_place_that_cannot_be_reached_is_said_in_time"].why


@pytest.mark.parametrize(
    ("only", "about", "why"),
    [
        ("nudge", {"has_nudges": False}, "this transport has no nudges"),
        ("100_mb", {"options": {"memory_space": "s", "memory_max_bytes": "50000000"}}, "room for 50000000 bytes only"),
        ("process", {"across_processes": False}, "transport.memory lives within one process"),
    ],
)
def test_what_a_plugin_cannot_do_is_skipped_with_the_reason(only: str, about: dict, why: str) -> None:
    """Not passed over in silence."""
    found = running.run("transport.memory", only=only, **{"options": {"memory_space": "s"}, **about})
    assert {outcome.result for outcome in found} == {"skipped"}
    assert any(why in outcome.why for outcome in found), found


def test_failing_test_tells_the_values_outside_of_pytest_too(tmp_path: Path) -> None:
    """An operator who runs `gramian plugins check` sees what was found instead, also in parts that several suites
    share."""
    code = """
from gramian.testing import running
running.run("transport.memory", options={"memory_space": "x"}, only="from_many_processes_has_one")
from gramian.testing import link_blobs, link_nudges, processes, transport
print([type(each.__loader__).__name__ for each in (link_blobs, link_nudges, processes, transport)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == str(["AssertionRewritingHook"] * 4), done.stderr


def test_mistaken_run_is_told_as_by_contract(capfd: pytest.CaptureFixture[str]) -> None:
    """And pytest adds nothing."""
    with pytest.raises(TypeError, match="StateStoreContract has no attribute thread"):
        running.run("state.sqlite", thread=2)
    assert capfd.readouterr() == ("", "")


def test_worker_that_cannot_open_the_plugin_says_why(tmp_path: Path) -> None:
    """In the assertion, not on the terminal of whoever runs the tests."""
    worker = Worker("state.sqlite", Settings(home=tmp_path, environment={"GRAMIAN_SQLITE_BUSY_TIMEOUT_S": "soon"}))
    try:
        with pytest.raises(AssertionError, match="PluginError: GRAMIAN_SQLITE_BUSY_TIMEOUT_S must be a number"):
            worker.wait_until_open()
    finally:
        worker.kill()
