"""Local rows: nothing lost, nothing counted twice, whatever happens at the same time or in the middle."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gramian.errors import InvalidRequest, StoreError
from gramian.usecases import records
from gramian.usecases.projects import blobs, folding, ledger, lifecycle
from gramian.usecases.projects import rows as local


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture(params=[0, local.INLINE_BYTES], ids=["blobs", "items"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where batches are kept: each in a blob of its own, or in the items that list them."""
    monkeypatch.setattr(local, "INLINE_BYTES", request.param)


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch):
    """Ends the call at a named step, as a kill of the process would."""

    def arm(name: str) -> None:
        def step(reached: str) -> None:
            if reached == name:
                arm("")
                raise Killed

        for module in (local, folding):
            monkeypatch.setattr(module, "step", step)

    return arm


@pytest.mark.usefixtures("kept")
def test_many_batches_are_folded_and_count_once(node, project, assert_holds, frame, rows) -> None:
    """More batches than a compaction leaves unfolded."""
    batches = [rows(seed, 10) for seed in range(3 * folding.COMPACT_AT)]
    for batch in batches:
        local.learn(node, project, frame(batch))
    assert_holds(np.vstack(batches))
    assert len(ledger.read(node, project).deltas) < folding.COMPACT_AT


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "step", ["learn.blob", "learn.commit", "compaction.blob", "compaction.commit", "compaction.discard"]
)
def test_call_that_dies_at_any_step_leaves_whole_batches(
    node, project, assert_holds, frame, rows, kill_at, step: str
) -> None:
    """In or out, never half, never twice; later learns and compactions go on, and no blob is orphaned for good."""
    first, second, third = rows(1), rows(2), rows(3)
    local.learn(node, project, frame(first))
    kill_at(step)
    call = folding.compact if step.startswith("compaction") else local.learn
    if call is folding.compact:
        local.learn(node, project, frame(second))
    with pytest.raises(Killed):
        call(node, project, *([] if call is folding.compact else [frame(second)]))
    counted = [first] if step == "learn.blob" else [first, second]
    assert_holds(np.vstack(counted))
    local.learn(node, project, frame(third))
    folding.compact(node, project)
    assert_holds(np.vstack([*counted, third]))
    node.__dict__["clock"] = lambda: 2e9
    blobs.sweep(node, project)
    assert len(list(node.blobs.list(project.uid))) == 1


def test_forget_of_a_listed_batch_leaves_no_rounding(node, project, frame, rows) -> None:
    """The batch is dropped: exactly the statistics without it."""
    local.learn(node, project, frame(rows(1)))
    before = folding.moments(node, project)
    local.learn(node, project, frame(rows(2) * [1e6, 1e6, 1]))
    local.forget(node, project, frame(rows(2) * [1e6, 1e6, 1]))
    after = folding.moments(node, project)
    np.testing.assert_array_equal(after.P, before.P)


def test_forget_of_folded_rows_subtracts_them(node, project, assert_holds, frame, rows) -> None:
    """Any rows that were learned, in any grouping."""
    learned = rows(1, 100)
    local.learn(node, project, frame(learned))
    folding.compact(node, project)
    local.forget(node, project, frame(learned[10:35]))
    assert_holds(np.vstack([learned[:10], learned[35:]]))


def test_forget_that_loses_digits_names_the_attribute(node, project, frame, rows) -> None:
    """The info shows which variances have become doubtful."""
    learned = rows(1, 100)
    huge = learned.copy()
    huge[:, 0] *= 1e9
    local.learn(node, project, frame(np.vstack([learned, huge])))
    folding.compact(node, project)
    assert ledger.read(node, project).base.record.doubtful == []
    local.forget(node, project, frame(huge))
    assert ledger.read(node, project).base.record.doubtful == ["x"]


def test_forget_of_rows_that_were_never_learned_is_refused_and_changes_nothing(
    node, project, assert_holds, frame, rows
) -> None:
    """More rows, other values, unknown attributes, an empty project."""
    with pytest.raises(InvalidRequest, match="never learned"):
        local.forget(node, project, frame(rows(1)))
    local.learn(node, project, frame(rows(1)))
    for wrong in (rows(9, 60), rows(9, 10) + np.array([1000, 0, 0])):
        with pytest.raises(InvalidRequest, match="cannot forget these rows"):
            local.forget(node, project, frame(wrong))
    with pytest.raises(InvalidRequest, match="never learned"):
        local.forget(node, project, frame(rows(1), names=["x", "y", "other"]))
    assert_holds(rows(1))


