"""Entries are kept in the node's state store here, and pulses run in the process that serves: with a service of yours,
write the entries there, and leave out `start` and `stop` if it calls the node by itself."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from gramian.domain.schedule import parse
from gramian.errors import ConditionFailed, GramianError
from gramian.ports import ANY, Delete, Put, StateStore

log = logging.getLogger(__name__)
PARTITION = "acme-pulses"


class AcmeScheduler:
    """`gramian.ports.Scheduler` and `ResidentScheduler`; any number of processes may share the entries."""

    def __init__(self, state: StateStore, *, poll_s: float) -> None:
        self._state = state
        self._poll_s = poll_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def set(self, cid: str, pid: str, schedule: str) -> None:
        """Raises ValueError for a bad schedule."""
        self._write(f"{cid}/{pid}", schedule, parse(schedule).next_after(time.time()))

    def soon(self, cid: str, pid: str) -> None:
        item = self._state.get(PARTITION, f"{cid}/{pid}")
        while item is not None and not self._move(f"{cid}/{pid}", item.value, item.version, time.time()):
            item = self._state.get(PARTITION, f"{cid}/{pid}")

    def remove(self, cid: str, pid: str) -> None:
        self._state.write(Delete(PARTITION, f"{cid}/{pid}"))

    def start(self, run_pulse: Callable[[str, str], None]) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._run, args=(run_pulse,), name="acme-pulses", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self, run_pulse: Callable[[str, str], None]) -> None:
        while not self._over.wait(self._poll_s):
            try:
                for key in self._claimed():
                    self._pulse(key, run_pulse)
            except GramianError as error:
                log.warning("cannot look for due pulses: %s", error)

    def _claimed(self) -> list[str]:
        """What is due and was moved to its next time by this process: of several, one pulses."""
        now, claimed = time.time(), []
        for key, item in self._state.query(PARTITION):
            entry = json.loads(item.value)
            following = parse(entry["schedule"]).next_after(now)
            if entry["due"] <= now and self._move(key, item.value, item.version, following):
                claimed.append(key)
        return claimed

    def _pulse(self, key: str, run_pulse: Callable[[str, str], None]) -> None:
        try:
            run_pulse(*key.split("/"))
        except Exception:
            log.exception("the pulse of %s failed", key)

    def _move(self, key: str, value: bytes, version: str, due: float) -> bool:
        try:
            self._write(key, json.loads(value)["schedule"], due, version)
        except ConditionFailed:
            return False
        return True

    def _write(self, key: str, schedule: str, due: float, expect: str = ANY) -> None:
        value = json.dumps({"schedule": schedule, "due": due}).encode()
        self._state.write(Put(PARTITION, key, value, expect))
