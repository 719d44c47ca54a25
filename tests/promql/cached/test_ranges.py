"""Answers with and without the result cache are the same bytes, whatever came late, went or grew between two of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from promlike.api.encode import encode_value
from promlike.errors import PromlikeError, StorageError, StorageUnavailable
from promlike.model.blocks import Float64, Int32, Int64, StepGrid
from promlike.model.flushes import FlushNews, FlushRecord, StoredChange
from promlike.model.labels import Labels, labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.cached.cache import ResultCache, ResultCacheCounters
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import SETTLED_MS, YOUNG_MS, CachedRanges
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions, Features
from promlike.promql.parser import parse
from promlike.promql.result import QueryResult
from promlike.promql.steady import is_steady
from promlike.storage import tier_reader
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions
from tests.differential.data import TestSeries, build
from tests.differential.random_queries import QueryGenerator

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
FEATURES = Features(promql_experimental_functions=True)
RETENTION_MS = 100 * MINUTE_MS


@dataclass(slots=True, kw_only=True)
class Bench:
    """A storage, an engine and a cache on one clock."""

    storage: Storage
    engine: Engine
    ranges: CachedRanges
    cache: ResultCache
    clock: list[int]
    foreign: list[FlushNews | StorageError]
    """What is said of flushes in place of what storage says, if anything."""
    followed: list[int]
    """After which of them everything is said to be seen."""
    hurried: list[bool]
    refs: dict[Labels, int] = field(default_factory=dict)

    @property
    def counters(self) -> ResultCacheCounters:
        return self.cache.counters

    async def append(self, name: str, points: dict[int, float], **pairs: str) -> None:
        await self.load(labels({"__name__": name, **pairs}), np.array(list(points), np.int64), np.array(list(points.values()), np.float64))

    async def load(self, series: Labels, ts_ms: Int64, values: Float64) -> None:
        ref = self.storage.series_ref(series)
        await self.storage.append(np.full(len(ts_ms), ref, np.int32), ts_ms, values)

    async def same(self, query: str, grid: StepGrid, *, with_stats: bool = False) -> QueryResult:
        """The cached answer, which must be the plain one."""
        cached = await self.cached(query, grid, with_stats=with_stats)
        plain = await self.engine.range(self.storage, query, grid, with_stats=with_stats)
        assert encode_value(cached.value) == encode_value(plain.value), (query, grid)
        assert (cached.warnings, cached.infos) == (plain.warnings, plain.infos), (query, grid)
        assert cached.stats.samples_per_step == plain.stats.samples_per_step, (query, grid)
        assert len(cached.stats.read_per_step) == len(plain.stats.read_per_step)
        assert (
            not with_stats
            or cached.stats.samples_read == sum(cached.stats.read_per_step) <= plain.stats.samples_read + cached.stats.total_samples
        )
        return cached

    async def cached(self, query: str, grid: StepGrid, *, with_stats: bool = False, use_cache: bool = True) -> QueryResult:
        return await self.ranges.range(self.storage, query, grid, with_stats=with_stats, use_cache=use_cache)


Benches = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def benches(tmp_path: Path) -> AsyncIterator[Benches]:
    opened: list[Bench] = []
    with ThreadPoolExecutor(2) as pool:

        async def open_bench(*, cache_bytes: int = 1 << 24) -> Bench:
            clock = [NOW_MS]
            options = StorageOptions(data_dir=tmp_path, retention_ms=RETENTION_MS, head_max_bytes=1 << 28)
            storage = Storage(options, DuckDBStore(tmp_path / "promlike.duckdb"), now_ms=lambda: clock[0])
            await storage.open(lambda line: None)
            engine_options = EngineOptions(features=FEATURES)
            engine, cache, log = Engine(engine_options, pool), ResultCache(cache_bytes), ChangeLog()

            def changed(refs: Int32, start_ms: int, end_ms: int) -> None:
                log.changed(storage.metrics_of(refs), start_ms, end_ms)

            storage.changes.subscribe(changed, settled_ms=SETTLED_MS)
            foreign: list[FlushNews | StorageError] = []
            followed, hurried = [2**62], list[bool]()

            async def flushes(after: int) -> FlushNews:
                said = foreign[0] if foreign else await storage.flushes(after)
                if isinstance(said, StorageError):
                    raise said
                return said

            async def hurry() -> None:
                hurried.append(True)

            ranges = CachedRanges(
                engine,
                engine_options,
                cache,
                log,
                pool,
                oldest_ms=lambda: storage.oldest_ms,
                history=StoreHistory(),
                flushes=flushes,
                choose_tiers=storage.choose_tiers,
                view=lambda: replace(storage.view, flush=followed[0]),
                hurry=hurry,
                now_ms=lambda: clock[0],
            )
            opened.append(
                Bench(
                    storage=storage,
                    engine=engine,
                    ranges=ranges,
                    cache=cache,
                    clock=clock,
                    foreign=foreign,
                    followed=followed,
                    hurried=hurried,
                )
            )
            return opened[-1]

        yield open_bench
        for bench in opened:
            await bench.storage.close()
            bench.engine.close()


def grid_to(end_ms: int, *, minutes: int = 30, step_ms: int = 15_000) -> StepGrid:
    count = minutes * MINUTE_MS // step_ms + 1
    return StepGrid(start_ms=end_ms - (count - 1) * step_ms, step_ms=step_ms, count=count)


async def counting(benches: Benches, **options: int) -> Bench:
    """`m{n="0".."2"}`, a sample every 15 s for 80 minutes until now."""
    bench = await benches(**options)
    for n in range(3):
        await bench.append("m", {NOW_MS - at * 15_000: float(n * at % 7) for at in range(320, -1, -1)}, n=str(n))
    return bench


async def test_answers_are_those_of_the_step_that_subqueries_have_now(benches: Benches) -> None:
    bench, grid = await counting(benches), grid_to(NOW_MS)
    for step_ms, cached_steps in ((60_000, 0), (60_000, 1), (30_000, 0), (30_000, 1), (60_000, 1)):
        bench.engine.subquery_step_ms = step_ms
        result = await bench.same("count_over_time(m[5m:])", grid)
        assert min(result.stats.cached_steps, 1) == cached_steps
    bench.engine.subquery_step_ms = 15_000
    assert (await bench.same("max_over_time(m[5m:1m])", grid)).stats.cached_steps == 0


async def test_a_panel_that_moves_on_evaluates_only_what_is_new_or_young(benches: Benches) -> None:
    bench = await counting(benches)
    query = "sum by (n) (avg_over_time(m[5m]))"
    first = await bench.same(query, grid_to(NOW_MS))
    assert first.stats.cached_steps == 0
    for move in range(1, 4):
        bench.clock[0] = NOW_MS + move * 15_000
        for n in range(3):
            await bench.append("m", {bench.clock[0]: 3.0 * move}, n=str(n))
        result = await bench.same(query, grid_to(bench.clock[0]))
        assert result.stats.steps - result.stats.cached_steps == 1 + YOUNG_MS // 15_000
    assert bench.counters.missed == 1
    assert bench.counters.partial == 3


async def test_a_range_that_lies_inside_what_is_known_evaluates_nothing(benches: Benches) -> None:
    bench = await counting(benches)
    await bench.same("m", grid_to(NOW_MS - 5 * MINUTE_MS))
    result = await bench.same("m", grid_to(NOW_MS - 10 * MINUTE_MS, minutes=10))
    assert result.stats.cached_steps == result.stats.steps
    assert bench.counters.whole == 1


async def test_earlier_steps_are_put_before_what_is_known(benches: Benches) -> None:
    bench = await counting(benches)
    await bench.same("m", grid_to(NOW_MS - 5 * MINUTE_MS))
    result = await bench.same("m", grid_to(NOW_MS - 5 * MINUTE_MS, minutes=40))
    assert result.stats.cached_steps == 121
    again = await bench.same("m", grid_to(NOW_MS - 5 * MINUTE_MS, minutes=40))
    assert again.stats.cached_steps == 161


async def test_queries_that_differ_in_anything_that_counts_do_not_share(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    await bench.same("m", grid)
    assert (await bench.same("m{n='1'}", grid)).stats.cached_steps == 0
    assert (await bench.same("m", StepGrid(start_ms=grid.start_ms, step_ms=30_000, count=61))).stats.cached_steps == 0
    assert (await bench.same("m", StepGrid(start_ms=grid.start_ms + 1, step_ms=15_000, count=100))).stats.cached_steps == 0
    assert (await bench.ranges.range(bench.storage, "m", grid, lookback_ms=1000)).stats.cached_steps == 0
    assert (await bench.same("m", grid, with_stats=True)).stats.cached_steps == 0
    assert (await bench.same(" (m) ", grid)).stats.cached_steps == 0
    assert (await bench.same(" m ", grid)).stats.cached_steps == grid.count


async def test_statistics_per_step_are_kept_with_the_answer(benches: Benches) -> None:
    bench = await counting(benches)
    for end_ms in (NOW_MS, NOW_MS + 15_000, NOW_MS - 30_000):
        await bench.same("avg_over_time(m[5m])", grid_to(end_ms), with_stats=True)
    assert bench.counters.partial == 2


async def test_a_request_may_go_by_the_cache(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    await bench.same("m", grid)
    assert (await bench.cached("m", grid, use_cache=False)).stats.cached_steps == 0
    assert bench.counters.bypassed == 1


async def test_no_memory_keeps_nothing(benches: Benches) -> None:
    bench = await counting(benches, cache_bytes=0)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    for _ in range(2):
        assert (await bench.same("m", grid)).stats.cached_steps == 0


async def test_a_late_sample_makes_the_steps_new_that_see_it(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    query = "max_over_time(m[1m])"
    before = await bench.same(query, grid)
    await bench.append("m", {NOW_MS - 20 * MINUTE_MS + 7: 99.0}, n="1")
    after = await bench.same(query, grid)
    assert encode_value(before.value) != encode_value(after.value)
    assert 0 < after.stats.cached_steps < grid.count
    assert (await bench.same(query, grid)).stats.cached_steps == grid.count


async def test_late_samples_of_other_metrics_change_nothing(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    await bench.same("m", grid)
    await bench.same('{n="1"}', grid)
    await bench.append("other", {NOW_MS - 20 * MINUTE_MS + 7: 99.0}, n="1")
    assert (await bench.same("m", grid)).stats.cached_steps == grid.count
    assert (await bench.same('{n="1"}', grid)).stats.cached_steps < grid.count


async def test_a_late_sample_under_an_at_modifier_changes_every_step(benches: Benches) -> None:
    bench = await counting(benches)
    grid, query = grid_to(NOW_MS - 5 * MINUTE_MS), f"m @ {(NOW_MS - 30 * MINUTE_MS) / 1000}"
    for _ in range(2):
        result = await bench.same(query, grid)
    assert result.stats.cached_steps == grid.count
    await bench.append("m", {NOW_MS - 30 * MINUTE_MS - 1: 99.0}, n="1")
    assert (await bench.same(query, grid)).stats.cached_steps == 0


async def test_ranges_of_which_retention_hides_samples_go_by_the_cache(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 40 * MINUTE_MS)
    await bench.same("m", grid)
    bench.clock[0] = NOW_MS + RETENTION_MS - 75 * MINUTE_MS
    assert (await bench.same("m", grid)).stats.cached_steps == grid.count
    bench.clock[0] += 1
    assert (await bench.same("m", grid)).stats.cached_steps == 0
    assert (await bench.same("m", grid_to(NOW_MS - 40 * MINUTE_MS, minutes=20))).stats.cached_steps == 81


@pytest.mark.parametrize(
    ("step_ms", "resolution_ms", "of_tier", "is_cached"),
    [
        (15_000, None, (False, False), True),
        (300_000, None, (False, True), True),
        (300_000, 0, (False, False), True),
        (15_000, 300_000, (True, True), False),
    ],
)
@pytest.mark.parametrize("is_large", [False, True])
async def test_ranges_that_a_rollup_tier_answers_are_kept_when_no_step_lies_inside_a_bucket(
    benches: Benches,
    monkeypatch: pytest.MonkeyPatch,
    step_ms: int,
    resolution_ms: int | None,
    of_tier: tuple[bool, bool],
    is_cached: bool,
    is_large: bool,
) -> None:
    bench = await counting(benches)
    if is_large:
        monkeypatch.setattr(tier_reader, "EXACT_FROM", 1)
    bench.clock[0] += 120 * MINUTE_MS
    await bench.storage.flush()
    await bench.storage.roll_up()
    bench.clock[0] -= 120 * MINUTE_MS
    end_ms = (NOW_MS - 5 * MINUTE_MS) // 300_000 * 300_000
    for _ in range(2):
        result = await bench.ranges.range(
            bench.storage, "sum(avg_over_time(m[5m]))", grid_to(end_ms, step_ms=step_ms), resolution_ms=resolution_ms
        )
        assert any("rollup" in info for info in result.infos) == of_tier[is_large]
    assert (result.stats.cached_steps > 0) == is_cached


async def test_deleted_samples_leave_cached_answers(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    await bench.same("m", grid)
    matchers = (Matcher("n", MatchOp.EQUAL, "1"),)
    assert await bench.storage.delete_series([matchers], start_ms=NOW_MS - 40 * MINUTE_MS, end_ms=NOW_MS - 16 * MINUTE_MS) == 1
    assert (await bench.same("m", grid)).stats.cached_steps == 25


async def test_of_what_others_change_nothing_is_trusted(benches: Benches) -> None:
    bench = await counting(benches)
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    for _ in range(2):
        result = await bench.same("m", grid)
    assert result.stats.cached_steps == grid.count
    start_ms = NOW_MS - 20 * MINUTE_MS
    for number, metric, kept in ((1, "other", grid.count), (2, "m", 61), (3, None, 61)):
        change = StoredChange(metric=metric, start_ms=start_ms, end_ms=start_ms + 1)
        bench.foreign[:] = [FlushNews(last=number, records=(FlushRecord(number=number, token=7, own=False, changes=(change,)),))]
        bench.followed[0] = number - 1
        assert (await bench.same("m", grid_to(start_ms - MINUTE_MS, minutes=5))).stats.cached_steps == 21
        assert ((await bench.same("m", grid)).stats.cached_steps > 0) == (metric == "other")
        assert len(bench.hurried) == number - 1
        bench.followed[0] = 2**62
        assert (await bench.same("m", grid)).stats.cached_steps == kept
        assert (await bench.same("m", grid)).stats.cached_steps == grid.count
    bench.foreign[:] = [FlushNews(last=5)]  # nobody knows any more what number 4 and 5 were about
    assert (await bench.same("m", grid)).stats.cached_steps == 0
    assert (await bench.same("m", grid)).stats.cached_steps == grid.count
    bench.foreign[:] = [FlushNews(last=1)]  # the database was restored to an earlier time
    assert (await bench.same("m", grid)).stats.cached_steps == 0
    assert (await bench.same("m", grid)).stats.cached_steps == grid.count
    bench.foreign[:] = [StorageUnavailable("away")]
    assert (await bench.same("m", grid)).stats.cached_steps == 0


@pytest.mark.parametrize(
    "query",
    [
        "stddev(sum by (job) (churn))",
        "avg(avg by (job) (churn)) + sum(sum without (instance) (churn))",
        "stdvar(churn or other)",
        "sum by (version) (churn * on (instance) group_left (version) build)",
        "stddev(label_replace(churn, 'instance', '$1', 'job', '(.*)'))",
        "stdvar(topk(5, sum by (job) (churn)))",
    ],
)
async def test_sums_of_what_comes_and_goes_round_alike_in_every_range(benches: Benches, query: str) -> None:
    """Which job occurs first depends on the range; so would the order of sums, and their last bits."""
    bench, random = await benches(), np.random.default_rng(7)
    for instance in range(40):
        job = str(random.integers(0, 12)) if "label_replace" not in query else str(instance)
        first = int(random.integers(20, 320))
        times = [NOW_MS - at * 15_000 for at in range(first, max(first - 100, -1), -1)]
        values = (random.random(len(times)) * 10.0 ** random.integers(-3, 9)).tolist()
        await bench.append("churn", dict(zip(times, values, strict=True)), instance=str(instance), job=job)
        await bench.append("other", {times[0]: values[0]}, instance=str(instance), job=job, more="x")
        for part, version in ((times[:50], "2"), (times[75:], "1")):
            if part:
                await bench.append("build", dict.fromkeys(part, 1.0), instance=str(instance), version=version)
    end_ms = NOW_MS - 40 * MINUTE_MS
    while end_ms < NOW_MS:
        await bench.same(query, grid_to(end_ms, minutes=30))
        end_ms += 4 * MINUTE_MS
    assert bench.counters.partial > 5


async def test_a_tie_is_never_put_together_from_parts(benches: Benches) -> None:
    bench = await benches()
    for n in range(4):
        await bench.append("tied", {NOW_MS - at * 15_000: float(n // 2) for at in range(320, -1, -1)}, n=str(n))
    grid = grid_to(NOW_MS - 5 * MINUTE_MS)
    for _ in range(2):
        assert (await bench.same("topk(1, sum by (n) (tied))", grid)).stats.cached_steps == 0
        result = await bench.same("topk(2, sum by (n) (tied))", grid)
    assert result.stats.cached_steps == grid.count


@pytest.mark.parametrize("query", ["quantile_over_time(2, m[5m])", "rate(m[5m])", "rate(m[5m]) / rate(m[1m])", "quantile(-1, rate(m[1m]))"])
async def test_annotations_are_kept_with_the_steps_that_they_speak_of(benches: Benches, query: str) -> None:
    bench = await counting(benches)
    times = [NOW_MS - at * 15_000 for at in range(320, -1, -1)]
    await bench.append("other", dict.fromkeys(times[100:200], 1.0), n="1")
    query = f"{query} or sum(increase(other[1m]) > -1)"
    for end_ms in (NOW_MS, NOW_MS, NOW_MS - 5 * MINUTE_MS, NOW_MS - 15 * MINUTE_MS, NOW_MS - 35 * MINUTE_MS):
        for minutes in (30, 10, 40):
            result = await bench.same(query, grid_to(end_ms, minutes=minutes))
            assert result.warnings or result.infos
    assert bench.counters.whole + bench.counters.partial > 8
    spaced = f" {query}"
    result = await bench.same(spaced, grid_to(NOW_MS, minutes=30))  # its annotations name other places
    assert result.stats.cached_steps == 0


@pytest.mark.parametrize(
    "query",
    [
        "max_over_time(rate(m[1m])[5m:1m])",
        "topk(scalar(m{n='1'} % 2), rate(m[1m]))",
        "quantile_over_time(scalar(m{n='1'}), m[1m])",
        "max_over_time(m[1m:15s]) or max_over_time(m[10s:5s])",
    ],
)
async def test_what_may_be_annotated_by_other_steps_is_not_kept(benches: Benches, query: str) -> None:
    bench = await counting(benches)
    for end_ms in (NOW_MS - 5 * MINUTE_MS, NOW_MS - 4 * MINUTE_MS):
        assert (await bench.same(query, grid_to(end_ms))).stats.cached_steps == 0


async def test_series_that_differ_in_type_alone_are_not_put_together(benches: Benches) -> None:
    bench = await benches()
    times = [NOW_MS - at * 15_000 for at in range(320, -1, -1)]
    await bench.append("typed", dict.fromkeys(times[:200], 1.0), __type__="gauge")
    await bench.append("typed", dict.fromkeys(times[200:], 1.0), __type__="counter")
    grid = grid_to(times[190])
    for _ in range(2):
        await bench.same("abs(typed)", grid)
    assert bench.counters.whole == bench.counters.partial == 0


async def outcome(answering: Awaitable[QueryResult]) -> tuple[object, ...]:
    try:
        result = await answering
    except PromlikeError as error:
        return type(error), str(error)
    return b"".join(encode_value(result.value)), result.warnings, result.infos, result.stats.samples_per_step


def deal(series: list[TestSeries], random: Random) -> list[tuple[int, Labels, int, float]]:
    """All samples as (when it arrives, series, time, value), sorted by arrival: most at once, some minutes late."""
    dealt = []
    for one in series:
        tardy = random.random() < 0.1
        for ts, value in zip(one.ts_ms.tolist(), one.values.tolist(), strict=True):
            delay = random.randint(0, 40 * MINUTE_MS) if random.random() < (0.3 if tardy else 0.001) else random.randint(0, 20_000)
            dealt.append((ts + delay, one.labels, ts, value))
    return sorted(dealt, key=lambda entry: entry[0])


@pytest.mark.parametrize("seed", range(6))
async def test_random_queries_over_moving_ranges_and_late_samples(benches: Benches, seed: int) -> None:
    """Ranges move on, jump and change their length while samples come late and go."""
    random, bench = Random(seed), await benches(cache_bytes=1 << 22)
    begin_ms = NOW_MS // MINUTE_MS * MINUTE_MS
    dealt = deal(build(begin_ms + 60 * MINUTE_MS, seed=seed), random)
    generator = QueryGenerator(seed)
    texts = [generator.query().replace("{at}", str((begin_ms - 20 * MINUTE_MS) // 1000)) for _ in range(400)]
    queries = [*texts[:4], *[text for text in texts if is_steady(parse(text, FEATURES), FEATURES)][:16]]
    steps = {query: random.choice((15_000, 37_000, MINUTE_MS)) for query in queries}
    arrived = 0
    bench.clock[0] = begin_ms
    for _ in range(60):
        bench.clock[0] += random.choice((5_000, 15_000, 15_000, 60_000))
        until = arrived
        while until < len(dealt) and dealt[until][0] <= bench.clock[0]:
            until += 1
        batch, arrived = dealt[arrived:until], until
        if batch:
            refs = np.array([bench.storage.series_ref(series) for _, series, _, _ in batch], np.int32)
            await bench.storage.append(refs, np.array([ts for _, _, ts, _ in batch]), np.array([value for *_, value in batch]))
        if random.random() < 0.1:
            await bench.storage.flush()
        if random.random() < 0.03:
            matchers = (Matcher("instance", MatchOp.EQUAL, random.choice(("a:1", "b:1"))), Matcher("job", MatchOp.EQUAL, "api"))
            start_ms = bench.clock[0] - random.randint(0, 40) * MINUTE_MS
            await bench.storage.delete_series([matchers], start_ms=start_ms, end_ms=start_ms + random.randint(1, 10) * MINUTE_MS)
        for query in random.sample(queries, 6):
            step_ms = steps[query]
            end_ms = bench.clock[0] // step_ms * step_ms - random.choice((0, 0, 0, 10 * MINUTE_MS)) // step_ms * step_ms
            grid = grid_to(end_ms, minutes=random.choice((10, 20, 20, 20, 35)), step_ms=step_ms)
            stats = random.random() < 0.2
            found = await outcome(bench.cached(query, grid, with_stats=stats))
            assert found == await outcome(bench.engine.range(bench.storage, query, grid, with_stats=stats)), (query, grid)
    assert bench.counters.cached_steps > bench.counters.steps / 10
    assert bench.counters.partial > 20
    assert bench.counters.invalidated > 0
