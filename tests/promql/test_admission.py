"""Places, queues and memory of queries."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from promlike.errors import MemoryInUse, Overloaded, QueryCancelled, QueryError, QueryTimeout, TooManySamples, TooMuchMemory
from promlike.model.blocks import Float64, StepGrid
from promlike.model.trace import OFF, Trace
from promlike.promql.admission import Admission
from promlike.promql.budget import Budget, MemoryPool
from promlike.promql.context import LARGEST_CHUNK, SMALLEST_CHUNK, Chunks
from promlike.promql.engine import Engine
from promlike.promql.options import Deadline, EngineOptions
from promlike.promql.result import Matrix
from promlike.storage.access import Loading, Selection, SelectRequest
from tests.promql.memory import MemorySource
from tests.promql.test_engine import source


def test_a_budget_counts_what_is_held_and_gives_it_back() -> None:
    pool = MemoryPool(1000)
    budget = Budget(max_samples=10, max_bytes=600, pool=pool)
    budget.hold(4, 100)
    mark = budget.mark()
    budget.hold(6, 500)
    assert (budget.bytes, pool.used_bytes) == (600, 600)
    with pytest.raises(TooManySamples, match="11 samples needed, 10 allowed"):
        budget.hold(1, 0)
    with pytest.raises(TooMuchMemory, match="601 bytes needed, 600 allowed"):
        budget.hold(0, 1)
    budget.release(mark)
    assert (budget.bytes, pool.used_bytes, budget.peak, budget.peak_bytes) == (100, 100, 10, 600)
    budget.close()
    budget.close()
    assert (pool.used_bytes, pool.peak_bytes) == (0, 600)


def test_what_is_loaded_counts_once_however_often_it_is_told() -> None:
    pool = MemoryPool(1000)
    budget = Budget(max_samples=10, max_bytes=600, pool=pool)
    for size in (100, 300, 200):
        budget.load(size)
        assert (budget.bytes, pool.used_bytes, budget.room()) == (size, size, 600)
    with pytest.raises(TooMuchMemory):
        budget.load(601)
    budget.loaded()
    assert pool.used_bytes == 0


def test_queries_together_hold_no_more_than_the_pool_has() -> None:
    pool = MemoryPool(1000)
    one, other = (Budget(max_samples=10, max_bytes=2000, pool=pool) for _ in range(2))
    one.hold(0, 700)
    with pytest.raises(MemoryInUse, match="400 bytes needed, 700 of the 1000 allowed for all queries together are in use") as caught:
        other.hold(0, 400)
    assert caught.value.needed == 400
    with pytest.raises(TooMuchMemory, match="1001 bytes needed, 1000 allowed for all queries together"):
        other.hold(0, 1001)
    assert (other.bytes, pool.used_bytes) == (0, 700)
    one.close()
    other.hold(0, 400)


def test_a_pool_tells_when_it_becomes_strained_and_when_it_is_no_more() -> None:
    pool = MemoryPool(1600)
    told: list[bool] = []
    pool.told = told.append
    for size in (200, 1, 1000):
        pool.take(size, 0)
    assert told == [True]
    for size in (1000, 100, 1):
        pool.give(size)
    assert told == [True, False]
    pool.take(100, 0)
    assert told == [True, False]


def test_a_lease_outlives_its_budget_and_ends_with_what_it_counts() -> None:
    pool = MemoryPool(1000)
    budget = Budget(max_samples=10, max_bytes=600, pool=pool)
    lease = budget.lease(200)
    budget.close()
    assert pool.used_bytes == lease.size == 200
    del lease
    assert pool.used_bytes == 0


def test_who_works_on_for_a_query_that_is_over_gets_nothing_more() -> None:
    pool = MemoryPool(1000)
    budget = Budget(max_samples=10, max_bytes=600, pool=pool)
    budget.close()
    with pytest.raises(QueryCancelled):
        budget.load(1)
    assert pool.used_bytes == 0


async def test_places_are_given_in_order_and_the_queue_has_an_end() -> None:
    admission = Admission(max_concurrency=1, max_queued=2, pool=MemoryPool(1))
    order: list[int] = []
    release = asyncio.Event()

    async def run(number: int) -> None:
        async with admission.place(Deadline.after(5)):
            order.append(number)
            await release.wait()

    tasks = [asyncio.create_task(run(number)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (order, admission.queued) == ([0], 2)
    with pytest.raises(Overloaded, match="1 run and 2 wait already"):
        await run(9)
    release.set()
    await asyncio.gather(*tasks)
    assert (order, admission.queued) == ([0, 1, 2], 0)


async def test_a_place_that_is_not_free_in_time_is_a_timeout() -> None:
    admission = Admission(max_concurrency=1, max_queued=2, pool=MemoryPool(1))
    async with admission.place(Deadline.after(5)):
        with pytest.raises(QueryTimeout, match="query timed out in query queue"):
            async with admission.place(Deadline.after(0.01)):
                pass
    assert admission.queued == 0


@dataclass(slots=True)
class Hungry:
    """Loads so many bytes for every query, as fast as it is let; counts how often it was asked."""

    size: int
    inner: MemorySource = field(default_factory=source)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        self.asked += 1
        assert loading is not None
        loading.load(self.size)
        await self.gate.wait()
        return await self.inner.select(requests, max_samples=max_samples)


async def given_back(engine: Engine) -> None:
    """All memory is free again, a moment after the results are gone: loop and worker threads still hold the last one."""
    for _ in range(200):
        await asyncio.sleep(0.01)
        if not engine.memory.used_bytes:
            return
    raise AssertionError(f"{engine.memory.used_bytes} bytes are still taken")


GRID = StepGrid(start_ms=0, step_ms=60_000, count=11)


async def test_a_query_that_finds_too_little_memory_runs_again_when_others_are_done() -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(max_bytes=1 << 20, max_total_bytes=1 << 20), pool)
        hungry = Hungry(600_000)
        queries = [asyncio.create_task(engine.range(hungry, "m", GRID)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert hungry.asked >= 5
        hungry.gate.set()
        results = await asyncio.gather(*queries)
        assert all(isinstance(result.value, Matrix) and len(result.value.labels) == 3 for result in results)
        assert hungry.asked >= 9
        assert engine.memory.peak_bytes <= 1 << 20
        del results, queries
        await given_back(engine)
        engine.close()


async def test_a_query_whose_memory_is_never_free_times_out() -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(max_bytes=1 << 20, max_total_bytes=1 << 20), pool)
        taken = engine.memory.lease(900_000)
        hungry = Hungry(600_000)
        hungry.gate.set()
        with pytest.raises(QueryTimeout):
            await engine.range(hungry, "m", GRID, deadline=Deadline.after(0.1))
        with pytest.raises(TooMuchMemory):
            await engine.range(Hungry(2 << 20), "m", GRID)
        del taken
        assert len((await engine.range(hungry, "m", GRID)).value.labels) == 3  # type: ignore[union-attr]  # a range gives a Matrix
        await given_back(engine)
        engine.close()


async def test_a_query_cancelled_at_any_moment_leaves_no_memory_taken() -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(max_bytes=1 << 20, max_total_bytes=1 << 20, max_concurrency=1), pool)
        hungry = Hungry(600_000)
        hungry.gate.set()
        for pauses in range(12):
            task = asyncio.create_task(engine.range(hungry, "sum(m)", GRID))
            for _ in range(pauses):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
        assert (await engine.range(hungry, "sum(m)", GRID)).stats.steps == 11
        await given_back(engine)
        assert engine.queued == 0
        engine.close()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("work", [0, SMALLEST_CHUNK, 3 * LARGEST_CHUNK, 100 * LARGEST_CHUNK])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_chunks_cover_every_row_once_in_portions_that_can_be_stopped_between(threads: int, work: int, count: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        seen: list[tuple[int, int]] = []
        Chunks(pool if threads > 1 else None, threads, Deadline.after(60)).map(lambda low, high: seen.append((low, high)), count, work)
    assert sorted(row for low, high in seen for row in range(low, high)) == list(range(count))
    if work > LARGEST_CHUNK and count == 1000:
        assert len(seen) >= work // LARGEST_CHUNK


def test_chunks_stop_when_the_query_is_cancelled() -> None:
    deadline = Deadline.after(60)
    seen: list[int] = []

    def work(low: int, high: int) -> None:
        seen.append(low)
        if len(seen) == 3:
            deadline.cancel()

    with pytest.raises(QueryCancelled):
        Chunks(None, 1, deadline).map(work, 1000, 100 * LARGEST_CHUNK)
    assert len(seen) == 3


def test_chunks_do_not_wait_for_threads_that_others_keep_busy() -> None:
    with ThreadPoolExecutor(1) as pool:
        release = threading.Event()
        pool.submit(release.wait)
        seen: list[int] = []
        Chunks(pool, 4, Deadline.after(60)).map(lambda low, high: seen.extend(range(low, high)), 100, 10 * LARGEST_CHUNK)
        assert seen == list(range(100))
        release.set()


@dataclass(slots=True)
class Watched:
    """Notes the arrays that it answered with, without keeping them."""

    inner: MemorySource = field(default_factory=source)
    arrays: list["weakref.ref[Float64]"] = field(default_factory=list)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        selection = await self.inner.select(requests, max_samples=max_samples)
        self.arrays += [weakref.ref(block.samples.whole().values) for block in selection.blocks]
        return selection


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(("query", "max_bytes"), [("m", 2000), ("rate(m[5m])", 600), ("m", 1 << 20), ("m + on() m", 1 << 20)])
async def test_what_a_query_loaded_is_gone_when_it_failed_and_not_only_after_a_collection(query: str, max_bytes: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(max_bytes=max_bytes), pool)
        watched = Watched()
        failed = False
        try:
            await engine.range(watched, query, GRID)
        except (TooMuchMemory, QueryError):
            failed = True
        assert failed is (query != "m" or max_bytes < 1 << 20)
        for _ in range(200):  # the worker thread lets go of its last work a moment later
            await asyncio.sleep(0.01)
            if all(array() is None for array in watched.arrays):
                break
        assert watched.arrays
        assert all(array() is None for array in watched.arrays)
        engine.close()


@pytest.mark.usefixtures("no_collector")
def test_what_chunks_worked_on_is_gone_when_one_failed_in_another_thread() -> None:
    loaded = [np.ones(10)]
    watched = weakref.ref(loaded[0])
    here = threading.current_thread()
    failed = False

    def work(low: int, high: int, values: Float64) -> None:
        if threading.current_thread() is not here:
            raise QueryError(f"{values[0]}")
        time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool:
        try:
            Chunks(pool, 2, Deadline.after(60)).map(partial(work, values=loaded.pop()), 4, 2 * LARGEST_CHUNK)
        except QueryError:
            failed = True
    assert failed
    assert watched() is None
