"""Pulses by EventBridge Scheduler: one schedule per pulsing project, in the node's own group."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gramian.domain import schedule as schedules
from gramian.domain.canonical import join
from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Scheduler
from gramian_aws import clients
from gramian_aws.errors import translating
from gramian_aws.lambda_jobs import invoke

gramian_api = "1"

_UNITS: Final = {"m": "minute", "h": "hour", "d": "day"}
_MAX_AGE_S: Final = 300
"""A pulse that could not be started so long is left to the next one."""


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option("group", required=True, help="Name of the schedule group that holds this node's schedules."),
        Option("function", required=True, help="ARN of the function that pulses."),
        Option("role", required=True, help="ARN of the role by which the scheduler starts that function."),
        Option("dead_letters", help="ARN of the queue for pulses that could not be started."),
    )


@hookimpl
def gramian_scheduler(options: Options) -> Scheduler:
    target = Target(options["function"], options["role"], options["dead_letters"])
    return EventBridgeScheduler(options["group"], target)


@dataclass(frozen=True, slots=True)
class Target:
    """What a schedule starts: ARNs of the function, of the role that may, and of the queue for failures."""

    function: str
    role: str
    dead_letters: str | None = None

    def request(self, cid: str, pid: str) -> dict[str, Any]:
        failures = {"DeadLetterConfig": {"Arn": self.dead_letters}} if self.dead_letters else {}
        return {
            "Arn": self.function,
            "RoleArn": self.role,
            "Input": json.dumps({"cid": cid, "pid": pid}),
            "RetryPolicy": {"MaximumEventAgeInSeconds": _MAX_AGE_S, "MaximumRetryAttempts": 2},
            **failures,
        }


class EventBridgeScheduler(Scheduler):
    """`gramian.ports.Scheduler` for any number of processes; nothing here has to keep running."""

    def __init__(self, group: str, target: Target, clock: Callable[[], float] = time.time) -> None:
        """`clock`: unix seconds."""
        self._group = group
        self._target = target
        self._clock = clock

    def set(self, cid: str, pid: str, schedule: str) -> None:
        """Create the schedule, or bring the one that is there in line. Raises ValueError, StoreError."""
        scheduler, wanted = clients.client("scheduler"), self._wanted(cid, pid, schedules.parse(schedule))
        with translating("scheduler:CreateSchedule and UpdateSchedule", f"schedule group {self._group}"):
            try:
                scheduler.create_schedule(**wanted)
            except scheduler.exceptions.ConflictException:
                scheduler.update_schedule(**wanted)

    def mend(self, cid: str, pid: str, schedule: str) -> bool:
        """As `set`, but only if the schedule is not there as wanted; whether it was not. Raises as `set`."""
        scheduler, wanted = clients.client("scheduler"), self._wanted(cid, pid, schedules.parse(schedule))
        with translating("scheduler:GetSchedule", f"schedule group {self._group}"):
            try:
                found = scheduler.get_schedule(GroupName=self._group, Name=wanted["Name"])
            except scheduler.exceptions.ResourceNotFoundException:
                found = {}
        kept = ("ScheduleExpression", "FlexibleTimeWindow", "State")
        target = {key: found.get("Target", {}).get(key) for key in wanted["Target"]}
        if target == wanted["Target"] and all(found.get(key) == wanted[key] for key in kept):
            return False
        self.set(cid, pid, schedule)
        return True

    def soon(self, cid: str, pid: str) -> None:
        """Start the function at once. Raises StoreError.

        The function looks whether the project pulses: a schedule just made may not be found here yet.
        """
        invoke(self._target.function, {"cid": cid, "pid": pid})

    def remove(self, cid: str, pid: str) -> None:
        """Raises StoreError."""
        scheduler = clients.client("scheduler")
        with translating("scheduler:DeleteSchedule", f"schedule group {self._group}"):
            try:
                scheduler.delete_schedule(GroupName=self._group, Name=name_of(cid, pid))
            except scheduler.exceptions.ResourceNotFoundException:
                return

    def _wanted(self, cid: str, pid: str, schedule: schedules.Schedule) -> dict[str, Any]:
        # The first pulse at the next multiple of the period: all peers pulse in step, whenever each of them started.
        first = datetime.fromtimestamp(schedule.next_after(self._clock()), UTC)
        return {
            "GroupName": self._group,
            "Name": name_of(cid, pid),
            "ScheduleExpression": expression_of(schedule),
            "StartDate": first,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED",
            "Target": self._target.request(cid, pid),
        }


def name_of(cid: str, pid: str) -> str:
    """The schedule's name: always the same for a project, whatever characters its ids have."""
    return "pulse-" + hashlib.sha256(join(cid, pid)).hexdigest()[:40]


def expression_of(schedule: schedules.Schedule) -> str:
    """`rate(30 minutes)`."""
    return f"rate({schedule.count} {_UNITS[schedule.unit]}{'' if schedule.count == 1 else 's'})"
