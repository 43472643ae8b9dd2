"""The error log of a federation: what peers do wrong leaves room for everything else."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from gramian.node import Node
from gramian.usecases.federation import journal
from gramian.usecases.projects.lifecycle import Project


def later_each_time(node: Node) -> Node:
    """The node with a clock that goes on by a second whenever it is read."""
    seconds = itertools.count(1_700_000_000)
    return dataclasses.replace(node, clock=lambda: float(next(seconds)))


def test_reasons_that_differ_in_numbers_are_one_line_with_the_newest(node: Node, project: Project) -> None:
    """A peer chooses the numbers: heads of 5,000, 5,001, ... bytes are one thing that goes wrong."""
    for size in range(5000, 5010):
        journal.error(node, project, f"the head has {size} bytes", "aa")
    (line,) = journal.error_lines(node, project)
    assert "peer aa: the head has 5009 bytes (10 times since" in line


def test_peer_that_is_refused_for_ever_new_reasons_pushes_nothing_else_out(
    node: Node, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its lines the newest stay, of everybody else's all."""
    monkeypatch.setattr(journal, "MAX_LINES", 60)
    node = later_each_time(node)
    journal.error(node, project, "the disk is full")
    journal.error(node, project, "the head is not signed by it", "honest")
    for number in range(100):
        journal.error(node, project, f"attribute {'x' * (number + 1)} is unknown", "liar")
    lines = journal.error_lines(node, project)
    assert len(lines) == 2 + journal.MAX_PEER_LINES
    assert sum("the disk is full" in line for line in lines) == sum("peer honest" in line for line in lines) == 1
    assert "x" * 100 in lines[-1]


def test_log_keeps_its_newest_lines(node: Node, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever they are of."""
    monkeypatch.setattr(journal, "MAX_LINES", 30)
    node = later_each_time(node)
    for number in range(50):
        journal.error(node, project, f"no {'x' * number} here", f"{number:02d}" if number % 2 else "")
    lines = journal.error_lines(node, project)
    assert len(lines) == 30
    assert "x" * 49 in lines[-1]
