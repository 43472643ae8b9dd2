"""Contract of `gramian.ports.Compute`. Subclass, name the class `Test...`, and provide the fixture.

    class TestMyCompute(ComputeContract):
        @pytest.fixture
        def compute(self): return MyCompute()

Sums are compared with the same sums in extended precision, within `tolerance` times the sum of magnitudes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gramian.domain.statistics import kernel, packed
from gramian.domain.statistics.derived import counts, means, pair_counts, variances
from gramian.domain.statistics.layout import LARGEST
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema
from gramian.ports import Compute

SCHEMA = Schema.of([("age", "C"), ("dose", "C"), ("weight", "C"), ("smoker", "B"), ("treated", "B")])


class ComputeContract:
    """What every compute backend does. See the module for how to use it."""

    tolerance = 1e-12
    """Allowed error of a sum, relative to the sum of the magnitudes of what it adds."""

    @pytest.fixture
    def compute(self) -> Compute:
        raise NotImplementedError("provide `compute`: a backend to test")

    @pytest.mark.parametrize("count", [1, 2, 7, 1_000, 100_000])
    def test_sums_are_those_of_the_rows(self, compute: Compute, count: int) -> None:
        """All of them, about the origin that the statistics name; from one row to many blocks."""
        rows = _rows(count)
        self._assert_sums(compute.accumulate(rows, SCHEMA), rows)

    def test_origin_is_the_rules(self, compute: Compute) -> None:
        """It is chosen from the rows alone: nodes with equal rows publish equal bits."""
        rows = _rows(5_000)
        assert compute.accumulate(rows, SCHEMA).origin.tolist() == kernel.accumulate(rows, SCHEMA).origin.tolist()

    def test_large_means_lose_no_digits(self, compute: Compute) -> None:
        """Sums are taken about the origin, not about zero."""
        rows = _rows(2_000)
        rows[:, :3] += np.array([1e9, -1e12, 1e6])
        found = compute.accumulate(rows, SCHEMA)
        self._assert_sums(found, rows)
        exact = rows.astype(np.longdouble)
        assert np.allclose(means(found), exact.mean(axis=0).astype(float), rtol=1e-15, atol=0)
        assert np.allclose(variances(found), exact.var(axis=0).astype(float), rtol=1e-9, atol=0)

    def test_missing_values_count_pair_by_pair(self, compute: Compute) -> None:
        """NaN is missing: every sum is over the rows that have all of its attributes."""
        rows = _rows(3_000)
        rows[np.random.default_rng(7).random(rows.shape) < 0.2] = np.nan
        there = ~np.isnan(rows)
        found = compute.accumulate(rows.copy(), SCHEMA)
        assert counts(found).tolist() == there.sum(axis=0).tolist()
        assert np.array_equal(pair_counts(found), there.T.astype(float) @ there.astype(float))
        self._assert_sums(found, rows)

    def test_column_without_values_is_allowed(self, compute: Compute) -> None:
        """It counts nothing, and spoils nothing."""
        rows = _rows(100)
        rows[:, 1] = np.nan
        found = compute.accumulate(rows, SCHEMA)
        assert counts(found).tolist() == [100, 0, 100, 100, 100]
        self._assert_sums(found, rows)

    def test_no_rows_give_empty_statistics(self, compute: Compute) -> None:
        """Nothing was learned."""
        found = compute.accumulate(np.empty((0, SCHEMA.size)), SCHEMA)
        assert found.n == 0
        assert not found.s.any()
        assert not found.P.any()

    @pytest.mark.parametrize("value", [np.inf, -np.inf, 10 * LARGEST])
    def test_value_beyond_the_largest_names_its_column(self, compute: Compute, value: float) -> None:
        """Its powers would overflow and spoil the statistics for ever."""
        rows = _rows(1_500)
        rows[1_200, 2] = value
        with pytest.raises(ValueError, match="weight"):
            compute.accumulate(rows, SCHEMA)

    @pytest.mark.parametrize("value", [2.0, 0.5, -1.0])
    def test_value_of_a_binary_column_that_is_neither_names_it(self, compute: Compute, value: float) -> None:
        """B is 0 or 1."""
        rows = _rows(1_500)
        rows[1_200, 3] = value
        with pytest.raises(ValueError, match="smoker"):
            compute.accumulate(rows, SCHEMA)

    def test_rows_of_another_shape_are_refused(self, compute: Compute) -> None:
        """One column too many or too few, and a single row that is no matrix."""
        for rows in (np.zeros((3, SCHEMA.size + 1)), np.zeros((3, SCHEMA.size - 1)), np.zeros(SCHEMA.size)):
            with pytest.raises(ValueError):  # noqa: PT011 - each backend words it
                compute.accumulate(rows, SCHEMA)

    def test_rows_are_left_alone(self, compute: Compute) -> None:
        """They are the caller's; a view that may not be written will do."""
        rows = _rows(500)
        before = rows.copy()
        rows.flags.writeable = False
        compute.accumulate(rows, SCHEMA)
        assert np.array_equal(rows, before)

    def test_equal_rows_give_equal_bits(self, compute: Compute) -> None:
        """Also from several threads at once: what is learned again is forgotten exactly."""
        rows = _rows(4_000)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: compute.accumulate(rows, SCHEMA), range(8)))
        for name in ("s", "t3", "t4", "P", "G"):
            assert len({getattr(each, name).tobytes() for each in found}) == 1, name

    def test_result_is_in_host_memory(self, compute: Compute) -> None:
        """Merging, storing and publishing work on numpy arrays, whatever computed them."""
        found = compute.accumulate(_rows(50), SCHEMA)
        assert all(type(getattr(found, name)) is np.ndarray for name in ("origin", "s", "t3", "t4", "P", "G"))
        assert found.local is not None
        assert found.local.low.tolist() == _rows(50).min(axis=0).tolist()

    def _assert_sums(self, found: Moments, rows: Array) -> None:
        """Against the definitions (statistics.md, section 1) in extended precision."""
        c, there = SCHEMA.continuous, ~np.isnan(rows)
        u = np.where(there, rows.astype(np.longdouble) - found.origin, 0)
        self._assert_close(found.s, u.sum(axis=0), np.abs(u).sum(axis=0), "s")
        for name, power in (("t3", 3), ("t4", 4)):
            self._assert_close(getattr(found, name), (u[:, :c] ** power).sum(axis=0), _size(u[:, :c] ** power), name)
        products = np.array([[(u[:, i] * u[:, j]).sum() for j in range(SCHEMA.size)] for i in range(SCHEMA.size)])
        sizes = np.array([[np.abs(u[:, i] * u[:, j]).sum() for j in range(SCHEMA.size)] for i in range(SCHEMA.size)])
        self._assert_close(packed.unpack(found.P, SCHEMA.size), products, sizes, "P")
        squares = u[:, :c] ** 2
        conditional = np.array([[(squares[:, i] * u[:, j]).sum() for j in range(c, SCHEMA.size)] for i in range(c)])
        self._assert_close(found.G, conditional, conditional, "G")
        assert found.n == len(rows)

    def _assert_close(self, found: Array, exact: Array, size: Array, name: str) -> None:
        error = np.abs(found.astype(np.longdouble) - exact)
        assert (error <= self.tolerance * (size + np.finfo(float).tiny)).all(), f"{name} is off by {error.max()}"


def _rows(count: int) -> Array:
    rng = np.random.default_rng(count)
    numbers = rng.normal([50, 3, 70], [15, 0.1, 9], size=(count, 3))
    return np.column_stack([numbers, rng.integers(0, 2, size=(count, 2)).astype(float)])


def _size(values: Array) -> Array:
    size: Array = np.abs(values).sum(axis=0)
    return size
