"""The backend on numpy keeps the contract of all compute backends."""

from __future__ import annotations

from gramian.testing import contract

TestNumpy = contract("compute.numpy")
