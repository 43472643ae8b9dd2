"""Work done for many by one: each item once, errors where they belong, and nobody left waiting."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from gramian.together import Meetings, Together


def test_what_waits_is_done_in_one_go(at_once) -> None:
    """And by one thread."""
    place, goes = Together(), []
    with at_once(place, *(partial(place.do, item, goes.append) for item in "abcde")) as futures:
        pass
    assert [future.result(10) for future in futures] == [None] * 5
    assert goes == [list("abcde")]


def test_no_go_has_more_than_the_most(at_once) -> None:
    """The rest follow at once."""
    place, goes = Together(2), []
    with at_once(place, *(partial(place.do, item, goes.append) for item in "abcde")) as futures:
        pass
    for future in futures:
        future.result(10)
    assert goes == [["a", "b"], ["c", "d"], ["e"]]


def test_error_reaches_the_one_at_work_and_the_others_are_tried_again(at_once) -> None:
    """Whatever ends a thread, those that relied on it are served."""
    place, goes = Together(), []

    def work(items: list) -> None:
        goes.append(items)
        if len(goes) == 1:
            raise KeyboardInterrupt

    with at_once(place, *(partial(place.do, item, work) for item in "abc")) as (first, *others):
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
