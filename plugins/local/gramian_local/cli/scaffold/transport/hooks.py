"""Gramian over Acme's bus. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Transport

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("poll_s", float, 0.05, minimum=0.001, help="Seconds between two looks for nudges.")]


@hookimpl
def gramian_transport(options: Options) -> Transport:
    from gramian_acme.transport import AcmeTransport

    return AcmeTransport(poll_s=options["poll_s"])
