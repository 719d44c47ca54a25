"""`python -m bench.long_range [--store URL]`: a month of samples in a store, rolled up, and queries over all of it.

The samples (by default 1,000 counters at 15 s over the last 30 days) go straight into the store, a day at a time, as flushes would bring
them. Then a storage is opened on it that rolls everything up, as it does with what was stored before there were rollups. Then it is opened
again and asked: each query cold, that is for the first time on a storage just opened, then several times more; of these the median counts.
Last comes a panel that is refreshed: the result cache has the answer of one step before.

The store is a DuckDB file in a temporary folder unless `--store` names a PostgreSQL database. Its schema `promlike_bench` is dropped
before and afterwards, unless `--keep` is given, with which a second run only asks.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from promlike.api.encode import encode_value
from promlike.kernel import compile_kernels
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.model.clock import wall_clock_ms
from promlike.model.labels import labels
from promlike.model.tiers import RESOLUTIONS_MS, floor_ms
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import CachedRanges
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.promql.result import QueryResult
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.options import DAY_MS, HOUR_MS
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.store import FlushBatch, SampleChunk, SeriesRecord, Store, WalPosition

STEP_MS = 15_000
SCHEMA = "promlike_bench"
JOBS = 10
UNALIGNED_MS = 23 * 60_000 + 7_000
RATE = "sum by (job) (rate(requests_total[1h]))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query over the whole month, or its last part."""

    name: str
    query: str
    step_ms: int = HOUR_MS
    shift_ms: int = 0
    days: float | None = None
    resolution_ms: int | None = None


QUESTIONS = (
    Question(name="aligned", query=RATE),
    Question(name="unaligned", query=RATE, shift_ms=UNALIGNED_MS),
    Question(name="instants", query="avg by (job) (requests_total)"),
    Question(name="a day of it, 5m", query="sum by (job) (rate(requests_total[5m]))", step_ms=300_000, days=1),
    Question(name="a day of it, from samples", query="sum by (job) (rate(requests_total[5m]))", step_ms=300_000, days=1, resolution_ms=0),
)


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    compile_kernels()
    folder = Path(tempfile.mkdtemp(prefix="bench-long-range-")) if options.folder is None else options.folder
    folder.mkdir(exist_ok=True)
    try:
        asyncio.run(run(options, folder))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


async def run(options: argparse.Namespace, folder: Path) -> None:
    if not options.keep:
        await drop(options.store)
    now_ms = options.now_ms or floor_ms(int(time.time() * 1000), STEP_MS)
    store = make_store(options.store, folder)
    await store.open()
    if await store.load_position() is None:
        await load(store, options.series, options.days, now_ms)
    await store.close()
    await roll_up(options.store, folder, now_ms)
    for question in QUESTIONS:
        await ask(options, folder, now_ms, question)
    if not options.keep:
        await drop(options.store)


def make_store(url: str, folder: Path) -> Store:
    if not url:
        return DuckDBStore(folder / "promlike.duckdb")
    from promlike.storage.timescale.store import TimescaleStore  # asyncpg is not loaded for the embedded store

    return TimescaleStore(url, folder=folder, schema=SCHEMA)


async def drop(url: str) -> None:
    """Take away what another run left in a database."""
    if url:
        import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker

        connection = await asyncpg.connect(url)
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connection.close()


async def load(store: Store, series: int, days: int, now_ms: int) -> None:
    """Store the samples, a day in one flush."""
    started, rng = time.monotonic(), np.random.default_rng(1)
    steps = DAY_MS // STEP_MS
    values = rng.random(series) * 1e6
    refs = np.arange(series, dtype=np.int32)
    for day in range(days):
        ts_ms = now_ms - (days - day) * DAY_MS + np.arange(1, steps + 1, dtype=np.int64) * STEP_MS
        risen = values[:, np.newaxis] + np.cumsum(rng.integers(0, 20, (series, steps)), axis=1)
        values = risen[:, -1] * (rng.random(series) > 0.05)  # some restart
        block = SampleBlock(ts_ms=np.tile(ts_ms, series), values=risen.reshape(-1), offsets=np.arange(series + 1, dtype=np.int64) * steps)
        none = np.empty(0, np.int64)
        await store.write(
            FlushBatch(
                new_series=new_series(series) if not day else (),
                chunks=[SampleChunk(refs=refs, samples=block)],
                late_refs=none.astype(np.int32),
                late_ts_ms=none,
                late_values=np.empty(0),
                position=WalPosition(segment=0, offset=8 + day),
            )
        )
    seconds, samples, size = time.monotonic() - started, series * days * steps, (await store.stats()).bytes
    print(f"loaded {samples / 1e6:.1f} M samples of {series} series in {seconds:.1f} s, {size / samples:.2f} bytes each")


