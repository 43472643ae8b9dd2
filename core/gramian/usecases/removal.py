"""Deleting a project, federated or not."""

from __future__ import annotations

from gramian.node import Node
from gramian.usecases.federation import members
from gramian.usecases.projects import lifecycle


def delete(node: Node, cid: str, pid: str) -> None:
    """Take the project out of its federation, then remove all of it. Raises InvalidRequest if there is none."""
    if lifecycle.exists(node, cid, pid):
        project = lifecycle.find(node, cid, pid)
        if project.record.federated:
            members.leave_for_good(node, project)
    lifecycle.delete(node, cid, pid)
