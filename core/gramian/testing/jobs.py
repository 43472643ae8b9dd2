"""Contract of `gramian.ports.JobRunner`. Subclass, name the class `Test...`, and provide the fixture.

    class TestMyRunner(JobRunnerContract):
        @pytest.fixture
        def runner(self): ...   # closed by you when the test ends

It is about runners that execute in this process. One that has jobs executed elsewhere (`patience_s` above 0) runs only
the tests of submitting: what happens there is tested where it happens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from gramian.errors import Unavailable
from gramian.ports import JobRunner
from gramian.testing.state import race


class JobRunnerContract:
    """What every job runner does. See the module for how to use it."""

    settle_s = 10.0
    """How long a submitted job may take to be run."""

    @pytest.fixture
    def runner(self) -> JobRunner:
        raise NotImplementedError("provide `runner`: a runner to test")

    @pytest.fixture
    def local(self, runner: JobRunner) -> JobRunner:
        if runner.patience_s > 0:
            pytest.skip("this runner has jobs executed elsewhere")
        return runner

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

    def _note(self, runner: JobRunner, executed: list[int], number: int) -> None:
        runner.submit("c", number, lambda: executed.append(number))

    def _eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.settle_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {self.settle_s} s"
            time.sleep(0.01)
