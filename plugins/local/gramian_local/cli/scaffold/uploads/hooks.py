"""Uploads at Acme's. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import UploadStore

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [
        Option("path", Path, required=True, help="The directory that holds all uploads."),
        Option("host", default="127.0.0.1", help="The address at which users reach this machine."),
    ]


@hookimpl
def gramian_upload_store(options: Options) -> UploadStore:
    from gramian_acme.store import AcmeUploadStore

    return AcmeUploadStore(options["path"], options["host"])
