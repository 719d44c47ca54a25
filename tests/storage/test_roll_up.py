import math
from itertools import pairwise

import numpy as np
import pytest

from promlike.model.blocks import STALE_NAN, SampleBlock, is_stale
from promlike.model.tiers import COLUMN_TYPES, RESOLUTIONS_MS, TierBlock, TierColumn, TierRows
from promlike.storage.roll_up import roll_up
from tests.promql.window_data import SEEDS, block_of, random_block

Row = dict[str, object]


def twin(samples: list[tuple[int, float]], resolution_ms: int) -> list[Row]:
    """The rows of one series, bucket by bucket."""
    buckets: dict[int, list[tuple[int, float]]] = {}
    for ts, value in samples:
        buckets.setdefault(math.ceil(ts / resolution_ms) * resolution_ms, []).append((ts, value))
    return [row_of(end_ms, rows) for end_ms, rows in buckets.items()]


def row_of(end_ms: int, samples: list[tuple[int, float]]) -> Row:
    stale = [bool(is_stale(np.array([value]))[0]) for _, value in samples]
    kept = [sample for sample, gone in zip(samples, stale, strict=True) if not gone]
    values = [value for _, value in kept]
    numbers = [value for value in values if value == value]
    return {
        "ends_ms": end_ms,
        "counts": len(kept),
        "sums": exact_sum(values),
        "mins": min(numbers, default=math.nan),
        "maxs": max(numbers, default=math.nan),
        "first_ms": kept[0][0] if kept else end_ms,
        "firsts": kept[0][1] if kept else math.nan,
        "last_ms": kept[-1][0] if kept else end_ms,
        "lasts": kept[-1][1] if kept else math.nan,
        "resets": sum(before for before, after in pairwise(values) if after < before) if values else 0.0,
        "stale": stale[-1],
    }


def exact_sum(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def with_markers(block: SampleBlock, seed: int) -> SampleBlock:
    """The block with some of its samples become stale markers."""
    chosen = np.random.default_rng(seed).random(len(block.values)) < 0.15
    return SampleBlock(ts_ms=block.ts_ms, values=np.where(chosen, STALE_NAN, block.values), offsets=block.offsets)


def rows_of(block: TierBlock, series: int) -> list[Row]:
    part = slice(int(block.offsets[series]), int(block.offsets[series + 1]))
    columns = {name: column[part].tolist() for name, column in block.rows.columns().items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_rows_agree_with_their_twin() -> None:
    for seed in SEEDS:
        samples = with_markers(random_block(seed), seed)
        for resolution_ms in (1, 7_000, 60_000):
            block = roll_up(samples, resolution_ms)
            block.validate()
            for series in range(samples.series):
                part = slice(int(samples.offsets[series]), int(samples.offsets[series + 1]))
                pairs = list(zip(samples.ts_ms[part].tolist(), samples.values[part].tolist(), strict=True))
                got, wanted = rows_of(block, series), twin(pairs, resolution_ms)
                assert [row["ends_ms"] for row in got] == [row["ends_ms"] for row in wanted]
                for a, b in zip(got, wanted, strict=True):
                    assert a == pytest.approx(b, rel=1e-12, nan_ok=True)


def test_buckets_are_open_at_their_start_and_closed_at_their_end() -> None:
    block = roll_up(block_of([[(-300_000, 1.0), (-299_999, 2.0), (0, 3.0), (1, 4.0), (300_000, 5.0), (300_001, 6.0)]]), 300_000)
    assert block.rows.ends_ms.tolist() == [-300_000, 0, 300_000, 600_000]
    assert block.rows.counts.tolist() == [1, 2, 2, 1]
    assert block.rows.sums.tolist() == [1.0, 5.0, 9.0, 6.0]


def test_a_bucket_of_markers_alone_is_kept_and_has_no_samples() -> None:
    block = roll_up(block_of([[(1, 5.0), (2, STALE_NAN), (300_001, STALE_NAN)]]), 300_000)
    assert (block.rows.counts.tolist(), block.rows.stale.tolist()) == ([1, 0], [True, True])
    assert block.filled().rows.ends_ms.tolist() == [300_000]
    assert block.filled().offsets.tolist() == [0, 1]
    assert not np.isnan(block.filled().rows.lasts).any()


def test_samples_of_which_only_part_of_the_columns_is_taken() -> None:
    """As portions of a block come: arrays shared, offsets not from 0."""
    samples = random_block(3)
    whole = roll_up(samples, 7_000)
    part = roll_up(samples.rows(4, 9), 7_000)
    low, high = int(whole.offsets[4]), int(whole.offsets[9])
    for name in COLUMN_TYPES:
        np.testing.assert_array_equal(part.rows.columns()[name], whole.rows.columns()[name][low:high])


def test_columns_that_nobody_asked_for_are_empty() -> None:
    rows = TierRows.blank(3, TierColumn.SUM | TierColumn.STALE)
    assert {name: len(column) for name, column in rows.columns().items() if len(column)} == {"ends_ms": 3, "sums": 3, "stale": 3}


def test_every_resolution_divides_the_next() -> None:
    sizes = list(RESOLUTIONS_MS.values())
    assert all(coarse % fine == 0 for fine, coarse in pairwise(sizes))
