"""How local rows are kept: a folded base and an append-only list of deltas, each learn or forget adding one
(learns that come at the same moment one together).

Writers never wait for each other: a learn stores its blob, then one item. Readers take the base, the list and the base
again, and start over if a compaction came in between. Compaction names the deltas that it folded in the very item that
points to the new base, so a kill at any point neither loses nor counts a row twice. Imports no numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gramian.domain.statistics.schema import Schema
from gramian.errors import Unavailable
from gramian.node import Node
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import ATTRIBUTES, BASE, DELTA

READ_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class LocalState:
    """One consistent reading. `deltas` holds what is not folded yet, by id; `leftover` what an interrupted compaction
    folded and did not remove."""

    base: records.Stored[records.Base]
    deltas: dict[str, records.Stored[records.Delta]]
    leftover: dict[str, records.Stored[records.Delta]]

    @property
    def rows(self) -> int:
        """Rows learned and not forgotten."""
        return self.base.record.rows + sum(delta.record.rows for delta in self.deltas.values())

    @property
    def modified_at(self) -> int:
        """Unix milliseconds of the last learn or forget, 0 before the first."""
        return max([self.base.record.at, *(delta.record.at for delta in self.deltas.values())])

    def without(self, id_: str) -> LocalState:
        """The same without one delta."""
        return replace(self, deltas={other: delta for other, delta in self.deltas.items() if other != id_})


def attributes(node: Node, project: Project) -> records.Attributes:
    """The attributes in the order of their indexes."""
    return records.load_or(node.state, project.partition, ATTRIBUTES, records.Attributes()).record


def schema(node: Node, project: Project) -> Schema | None:
    """The schema of the node's own rows, None before it has any."""
    known = attributes(node, project)
    return Schema.of(zip(known.names, known.types, strict=True)) if known.names else None


def extended(learned: records.Attributes, names: Sequence[str], types: str) -> records.Attributes:
    """The node's own order of attributes, then those that only others have."""
    known = dict(zip(learned.names, learned.types, strict=True))
    for name, kind in zip(names, types, strict=True):
        known.setdefault(name, kind)
    return records.Attributes(list(known), "".join(known.values()))


def read(node: Node, project: Project) -> LocalState:
    """Raises Unavailable if compactions never let it."""
    for _ in range(READ_ATTEMPTS):
        base = records.load_or(node.state, project.partition, BASE, records.Base())
        listed = records.listed(node.state, project.partition, DELTA, records.Delta)
        again = records.load_or(node.state, project.partition, BASE, records.Base())
        if base.version == again.version:
            folded = set(base.record.folded)
            return LocalState(
                base,
                {id_: delta for id_, delta in listed.items() if id_ not in folded},
                {id_: delta for id_, delta in listed.items() if id_ in folded},
            )
    raise Unavailable("the project's rows change too quickly to be read; try again")
