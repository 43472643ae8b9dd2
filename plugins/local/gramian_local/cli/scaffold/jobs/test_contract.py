"""The contract of job runners."""

from __future__ import annotations

from gramian.testing import contract

TestAcme = contract("jobs.acme")
