"""The selector kernels against slow, obvious twins, on random samples."""

import math

import numpy as np
import pytest

from promlike.model.blocks import STALE_NAN, Float64, Int64, SampleBlock, is_stale
from promlike.promql.kernels.select import count_windows, has_stale, select_latest, select_smoothed, steps_to_samples
from promlike.promql.selectors import without_stale


def random_samples(seed: int, series: int = 7, most: int = 30) -> SampleBlock:
    """Irregular samples with NaN and stale markers; some series are empty."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, most, series)
    times = [np.sort(random.choice(np.arange(1, 1000), count, replace=False)) for count in counts]
    values = random.normal(size=int(counts.sum())).round(2)
    values[random.random(len(values)) < 0.1] = np.nan
    values[random.random(len(values)) < 0.1] = STALE_NAN
    return SampleBlock(
        ts_ms=np.concatenate([np.empty(0, np.int64), *times]).astype(np.int64),
        values=values,
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )


GRIDS = [
    np.arange(0, 1100, 37, dtype=np.int64),
    np.array([500], np.int64),
    np.array([-10], np.int64),
    np.full(5, 400, np.int64),
    np.arange(900, 1300, 1, dtype=np.int64),
]


def of_series(samples: SampleBlock, row: int) -> list[tuple[int, float]]:
    part = slice(int(samples.offsets[row]), int(samples.offsets[row + 1]))
    return list(zip(samples.ts_ms[part].tolist(), samples.values[part].tolist(), strict=True))


def slow_latest(samples: SampleBlock, end: int, lookback: int, row: int) -> float | None:
    inside = [value for ts, value in of_series(samples, row) if end - lookback < ts <= end]
    if not inside or is_stale(np.array(inside[-1:]))[0]:
        return None
    return inside[-1]


def slow_smoothed(samples: SampleBlock, end: int, lookback: int, row: int) -> float | None:
    points = of_series(samples, row)
    before = [point for point in points if end - lookback < point[0] <= end]
    after = [point for point in points if end < point[0] <= end + lookback]
    if not before:
        return None
    ts, value = before[-1]
    if ts == end or not after:
        return value
    return value + (after[0][1] - value) * (end - ts) / (after[0][0] - ts)


def same(wanted: float | None, value: float, present: bool) -> bool:
    if wanted is None or not present:
        return wanted is None and not present
    return value == wanted or (math.isnan(value) and math.isnan(wanted))


def empty(samples: SampleBlock, ends: Int64) -> tuple[Float64, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    return np.full((samples.series, len(ends)), 99.0), np.zeros((samples.series, len(ends)), np.bool_)


@pytest.mark.parametrize("ends", GRIDS, ids=range(len(GRIDS)))
@pytest.mark.parametrize("lookback", [1, 40, 5000])
def test_latest_sample_of_each_step(ends: Int64, lookback: int) -> None:
    for seed in range(5):
        samples = random_samples(seed)
        out, present = empty(samples, ends)
        bits = samples.values.view(np.uint64)
        for low, high in ((0, 3), (3, samples.series)):
            select_latest(samples.ts_ms, bits, samples.values, samples.offsets, ends, lookback, low, high, out, present)
        for row in range(samples.series):
            for step, end in enumerate(ends.tolist()):
                wanted = slow_latest(samples, end, lookback, row)
                assert same(wanted, out[row, step], present[row, step]), (seed, row, end)


@pytest.mark.parametrize("ends", GRIDS, ids=range(len(GRIDS)))
def test_smoothed_value_of_each_step(ends: Int64) -> None:
    for seed in range(5):
        samples = without_stale(random_samples(seed))
        out, present = empty(samples, ends)
        select_smoothed(samples.ts_ms, samples.values, samples.offsets, ends, 60, 0, samples.series, out, present)
        for row in range(samples.series):
            for step, end in enumerate(ends.tolist()):
                assert same(slow_smoothed(samples, end, 60, row), out[row, step], present[row, step]), (seed, row, end)


@pytest.mark.parametrize("ends", GRIDS, ids=range(len(GRIDS)))
def test_samples_in_each_window_are_counted(ends: Int64) -> None:
    samples = random_samples(3)
    for width in (100, 20, 1):
        counts = np.zeros((2, len(ends)), np.int64)
        count_windows(samples.ts_ms, samples.offsets, ends, width, counts)
        inside = [(samples.ts_ms > end - width) & (samples.ts_ms <= end) for end in ends.tolist()]
        assert counts[0].tolist() == [int(one.sum()) for one in inside]
        assert counts[1].tolist() == [int((one & ~np.any([*inside[:step], 0 * one], axis=0)).sum()) for step, one in enumerate(inside)]


def test_stale_markers_are_found_and_removed() -> None:
    samples = random_samples(4)
    left = without_stale(samples)
    assert has_stale(samples.values.view(np.uint64))
    assert not has_stale(left.values.view(np.uint64))
    assert without_stale(left) is left
    left.validate()
    for row in range(samples.series):
        kept = [ts for ts, value in of_series(samples, row) if not is_stale(np.array([value]))[0]]
        assert [ts for ts, _ in of_series(left, row)] == kept


def test_present_steps_become_samples() -> None:
    random = np.random.default_rng(5)
    values, present = random.normal(size=(4, 6)), random.random((4, 6)) < 0.6
    times = np.arange(6, dtype=np.int64) * 10
    offsets = np.concatenate(([0], np.cumsum(present.sum(axis=1)))).astype(np.int64)
    ts_ms, out = np.zeros(offsets[-1], np.int64), np.zeros(offsets[-1])
    for low, high in ((0, 1), (1, 4)):
        steps_to_samples(values, present, times, offsets, low, high, ts_ms, out)
    assert ts_ms.tolist() == np.tile(times, (4, 1))[present].tolist()
    assert out.tolist() == values[present].tolist()
