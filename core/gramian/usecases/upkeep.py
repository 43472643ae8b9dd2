"""What a resident process does for all users: finish interrupted work, drop what was not to be kept, tidy up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from gramian.errors import GramianError
from gramian.node import Node
from gramian.usecases import removal, users
from gramian.usecases.federation import control, found
from gramian.usecases.projects import blobs, lifecycle, uploads
from gramian.usecases.projects.lifecycle import Project

log = logging.getLogger(__name__)


def at_start(node: Node) -> None:
    """Finish deletions that were interrupted, and drop the unpersisted projects of processes that died."""
    lifecycle.sweep_all(node)
    drop_unpersisted(node, lambda project: not node.instance_alive(project.record.instance))


def at_stop(node: Node) -> None:
    """Drop the unpersisted projects of this process."""
    drop_unpersisted(node, lambda project: project.record.instance == node.instance)


def resume(node: Node) -> None:
    """After a restart: what was pulsing pulses on, and what it missed happens now, once."""
    pulsed = pulsing(node).values()
    _each("its pulse is not resumed", pulsed, lambda project: control.start_pulse(node, project.cid, project.pid))


def pulsing(node: Node) -> dict[str, Project]:
    """All pulsing projects of this node's users, by uid."""
    return {
        project.uid: project
        for project in all_projects(node)
        if project.record.federated and control.is_pulsing(node, project)
    }


def tidy(node: Node) -> None:
    """Remove what interrupted calls left behind: blobs here, and places of federations in the transport."""
    lifecycle.sweep_all(node)
    _each("blobs that nobody needs stay", all_projects(node), lambda project: blobs.sweep(node, project))
    found.sweep(node)
    node.uploads.expire(node.clock() - uploads.KEEP_S)


def all_projects(node: Node) -> Iterator[Project]:
    for cid in users.listed(node):
        yield from lifecycle.of_user(node, cid)


def drop_unpersisted(node: Node, is_over: Callable[[Project], bool]) -> None:
    """Delete the `persist=false` projects whose time is over."""
    over = (project for project in all_projects(node) if not project.record.persist and is_over(project))
    _each("it is not dropped", over, lambda project: removal.delete(node, project.cid, project.pid))


def _each(otherwise: str, projects: Iterable[Project], work: Callable[[Project], object]) -> None:
    """Do `work` for all. What one of them holds comes from others too: it may keep no other project from it."""
    for project in projects:
        try:
            work(project)
        except GramianError as error:
            log.warning("%s/%s: %s: %s", project.cid, project.pid, otherwise, error)
        except Exception:
            log.exception("%s/%s: %s", project.cid, project.pid, otherwise)
