"""The machine that figures come from."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Some machines name an old processor for the sake of old OpenBLAS builds: that would slow both sides down."""

_KERNEL = """
import ctypes, glob, os, numpy
for path in glob.glob(os.path.join(os.path.dirname(numpy.__file__) + ".libs", "*openblas*")):
    library = ctypes.CDLL(path)
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
        if hasattr(library, name):
            function = getattr(library, name)
            function.restype = ctypes.c_char_p
            print(function().decode())
            raise SystemExit
print("unknown")
"""


def environment() -> dict[str, str]:
    """For every process of a run: one BLAS thread, and the kernels that OpenBLAS itself picks."""
    return {name: value for name, value in os.environ.items() if name not in OVERRIDES} | ONE_THREAD


def description() -> list[str]:
    """Lines of Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "msgspec", "flask", "waitress"))
    return [
        f"- {_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        f"- Python {platform.python_version()}, {packages}, SQLite {sqlite3.sqlite_version}",
        f"- OpenBLAS kernel {_kernel()}, one BLAS thread in every process",
        f"- load before the run: {os.getloadavg()[0]:.2f}",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _kernel() -> str:
    command = [sys.executable, "-c", _KERNEL]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout.strip()
