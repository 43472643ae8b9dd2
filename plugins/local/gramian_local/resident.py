"""What a process that stays can do for its federations: hear nudges, and pulse at once instead of on schedule."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gramian.domain.protocol.nudge import Attention
from gramian.errors import GramianError
from gramian.node import Node
from gramian.ports import Link
from gramian.usecases import records, upkeep
from gramian.usecases.federation import membership
from gramian.usecases.projects import lifecycle

if TYPE_CHECKING:
    from gramian.usecases.federation.pulse import Heard

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
MAX_BACKOFF_S = 60.0


@dataclass
class _Ear:
    """One project's line, or why there is none yet. `options`: those that it was opened with, as they are stored.
    `retry_at`: monotonic seconds."""

    link: Link | None = None
    options: object = None
    failures: int = 0
    retry_at: float = 0.0


class Resident:
    """Listens for every pulsing project of a node, from a thread of its own until `stop`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ears: dict[str, _Ear] = {}
        self._attention = Attention()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gramian-resident", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for ear in self._ears.values():
            _close(ear)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(upkeep.pulsing(self._node))
            except Exception:
                log.exception("cannot look for pulsing projects")
            self._stop.wait(LOOK_EVERY_S)

    def _follow(self, projects: dict[str, lifecycle.Project]) -> None:
        """Have an ear for exactly these projects, by uid."""
        for uid in set(self._ears) - set(projects):
            _close(self._ears.pop(uid))
        for uid, project in projects.items():
            ear = self._ears.setdefault(uid, _Ear())
            if ear.link is not None and ear.options != _options(self._node, project):
                _close(ear)
                ear = self._ears[uid] = _Ear()
            if ear.link is None and time.monotonic() >= ear.retry_at:
                self._open(project, ear)

    def _open(self, project: lifecycle.Project, ear: _Ear) -> None:
        try:
            member, options = membership.of(self._node, project), _options(self._node, project)
            link = membership.connect(self._node, member)
            try:
                link.listen(member.fed_id, member.peer_id, self._hearer(project))
            except BaseException:
                link.close()
                raise
        except GramianError as error:
            ear.failures += 1
            ear.retry_at = time.monotonic() + min(MAX_BACKOFF_S, 2.0**ear.failures)
            if ear.failures == 1:
                log.warning("project %s cannot listen for nudges: %s", project.pid, error)
        else:
            ear.link, ear.options, ear.failures = link, options, 0

    def _hearer(self, project: lifecycle.Project) -> Callable[[bytes], None]:
        def hear(message: bytes) -> None:
            from gramian.usecases.federation import pulse

            heard = pulse.nudged(self._node, project, message)
            if heard is not None and self._heeds(project.uid, heard):
                self._node.scheduler.soon(project.cid, project.pid)

        return hear

    def _heeds(self, uid: str, heard: Heard) -> bool:
        with self._lock:
            return self._attention.heeds(
                uid, heard.sender, known=heard.known, is_news=heard.is_news, now=time.monotonic()
            )


def _options(node: Node, project: lifecycle.Project) -> object:
    stored = records.load(node.state, project.partition, records.FEDERATION, records.Federation)
    return stored and (stored.record.options, stored.record.secrets)


def _close(ear: _Ear) -> None:
    if ear.link is not None:
        ear.link.close()
