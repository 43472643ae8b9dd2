"""Files learned in chunks: once, wholly, and on from where a dead process stopped."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest

from gramian.domain.tables import csv_table, table
from gramian.errors import InvalidRequest, TooLarge, Unavailable
from gramian.node import Node
from gramian.ports import JobRunner
from gramian.usecases import jobs, upkeep
from gramian.usecases.projects import blobs, folding, ledger, lifecycle, uploads
from gramian.usecases.projects import rows as local_rows
from gramian.usecases.projects.lifecycle import Project


class Elsewhere(JobRunner):
    """Jobs run when a test says so."""

    patience_s = 3600.0

    def __init__(self) -> None:
        self.submitted: list[int] = []

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        self.submitted.append(number)
        return ""

    def close(self) -> None:
        pass


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def node(node: Node) -> Node:
    return dataclasses.replace(node, jobs=Elsewhere())


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 10 rows, each noted; types from the first 10."""
    monkeypatch.setattr(csv_table, "SAMPLE_ROWS", 10)
    monkeypatch.setattr(table, "LEAST_ROWS", 10)
    monkeypatch.setattr(table, "CHUNK_ROWS", 10)
    monkeypatch.setattr(uploads, "CHECKPOINT_S", 0.0)


@pytest.fixture
def sent(node: Node, project: Project) -> Callable[..., str]:
    """Creates an upload and sends its bytes."""

    def send(data: bytes, kind: str = "csv") -> str:
        made = uploads.create(node, project, kind, len(data))
        query = made.ticket.url.partition("?")[2]
        node.uploads.receive(project.uid, made.id, query, io.BytesIO(data), len(data))
        return made.id

    return send


def csv_of(rows: np.ndarray, names: tuple[str, ...] = ("x", "y", "flag")) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([repr(float(cell)) for cell in row] for row in rows)
    return text.getvalue().encode()


