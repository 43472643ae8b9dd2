"""A node on real local stores, without servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gramian.domain import frame as frames
from gramian.domain.frame import Frame
from gramian.domain.statistics import kernel
from gramian.domain.statistics.derived import covariance, means
from gramian.domain.statistics.schema import Schema
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases.projects import folding, ledger, lifecycle
from gramian.usecases.projects.lifecycle import Project
from gramian_local.node import opened

NAMES = ("x", "y", "flag")
TYPES = ("C", "C", "B")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with opened(Settings(), tmp_path / "home") as (node, _):
        yield node


@pytest.fixture
def project(node: Node) -> Project:
    return lifecycle.create(node, "c1", "p1", kind="cpu", persist=True, options={})


@pytest.fixture
def frame() -> Callable[..., Frame]:
    """A wire frame of rows."""

    def make(rows: np.ndarray, names: Sequence[str] = NAMES, types: Sequence[str] = TYPES) -> Frame:
        cells = [["" if np.isnan(cell) else repr(float(cell)) for cell in row] for row in rows]
        body = {"attributeNames": list(names), "attributeTypes": list(types), "data": cells}
        return frames.decode(json.dumps(body).encode())

    return make


@pytest.fixture
def rows() -> Callable[..., np.ndarray]:
    """Random rows of x, y and flag."""

    def make(seed: int, count: int = 40) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.column_stack([rng.normal(5, 2, (count, 2)), rng.integers(0, 2, count)])

    return make


@pytest.fixture
def assert_holds(node: Node, project: Project) -> Callable[[np.ndarray], None]:
    """Asserts that the project's statistics are those of these rows."""

    def check(expected: np.ndarray) -> None:
        found = folding.moments(node, project)
        reference = kernel.accumulate(expected, Schema.of(zip(NAMES, TYPES, strict=True)))
        assert found is not None
        assert found.n == len(expected) == ledger.read(node, project).rows
        np.testing.assert_allclose(means(found), means(reference), rtol=1e-12)
        np.testing.assert_allclose(covariance(found), covariance(reference), rtol=1e-9, atol=1e-12)

    return check
