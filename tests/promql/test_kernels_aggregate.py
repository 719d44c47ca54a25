"""The aggregation kernels against slow, obvious twins, on random blocks with gaps, NaN and infinities."""

import heapq
import math
import statistics
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from promlike.model.blocks import Bool, Float64, Int32
from promlike.promql.kernels import aggregate as kernels

GROUPS = 4
STEPS = 9


def random_block(seed: int, special: bool = True) -> tuple[Float64, Bool, Int32]:
    random = np.random.default_rng(seed)
    values: Float64 = random.integers(-5, 6, (12, STEPS)).astype(np.float64) * 1.25
    if special:
        values[random.random(values.shape) < 0.1] = np.nan
        values[random.random(values.shape) < 0.05] = np.inf
        values[random.random(values.shape) < 0.05] = -np.inf
    return values, random.random(values.shape) < 0.7, random.integers(0, GROUPS, 12).astype(np.int32)


def members(values: Float64, present: Bool, groups: Int32, group: int, step: int) -> list[float]:
    rows = np.nonzero((groups == group) & present[:, step])[0]
    return [float(values[row, step]) for row in rows]


def slow_mean(numbers: list[float]) -> float:
    special = [number for number in numbers if not math.isfinite(number)]
    return sum(special) if special else float(sum(map(Fraction, numbers)) / len(numbers))


def slow_best(numbers: list[float], largest: bool) -> float:
    valid = [number for number in numbers if not math.isnan(number)]
    return (max(valid) if largest else min(valid)) if valid else math.nan


def slow_variance(numbers: list[float]) -> float:
    return statistics.pvariance(numbers) if all(map(math.isfinite, numbers)) else math.nan


def slow_quantile(numbers: list[float], q: float) -> float:
    if math.isnan(q) or not 0 <= q <= 1:
        return math.nan if math.isnan(q) else math.copysign(math.inf, q - 0.5)
    ordered = sorted(numbers, key=lambda number: (not math.isnan(number), number))
    rank = q * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] * (1 - (rank - lower)) + ordered[upper] * (rank - lower)


def flagged(kernel: Callable[..., None], flag: bool) -> Callable[..., None]:
    """A kernel with its switch, the fourth argument, set."""

    def run(values: Float64, present: Bool, groups: Int32, *rest: object) -> None:
        kernel(values, present, groups, flag, *rest)

    return run


ROW_KERNELS: dict[str, tuple[Callable[..., None], Callable[[list[float]], float]]] = {
    "sum": (flagged(kernels.aggregate_sum, False), lambda numbers: slow_mean(numbers) * len(numbers)),
    "avg": (flagged(kernels.aggregate_sum, True), slow_mean),
    "min": (partial(kernels.aggregate_extreme, kernels.MIN), lambda numbers: slow_best(numbers, False)),
    "max": (partial(kernels.aggregate_extreme, kernels.MAX), lambda numbers: slow_best(numbers, True)),
    "count": (partial(kernels.aggregate_extreme, kernels.COUNT), len),
    "group": (partial(kernels.aggregate_extreme, kernels.GROUP), lambda numbers: 1.0),
    "stdvar": (flagged(kernels.aggregate_variance, False), slow_variance),
    "stddev": (flagged(kernels.aggregate_variance, True), lambda numbers: math.sqrt(slow_variance(numbers))),
}


@pytest.mark.parametrize("name", ROW_KERNELS)
def test_row_by_row(name: str) -> None:
    kernel, twin = ROW_KERNELS[name]
    for seed in range(20):
        values, present, groups = random_block(seed, special=seed % 2 == 0)
        out, out_present = np.empty((GROUPS, STEPS)), np.zeros((GROUPS, STEPS), np.bool_)
        for low, high in ((0, 4), (4, STEPS)):
            kernel(values, present, groups, low, high, out, out_present)
        for group in range(GROUPS):
            for step in range(STEPS):
                numbers = members(values, present, groups, group, step)
                assert out_present[group, step] == bool(numbers)
                if numbers:
                    assert out[group, step] == pytest.approx(twin(numbers), rel=1e-12, abs=1e-12, nan_ok=True), (seed, group, step)


def by_group(groups: Int32) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    order = np.argsort(groups, kind="stable")
    return order, np.concatenate(([0], np.cumsum(np.bincount(groups, minlength=GROUPS)))).astype(np.int64)


def test_quantiles() -> None:
    quantiles = np.array([0, 0.25, 0.5, 0.9, 1, -0.1, 1.1, math.nan, 0.333])
    for seed in range(20):
        values, present, groups = random_block(seed, special=seed % 2 == 0)
        values[np.isinf(values)] = 3.0  # interpolating between infinities is Inf * 0, which the twin does in another order
        out, out_present = np.empty((GROUPS, STEPS)), np.zeros((GROUPS, STEPS), np.bool_)
        for low, high in ((0, 4), (4, STEPS)):
            kernels.aggregate_quantile(values, present, *by_group(groups), quantiles, low, high, out, out_present)
        for group in range(GROUPS):
            for step in range(STEPS):
                numbers = members(values, present, groups, group, step)
                assert out_present[group, step] == bool(numbers)
                if numbers:
                    assert out[group, step] == pytest.approx(slow_quantile(numbers, quantiles[step]), nan_ok=True), (seed, group, step)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_greatest_and_smallest_are_chosen(sign: float) -> None:
    limits = np.array([0, 1, 2, 3, 4, 12, 1, -1, 2], np.int64)
    for seed in range(20):
        values, present, groups = random_block(seed)
        chosen, position = np.zeros(values.shape, np.bool_), np.zeros(len(values), np.int64)
        for low, high in ((0, 5), (5, STEPS)):
            kernels.select_extreme(values, present, *by_group(groups), limits, sign, low, high, chosen, position)
        assert not (chosen & ~present).any()
        for group in range(GROUPS):
            for step in range(STEPS):
                ranks = [(-math.inf, 0.0) if math.isnan(n) else (0.0, n * sign) for n in members(values, present, groups, group, step)]
                wanted = heapq.nlargest(max(int(limits[step]), 0), ranks)
                found = members(values, chosen, groups, group, step)
                assert sorted((-math.inf, 0.0) if math.isnan(n) else (0.0, n * sign) for n in found) == sorted(wanted), (seed, group, step)


def test_the_first_rows_are_chosen() -> None:
    limits = np.array([0, 1, 2, 3, 4, 12, 1, -1, 2], np.int64)
    values, present, groups = random_block(1)
    chosen = np.zeros(values.shape, np.bool_)
    for low, high in ((0, 5), (5, STEPS)):
        kernels.select_first(present, *by_group(groups), limits, low, high, chosen)
    for group in range(GROUPS):
        for step in range(STEPS):
            rows = np.nonzero((groups == group) & present[:, step])[0][: max(int(limits[step]), 0)]
            assert np.nonzero((groups == group) & chosen[:, step])[0].tolist() == rows.tolist()
