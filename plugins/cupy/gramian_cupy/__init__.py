"""The compute backend on an NVIDIA GPU, by CuPy."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Compute

gramian_api = "1"


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option("device", int, 0, minimum=0, maximum=1023, help="Number of the GPU."),
        Option("memory_limit_bytes", int, minimum=1, help="Most memory of the GPU to take.  [default: all of it]"),
    )


@hookimpl
def gramian_compute(options: Options) -> Compute:
    from gramian_cupy.compute import on_gpu

    return on_gpu(options["device"], options["memory_limit_bytes"])
