"""The contract of schedulers."""

from __future__ import annotations

from gramian.testing import contract

TestAcme = contract("scheduler.acme", environment={"GRAMIAN_ACME_POLL_S": "0.05"})
