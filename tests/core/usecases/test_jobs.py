"""Jobs as records: anybody who has the stores can run one."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from gramian.errors import ConditionFailed, InvalidRequest, StoreError, Unavailable
from gramian.node import Node
from gramian.ports import JobRunner, Put
from gramian.usecases import jobs
from gramian.usecases.modeling import context, models
from gramian.usecases.projects import batches, blobs, describe, ledger, lifecycle
from gramian.usecases.projects import rows as local_rows
from gramian.usecases.projects.lifecycle import Project

NAMES, TYPES = ["x", "y", "flag"], ["C", "C", "B"]
CALLED: list[jobs.Task] = []


class Elsewhere(JobRunner):
    """Has jobs run by other processes: here, by whoever calls `execute` later."""

    patience_s = 3600.0

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int]] = []
        self.failures: dict[str, str] = {}
        self.names_jobs = True

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        self.submitted.append((cid, number))
        return f"handle-{number}" if self.names_jobs else ""

    def failure(self, handle: str) -> str:
        return self.failures.get(handle, "")

    def close(self) -> None:
        pass


class Full(Elsewhere):
    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        raise Unavailable("1000 jobs are waiting already: try again later.")


class Nothing(msgspec.Struct, frozen=True):
    """No arguments."""


def called(task: jobs.Task) -> None:
    CALLED.append(task)
    task.progress(1, 4, "a quarter")


def broken(task: jobs.Task) -> None:
    raise ZeroDivisionError("secret detail")


def stored_badly(task: jobs.Task) -> None:
    raise StoreError("/var/lib/gramian/gramian.db cannot be written: no space left on device")


def refused(task: jobs.Task) -> None:
    raise InvalidRequest("column 'x' is odd")


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLED.clear()
    # The very module that pytest runs, whatever it is called there.
    here = {name: (called.__module__, name) for name in ("called", "broken", "stored_badly", "refused")}
    monkeypatch.setattr(jobs, "KINDS", jobs.KINDS | here)
    monkeypatch.setattr(jobs, "import_module", _importing)


def _importing(name: str) -> object:
    import importlib
    import sys

    return sys.modules[name] if name == called.__module__ and name in sys.modules else importlib.import_module(name)


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def away(node: Node, elsewhere: Elsewhere) -> Node:
    """The node with a runner that does nothing by itself."""
    return dataclasses.replace(node, jobs=elsewhere)


@pytest.fixture
def other(away: Node) -> Node:
    """Another process on the same stores; both are alive."""
    return dataclasses.replace(away, instance="0" * 32, instance_alive=lambda id_: id_ in (away.instance, "0" * 32))


def body(rows: np.ndarray) -> bytes:
    data = [[repr(float(cell)) for cell in row] for row in rows]
    return json.dumps({"attributeNames": NAMES, "attributeTypes": TYPES, "data": data}).encode()


def test_list_of_jobs_is_read_at_once(
    away: Node, elsewhere: Elsewhere, project: Project, rows: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over DynamoDB a read for each of some thousand jobs would take longer than an answer may."""
    numbers = [batches.submit(away, project, "learn", body(rows(seed)), None) for seed in (1, 2, 3)]
    jobs.execute(away, "c1", numbers[0])
    monkeypatch.setattr(type(away.state), "get", lambda *_: pytest.fail("read one by one"))
    listed = jobs.listed(away, "c1")
    assert list(listed) == numbers
    assert [job.is_done for job in listed.values()] == [True, False, False]


def test_job_of_another_process_learns_and_frees_its_body(
    away: Node, other: Node, elsewhere: Elsewhere, project: Project, rows: Callable[..., np.ndarray]
) -> None:
    """What a batch needs stands in the stores; nothing of it is left afterwards."""
    number = batches.submit(away, project, "learn", body(rows(1)), None)
    assert elsewhere.submitted == [("c1", number)]
    waiting = jobs.find(away, "c1", number)
    assert (waiting.is_started, waiting.is_done, waiting.handle) == (False, False, f"handle-{number}")
    jobs.execute(other, "c1", number)
    job = jobs.find(away, "c1", number)
    assert (job.is_done, job.error, job.instance) == (True, "", other.instance)
    assert ledger.read(away, project).rows == 40
    assert away.state.query(project.partition, "body/") == []
    assert list(away.blobs.list(project.uid)) == []