def new_series(count: int) -> Iterator[SeriesRecord]:
    for ref in range(count):
        names = {"__name__": "requests_total", "job": f"job-{ref % JOBS}", "instance": f"10.0.{ref // 250}.{ref % 250}:9100"}
        yield SeriesRecord(ref=ref, labels=labels(names))


def open_storage(url: str, folder: Path, now_ms: int) -> Storage:
    return Storage(StorageOptions(data_dir=folder, retention_ms=0), make_store(url, folder), now_ms=lambda: now_ms)


async def roll_up(url: str, folder: Path, now_ms: int) -> None:
    storage = open_storage(url, folder, now_ms)
    await storage.open(lambda line: None)
    started = time.monotonic()
    await storage.roll_up()
    seconds = time.monotonic() - started
    rolled, rows, worked = storage.counters.rollup_samples, storage.counters.rollup_rows, storage.counters.rollup_seconds
    await storage.close()
    if rolled:
        print(f"rolled {rolled / 1e6:.1f} M samples up to {rows / 1e6:.2f} M rows in {seconds:.1f} s, {worked:.1f} s of them working")


async def ask(options: argparse.Namespace, folder: Path, now_ms: int, question: Question) -> None:
    storage = open_storage(options.store, folder, now_ms)
    await storage.open(lambda line: None)
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(max_samples=200_000_000), pool)
        end_ms = floor_ms(now_ms, question.step_ms) - question.shift_ms
        count = int((question.days or options.days) * DAY_MS) // question.step_ms - 2
        grid = StepGrid(start_ms=end_ms - (count - 1) * question.step_ms, step_ms=question.step_ms, count=count)

        async def evaluate() -> QueryResult:
            return await engine.range(storage, question.query, grid, resolution_ms=question.resolution_ms)

        times = []
        for _ in range(options.times + 1):
            started = time.monotonic()
            result = await evaluate()
            times.append((time.monotonic() - started) * 1000)
        refreshed = [await refresh(storage, engine, pool, question, grid, result) for _ in range(options.times)]
        engine.close()
    await storage.close()
    source = next((name for name in RESOLUTIONS_MS if any(f"the {name} rollup" in info for info in result.infos)), "samples")
    print(
        f"{question.name:26} {count} steps from {source:8} {result.stats.total_samples / 1e6:7.2f} M read"
        f"   cold {times[0]:7.0f} ms   warm {median(times[1:]):7.0f} ms"
        f"   refreshed {median(refreshed):7.1f} ms"
    )


async def refresh(
    storage: Storage, engine: Engine, pool: ThreadPoolExecutor, question: Question, grid: StepGrid, whole: QueryResult
) -> float:
    """Milliseconds for a query through a result cache that has its answer of one step before. Raise RuntimeError when it is another one."""

    async def nothing() -> None:
        pass

    ranges = CachedRanges(
        engine,
        EngineOptions(),
        ResultCache(1 << 28),
        ChangeLog(),
        pool,
        oldest_ms=lambda: storage.oldest_ms,
        history=StoreHistory(),
        flushes=storage.flushes,
        choose_tiers=storage.choose_tiers,
        view=lambda: storage.view,
        hurry=nothing,
        now_ms=wall_clock_ms,
    )
    before = replace(grid, start_ms=grid.start_ms - grid.step_ms)
    await ranges.range(storage, question.query, before, resolution_ms=question.resolution_ms)
    started = time.monotonic()
    result = await ranges.range(storage, question.query, grid, resolution_ms=question.resolution_ms)
    seconds = time.monotonic() - started
    if encode_value(result.value) != encode_value(whole.value) or result.infos != whole.infos:
        raise RuntimeError(f"{question.name}: another answer from the cache")
    return seconds * 1000


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.long_range", description="Queries over a month, answered from rollups.")
    add: Callable[..., object] = parser.add_argument
    add("--store", default="", help="postgresql://… (default: a DuckDB file in a temporary folder)")
    add("--series", type=int, default=1000)
    add("--days", type=int, default=30)
    add("--times", type=int, default=5, help="how often each query is asked when warm")
    add("--folder", type=Path, help="data folder (default: a temporary one)")
    add("--now-ms", type=int, default=0, help="when the samples end, in Unix milliseconds (default: now)")
    add("--keep", action="store_true", help="keep what was loaded, and use what is there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
