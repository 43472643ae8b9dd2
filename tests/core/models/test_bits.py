"""Equal statistics give equal bytes, whatever BLAS, threads and vector units a node has."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import hashlib
import numpy as np
from gramian.domain.canonical import canonical_json
from gramian.domain.models.linear import to_json
from gramian.domain.models.mlr import fit
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.schema import Schema

def text(gaps):
    # Whole numbers: the statistics themselves are exact, in whatever order BLAS adds them.
    state = np.arange(1, 140 * 91 + 1, dtype=np.uint64)
    for _ in range(4):
        state ^= state << np.uint64(13); state ^= state >> np.uint64(7); state ^= state << np.uint64(17)
    x = (state % np.uint64(2001)).astype(float).reshape(140, 91) - 1000
    x[:, 5] = x[:, 3] + x[:, 4]
    x[:, 9] = 2 * x[:, 8]
    if gaps:
        x[x > 950] = np.nan
    schema = Schema.of((f"x{i:03d}", "C") for i in range(91))
    model = fit(accumulate(x, schema, np.zeros(91)), range(90), 90)
    assert (model.shrinkage > 0) == gaps and bool(model.not_estimable) != gaps
    return canonical_json(to_json(model))

print(hashlib.sha256(text(False)).hexdigest(), hashlib.sha256(text(True)).hexdigest())
"""


def run(**environment: str) -> str:
    """Digests of two models, without and with gaps, fitted in a process with these settings."""
    settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=settings, capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout


@pytest.fixture(scope="module")
def reference() -> str:
    """Digests under the machine's own settings."""
    return run()


def vector_units() -> str:
    """numpy's optional vector instruction sets that this machine has."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
        {"NPY_DISABLE_CPU_FEATURES": vector_units()},
    ],
    ids=["old BLAS kernels", "two BLAS threads", "no vector units"],
)
def test_fit_on_another_processor_gives_the_same_bytes(reference: str, environment: dict[str, str]) -> None:
    """The JSON of a model is the same under other BLAS kernels, thread counts and numpy code paths."""
    assert run(**environment) == reference
