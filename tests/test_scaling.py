"""Standardisation by the training part, against sums in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from blemore_harness.heads.scaling import BLOCK, fit_scaler


def exact(column: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) without rounding."""
    values = [Fraction(float(value)) for value in column]
    mean = sum(values) / len(values)
    return float(mean), math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


@pytest.mark.parametrize("count", [2, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_mean_and_deviation_are_the_exact_ones(count: int) -> None:
    random = np.random.default_rng(count)
    # Ordinary, far from zero, tiny, huge; the later rows differ from the first block's.
    columns = [random.normal(2, 3, count), random.normal(5000, 0.5, count), random.normal(0, 1e-12, count),
               random.normal(-1e9, 1e9, count), np.arange(count) * 0.3]  # fmt: skip
    vectors = np.column_stack(columns).astype(np.float32)
    scaler = fit_scaler(vectors)
    expected = [exact(column) for column in vectors.T]
    np.testing.assert_allclose(scaler.mean, [mean for mean, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, [deviation for _, deviation in expected], rtol=1e-9)
    literal = [[(float(v) - m) / s for v, (m, s) in zip(row, expected, strict=True)] for row in vectors]
    np.testing.assert_allclose(scaler.apply(vectors), literal, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 1000, 5000])
def test_what_does_not_vary_becomes_zero_and_is_not_blown_up(count: int) -> None:
    # 0.1 and 1e9/3 are no sums of few powers of two: their mean over many rows is rounded.
    values = np.array([0.0, 1.0, 0.1, -1 / 3, 1e9 / 3, 1e-9], dtype=np.float32)
    vectors = np.tile(values, (count, 1))
    scaler = fit_scaler(vectors)
    assert scaler.scale.tolist() == [1.0] * len(values)
    np.testing.assert_allclose(scaler.mean, values, rtol=1e-12)
    np.testing.assert_allclose(scaler.apply(vectors), 0, atol=1e-6 * 1e9 * np.finfo(np.float64).eps * count)


def test_a_column_whose_last_bit_varies_is_standardised() -> None:
    low = np.float32(1000)
    vectors = np.array([[low], [np.nextafter(low, np.float32(2000))]] * 50, dtype=np.float32)
    np.testing.assert_allclose(np.unique(fit_scaler(vectors).apply(vectors)), [-1, 1], rtol=1e-6)


def test_columns_and_other_rows_are_left_alone() -> None:
    vectors = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    before = vectors.copy()
    scaler = fit_scaler(vectors)
    applied = scaler.apply(vectors)
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(scaler.apply(vectors[3:4]), applied[3:4])
    assert scaler.apply_in_place(vectors) is vectors
    np.testing.assert_array_equal(vectors, applied)


@pytest.mark.parametrize(("count", "varies"), [(100, True), (300_000, True), (1_000_000, False)])
def test_what_varies_less_than_the_bound_of_scikit_learn_counts_as_constant(count: int, varies: bool) -> None:
    """One row of many differs in its last bit: the variance is (2 ** -23) ** 2 / N, the bound (N eps) ** 2."""
    vectors = np.ones((count, 1), dtype=np.float32)
    vectors[count // 2] = np.nextafter(np.float32(1), np.float32(2))
    assert ((2**-23) ** 2 / count > (count * 2**-52) ** 2) == varies
    scale = float(fit_scaler(vectors).scale[0])
    assert scale == pytest.approx(2**-23 * math.sqrt(count - 1) / count if varies else 1.0, rel=1e-3)
