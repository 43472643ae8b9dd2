"""Contract of `gramian.ports.Scheduler`. Subclass, name the class `Test...`, and provide the fixture.

    class TestMyScheduler(SchedulerContract):
        @pytest.fixture
        def scheduler(self): ...

Pulses are observed with a scheduler that runs them in this process (`gramian.ports.ResidentScheduler`); for one that
calls elsewhere, override `pulses` with whatever shows that it did, or only its entries are tested.

Whether a schedule fires is seen by putting the clock of this process forward, `time.time`; a scheduler that has another
one needs the fixture `clock`, or the suite waits for two real minutes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gramian.ports import ResidentScheduler, Scheduler
from gramian.testing.clock import Clock, ShiftedClock

Pulses = list[tuple[str, str]]


class SchedulerContract:
    """What every scheduler does. See the module for how to use it."""

    settle_s = 20.0
    """How long `soon` may take to pulse."""
    minute_s = 80.0
    """How long a pulse of every minute may take to start, where no clock can be put forward."""
    quiet_s = 0.5
    """How long nothing must happen for a test to believe that nothing will."""

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        raise NotImplementedError("provide `scheduler`: a scheduler to test")

    @pytest.fixture
    def pulses(self, scheduler: Scheduler) -> Iterator[Pulses]:
        """(cid, pid) of every pulse that was started."""
        if not isinstance(scheduler, ResidentScheduler):
            pytest.skip("this scheduler pulses elsewhere, and no fixture `pulses` shows it")
        started: Pulses = []
        scheduler.start(lambda cid, pid: started.append((cid, pid)))
        yield started
        scheduler.stop()

    @pytest.fixture
    def clock(self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """The scheduler's clock."""
        if not isinstance(scheduler, ResidentScheduler):
            pytest.skip("a service keeps this scheduler's time, and no fixture `clock` puts it forward")
        clock = ShiftedClock()
        monkeypatch.setattr(time, "time", clock)
        return clock

    @pytest.fixture
    def cid(self, scheduler: Scheduler) -> Iterator[str]:
        """A user of its own, whose entries are removed when the test ends."""
        name = f"contract-{uuid.uuid4().hex[:12]}"
        yield name
        for pid in ("p", "p2", "p.-_@+"):
            scheduler.remove(name, pid)

    def test_remove_of_absent_entry_is_fine(self, scheduler: Scheduler, cid: str) -> None:
        """Twice too: a deletion that was cut short is repeated."""
        scheduler.remove(cid, "p")
        scheduler.set(cid, "p", "d1")
        scheduler.remove(cid, "p")
        scheduler.remove(cid, "p")

    @pytest.mark.parametrize("schedule", ["", "soon", "m0", "x5", "m-1", "d99999"])
    def test_schedule_that_is_none_is_value_error(self, scheduler: Scheduler, cid: str, schedule: str) -> None:
        """A mistake of the caller, which checks what users write."""
        with pytest.raises(ValueError):  # noqa: PT011 - as gramian.domain.schedule words it
            scheduler.set(cid, "p", schedule)

    def test_schedule_pulses_when_it_is_due(self, scheduler: Scheduler, pulses: Pulses, clock: Clock, cid: str) -> None:
        """Again and again, and no project whose time has not come; none that was removed."""
        scheduler.set(cid, "p", "m1")
        scheduler.set(cid, "p2", "d1")
        for number in (1, 2):
            clock.advance(60)
            self._eventually(partial(_has, pulses, (cid, "p"), number), self.minute_s)
        assert (cid, "p2") not in pulses
        scheduler.remove(cid, "p")
        time.sleep(self.quiet_s)
        count = pulses.count((cid, "p"))
        clock.advance(60)
        time.sleep(self.quiet_s)
        assert pulses.count((cid, "p")) == count

    def test_soon_pulses_once(self, scheduler: Scheduler, pulses: Pulses, cid: str) -> None:
        """Long before the schedule's next, and that project only."""
        scheduler.set(cid, "p", "d1")
        scheduler.set(cid, "p2", "d1")
        scheduler.soon(cid, "p")
        self._eventually(lambda: (cid, "p") in pulses)
        time.sleep(self.quiet_s)
        assert [pulse for pulse in pulses if pulse[0] == cid] == [(cid, "p")]

    def test_soon_after_set_again_pulses_once(self, scheduler: Scheduler, pulses: Pulses, cid: str) -> None:
        """Setting replaces the older entry: there are not two."""
        for schedule in ("d1", "h12", "d2"):
            scheduler.set(cid, "p", schedule)
        scheduler.soon(cid, "p")
        self._eventually(lambda: (cid, "p") in pulses)
        time.sleep(self.quiet_s)
        assert pulses.count((cid, "p")) == 1

    def test_soon_without_entry_does_nothing(self, scheduler: Scheduler, pulses: Pulses, cid: str) -> None:
        """Never set, or removed: a stopped pulse stays stopped."""
        scheduler.soon(cid, "p")
        scheduler.set(cid, "p2", "d1")
        scheduler.remove(cid, "p2")
        scheduler.soon(cid, "p2")
        time.sleep(self.quiet_s)
        assert [pulse for pulse in pulses if pulse[0] == cid] == []

    def test_soon_may_come_again_and_again(self, scheduler: Scheduler, pulses: Pulses, cid: str) -> None:
        """Every nudge counts that comes after the pulse before."""
        scheduler.set(cid, "p", "d1")
        for number in range(1, 4):
            scheduler.soon(cid, "p")
            self._eventually(partial(_has, pulses, (cid, "p"), number))

    def test_ids_of_all_allowed_letters_are_kept_apart(self, scheduler: Scheduler, pulses: Pulses, cid: str) -> None:
        """What `gramian.domain.names.check_id` lets through."""
        scheduler.set(cid, "p.-_@+", "d1")
        scheduler.set(cid, "p", "d1")
        scheduler.soon(cid, "p.-_@+")
        self._eventually(lambda: (cid, "p.-_@+") in pulses)
        time.sleep(self.quiet_s)
        assert (cid, "p") not in pulses

    def test_pulse_that_fails_stops_no_other(self, scheduler: Scheduler, cid: str) -> None:
        """A project whose peer is down must not silence the rest."""
        if not isinstance(scheduler, ResidentScheduler):
            pytest.skip("this scheduler pulses elsewhere")
        started: Pulses = []

        def pulse(cid: str, pid: str) -> None:
            started.append((cid, pid))
            if pid == "p":
                raise RuntimeError("on purpose")

        scheduler.start(pulse)
        try:
            scheduler.set(cid, "p", "d1")
            scheduler.set(cid, "p2", "d1")
            for pid in ("p", "p2"):
                scheduler.soon(cid, pid)
                self._eventually(partial(_has, started, (cid, pid)))
        finally:
            scheduler.stop()

    def _eventually(self, holds: Callable[[], bool], within_s: float | None = None) -> None:
        limit_s = self.settle_s if within_s is None else within_s
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {limit_s} s"
            time.sleep(0.02)


def _has(pulses: Pulses, pulse: tuple[str, str], count: int = 1) -> bool:
    return pulses.count(pulse) >= count
