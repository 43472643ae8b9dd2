"""Every hook of Gramian. A plugin is a module with `@hookimpl` functions, published as an entry point.

Entry-point group `gramian`, name `<kind>.<name>`: only the entry points that the settings select are imported, so a
plugin costs nothing until it is used. The module says `gramian_api = "1"`: the version of these hooks and of
`gramian.ports` that it was written for.

A hook that makes an object opens one kind; it is called once per process, in the order identity, state, tokens, blobs,
scheduler, jobs, and for transport, compute and uploads when first used. Only the selected plugin of a kind is asked, so
none competes with it; returning None means that the module does not serve the kind it was published for, and is an
error. The hooks of observers, last in this file, are called for all plugins of kind `observer` that
`GRAMIAN_OBSERVERS` names, in that order; they return nothing. An implementation may leave out arguments that it does
not need.
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
    """Declare the options of the plugin `<kind>.<name>`: before it is asked for its object, and when it is shown.

    Their values come from `GRAMIAN_<NAME>_<OPTION>` (two kinds of one name share those that both declare) and reach
    the hooks below as `options`. A plugin without options leaves this hook out. Must not do any work.
    """


@hookspec(firstresult=True)
def gramian_transport(settings: Settings, options: Options) -> Transport | None:
    """Make the transport of kind `transport`. Connect later, in `open`: this must be cheap. Raises PluginError."""


@hookspec(firstresult=True)
def gramian_compute(settings: Settings, options: Options) -> Compute | None:
    """Make the backend that turns rows into moments. Raises PluginError if its hardware or library is absent."""


@hookspec(firstresult=True)
def gramian_identity(settings: Settings, options: Options) -> Identity | None:
    """Find the node's master key, making it if this is the node's first process. Raises StoreError, also when the node
    has data but its key is gone."""


@hookspec(firstresult=True)
def gramian_state_store(settings: Settings, options: Options) -> StateStore | None:
    """Open the state store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_token_store(settings: Settings, options: Options) -> TokenStore | None:
    """Open the token store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_blob_store(settings: Settings, options: Options) -> BlobStore | None:
    """Open the blob store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_scheduler(settings: Settings, options: Options, state: StateStore) -> Scheduler | None:
    """Make the scheduler of pulses; `state` is the node's state store, for those that keep entries there."""


@hookspec(firstresult=True)
def gramian_job_runner(settings: Settings, options: Options) -> JobRunner | None:
    """Make the runner of background jobs; its threads, if it has any, end with `close`. Raises PluginError."""


@hookspec(firstresult=True)
def gramian_upload_store(settings: Settings, options: Options) -> UploadStore | None:
    """Open the store of uploads: large files that users send past the REST API. Raises StoreError, PluginError."""


# Observers are called in the middle of the work, after what they hear of is stored: they must be quick, and hand over
# to a thread of their own what is not. What they raise is logged and changes nothing. They may be called from several
# threads at once, and hear of a thing twice if a process died right after it.


@hookspec
def gramian_snapshot_published(settings: Settings, options: Options, event: SnapshotPublished) -> None:
    """This node has published its statistics under a new epoch."""


@hookspec
def gramian_snapshot_accepted(settings: Settings, options: Options, event: SnapshotAccepted) -> None:
    """Another member's statistics were checked and taken in."""


@hookspec
def gramian_snapshot_refused(settings: Settings, options: Options, event: SnapshotRefused) -> None:
    """What another member published failed a check or could not be fetched; heard again at every pulse until it is
    mended."""


@hookspec
def gramian_federated_updated(settings: Settings, options: Options, event: FederatedUpdated) -> None:
    """The federated statistics are other ones than before this pulse."""


@hookspec
def gramian_model_built(settings: Settings, options: Options, event: ModelBuilt) -> None:
    """A model was built, for the first time or anew."""
