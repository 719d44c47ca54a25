"""Rollup tiers in the storage: made from what is stored, kept right when samples come late or go, read where it pays."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promlike.errors import StorageError, StorageUnavailable, TooManySamples
from promlike.model.blocks import STALE_NAN, StepGrid
from promlike.model.matchers import Matcher, MatchOp
from promlike.model.tiers import ALL_COLUMNS, COLUMN_TYPES, RESOLUTIONS_MS, TierBlock, ceil_ms, floor_ms
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.promql.result import Matrix, QueryResult
from promlike.storage import tier_reader
from promlike.storage.access import Fit, SelectRequest, TierOption
from promlike.storage.options import DAY_MS, HOUR_MS
from promlike.storage.packed_tier import PackedTier, pack_into_tier
from promlike.storage.roll_up import roll_up
from promlike.storage.store import Store
from promlike.storage.tiers import SPANS_MS, TierBatch
from tests.promql.tier_source import same
from tests.promql.window_data import block_of
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches

MINUTE_MS = 60_000
NOW = floor_ms(NOW_MS, HOUR_MS)
GRID = StepGrid(start_ms=NOW - 8 * HOUR_MS, step_ms=HOUR_MS, count=9)
SMALL_HEAD = {"head_cache_bytes": 0, "head_window_ms": HOUR_MS}
Rows = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        yield engine
        engine.close()


def random_samples(seed: int, *, hours: int = 12, until_ms: int = NOW) -> Rows:
    """Samples of three series, with gaps, resets and stale markers, over the hours before `until_ms`."""
    rng = np.random.default_rng(seed)
    found: Rows = {}
    for name, count in (("a", hours * 60), ("b", hours * 20), ("c", 5)):
        times = until_ms - np.sort(rng.choice(hours * 240, count, replace=False))[::-1] * 15_000
        values = np.where(rng.random(count) < 0.03, 0.0, rng.integers(0, 9, count).cumsum().astype(float))
        values = np.where(rng.random(count) < 0.03, STALE_NAN, values)
        found[name] = list(zip(times.tolist(), values.tolist(), strict=True))
    return found


def flat(samples: Rows) -> list[tuple[str, int, float]]:
    return [(name, ts, value) for name, rows in samples.items() for ts, value in rows]


async def stored_rows(bench: Bench, name: str, resolution_ms: int) -> TierBlock:
    """What the store has of a series, sorted."""
    refs = np.array([bench.ref(name)], np.int32)
    parts = await bench.storage._store.read_tier(resolution_ms, refs, -(2**53), 2**53, ALL_COLUMNS)
    return pack_into_tier(resolution_ms, refs, parts).part(0, 1)


async def assert_rolled_up(bench: Bench, samples: Rows, upto_ms: int) -> None:
    """The store holds exactly the rows of these samples, up to a time."""
    for name, pairs in samples.items():
        latest = sorted(dict(pairs).items())
        wanted_samples = block_of([[(ts, value) for ts, value in latest if ts <= upto_ms]])
        for resolution_ms in RESOLUTIONS_MS.values():
            wanted, got = roll_up(wanted_samples, resolution_ms), await stored_rows(bench, name, resolution_ms)
            got.validate()
            for column in COLUMN_TYPES:
                np.testing.assert_array_equal(got.rows.columns()[column], wanted.rows.columns()[column], err_msg=f"{name} {column}")


def matrix(result: QueryResult) -> Matrix:
    assert isinstance(result.value, Matrix)
    return result.value


async def assert_answers(engine: Engine, bench: Bench, query: str, grid: StepGrid, resolution_ms: int | None = HOUR_MS) -> QueryResult:
    """The tiers answer as the samples do."""
    raw = matrix(await engine.range(bench.storage, query, grid, resolution_ms=0))
    result = await engine.range(bench.storage, query, grid, resolution_ms=resolution_ms)
    assert matrix(result).labels.all_labels() == raw.labels.all_labels()
    assert matrix(result).samples.offsets.tolist() == raw.samples.offsets.tolist()
    np.testing.assert_array_equal(matrix(result).samples.ts_ms, raw.samples.ts_ms)
    same(matrix(result).samples.values, raw.samples.values)
    assert any("rollup" in info for info in result.infos)
    return result


async def rolled_up_bench(benches: Benches, samples: Rows, **options: Any) -> Bench:
    bench = await benches(**(SMALL_HEAD | options))
    bench.clock[0] = NOW + 10 * MINUTE_MS
    await bench.append(flat(samples))
    await bench.storage.flush()
    await bench.storage.roll_up()
    return bench


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_old_enough_is_rolled_up(benches: Benches, seed: int) -> None:
    samples = random_samples(seed, until_ms=NOW + 9 * MINUTE_MS)
    bench = await rolled_up_bench(benches, samples)
    await assert_rolled_up(bench, samples, NOW)
    later = random_samples(seed + 100, hours=2, until_ms=NOW + 3 * HOUR_MS)
    bench.clock[0] = NOW + 3 * HOUR_MS + 10 * MINUTE_MS
    await bench.append(flat(later))
    await bench.storage.flush()
    await bench.storage.roll_up()
    await assert_rolled_up(bench, {name: samples[name] + later[name] for name in samples}, NOW + 3 * HOUR_MS)


async def test_a_new_series_with_old_samples_waits_for_its_flush_and_keeps_no_other_waiting(
    benches: Benches, any_store: Callable[[Path], Store]
) -> None:
    samples = random_samples(1)
    bench = await benches(make=any_store)
    bench.clock[0] = NOW + 10 * MINUTE_MS
    await bench.append(flat(samples))
    await bench.storage.flush()
    new = {"new": samples["a"]}
    await bench.append(flat(new))
    await bench.storage.roll_up()
    await assert_rolled_up(bench, samples, NOW)
    await bench.storage.flush()
    await bench.storage.roll_up()
    await assert_rolled_up(bench, samples | new, NOW)


async def test_what_was_stored_before_there_were_tiers_is_rolled_up_in_portions(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promlike.storage.roller.PORTION_SAMPLES", 200)
    monkeypatch.setattr("promlike.storage.roller.FIRST_SERIES", 2)
    samples = random_samples(7, hours=120)
    bench = await benches(**SMALL_HEAD)
    bench.clock[0] = NOW + 10 * MINUTE_MS
    await bench.append(flat(samples))
    await bench.reopen()
    portions = 0
    write_tiers = bench.storage._store.write_tiers

    async def counted(batch: TierBatch) -> None:
        nonlocal portions
        portions += 1
        await write_tiers(batch)

    bench.storage._store.write_tiers = counted  # type: ignore[method-assign]  # counts and calls the real one
    await bench.storage.roll_up()
    assert portions > 10
    await assert_rolled_up(bench, samples, floor_ms(max(ts for rows in samples.values() for ts, _ in rows) - 5 * MINUTE_MS, HOUR_MS))


QUERIES = [
    "rate(up[1h])",
    "sum_over_time(up[2h])",
    "up",
    "max by (instance) (max_over_time(up[1h]))",
    "timestamp(up)",
    "increase(up[1h] offset 1h)",
]


@pytest.mark.parametrize("resolution_ms", RESOLUTIONS_MS.values())
async def test_tiers_answer_as_samples_do_also_beyond_where_they_end(benches: Benches, engine: Engine, resolution_ms: int) -> None:
    samples = random_samples(3, until_ms=NOW + 9 * MINUTE_MS)
    bench = await rolled_up_bench(benches, samples)
    later = random_samples(4, hours=3, until_ms=NOW + 3 * HOUR_MS)
    grid = StepGrid(start_ms=NOW - 6 * HOUR_MS, step_ms=HOUR_MS, count=10)
    for query in QUERIES:
        await assert_answers(engine, bench, query, grid, resolution_ms)
    bench.clock[0] = NOW + 4 * HOUR_MS
    await bench.append([row for row in flat(later) if row[1] > NOW + 9 * MINUTE_MS])
    for flushed in (False, True):
        if flushed:
            await bench.storage.flush()
        for query in QUERIES:
            await assert_answers(engine, bench, query, grid, resolution_ms)
    await bench.reopen()
    for query in QUERIES:
        await assert_answers(engine, bench, query, grid, resolution_ms)


@pytest.mark.parametrize("when", ["waiting", "flushed", "rolled up", "reopened"])
async def test_late_samples_are_seen_at_once_and_rolled_up_again(benches: Benches, engine: Engine, when: str) -> None:
    samples = random_samples(5)
    bench = await rolled_up_bench(benches, samples)
    late = [
        ("a", NOW - 7 * HOUR_MS + 1, 1e6),
        ("a", NOW - 30 * HOUR_MS, 5.0),
        ("b", samples["b"][40][0], -3.0),
        ("b", samples["b"][41][0], STALE_NAN),
        ("new", NOW - 5 * HOUR_MS, 1.0),
        ("new", NOW - 2 * HOUR_MS, 2.0),
        ("c", NOW + MINUTE_MS, 4.0),
    ]
    await bench.append(late)
    if when != "waiting":
        await bench.storage.flush()
    if when == "rolled up":
        await bench.storage.roll_up()
        assert bench.storage.counters.rollup_marks > 0
        for name, ts, value in late:
            samples.setdefault(name, []).append((ts, value))
        await assert_rolled_up(bench, samples, NOW)
        assert len(await bench.storage._store.load_marks(None)) == 0
    if when == "reopened":
        await bench.reopen()
    for query in QUERIES:
        await assert_answers(engine, bench, query, StepGrid(start_ms=NOW - 32 * HOUR_MS, step_ms=HOUR_MS, count=33))


async def test_a_series_that_lags_behind_is_read_as_samples_until_it_is_rolled_up(benches: Benches, engine: Engine) -> None:
    bench = await rolled_up_bench(benches, random_samples(6))
    slow = [("slow", NOW - 4 * HOUR_MS + k * MINUTE_MS, float(k)) for k in range(120)]
    await bench.append(slow[:60])
    await assert_answers(engine, bench, "rate(up[1h])", GRID)
    await bench.storage.flush()
    await bench.append(slow[60:])
    await assert_answers(engine, bench, "rate(up[1h])", GRID)
    await bench.storage.flush()
    await bench.storage.roll_up()
    await assert_answers(engine, bench, "rate(up[1h])", GRID)
    await assert_rolled_up(bench, {"slow": [(ts, value) for _, ts, value in slow]}, NOW)


@pytest.mark.parametrize("when", ["waiting", "flushed", "rolled up", "reopened"])
async def test_deleted_samples_leave_the_tiers(benches: Benches, engine: Engine, when: str) -> None:
    samples = random_samples(8)
    bench = await rolled_up_bench(benches, samples)
    start_ms, end_ms = NOW - 7 * HOUR_MS - 20 * MINUTE_MS, NOW - 4 * HOUR_MS - 7 * MINUTE_MS
    await bench.storage.delete_series([[Matcher("instance", MatchOp.NOT_EQUAL, "b")]], start_ms=start_ms, end_ms=end_ms)
    if when != "waiting":
        await bench.storage.flush()
    if when == "reopened":
        await bench.reopen()
    if when == "rolled up":
        await bench.storage.roll_up()
        left = {name: [(ts, v) for ts, v in rows if name == "b" or not start_ms < ts <= end_ms] for name, rows in samples.items()}
        await assert_rolled_up(bench, left, NOW)
    for query in QUERIES:
        await assert_answers(engine, bench, query, GRID)


class Failing:
    """A store whose `write_tiers` fails once, before or after it did its work."""

    def __init__(self, inner: Store, *, after: bool) -> None:
        self._inner = inner
        self._after = after
        self.failures = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def write_tiers(self, batch: TierBatch) -> None:
        if self.failures and not self._after:
            self.failures -= 1
            raise StorageUnavailable("the store is away")
        await self._inner.write_tiers(batch)
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("the connection was lost")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("reopened", [False, True])
async def test_rows_are_there_once_when_a_store_fails(benches: Benches, engine: Engine, after: bool, reopened: bool) -> None:
    samples = random_samples(9)
    bench = await benches(wrap=lambda store: Failing(store, after=after), **SMALL_HEAD)
    bench.clock[0] = NOW + 10 * MINUTE_MS
    await bench.append(flat(samples))
    await bench.storage.flush()
    with pytest.raises(StorageError):
        await bench.storage.roll_up()
    # Nobody knows now whether the rows are there: what comes late must be marked as if they were.
    await bench.append([("a", NOW - 9 * HOUR_MS, 77.0)])
    samples["a"].append((NOW - 9 * HOUR_MS, 77.0))
    await bench.storage.flush()
    if reopened:
        await bench.reopen()
        bench.storage._store.failures = 0  # type: ignore[attr-defined]  # the wrapper's
        await bench.storage.flush()
    await bench.storage.roll_up()
    await assert_rolled_up(bench, samples, NOW)
    await assert_answers(engine, bench, "rate(up[1h])", GRID)


async def test_rollups_go_on_where_a_crash_ended_them(benches: Benches) -> None:
    samples = random_samples(10)
    bench = await rolled_up_bench(benches, samples)
    await bench.append([("a", NOW - 3 * HOUR_MS, -1.0)])
    samples["a"].append((NOW - 3 * HOUR_MS, -1.0))
    await bench.storage.flush()
    await bench.reopen()  # with the marks, but without having heeded them
    await bench.storage.roll_up()
    await assert_rolled_up(bench, samples, NOW)


@pytest.mark.parametrize(("function", "fit"), [("rate(up[1h])", Fit.EXACT), ("rate(up[12h])", Fit.CLOSE), ("irate(up[1h])", None)])
async def test_a_tier_is_chosen_where_it_spares_reading_much(
    benches: Benches, engine: Engine, monkeypatch: pytest.MonkeyPatch, function: str, fit: Fit | None
) -> None:
    bench = await rolled_up_bench(benches, random_samples(11, hours=48))
    start_ms = NOW - 30 * HOUR_MS + (7 if fit is Fit.CLOSE else 0)
    grid = StepGrid(start_ms=start_ms, step_ms=HOUR_MS, count=30)
    assert not [info for info in (await engine.range(bench.storage, function, grid)).infos if "rollup" in info]
    monkeypatch.setattr(tier_reader, "EXACT_FROM", 1)
    monkeypatch.setattr(tier_reader, "CLOSE_FROM", 1)
    infos = [info for info in (await engine.range(bench.storage, function, grid)).infos if "rollup" in info]
    assert len(infos) == (fit is not None)
    recent = StepGrid(start_ms=NOW, step_ms=MINUTE_MS, count=5)
    assert not [info for info in (await engine.range(bench.storage, "rate(up[5m])", recent)).infos if "rollup" in info]


async def test_samples_older_than_their_retention_come_from_tiers(benches: Benches, engine: Engine) -> None:
    samples = random_samples(12, hours=72)
    bench = await rolled_up_bench(benches, samples)
    grid = StepGrid(start_ms=NOW - 60 * HOUR_MS, step_ms=HOUR_MS, count=61)
    rough = StepGrid(start_ms=NOW - 60 * HOUR_MS + 77_000, step_ms=7 * MINUTE_MS, count=500)
    wanted = matrix(await engine.range(bench.storage, "rate(up[1h])", grid, resolution_ms=0))
    for _ in range(2):
        await bench.storage.close()
        bench.options["retention_ms"] = 10 * HOUR_MS
        await bench.start(bench.folder)
        result = await engine.range(bench.storage, "rate(up[1h])", grid)
        assert matrix(result).labels.all_labels() == wanted.labels.all_labels()
        same(matrix(result).samples.values, wanted.samples.values)
        assert any(info.startswith("PromQL info: read from the 1h rollup: up[1h]") for info in result.infos)
        result = await engine.range(bench.storage, "rate(up[5m])", rough)
        assert "read from the 5m rollup, windows moved back by less than 5m: up[5m]" in result.infos[0]
        assert (matrix(result).samples.ts_ms < NOW - 50 * HOUR_MS).any()
        recent = StepGrid(start_ms=NOW - 9 * HOUR_MS, step_ms=7 * MINUTE_MS, count=70)
        assert not [info for info in (await engine.range(bench.storage, "rate(up[5m])", recent)).infos if "rollup" in info]
        await bench.storage.enforce_retention()
        assert bench.storage.gauges.head_series == 3
        assert bench.storage.gauges.min_time_ms == min(ts for rows in samples.values() for ts, _ in rows)
        assert len((await bench.storage.label_values("instance", [], start_ms=None, end_ms=NOW - 60 * HOUR_MS))[0]) >= 2


async def test_each_tier_has_its_retention_and_series_go_with_the_last(benches: Benches) -> None:
    samples = random_samples(13, hours=72)
    bench = await rolled_up_bench(
        benches, samples, retention_ms=80 * HOUR_MS, tier_retention_ms={5 * MINUTE_MS: 20 * HOUR_MS, HOUR_MS: 100 * HOUR_MS}
    )
    await bench.storage.enforce_retention()
    oldest = {size: int((await stored_rows(bench, "a", size)).rows.ends_ms.min()) for size in RESOLUTIONS_MS.values()}
    kept_ms = ceil_ms(bench.clock[0] - 20 * HOUR_MS, 5 * MINUTE_MS)
    assert kept_ms - SPANS_MS[5 * MINUTE_MS] < oldest[5 * MINUTE_MS] <= kept_ms  # whole stretches go
    assert oldest[HOUR_MS] == ceil_ms(samples["a"][0][0], HOUR_MS)
    bench.clock[0] += 90 * HOUR_MS
    await bench.storage.enforce_retention()
    assert bench.storage.gauges.head_series == 3
    assert await bench.select() == {}
    bench.clock[0] += 20 * HOUR_MS
    await bench.storage.enforce_retention()
    assert bench.storage.gauges.head_series == 0
    bench.clock[0] += SPANS_MS[HOUR_MS]
    await bench.storage.enforce_retention()
    assert (await stored_rows(bench, "a", HOUR_MS)).rows.count == 0


async def test_samples_that_are_not_rolled_up_yet_outlive_their_retention(benches: Benches) -> None:
    samples = random_samples(14)
    bench = await rolled_up_bench(benches, samples, retention_ms=20 * HOUR_MS)
    later = [("a", NOW + 30 * MINUTE_MS, 5.0)]
    bench.clock[0] = NOW + HOUR_MS
    await bench.append(later)
    bench.clock[0] = NOW + 40 * HOUR_MS
    await bench.storage.enforce_retention()
    await bench.storage.flush()
    await bench.storage.roll_up()
    samples["a"].append((NOW + 30 * MINUTE_MS, 5.0))
    await assert_rolled_up(bench, samples, NOW + HOUR_MS)


async def test_rows_count_against_the_budget_of_a_query(benches: Benches) -> None:
    bench = await rolled_up_bench(benches, random_samples(15))
    option = TierOption(resolution_ms=5 * MINUTE_MS, start_ms=NOW - DAY_MS, end_ms=NOW, columns=ALL_COLUMNS, fit=Fit.EXACT, forced=True)
    request = SelectRequest(matchers=EVERYTHING, start_ms=NOW - DAY_MS, end_ms=NOW, tiers=(option,))
    block = (await bench.storage.select([request], max_samples=1000)).blocks[0]
    assert isinstance(block.tier, PackedTier)
    block.tier.part(0, block.tier.series).validate()
    assert block.tier.count < 500
    with pytest.raises(TooManySamples, match=r"samples into memory, more than the allowed 100$"):
        await bench.storage.select([request], max_samples=100)


async def test_queries_beside_rolling_up_are_right(benches: Benches, engine: Engine) -> None:
    bench = await rolled_up_bench(benches, random_samples(16))

    async def change() -> None:
        for k in range(12):
            await bench.append([("a", NOW - (k * 53) * MINUTE_MS, float(k)), ("b", NOW - (k * 31) * MINUTE_MS - 3, float(k))])
            await bench.storage.flush()
            await bench.storage.roll_up()

    changing = asyncio.create_task(change())
    while not changing.done():
        before = bench.storage.changes.generation, bench.storage.counters.samples_appended
        raw = await engine.range(bench.storage, "sum_over_time(up[1h])", GRID, resolution_ms=0)
        rolled = await engine.range(bench.storage, "sum_over_time(up[1h])", GRID, resolution_ms=HOUR_MS)
        if before == (bench.storage.changes.generation, bench.storage.counters.samples_appended):
            same(matrix(rolled).samples.values, matrix(raw).samples.values)
    await changing
