"""Queries answered from rollups: the same as from samples where windows hold whole buckets, and within what is promised elsewhere."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from promlike.model.blocks import STALE_NAN, StepGrid
from promlike.model.labels import labels
from promlike.promql.engine import Engine
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import EngineOptions, Features
from promlike.promql.result import Matrix, QueryResult
from promlike.storage.access import Fit
from tests.promql.memory import MemorySource
from tests.promql.tier_source import TierSource, same

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
ALIGNED = StepGrid(start_ms=2 * HOUR_MS, step_ms=HOUR_MS, count=10)
FIVE_MINUTES = StepGrid(start_ms=2 * HOUR_MS, step_ms=5 * MINUTE_MS, count=100)

OVER_A_RANGE = [spec.name for spec in FUNCTIONS.values() if spec.over_tiers is not None]
NEVER = [
    *("irate(m[1h])", "idelta(m[1h])", "resets(m[1h])", "changes(m[1h])", "deriv(m[1h])", "predict_linear(m[1h], 60)"),
    *("quantile_over_time(0.5, m[1h])", "stddev_over_time(m[1h])", "stdvar_over_time(m[1h])", "mad_over_time(m[1h])"),
    *("ts_of_min_over_time(m[1h])", "ts_of_max_over_time(m[1h])", "double_exponential_smoothing(m[1h], 0.5, 0.5)"),
    *("rate(m[1h] anchored)", "rate(m[1h] smoothed)", "m smoothed", "max_over_time(irate(m[1h])[2h:1h])"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(features=Features.all()), pool)
        yield engine
        engine.close()


def random_source(seed: int) -> MemorySource:
    """Series with gaps, resets, NaN, infinities and stale markers over twelve hours; some are hardly there."""
    rng = np.random.default_rng(seed)
    source = MemorySource()
    for kind in range(10):
        count = int(rng.choice([1, 2, 30, 700]))
        times = np.sort(rng.choice(12 * HOUR_MS // 15_000, count, replace=False)) * 15_000 + int(rng.integers(0, 2)) * 7_123
        values = {
            0: rng.integers(0, 5, count).cumsum() % 170 * 0.1,
            1: rng.normal(size=count) * 10.0 ** rng.integers(-3, 4, count),
            2: rng.integers(0, 5, count).cumsum() + 0.5,
            3: rng.choice([math.nan, math.inf, 0.0, 1.0, -2.5], count),
            4: np.where(rng.random(count) < 0.05, 0.0, rng.integers(0, 9, count).cumsum().astype(float)),
        }[kind % 5]
        values = np.where(rng.random(count) < 0.04, STALE_NAN, values)
        source.add(labels({"__name__": "m", "n": str(kind), "half": str(kind % 2)}), zip(times.tolist(), values.tolist(), strict=True))
    return source


def matrix(result: QueryResult) -> Matrix:
    assert isinstance(result.value, Matrix)
    return result.value


async def assert_same(engine: Engine, source: MemorySource, query: str, grid: StepGrid) -> None:
    tiers = TierSource(source)
    wanted = matrix(await engine.range(source, query, grid))
    result = await engine.range(tiers, query, grid)
    got = matrix(result)
    assert any("read from the" in info for info in result.infos), query
    assert got.labels.all_labels() == wanted.labels.all_labels(), query
    assert got.samples.offsets.tolist() == wanted.samples.offsets.tolist(), query
    np.testing.assert_array_equal(got.samples.ts_ms, wanted.samples.ts_ms)
    same(got.samples.values, wanted.samples.values)


@pytest.mark.parametrize("function", OVER_A_RANGE)
async def test_windows_of_whole_buckets_give_the_answers_of_samples(engine: Engine, function: str) -> None:
    for seed in range(8):
        source = random_source(seed)
        for grid in (ALIGNED, FIVE_MINUTES):
            for window in ("5m", "1h", "3h"):
                if grid is FIVE_MINUTES or window != "5m":
                    await assert_same(engine, source, f"{function}(m[{window}])", grid)


@pytest.mark.parametrize(
    "query",
    [
        "m",
        "timestamp(m)",
        "m offset 1h",
        "sum by (half) (m)",
        "sum by (half) (rate(m[1h]))",
        "rate(m[1h] offset 2h)",
        "max_over_time(rate(m[1h])[3h:1h])",
        "rate(m[1h] @ 18000)",
        'count_over_time(m{n="7"}[1h]) + on (n) m',
        "absent(m{half='none'} or m)",
        "rate(m[1h]) - ignoring () (increase(m[1h]) / 3600)",
        "topk(2, avg_over_time(m[1h]))",
    ],
)
async def test_whole_queries_give_the_answers_of_samples(engine: Engine, query: str) -> None:
    for seed in range(4):
        await assert_same(engine, random_source(seed), query, ALIGNED)
        await assert_same(engine, random_source(seed), query, FIVE_MINUTES)


async def test_instant_queries_take_tiers_too(engine: Engine) -> None:
    source = random_source(1)
    for query in ("m", "rate(m[1h])"):
        wanted = await engine.instant(source, query, 5 * HOUR_MS)
        got = await engine.instant(TierSource(source), query, 5 * HOUR_MS)
        same(got.value.values, wanted.value.values)  # type: ignore[union-attr]  # both are vectors
        assert got.infos[0].startswith("PromQL info: read from the 1h rollup: ")


@pytest.mark.parametrize("query", NEVER)
async def test_what_rows_cannot_tell_is_never_offered_to_them(engine: Engine, query: str) -> None:
    source = TierSource(random_source(0), fit=Fit.ROUGH)
    await engine.range(source, query, ALIGNED, resolution_ms=HOUR_MS)
    assert source.offered == []


async def test_one_range_may_be_read_both_ways_in_one_query(engine: Engine) -> None:
    for query in ("rate(m[1h]) + irate(m[1h])", "irate(m[1h]) + rate(m[1h])", "sum_over_time(m[1h]) / (0 * deriv(m[1h]) + 1)"):
        await assert_same(engine, random_source(5), query, ALIGNED)


@pytest.mark.parametrize(
    ("query", "grid", "fits"),
    [
        ("rate(m[1h])", ALIGNED, [Fit.EXACT, Fit.EXACT]),
        ("rate(m[1h] offset 5m)", ALIGNED, [Fit.EXACT, Fit.ROUGH]),
        ("rate(m[1h] offset 1s)", ALIGNED, [Fit.CLOSE, Fit.ROUGH]),
        ("rate(m[65m])", ALIGNED, [Fit.EXACT, Fit.ROUGH]),
        ("rate(m[12h])", StepGrid(start_ms=1, step_ms=HOUR_MS, count=3), [Fit.CLOSE, Fit.CLOSE]),
        ("rate(m[59m])", StepGrid(start_ms=1, step_ms=HOUR_MS, count=3), [Fit.ROUGH, Fit.ROUGH]),
        ("rate(m[12h])", StepGrid(start_ms=0, step_ms=4 * MINUTE_MS, count=3), [Fit.ROUGH, Fit.ROUGH]),
        ("m", StepGrid(start_ms=1, step_ms=HOUR_MS, count=3), [Fit.CLOSE, Fit.ROUGH]),
        ("m", StepGrid(start_ms=1, step_ms=12 * HOUR_MS, count=3), [Fit.CLOSE, Fit.CLOSE]),
        ("m", StepGrid(start_ms=5 * MINUTE_MS, step_ms=5 * MINUTE_MS, count=3), [Fit.EXACT, Fit.ROUGH]),
        ("m", StepGrid(start_ms=0, step_ms=1000, count=1), [Fit.EXACT, Fit.EXACT]),
        ("m", StepGrid(start_ms=1, step_ms=HOUR_MS, count=1), [Fit.ROUGH, Fit.ROUGH]),
        ("rate(m[12h])", StepGrid(start_ms=1, step_ms=1, count=1), [Fit.CLOSE, Fit.CLOSE]),
        ("rate(m[12h] @ 1)", ALIGNED, [Fit.ROUGH, Fit.ROUGH]),
        ("rate(m[12h] @ 3600)", ALIGNED, [Fit.EXACT, Fit.EXACT]),
    ],
)
async def test_how_well_tiers_fit(engine: Engine, query: str, grid: StepGrid, fits: list[Fit]) -> None:
    source = TierSource(random_source(0))
    await engine.range(source, query, grid)
    assert [option.fit for option in source.offered] == fits
    assert [option.resolution_ms for option in source.offered] == [5 * MINUTE_MS, HOUR_MS]


@pytest.mark.parametrize(("resolution_ms", "offered"), [(0, []), (HOUR_MS, [HOUR_MS]), (None, [5 * MINUTE_MS, HOUR_MS])])
async def test_a_query_can_ask_for_a_resolution(engine: Engine, resolution_ms: int | None, offered: list[int]) -> None:
    source = TierSource(random_source(0))
    await engine.range(source, "rate(m[1h])", ALIGNED, resolution_ms=resolution_ms)
    assert [option.resolution_ms for option in source.offered] == offered


async def test_windows_that_are_moved_answer_for_the_time_they_were_moved_to(engine: Engine) -> None:
    """The promise for windows that do not hold whole buckets: they are moved back to the end of one, by less than the resolution."""
    source = random_source(2)
    late, moved = (StepGrid(start_ms=3 * HOUR_MS + ms, step_ms=HOUR_MS, count=8) for ms in (23 * MINUTE_MS + 17, 20 * MINUTE_MS))
    for query in ("rate(m[1h])", "min_over_time(m[1h])", "sum_over_time(m[1h])", "m"):
        result = await engine.range(TierSource(source, fit=Fit.CLOSE), query, late)
        wanted = matrix(await engine.range(source, query, moved))
        assert matrix(result).labels.all_labels() == wanted.labels.all_labels()
        same(matrix(result).samples.values, wanted.samples.values)
        assert "moved back by less than 5m" in result.infos[0]


async def test_windows_shorter_than_a_bucket_are_widened_and_scaled(engine: Engine) -> None:
    source = MemorySource()
    source.add(labels({"__name__": "m_total"}), [(at * 15_000, at * 3.0) for at in range(4 * 240)])
    grid = StepGrid(start_ms=HOUR_MS + 7, step_ms=10 * MINUTE_MS, count=12)
    for query in ("rate(m_total[5m])", "increase(m_total[5m])", "count_over_time(m_total[5m])"):
        wanted = matrix(await engine.range(source, query, grid)).samples.values
        result = await engine.range(TierSource(source, fit=Fit.ROUGH), query, grid)
        np.testing.assert_allclose(matrix(result).samples.values, wanted, rtol=1e-6)
        changes = "windows moved back by less than 1h and widened to 1h"
        assert result.infos == (f"PromQL info: read from the 1h rollup, {changes}: m_total[5m] (1:{query.index('(') + 2})",)


async def test_a_mean_of_values_whose_sum_overflows_is_finite(engine: Engine) -> None:
    source = MemorySource()
    source.add(labels({"__name__": "m"}), [(at * HOUR_MS, 1.7e308) for at in range(1, 9)])
    query, grid = "avg_over_time(m[4h])", StepGrid(start_ms=8 * HOUR_MS, step_ms=HOUR_MS, count=1)
    assert matrix(await engine.range(TierSource(source), query, grid)).samples.values.tolist() == pytest.approx([1.7e308])


async def test_statistics_count_rows(engine: Engine) -> None:
    source = TierSource(random_source(0))
    source.samples.add(labels({"__name__": "dense"}), [(at * 15_000, 1.0) for at in range(2400)])
    grid = StepGrid(start_ms=4 * HOUR_MS, step_ms=HOUR_MS, count=3)
    for query, per_step, read in (("rate(dense[2h])", 2, (2, 1, 1)), ("dense", 1, (1, 1, 1)), ("rate(dense[2h] @ end())", 2, (2, 0, 0))):
        stats = (await engine.range(source, query, grid, with_stats=True)).stats
        assert (stats.samples_per_step, stats.read_per_step) == ((per_step,) * 3, read)
        assert stats.peak_samples < 100
