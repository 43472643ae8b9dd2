"""Schedules: the grammar, and times in step."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.schedule import Schedule, parse

SECONDS = {"m": 60, "h": 3600, "d": 86400}
LARGEST = {"m": 366 * 24 * 60, "h": 366 * 24, "d": 366}

valid = st.sampled_from("mhd").flatmap(lambda unit: st.builds(Schedule, st.just(unit), st.integers(1, LARGEST[unit])))
moments = st.floats(0, 1e11, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "period_s"),
    [("m1", 60), ("m30", 1800), ("h3", 10800), ("d7", 604800), ("D366", 31622400), ("M5", 300), ("m527040", 31622400)],
)
def test_parse_valid_text_gives_period(text, period_s):
    """Both ends of the range; upper case becomes lower."""
    schedule = parse(text)
    assert schedule.period_s == period_s
    assert str(schedule) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "m0", "m01", "30m", "m-1", "m1.5", " m1", "m1\n", "s30", "w1", "mm1", "h1m1", "m\u0661"),
        *("m1" + "0" * 5000, "d367", "h8785", "m527041"),
    ],
)
def test_parse_invalid_text_says_what_to_write(text):
    """The text names the grammar, the range and examples, and never echoes more than a little."""
    with pytest.raises(ValueError, match=r"from m1 to d366, for example m30 \(every 30 minutes\), h3 ") as caught:
        parse(text)
    assert len(str(caught.value)) < 250


@given(valid)
@settings(deadline=None, max_examples=50)
def test_parse_of_str_gives_schedule_back(schedule):
    """The spelling is unique."""
    assert parse(str(schedule)) == schedule
    assert parse(str(schedule).upper()) == schedule


@given(st.text(alphabet="mhdMHD0123456789 -.", max_size=8))
@settings(deadline=None, max_examples=200)
def test_parse_accepts_exactly_the_grammar(text):
    """Compared with the grammar as it is written down, and the range in seconds."""
    fits = re.fullmatch("[mhd][1-9][0-9]*", text.lower()) is not None
    if fits and 60 <= int(text[1:]) * SECONDS[text[0].lower()] <= 366 * 86400:
        assert str(parse(text)) == text.lower()
    else:
        with pytest.raises(ValueError, match="not a schedule"):
            parse(text)


@given(valid, moments)
@settings(deadline=None, max_examples=200)
def test_next_after_is_the_first_multiple_past_now(schedule, now):
    """Strictly later, at most one period away, and a multiple since the epoch: so peers are in step."""
    due = schedule.next_after(now)
    assert due > now
    assert due - schedule.period_s <= now
    assert due % schedule.period_s == 0


@given(valid, st.integers(0, 10_000))
@settings(deadline=None, max_examples=100)
def test_next_after_a_multiple_is_the_next_one(schedule, count):
    """A pulse at its due time moves on by exactly one period."""
    assert schedule.next_after(float(count * schedule.period_s)) == (count + 1) * schedule.period_s
