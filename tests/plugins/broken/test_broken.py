"""The contract suites catch wrong plugins, each by the assertion that is meant for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gramian.testing import SUITES, running

# A plugin, the test that must fail, and what it must say.
WRONG = [
    ("state.ignores_expectations", "test_put_absent_on_present_item_fails", "DID NOT RAISE .*ConditionFailed"),
    ("state.ignores_expectations", "test_put_with_stale_version_fails", "DID NOT RAISE .*ConditionFailed"),
    ("state.ignores_expectations", "test_put_absent_from_many_threads_has_one_winner", r"assert 12 == 1"),
    ("state.ignores_expectations", "test_put_absent_from_many_processes_has_one_winner", "assert 4 == 1"),
    ("state.writes_one_by_one", "test_group_with_failed_check_applies_nothing", r"assert Item\(.* is None"),
    ("state.writes_one_by_one", "test_group_of_a_killed_process_is_whole_or_absent", "assert b'"),
    ("state.version_is_content_hash", "test_versions_differ_after_every_write_and_never_come_back", "assert 1 == 8"),
    ("state.filters_after_limit", "test_query_after_continues_where_a_page_ended", r"assert \[.*\] == \["),
    ("state.orders_by_utf16", "test_query_orders_by_utf8_bytes", r"assert \["),
    ("state.leaves_expiry_to_a_broom", "test_expired_item_is_invisible_at_once", r"assert Item\(.* is None"),
    ("state.leaves_expiry_to_a_broom", "test_query_limit_counts_live_items_only", r"assert \['key0'\] == \['key3'\]"),
    ("state.caches_reads", "test_second_instance_sees_writes_at_once", "assert"),
    ("state.cuts_large_values", "test_put_any_size_gives_same_bytes", "assert b'x+"),
    ("state.folds_names", "test_names_of_any_letters_are_kept_apart", "twice in one group|assert"),
    ("state.forgets_on_restart", "test_items_survive_reopening", r"assert None == Item\("),
    ("tokens.lets_two_in", "test_claim_from_many_threads_has_one_winner", r"assert \d+ == 1"),
    ("tokens.lets_two_processes_in", "test_claim_from_many_processes_has_one_winner", r"assert \d == 1"),
    ("tokens.never_expires", "test_expired_claim_can_be_taken", "assert b'old' is None"),
    ("tokens.releases_for_anyone", "test_release_otherwise_changes_nothing", "assert not True"),
    ("tokens.hides_the_holder", "test_claim_held_key_gives_holder", "assert b'late' == b"),
    ("tokens.forgets_on_restart", "test_claims_survive_reopening", "assert None == b'seen'"),
    ("blobs.one_space_for_all", "test_spaces_are_isolated", "DID NOT RAISE .*BlobMissing"),
    ("blobs.keeps_first_time", "test_put_again_refreshes_modified_at", "assert .* > "),
    ("blobs.loses_the_last_chunk", "test_put_then_get_gives_same_bytes", "assert False"),
    ("blobs.writes_in_place", "test_blob_of_a_killed_process_is_whole_or_absent", "BlobCorrupt"),
    ("blobs.refuses_the_second_delete", "test_delete_removes_and_repeats", "BlobMissing"),
    ("transport.ignores_the_revision", "test_head_and_roster_are_written_by_compare_and_set", "DID NOT RAISE"),
    ("transport.ignores_the_revision", "test_concurrent_writers_exactly_one_wins", r"assert \d == 1"),
    ("transport.mixes_federations", "test_federations_do_not_mix", r"assert \[\] == \[0\]"),
    ("transport.loses_the_last_chunk", "test_blob_round_trip_returns_the_chunks", r"assert \[2\] == \[\]"),
    ("transport.sorts_chunks_as_text", "test_blob_round_trip_returns_the_chunks", r"assert \[b'"),
    ("transport.reads_beyond_the_limit", "test_blob_beyond_max_bytes_is_refused", "DID NOT RAISE .*Refused"),
    ("transport.never_frees", "test_freed_blob_is_missing", "DID NOT RAISE .*ContentMissing"),
    ("transport.hears_everything", "test_nudge_reaches_listeners_of_its_federation_only", "assert not True"),
    ("transport.creates_anew", "test_create_twice_keeps_what_is_there", "KeyError"),
    (
        "transport.goes_on_when_closed",
        "test_closed_link_refuses_further_calls",
        "DID NOT RAISE .*TransportError",
    ),
    ("transport.hangs", "test_place_that_cannot_be_reached_is_said_in_time", "assert .* < 1"),
    ("compute.drops_the_rest", "test_sums_are_those_of_the_rows", "s is off by"),
    ("compute.sums_about_zero", "test_large_means_lose_no_digits", "is off by|assert False"),
    ("compute.single_precision", "test_sums_are_those_of_the_rows", "s is off by"),
    ("compute.writes_into_the_rows", "test_rows_are_left_alone", "read-only"),
    ("compute.writes_into_the_rows", "test_missing_values_count_pair_by_pair", r"assert \[3000"),
    ("jobs.runs_at_once", "test_submit_returns_before_the_job_is_done", "assert not True"),
    ("jobs.runs_twice", "test_every_job_is_executed_once", r"assert \["),
    ("jobs.dies_of_a_failure", "test_failing_job_stops_no_other", "not within"),
    ("scheduler.forgets_the_old_entry", "test_soon_without_entry_does_nothing", r"assert \[\("),
    ("scheduler.pulses_everything", "test_soon_pulses_once", r"assert \[\("),
    ("scheduler.pulses_twice", "test_soon_after_set_again_pulses_once", "assert 2 == 1"),
    ("observer.stumbles_over_letters", "test_every_event_is_taken_without_an_error", "UnicodeEncodeError"),
    ("observer.dawdles", "test_observer_is_quick", "assert .* < 0.02"),
]
MODULES = {kind: f"broken_{kind}" for kind in ("state", "tokens", "blobs", "transport")}
QUICK = {
    "state": {"expiry_s": 3},
    "blobs": {"time_resolution_s": 0.02},
    "transport": {"settle_s": 0.5, "patience_s": 1.0, "unreachable": {"memory_space": "x"}},
    "jobs": {"settle_s": 1.0},
    "scheduler": {"settle_s": 5.0},
    "observer": {"limit_s": 0.02},
}


@pytest.fixture
def published(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """All wrong plugins are installed until the test ends."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    names = {name: name.split(".") for name, _, _ in WRONG}
    install(
        "broken", "", {name: f"{MODULES.get(kind, 'broken_workers')}:{wrong}" for name, (kind, wrong) in names.items()}
    )


@pytest.mark.parametrize(("plugin", "test", "words"), WRONG, ids=[f"{name}-{test[5:]}" for name, test, _ in WRONG])
@pytest.mark.usefixtures("published")
def test_wrong_plugin_is_caught_by_the_assertion_meant_for_it(plugin: str, test: str, words: str) -> None:
    """Not merely by an accident on the way to it."""
    keys = {"memory_space": "broken"} if plugin.startswith("transport.") else None
    found = running.run(plugin, only=test, options=keys, **QUICK.get(plugin.split(".")[0], {}))
    failed = [outcome for outcome in found if outcome.result == "failed"]
    assert failed, [outcome.test for outcome in found]
    assert all(outcome.test.partition("[")[0] == test for outcome in failed)
    assert any(re.search(words, outcome.why) for outcome in failed), [outcome.why[:500] for outcome in failed]


def test_at_least_twelve_plugins_are_wrong_in_their_own_way() -> None:
    """Of every kind that has a suite."""
    names = {name for name, _, _ in WRONG}
    assert len(names) >= 12
    assert {name.split(".")[0] for name in names} == set(SUITES)
