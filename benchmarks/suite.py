"""`python -m benchmarks.suite NAME`: one benchmark in this process, its rows as JSON on standard output."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys

NAMES = ("library", "http_learn", "rounds", "sync", "load", "start", "push", "transport", "members", "curve")
"""Modules of this package with a `run` that returns rows."""
LONG = ("widest",)
"""Those that run only when they are named: they take minutes, and gigabytes of memory."""


def note(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main(name: str) -> None:
    rows = importlib.import_module(f"benchmarks.{name}").run()
    json.dump([dataclasses.asdict(row) for row in rows], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
