"""A server's freed memory goes back to the system. glibc would keep it, in as many heaps as there are threads."""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from typing import Final

EVERY_S: Final = 10.0
HEAPS: Final = 2
"""With one, threads wait for each other; of further ones the last free piece never goes back."""
_M_ARENA_MAX: Final = -8


def limit_heaps() -> None:
    """To be called before there are threads. Nothing where the C library is another one."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, HEAPS)


def give_back(over: threading.Event) -> None:
    """Trim the heaps every now and then until `over`; it takes a millisecond or two."""
    with suppress(AttributeError, OSError, TypeError):
        trim = ctypes.CDLL(None).malloc_trim
        while not over.wait(EVERY_S):
            trim(0)
