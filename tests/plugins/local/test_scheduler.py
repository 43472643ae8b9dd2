"""The local scheduler: entries, claims, clocks, errors."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from gramian.errors import StoreError, TransportRefused
from gramian.ports import Put
from gramian.testing.clock import FakeClock
from gramian_local.scheduler import MAX_PULSES, PARTITION, LocalScheduler
from gramian_local.state import SqliteStateStore

START = 1_800_000_000.0  # a whole hour


class Pulses:
    """Counts pulses, and those at once; each lasts until `release` is set."""

    def __init__(self) -> None:
        self.counts = Counter()
        self.most_at_once = 0
        self.release = threading.Event()
        self.release.set()
        self._at_once = 0
        self._lock = threading.Lock()

    def __call__(self, cid, pid):
        with self._lock:
            self.counts[cid, pid] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self.release.wait(10)
        with self._lock:
            self._at_once -= 1


@pytest.fixture
def clock():
    return FakeClock(START)


@pytest.fixture
def pulses():
    return Pulses()


@pytest.fixture
def open_scheduler(database_path, clock):
    """Schedulers on stores of their own, as two processes have them."""
    stores = []

    def start(**options):
        stores.append(SqliteStateStore(database_path, clock=clock))
        return LocalScheduler(stores[-1], clock, **{"poll_s": 0.01, **options})

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def scheduler(open_scheduler):
    return open_scheduler()


@contextmanager
def _started(scheduler, run_pulse):
    scheduler.start(run_pulse)
    try:
        yield
    finally:
        run_pulse.release.set()
        scheduler.stop()


def _looks(scheduler, eventually, count=3):
    """Let the scheduler look at its entries a few times more."""
    looked = []
    inner = scheduler._entries
    scheduler._entries = lambda: (looked.append(1), inner())[1]
    eventually(lambda: len(looked) >= count)
    scheduler._entries = inner


def test_set_stores_due_time_in_step_with_peers(scheduler, database_path, clock):
    """The next multiple of the period, whatever the moment of the call; upper case is normalised."""
    clock.advance(100)
    scheduler.set("c1", "p1", "H3")
    store = SqliteStateStore(database_path)
    ((key, item),) = store.query(PARTITION)
    store.close()
    value = json.loads(item.value)
    assert key == "c1/p1"
    assert value["schedule"] == "h3"
    assert value["next_due"] % (3 * 3600) == 0
    assert clock.now < value["next_due"] <= clock.now + 3 * 3600


def test_set_invalid_schedule_is_value_error(scheduler):
    """As the domain says."""
    with pytest.raises(ValueError, match="m30"):
        scheduler.set("c1", "p1", "30m")


def test_due_pulse_runs_once_per_period(scheduler, pulses, clock, eventually):
    """Not before it is due, and not twice."""
    scheduler.set("c1", "p1", "m1")
    with _started(scheduler, pulses):
        clock.advance(59)
        _looks(scheduler, eventually)
        assert pulses.counts == {}
        for expected in (1, 2, 3):
            clock.advance(60)
            eventually(lambda expected=expected: pulses.counts["c1", "p1"] == expected)
            _looks(scheduler, eventually)
            assert pulses.counts == {("c1", "p1"): expected}


def test_removed_entry_runs_no_more(scheduler, open_scheduler, pulses, clock, eventually):
    """Also when another process removes it; removing twice is fine."""
    scheduler.set("c1", "p1", "m1")
    scheduler.set("c1", "p2", "m1")
    with _started(scheduler, pulses):
        other = open_scheduler()
        other.remove("c1", "p1")
        other.remove("c1", "p1")
        clock.advance(60)
        eventually(lambda: pulses.counts["c1", "p2"] == 1)
        _looks(scheduler, eventually)
    assert set(pulses.counts) == {("c1", "p2")}


def test_entry_set_by_another_process_is_seen(scheduler, open_scheduler, pulses, clock, eventually):
    """Within the polling time."""
    with _started(scheduler, pulses):
        open_scheduler().set("c1", "p1", "m1")
        clock.advance(60)
        eventually(lambda: pulses.counts["c1", "p1"] == 1)


def test_set_wakes_a_sleeping_scheduler_in_time(database_path, pulses, eventually):
    """With a long polling time the pulse still comes when it is due."""
    offset = START - time.time() - 0.3  # a whole minute comes in 0.3 s
    store = SqliteStateStore(database_path)
    scheduler = LocalScheduler(store, lambda: time.time() + offset, poll_s=60)
    with _started(scheduler, pulses):
        time.sleep(0.05)
        scheduler.set("c1", "p1", "m1")
        eventually(lambda: pulses.counts["c1", "p1"] == 1, 5)
    store.close()


def test_two_schedulers_run_each_due_pulse_once(open_scheduler, pulses, clock, eventually):
    """Two processes on one home: the claim is a conditional write."""
    schedulers = [open_scheduler(), open_scheduler()]
    projects = [("c1", f"p{number}") for number in range(12)]
    for project in projects:
        schedulers[0].set(*project, "m1")
    with _started(schedulers[0], pulses), _started(schedulers[1], pulses):
        for expected in (1, 2, 3):
            clock.advance(60)
            eventually(lambda expected=expected: pulses.counts.total() >= expected * len(projects))
            for scheduler in schedulers:
                _looks(scheduler, eventually)
            assert pulses.counts == dict.fromkeys(projects, expected)


def test_claim_lost_to_another_scheduler_runs_nothing(open_scheduler, pulses, clock):
    """Both read the entry before either claims it."""
    first, second = open_scheduler(), open_scheduler()
    first.set("c1", "p1", "m1")
    clock.advance(60)
    (entry,) = second._entries()
    first._start_due(pulses)
    second._consider(entry, clock.now, pulses)
    first.stop()
    time.sleep(0.05)
    assert pulses.counts == {("c1", "p1"): 1}
    assert second._running == set()


def test_slow_pulses_are_bounded_and_everyone_gets_a_turn(scheduler, pulses, clock, eventually):
    """At most MAX_PULSES at once; the others follow when there is room."""
    projects = [("c1", f"p{number}") for number in range(MAX_PULSES + 3)]
    for project in projects:
        scheduler.set(*project, "m1")
    pulses.release.clear()
    with _started(scheduler, pulses):
        clock.advance(60)
        eventually(lambda: pulses.counts.total() == MAX_PULSES)
        _looks(scheduler, eventually)
        assert pulses.counts.total() == MAX_PULSES
        pulses.release.set()
        eventually(lambda: pulses.counts == dict.fromkeys(projects, 1))
    assert pulses.most_at_once == MAX_PULSES


def test_pulse_longer_than_its_period_is_not_doubled(scheduler, pulses, clock, eventually):
    """A project pulses once at a time in this process; what it missed meanwhile is one pulse."""
    scheduler.set("c1", "p1", "m1")
    pulses.release.clear()
    with _started(scheduler, pulses):
        for _ in range(4):
            clock.advance(60)
            _looks(scheduler, eventually)
        assert pulses.counts["c1", "p1"] == 1
        pulses.release.set()
        eventually(lambda: pulses.counts["c1", "p1"] == 2)
        _looks(scheduler, eventually)
    assert pulses.counts["c1", "p1"] == 2
    assert pulses.most_at_once == 1


def test_clock_set_forward_runs_missed_pulses_once(scheduler, pulses, clock, eventually):
    """No storm after a sleep of the machine, or a step of the clock."""
    scheduler.set("c1", "p1", "m1")
    with _started(scheduler, pulses):
        clock.advance(3600)
        eventually(lambda: pulses.counts["c1", "p1"] == 1)
        _looks(scheduler, eventually)
        assert pulses.counts["c1", "p1"] == 1


def test_clock_set_back_pulses_on_after_a_period(scheduler, pulses, clock, eventually):
    """Neither at once nor only when the old time has come again."""
    clock.advance(7200)
    scheduler.set("c1", "p1", "m1")
    with _started(scheduler, pulses):
        clock.advance(-3600)
        _looks(scheduler, eventually)
        assert pulses.counts == {}
        clock.advance(60)
        eventually(lambda: pulses.counts["c1", "p1"] == 1)


def test_failing_pulse_is_logged_and_pulses_again(scheduler, pulses, clock, eventually, caplog):
    """Neither the thread nor the entry suffers, nor do other projects."""

    def fail_one(cid, pid):
        pulses(cid, pid)
        if pid == "bad":
            raise RuntimeError("broken pulse")

    scheduler.set("c1", "bad", "m1")
    scheduler.set("c1", "good", "m1")
    scheduler.start(fail_one)
    for expected in (1, 2):
        clock.advance(60)
        eventually(lambda expected=expected: set(pulses.counts.values()) == {expected} and len(pulses.counts) == 2)
        # The next retry is set when the pulse is over.
        eventually(lambda: not scheduler._running)
    scheduler.stop()
    assert "broken pulse" in caplog.text
    assert "c1/bad" in caplog.text


def test_failing_pulse_of_a_long_schedule_is_retried_ever_later(scheduler, pulses, clock, eventually, caplog):
    """After 30, 60, 120 s and so on, with one line in the log; once it succeeds, on schedule again."""
    outcomes = [TransportRefused("the login is refused")] * 3

    def pulse(cid, pid):
        pulses(cid, pid)
        if outcomes:
            raise outcomes.pop()

    scheduler.set("c1", "p1", "d1")
    clock.advance(86400)
    scheduler.start(pulse)
    for expected, pause_s in enumerate((30, 60, 120), start=1):
        eventually(lambda expected=expected: pulses.counts["c1", "p1"] == expected)
        eventually(lambda: not scheduler._running)
        clock.advance(pause_s - 1)
        _looks(scheduler, eventually)
        assert pulses.counts["c1", "p1"] == expected
        clock.advance(1)
    eventually(lambda: pulses.counts["c1", "p1"] == 4)
    eventually(lambda: not scheduler._running)
    clock.advance(3600)
    _looks(scheduler, eventually)
    scheduler.stop()
    assert pulses.counts["c1", "p1"] == 4
    assert caplog.text.count("the login is refused") == 1


def test_failing_pulse_of_a_short_schedule_keeps_it(scheduler, pulses, clock, eventually):
    """However often it failed: recovery is never slower than the schedule."""

    def fail(cid, pid):
        pulses(cid, pid)
        raise TransportRefused("no")

    scheduler.set("c1", "p1", "m1")
    scheduler.start(fail)
    for expected in range(1, 6):
        clock.advance(60)
        eventually(lambda expected=expected: pulses.counts["c1", "p1"] >= expected)
        eventually(lambda: not scheduler._running)
    scheduler.stop()


def test_failing_pulse_stopped_meanwhile_stays_stopped(scheduler, pulses, clock, eventually):
    """Trying again does not bring a removed entry back."""

    def fail(cid, pid):
        pulses(cid, pid)
        scheduler.remove(cid, pid)
        raise TransportRefused("no longer a member")

    scheduler.set("c1", "p1", "m1")
    scheduler.start(fail)
    clock.advance(60)
    eventually(lambda: pulses.counts["c1", "p1"] == 1)
    eventually(lambda: not scheduler._running)
    clock.advance(3600)
    _looks(scheduler, eventually)
    scheduler.stop()
    assert pulses.counts["c1", "p1"] == 1


def test_store_that_fails_is_logged_once_and_tried_again(scheduler, pulses, clock, eventually, caplog, monkeypatch):
    """A disk that was full for a while costs no pulse and fills no log."""
    scheduler.set("c1", "p1", "m1")
    tries = []

    def fail(partition):
        tries.append(partition)
        raise StoreError("the disk is full")

    clock.advance(60)
    with monkeypatch.context() as patch:
        patch.setattr(scheduler._state, "query", fail)
        scheduler.start(pulses)
        eventually(lambda: len(tries) > 3)
    eventually(lambda: pulses.counts["c1", "p1"] == 1)
    scheduler.stop()
    assert caplog.text.count("the disk is full") == 1


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"[]", b"{}", b'{"next_due":null,"schedule":"m1"}', b'{"next_due":1,"schedule":7}']
)
def test_unreadable_entry_is_logged_and_passed_over(scheduler, pulses, clock, eventually, caplog, value):
    """One bad entry must not stop the others."""
    scheduler._state.write(Put(PARTITION, "c1/bad", value))
    scheduler.set("c1", "p1", "m1")
    with _started(scheduler, pulses):
        clock.advance(60)
        eventually(lambda: pulses.counts["c1", "p1"] == 1)
        _looks(scheduler, eventually)
    assert caplog.text.count("c1/bad") == 1


def test_stop_waits_for_running_pulse(scheduler, clock):
    """And may be called again, or without a start; a stopped scheduler can start again."""
    scheduler.stop()
    started, done = threading.Event(), threading.Event()

    def pulse(cid, pid):
        started.set()
        time.sleep(0.1)
        done.set()

    scheduler.set("c1", "p1", "m1")
    clock.advance(60)
    scheduler.start(pulse)
    started.wait(10)
    scheduler.stop()
    scheduler.stop()
    assert done.is_set()
    done.clear()
    clock.advance(60)
    scheduler.start(pulse)
    assert done.wait(10)
    scheduler.stop()


def test_run_drives_pulses_until_event(scheduler, pulses, clock, eventually):
    """For a caller with a thread of its own."""
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(pulses, stop))
    scheduler.set("c1", "p1", "m1")
    clock.advance(60)
    thread.start()
    eventually(lambda: pulses.counts["c1", "p1"] == 1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_wish_for_a_pulse_during_a_pulse_is_kept(scheduler, clock, eventually):
    """Whether the one under way succeeds or fails: another one follows."""
    runs, gate = [], threading.Event()

    def pulse(cid, pid):
        runs.append(pid)
        if len(runs) < 3:
            scheduler.soon(cid, pid)
            assert gate.wait(5)
            raise TransportRefused("broken") if len(runs) == 1 else SystemError("worse")

    scheduler.set("c1", "p1", "d1")
    scheduler.start(pulse)
    scheduler.soon("c1", "p1")
    gate.set()
    eventually(lambda: len(runs) == 3)
