"""The kernel on a device: rows are copied there once, and packed sums come back.

Only learning runs there. Merging and digests stay on the host, whose element-wise arithmetic has the same bits
everywhere (statistics.md, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema
from gramian.errors import PluginError, Unavailable
from gramian.ports import Compute


class DeviceCompute(Compute):
    """`gramian.ports.Compute` on any library with the array API."""

    def __init__(
        self,
        xp: Any,
        copy_in: Callable[[Array], Any],
        using: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`xp`: the library's namespace. `copy_in` moves rows to its device, `using` is entered around all work."""
        self._xp = xp
        self._copy_in = copy_in
        self._using = using

    def accumulate(self, rows: Array, schema: Schema) -> Moments:
        with self._using():
            return accumulate(self._copy_in(rows), schema, xp=self._xp)


def on_gpu(device: int, memory_limit_bytes: int | None) -> DeviceCompute:
    """The backend on one GPU. Raises PluginError if there is none, or CuPy or its CUDA is not installed."""
    try:
        import array_api_compat.cupy as xp
        import cupy
    except ImportError as error:
        raise PluginError(f"CuPy cannot be imported: {error}; install gramian[gpu]") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise PluginError(f"there is no GPU that CUDA can use: {error}") from error
    if device >= count:
        raise PluginError(f"there is no GPU number {device}, only 0 to {count - 1}: set GRAMIAN_CUPY_DEVICE")
    if memory_limit_bytes is not None:
        with cupy.cuda.Device(device):
            cupy.get_default_memory_pool().set_limit(size=memory_limit_bytes)
    return DeviceCompute(xp, cupy.asarray, lambda: _using(cupy, device))


@contextmanager
def _using(cupy: Any, device: int) -> Iterator[None]:
    """Raises Unavailable if its memory is used up."""
    try:
        with cupy.cuda.Device(device):
            yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise Unavailable(
            f"the memory of GPU {device} is used up: learn fewer rows at a time, or raise "
            f"GRAMIAN_CUPY_MEMORY_LIMIT_BYTES ({str(error)[:200]})"
        ) from error
