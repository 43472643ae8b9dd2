"""One pulse of a node at a time. Only a courtesy that saves work: what a pulse writes is conditional anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex

from gramian.errors import Busy, ConditionFailed, Unavailable
from gramian.node import Node
from gramian.ports import ABSENT
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import LEASE

LEASE_S = 60.0
WAIT_S = 60.0
POLL_S = 0.05


class Lease:
    """Held until `release`. Its fencing number grows with every holder. `outage`: why the last pulse failed, if it did;
    whoever holds the lease may say how this one ended, for the next to know."""

    def __init__(self, node: Node, project: Project) -> None:
        self._node = node
        self._project = project
        self._owner = f"{node.instance}/{token_hex(8)}"
        self._held: records.Stored[records.Lease] | None = None
        self.outage: records.Outage | None = None

    def acquire(self, wait_s: float) -> None:
        """Raises Busy if another pulse keeps it for longer than `wait_s`."""
        waited = 0.0
        while True:
            stored = self._stored()
            if stored is None or self._is_over(stored.record):
                self.outage = stored.record.outage if stored else None
                if self._take(stored):
                    return
                continue
            if waited >= wait_s:
                raise Busy("another pulse of this node is under way; try again later")
            self._node.sleep(POLL_S)
            waited += POLL_S

    def renew(self) -> None:
        """Keep it for longer, if half of its time is over. Raises Unavailable if somebody else took over."""
        assert self._held is not None, "not held"
        if self._node.clock() > self._held.record.until - LEASE_S / 2 and not self._take(self._held):
            raise Unavailable("the pulse took too long and another one took over")

    def release(self) -> None:
        """Let the next one in; nothing if somebody else took over."""
        if self._held is not None:
            over = records.Lease(self._owner, 0.0, self._held.record.fence, self.outage)
            with suppress(ConditionFailed):
                self._write(over, self._held.version)

    def _take(self, stored: records.Stored[records.Lease] | None) -> bool:
        fence = stored.record.fence + 1 if stored else 1
        lease = records.Lease(self._owner, self._node.clock() + LEASE_S, fence, self.outage)
        with suppress(ConditionFailed):
            self._write(lease, stored.version if stored else ABSENT)
            self._held = self._stored()
            return self._held is not None and self._held.record == lease
        return False

    def _is_over(self, lease: records.Lease) -> bool:
        return self._node.clock() >= lease.until or not self._node.instance_alive(lease.owner.split("/")[0])

    def _stored(self) -> records.Stored[records.Lease] | None:
        return records.load(self._node.state, self._project.partition, LEASE, records.Lease)

    def _write(self, lease: records.Lease, expect: str) -> None:
        self._node.state.write(records.put(self._project.partition, LEASE, lease, expect))


@contextmanager
def held(node: Node, project: Project, *, wait_s: float = WAIT_S) -> Iterator[Lease]:
    """Hold the node's lease. Raises Busy if another pulse keeps it for longer than `wait_s`."""
    lease = Lease(node, project)
    lease.acquire(wait_s)
    try:
        yield lease
    finally:
        lease.release()
