from itertools import pairwise

import numpy as np
import pytest

from promlike.model.blocks import SampleBlock
from promlike.promql.kernels.extended import extended_rate
from tests.promql.window_data import ENDS_MS, RANGES_MS, SEEDS, assert_bits, blank, block_of, random_block, window

Points = list[tuple[int, float]]


def points(block: SampleBlock, series: int, low_ms: int, high_ms: int) -> Points:
    """Samples in (low_ms, high_ms]."""
    return list(zip(*window(block, series, high_ms, high_ms - low_ms), strict=True))


def interpolate(a: tuple[int, float], b: tuple[int, float], at_ms: int, is_counter: bool, left: bool) -> float:
    y1, y2 = a[1], b[1]
    if is_counter and y2 < y1:
        y1, y2 = (0.0, y2) if left else (y1, y2 + y1)
    return y1 + (y2 - y1) * float(at_ms - a[0]) / float(b[0] - a[0])


def rate_twin(
    block: SampleBlock, series: int, end_ms: int, range_ms: int, lookback_ms: int, smoothed: bool, is_counter: bool
) -> float | None:
    start_ms = end_ms - range_ms
    inside = points(block, series, start_ms, end_ms)
    before = points(block, series, start_ms - lookback_ms, start_ms)[-1:]
    after = points(block, series, end_ms, end_ms + lookback_ms)[:1]
    if not inside and not (smoothed and before and after):
        return None
    around = before + inside
    left = around[0][1]
    if smoothed and before and before[0][0] < start_ms:
        left = interpolate(before[0], (inside + after)[0], start_ms, is_counter, True) if inside + after else left
    right = around[-1][1]
    if smoothed and after and around[-1][0] < end_ms:
        right = interpolate(around[-1], after[0], end_ms, is_counter, False)
    result = right - left
    if is_counter:
        correction = 0.0
        walk = [left, *(value for ts, value in inside if ts != end_ms), right]
        for previous, value in pairwise(walk):
            if value < previous:
                correction += previous
        result += correction
    return result


@pytest.mark.parametrize("smoothed", [True, False])
@pytest.mark.parametrize("is_counter", [True, False])
def test_extended_rates_agree_with_their_twin_bit_for_bit(smoothed: bool, is_counter: bool) -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            extended_rate(
                block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, 30_000, 1.0, smoothed, is_counter, False, out, present
            )
            expected = [
                [rate_twin(block, series, end, range_ms, 30_000, smoothed, is_counter) for end in ENDS_MS.tolist()]
                for series in range(block.series)
            ]
            assert_bits(out, present, expected)


METRIC = block_of([[(15_000 * i, v) for i, v in [(0, 1.0), (1, 2.0), (2, 3.0), (5, 9.0), (6, 10.0), (7, 11.0), (8, 12.0), (9, 13.0)]]])


@pytest.mark.parametrize(
    ("end_s", "anchored", "smoothed"),
    [(5, 0, 1 / 3), (20, 1, 4 / 3), (50, 2, 14 / 3), (65, 2, 19 / 3), (80, 7, 7), (95, 7, 20 / 3), (125, 9, 14 / 3)],
)
def test_increase_over_a_minute(end_s: int, anchored: float, smoothed: float) -> None:
    for is_smoothed, expected in ((False, anchored), (True, smoothed)):
        out, present = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
        ends = np.array([end_s * 1000], np.int64)
        extended_rate(METRIC.ts_ms, METRIC.values, METRIC.offsets, ends, 60_000, 300_000, 60.0, is_smoothed, True, False, out, present)
        assert present[0, 0]
        assert out[0, 0] == pytest.approx(expected)


def test_nothing_where_all_samples_are_on_one_side() -> None:
    block = block_of([[(100_000, 1.0), (110_000, 2.0)]])
    ends = np.array([90_000, 200_000], np.int64)
    for smoothed in (True, False):
        out, present = np.zeros((1, 2)), np.zeros((1, 2), np.bool_)
        extended_rate(block.ts_ms, block.values, block.offsets, ends, 60_000, 300_000, 60.0, smoothed, True, True, out, present)
        assert not present.any()
