"""Random blocks of samples and the windows over them, taken apart the slow and obvious way."""

import math
from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Bool, Float64, Int64, SampleBlock

Window = tuple[list[int], list[float]]
"""Times and values of the samples in one window."""

SEEDS = range(12)
ENDS_MS = np.arange(0, 40 * 7_000, 7_000, dtype=np.int64)
RANGES_MS = (1, 5_000, 20_000, 100_000)


def block_of(series: list[list[tuple[int, float]]]) -> SampleBlock:
    """A block of series, each a list of (ts_ms, value)."""
    counts = [len(samples) for samples in series]
    return SampleBlock(
        ts_ms=np.array([ts for samples in series for ts, _ in samples], np.int64),
        values=np.array([value for samples in series for _, value in samples], np.float64),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )


def random_block(seed: int) -> SampleBlock:
    """Twelve series with gaps, some empty, some of one sample; counters with resets, gauges, constants, infinities, NaN."""
    rng = np.random.default_rng(seed)
    series = []
    for kind in range(12):
        count = int(rng.choice([0, 1, 2, 5, 60], p=[0.05, 0.1, 0.1, 0.15, 0.6]))
        ts = np.sort(rng.choice(280_000, count, replace=False)) - 20_000
        match kind % 6:
            case 0:
                values = rng.integers(0, 5, count).cumsum() % 17 * 0.1
            case 1:
                values = rng.normal(size=count) * 10.0 ** rng.integers(-3, 16, count)
            case 2:
                values = np.full(count, rng.normal())
            case 3:
                values = rng.choice([math.nan, math.inf, -math.inf, 0.0, 1.0, -2.5], count, p=[0.3, 0.1, 0.1, 0.2, 0.2, 0.1])
            case 4:
                values = rng.choice([1e308, -1e308, 1.7e308, 1.0], count)
            case _:
                values = rng.integers(-3, 4, count).astype(float)
        series.append(list(zip(ts.tolist(), values.tolist(), strict=True)))
    return block_of(series)


def window(block: SampleBlock, series: int, end_ms: int, range_ms: int) -> Window:
    """The samples of a series in (end_ms - range_ms, end_ms]."""
    low, high = int(block.offsets[series]), int(block.offsets[series + 1])
    pairs = zip(block.ts_ms[low:high].tolist(), block.values[low:high].tolist(), strict=True)
    inside = [(ts, value) for ts, value in pairs if end_ms - range_ms < ts <= end_ms]
    return [ts for ts, _ in inside], [value for _, value in inside]


def by_windows(block: SampleBlock, ends_ms: Int64, range_ms: int, twin: Callable[[Window], float | None]) -> list[list[float | None]]:
    """What the twin says of every window that is not empty."""
    rows = []
    for series in range(block.series):
        windows = [window(block, series, end, range_ms) for end in ends_ms.tolist()]
        rows.append([twin(samples) if samples[0] else None for samples in windows])
    return rows


def blank(block: SampleBlock, ends_ms: Int64) -> tuple[Float64, Bool]:
    return np.zeros((block.series, len(ends_ms))), np.zeros((block.series, len(ends_ms)), np.bool_)


def assert_bits(out: Float64, present: Bool, expected: list[list[float | None]]) -> None:
    """Presence is equal, and so is every bit of the values, except that any NaN is as good as another."""
    assert present.tolist() == [[value is not None for value in row] for row in expected]
    for row, (got, want) in enumerate(zip(out.tolist(), expected, strict=True)):
        for step, (a, b) in enumerate(zip(got, want, strict=True)):
            if b is not None:
                same = (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))
                assert same, f"series {row}, step {step}: {a!r} is not {b!r}"
