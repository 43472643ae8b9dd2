"""Every hook of Gramian. A plugin is a module with `@hookimpl` functions, published as an entry point.

Entry-point group `gramian`, name `<kind>.<name>`: only the entry points that the settings select are imported, so a
plugin costs nothing until it is used. The module says `gramian_api = "1"`: the version of these hooks and of
`gramian.ports` that it was written for.

Each docstring says when its hook is called, which plugin wins, what it returns and what it may raise. A hook is a plain
function: it takes the arguments that it needs, by their names here, without defaults, and returns its value (neither
`async` nor `yield`). A hook that makes an object may return None only by mistake, and what it raises besides the errors
that its docstring names is a mistake too: both become a PluginError that names the plugin and the hook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from gramian.options import Option, Options

if TYPE_CHECKING:
    from gramian.events import FederatedUpdated, ModelBuilt, SnapshotAccepted, SnapshotPublished, SnapshotRefused
    from gramian.ports import (
        BlobStore,
        Compute,
        Identity,
        JobRunner,
        Scheduler,
        StateStore,
        TokenStore,
        Transport,
        UploadStore,
    )
    from gramian.settings import Settings

__all__ = ["API", "Option", "Options", "hookimpl", "hookspec"]

API = "1"
"""Grows when a plugin that worked would work no more; modules name it as `gramian_api`."""

hookspec = pluggy.HookspecMarker("gramian")
hookimpl = pluggy.HookimplMarker("gramian")


@hookspec(firstresult=True)
def gramian_options(kind: str, name: str) -> Sequence[Option] | None:
    """Declare the options of the plugin `<kind>.<name>`.

    Called whenever the plugin is loaded: at the start, before its object is made, and when it is shown. Must not do any
    work.
    Wins: the plugin itself; no other is asked.
    Returns the options, as a list. Their values come from `GRAMIAN_<NAME>_<OPTION>` (two kinds of one name share those
    that both declare) and reach the hooks below as `options`. A plugin without options leaves this hook out.
    Raises nothing; Option raises ValueError for what is no declaration.
    """


@hookspec(firstresult=True)
def gramian_transport(settings: Settings, options: Options) -> Transport | None:
    """Make the transport.

    Called once per process, when a federation first uses it. Connect later, in `open`: this must be cheap.
    Wins: of those that `GRAMIAN_TRANSPORT` names, the one that claims the keys of the federation's map; the first of
    them if none does.
    Returns the transport; the node closes it.
    Raises PluginError if what it needs is absent.
    """


@hookspec(firstresult=True)
def gramian_compute(settings: Settings, options: Options) -> Compute | None:
    """Make the backend that turns rows into moments.

    Called once per process, when rows are first computed.
    Wins: the plugin that `GRAMIAN_COMPUTE` names; no other is asked.
    Returns the backend; several threads use it.
    Raises PluginError if its hardware or library is absent.
    """


@hookspec(firstresult=True)
def gramian_identity(settings: Settings, options: Options) -> Identity | None:
    """Find the node's master key, making it if this is the node's first process.

    Called once per process, at its start, before every other hook that makes an object.
    Wins: the plugin that `GRAMIAN_IDENTITY` names; no other is asked.
    Returns the identity; the node closes it last.
    Raises StoreError, also when the node has data but its key is gone, and PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_state_store(settings: Settings, options: Options) -> StateStore | None:
    """Open the state store.

    Called once per process, at its start, after the identity's hook.
    Wins: the plugin that `GRAMIAN_STATE` names; no other is asked.
    Returns the store; the node closes it.
    Raises StoreError if it cannot be opened, and PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_token_store(settings: Settings, options: Options) -> TokenStore | None:
    """Open the token store.

    Called once per process, at its start, after the state store's hook.
    Wins: the plugin that `GRAMIAN_TOKENS` names; no other is asked.
    Returns the store; the node closes it.
    Raises StoreError if it cannot be opened, and PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_blob_store(settings: Settings, options: Options) -> BlobStore | None:
    """Open the blob store.

    Called once per process, at its start, after the token store's hook.
    Wins: the plugin that `GRAMIAN_BLOBS` names; no other is asked.
    Returns the store; the node closes it.
    Raises StoreError if it cannot be opened, and PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_scheduler(settings: Settings, options: Options, state: StateStore) -> Scheduler | None:
    """Make the scheduler of pulses; `state` is the node's state store, for those that keep entries there.

    Called once per process, at its start, after the stores' hooks.
    Wins: the plugin that `GRAMIAN_SCHEDULER` names; no other is asked.
    Returns the scheduler; one that runs pulses in this process is a ResidentScheduler, which the node starts and stops.
    Raises PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_job_runner(settings: Settings, options: Options) -> JobRunner | None:
    """Make the runner of background jobs.

    Called once per process, at its start, after the scheduler's hook; for GPU jobs and syncs when first used.
    Wins: the plugin that `GRAMIAN_JOBS` names, `GRAMIAN_GPU_JOBS` for jobs that want a GPU, `GRAMIAN_SYNC_JOBS` for
    syncs that a user asks for.
    Returns the runner; its threads, if it has any, end with `close`.
    Raises PluginError if it cannot work as configured.
    """


@hookspec(firstresult=True)
def gramian_upload_store(settings: Settings, options: Options) -> UploadStore | None:
    """Open the store of uploads: large files that users send past the REST API.

    Called once per process, when first used.
    Wins: the plugin that `GRAMIAN_UPLOADS` names; no other is asked.
    Returns the store; the node closes it.
    Raises StoreError if it cannot be opened, and PluginError if it cannot work as configured.
    """


# Observers are called in the middle of the work: they must be quick, and hand over to a thread of their own what is
# not. They may be called from several threads at once, and hear of a thing twice if a process died right after it.


@hookspec
def gramian_snapshot_published(settings: Settings, options: Options, event: SnapshotPublished) -> None:
    """This node has published its statistics under a new epoch.

    Called by a pulse, after the new epoch is stored.
    Wins: none; all that `GRAMIAN_OBSERVERS` names are called, in that order.
    Returns nothing.
    Raises nothing; what it raises is logged and changes nothing.
    """


@hookspec
def gramian_snapshot_accepted(settings: Settings, options: Options, event: SnapshotAccepted) -> None:
    """Another member's statistics were checked and taken in.

    Called by a pulse, after they are stored.
    Wins: none; all that `GRAMIAN_OBSERVERS` names are called, in that order.
    Returns nothing.
    Raises nothing; what it raises is logged and changes nothing.
    """


@hookspec
def gramian_snapshot_refused(settings: Settings, options: Options, event: SnapshotRefused) -> None:
    """What another member published failed a check or could not be fetched.

    Called by every pulse until it is mended.
    Wins: none; all that `GRAMIAN_OBSERVERS` names are called, in that order.
    Returns nothing.
    Raises nothing; what it raises is logged and changes nothing.
    """


@hookspec
def gramian_federated_updated(settings: Settings, options: Options, event: FederatedUpdated) -> None:
    """The federated statistics are other ones than before this pulse.

    Called by a pulse, after they are stored.
    Wins: none; all that `GRAMIAN_OBSERVERS` names are called, in that order.
    Returns nothing.
    Raises nothing; what it raises is logged and changes nothing.
    """


@hookspec
def gramian_model_built(settings: Settings, options: Options, event: ModelBuilt) -> None:
    """A model was built, for the first time or anew.

    Called by whatever built it, a job or a pulse, after the model is stored.
    Wins: none; all that `GRAMIAN_OBSERVERS` names are called, in that order.
    Returns nothing.
    Raises nothing; what it raises is logged and changes nothing.
    """
