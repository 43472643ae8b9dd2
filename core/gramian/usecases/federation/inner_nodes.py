"""Stored statistics by blocks, and the inner nodes of the merge that are kept between pulses.

An inner node is a blob; one item says which, by the digest of all that went into it. So any process of this node can
use them, and none has to: what is lost or damaged is added up anew from the snapshots.
"""

from __future__ import annotations

from gramian.domain import crypto
from gramian.domain.statistics import snapshot, trie
from gramian.domain.statistics.rows import Rows, rows_of
from gramian.errors import BlobCorrupt, BlobMissing, Refused
from gramian.node import Node
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import TRIE

WHOLE_BYTES = 16 * 2**20
"""Smaller snapshots are read at once, larger ones twice: when they are verified, and then by blocks."""


def load(node: Node, project: Project, blob: str) -> Rows:
    """A stored snapshot. Raises BlobMissing, BlobCorrupt; so may its `read` if it is large."""

    def read(start: int, size: int) -> bytes:
        return node.blobs.read(project.uid, blob, start, size)

    whole = read(0, WHOLE_BYTES)
    if len(whole) < WHOLE_BYTES:
        if crypto.sha256(whole) != blob:
            raise BlobCorrupt(f"the stored snapshot {blob} is damaged")
        return rows_of(snapshot.decode(whole))
    del whole
    try:
        rows, digest = snapshot.scan(read)
    except Refused as error:
        raise BlobCorrupt(f"the stored snapshot {blob} is damaged: {error}") from error
    if digest != blob:
        raise BlobCorrupt(f"the stored snapshot {blob} is damaged")
    return rows


class InnerNodes:
    """The cache of one merge: what earlier ones kept, and what this one adds."""

    def __init__(self, node: Node, project: Project) -> None:
        self._node = node
        self._project = project
        self._before = records.load_or(node.state, project.partition, TRIE, records.Trie()).record.nodes
        self._blobs = dict(self._before)

    def load(self, digest: str) -> Rows | None:
        if digest not in self._blobs:
            return None
        try:
            return load(self._node, self._project, self._blobs[digest])
        except (BlobMissing, BlobCorrupt, Refused):
            del self._blobs[digest]
            return None

    def keep(self, digest: str, value: Rows) -> Rows:
        """Raises BlobMissing if a snapshot goes while it is read."""
        self._blobs[digest] = self._node.blobs.put(self._project.uid, snapshot.encode(value))
        return load(self._node, self._project, self._blobs[digest])

    def kept(self, root: trie.Node, blob: str) -> records.Trie:
        """What is worth keeping: all that is part of this merge, whose own value is in `blob`."""
        parts = {part.digest for part in root.all() if part.is_kept}
        inner = {digest: known for digest, known in self._blobs.items() if digest in parts}
        return records.Trie({**inner, root.digest: blob})

    def superseded(self, kept: records.Trie) -> list[str]:
        """Blobs that were kept before and are no more."""
        return sorted({*self._before.values(), *self._blobs.values()} - set(kept.nodes.values()))
