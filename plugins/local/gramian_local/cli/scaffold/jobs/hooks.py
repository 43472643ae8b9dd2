"""Acme's runner of background jobs. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import JobRunner

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("workers", int, 2, minimum=1, maximum=64, help="Most jobs at once.")]


@hookimpl
def gramian_job_runner(options: Options) -> JobRunner:
    from gramian_acme.runner import AcmeJobRunner

    return AcmeJobRunner(options["workers"])