def test_forget_of_a_batch_of_which_rows_are_gone_already_is_refused(
    node, project, assert_holds, frame, rows, kill_at
) -> None:
    """Dropping the whole batch would leave a forget of rows that are not there."""
    learned = rows(1, 50)
    local.learn(node, project, frame(learned))
    kill_at("learn.commit")
    with pytest.raises(Killed):
        local.forget(node, project, frame(learned[:10]))
    with pytest.raises(InvalidRequest, match="cannot forget these rows"):
        local.forget(node, project, frame(learned))
    assert_holds(learned[10:])


def test_forget_during_a_compaction_is_not_undone_by_it(node, project, assert_holds, frame, rows, monkeypatch) -> None:
    """The compaction has already read the batch that is dropped while it runs."""
    local.learn(node, project, frame(rows(1)))
    local.learn(node, project, frame(rows(2)))
    put, done = node.blobs.put, []

    def put_slowly(space: str, data: bytes) -> str:
        if not done:
            done.append(True)
            local.forget(node, project, frame(rows(2)))
        return put(space, data)

    monkeypatch.setattr(node.blobs, "put", put_slowly)
    folding.compact(node, project)
    assert_holds(rows(1))


def test_two_forgets_that_are_possible_alone_do_not_both_succeed(
    node, project, assert_holds, frame, rows, monkeypatch
) -> None:
    """The second decides on what the first left."""
    learned = rows(1, 50)
    local.learn(node, project, frame(learned))
    folding.compact(node, project)
    check, done = local._check_foldable, []

    def check_slowly(*args) -> None:
        check(*args)
        if not done:
            done.append(True)
            local.forget(node, project, frame(learned[:40]))

    monkeypatch.setattr(local, "_check_foldable", check_slowly)
    with pytest.raises(InvalidRequest):
        local.forget(node, project, frame(learned[:40]))
    assert_holds(learned[40:])


def test_repeated_operation_counts_once_even_after_a_compaction(node, project, assert_holds, frame, rows) -> None:
    """For learn and forget, also where the batch was dropped meanwhile."""
    for _ in range(2):
        local.learn(node, project, frame(rows(1)), "op1")
        folding.compact(node, project)
    local.learn(node, project, frame(rows(2)), "op2")
    for _ in range(2):
        local.forget(node, project, frame(rows(2)), "op3")
    local.learn(node, project, frame(rows(2)), "op2")
    assert_holds(rows(1))


def test_new_attributes_are_missing_in_earlier_rows(node, project, frame, rows) -> None:
    """And attributes that a later frame lacks are missing there."""
    local.learn(node, project, frame(rows(1)))
    local.learn(node, project, frame(rows(2)[:, :1], names=["z"], types=["C"]))
    found = folding.moments(node, project)
    assert found.schema.names == ("x", "y", "z", "flag")
    assert found.n == 80
    assert ledger.attributes(node, project).names == ["x", "y", "flag", "z"]


def test_attribute_with_another_type_is_refused(node, project, frame, rows) -> None:
    """Names both types."""
    local.learn(node, project, frame(rows(1)))
    with pytest.raises(InvalidRequest, match="'flag' has type B in this project, not C"):
        local.learn(node, project, frame(rows(1), types=["C", "C", "C"]))


def test_frame_without_rows_adds_nothing(node, project, frame, rows) -> None:
    """Not even its names."""
    local.learn(node, project, frame(rows(1)[:0]))
    assert ledger.attributes(node, project).names == []
    assert folding.moments(node, project) is None


def test_learn_into_a_project_that_is_deleted_meanwhile_is_not_acknowledged(
    node, project, frame, rows, monkeypatch
) -> None:
    """And leaves nothing behind."""
    monkeypatch.setattr(local, "INLINE_BYTES", 0)
    put = node.blobs.put

    def put_and_delete(space: str, data: bytes) -> str:
        digest = put(space, data)
        lifecycle.delete(node, "c1", "p1")
        return digest

    monkeypatch.setattr(node.blobs, "put", put_and_delete)
    with pytest.raises(InvalidRequest, match="Cannot Find"):
        local.learn(node, project, frame(rows(1)))
    assert node.state.query(project.partition) == []
    assert list(node.blobs.list(project.uid)) == []


def test_damaged_list_of_batches_is_the_stores_fault(node, project, frame, rows) -> None:
    """A forget without its rows (a store restored in parts) is no 400 and no crash."""
    local.learn(node, project, frame(rows(1)))
    (id_, delta), *_ = ledger.read(node, project).deltas.items()
    wrong = msgspec.structs.replace(delta.record, rows=-40)
    node.state.write(records.put(project.partition, records.DELTA + id_, wrong, "*"))
    with pytest.raises(StoreError, match="do not add up"):
        folding.moments(node, project)
