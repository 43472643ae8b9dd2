"""Who runs what: the identity of a process, schedulers of pulses, job runners, compute backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array, Moments
    from gramian.domain.statistics.schema import Schema


class Identity(Protocol):
    """Who this process is: a part of the node that holds `master_key` (32 bytes), with a life of its own.

    What processes leave behind for a while (jobs, leases, projects that are not kept) carries the `instance` of its
    owner, so that others can tell when it is gone.
    """

    @property
    def master_key(self) -> bytes:
        """The same for every process of the node, for ever. Raises StoreError if it cannot be had now."""
        ...

    @property
    def instance(self) -> str:
        """This process, and this opening of its identity: no other has the same mark. Without a slash."""
        ...

    def alive(self, instance: str) -> bool:
        """Whether the process that left this mark may still run; False for a text that is no mark."""
        ...

    def close(self) -> None:
        """Be seen as gone, where that can be seen. May be repeated."""
        ...


class Scheduler(Protocol):
    """Runs due pulses: one entry per pulsing project, under a stable name."""

    def set(self, cid: str, pid: str, schedule: str) -> None:
        """Pulse (cid, pid) on `schedule` (as `gramian.domain.schedule`); replaces an older entry."""
        ...

    def soon(self, cid: str, pid: str) -> None:
        """Pulse at the next opportunity, once, if there is an entry; the schedule stays."""
        ...

    def remove(self, cid: str, pid: str) -> None: ...


@runtime_checkable
class ResidentScheduler(Protocol):
    """What a scheduler has besides, if it runs the pulses itself, in a process that stays (`gramian serve`)."""

    def start(self, run_pulse: Callable[[str, str], None]) -> None:
        """From now on call `run_pulse(cid, pid)`, from other threads, when a pulse is due; what it raises is logged."""
        ...

    def stop(self) -> None:
        """Start no more pulses, and wait a while for those that run."""
        ...


class JobRunner(Protocol):
    """Has submitted jobs done later, here or elsewhere. What they are about stands in their records."""

    patience_s: float = 0.0
    """How long a job may wait for a process to take it up, or for `submit` to name it; 0: jobs run in this process, and
    end with it."""

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        """Run `execute` in this process, or have `gramian.usecases.jobs.execute(node, cid, number)` called in another.

        Returns the runner's own name of the job, which no other job has, or empty if it has none. Raises Unavailable if
        it takes no more jobs, or reaches nobody who would.
        """
        ...

    def failure(self, handle: str) -> str:  # noqa: ARG002 - a default for runners that know nothing more
        """Why the job that `submit` named so will never end well, as far as the runner knows; empty if it may, and so
        for one that has just been submitted."""
        return ""

    def close(self) -> None: ...


class Compute(Protocol):
    """Turns rows into sufficient statistics; merging stays on the host, so that bits do not depend on hardware."""

    def accumulate(self, rows: Array, schema: Schema) -> Moments:
        """Moments of `rows`, (n, p) float64 in the schema's order, NaN where missing. Raises ValueError naming a
        column whose values cannot be used."""
        ...
