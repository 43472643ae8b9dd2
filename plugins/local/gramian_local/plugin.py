"""The hooks of the local plugins; each imports what it makes only when that is selected."""

from __future__ import annotations

from gramian.hookspecs import hookimpl
from gramian.ports import BlobStore, JobRunner, Scheduler, StateStore, TokenStore
from gramian.settings import Settings


@hookimpl
def gramian_state_store(settings: Settings) -> StateStore:
    from gramian_local.home import open_home
    from gramian_local.state import SqliteStateStore

    return SqliteStateStore(open_home(settings.home).database)


@hookimpl
def gramian_token_store(settings: Settings) -> TokenStore:
    from gramian_local.home import open_home
    from gramian_local.tokens import SqliteTokenStore

    return SqliteTokenStore(open_home(settings.home).database)


@hookimpl
def gramian_blob_store(settings: Settings) -> BlobStore:
    from gramian_local.blobs import FileBlobStore
    from gramian_local.home import open_home

    return FileBlobStore(open_home(settings.home).blobs)


@hookimpl
def gramian_scheduler(state: StateStore) -> Scheduler:
    from gramian_local.scheduler import LocalScheduler

    return LocalScheduler(state)


@hookimpl
def gramian_job_runner() -> JobRunner:
    from gramian_local.jobs import ThreadJobRunner

    return ThreadJobRunner()
