"""What `pulse` and `tidy_up` do besides pulsing: how late pulses are, schedules, and what was not to be kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import users
from gramian.usecases.projects import lifecycle
from gramian_aws import function, pulses, tidying
from gramian_aws.scheduler import EventBridgeScheduler, Target
from gramian_local.node import opened

DAY_S = 24 * 3600
SMALL = {"nats_stream_max_memory": str(2**24)}


class Schedules(EventBridgeScheduler):
    """Remembers what was set, and can lose it."""

    def __init__(self) -> None:
        super().__init__("group", Target("function", "role"))
        self.found: dict[tuple[str, str], str] = {}
        self.mended: list[tuple[str, str]] = []

    def set(self, cid: str, pid: str, schedule: str) -> None:
        self.found[cid, pid] = schedule

    def mend(self, cid: str, pid: str, schedule: str) -> bool:
        right = self.found.get((cid, pid)) == schedule
        if not right:
            self.mended.append((cid, pid))
            self.set(cid, pid, schedule)
        return not right

    def soon(self, cid: str, pid: str) -> None: ...

    def remove(self, cid: str, pid: str) -> None:
        self.found.pop((cid, pid), None)


class Clock:
    """Unix seconds, moved by hand."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(tmp_path: Path, clock: Clock) -> Iterator[Node]:
    with opened(Settings(), tmp_path / "home") as (made, _):
        made = dataclasses.replace(made, scheduler=Schedules(), clock=clock)
        users.create(made, "clinic")
        yield made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Metrics that were given a value."""
    values: list[tuple[str, float]] = []
    monkeypatch.setattr(function, "tell", lambda metric, value: values.append((metric, value)))
    return values


def found_and_start(node: Node, nats_server: Any, pid: str, schedule: str) -> None:
    from gramian.usecases.federation import control, found

    wishes = {"fed_name": "study", "sync_sched": schedule, "nats_hosts": nats_server.url, **SMALL}
    found.create(node, "clinic", pid, wishes, persist=True)
    control.start_pulse(node, "clinic", pid)


def test_projects_that_were_not_to_be_kept_go_after_a_day(node: Node, clock: Clock, told) -> None:
    """Their process is long gone; those that are kept stay."""
    for pid, persist in (("kept", True), ("passing", False)):
        lifecycle.create(node, "clinic", pid, kind="cpu", persist=persist, options={})
    clock.now += DAY_S - 60
    tidying.tidy_up(node, {})
    assert lifecycle.listed(node, "clinic") == ["kept", "passing"]
    clock.now += 120
    tidying.tidy_up(node, {})
    assert lifecycle.listed(node, "clinic") == ["kept"]


def test_age_is_told_in_periods_of_the_schedule_for_the_latest(node: Node, clock: Clock, told, nats_server) -> None:
    """One that pulses each minute and was silent for five is further behind than one of each hour."""
    for pid, schedule in (("minutely", "m1"), ("hourly", "h1")):
        found_and_start(node, nats_server, pid, schedule)
        pulses.pulse(node, {"cid": "clinic", "pid": pid})
    clock.now += 300
    tidying.tidy_up(node, {})
    assert told == [("PulseAge", 5.0)]
    pulses.pulse(node, {"cid": "clinic", "pid": "minutely"})
    clock.now += 60
    tidying.tidy_up(node, {})
    assert told[-1] == ("PulseAge", 1.0)


def test_pulse_that_fails_is_no_good_pulse(node: Node, clock: Clock, told, nats_server, monkeypatch) -> None:
    """It raises, so that Lambda counts and repeats it, and the age goes on growing."""
    from gramian.errors import TransportUnavailable
    from gramian.usecases.federation import pulse

    found_and_start(node, nats_server, "study", "m1")
    pulses.pulse(node, {"cid": "clinic", "pid": "study"})

    def unreachable(*_: Any, **__: Any) -> None:
        raise TransportUnavailable("no NATS")

    monkeypatch.setattr(pulse, "run", unreachable)
    clock.now += 120
    with pytest.raises(TransportUnavailable):
        pulses.pulse(node, {"cid": "clinic", "pid": "study"})
    tidying.tidy_up(node, {})
    assert told == [("PulseAge", 2.0)]


def test_project_that_has_never_pulsed_well_ages_from_the_first_look(
    node: Node, clock: Clock, told, nats_server
) -> None:
    """A NATS that was down from the start must not go unseen."""
    found_and_start(node, nats_server, "study", "m1")
    tidying.tidy_up(node, {})
    assert told == []
    clock.now += 600
    tidying.tidy_up(node, {})
    assert told == [("PulseAge", 10.0)]


def test_nothing_is_told_where_nothing_pulses(node: Node, clock: Clock, told, nats_server) -> None:
    """A metric costs money, and a stopped project has no age; what was known of it is forgotten."""
    from gramian.usecases.federation import control

    found_and_start(node, nats_server, "study", "m1")
    pulses.pulse(node, {"cid": "clinic", "pid": "study"})
    control.stop_pulse(node, "clinic", "study")
    tidying.tidy_up(node, {})
    assert told == []
    assert pulses.last_good(node) == {}


def test_project_deleted_while_ages_are_told_has_none(node: Node, clock: Clock, told, nats_server) -> None:
    """It may go between two readings; the others' ages must be told all the same."""
    for pid in ("gone", "there"):
        found_and_start(node, nats_server, pid, "m1")
        pulses.pulse(node, {"cid": "clinic", "pid": pid})
    pulsing = {f"clinic/{pid}": lifecycle.find(node, "clinic", pid) for pid in ("gone", "there")}
    lifecycle.delete(node, "clinic", "gone")
    clock.now += 60
    assert tidying.ages(node, pulsing) == {"clinic/there": 1.0}


def test_schedules_are_brought_in_line_with_the_projects(node: Node, told, nats_server) -> None:
    """Lost or changed; one that is right is left alone."""
    for pid in ("lost", "changed", "right"):
        found_and_start(node, nats_server, pid, "h2")
    del node.scheduler.found["clinic", "lost"]
    node.scheduler.found["clinic", "changed"] = "d7"
    tidying.tidy_up(node, {})
    assert sorted(node.scheduler.mended) == [("clinic", "changed"), ("clinic", "lost")]
    assert set(node.scheduler.found.values()) == {"h2"}