def test_job_executed_again_after_a_kill_counts_its_rows_once(
    away: Node, other: Node, project: Project, rows: Callable[..., np.ndarray]
) -> None:
    """The first process died after it had counted them; its record says that it runs."""
    number = batches.submit(away, project, "learn", body(rows(1)), None)
    dead = dataclasses.replace(other, instance="dead", jobs=away.jobs)
    job = jobs._claim(dead, "c1", number)
    assert job is not None
    batches.learn(jobs.Task(dead, "c1", number, job))
    jobs.execute(other, "c1", number)
    assert jobs.find(other, "c1", number).error == ""
    assert ledger.read(other, project).rows == 40


def test_build_runs_elsewhere(
    away: Node, other: Node, project: Project, frame: Callable, rows: Callable[..., np.ndarray]
) -> None:
    """From names in the record alone."""
    local_rows.learn(away, project, frame(rows(1)))
    wanted = context.parse(b'{"targetAttributeNames": ["y"]}')
    number = models.build(away, "c1", "p1", "m", "mlr", wanted)
    assert describe.info(away, project)["modelsList"] == []
    jobs.execute(other, "c1", number)
    assert describe.info(away, project)["modelsList"] == ["m"]


def test_job_that_runs_elsewhere_is_not_run_twice(away: Node, other: Node, project: Project) -> None:
    """A message delivered twice finds the job taken, and later done."""
    number = jobs.submit(away, "c1", "called", Nothing(), project=project)
    assert jobs._claim(other, "c1", number) is not None
    here = dataclasses.replace(away, instance_alive=other.instance_alive)
    jobs.execute(here, "c1", number)
    assert CALLED == []
    jobs.execute(other, "c1", number)
    jobs.execute(other, "c1", number)
    assert len(CALLED) == 1


def test_progress_is_seen_while_the_job_runs_and_after(away: Node, project: Project) -> None:
    """In the record, for whoever asks."""
    number = jobs.submit(away, "c1", "called", Nothing(), project=project)
    assert jobs.find(away, "c1", number).progress == jobs.Progress()
    jobs.execute(away, "c1", number)
    assert jobs.find(away, "c1", number).progress == jobs.Progress(1, 4, "a quarter")


def test_unexpected_error_is_told_in_general_words_only(away: Node, caplog: pytest.LogCaptureFixture) -> None:
    """The runner sees it, the log has it, the user does not."""
    number = jobs.submit(away, "c1", "broken", Nothing())
    with pytest.raises(ZeroDivisionError):
        jobs.execute(away, "c1", number)
    assert jobs.find(away, "c1", number).error == "an unexpected error; the server's log has it"
    assert "secret detail" in caplog.text


def test_words_of_a_store_are_for_the_log(away: Node, caplog: pytest.LogCaptureFixture) -> None:
    """They name places of the machine; users are told what an endpoint would tell them."""
    number = jobs.submit(away, "c1", "stored_badly", Nothing())
    jobs.execute(away, "c1", number)
    assert jobs.find(away, "c1", number).error == "a store of this node is out of order, try again later"
    assert "no space left on device" in caplog.text


def test_refusal_is_the_jobs_error(away: Node) -> None:
    """In its own words."""
    number = jobs.submit(away, "c1", "refused", Nothing())
    jobs.execute(away, "c1", number)
    assert jobs.find(away, "c1", number).error == "column 'x' is odd"


def test_job_of_a_dead_process_has_failed_and_frees_its_body(
    away: Node, elsewhere: Elsewhere, project: Project, rows: Callable[..., np.ndarray]
) -> None:
    """Seen by whoever asks first, unless its runner knows better."""
    elsewhere.names_jobs = False
    number = batches.submit(away, project, "learn", body(rows(1)), None)
    jobs._claim(dataclasses.replace(away, instance="dead"), "c1", number)
    assert "stopped" in jobs.find(away, "c1", number).error
    assert away.state.query(project.partition, "body/") == []
    assert list(away.blobs.list(project.uid)) == []


def test_job_that_its_runner_gave_up_has_failed(away: Node, elsewhere: Elsewhere) -> None:
    """A container that was reclaimed says nothing itself."""
    number = jobs.submit(away, "c1", "called", Nothing())
    elsewhere.failures[f"handle-{number}"] = "the machine was reclaimed"
    assert jobs.find(away, "c1", number).error == "the machine was reclaimed"


