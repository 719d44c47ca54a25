"""The engine around evaluation: limits, deadlines, cancellation, answers of every type, statistics."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from promlike.errors import BadRequest, QueryCancelled, QueryError, QueryTimeout, SelectionChanged, TooManySamples, TooMuchMemory
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.labels import labels
from promlike.model.trace import OFF, Trace
from promlike.promql.context import Chunks
from promlike.promql.engine import SUBQUERY_STEP_MS, Engine
from promlike.promql.options import Deadline, EngineOptions, Features
from promlike.promql.result import Matrix, Scalar, String, Vector
from promlike.storage.access import Loading, Selection, SelectRequest, SeriesBlock
from tests.promql.memory import MemorySource, RegularSource

MINUTE_MS = 60_000
GRID = StepGrid(start_ms=0, step_ms=MINUTE_MS, count=11)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def source(series: int = 3) -> MemorySource:
    """`m{n="0"}`, … with a sample a minute for ten minutes: series number times 100 plus the minute."""
    filled = MemorySource()
    for n in range(series):
        filled.add(labels({"__name__": "m", "n": str(n)}), [(at * MINUTE_MS, 100.0 * n + at) for at in range(11)])
    return filled


@dataclass(slots=True)
class SlowSource:
    """Answers after `release` was set, and notes what it was asked."""

    source: MemorySource = field(default_factory=source)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[list[SelectRequest]] = field(default_factory=list)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        self.asked.append(list(requests))
        await self.release.wait()
        return await self.source.select(requests, max_samples=max_samples)


async def test_answers_of_every_type(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    values = [(await engine.instant(source(), query, MINUTE_MS)).value for query in ("m", "m[1m]", "1 + 1", '"text"')]
    assert [type(value) for value in values] == [Vector, Matrix, Scalar, String]
    answer = (await engine.range(source(), "time()", GRID)).value
    assert isinstance(answer, Matrix)
    assert answer.labels.all_labels() == [()]
    assert answer.samples.values.tolist() == [60.0 * step for step in range(11)]
    engine.close()


@pytest.mark.parametrize(("query", "kind"), [('"text"', "string"), ("m[1m]", "range vector"), ("m[5m:1m]", "range vector")])
async def test_range_queries_refuse_strings_and_range_vectors(pool: ThreadPoolExecutor, query: str, kind: str) -> None:
    engine = Engine(EngineOptions(), pool)
    with pytest.raises(BadRequest, match=f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector'):
        await engine.range(source(), query, GRID)
    engine.close()


async def test_subqueries_that_state_no_step_have_the_one_that_the_engine_is_told(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    found = []
    for step_ms in (SUBQUERY_STEP_MS, 5000, 20_000):
        engine.subquery_step_ms = step_ms
        for query in ("count_over_time(vector(1)[2m:])", "count_over_time(vector(1)[2m:30s])"):
            value = (await engine.instant(source(), query, 600_500)).value
            assert isinstance(value, Vector)
            found += value.values.tolist()
    assert found == [2, 4, 24, 4, 6, 4]
    engine.close()


async def test_all_selectors_are_asked_for_at_once(pool: ThreadPoolExecutor) -> None:
    slow = SlowSource()
    slow.release.set()
    engine = Engine(EngineOptions(features=Features.all()), pool)
    query = "m + m offset 1m + rate(m[5m]) + max_over_time(sum(m)[10m:1m]) + (m @ 60) + m + info(m)"
    await engine.instant(slow, query, 600_000)
    (asked,) = slow.asked
    ranges = [(request.start_ms, request.end_ms) for request in asked]
    window, instants = (300_000, 600_000), [None if each.instants is None else each.instants.count for each in asked]
    assert ranges == [window, (240_000, 540_000), window, (-240_000, 600_000), (-240_000, 60_000), window]
    assert instants == [1, 1, None, 10, 1, None]
    assert [str(matcher) for matcher in asked[-1].matchers] == ['__name__="target_info"']
    engine.close()


async def test_equal_subtrees_warn_once_at_the_last_place(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    result = await engine.instant(source(), "quantile(2, m) - quantile(2, m)", 0)
    assert [warning[-7:] for warning in result.warnings] == [" (1:27)"]
    engine.close()


async def test_lookback_of_the_query_wins(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    assert len((await engine.instant(source(), "m", 14 * MINUTE_MS)).value.labels) == 3  # type: ignore[union-attr]  # a vector
    assert len((await engine.instant(source(), "m", 14 * MINUTE_MS, lookback_ms=MINUTE_MS)).value.labels) == 0  # type: ignore[union-attr]  # a vector
    engine.close()


async def test_the_asked_end_is_what_the_query_speaks_of(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(features=Features.all()), pool)
    answer = (await engine.range(source(), "vector(end())", GRID, end_ms=630_000)).value
    assert isinstance(answer, Matrix)
    assert set(answer.samples.values.tolist()) == {630.0}
    engine.close()


async def test_too_many_samples_names_both_numbers(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_samples=10), pool)
    with pytest.raises(TooManySamples, match="33 samples needed, 10 allowed"):
        await engine.range(source(), "m", GRID)
    engine.close()
    engine = Engine(EngineOptions(max_samples=50), pool)
    message = "would load too many samples into memory in query execution: 66 samples needed, 50 allowed"
    with pytest.raises(TooManySamples, match=message):
        await engine.range(source(), "m + 1", GRID)
    engine.close()


async def test_too_much_memory_names_both_numbers(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_bytes=1000), pool)
    with pytest.raises(TooMuchMemory, match="1245 bytes needed, 1000 allowed"):
        await engine.range(source(), "m + 1", GRID)
    engine.close()


@pytest.mark.parametrize("query", ["count_over_time(vector(1)[100y:1ms])", "count_over_time((m)[100y:1ms])", "(m @ 60)[100y:1ms]"])
async def test_endless_subqueries_are_refused_before_they_are_computed(pool: ThreadPoolExecutor, query: str) -> None:
    engine = Engine(EngineOptions(), pool)
    with pytest.raises(TooManySamples, match="50000000 allowed"):
        await engine.instant(source(), query, 0)
    engine.close()


async def test_intermediate_results_are_given_back(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_samples=33 * 6), pool)
    query = " + ".join(["abs(m * 1)"] * 50)
    answer = (await engine.range(source(), query, GRID)).value
    assert isinstance(answer, Matrix)
    assert answer.samples.values[:11].tolist() == [50.0 * at for at in range(11)]
    engine.close()


async def test_intermediate_results_that_are_kept_for_their_next_use_count(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    kept, once = (" + ".join(f"({'m' if at % 2 else first} * {at // 2 + 1})" for at in range(40)) for first in ("m", "abs(m)"))
    peaks = []
    for query in (kept, once):
        await engine.range(source(), query, GRID)
        peaks.append(engine.memory.peak_bytes)
        engine.memory.peak_bytes = 0
    assert peaks[0] > peaks[1] + 15 * 33 * 9
    engine.close()


@dataclass(slots=True)
class Unread:
    """Samples that nobody may read."""

    series: int = 1
    count: int = 1_000_000
    portion: int = 1

    def rows(self, low: int, high: int) -> SampleBlock:
        raise AssertionError("rows were read")

    def whole(self) -> SampleBlock:
        raise AssertionError("all were read")


async def test_a_matrix_that_is_too_large_to_be_written_is_refused_before_it_is_read(pool: ThreadPoolExecutor) -> None:
    class Large:
        async def select(
            self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
        ) -> Selection:
            symbols = SymbolScope()
            frame = LabelFrame.from_labels([labels({"__name__": "m"})], symbols)
            return Selection(symbols=symbols, blocks=[SeriesBlock(labels=frame, samples=Unread()) for _ in requests])

    engine = Engine(EngineOptions(max_bytes=20 << 20), pool)
    with pytest.raises(TooMuchMemory):
        await engine.instant(Large(), "m[1h]", 0)
    engine.close()


async def test_queries_wait_for_their_turn_and_time_out_in_the_queue(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_concurrency=1), pool)
    slow = SlowSource()
    first = asyncio.create_task(engine.instant(slow, "m", 0))
    await asyncio.sleep(0)
    with pytest.raises(QueryTimeout, match="query timed out in query queue"):
        await engine.instant(slow, "m", 0, deadline=Deadline.after(0.05))
    slow.release.set()
    assert len((await first).value.labels) == 3  # type: ignore[union-attr]  # a vector
    await engine.instant(slow, "m", 0)
    engine.close()


async def test_a_slow_source_times_out(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_concurrency=1), pool)
    with pytest.raises(QueryTimeout, match="query timed out in expression evaluation"):
        await engine.instant(SlowSource(), "m", 0, deadline=Deadline.after(0.02))
    await engine.instant(source(), "m", 0)
    engine.close()


async def test_a_passed_deadline_ends_the_evaluation(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    deadline = Deadline.after(10)

    class Late(MemorySource):
        async def select(
            self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
        ) -> Selection:
            deadline.at -= 20
            return await source().select(requests, max_samples=max_samples)

    with pytest.raises(QueryTimeout, match="query timed out in expression evaluation"):
        await engine.instant(Late(), "m", 0, deadline=deadline)
    engine.close()


async def test_cancelling_while_fetching_frees_the_place(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_concurrency=1), pool)
    task = asyncio.create_task(engine.instant(SlowSource(), "m", 0))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.instant(source(), "m", 0)
    engine.close()


async def test_cancelling_while_executing_cancels_the_deadline_and_frees_the_place_when_the_worker_is_done() -> None:
    with ThreadPoolExecutor(1) as pool:
        engine = Engine(EngineOptions(max_concurrency=1), pool)
        busy = threading.Event()
        pool.submit(busy.wait)
        deadline = Deadline.after(60)
        task = asyncio.create_task(engine.instant(source(), "m", 0, deadline=deadline))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert deadline.cancelled
        waiting = asyncio.create_task(engine.instant(source(), "m", 0))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        busy.set()
        assert len((await waiting).value.labels) == 3  # type: ignore[union-attr]  # a vector
        engine.close()


async def test_a_failed_query_frees_its_place(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(max_concurrency=1), pool)
    for _ in range(3):
        with pytest.raises(QueryError):
            await engine.instant(source(), "topk(NaN, m)", 0)
        with pytest.raises(BadRequest):
            await engine.instant(source(), "topk(", 0)
    await engine.instant(source(), "m", 0)
    engine.close()


async def test_start_timestamps_of_samples(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(features=Features.all()), pool)
    filled = MemorySource()
    filled.add(labels({"__name__": "c_total"}), [(60_000, 1.0), (120_000, 2.0)], [(120_000, 90_500)])
    for query, values in (
        ("start_timestamp(c_total)", [0.0, 90.5]),
        ("start_timestamp((c_total offset 1m))", [0.0]),
        ("start_timestamp(c_total * 2)", [0.0, 0.0]),
    ):
        answer = (await engine.range(filled, query, StepGrid(start_ms=60_000, step_ms=60_000, count=2))).value
        assert isinstance(answer, Matrix)
        assert (answer.labels.all_labels(), answer.samples.values.tolist()) == ([()], values)
    engine.close()


async def test_statistics_count_what_each_step_looks_at(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    stats = (await engine.range(source(), "m + rate(m[2m])", GRID, with_stats=True)).stats
    assert stats.samples_per_step == (6, *[9] * 10)
    assert stats.total_samples == 96
    stats = (await engine.instant(source(), "max_over_time(m[3m:1m])", 5 * MINUTE_MS, with_stats=True)).stats
    assert stats.samples_per_step == (9,)
    assert (await engine.instant(source(), "m", 0)).stats.samples_per_step == ()
    engine.close()


async def test_wide_queries_give_the_same_on_threads(pool: ThreadPoolExecutor) -> None:
    random = np.random.default_rng(0)
    series = [labels({"__name__": "m", "job": str(n % 3), "n": str(n)}) for n in range(900)]
    wide = RegularSource(series, np.arange(200, dtype=np.int64) * MINUTE_MS, random.normal(size=(900, 200)))
    grid = StepGrid(start_ms=0, step_ms=MINUTE_MS, count=200)
    threaded, single = Engine(EngineOptions(), pool), Engine(EngineOptions(), pool)
    single._chunk_pool, single._threads = None, 1
    queries = ["sum by (job) (rate(m[5m]))", "m * on (n) group_left m", "topk(3, m)", "quantile by (job) (0.3, m)", "-m > 0"]
    for query in queries:
        one, other = [(await engine.range(wide, query, grid)).value for engine in (threaded, single)]
        assert isinstance(one, Matrix)
        assert isinstance(other, Matrix)
        assert one.labels.all_labels() == other.labels.all_labels()
        np.testing.assert_array_equal(one.samples.values, other.samples.values)
    threaded.close()
    single.close()


async def test_deep_trees_are_evaluated(pool: ThreadPoolExecutor) -> None:
    engine = Engine(EngineOptions(), pool)
    answer = (await engine.instant(source(), "(" * 200 + "m" + " + 1)" * 200, 0)).value
    assert isinstance(answer, Vector)
    assert answer.values.tolist() == [200.0, 300.0, 400.0]
    engine.close()


def test_chunks_cover_all_rows_and_pass_errors_on(pool: ThreadPoolExecutor) -> None:
    chunks = Chunks(pool, 3, Deadline.after(10))
    seen: list[tuple[int, int]] = []
    chunks.map(lambda low, high: seen.append((low, high)), 10, 10**6)
    assert sorted(seen) == [(0, 3), (3, 6), (6, 10)]

    def fail(low: int, high: int) -> None:
        if low > 0:
            raise QueryError("from a thread")

    with pytest.raises(QueryError, match="from a thread"):
        chunks.map(fail, 10, 10**6)
    chunks.map(fail, 0, 0)
    cancelled = Deadline.after(10)
    cancelled.cancel()
    with pytest.raises(QueryCancelled):
        Chunks(pool, 3, cancelled).map(fail, 1, 1)


class _Moving:
    """Samples that can be read only when they were fetched at once, as while a flush moves them."""

    def __init__(self, block: SampleBlock) -> None:
        self.series, self.count, self.portion = block.series, block.count, 1

    def rows(self, low: int, high: int) -> SampleBlock:
        raise SelectionChanged("moved")

    def whole(self) -> SampleBlock:
        raise SelectionChanged("moved")


async def test_a_query_whose_samples_move_meanwhile_fetches_them_at_once(pool: ThreadPoolExecutor) -> None:
    memory = MemorySource()
    memory.add(labels({"__name__": "m_total"}), [(k * 15_000, float(k)) for k in range(41)])
    asked: list[bool] = []

    class Source:
        async def select(
            self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
        ) -> Selection:
            asked.extend(request.at_once for request in requests)
            found = await memory.select(requests, max_samples=max_samples)
            blocks = [
                block if request.at_once else SeriesBlock(labels=block.labels, samples=_Moving(block.samples.whole()))
                for request, block in zip(requests, found.blocks, strict=True)
            ]
            return Selection(symbols=found.symbols, blocks=blocks)

    result = await Engine(EngineOptions(), pool).instant(Source(), "rate(m_total[5m])", 600_000)
    assert isinstance(result.value, Vector)
    assert result.value.values.tolist() == [1 / 15]
    assert asked == [False, True]
