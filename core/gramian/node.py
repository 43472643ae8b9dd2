"""One node: its plugins, its key, its clock. Built once per process and handed to every use case."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from gramian import plugins
from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.ports import BlobStore, Compute, JobRunner, Scheduler, StateStore, TokenStore, Transport
from gramian.settings import Settings


@dataclass(frozen=True)
class Vault:
    """Seals secrets at rest under the node's master key; `context` binds a secret to its place."""

    master_key: bytes

    def seal(self, secret: bytes, context: str) -> str:
        return crypto.encode(crypto.seal(self._key, secret, context.encode()))

    def open(self, sealed: str, context: str) -> bytes:
        """Raises BadSeal if the master key is another one than that which sealed."""
        return crypto.unseal(self._key, crypto.decode(sealed), context.encode())

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
    _made: dict[str, object] = field(default_factory=dict)

    @property
    def transport(self) -> Transport:
        return self._make("transport", self.settings.transport)  # type: ignore[return-value]

    @property
    def compute(self) -> Compute:
        return self._make("compute", self.settings.compute)  # type: ignore[return-value]

    def _make(self, kind: str, name: str) -> object:
        """Made when first used: most requests need neither a transport nor numpy."""
        if kind not in self._made:
            self._made[kind] = plugins.make(kind, name, self.settings)
        return self._made[kind]

    def close(self) -> None:
        self.jobs.close()
        if "transport" in self._made:
            self.transport.close()
        for store in (self.state, self.tokens, self.blobs):
            store.close()
