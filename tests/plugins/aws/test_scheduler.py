"""Pulses by EventBridge Scheduler, on the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gramian.domain import schedule as schedules
from gramian.errors import StoreError
from gramian.testing.scheduler import SchedulerContract
from gramian_aws import clients, lambda_jobs, scheduler
from gramian_aws.scheduler import EventBridgeScheduler, Target, expression_of, name_of

ROLE = "arn:aws:iam::000000000000:role/pulses"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:pulse"
NOW = 1_000_000_000.0


@pytest.fixture
def aws(emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return clients.client("scheduler")


@pytest.fixture
def group(aws) -> Iterator[str]:
    name = f"pulses-{id(object()):x}"
    aws.create_schedule_group(Name=name)
    yield name
    aws.delete_schedule_group(Name=name)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Functions that were started, with their events."""
    calls: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(scheduler, "invoke", lambda function, event: calls.append((function, event)))
    return calls


@pytest.fixture
def made(group: str) -> EventBridgeScheduler:
    return EventBridgeScheduler(group, Target(FUNCTION, ROLE), clock=lambda: NOW)


class TestContract(SchedulerContract):
    """Entries and `soon`; which projects pulse, the started function decides."""

    @pytest.fixture
    def scheduler(self, made: EventBridgeScheduler) -> EventBridgeScheduler:
        return made

    @pytest.fixture
    def pulses(self, started) -> Any:
        class Pulses:
            def _all(self) -> list[tuple[str, str]]:
                return [(event["cid"], event["pid"]) for _, event in started]

            def __iter__(self) -> Iterator[tuple[str, str]]:
                return iter(self._all())

            def __contains__(self, pulse: object) -> bool:
                return pulse in self._all()

            def count(self, pulse: tuple[str, str]) -> int:
                return self._all().count(pulse)

        return Pulses()

    def test_soon_without_entry_does_nothing(self) -> None:
        pytest.skip("the started function looks whether the project pulses (tests/e2e/aws)")


def test_schedule_starts_with_the_next_multiple_of_its_period(made, aws, group) -> None:
    """So that all peers pulse in step; the group, the role and the input are the node's."""
    made.set("clinic", "study", "m30")
    found = aws.get_schedule(GroupName=group, Name=name_of("clinic", "study"))
    assert found["ScheduleExpression"] == "rate(30 minutes)"
    assert found["State"] == "ENABLED"
    assert (found["Target"]["Arn"], found["Target"]["RoleArn"]) == (FUNCTION, ROLE)
    assert json.loads(found["Target"]["Input"]) == {"cid": "clinic", "pid": "study"}
    wanted = made._wanted("clinic", "study", schedules.parse("m30"))
    assert wanted["StartDate"] == datetime.fromtimestamp((NOW // 1800 + 1) * 1800, UTC)


def test_set_again_replaces_the_schedule(made, aws, group) -> None:
    """One per project, whatever happened before."""
    for text in ("m1", "h2", "d7"):
        made.set("clinic", "study", text)
    (found,) = aws.list_schedules(GroupName=group)["Schedules"]
    assert aws.get_schedule(GroupName=group, Name=found["Name"])["ScheduleExpression"] == "rate(7 days)"


@pytest.mark.parametrize(
    ("text", "expression"),
    [("m1", "rate(1 minute)"), ("m2", "rate(2 minutes)"), ("h1", "rate(1 hour)"), ("d366", "rate(366 days)")],
)
def test_expression_is_what_the_service_reads(text: str, expression: str) -> None:
    """One is singular."""
    assert expression_of(schedules.parse(text)) == expression


def test_names_are_stable_legal_and_differ(made) -> None:
    """Ids may hold what schedule names may not; `a/b` and `c` is not `a` and `b/c`."""
    name = name_of("clinic", "p.-_@+")
    assert name == name_of("clinic", "p.-_@+")
    assert len(name) <= 64
    assert name.replace("-", "").isalnum()
    assert len({name_of("a", "bc"), name_of("ab", "c"), name_of("a", "b")}) == 3


def test_mend_leaves_alone_what_is_right_and_mends_what_is_not(made, aws, group) -> None:
    """Changed, disabled, aimed elsewhere, or gone."""
    made.set("clinic", "study", "h1")
    assert not made.mend("clinic", "study", "h1")
    name = name_of("clinic", "study")
    good = aws.get_schedule(GroupName=group, Name=name)
    keys = ("ScheduleExpression", "FlexibleTimeWindow", "Target", "State")
    for drift in (
        {"ScheduleExpression": "rate(5 hours)"},
        {"State": "DISABLED"},
        {"Target": {**good["Target"], "Input": "{}"}},
        {"Target": {**good["Target"], "Arn": f"{FUNCTION}-old"}},
    ):
        aws.update_schedule(GroupName=group, Name=name, **{**{key: good[key] for key in keys}, **drift})
        assert made.mend("clinic", "study", "h1")
        now = aws.get_schedule(GroupName=group, Name=name)
        assert {key: now[key] for key in keys} == {key: good[key] for key in keys}
    aws.delete_schedule(GroupName=group, Name=name)
    assert made.mend("clinic", "study", "h1")
    assert not made.mend("clinic", "study", "h1")


def test_missing_group_is_said_with_its_name(aws) -> None:
    """The stack's group was removed: an operator must see which."""
    lost = EventBridgeScheduler("nothing-there", Target(FUNCTION, ROLE))
    with pytest.raises(StoreError, match="nothing-there"):
        lost.set("clinic", "study", "m1")


def test_missing_function_makes_soon_and_jobs_fail_in_words(aws, made) -> None:
    """Not with an exception of AWS's library."""
    from gramian.errors import Unavailable

    with pytest.raises(StoreError, match="function"):
        made.soon("clinic", "study")
    with pytest.raises(Unavailable, match="no-such-function"):
        lambda_jobs.LambdaJobRunner("no-such-function", waiting_s=60).submit("clinic", 1, lambda: None)
