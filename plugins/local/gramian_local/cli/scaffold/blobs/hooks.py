"""A blob store at Acme's. Importing this package is cheap: what it needs is imported when a node uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import BlobStore

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("path", Path, required=True, help="The directory that holds all blobs.")]


@hookimpl
def gramian_blob_store(options: Options) -> BlobStore:
    from gramian_acme.store import AcmeBlobStore

    return AcmeBlobStore(options["path"])
