"""Fuzz one harness with coverage feedback: `python tests/fuzz/fuzz.py HARNESS [libFuzzer options] [corpus folders]`.

For instance `python tests/fuzz/fuzz.py snapshot -max_total_time=600 /tmp/found tests/fuzz/corpus/snapshot`, which
keeps what it finds interesting in the first folder. It ends at the first input that breaks the harness, and writes it.
"""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["gramian"]):
    import harnesses


def main() -> None:
    name = sys.argv.pop(1)
    if name not in harnesses.HARNESSES:
        sys.exit(f"known harnesses: {', '.join(harnesses.HARNESSES)}")
    warnings.simplefilter("error")
    limit = f"-max_len={harnesses.MAX_INPUT_BYTES}"
    atheris.Setup([sys.argv[0], limit, *sys.argv[1:]], lambda data: harnesses.attempt(name, data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
