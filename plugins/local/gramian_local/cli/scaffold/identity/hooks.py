"""The node's key at Acme's. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Identity

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("path", Path, required=True, help="The directory that holds the node's key.")]


@hookimpl
def gramian_identity(options: Options) -> Identity:
    from gramian_acme.identity import AcmeIdentity

    return AcmeIdentity(options["path"])
