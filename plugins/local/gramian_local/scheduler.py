"""Scheduler on one machine: entries in the state store, pulses on threads of `gramian serve`."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from gramian.domain import schedule as schedules
from gramian.domain.canonical import canonical_json
from gramian.errors import ConditionFailed, GramianError
from gramian.ports import ANY, Delete, Item, Put, Scheduler, StateStore

_logger = logging.getLogger(__name__)

PARTITION: Final = "pulses"
MAX_PULSES: Final = 4
"""Most pulses at once in this process, unless told otherwise."""
FIRST_RETRY_S: Final = 30.0
LAST_RETRY_S: Final = 900.0

RunPulse = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One stored entry. `next_due`: unix seconds. `failures`: pulses that failed since one that did not."""

    key: str
    version: str
    schedule: schedules.Schedule
    next_due: float
    failures: int

    @classmethod
    def read(cls, key: str, item: Item) -> Self:
        """Raises ValueError for what this class did not write."""
        try:
            value = json.loads(item.value)
            schedule, next_due = schedules.parse(value["schedule"]), float(value["next_due"])
            return cls(key, item.version, schedule, next_due, int(value.get("failures", 0)))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not an entry of the scheduler") from error


class LocalScheduler(Scheduler):
    """`gramian.ports.Scheduler` for any number of processes on one state store.

    `set` and `remove` work from any process; those that `start` (or `run`) drive the pulses. A due pulse is
    claimed by moving its due time on, under the version that was read: one process runs it. What was missed
    runs once, and a process killed after a claim loses that one pulse until the next. A pulse that failed is
    repeated before the schedule's next, ever later: after 30 seconds at first, after 15 minutes in the end.
    """

    def __init__(
        self,
        state: StateStore,
        clock: Callable[[], float] = time.time,
        *,
        poll_s: float = 2.0,
        grace_s: float = 10.0,
        max_pulses: int = MAX_PULSES,
    ) -> None:
        """`clock` gives unix seconds; `poll_s`: how soon entries of other processes are seen; `grace_s`: how
        long stopping waits for running pulses; `max_pulses`: most at once in this process."""
        self._state = state
        self._clock = clock
        self._poll_s = poll_s
        self._grace_s = grace_s
        self._max_pulses = max_pulses
        self._changed = threading.Condition()
        self._woken = False
        self._running: set[str] = set()
        self._complaints: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def set(self, cid: str, pid: str, schedule: str) -> None:
        """As the protocol says. Raises ValueError for a bad schedule, StoreError."""
        parsed = schedules.parse(schedule)
        self._state.write(_put(f"{cid}/{pid}", parsed, parsed.next_after(self._clock())))
        self._wake()

    def soon(self, cid: str, pid: str) -> None:
        """Make the entry due; a pulse that is under way does not count."""
        key = f"{cid}/{pid}"
        while (item := self._state.get(PARTITION, key)) is not None:
            if self._move(_Entry.read(key, item), self._clock()):
                self._wake()
                return

    def remove(self, cid: str, pid: str) -> None:
        self._state.write(Delete(PARTITION, f"{cid}/{pid}"))

    def start(self, run_pulse: RunPulse) -> None:
        """Drive pulses from a thread of this process until `stop`."""
        assert self._thread is None, "already started"
        self._stop = threading.Event()  # a new one: a thread that outlived its `stop` must not wake up again
        self._thread = threading.Thread(
            target=self.run, args=(run_pulse, self._stop), name="gramian-scheduler", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Start no more pulses and wait for those that run, `grace_s` at most; may be called again."""
        if self._thread is None:
            return
        self._stop.set()
        self._wake()
        self._thread.join(self._grace_s + self._poll_s)
        self._thread = None

    def run(self, run_pulse: RunPulse, stop: threading.Event) -> None:
        """Drive pulses from this thread until `stop` is set (seen within `poll_s`). Errors are logged only."""
        while not stop.is_set():
            self._sleep(self._start_due(run_pulse), stop)
        with self._changed:
            self._changed.wait_for(lambda: not self._running, self._grace_s)

    def _start_due(self, run_pulse: RunPulse) -> float:
        """Start what is due and has room; returns the seconds to sleep at most."""
        try:
            entries = self._entries()
            now = self._clock()
            waiting = [self._consider(entry, now, run_pulse) for entry in entries]
        except Exception as error:  # noqa: BLE001 (whatever a store plugin raises, the thread lives on)
            self._complain("cannot look for due pulses", f"{type(error).__name__}: {error}")
            return self._poll_s
        self._complaints.pop("cannot look for due pulses", None)
        return min([self._poll_s, *waiting])

    def _entries(self) -> list[_Entry]:
        """All readable entries, the longest overdue first: few slots must not starve anyone."""
        entries = []
        for key, item in self._state.query(PARTITION):
            try:
                entries.append(_Entry.read(key, item))
            except ValueError as error:
                self._complain(key, f"{error}; start its pulse again to replace it")
        return sorted(entries, key=lambda entry: entry.next_due)

    def _consider(self, entry: _Entry, now: float, run_pulse: RunPulse) -> float:
        """Start a due entry if there is room; returns the seconds until it matters again."""
        next_due = entry.schedule.next_after(now)
        if entry.next_due > next_due:
            # The clock was set back. Without this the project would be silent until the old time comes.
            self._move(entry, next_due)
        elif entry.next_due > now:
            return entry.next_due - now
        elif self._reserve(entry.key):
            self._claim_and_start(entry, next_due, run_pulse)
        else:
            return self._poll_s  # the end of a pulse wakes us
        return next_due - now

    def _claim_and_start(self, entry: _Entry, next_due: float, run_pulse: RunPulse) -> None:
        """Claim an entry whose key is reserved; the reservation ends with the pulse, or here if there is none."""
        started = False
        try:
            if self._move(entry, next_due):
                name = f"gramian-pulse-{entry.key}"
                threading.Thread(target=self._pulse, args=(entry.key, run_pulse), name=name, daemon=True).start()
                started = True
        finally:
            if not started:
                self._release(entry.key)

    def _move(self, entry: _Entry, next_due: float, failures: int | None = None) -> bool:
        """Set the due time, and the failures if given; False if the entry was changed or claimed by somebody else."""
        failures = entry.failures if failures is None else failures
        try:
            self._state.write(_put(entry.key, entry.schedule, next_due, entry.version, failures))
        except ConditionFailed:
            return False
        return True

    def _pulse(self, key: str, run_pulse: RunPulse) -> None:
        try:
            self._settle(key, failed=not self._succeeds(key, run_pulse))
        except Exception as error:  # noqa: BLE001 (whatever a store plugin raises, the key must be released)
            self._complain(key, f"{type(error).__name__}: {error}")
        finally:
            self._release(key)
            self._wake()

    def _succeeds(self, key: str, run_pulse: RunPulse) -> bool:
        cid, _, pid = key.partition("/")
        try:
            run_pulse(cid, pid)
        except GramianError as error:
            # The node's own error log has it; this line is for the operator.
            self._complain(key, f"the pulse failed: {error}")
            return False
        except Exception:
            _logger.exception("The pulse of %s failed.", key)
            return False
        self._complaints.pop(key, None)
        return True

    def _settle(self, key: str, *, failed: bool) -> None:
        """Bring the next pulse forward after a failed one; an entry that is gone or was set anew stays as it is."""
        item = self._state.get(PARTITION, key)
        if item is None:
            return
        entry, now = _Entry.read(key, item), self._clock()
        if entry.next_due <= now:
            return  # wanted again meanwhile
        if failed:
            retry_s = min(FIRST_RETRY_S * 2.0 ** min(entry.failures, 10), LAST_RETRY_S)
            self._move(entry, min(now + retry_s, entry.schedule.next_after(now)), entry.failures + 1)
        elif entry.failures:
            self._move(entry, entry.schedule.next_after(now), 0)

    def _reserve(self, key: str) -> bool:
        with self._changed:
            if key in self._running or len(self._running) >= self._max_pulses:
                return False
            self._running.add(key)
            return True

    def _release(self, key: str) -> None:
        with self._changed:
            self._running.discard(key)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _sleep(self, timeout_s: float, stop: threading.Event) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._woken or stop.is_set(), timeout_s)
            self._woken = False

    def _complain(self, subject: str, reason: str) -> None:
        """Log a lasting problem once, not at every look."""
        if self._complaints.get(subject) != reason:
            self._complaints[subject] = reason
            _logger.error("Scheduler: %s: %s", subject, reason)


def _put(key: str, schedule: schedules.Schedule, next_due: float, expect: str = ANY, failures: int = 0) -> Put:
    value = canonical_json({"failures": failures, "next_due": int(next_due), "schedule": str(schedule)})
    return Put(PARTITION, key, value, expect)