def learn(node: Node, project: Project, id_: str, columns: uploads.Columns | None = None) -> jobs.Job:
    number = uploads.learn(node, project, id_, columns)
    jobs.execute(node, project.cid, number)
    return jobs.find(node, project.cid, number)


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Ends the process at a step, on its n-th passage."""

    def arm(name: str, passage: int = 1) -> None:
        passed = []

        def step(at: str) -> None:
            if at == name:
                passed.append(at)
                if len(passed) == passage:
                    raise Killed

        monkeypatch.setattr(uploads, "step", step)

    return arm


def test_file_is_learned_as_its_rows_would_be(node: Node, project: Project, sent, rows, frame) -> None:
    """Statistics equal those of one batch, nothing of the file is left, and progress says what was done."""
    data = rows(1, 95)
    id_ = sent(csv_of(data))
    job = learn(node, project, id_)
    assert (job.error, job.progress.text) == ("", "95 rows learned")
    other = lifecycle.create(node, "c1", "p2", kind="cpu", persist=True, options={})
    local_rows.learn(node, other, frame(data))
    found, expected = folding.moments(node, project), folding.moments(node, other)
    assert found.schema == expected.schema
    assert found.n == 95
    for name in ("s", "P"):
        assert_close = np.testing.assert_allclose
        assert_close(_plain(found, name), _plain(expected, name), rtol=1e-12)
    assert ledger.attributes(node, project).names == ["x", "y", "flag"]
    assert node.uploads.find(project.uid, id_) is None
    assert list(node.blobs.list(project.uid)) == []


def _plain(m, name: str) -> np.ndarray:
    """Sums of raw values, whatever the origin is."""
    from gramian.domain.statistics import merge

    raw = merge.rebase(m, np.zeros(m.size))
    return np.asarray(getattr(raw, name))


@pytest.mark.parametrize("name", ["upload.blob", "upload.noted", "upload.learned"])
@pytest.mark.parametrize("passage", [1, 3])
def test_killed_job_goes_on_and_counts_once(
    node: Node, project: Project, sent, rows, killed_at, name: str, passage: int
) -> None:
    """At any step, by the same job in another process."""
    data = rows(1, 95)
    id_ = sent(csv_of(data))
    number = uploads.learn(node, project, id_, None)
    killed_at(name, passage if name != "upload.learned" else 1)
    with pytest.raises(Killed):
        jobs.execute(dataclasses.replace(node, instance="dead"), "c1", number)
    killed_at("none")
    noted = uploads._load(node, project, id_).record
    assert noted.learned == (name == "upload.learned")
    if name == "upload.noted":
        assert noted.rows == 10 * passage
    jobs.execute(node, "c1", number)
    assert jobs.find(node, "c1", number).error == ""
    assert ledger.read(node, project).rows == 95
    late = dataclasses.replace(node, clock=lambda: node.clock() + 2 * blobs.GRACE_S)
    blobs.sweep(late, project)
    assert list(node.blobs.list(project.uid)) == []


def test_another_job_goes_on_where_the_first_stopped(node: Node, project: Project, sent, rows, killed_at) -> None:
    """The first was found dead by somebody who asked; its caller asks again."""
    id_ = sent(csv_of(rows(1, 95)))
    first = uploads.learn(node, project, id_, None)
    killed_at("upload.noted", 4)
    with pytest.raises(Killed):
        jobs.execute(dataclasses.replace(node, instance="dead"), "c1", first)
    assert "stopped" in jobs.find(node, "c1", first).error
    killed_at("none")
    second = uploads.learn(node, project, id_, None)
    assert second != first
    read = []
    chunks = node.compute.accumulate
    spied = dataclasses.replace(node)
    spied._made["compute.numpy"] = _Spy(chunks, read)
    jobs.execute(spied, "c1", second)
    assert (sum(read), ledger.read(node, project).rows) == (55, 95)
    assert uploads.learn(node, project, id_, None) == second


class _Spy:
    def __init__(self, accumulate, read: list[int]) -> None:
        self._accumulate, self._read = accumulate, read

    def accumulate(self, rows, schema):
        self._read.append(len(rows))
        return self._accumulate(rows, schema)


def test_job_that_runs_out_of_time_goes_on_in_another_process(node: Node, project: Project, sent, rows) -> None:
    """As functions with 15 minutes do."""
    id_ = sent(csv_of(rows(1, 95)))
    number = uploads.learn(node, project, id_, None)
    for executions in range(1, 5):
        jobs.execute(node, "c1", number, until=0.0)
        assert uploads._load(node, project, id_).record.rows == 10 * executions
        assert not jobs.find(node, "c1", number).is_done
    assert node.jobs.submitted == [number] * 5
    late = dataclasses.replace(node, clock=lambda: node.clock() + 3000)
    jobs.execute(late, "c1", number, until=0.0)
    much_later = dataclasses.replace(node, clock=lambda: node.clock() + 6000)
    assert not jobs.find(much_later, "c1", number).is_done  # it has waited for 50 minutes, an hour is allowed
    assert jobs.find(node, "c1", number).progress.text == "50 rows read"
    jobs.execute(node, "c1", number)
    assert ledger.read(node, project).rows == 95


def test_job_that_cannot_go_on_elsewhere_fails_and_its_place_is_kept(
    node: Node, project: Project, sent, rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing vanishes without a word; learned again, it goes on."""
    id_ = sent(csv_of(rows(1, 95)))
    number = uploads.learn(node, project, id_, None)

    def full(*_: object) -> str:
        raise Unavailable("1000 jobs are waiting already")

    with monkeypatch.context() as patch:
        patch.setattr(node.jobs, "submit", full)
        jobs.execute(node, "c1", number, until=0.0)
    assert "1000 jobs are waiting already; submit it again" in jobs.find(node, "c1", number).error
    assert uploads._load(node, project, id_).record.rows == 10
    assert learn(node, project, id_).error == ""
    assert ledger.read(node, project).rows == 95


def test_file_of_another_size_is_refused(node: Node, project: Project, sent, rows) -> None:
    """A store that does not check it must not decide how much a node reads."""
    id_ = sent(csv_of(rows(1, 5)))
    stored = uploads._load(node, project, id_)
    other = uploads.msgspec.structs.replace(stored.record, size_bytes=3)
    node.state.write(uploads._put(project, id_, other, stored.version))
    with pytest.raises(InvalidRequest, match="3 were announced"):
        uploads.learn(node, project, id_, None)


def test_mistake_in_the_last_row_adds_nothing(node: Node, project: Project, sent, rows) -> None:
    """The message names it; with that column left out the same file is learned."""
    id_ = sent(csv_of(rows(1, 25)) + b"1.0,oops,1.0\r\n")
    job = learn(node, project, id_)
    assert job.error == "row 26, attribute 'y': 'oops' is not a number"
    assert ledger.read(node, project).rows == 0
    assert ledger.attributes(node, project).names == []
    job = learn(node, project, id_, uploads.Columns(["flag", "x"], ["b", "C"]))
    assert (job.error, job.progress.text) == ("", "26 rows learned; ignored: y")
    assert ledger.attributes(node, project) == uploads.records.Attributes(["x", "flag"], "CB")


def test_other_types_start_over(node: Node, project: Project, sent, rows) -> None:
    """What was read as other columns is worth nothing."""
    id_ = sent(csv_of(rows(1, 25)))
    number = uploads.learn(node, project, id_, None)
    jobs.execute(node, "c1", number, until=0.0)
    jobs._finish(node, "c1", number, "cut short")
    assert learn(node, project, id_, uploads.Columns(["x"], ["C"])).error == ""
    assert folding.moments(node, project).schema.names == ("x",)
    assert ledger.read(node, project).rows == 25
    assert list(node.blobs.list(project.uid)) == []