def test_job_that_nobody_takes_up_fails_in_the_end(away: Node, elsewhere: Elsewhere) -> None:
    """Its message was lost."""
    elsewhere.names_jobs = False
    number = jobs.submit(away, "c1", "called", Nothing())
    late = dataclasses.replace(away, clock=lambda: away.clock() + elsewhere.patience_s + 1)
    assert not jobs.find(away, "c1", number).is_done
    assert "in time" in jobs.find(late, "c1", number).error


def test_refused_job_leaves_nothing_behind(node: Node, project: Project, rows: Callable[..., np.ndarray]) -> None:
    """Neither a record nor its body."""
    full = dataclasses.replace(node, jobs=Full())
    for _ in range(2):
        with pytest.raises(Unavailable, match="try again later"):
            batches.submit(full, project, "learn", body(rows(1)), "operation")
    assert jobs.listed(full, "c1") == {}
    assert list(full.blobs.list(project.uid)) == []


def test_operation_leads_to_one_job_unless_that_failed(
    away: Node, elsewhere: Elsewhere, project: Project, rows: Callable[..., np.ndarray]
) -> None:
    """Repeated while it waits and after it is done; a failed one is made again, and the rows count once."""
    data = body(rows(1))
    first = batches.submit(away, project, "learn", data, "operation")
    assert batches.submit(away, project, "learn", data, "operation") == first
    elsewhere.failures[f"handle-{first}"] = "reclaimed"
    second = batches.submit(away, project, "learn", data, "operation")
    assert second != first
    jobs.execute(away, "c1", second)
    assert batches.submit(away, project, "learn", data, "operation") == second
    assert elsewhere.submitted == [("c1", first), ("c1", second)]
    assert ledger.read(away, project).rows == 40
    assert list(away.blobs.list(project.uid)) == []


def test_racing_repetitions_lead_to_one_job(away: Node, elsewhere: Elsewhere, project: Project) -> None:
    """Of eight threads one submits it."""
    barrier = threading.Barrier(8)

    def submit() -> int:
        barrier.wait(10)
        return batches.submit(away, project, "learn", b"{}", "operation")

    with ThreadPoolExecutor(8) as pool:
        numbers = {future.result() for future in [pool.submit(submit) for _ in range(8)]}
    assert len(numbers) == 1
    assert len(elsewhere.submitted) == 1
    assert len(list(away.blobs.list(project.uid))) == 1


def test_writes_that_do_not_hold_keep_the_job_from_existing(away: Node, elsewhere: Elsewhere, project: Project) -> None:
    """They are of one group with its record."""
    with pytest.raises(ConditionFailed):
        jobs.submit(
            away, "c1", "called", Nothing(), project=project, also=lambda number: [Put("p", "k", b"", f"gone {number}")]
        )
    assert jobs.listed(away, "c1") == {}
    assert elsewhere.submitted == []


def test_body_of_a_waiting_job_is_not_swept(away: Node, other: Node, project: Project, rows: Callable) -> None:
    """However long it waits."""
    number = batches.submit(away, project, "learn", body(rows(1)), None)
    late = dataclasses.replace(away, clock=lambda: away.clock() + 2 * blobs.GRACE_S)
    blobs.sweep(late, project)
    jobs.execute(other, "c1", number)
    assert jobs.find(away, "c1", number).error == ""


def test_job_of_a_deleted_project_fails(away: Node, project: Project, rows: Callable[..., np.ndarray]) -> None:
    """Also if there is a new one under the same name, which must not get its rows."""
    number = batches.submit(away, project, "learn", body(rows(1)), None)
    lifecycle.delete(away, "c1", "p1")
    again = lifecycle.create(away, "c1", "p1", kind="cpu", persist=True, options={})
    jobs.execute(away, "c1", number)
    assert "deleted" in jobs.find(away, "c1", number).error
    assert ledger.read(away, again).rows == 0


def test_record_of_an_older_version_is_read(away: Node) -> None:
    """Homes outlive versions."""
    old = b'{"kind":"build","instance":"gone","started_at":1,"is_done":true,"error":"no"}'
    away.state.write(Put("jobs/c1", "job/000000000007", old))
    assert jobs.find(away, "c1", 7).error == "no"
