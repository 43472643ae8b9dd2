"""The hooks of the local plugins; each imports what it makes only when that is selected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import BlobStore, Identity, JobRunner, Scheduler, StateStore, TokenStore, UploadStore
from gramian.settings import Settings

gramian_api = "1"

_BUSY: Final = Option("busy_timeout_s", float, 10.0, minimum=0, help="Seconds to wait for other processes' writes.")
_GRACE: Final = Option("grace_s", float, 10.0, minimum=0, help="Seconds that stopping waits for what still runs.")
_OPTIONS: Final[dict[str, tuple[Option, ...]]] = {
    "identity.home": (),
    "state.sqlite": (_BUSY,),
    "tokens.sqlite": (_BUSY,),
    "blobs.files": (Option("path", Path, help="Directory of the blobs.  [default: blobs, in the home]"),),
    "uploads.files": (Option("path", Path, help="Directory of the uploads.  [default: uploads, in the home]"),),
    "scheduler.local": (
        Option("max_pulses", int, 4, minimum=1, maximum=64, help="Most pulses at once in one process."),
        Option("poll_s", float, 2.0, minimum=0.01, help="Seconds until what another process scheduled is seen."),
        _GRACE,
    ),
    "jobs.threads": (
        Option("workers", int, 2, minimum=1, maximum=64, help="Most background jobs at once in one process."),
        _GRACE,
    ),
}


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return _OPTIONS[f"{kind}.{name}"]


@hookimpl
def gramian_identity(settings: Settings) -> Identity:
    from gramian_local.home import open_home
    from gramian_local.instance import HomeIdentity

    return HomeIdentity(open_home(settings.home))


@hookimpl
def gramian_state_store(settings: Settings, options: Options) -> StateStore:
    from gramian_local.home import open_home
    from gramian_local.state import SqliteStateStore

    return SqliteStateStore(open_home(settings.home).database, busy_timeout_s=options["busy_timeout_s"])


@hookimpl
def gramian_token_store(settings: Settings, options: Options) -> TokenStore:
    from gramian_local.home import open_home
    from gramian_local.tokens import SqliteTokenStore

    return SqliteTokenStore(open_home(settings.home).database, busy_timeout_s=options["busy_timeout_s"])


@hookimpl
def gramian_blob_store(settings: Settings, options: Options) -> BlobStore:
    from gramian_local.blobs import FileBlobStore
    from gramian_local.home import open_home

    return FileBlobStore(options["path"] or open_home(settings.home).blobs)


@hookimpl
def gramian_upload_store(settings: Settings, options: Options) -> UploadStore:
    from gramian_local.home import open_home
    from gramian_local.uploads import FileUploadStore

    home = open_home(settings.home)
    return FileUploadStore(options["path"] or home.uploads, home.master_key)


@hookimpl
def gramian_scheduler(options: Options, state: StateStore) -> Scheduler:
    from gramian_local.scheduler import LocalScheduler

    return LocalScheduler(state, poll_s=options["poll_s"], grace_s=options["grace_s"], max_pulses=options["max_pulses"])


@hookimpl
def gramian_job_runner(options: Options) -> JobRunner:
    from gramian_local.jobs import ThreadJobRunner

    return ThreadJobRunner(options["workers"], grace_s=options["grace_s"])
