"""The local plugins keep their contracts as installed: opened by name, in several processes, by the real clock."""

from __future__ import annotations

import pytest

from gramian.testing import contract
from gramian.testing.clock import ShiftedClock
from gramian_local.scheduler import LocalScheduler

# A home cannot lie below a file.
NOWHERE = {"GRAMIAN_HOME": "/dev/null/home"}

TestState = contract("state.sqlite", unreachable=NOWHERE)
TestTokens = contract("tokens.sqlite", unreachable=NOWHERE)
TestBlobs = contract("blobs.files", time_resolution_s=0.02, unreachable={"GRAMIAN_FILES_PATH": "/dev/null/blobs"})
TestJobs = contract("jobs.threads")
TestIdentity = contract("identity.home", end_s=0.5, unreachable=NOWHERE)
TestUploads = contract("uploads.files", unreachable={"GRAMIAN_FILES_PATH": "/dev/null/uploads"})


class TestScheduler(contract("scheduler.local", environment={"GRAMIAN_LOCAL_POLL_S": "0.05"}, quiet_s=0.3)):
    """With a clock that can be put forward."""

    @pytest.fixture
    def clock(self, scheduler: LocalScheduler, monkeypatch: pytest.MonkeyPatch) -> ShiftedClock:
        clock = ShiftedClock()
        monkeypatch.setattr(scheduler, "_clock", clock)
        return clock
