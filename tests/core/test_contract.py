"""`gramian.testing.contract` and the program around it: what they refuse, and what they tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramian.errors import PluginError
from gramian.settings import Settings
from gramian.testing import contract, running
from gramian.testing.processes import Worker


def test_contract_of_a_kind_without_suite_is_refused() -> None:
    """Also a name without its kind."""
    for name in ("identity.home", "sqlite", ""):
        with pytest.raises(ValueError, match=r"no contract suite .* kinds with one: transport, compute"):
            contract(name)


def test_contract_with_a_misspelt_attribute_is_refused() -> None:
    """It would run with the suite's own value, and nobody would know."""
    with pytest.raises(TypeError, match="StateStoreContract has no attribute thread"):
        contract("state.sqlite", thread=2)


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


def test_worker_that_cannot_open_the_plugin_says_why(tmp_path: Path) -> None:
    """In the assertion, not on the terminal of whoever runs the tests."""
    worker = Worker("state.sqlite", Settings(home=tmp_path, environment={"GRAMIAN_SQLITE_BUSY_TIMEOUT_S": "soon"}))
    try:
        with pytest.raises(AssertionError, match="PluginError: GRAMIAN_SQLITE_BUSY_TIMEOUT_S must be a number"):
            worker.wait_until_open()
    finally:
        worker.kill()
