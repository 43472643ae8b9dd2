"""Acme's scheduler of pulses. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Scheduler, StateStore

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("poll_s", float, 1.0, minimum=0.01, help="Seconds between two looks for what is due.")]


@hookimpl
def gramian_scheduler(options: Options, state: StateStore) -> Scheduler:
    from gramian_acme.scheduler import AcmeScheduler

    return AcmeScheduler(state, poll_s=options["poll_s"])
