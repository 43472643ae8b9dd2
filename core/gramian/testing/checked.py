"""The module that `gramian.testing.running` has pytest collect, with the suite that it put here."""

from __future__ import annotations

TestPlugin: type
