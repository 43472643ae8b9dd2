"""Removing blobs that nothing points to any more."""

from __future__ import annotations

from collections.abc import Iterable

from gramian.domain import typed
from gramian.node import Node
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project

GRACE_S = 3600.0
"""A blob is stored before the item that points to it: younger ones may be about to be needed."""
_POINTERS = ("blob", "stored", "snapshot", "source")


def discard(node: Node, project: Project, superseded: Iterable[str]) -> None:
    """Remove these blobs unless something else points to the same content."""
    candidates = {digest for digest in superseded if digest}
    if candidates:
        for digest in candidates - _referenced(node, project):
            node.blobs.delete(project.uid, digest)


def sweep(node: Node, project: Project) -> None:
    """Remove whatever an interrupted call left behind."""
    old = [info.digest for info in node.blobs.list(project.uid) if info.modified_at + GRACE_S < node.clock()]
    discard(node, project, old)


def _referenced(node: Node, project: Project) -> set[str]:
    """Every digest that an item of the project names."""
    found: set[str] = set()
    for key, item in node.state.query(project.partition):
        if key.split("/")[0] in ("base", "delta", "publication", "peer", "federated", "model", "body", "upload"):
            fields = typed.decode(item.value, dict[str, object])
            found.update(str(fields[name]) for name in _POINTERS if fields.get(name))
        elif key == records.TRIE:
            found.update(typed.decode(item.value, records.Trie).nodes.values())
    return found
