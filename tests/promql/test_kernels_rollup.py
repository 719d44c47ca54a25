import math
import statistics

import numpy as np
import pytest

from promlike.promql.kernels.rollup import Extreme, Rollup, rollup, window_extremes
from tests.promql.window_data import ENDS_MS, RANGES_MS, SEEDS, Window, assert_bits, blank, block_of, by_windows, random_block


def add(inc: float, total: float, c: float) -> tuple[float, float]:
    t = total + inc
    if math.isinf(t):
        return t, 0.0
    if abs(total) >= abs(inc):
        return t, c + ((total - t) + inc)
    return t, c + ((inc - t) + total)


def sum_twin(samples: Window) -> float:
    total, c = 0.0, 0.0
    for value in samples[1]:
        total, c = add(value, total, c)
    return total if math.isinf(total) else total + c


def avg_twin(samples: Window) -> float:
    values = samples[1]
    total, c = values[0], 0.0
    for position, value in enumerate(values[1:], start=1):
        following, following_c = add(value, total, c)
        if math.isinf(following):
            return incremental_avg(values, position, total / position, c / position)
        total, c = following, following_c
    return total / len(values) + c / len(values)


def incremental_avg(values: list[float], start: int, mean: float, c: float) -> float:
    for position in range(start, len(values)):
        count = float(position + 1)
        share = (count - 1) / count
        mean, c = add(values[position] / count, share * mean, share * c)
    return mean + c


def stdvar_twin(samples: Window) -> float:
    mean, c_mean, aux, c_aux = 0.0, 0.0, 0.0, 0.0
    for count, value in enumerate(samples[1], start=1):
        delta = value - (mean + c_mean)
        mean, c_mean = add(delta / count, mean, c_mean)
        aux, c_aux = add(delta * (value - (mean + c_mean)), aux, c_aux)
    return (aux + c_aux) / len(samples[1])


def stddev_twin(samples: Window) -> float:
    variance = stdvar_twin(samples)
    return math.sqrt(variance) if variance >= 0 else math.nan


TWINS = {
    Rollup.SUM: sum_twin,
    Rollup.AVG: avg_twin,
    Rollup.COUNT: lambda samples: float(len(samples[1])),
    Rollup.LAST: lambda samples: samples[1][-1],
    Rollup.FIRST: lambda samples: samples[1][0],
    Rollup.PRESENT: lambda samples: 1.0,
    Rollup.STDVAR: stdvar_twin,
    Rollup.STDDEV: stddev_twin,
    Rollup.TIME_OF_LAST: lambda samples: samples[0][-1] / 1000,
    Rollup.TIME_OF_FIRST: lambda samples: samples[0][0] / 1000,
}


def extreme_twin(op: Extreme, samples: Window) -> float:
    """Prometheus's walk: of equal values min and max keep the first, the times take the last; NaN gives way to anything."""
    best_time, best = samples[0][0], samples[1][0]
    for ts, value in zip(*samples, strict=True):
        better = {
            Extreme.MIN: value < best,
            Extreme.MAX: value > best,
            Extreme.TIME_OF_MIN: value <= best,
            Extreme.TIME_OF_MAX: value >= best,
        }[op]
        if better or math.isnan(best):
            best_time, best = ts, value
    return best if op in (Extreme.MIN, Extreme.MAX) else best_time / 1000


@pytest.mark.parametrize("op", list(Rollup))
def test_rollups_agree_with_their_twin_bit_for_bit(op: Rollup) -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            rollup(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, int(op), out, present)
            assert_bits(out, present, by_windows(block, ENDS_MS, range_ms, TWINS[op]))


@pytest.mark.parametrize("op", list(Extreme))
def test_extremes_agree_with_a_walk_over_each_window(op: Extreme) -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            window_extremes(block.ts_ms, block.values, block.offsets, ENDS_MS, range_ms, int(op), out, present)
            assert_bits(out, present, by_windows(block, ENDS_MS, range_ms, lambda samples: extreme_twin(op, samples)))


def one_window(op: Rollup, values: list[float]) -> float:
    block = block_of([[(i, value) for i, value in enumerate(values, start=1)]])
    out, present = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
    rollup(block.ts_ms, block.values, block.offsets, np.array([len(values)], np.int64), len(values), int(op), out, present)
    assert present[0, 0]
    return float(out[0, 0])


def test_sums_compensate_cancelling_terms() -> None:
    assert one_window(Rollup.SUM, [1.0, 1e100, 1.0, -1e100]) == 2.0


def test_a_mean_whose_sum_overflows_is_finite() -> None:
    assert one_window(Rollup.AVG, [9.988465674311579e307] * 2) == 9.988465674311579e307
    assert one_window(Rollup.SUM, [9.988465674311579e307] * 2) == math.inf


def test_deviation_of_known_values() -> None:
    values = [0.0, 8.0, 8.0, 2.0, 3.0]
    assert one_window(Rollup.STDVAR, values) == pytest.approx(10.56)
    assert one_window(Rollup.STDDEV, values) == pytest.approx(statistics.pstdev(values))
    assert one_window(Rollup.STDVAR, [1.5990505637277868] * 3) == 0.0


def test_windows_are_open_on_the_left_and_closed_on_the_right() -> None:
    block = block_of([[(1000, 1.0), (2000, 2.0), (3000, 4.0)]])
    out, present = np.zeros((1, 3)), np.zeros((1, 3), np.bool_)
    rollup(block.ts_ms, block.values, block.offsets, np.array([3000, 3000, 4000], np.int64), 1000, int(Rollup.SUM), out, present)
    assert out.tolist() == [[4.0, 4.0, 0.0]]
    assert present.tolist() == [[True, True, False]]
