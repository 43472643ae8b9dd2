"""When a federation pulses: `m30` every 30 minutes, `h3` every 3 hours, `d7` every 7 days."""

from __future__ import annotations

import math
import re

import msgspec

_GRAMMAR = re.compile(r"([mhd])([1-9][0-9]{0,5})")
_UNIT_S = {"m": 60, "h": 3600, "d": 86400}
_MAX_PERIOD_S = 366 * 86400


class Schedule(msgspec.Struct, frozen=True):
    """Every `count` units (`m` minutes, `h` hours, `d` days). Made by `parse`."""

    unit: str
    count: int

    @property
    def period_s(self) -> int:
        return self.count * _UNIT_S[self.unit]

    def next_after(self, now: float) -> float:
        """First multiple of the period since the unix epoch (UTC) strictly after `now`, in unix seconds.

        Peers with the same schedule thus pulse in step, whenever each of them started.
        """
        # In integers: dividing floats can round up to the multiple itself and skip it.
        return float((math.floor(now) // self.period_s + 1) * self.period_s)

    def __str__(self) -> str:
        return f"{self.unit}{self.count}"


def parse(text: str) -> Schedule:
    """Read a schedule; upper case is accepted. Raises ValueError outside the grammar or 1 minute to 366 days."""
    match = _GRAMMAR.fullmatch(text.lower())
    if match is None:
        raise _invalid(text)
    schedule = Schedule(match[1], int(match[2]))
    if schedule.period_s > _MAX_PERIOD_S:
        raise _invalid(text)
    return schedule


def _invalid(text: str) -> ValueError:
    shown = text if len(text) <= 20 else text[:20] + "..."
    return ValueError(
        f"{shown!r} is not a schedule: write m, h or d and a whole number, from m1 to d366, for example m30 (every "
        "30 minutes), h3 (every 3 hours) or d7 (every 7 days)."
    )
