"""Decoding JSON to types from many threads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gramian

ROOT = Path(gramian.__file__).parents[2]
RACE = """
import sys, threading, msgspec
from gramian.domain import typed

sys.setswitchinterval(1e-6)
for _ in range(60):
    fields = [(f"f{j}", dict[str, list[int | str | None]], {}) for j in range(10)]
    inner = [msgspec.defstruct(f"C{i}", fields) for i in range(5)]
    outer = msgspec.defstruct("T", [(f"c{i}", kind | None, None) for i, kind in enumerate(inner)])
    start = threading.Barrier(8)
    def first() -> None:
        start.wait()
        assert typed.decode(b'{"c0": {}, "c4": {}}', outer).c1 is None
    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_meet_a_class_at_once_do_not_crash_the_process() -> None:
    """msgspec alone ends this with a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", RACE], timeout=60, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_decodes_to_a_class_without_the_lock() -> None:
    """One call of msgspec's own typed decoding would bring the crash back."""
    unsafe = re.compile(r"msgspec\.convert\(|msgspec\.json\.decode\([^\n]*type=(?!dict|list|str)")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("core/gramian", "plugins", "functions")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "typed.py" and unsafe.search(path.read_text())
    ]
    assert found == []
