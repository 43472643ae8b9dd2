"""Compute backends, job runners, schedulers and observers that are wrong."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace

import numpy as np
from broken_publish import plugin

from gramian.domain.statistics import kernel
from gramian.hookspecs import hookimpl
from gramian_local.jobs import ThreadJobRunner
from gramian_local.scheduler import LocalScheduler


class DropsTheRest:
    """Whole blocks only."""

    def accumulate(self, rows, schema):
        whole = len(rows) - len(rows) % 1024 if len(rows) > 1024 else len(rows)
        return kernel.accumulate(rows[:whole], schema)


class SumsAboutZero:
    """Without an origin, which large means need."""

    def accumulate(self, rows, schema):
        return kernel.accumulate(rows, schema, np.zeros(schema.size))


class SinglePrecision:
    """As fast as a graphics card likes it."""

    def accumulate(self, rows, schema):
        return kernel.accumulate(rows.astype(np.float32).astype(np.float64), schema)


class WritesIntoTheRows:
    """Missing values become zeros in place."""

    def accumulate(self, rows, schema):
        rows[np.isnan(rows)] = 0
        return kernel.accumulate(rows, schema)


class RunsAtOnce(ThreadJobRunner):
    """Within the request."""

    def submit(self, cid, number, execute):
        execute()
        return ""


class RunsTwice(ThreadJobRunner):
    """A queue that delivers at least once."""

    def submit(self, cid, number, execute):
        super().submit(cid, number, execute)
        return super().submit(cid, number, execute)


class DiesOfAFailure:
    """Its one worker ends with the first job that raises."""

    patience_s = 0.0

    def __init__(self):
        self._jobs = []
        self._dead = False

    def submit(self, cid, number, execute):
        threading.Thread(target=self._run, args=(execute,), daemon=True).start()
        return ""

    def _run(self, execute):
        if not self._dead:
            try:
                execute()
            except RuntimeError:
                self._dead = True

    def failure(self, handle):
        return ""

    def close(self):
        return None


class ForgetsTheOldEntry(LocalScheduler):
    """What was removed still pulses when it is asked to."""

    def remove(self, cid, pid):
        return None


class PulsesEverything(LocalScheduler):
    """`soon` wakes all entries of a user."""

    def soon(self, cid, pid):
        for other in ("p", "p2"):
            super().soon(cid, other)


class PulsesTwice(LocalScheduler):
    """Every pulse is run again."""

    def start(self, run_pulse):
        def twice(cid, pid):
            run_pulse(cid, pid)
            run_pulse(cid, pid)

        super().start(twice)


class IgnoresItsSchedule(LocalScheduler):
    """Pulses when it is asked to, never by itself."""

    def set(self, cid, pid, schedule):
        super().set(cid, pid, "d366")


class PulsesOnce(LocalScheduler):
    """A timer that nobody sets again."""

    def start(self, run_pulse):
        def once(cid, pid):
            self.remove(cid, pid)
            run_pulse(cid, pid)

        super().start(once)


class Queue:
    """Has jobs executed elsewhere, as far as callers can tell."""

    patience_s = 60.0

    def __init__(self, home):
        self._home = home
        self._numbers = itertools.count()

    def submit(self, cid, number, execute):
        return f"{cid}-{next(self._numbers)}"

    def failure(self, handle):
        return ""

    def close(self): ...


class ExecutesHereToo(Queue):
    """A job runs twice."""

    def submit(self, cid, number, execute):
        threading.Thread(target=execute, daemon=True).start()
        return super().submit(cid, number, execute)


class OneHandleForAll(Queue):
    """The user's name, say."""

    def submit(self, cid, number, execute):
        return cid


class NamesNothing(Queue):
    """No name is an empty text."""

    def submit(self, cid, number, execute):
        return None


class GivesUpAtOnce(Queue):
    """What is not found yet has failed."""

    def failure(self, handle):
        return f"there is no job {handle}"


class RaisesAsItCame(Queue):
    """The library's own errors."""

    def submit(self, cid, number, execute):
        if not self._home.exists():
            raise ConnectionError("nobody is there")
        return super().submit(cid, number, execute)


@hookimpl
def _raises(event):
    event.reason.encode("ascii")


@hookimpl
def _dawdles(event):
    time.sleep(0.03)


def _compute(kind):
    return plugin("gramian_compute", lambda _home: kind())


def _scheduler(kind):
    @hookimpl
    def gramian_scheduler(state):
        return kind(state, lambda: time.time(), poll_s=0.02)

    return SimpleNamespace(gramian_api="1", gramian_scheduler=gramian_scheduler)


drops_the_rest = _compute(DropsTheRest)
sums_about_zero = _compute(SumsAboutZero)
single_precision = _compute(SinglePrecision)
writes_into_the_rows = _compute(WritesIntoTheRows)
runs_at_once = plugin("gramian_job_runner", lambda _home: RunsAtOnce())
runs_twice = plugin("gramian_job_runner", lambda _home: RunsTwice())
dies_of_a_failure = plugin("gramian_job_runner", lambda _home: DiesOfAFailure())
forgets_the_old_entry = _scheduler(ForgetsTheOldEntry)
pulses_everything = _scheduler(PulsesEverything)
pulses_twice = _scheduler(PulsesTwice)
ignores_its_schedule = _scheduler(IgnoresItsSchedule)
pulses_once = _scheduler(PulsesOnce)
executes_here_too = plugin("gramian_job_runner", ExecutesHereToo)
one_handle_for_all = plugin("gramian_job_runner", OneHandleForAll)
names_nothing = plugin("gramian_job_runner", NamesNothing)
gives_up_at_once = plugin("gramian_job_runner", GivesUpAtOnce)
raises_as_it_came = plugin("gramian_job_runner", RaisesAsItCame)
stumbles_over_letters = SimpleNamespace(gramian_api="1", gramian_snapshot_refused=_raises)
dawdles = SimpleNamespace(
    gramian_api="1",
    gramian_model_built=_dawdles,
    gramian_snapshot_accepted=_dawdles,
    gramian_snapshot_published=_dawdles,
    gramian_federated_updated=_dawdles,
)
