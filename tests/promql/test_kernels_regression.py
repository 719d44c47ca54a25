import math

import numpy as np
import pytest

from promlike.promql.kernels.regression import double_exponential, linear_regression
from tests.promql.test_kernels_rollup import add
from tests.promql.window_data import ENDS_MS, RANGES_MS, SEEDS, Window, assert_bits, blank, block_of, random_block, window

NO_TIMES = np.empty(0)


def total(terms: list[float]) -> float:
    result, c = 0.0, 0.0
    for term in terms:
        result, c = add(term, result, c)
    return result + c


def divide(a: float, b: float) -> float:
    return float(np.float64(a) / np.float64(b))


def fit(samples: Window, origin_ms: int) -> tuple[float, float]:
    times, values = samples
    if all(value == values[0] for value in values):
        return (math.nan, math.nan) if math.isinf(values[0]) else (0.0, values[0])
    x = [(ts - origin_ms) / 1e3 for ts in times]
    n = float(len(x))
    sum_x, sum_y = total(x), total(values)
    sum_xy = total([a * b for a, b in zip(x, values, strict=True)])
    sum_x2 = total([a * a for a in x])
    slope = divide(sum_xy - sum_x * sum_y / n, sum_x2 - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def smooth(values: list[float], sf: float, tf: float) -> float:
    level, before, trend = values[0], 0.0, values[1] - values[0]
    for i, value in enumerate(values[1:]):
        if i > 0:
            trend = tf * (level - before) + (1 - tf) * trend
        before, level = level, sf * value + (1 - sf) * (level + trend)
    return level


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_regressions_agree_with_their_twin_bit_for_bit() -> None:
    times_ms = ENDS_MS + 1234
    ahead = np.linspace(-5.0, 3600.0, len(ENDS_MS))
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            slopes: list[list[float | None]] = []
            predictions: list[list[float | None]] = []
            for series in range(block.series):
                windows = [window(block, series, end, range_ms) for end in ENDS_MS.tolist()]
                slopes.append([fit(samples, samples[0][0])[0] if len(samples[0]) > 1 else None for samples in windows])
                row: list[float | None] = []
                for samples, now_ms, seconds in zip(windows, times_ms.tolist(), ahead.tolist(), strict=True):
                    if len(samples[0]) < 2:
                        row.append(None)
                        continue
                    slope, intercept = fit(samples, now_ms)
                    row.append(slope * seconds + intercept)
                predictions.append(row)
            out, present = blank(block, ENDS_MS)
            linear_regression(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, times_ms, NO_TIMES, out, present)
            assert_bits(out, present, slopes)
            out, present = blank(block, ENDS_MS)
            linear_regression(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, times_ms, ahead, out, present)
            assert_bits(out, present, predictions)


def test_smoothing_agrees_with_its_twin_bit_for_bit() -> None:
    factors = np.linspace(0.01, 0.99, len(ENDS_MS))
    trends = factors[::-1].copy()
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            double_exponential(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, factors, trends, out, present)
            expected: list[list[float | None]] = []
            for series in range(block.series):
                row: list[float | None] = []
                for end_ms, sf, tf in zip(ENDS_MS.tolist(), factors.tolist(), trends.tolist(), strict=True):
                    values = window(block, series, end_ms, range_ms)[1]
                    row.append(smooth(values, sf, tf) if len(values) > 1 else None)
                expected.append(row)
            assert_bits(out, present, expected)


@pytest.mark.parametrize(("now_s", "expected"), [(3000, 76.81818181818181), (600, 51.36363636363637), (4200, 89.54545454545455)])
def test_a_prediction_starts_at_the_time_of_evaluation(now_s: int, expected: float) -> None:
    values = [0.0, 10, 20, 30, 40, 0, 10, 20, 30, 40, 50]
    block = block_of([[(300_000 * i, value) for i, value in enumerate(values)]])
    out, present = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
    ends, times = np.array([3_000_000], np.int64), np.array([now_s * 1000], np.int64)
    linear_regression(block.ts_ms, block.values, block.offsets, ends, 3_300_000, times, np.array([3600.0]), out, present)
    assert out[0, 0] == pytest.approx(expected, rel=1e-12)
