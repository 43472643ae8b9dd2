"""Contract of `gramian.ports.JobRunner`. Subclass, name the class `Test...`, and provide the fixture.

    class TestMyRunner(JobRunnerContract):
        @pytest.fixture
        def runner(self): ...   # closed by you when the test ends

A runner that has jobs executed elsewhere (`patience_s` above 0) runs the tests of submitting only: what happens there
is tested where it happens. They submit a few jobs of a user `contract`, of which nothing is known where they are
executed, unless the fixture `new_job` makes some.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import pytest

from gramian.errors import Unavailable
from gramian.ports import JobRunner
from gramian.testing.state import race

NewJob: TypeAlias = Callable[[], tuple[str, int]]
SUBMITTED = 4
"""Jobs at once: one that is executed elsewhere may cost something."""


class JobRunnerContract:
    """What every job runner does. See the module for how to use it."""

    settle_s = 10.0
    """How long a submitted job may take to be run."""
    quiet_s = 0.2
    """How long nothing must happen for a test to believe that nothing will."""
    unavailable_s = 80.0
    """How long it may take to learn that nobody can be reached."""

    @pytest.fixture
    def runner(self) -> JobRunner:
        raise NotImplementedError("provide `runner`: a runner to test")

    @pytest.fixture
    def local(self, runner: JobRunner) -> JobRunner:
        if runner.patience_s > 0:
            pytest.skip("this runner has jobs executed elsewhere")
        return runner

    @pytest.fixture
    def remote(self, runner: JobRunner) -> JobRunner:
        if runner.patience_s <= 0:
            pytest.skip("this runner executes jobs in this process")
        return runner

    @pytest.fixture
    def new_job(self) -> NewJob:
        """Makes jobs that a runner can be given: (cid, number). Override it for one that looks at their records."""
        numbers = count(1)
        return lambda: ("contract", next(numbers))

    @pytest.fixture
    def unreachable(self) -> JobRunner:
        """A runner that reaches nobody."""
        pytest.skip("no runner that reaches nobody was given (`unreachable`)")

    # In this process

    def test_submit_returns_before_the_job_is_done(self, local: JobRunner) -> None:
        """Submitting is part of a request; the job is not."""
        release, done = threading.Event(), threading.Event()

        def execute() -> None:
            release.wait(self.settle_s)
            done.set()

        assert isinstance(local.submit("c", 1, execute), str)
        assert not done.is_set()
        release.set()
        assert done.wait(self.settle_s)

    def test_every_job_is_executed_once(self, local: JobRunner) -> None:
        """Also when many threads submit at once."""
        executed: list[int] = []

        def submit(thread: int) -> None:
            for job in range(10 * thread, 10 * thread + 10):
                self._note(local, executed, job)

        race(8, submit)
        self._eventually(lambda: len(executed) >= 80)
        time.sleep(0.05)
        assert sorted(executed) == list(range(80))

    def test_failing_job_stops_no_other(self, local: JobRunner) -> None:
        """What a job raises is its own affair: its record tells."""
        executed: list[int] = []

        def fail() -> None:
            raise RuntimeError("on purpose")

        for number in range(5):
            local.submit("c", number, fail)
            self._note(local, executed, number)
        self._eventually(lambda: len(executed) == 5)

    def test_handle_of_a_job_that_went_well_has_no_failure(self, local: JobRunner) -> None:
        """Only what is certain is told."""
        done = threading.Event()
        handle = local.submit("c", 1, done.set)
        assert done.wait(self.settle_s)
        assert local.failure(handle) == ""

    def test_closed_runner_takes_no_more(self, runner: JobRunner) -> None:
        """The server stops: callers are told to come back. Closing may be repeated."""
        if runner.patience_s > 0:
            pytest.skip("jobs that are executed elsewhere can be submitted as long as the process runs")
        runner.close()
        runner.close()
        with pytest.raises(Unavailable):
            runner.submit("c", 1, lambda: None)

    # Elsewhere

    def test_job_for_elsewhere_is_not_executed_here(self, remote: JobRunner, new_job: NewJob) -> None:
        """It would be executed twice."""
        executed = threading.Event()
        assert isinstance(remote.submit(*new_job(), executed.set), str)
        assert not executed.wait(self.quiet_s)

    def test_jobs_submitted_at_once_have_handles_of_their_own(self, remote: JobRunner, new_job: NewJob) -> None:
        """If they have any: one that has begun is not the failure of another."""
        made = [new_job() for _ in range(SUBMITTED)]
        handles = race(SUBMITTED, lambda number: remote.submit(*made[number], lambda: None))
        named = [handle for handle in handles if handle]
        assert len(set(named)) == len(named)
        assert len(named) in (0, SUBMITTED)

    def test_job_that_has_just_begun_has_no_failure(self, remote: JobRunner, new_job: NewJob) -> None:
        """It may end well: callers wait for it."""
        assert remote.failure(remote.submit(*new_job(), lambda: None)) == ""

    def test_runner_that_reaches_nobody_says_so_in_time(self, unreachable: JobRunner, new_job: NewJob) -> None:
        """As a refusal that may be repeated later, for no record waits then."""
        started = time.monotonic()
        with pytest.raises(Unavailable):
            unreachable.submit(*new_job(), lambda: None)
        assert time.monotonic() - started < self.unavailable_s

    def _note(self, runner: JobRunner, executed: list[int], number: int) -> None:
        runner.submit("c", number, lambda: executed.append(number))

    def _eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.settle_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {self.settle_s} s"
            time.sleep(0.01)
