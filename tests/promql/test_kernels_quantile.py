import math
import statistics

import numpy as np
import pytest

from promlike.promql.kernels.quantile import window_quantile
from tests.promql.window_data import ENDS_MS, RANGES_MS, SEEDS, Window, assert_bits, blank, block_of, by_windows, random_block

NO_PHI = np.empty(0)


def quantile(phi: float, values: list[float]) -> float:
    """Sorted with NaN first, interpolated between the two samples around the rank."""
    if math.isnan(phi):
        return math.nan
    if not 0 <= phi <= 1:
        return math.copysign(math.inf, phi)
    ordered = [value for value in values if math.isnan(value)] + sorted(value for value in values if not math.isnan(value))
    rank = phi * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def mad(samples: Window) -> float:
    values = samples[1]
    if any(math.isnan(value) for value in values):
        return math.nan
    median = quantile(0.5, values)
    return quantile(0.5, [abs(value - median) for value in values])


@pytest.mark.parametrize("phi", [0.0, 0.25, 0.5, 0.999, 1.0, -0.1, 1.1, math.nan])
def test_quantiles_agree_with_sorting_each_window(phi: float) -> None:
    phis = np.full(len(ENDS_MS), phi)
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            window_quantile(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, phis, False, out, present)
            # The sign of a zero is lost between the zeros of a window, which are equal.
            assert_bits(out + 0.0, present, by_windows(block, ENDS_MS, range_ms, lambda samples: quantile(phi, samples[1]) + 0.0))


@pytest.mark.parametrize("step_ms", [1_000, 20_000, 90_000])
def test_many_samples_a_step_leave_and_come_in_order(step_ms: int) -> None:
    rng = np.random.default_rng(4)
    values = [rng.normal(size=400), rng.integers(0, 3, 400).astype(float), rng.choice([math.nan, math.inf, 1.0, -1.0], 400), np.ones(400)]
    block = block_of([[(1000 * at, float(value)) for at, value in enumerate(row)] for row in values])
    ends = np.arange(0, 500_000, step_ms, dtype=np.int64)
    for range_ms in (1_000, 15_000, 60_000, 250_000):
        out, present = blank(block, ends)
        window_quantile(block.ts_ms, block.values, block.offsets, ends, range_ms, np.full(len(ends), 0.3), False, out, present)
        assert_bits(out, present, by_windows(block, ends, range_ms, lambda samples: quantile(0.3, samples[1])))


def test_deviations_agree_with_sorting_each_window() -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            window_quantile(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, NO_PHI, True, out, present)
            assert_bits(out, present, by_windows(block, ENDS_MS, range_ms, mad))


def test_deviation_of_known_values() -> None:
    cases = [([4.0, 6, 2, 1, 999, 1, 2], 1.0), ([1.0, 2, 3, 4, 5], 1.0), ([7.0] * 5, 0.0), ([5.0], 0.0)]
    for values, expected in cases:
        assert statistics.median(abs(value - statistics.median(values)) for value in values) == expected
        block = block_of([list(enumerate(values, start=1))])
        out, present = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
        window_quantile(block.ts_ms, block.values, block.offsets, np.array([9], np.int64), 9, NO_PHI, True, out, present)
        assert out[0, 0] == expected


def test_every_step_has_its_own_quantile() -> None:
    block = block_of([[(1, 1.0), (2, 2.0), (3, 3.0)]])
    out, present = np.zeros((1, 3)), np.zeros((1, 3), np.bool_)
    ends = np.array([3, 3, 3], np.int64)
    window_quantile(block.ts_ms, block.values, block.offsets, ends, 3, np.array([0.0, 0.5, 1.0]), False, out, present)
    assert out.tolist() == [[1.0, 2.0, 3.0]]
