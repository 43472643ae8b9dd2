"""`python -m benchmarks [NAME ...] [--write]`: run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import machine, results, suite

README = Path(__file__).with_name("README.md")
LIMIT_S = 600
KNOWN = suite.NAMES + suite.LONG


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"only these: {', '.join(KNOWN)}; without any, all but {', '.join(suite.LONG)}",
    )
    parser.add_argument("--write", action="store_true", help="also put the table into benchmarks/README.md")
    options = parser.parse_args()
    unknown = set(options.names) - {*KNOWN, "all"}
    if unknown:
        parser.error(f"there is no benchmark {min(unknown)!r}; known: {', '.join(KNOWN)}, all")
    about = machine.description()
    names = KNOWN if "all" in options.names else options.names or suite.NAMES
    rows = [row for name in names for row in _in_own_process(name)]
    text = results.report(about, rows)
    print(text)
    if options.write:
        results.write(README, text)


def _in_own_process(name: str) -> list[results.Row]:
    """The environment must hold before numpy is imported, and memory must be the benchmark's alone."""
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.suite", name]
    done = subprocess.run(command, env=machine.environment(), check=True, stdout=subprocess.PIPE, timeout=LIMIT_S)
    print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return [results.Row(**row) for row in json.loads(done.stdout)]


if __name__ == "__main__":
    main()
