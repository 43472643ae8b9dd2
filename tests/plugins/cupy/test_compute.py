"""The kernel on devices: under numpy and array_api_strict everywhere, under CuPy where there is a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gramian import plugins
from gramian.domain.statistics import kernel, packed
from gramian.domain.statistics.schema import Schema
from gramian.errors import PluginError, Unavailable
from gramian.settings import Settings
from gramian.testing.compute import ComputeContract
from gramian_cupy.compute import DeviceCompute

try:
    import cupy

    HAS_GPU = cupy.cuda.runtime.getDeviceCount() > 0
except Exception:  # noqa: BLE001 - whatever CuPy says where there is none
    HAS_GPU = False
gpu = pytest.mark.skipif(not HAS_GPU, reason="no CUDA GPU, or no CuPy, on this machine")

SCHEMA = Schema.of([("x", "C"), ("y", "C"), ("b", "B")])


class TestArrayApiStrict(ComputeContract):
    """Nothing is used that the standard does not have."""

    @pytest.fixture
    def compute(self) -> DeviceCompute:
        return DeviceCompute(array_api_strict, array_api_strict.asarray)


class TestNumpyByCompat(ComputeContract):
    """The layer that CuPy is used through, on the host."""

    @pytest.fixture
    def compute(self) -> DeviceCompute:
        return DeviceCompute(array_api_compat.numpy, np.asarray)


@gpu
class TestCupy(ComputeContract):
    """On the GPU itself."""

    @pytest.fixture
    def compute(self) -> Any:
        return plugins.make("compute", "cupy", Settings())


class Remote:
    """What CuPy's arrays are like: no namespace of their own, and a `get` that copies to the host."""

    def __init__(self, array: Any, moved: list[int]) -> None:
        self._array, self._moved = array, moved

    def get(self) -> np.ndarray:
        host = np.array(np.from_dlpack(self._array))
        self._moved.append(host.nbytes)
        return host


@given(rows=arrays(np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=st.sampled_from([0.0, 1.0, np.nan])))
def test_device_gives_the_numpy_kernels_sums(rows: np.ndarray) -> None:
    """For any rows, with any gaps."""
    device = DeviceCompute(array_api_strict, array_api_strict.asarray).accumulate(rows, SCHEMA)
    host = kernel.accumulate(rows, SCHEMA)
    assert (device.n, device.gaps) == (host.n, host.gaps)
    for name in ("origin", "s", "t3", "t4", "P", "G", "N", "S", "Q"):
        np.testing.assert_allclose(getattr(device, name), getattr(host, name), rtol=1e-13, atol=1e-13)


def test_batch_moves_once_in_and_packed_sums_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a (p, p) matrix only one half comes back, and of the rows no more than the sample for the origin."""
    names = [(f"c{i:03}", "C") for i in range(200)]
    rows = np.random.default_rng(0).normal(size=(5_000, 200))
    moved_in, moved_out = [], []
    to_host = kernel.to_host

    def counted(array: Any) -> np.ndarray:
        moved_out.append(int(np.prod(array.shape)) * 8)
        return to_host(array)

    def copy_in(rows: np.ndarray) -> Any:
        moved_in.append(rows.nbytes)
        return array_api_strict.asarray(rows)

    monkeypatch.setattr(kernel, "to_host", counted)
    DeviceCompute(array_api_strict, copy_in).accumulate(rows, Schema.of(names))
    assert moved_in == [rows.nbytes]
    allowed = 8 * packed.length(200) + 8 * 200 * kernel.SAMPLE_ROWS + 20 * 8 * 200
    assert sum(moved_out) <= allowed


def test_arrays_that_export_by_get_are_fetched_so() -> None:
    """As CuPy's are."""
    moved: list[int] = []
    host = kernel.to_host(Remote(array_api_strict.asarray([1.0, 2.0]), moved))
    assert (host.tolist(), moved) == ([1.0, 2.0], [16])


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_plugin_says_so() -> None:
    """Before anything is learned, with what to do."""
    with pytest.raises(PluginError, match=r"gramian\[gpu\]|no GPU"):
        plugins.make("compute", "cupy", Settings())


def test_options_are_checked() -> None:
    """By name."""
    settings = Settings(environment={"GRAMIAN_CUPY_MEMORY_LIMIT_BYTES": "0"})
    with pytest.raises(PluginError, match="GRAMIAN_CUPY_MEMORY_LIMIT_BYTES must be a whole number from 1"):
        plugins.make("compute", "cupy", settings)


def test_plugin_module_imports_no_cupy() -> None:
    """Runs on a CPU never pay for it."""
    code = "import gramian_cupy, sys; print([name for name in ('cupy', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


@gpu
def test_memory_limit_refuses_a_batch_that_does_not_fit() -> None:
    """In words, and the next one goes through."""
    compute = plugins.make("compute", "cupy", Settings(environment={"GRAMIAN_CUPY_MEMORY_LIMIT_BYTES": str(2**25)}))
    try:
        with pytest.raises(Unavailable, match="used up"):
            compute.accumulate(np.zeros((2**21, 3)), SCHEMA)
        assert compute.accumulate(np.zeros((100, 3)), SCHEMA).n == 100
    finally:
        cupy.get_default_memory_pool().set_limit(size=0)
