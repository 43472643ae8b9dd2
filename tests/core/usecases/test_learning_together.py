"""Small batches that come at the same moment: learned as one, answered each for itself."""

from __future__ import annotations

import numpy as np
import pytest

from gramian.errors import InvalidRequest, StoreError
from gramian.usecases.projects import folding, ledger, lifecycle
from gramian.usecases.projects import rows as local

COLUMNS = (("x", "C"), ("y", "C"), ("flag", "B"))


@pytest.fixture
def learned_at_once(node, project, at_once):
    """Futures of learns that all wait, in this order, until the block ends."""
    return lambda *calls: at_once(local._learners.at((id(node), project.uid, COLUMNS)), *calls)


def test_batches_of_one_moment_are_one_delta(node, project, learned_at_once, assert_holds, frame, rows) -> None:
    """Of all their rows."""
    batches = [rows(seed, 10) for seed in range(8)]
    calls = [lambda batch=batch: local.learn(node, project, frame(batch)) for batch in batches]
    with learned_at_once(*calls) as futures:
        pass
    assert [future.result() for future in futures] == [None] * 8
    (delta,) = ledger.read(node, project).deltas.values()
    assert delta.record.rows == 80
    assert_holds(np.vstack(batches))


def test_batch_that_was_learned_among_others_can_be_forgotten(
    node, project, learned_at_once, assert_holds, frame, rows
) -> None:
    """Its rows are subtracted: the delta is not its own."""
    batches = [rows(seed, 10) for seed in range(4)]
    calls = [lambda batch=batch: local.learn(node, project, frame(batch)) for batch in batches]
    with learned_at_once(*calls):
        pass
    local.forget(node, project, frame(batches[2]))
    assert_holds(np.vstack([batches[0], batches[1], batches[3]]))


def test_batch_with_unusable_values_is_refused_alone(node, project, learned_at_once, assert_holds, frame, rows) -> None:
    """Those that came with it count."""
    good, bad = [rows(1), rows(2)], rows(3)
    bad[0, 0] = 1e80
    calls = [lambda batch=batch: local.learn(node, project, frame(batch)) for batch in (good[0], bad, good[1])]
    with learned_at_once(*calls) as (first, refused, last):
        pass
    assert (first.result(), last.result()) == (None, None)
    with pytest.raises(InvalidRequest, match="'x'"):
        refused.result()
    assert_holds(np.vstack(good))


def test_repetition_that_comes_with_its_first_call_counts_once(
    node, project, learned_at_once, assert_holds, frame, rows
) -> None:
    """And one of a call that counted before counts no more, whoever comes with it."""
    old, new, other = rows(1), rows(2), rows(3)
    local.learn(node, project, frame(old), "op1")
    calls = [
        lambda: local.learn(node, project, frame(old), "op1"),
        lambda: local.learn(node, project, frame(new), "op2"),
        lambda: local.learn(node, project, frame(other)),
        lambda: local.learn(node, project, frame(new), "op2"),
    ]
    with learned_at_once(*calls) as futures:
        pass
    assert [future.result() for future in futures] == [None] * 4
    local.learn(node, project, frame(new), "op2")
    assert_holds(np.vstack([old, new, other]))


def test_trouble_of_the_store_reaches_everyone(node, project, learned_at_once, frame, rows, monkeypatch) -> None:
    """Nobody is told that rows count which do not, the repetition of a call neither."""

    def full(*_writes) -> None:
        raise StoreError("the disk is full")

    calls = [lambda seed=seed: local.learn(node, project, frame(rows(seed)), f"op{seed // 2}") for seed in range(4)]
    with learned_at_once(*calls) as futures:
        monkeypatch.setattr(node.state, "write", full)
    for future in futures:
        with pytest.raises(StoreError, match="disk is full"):
            future.result()
    monkeypatch.undo()
    assert folding.moments(node, project) is None


def test_project_that_is_deleted_meanwhile_acknowledges_nobody(node, project, learned_at_once, frame, rows) -> None:
    """And keeps nothing of what they sent."""
    calls = [lambda seed=seed: local.learn(node, project, frame(rows(seed))) for seed in range(3)]
    with learned_at_once(*calls) as futures:
        lifecycle.delete(node, "c1", "p1")
    for future in futures:
        with pytest.raises(InvalidRequest, match="Cannot Find"):
            future.result()
    assert node.state.query(project.partition) == []


def test_more_batches_than_one_group_of_writes_takes_all_count(
    node, project, learned_at_once, assert_holds, frame, rows
) -> None:
    """Each with a mark of its own."""
    batches = [rows(seed, 5) for seed in range(2 * local.MOST_TOGETHER + 3)]
    calls = [
        lambda batch=batch, number=number: local.learn(node, project, frame(batch), f"op{number}")
        for number, batch in enumerate(batches)
    ]
    with learned_at_once(*calls) as futures:
        pass
    assert {future.result() for future in futures} == {None}
    assert_holds(np.vstack(batches))


def test_large_batch_waits_for_nobody(node, project, learned_at_once, assert_holds, frame, rows) -> None:
    """Its arithmetic runs beside that of others."""
    large = rows(1, local.SMALL_CELLS)
    with learned_at_once(lambda: local.learn(node, project, frame(rows(2)))) as (small,):
        local.learn(node, project, frame(large))
        assert_holds(large)
    small.result()
    assert_holds(np.vstack([large, rows(2)]))
