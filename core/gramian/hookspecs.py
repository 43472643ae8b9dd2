"""Every hook of Gramian. A plugin is a module with `@hookimpl` functions, published as an entry point.

Entry-point group `gramian`, name `<kind>.<name>`: only the entry points that the settings select are imported, so a
plugin costs nothing until it is used. Each hook below opens one kind; it is called once per process, in the order
state, tokens, blobs, scheduler, jobs, and for transport and compute when first used. The selected plugin must return
an object; returning None means that the module does not serve the kind it was published for and is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from gramian.ports import BlobStore, Compute, JobRunner, Scheduler, StateStore, TokenStore, Transport
    from gramian.settings import Settings

hookspec = pluggy.HookspecMarker("gramian")
hookimpl = pluggy.HookimplMarker("gramian")


@hookspec(firstresult=True)
def gramian_transport(settings: Settings) -> Transport | None:
    """Make the transport of kind `transport`. Connect later, in `open`: this must be cheap. Raises PluginError."""


@hookspec(firstresult=True)
def gramian_compute(settings: Settings) -> Compute | None:
    """Make the backend that turns rows into moments. Raises PluginError if its hardware or library is absent."""


@hookspec(firstresult=True)
def gramian_state_store(settings: Settings) -> StateStore | None:
    """Open the state store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_token_store(settings: Settings) -> TokenStore | None:
    """Open the token store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_blob_store(settings: Settings) -> BlobStore | None:
    """Open the blob store. Raises StoreError if it cannot be opened."""


@hookspec(firstresult=True)
def gramian_scheduler(settings: Settings, state: StateStore) -> Scheduler | None:
    """Make the scheduler of pulses; `state` is the node's state store, for those that keep entries there."""


@hookspec(firstresult=True)
def gramian_job_runner(settings: Settings) -> JobRunner | None:
    """Make the runner of background jobs."""
