"""The compute backend on numpy: the host's processor and BLAS."""

from __future__ import annotations

from gramian.hookspecs import hookimpl
from gramian.ports import Compute

gramian_api = "1"


@hookimpl
def gramian_compute() -> Compute:
    from gramian_numpy.compute import NumpyCompute

    return NumpyCompute()
