"""The minimum-rows rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain.protocol.sharing import Group, minimum_rows, obstacle


@pytest.mark.parametrize(
    ("rows", "added", "removed", "words"),
    [
        (14, 14, 0, "1 more rows needed"),
        (15, 15, 0, None),
        (29, 14, 0, "1 more learned rows"),
        (30, 15, 0, None),
        (100, 0, 14, "1 more forgotten rows"),
        (100, 0, 15, None),
        (100, 20, 18, "13 more rows needed"),
        (100, 30, 15, None),
        (100, 0, 0, "15 more rows needed"),
    ],
)
def test_group_of_ten_attributes(rows: int, added: int, removed: int, words: str | None) -> None:
    """m = 15: below it nothing is published, and the text says how many rows are missing."""
    reason = obstacle(10, rows, Group(added, removed))
    assert (reason is None) if words is None else (reason is not None and words in reason)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(1, 20))
def test_no_sum_of_published_groups_isolates_few_rows_of_one_epoch(
    batches: list[tuple[int, int]], attributes: int
) -> None:
    """Whatever arrives, each published difference adds and removes 0 or at least m rows."""
    m, rows, group, published = minimum_rows(attributes), 0, Group(0, 0), []
    for added, removed in batches:
        removed = min(removed, rows + added)
        rows += added - removed
        group = Group(group.added + added, group.removed + removed)
        if obstacle(attributes, rows, group) is None:
            published.append(group)
            group = Group(0, 0)
    assert all(g.added == 0 or g.added >= m for g in published)
    assert all(g.removed == 0 or g.removed >= m for g in published)
    assert all(abs(g.added - g.removed) >= m for g in published)
