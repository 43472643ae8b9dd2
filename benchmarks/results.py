"""What a benchmark found, and the table of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `target`: what is asked, in words; `met`: None where it is only reported."""

    what: str
    measured: str
    target: str
    met: bool | None = None
    detail: str = ""


def ratio(what: str, ours_s: float, bare_s: float, at_least: float, detail: str = "") -> Row:
    """A speed as a share of the bare work's, from seconds."""
    share = bare_s / ours_s
    times = f"{seconds(ours_s)} against {seconds(bare_s)}"
    return Row(what, f"{share:.2f}", f"at least {at_least:g}", share >= at_least, f"{times}{detail and '; '}{detail}")


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def table(rows: Iterable[Row]) -> str:
    """GitHub's Markdown."""
    lines = ["| what | measured | target | met | detail |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        lines.append(f"| {row.what} | {row.measured} | {row.target} | {met} | {row.detail} |")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Put `text` between the markers of the file at `path`. Raises ValueError if it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def report(machine: Sequence[str], rows: Iterable[Row]) -> str:
    return "\n".join([*machine, "", table(rows)])
