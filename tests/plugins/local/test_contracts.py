"""The local plugins keep their contracts as installed: opened by name, in several processes, by the real clock."""

from __future__ import annotations

from gramian.testing import contract

TestState = contract("state.sqlite")
TestTokens = contract("tokens.sqlite")
TestBlobs = contract("blobs.files", time_resolution_s=0.02)
TestScheduler = contract("scheduler.local", environment={"GRAMIAN_LOCAL_POLL_S": "0.05"}, quiet_s=0.3)
TestJobs = contract("jobs.threads")
