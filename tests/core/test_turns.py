"""Turns: one thread of several at a time, unless it waits or takes too long; and never a standstill."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gramian import turns
from gramian.turns import Turns

AGES_S = 60.0


@pytest.fixture
def round_() -> Turns:
    return Turns()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody loses a turn, however busy the machine."""
    monkeypatch.setattr(turns, "PATIENCE_S", AGES_S)


@pytest.mark.usefixtures("patient")
def test_threads_in_turns_do_not_overlap(round_: Turns) -> None:
    """Also where each lets go of the interpreter in the middle."""
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with round_.turn():
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert most == 1


@pytest.mark.usefixtures("patient")
def test_others_have_the_turn_while_one_is_away(round_: Turns) -> None:
    """What waits for a disk keeps nobody."""
    other_ran = threading.Event()

    def other() -> None:
        with round_.turn():
            other_ran.set()

    with round_.turn(), round_.away():
        thread = threading.Thread(target=other)
        thread.start()
        assert other_ran.wait(10)
        thread.join()


def test_long_turn_is_lost_to_who_waits(round_: Turns) -> None:
    """A sync of seconds does not keep short requests; its own turn goes on beside theirs."""
    others_ran = threading.Event()

    def other() -> None:
        for _ in range(3):
            with round_.turn():
                pass
        others_ran.set()

    with round_.turn():
        thread = threading.Thread(target=other)
        thread.start()
        assert others_ran.wait(10)
        thread.join()
    with round_.turn():
        pass


@pytest.mark.usefixtures("patient")
def test_sleeper_is_woken_in_its_turn(round_: Turns) -> None:
    """Not beside the one that wakes it."""
    naps: list[turns.Nap] = []
    begun, order = threading.Event(), []

    def sleeper() -> None:
        with round_.turn():
            naps.append(round_.nap())
            begun.set()
            naps[0].sleep()
            order.append("sleeper")

    thread = threading.Thread(target=sleeper)
    thread.start()
    assert begun.wait(10)
    with round_.turn():
        naps[0].wake()
        time.sleep(0.02)
        order.append("waker")
    thread.join()
    assert order == ["waker", "sleeper"]


@pytest.mark.usefixtures("patient")
def test_pause_lets_those_go_first_who_are_due(round_: Turns) -> None:
    """All of them, and is over at once when nobody is."""
    order = []

    def other(number: int) -> None:
        with round_.turn():
            order.append(number)

    with ThreadPoolExecutor(3) as pool:
        with round_.turn():
            round_.pause()
            others = [pool.submit(other, number) for number in range(3)]
            while len(round_._due) < 3:
                time.sleep(0.001)
            round_.pause()
            order.append("paused")
        for each in others:
            each.result(10)
    assert sorted(order[:3]) == [0, 1, 2]
    assert order[3] == "paused"


@pytest.mark.parametrize("takes_turns", [True, False])
def test_sleep_that_is_ended_before_it_begins_is_none(round_: Turns, takes_turns: bool) -> None:
    """A waker need not know how far the sleeper has come."""
    if takes_turns:
        with round_.turn():
            nap = round_.nap()
            nap.wake()
            nap.sleep()
    else:
        nap = round_.nap()
        nap.wake()
        nap.sleep()


def test_thread_without_turns_passes_while_another_has_its_turn(round_: Turns) -> None:
    """Jobs and pulses run as ever."""
    with round_.turn():

        def other() -> bool:
            with round_.away():
                return True

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(other).result(10)


def test_error_ends_a_turn(round_: Turns) -> None:
    """The next is not kept waiting by it."""
    with pytest.raises(KeyError), round_.turn():
        raise KeyError
    assert round_._holder is None


def test_no_thread_is_left_behind_when_turns_are_lost_and_passed_on_at_once(
    round_: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Impatient threads, long turns, naps and absences: everyone gets through, and the round is free again."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0005)
    waiting: list[turns.Nap] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with round_.turn():
            time.sleep((number % 7) * 0.0002)
            if number % 3 == 0:
                with round_.away():
                    time.sleep(0.0003)
            if number % 4 == 0:
                round_.pause()
            if number % 5 == 0:
                nap = round_.nap()
                with lock:
                    waiting.append(nap)
                nap.sleep()
        return number

    def alarm() -> None:
        while not over.is_set():
            with lock:
                naps = waiting[:]
                waiting.clear()
            for nap in naps:
                nap.wake()
            time.sleep(0.0005)

    over = threading.Event()
    clock = threading.Thread(target=alarm)
    clock.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(600), timeout=60)) == list(range(600))
    finally:
        over.set()
        clock.join()
    assert round_._holder is None
    assert not round_._due
