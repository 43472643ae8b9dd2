"""What a resident process does for all users at once."""

from __future__ import annotations

import pytest

from gramian.errors import InvalidRequest
from gramian.node import Node
from gramian.usecases import removal, upkeep, users
from gramian.usecases.federation import control
from gramian.usecases.projects import lifecycle


def test_one_project_that_cannot_pulse_keeps_no_other_from_it(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A roster that this version misreads in a way that nobody foresaw must not stop the server for all users."""
    pulsing = {pid: lifecycle.create(node, "c1", pid, kind="cpu", persist=True, options={}) for pid in "abc"}
    resumed = []

    def start(node: Node, cid: str, pid: str) -> None:
        if pid == "b":
            raise ValueError("not foreseen")
        resumed.append(pid)

    monkeypatch.setattr(upkeep, "pulsing", lambda node: pulsing)
    monkeypatch.setattr(control, "start_pulse", start)
    upkeep.resume(node)
    assert resumed == ["a", "c"]
    assert "not foreseen" in caplog.text


def test_project_that_cannot_be_dropped_keeps_no_other_from_it(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its user may have deleted it between the look and the deletion."""
    for pid in "abc":
        lifecycle.create(node, "c1", pid, kind="cpu", persist=False, options={})
    users.create(node, "c1")
    delete = removal.delete

    def deleted(node: Node, cid: str, pid: str) -> None:
        if pid == "b":
            raise InvalidRequest("somebody else was faster")
        delete(node, cid, pid)

    monkeypatch.setattr(removal, "delete", deleted)
    upkeep.at_stop(node)
    assert lifecycle.listed(node, "c1") == ["b"]
    assert "c1/b: it is not dropped: somebody else was faster" in caplog.text
