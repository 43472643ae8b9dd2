"""A state store at Acme's. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import StateStore

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [
        Option("path", Path, required=True, help="The file that holds all items."),
        Option("timeout_s", float, 10.0, minimum=0, help="Seconds to wait for other processes' writes."),
    ]


@hookimpl
def gramian_state_store(options: Options) -> StateStore:
    from gramian_acme.store import AcmeStateStore

    return AcmeStateStore(options["path"], timeout_s=options["timeout_s"])
