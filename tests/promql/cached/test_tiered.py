"""Answers of rollup tiers with and without the result cache are the same bytes, whatever came late, went, or was rolled up between two."""

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from promlike.api.encode import encode_value
from promlike.model.blocks import STALE_NAN, Int32, StepGrid
from promlike.model.labels import labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import SETTLED_MS, CachedRanges
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.promql.result import QueryResult
from promlike.storage import tier_reader
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.options import HOUR_MS
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.timescale.store import TimescaleStore

MINUTE_MS = 60_000
NOW = 1_700_000_000_000 // HOUR_MS * HOUR_MS
FIVE_MS = 5 * MINUTE_MS
SUM = "sum by (job) (rate(c_total[1h]))"


class Bench:
    """A storage, an engine and a cache on one clock. `kept_hours`: how long samples, rows of 5 minutes and of an hour are kept."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, url: str, kept_hours: tuple[int, int, int]) -> None:
        self.clock = [NOW]
        self.cached_steps_of_tiers = 0
        raw_ms, of_5m_ms, of_1h_ms = (hours * HOUR_MS for hours in kept_hours)
        options = StorageOptions(
            data_dir=folder,
            retention_ms=raw_ms,
            tier_retention_ms={FIVE_MS: of_5m_ms, HOUR_MS: of_1h_ms},
            head_window_ms=HOUR_MS,
            head_cache_bytes=0,
            head_max_bytes=1 << 28,
        )
        store = TimescaleStore(url, folder=folder) if url else DuckDBStore(folder / "promlike.duckdb")
        self.storage = Storage(options, store, now_ms=lambda: self.clock[0])
        self.engine, self.cache, log = Engine(EngineOptions(), pool), ResultCache(1 << 26), ChangeLog()

        def changed(refs: Int32, start_ms: int, end_ms: int) -> None:
            log.changed(self.storage.metrics_of(refs), start_ms, end_ms)

        async def hurry() -> None:
            pass

        self.storage.changes.subscribe(changed, settled_ms=SETTLED_MS)
        self.ranges = CachedRanges(
            self.engine,
            EngineOptions(),
            self.cache,
            log,
            pool,
            oldest_ms=lambda: self.storage.oldest_ms,
            history=StoreHistory(),
            flushes=self.storage.flushes,
            choose_tiers=self.storage.choose_tiers,
            view=lambda: self.storage.view,
            hurry=hurry,
            now_ms=lambda: self.clock[0],
        )

    async def append(self, n: int, points: dict[int, float], name: str = "c_total") -> None:
        ref = self.storage.series_ref(labels({"__name__": name, "n": str(n), "job": f"j{n % 2}"}))
        ts_ms, values = np.array(list(points), np.int64), np.array(list(points.values()), np.float64)
        await self.storage.append(np.full(len(points), ref, np.int32), ts_ms, values)

    async def fill(self, random: Random, series: int, start_ms: int, end_ms: int) -> None:
        """`c_total{n,job}` and `g{n,job}` about every minute, with resets, gaps and stale markers."""
        for n in range(series):
            for name in ("c_total", "g"):
                value: float = 0.0
                points: dict[int, float] = {}
                for ts_ms in range(start_ms + n * 7_000, end_ms, MINUTE_MS):
                    value = random.choice((0.0, value)) if random.random() < 0.02 else value + random.random() * 3
                    if random.random() < 0.95:
                        points[ts_ms] = STALE_NAN if random.random() < 0.01 else value
                if points:
                    await self.append(n, points, name)

    async def settle(self) -> None:
        await self.storage.flush()
        await self.storage.roll_up()

    async def delete(self, n: int, start_ms: int, end_ms: int) -> None:
        await self.storage.delete_series([(Matcher("n", MatchOp.EQUAL, str(n)),)], start_ms=start_ms, end_ms=end_ms)

    async def same(self, query: str, grid: StepGrid, resolution_ms: int | None = None, *, with_stats: bool = False) -> QueryResult:
        """The cached answer, which must be the plain one."""
        how = {"resolution_ms": resolution_ms, "with_stats": with_stats}
        cached = await self.ranges.range(self.storage, query, grid, resolution_ms=resolution_ms, with_stats=with_stats)
        plain = await self.engine.range(self.storage, query, grid, resolution_ms=resolution_ms, with_stats=with_stats)
        assert encode_value(cached.value) == encode_value(plain.value), (query, grid, how)
        assert (cached.warnings, cached.infos) == (plain.warnings, plain.infos), (query, grid, how)
        assert cached.stats.samples_per_step == plain.stats.samples_per_step, (query, grid, how)
        if any("rollup" in info for info in plain.infos):
            self.cached_steps_of_tiers += cached.stats.cached_steps
        return cached


Benches = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Benches]:
    """Benches whose small data is read from tiers, as much data would be."""
    monkeypatch.setattr(tier_reader, "EXACT_FROM", 1)
    monkeypatch.setattr(tier_reader, "CLOSE_FROM", 1)
    opened: list[Bench] = []
    with ThreadPoolExecutor(2) as pool:

        async def open_bench(*, url: str = "", kept_hours: tuple[int, int, int] = (1000, 1000, 1000)) -> Bench:
            (folder := tmp_path / str(len(opened))).mkdir()
            bench = Bench(folder, pool, url, kept_hours)
            await bench.storage.open(lambda line: None)
            opened.append(bench)
            return bench

        yield open_bench
        for bench in opened:
            await bench.storage.close()
            bench.engine.close()


def hours_until(end_ms: int, hours: int, step_ms: int = HOUR_MS) -> StepGrid:
    return StepGrid(start_ms=end_ms - hours * HOUR_MS, step_ms=step_ms, count=hours * HOUR_MS // step_ms + 1)


async def filled(benches: Benches, **how: Any) -> Bench:
    """With 30 hours of samples, rolled up."""
    bench = await benches(**how)
    bench.clock[0] = NOW + 10 * MINUTE_MS
    await bench.fill(Random(1), 4, NOW - 30 * HOUR_MS, NOW + 10 * MINUTE_MS)
    await bench.settle()
    return bench


async def test_a_panel_over_rollups_that_moves_on_evaluates_only_its_newest_steps(benches: Benches) -> None:
    bench = await filled(benches)
    first = await bench.same(SUM, hours_until(NOW, 24))
    assert first.infos == ("PromQL info: read from the 1h rollup: c_total[1h] (1:20)",)
    assert first.stats.cached_steps == 0
    again = await bench.same(SUM, hours_until(NOW, 24))
    assert again.stats.cached_steps == 25
    for hour in range(1, 4):
        bench.clock[0] = NOW + hour * HOUR_MS + 10 * MINUTE_MS
        await bench.fill(Random(hour), 4, NOW + (hour - 1) * HOUR_MS + 10 * MINUTE_MS, bench.clock[0])
        before = await bench.same(SUM, hours_until(NOW + hour * HOUR_MS, 24))
        assert before.stats.cached_steps == 24
        assert before.infos == first.infos
        await bench.settle()  # what was rolled up on the way is read from rows now
        assert (await bench.same(SUM, hours_until(NOW + hour * HOUR_MS, 24))).stats.cached_steps == 25


@pytest.mark.parametrize(
    ("query", "step_ms", "resolution_ms", "is_cached"),
    [
        (SUM, HOUR_MS, None, True),
        (SUM, HOUR_MS, FIVE_MS, True),
        (SUM, 7 * MINUTE_MS, FIVE_MS, False),  # some windows are moved, others are not
        ("sum(rate(c_total[65m]))", 10 * MINUTE_MS, None, True),
        ("max by (n) (g)", HOUR_MS, None, True),
        ("sum(increase(c_total[1h])) / sum(max_over_time(g[1h]))", HOUR_MS, None, True),
        ("sum(rate(c_total[1h])) + sum(stddev_over_time(g[1h]))", HOUR_MS, None, True),
        ("sum(rate(c_total[1h])) + sum(rate(c_total[5m]))", HOUR_MS, None, False),  # from two tiers
        ("max_over_time(sum(rate(c_total[1h]))[2h:1h])", HOUR_MS, None, False),
    ],
)
async def test_which_answers_of_tiers_are_kept(
    benches: Benches, query: str, step_ms: int, resolution_ms: int | None, is_cached: bool
) -> None:
    bench = await filled(benches)
    for _ in range(2):
        result = await bench.same(query, hours_until(NOW, 14, step_ms), resolution_ms)
        assert any("rollup" in info for info in result.infos)
    assert (result.stats.cached_steps > 0) == is_cached


async def test_tiers_and_samples_do_not_share(benches: Benches) -> None:
    bench = await filled(benches)
    for resolution_ms in (HOUR_MS, FIVE_MS, 0):
        assert (await bench.same(SUM, hours_until(NOW, 12), resolution_ms)).stats.cached_steps == 0
    for again_ms in (HOUR_MS, FIVE_MS, 0, None):
        assert (await bench.same(SUM, hours_until(NOW, 12), again_ms)).stats.cached_steps == 13


async def test_answers_are_kept_where_one_daemon_alone_writes_into_a_database(benches: Benches, database: str) -> None:
    bench = await filled(benches, url=database)
    for _ in range(2):
        result = await bench.same(SUM, hours_until(NOW, 24))
    assert result.stats.cached_steps == 25
    other = await benches(url=database)
    other.clock[0] = bench.clock[0]
    await other.append(1, {NOW - 5 * HOUR_MS - 20_000: 1e6})
    await other.storage.flush()
    for daemon in (bench, other):
        for _ in range(2):
            assert (await daemon.same(SUM, hours_until(NOW, 24))).stats.cached_steps == 0
        await daemon.settle()
        assert (await daemon.same(SUM, hours_until(NOW, 24))).stats.cached_steps == 0


async def test_late_samples_and_deletions_take_what_they_touch_and_nothing_is_kept_until_they_are_rolled_up(benches: Benches) -> None:
    bench = await filled(benches)
    grid = hours_until(NOW, 24)
    changes: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: bench.append(1, {NOW - 5 * HOUR_MS - 20_000: 1e6}),
        lambda: bench.append(9, {NOW - 5 * HOUR_MS - 30_000: 1.0, NOW - 5 * HOUR_MS - 20_000: 1e6}),
        lambda: bench.delete(2, NOW - 6 * HOUR_MS + 1, NOW - 5 * HOUR_MS - 1),
    )
    for change in changes:
        for _ in range(2):
            known = await bench.same(SUM, grid)
        assert known.stats.cached_steps == 25
        await change()
        for _ in range(2):
            waiting = await bench.same(SUM, grid)
            assert waiting.stats.cached_steps == 0
        assert encode_value(waiting.value) != encode_value(known.value)
        await bench.settle()
        assert (await bench.same(SUM, grid)).stats.cached_steps == 19  # those before what was touched, the longer part


async def test_steps_that_look_at_rows_that_go_soon_are_not_kept(benches: Benches) -> None:
    bench = await filled(benches, kept_hours=(10, 20, 24))
    for hours, is_cached in ((18, True), (21, False), (28, False)):
        for _ in range(2):
            result = await bench.same(SUM, hours_until(NOW, hours))
        assert (result.stats.cached_steps > 0) == is_cached
    bench.clock[0] += HOUR_MS
    for hours, is_cached in ((18, False), (17, True)):
        assert ((await bench.same(SUM, hours_until(NOW, hours))).stats.cached_steps > 0) == is_cached


async def test_samples_that_are_gone_do_not_keep_rollups_from_being_kept_but_queries_that_need_them(benches: Benches) -> None:
    bench = await filled(benches, kept_hours=(10, 1000, 1000))
    for query, is_cached in ((SUM, True), (f"{SUM} + sum by (job) (stddev_over_time(g[1h]))", False)):
        for _ in range(2):
            result = await bench.same(query, hours_until(NOW, 20))
        assert (result.stats.cached_steps > 0) == is_cached


async def test_a_change_while_parts_are_evaluated_is_not_kept(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await filled(benches)
    await bench.same(SUM, hours_until(NOW - 4 * HOUR_MS, 20))
    evaluate = bench.engine.range

    async def late(*args: object, **kwargs: object) -> QueryResult:
        result: QueryResult = await evaluate(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came
        monkeypatch.setattr(bench.engine, "range", evaluate)
        await bench.append(1, {NOW - 10 * HOUR_MS - 20_000: 1e6})
        return result

    monkeypatch.setattr(bench.engine, "range", late)
    assert (await bench.same(SUM, hours_until(NOW, 24))).stats.cached_steps == 0
    await bench.settle()
    await bench.same(SUM, hours_until(NOW, 24))


async def test_means_beyond_what_sums_can_hold_do_not_depend_on_the_range(benches: Benches) -> None:
    bench = await benches()
    bench.clock[0] = NOW + 10 * MINUTE_MS
    for n in range(2):
        rising = {NOW - round(at / 7 * MINUTE_MS): 1e305 - at * 1e300 for at in range(7 * 400, 7 * 500)}
        rising |= {NOW - at * MINUTE_MS: 2e306 - at * 1e301 for at in range(0, 600, 1 + n)}  # up to there the sums of hours can be held
        await bench.append(n, rising, "g")
    await bench.settle()
    query = "avg_over_time(g[2h])"
    assert (await bench.same(query, hours_until(NOW - 4 * HOUR_MS, 4))).stats.cached_steps == 0
    assert (await bench.same(query, hours_until(NOW, 6))).stats.cached_steps == 3
    assert (await bench.same(query, hours_until(NOW, 6))).stats.cached_steps == 7


QUERIES = (
    SUM,
    "rate(c_total[1h])",
    "increase(c_total[2h])",
    "delta(g[65m])",
    "sum by (n) (sum_over_time(g[1h] offset 1h))",
    "avg_over_time(g[2h])",
    "count_over_time(g[70m])",
    "min_over_time(g[1h]) - max_over_time(g[1h])",
    "first_over_time(g[1h]) + last_over_time(g[1h] offset 5m)",
    "absent_over_time(g{n='7'}[1h])",
    "avg by (job) (g)",
    "g > 5",
    "timestamp(g)",
    "present_over_time(c_total[1h]) and on (n) g",
    "topk(1, rate(c_total[1h]))",
    "quantile_over_time(0.5, g[1h]) + rate(c_total[1h])",
)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_cached_answers_are_the_plain_ones(benches: Benches, seed: int) -> None:
    """Ranges, steps and resolutions in any order, while samples come in time and late, go, are flushed and rolled up."""
    random = Random(seed)
    queries = [QUERIES[2 * seed], QUERIES[2 * seed + 1]]
    bench = await filled(benches, kept_hours=(random.choice((12, 40)), random.choice((18, 50)), random.choice((22, 60))))
    series = 4
    for _ in range(120):
        now = bench.clock[0]
        match random.randrange(12):
            case 0:
                bench.clock[0] += random.choice((1, 7, 30, 60)) * MINUTE_MS
                await bench.fill(random, series, now, bench.clock[0])
            case 1 if random.random() < 0.5:
                await bench.append(random.randrange(series + 1), {now - random.randrange(1, 12 * HOUR_MS): random.random() * 100}, "g")
            case 2 if random.random() < 0.3:
                start_ms = now - random.randrange(1, 20 * HOUR_MS)
                await bench.delete(random.randrange(series), start_ms, start_ms + random.randrange(1, 3 * HOUR_MS))
            case 3:
                await bench.storage.flush()
            case 4 | 5:
                await bench.settle()
            case 6 if random.random() < 0.2:
                series += 1
        step_ms = random.choice((10, 60, 60, 60, 7)) * MINUTE_MS
        phase_ms = random.choice((0, 0, 0, 0, 90_000))
        end_ms = bench.clock[0] // step_ms * step_ms + phase_ms - random.choice((0, 0, 1, 5)) * HOUR_MS
        count = random.randrange(1, 20 * HOUR_MS // step_ms)
        grid = StepGrid(start_ms=end_ms - (count - 1) * step_ms, step_ms=step_ms, count=count)
        resolution_ms = random.choice((None, None, None, None, HOUR_MS, FIVE_MS))
        await bench.same(random.choice(queries), grid, resolution_ms, with_stats=random.random() < 0.1)
    assert bench.cached_steps_of_tiers > 50
