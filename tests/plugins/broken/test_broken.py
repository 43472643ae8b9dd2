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
    ("transport.frees_one_blob", "test_freed_room_of_a_peer_is_that_of_all_its_blobs", "DID NOT RAISE"),
    ("transport.hears_everything", "test_nudge_reaches_listeners_of_its_federation_only", "assert not True"),
    ("transport.creates_anew", "test_create_twice_keeps_what_is_there", "KeyError"),
    (
        "transport.goes_on_when_closed",
        "test_closed_link_refuses_further_calls",
        "DID NOT RAISE .*TransportError",
    ),
    ("transport.hangs", "test_place_that_cannot_be_reached_is_said_in_time", "assert .* < 1"),
    ("transport.keeps_blobs_in_one_process", "test_blob_of_another_process_can_be_read", r"assert \[0, 1\] == \[\]"),
    ("transport.keeps_nudges_in_one_process", "test_nudge_of_another_process_is_heard", "assert False"),
    ("transport.locks_in_one_process", "test_roster_from_many_processes_has_one_winner", r"assert \d == 1"),
    ("transport.leaves_chunks_behind", "test_place_made_again_is_empty", "assert 200 == 0"),
    ("transport.holds_half", "test_blob_of_100_mb_returns", "assert False"),
    ("transport.shares_nothing", "test_shared_options_lead_a_member_there", "InvalidRequest"),
    ("transport.shares_too_much", "test_shared_options_lead_a_member_there", r"assert \{.* <= \{"),
    ("transport.has_no_room", "test_limits_leave_room_for_a_blob", r"assert 1 >= \d+"),
    ("state.forgets_in_an_outage", "test_store_that_cannot_be_reached_is_said_in_time", "DID NOT RAISE .*StoreError"),
    ("tokens.wins_in_an_outage", "test_store_that_cannot_be_reached_is_said_in_time", "DID NOT RAISE .*StoreError"),
    ("blobs.lists_the_first_page", "test_more_blobs_than_a_page_are_all_listed_and_cleared", "assert 1000 == 1005"),
    ("blobs.clears_the_first_page", "test_more_blobs_than_a_page_are_all_listed_and_cleared", "assert 5 == 0"),
    ("blobs.forgets_in_an_outage", "test_store_that_cannot_be_reached_is_said_in_time", r"BlobMissing.*ExceptionInfo"),
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
    ("scheduler.ignores_its_schedule", "test_schedule_pulses_when_it_is_due", "not within 1.0 s"),
    ("scheduler.pulses_once", "test_schedule_pulses_when_it_is_due", "not within 1.0 s"),
    ("jobs.executes_here_too", "test_job_for_elsewhere_is_not_executed_here", "assert not True"),
    ("jobs.names_nothing", "test_job_for_elsewhere_is_not_executed_here", r"assert False\n.*isinstance\(None"),
    ("jobs.one_handle_for_all", "test_jobs_submitted_at_once_have_handles_of_their_own", "assert 1 == 4"),
    ("jobs.gives_up_at_once", "test_job_that_has_just_begun_has_no_failure", "assert 'there is no job"),
    ("jobs.raises_as_it_came", "test_runner_that_reaches_nobody_says_so_in_time", "ConnectionError"),
    (
        "identity.new_key_each_time",
        "test_master_key_is_32_bytes_and_the_same_for_every_opening",
        r"assert \[True, False\] == \[True, True\]",
    ),
    (
        "identity.new_key_each_time",
        "test_processes_of_a_node_share_its_key_and_tell_each_other_apart",
        r"assert \[False, False\] == \[True, True\]",
    ),
    (
        "identity.key_of_a_password",
        "test_master_key_is_32_bytes_and_the_same_for_every_opening",
        "assert 28 == 32",
    ),
    ("identity.one_mark_for_all", "test_instances_of_openings_differ", "assert 1 == 4"),
    ("identity.everybody_lives", "test_unknown_text_is_not_alive", "assert not True"),
    ("identity.everybody_lives", "test_killed_process_is_seen_as_gone", "is alive after 0.5 s"),
    ("identity.lives_on", "test_closed_identity_is_seen_as_gone", "is alive after 0.5 s"),
    ("identity.dies_for_the_others", "test_open_identity_is_alive", "assert False"),
    ("identity.makes_one_up_in_an_outage", "test_key_that_cannot_be_had_is_said_in_time", "DID NOT RAISE .*StoreError"),
    ("uploads.opens_whatever_is_there", "test_wrong_tag_is_not_opened", "DID NOT RAISE .*BlobMissing"),
    ("uploads.signs_the_space_only", "test_ticket_is_good_for_its_name_only", "assert 201 in "),
    ("uploads.takes_any_size", "test_other_size_than_announced_is_refused", "assert 201 in "),
    ("observer.stumbles_over_letters", "test_every_event_is_taken_without_an_error", "UnicodeEncodeError"),
    ("observer.dawdles", "test_observer_is_quick", "assert .* < 0.02"),
]
MODULES = {kind: f"broken_{kind}" for kind in ("state", "tokens", "blobs", "transport", "identity", "uploads")}
NOWHERE = {"GRAMIAN_HOME": "/dev/null/home"}
QUICK = {
    "state": {"expiry_s": 3, "unreachable": NOWHERE},
    "tokens": {"unreachable": NOWHERE},
    "blobs": {"time_resolution_s": 0.02, "unreachable": NOWHERE},
    "transport": {"settle_s": 0.5, "patience_s": 1.0, "unreachable": {"memory_space": "x"}},
    "jobs": {"settle_s": 1.0, "unreachable": NOWHERE},
    "scheduler": {"settle_s": 5.0, "minute_s": 1.0},
    "identity": {"end_s": 0.5, "unreachable": NOWHERE},
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
def test_wrong_plugin_is_caught_by_the_assertion_meant_for_it(
    plugin: str, test: str, words: str, tmp_path: Path
) -> None:
    """Not merely by an accident on the way to it."""
    keys = {"memory_space": "broken", "acme_path": str(tmp_path / "bus")} if plugin.startswith("transport.") else None
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
