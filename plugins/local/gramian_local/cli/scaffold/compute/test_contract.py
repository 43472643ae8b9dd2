"""The contract of compute backends, with all rows at once and in parts."""

from __future__ import annotations

from gramian.testing import contract

TestAcme = contract("compute.acme")
TestAcmeInParts = contract("compute.acme", environment={"GRAMIAN_ACME_MAX_ROWS": "333"})
