"""One node: its plugins, its key, its clock. Built once per process and handed to every use case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from gramian import plugins
from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.errors import PluginError
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

if TYPE_CHECKING:
    from gramian.events import Event


@lru_cache(maxsize=256)
def _opened(key: bytes, sealed: str, context: str) -> bytes:
    """Kept, since every request opens the same few secrets."""
    return crypto.unseal(key, crypto.decode(sealed), context.encode())


@dataclass(frozen=True)
class Vault:
    """Seals secrets at rest under the node's master key; `context` binds a secret to its place."""

    master_key: bytes

    def seal(self, secret: bytes, context: str) -> str:
        return crypto.encode(crypto.seal(self._key, secret, context.encode()))

    def open(self, sealed: str, context: str) -> bytes:
        """Raises BadSeal if the master key is another one than that which sealed."""
        return _opened(self._key, sealed, context)

    @cached_property
    def _key(self) -> bytes:
        return crypto.hkdf(self.master_key, salt=b"", info=join("at rest"))


@dataclass(frozen=True)
class Node:
    """What use cases reach the outside through. `instance` names this process's life; `instance_alive` tells whether
    the process that left a mark still runs. `clock`: unix seconds."""

    state: StateStore
    tokens: TokenStore
    blobs: BlobStore
    scheduler: Scheduler
    jobs: JobRunner
    vault: Vault
    settings: Settings
    instance: str = ""
    instance_alive: Callable[[str], bool] = lambda _instance: True
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _made: dict[str, Any] = field(default_factory=dict)

    def transport(self, name: str) -> Transport:
        """One of the enabled transports. Raises PluginError for any other."""
        if name not in self.settings.transports:
            raise PluginError(
                f"the transport '{name}' is not enabled on this node; enabled: {', '.join(self.settings.transports)} "
                "(GRAMIAN_TRANSPORT)"
            )
        made: Transport = self._make("transport", name)
        return made

    @property
    def compute(self) -> Compute:
        made: Compute = self._make("compute", self.settings.compute)
        return made

    @property
    def gpu_jobs(self) -> JobRunner:
        """The runner of jobs that want a GPU. Raises PluginError if this node has none."""
        if not self.settings.gpu_jobs:
            raise PluginError("this node has no runner for GPU jobs; set GRAMIAN_GPU_JOBS to one")
        return self._make("jobs", self.settings.gpu_jobs)  # type: ignore[no-any-return]

    @property
    def sync_jobs(self) -> JobRunner:
        """The runner of syncs that a user waits for. Raises PluginError if this node has none."""
        if not self.settings.sync_jobs:
            raise PluginError("this node has no runner for syncs; set GRAMIAN_SYNC_JOBS to one")
        return self._make("jobs", self.settings.sync_jobs)  # type: ignore[no-any-return]

    @property
    def uploads(self) -> UploadStore:
        return self._make("uploads", self.settings.uploads)  # type: ignore[no-any-return]

    def observe(self, event: Event) -> None:
        """Tell the enabled observers; they cannot fail."""
        if self.settings.observers:
            from gramian.observers import Observers

            self._made.setdefault("observers", Observers(self.settings)).tell(event)

    def _make(self, kind: str, name: str) -> Any:
        """Made when first used: most requests need neither a transport nor numpy."""
        full_name = f"{kind}.{name}"
        made = self._made.get(full_name)
        # Of two threads that come first the same object serves both: what it holds must not be there twice.
        return made if made is not None else self._made.setdefault(full_name, plugins.make(kind, name, self.settings))

    def close(self) -> None:
        self.jobs.close()
        for full_name, made in list(self._made.items()):
            if full_name.startswith(("transport.", "jobs.", "uploads.")):
                made.close()
        for store in (self.state, self.tokens, self.blobs):
            store.close()


@contextmanager
def opened(settings: Settings) -> Iterator[Node]:
    """A node of the plugins that the settings select, closed at the end. Raises PluginError, StoreError."""
    identity: Identity = plugins.make("identity", settings.identity, settings)
    try:
        node = compose(settings, identity)
        try:
            yield node
        finally:
            node.close()
    finally:
        identity.close()


def compose(settings: Settings, identity: Identity) -> Node:
    """A node of the plugins that the settings select. Raises PluginError, StoreError."""
    state = plugins.make("state", settings.state, settings)
    return Node(
        state=state,
        tokens=plugins.make("tokens", settings.tokens, settings),
        blobs=plugins.make("blobs", settings.blobs, settings),
        scheduler=plugins.make("scheduler", settings.scheduler, settings, state=state),
        jobs=plugins.make("jobs", settings.jobs, settings),
        vault=Vault(identity.master_key),
        settings=settings,
        instance=identity.instance,
        instance_alive=identity.alive,
    )
