"""What the function `tidy_up` does every hour, where a server would have threads for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from gramian.domain import schedule as schedules
from gramian.errors import GramianError, InvalidRequest
from gramian.node import Node
from gramian.usecases import upkeep
from gramian.usecases.federation import membership
from gramian.usecases.projects.lifecycle import Project
from gramian_aws import pulses
from gramian_aws.scheduler import EventBridgeScheduler

log = logging.getLogger(__name__)
UNPERSISTED_S: Final = 24 * 3600
"""How long a project with persist=false is kept."""


def tidy_up(node: Node, _event: Mapping[str, Any]) -> None:
    """Mend schedules, tell how late pulses are, drop what was not to be kept, finish what was interrupted."""
    from gramian_aws.function import tell

    # First what an alarm hangs on: the rest may meet a store or a NATS that is down.
    pulsing = {f"{each.cid}/{each.pid}": each for each in upkeep.pulsing(node).values()}
    for project in pulsing.values():
        mend(node, project)
    if late := ages(node, pulsing):
        tell("PulseAge", max(late.values()))
    before = node.clock() - UNPERSISTED_S
    upkeep.drop_unpersisted(node, lambda project: project.record.created_at / 1000 < before)
    upkeep.tidy(node)


def mend(node: Node, project: Project) -> None:
    """Bring the schedule of a pulsing project in line with what the project knows."""
    assert isinstance(node.scheduler, EventBridgeScheduler)
    try:
        record = membership.of(node, project).record
        if record.schedule and node.scheduler.mend(project.cid, project.pid, record.schedule):
            log.warning("the schedule of %s/%s was not as it should be and was set anew", project.cid, project.pid)
    except GramianError as error:
        log.warning("the schedule of %s/%s cannot be checked: %s", project.cid, project.pid, error)


def ages(node: Node, pulsing: Mapping[str, Project]) -> dict[str, float]:
    """For how many of its periods each project has had no good pulse. One never seen before starts at zero."""
    known = pulses.last_good(node)
    for key in known.keys() - pulsing.keys():
        pulses.forget(node, key)
    for key in pulsing.keys() - known.keys():
        pulses.note_good(node, pulsing[key].cid, pulsing[key].pid)
    now, found = node.clock(), {}
    for key, project in pulsing.items():
        with suppress(InvalidRequest):  # deleted meanwhile
            schedule = membership.of(node, project).record.schedule
            if key in known and schedule:  # else it was stopped meanwhile
                found[key] = (now - known[key]) / schedules.parse(schedule).period_s
    return found
