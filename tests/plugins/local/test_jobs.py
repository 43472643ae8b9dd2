"""Jobs on threads."""

from __future__ import annotations

import threading
import time

import pytest

from gramian.errors import Unavailable
from gramian_local import jobs as jobs_module
from gramian_local.jobs import ThreadJobRunner

HANG = """
import threading
from gramian_local.jobs import ThreadJobRunner
runner = ThreadJobRunner(grace_s=0.1)
started = threading.Event()
runner.submit("c1", 1, lambda: (started.set(), threading.Event().wait()))
started.wait()
runner.close()
"""


def test_jobs_run_in_order_on_one_worker(eventually):
    """First come, first served."""
    runner = ThreadJobRunner(workers=1)
    done = []
    for number in range(20):
        runner.submit("c1", 1, lambda number=number: done.append(number))
    eventually(lambda: len(done) == 20)
    runner.close()
    assert done == list(range(20))


def test_jobs_run_side_by_side_on_two_workers():
    """Two jobs that wait for each other both end; a third waits its turn."""
    runner = ThreadJobRunner(workers=2)
    meeting = threading.Barrier(2, timeout=10)
    met = []
    for _ in range(4):
        runner.submit("c1", 1, lambda: met.append(meeting.wait()))
    while len(met) < 4:
        time.sleep(0.005)
    runner.close()
    assert sorted(met) == [0, 0, 1, 1]


def test_failing_job_is_logged_and_the_next_runs(eventually, caplog):
    """No job takes a worker with it."""
    runner = ThreadJobRunner(workers=1)
    done = threading.Event()

    def fail():
        raise RuntimeError("broken job")

    runner.submit("c1", 1, fail)
    runner.submit("c1", 1, done.set)
    assert done.wait(10)
    runner.close()
    assert "broken job" in caplog.text


def test_close_waits_for_running_and_drops_queued(caplog):
    """What has begun may end; what has not is left to the next start."""
    runner = ThreadJobRunner(workers=1)
    started, done, dropped = threading.Event(), threading.Event(), []

    def run():
        started.set()
        time.sleep(0.1)
        done.set()

    runner.submit("c1", 1, run)
    runner.submit("c1", 1, lambda: dropped.append(1))
    started.wait(10)
    runner.close()
    runner.close()
    assert done.is_set()
    assert dropped == []
    assert caplog.text.count("1 queued jobs were dropped") == 1
    with pytest.raises(Unavailable, match="stopping"):
        runner.submit("c1", 1, run)


def test_close_waits_no_longer_than_its_bound(caplog):
    """A job that hangs must not hold the server up."""
    runner = ThreadJobRunner(workers=1, grace_s=0.05)
    started, release = threading.Event(), threading.Event()
    runner.submit("c1", 1, lambda: (started.set(), release.wait(10)))
    started.wait(10)
    before = time.monotonic()
    runner.close()
    assert time.monotonic() - before < 5
    assert "still running" in caplog.text
    release.set()


def test_hanging_job_lets_the_process_end(spawn):
    """Its thread is a daemon."""
    assert spawn(HANG).wait(20) == 0


def test_submit_beyond_limit_is_unavailable(monkeypatch):
    """A flood of requests must not fill the memory."""
    monkeypatch.setattr(jobs_module, "MAX_QUEUED", 2)
    runner = ThreadJobRunner(workers=1)
    started, release = threading.Event(), threading.Event()
    runner.submit("c1", 1, lambda: (started.set(), release.wait(10)))
    started.wait(10)
    runner.submit("c1", 1, lambda: None)
    runner.submit("c1", 1, lambda: None)
    with pytest.raises(Unavailable, match="try again later"):
        runner.submit("c1", 1, lambda: None)
    release.set()
    runner.close()
