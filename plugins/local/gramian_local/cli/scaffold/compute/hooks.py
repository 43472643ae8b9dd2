"""Statistics on Acme's processors. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Compute

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("max_rows", int, 1_000_000, minimum=1, help="Most rows that are moved to the processor at once.")]


@hookimpl
def gramian_compute(options: Options) -> Compute:
    from gramian_acme.compute import AcmeCompute

    return AcmeCompute(options["max_rows"])
