"""Work done for many by one: each item once, errors where they belong, and nobody left waiting."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from gramian.together import Meetings, Together


@contextmanager
def lined_up(place: Together, items: list, work: Callable[[list], None]) -> Iterator[list[Future]]:
    """Futures of calls that all wait, in the items' order, until the block ends."""
    begun, over = threading.Event(), threading.Event()
    with ThreadPoolExecutor(len(items) + 1) as pool:
        first = pool.submit(place.do, None, lambda _: (begun.set(), over.wait(10)))
        assert begun.wait(10)
        futures = []
        for number, item in enumerate(items, 1):
            futures.append(pool.submit(place.do, item, work))
            while place.waiting < number:
                time.sleep(0.001)
        yield futures
        over.set()
        first.result(10)


def test_what_waits_is_done_in_one_go() -> None:
    """And by one thread."""
    goes = []
    with lined_up(Together(), list("abcde"), goes.append) as futures:
        pass
    assert [future.result(10) for future in futures] == [None] * 5
    assert goes == [list("abcde")]


def test_no_go_has_more_than_the_most() -> None:
    """The rest follow at once."""
    goes = []
    with lined_up(Together(2), list("abcde"), goes.append) as futures:
        pass
    for future in futures:
        future.result(10)
    assert goes == [["a", "b"], ["c", "d"], ["e"]]


def test_error_reaches_the_one_at_work_and_the_others_are_tried_again() -> None:
    """Whatever ends a thread, those that relied on it are served."""
    goes = []

    def work(items: list) -> None:
        goes.append(items)
        if len(goes) == 1:
            raise KeyboardInterrupt

    with lined_up(Together(), list("abc"), work) as (first, *others):
        pass
    assert isinstance(first.exception(10), KeyboardInterrupt)
    assert [future.result(10) for future in others] == [None, None]
    assert goes == [["a", "b", "c"], ["b", "c"]]


def test_each_item_is_done_once_by_threads_that_come_and_go() -> None:
    """Many threads, short work, now and then an error."""
    place, done, errors = Together[int](5), [], []

    def work(items: list[int]) -> None:
        if items[0] % 10 == 7:
            raise KeyError(items[0])
        done.extend(items)

    def call(item: int) -> None:
        try:
            place.do(item, work)
        except KeyError:
            errors.append(item)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(3000), timeout=60))
    assert sorted(done + errors) == list(range(3000))
    assert place.waiting == 0


def test_place_is_forgotten_when_nobody_is_there() -> None:
    """Keys may be as many as there are projects."""
    meetings = Meetings[str, int]()
    place = meetings.at("a")
    assert meetings.at("a") is place
    assert meetings.at("b") is not place
    del place
    gc.collect()
    assert not meetings._places