def test_damaged_note_of_what_was_read_starts_over(node: Node, project: Project, sent, rows) -> None:
    """It is worth no more than one that is gone; else the file could never be learned."""
    id_ = sent(csv_of(rows(1, 25)))
    number = uploads.learn(node, project, id_, None)
    jobs.execute(node, "c1", number, until=0.0)
    noted = uploads._load(node, project, id_).record
    node.blobs._path(project.uid, noted.blob).write_bytes(b"damaged")
    jobs.execute(node, "c1", number)
    assert jobs.find(node, "c1", number).error == ""
    assert ledger.read(node, project).rows == 25
    assert list(node.blobs.list(project.uid)) == []


def test_types_of_the_project_hold(node: Node, project: Project, sent, rows, frame) -> None:
    """A column of zeros and ones that the project knows as a number is one; a clash is refused."""
    local_rows.learn(node, project, frame(rows(1), types=("C", "C", "C")))
    assert learn(node, project, sent(csv_of(rows(2)))).error == ""
    job = learn(node, project, sent(csv_of(rows(2))), uploads.Columns(["flag"], ["B"]))
    assert "has type C in this project, not B" in job.error


def test_two_processes_that_read_one_file_count_it_once(node: Node, project: Project, sent, rows) -> None:
    """One was taken for dead and was not: its notes no longer hold."""
    id_ = sent(csv_of(rows(1, 95)))
    number = uploads.learn(node, project, id_, None)
    job = jobs._claim(node, "c1", number)
    zombie = jobs.Task(node, "c1", number, job)
    accumulate, raced = node.compute.accumulate, []

    def race(rows, schema):
        if not raced:
            raced.append(True)
            jobs.execute(node, "c1", number)
        return accumulate(rows, schema)

    node._made["compute.numpy"] = type("Racing", (), {"accumulate": staticmethod(race)})()
    with pytest.raises(Unavailable, match="another process"):
        uploads.run(zombie)
    assert ledger.read(node, project).rows == 95


def test_file_that_has_not_arrived_cannot_be_learned(node: Node, project: Project) -> None:
    """Nor one that nobody announced."""
    made = uploads.create(node, project, "csv", 10)
    with pytest.raises(InvalidRequest, match="has not arrived yet: PUT it"):
        uploads.learn(node, project, made.id, None)
    with pytest.raises(InvalidRequest, match="has no upload 'ffff'"):
        uploads.learn(node, project, "ffff", None)


def test_create_is_bounded(node: Node, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in number, and for known formats."""
    with pytest.raises(InvalidRequest, match="the format 'xlsx' is not known; send csv"):
        uploads.create(node, project, "xlsx", 10)
    for size in (0, node.settings.upload_limit_bytes + 1):
        with pytest.raises(TooLarge, match="an upload may have 1 to 5368709120 bytes"):
            uploads.create(node, project, "csv", size)
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 2)
    first = uploads.create(node, project, "csv", 10)
    uploads.create(node, project, "csv", 10)
    with pytest.raises(InvalidRequest, match="learn or delete them first"):
        uploads.create(node, project, "csv", 10)
    uploads.delete(node, project, first.id)
    uploads.create(node, project, "csv", 10)


def test_deleted_upload_leaves_nothing(node: Node, project: Project, sent, rows) -> None:
    """Neither the file nor what was read of it."""
    id_ = sent(csv_of(rows(1, 25)))
    number = uploads.learn(node, project, id_, None)
    jobs.execute(node, "c1", number, until=0.0)
    uploads.delete(node, project, id_)
    assert node.uploads.find(project.uid, id_) is None
    assert list(node.blobs.list(project.uid)) == []
    jobs.execute(node, "c1", number)
    assert "has no upload" in jobs.find(node, "c1", number).error


def test_deleted_project_takes_its_uploads_along(node: Node, project: Project, sent, rows) -> None:
    """They hold rows."""
    id_ = sent(csv_of(rows(1, 25)))
    lifecycle.delete(node, "c1", "p1")
    assert node.uploads.find(project.uid, id_) is None


def test_forgotten_upload_expires(node: Node, project: Project, sent, rows) -> None:
    """After a week, by the hourly tidying."""
    id_ = sent(csv_of(rows(1, 25)))
    upkeep.tidy(node)
    assert node.uploads.find(project.uid, id_) is not None
    late = dataclasses.replace(node, clock=lambda: node.clock() + uploads.KEEP_S + 60)
    upkeep.tidy(late)
    assert node.uploads.find(project.uid, id_) is None


def test_empty_file_is_learned_as_nothing(node: Node, project: Project, sent) -> None:
    """A header alone."""
    job = learn(node, project, sent(b"x,y\r\n"))
    assert (job.error, job.progress.text) == ("", "0 rows learned")
    assert ledger.attributes(node, project).names == []
