"""The minimum-rows rules: when a node may publish (protocol.md, sharing rules in the core).

Units are batches: each learn, each forget. A unit that is in one published epoch is in every later one (a
published batch is never dropped again, only countered by a later forget), so all units fall into groups by the first
epoch that contains them, and differences of epochs are sums of whole groups: it is enough that each new group passes.
"""

from __future__ import annotations

from dataclasses import dataclass

EXTRA_ROWS = 5


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of the units that no published epoch contains yet."""

    added: int
    removed: int


def minimum_rows(attributes: int) -> int:
    """m = attributes + 5, counted before any one-hot expansion."""
    return attributes + EXTRA_ROWS


def obstacle(attributes: int, rows: int, group: Group) -> str | None:
    """Why publishing now would reveal too much, in words with the missing rows; None if nothing stands against it."""
    m = minimum_rows(attributes)
    if rows < m:
        return f"{m - rows} more rows needed: {rows} rows are fewer than {m} (attributes + {EXTRA_ROWS})"
    if 0 < group.added < m:
        return f"{m - group.added} more learned rows needed: {group.added} since the last sync are fewer than {m}"
    if 0 < group.removed < m:
        return f"{m - group.removed} more forgotten rows needed: {group.removed} since the last sync are fewer than {m}"
    change = abs(group.added - group.removed)
    if change < m:
        return f"{m - change} more rows needed: learned and forgotten rows since the last sync differ by only {change}"
    return None
