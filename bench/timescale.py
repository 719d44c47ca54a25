"""The store on PostgreSQL alone: writing flushes, compressing them as a whole, reading back, and one series out of a month.

    python -m bench.timescale postgresql://user@host/database [--series 10000] [--hours 2] [--month-series 1000] [--days 30]

The schema `promlike_bench` is made and dropped. The samples are those of the fleet (`fleet.py`), at times of the past days.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np

from bench.fleet import STEP_SECONDS, Fleet, make_fleet
from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.storage.store import FlushBatch, SampleChunk, SeriesRecord, WalPosition
from promlike.storage.timescale.store import TimescaleStore

SCHEMA = "promlike_bench"
STEP_MS = STEP_SECONDS * 1000
FLUSH_STEPS = 40
DAY_MS = 86_400_000
CHUNK_SAMPLES = 250_000


class Bench:
    """A store in a schema of its own, and how far its imagined WAL got."""

    def __init__(self, store: TimescaleStore) -> None:
        self.store = store
        self._offset = 8

    async def write(self, fleet: Fleet, first_ref: int, ts_ms: Int64, steps: slice, *, announce: bool) -> float:
        """Seconds for a flush of some steps of all series, at `ts_ms int64[T]` and each series' phase."""
        self._offset += 8
        refs = np.arange(len(fleet.labels), dtype=np.int32) + np.int32(first_ref)
        batch = FlushBatch(
            new_series=[SeriesRecord(ref=int(ref), labels=series) for ref, series in zip(refs, fleet.labels, strict=True)]
            if announce
            else [],
            chunks=_chunks(fleet, refs, ts_ms, steps),
            late_refs=np.empty(0, np.int32),
            late_ts_ms=np.empty(0, np.int64),
            late_values=np.empty(0),
            position=WalPosition(segment=1, offset=self._offset),
        )
        started = time.perf_counter()
        await self.store.write(batch)
        return time.perf_counter() - started

    async def bytes_a_sample(self) -> float:
        stats = await self.store.stats()
        return stats.bytes / max(stats.samples, 1)

    async def seconds(self, refs: Int32, start_ms: int, end_ms: int, times: int = 7) -> tuple[float, int]:
        """Median seconds of a read, and how many samples it gave."""
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            block = await self.store.read(refs, start_ms, end_ms)
            taken.append(time.perf_counter() - started)
        return sorted(taken)[len(taken) // 2], len(block.ts_ms)


def _chunks(fleet: Fleet, refs: Int32, ts_ms: Int64, steps: slice) -> list[SampleChunk]:
    rows = max(CHUNK_SAMPLES // len(ts_ms), 1)
    made = []
    for low in range(0, len(refs), rows):
        part = slice(low, low + rows)
        times = (ts_ms[None, :] + fleet.phase_ms[part, None]).reshape(-1)
        offsets = np.arange(len(refs[part]) + 1, dtype=np.int64) * len(ts_ms)
        samples = SampleBlock(ts_ms=times, values=np.ascontiguousarray(fleet.values[part, steps]).reshape(-1), offsets=offsets)
        made.append(SampleChunk(refs=refs[part], samples=samples))
    return made


async def flushes(bench: Bench, series: int, hours: int, start_ms: int) -> None:
    """Write flushes of ten minutes, then compress the day as a whole; what is read back is compared at the end."""
    fleet = make_fleet(series=series, steps=hours * 240, end_ms=start_ms + hours * 3_600_000)
    ts_ms = start_ms + np.arange(hours * 240, dtype=np.int64) * STEP_MS
    spent = []
    for low in range(0, len(ts_ms), FLUSH_STEPS):
        steps = slice(low, low + FLUSH_STEPS)
        spent.append(await bench.write(fleet, 0, ts_ms[steps], steps, announce=not low))
    rate = FLUSH_STEPS * series / (sum(spent[1:]) / (len(spent) - 1))
    print(f"flushes of {FLUSH_STEPS * series:,} samples: {rate / 1e6:.2f} M samples/s, {await bench.bytes_a_sample():.2f} bytes a sample")
    started = time.perf_counter()
    await bench.store.maintain()
    print(f"compressed as a whole in {time.perf_counter() - started:.1f} s: {await bench.bytes_a_sample():.2f} bytes a sample")
    found = await bench.store.read(np.arange(series, dtype=np.int32), start_ms - 1, start_ms + hours * 3_600_000 + STEP_MS)
    assert np.array_equal(found.values.view(np.int64), fleet.values.reshape(-1).view(np.int64))
    assert np.array_equal(found.ts_ms, (ts_ms[None, :] + fleet.phase_ms[:, None]).reshape(-1))
    print("read back equal")
    for count in (1, 100, min(1000, series), series):
        seconds, got = await bench.seconds(np.arange(count, dtype=np.int32), start_ms, start_ms + 7_200_000)
        print(f"two hours of {count} series: {seconds * 1000:.1f} ms, {got / seconds / 1e6:.2f} M samples/s")


async def month(bench: Bench, series: int, days: int, start_ms: int) -> None:
    """Load days, all with the same values, straight into the store; then read one series."""
    fleet = make_fleet(series=series, steps=DAY_MS // STEP_MS, end_ms=start_ms, seed=2)
    first_ref, started = 1 << 20, time.perf_counter()
    for day in range(days):
        ts_ms = start_ms + day * DAY_MS + np.arange(DAY_MS // STEP_MS, dtype=np.int64) * STEP_MS
        await bench.write(fleet, first_ref, ts_ms, slice(None), announce=not day)
    rate = days * fleet.samples / (time.perf_counter() - started)
    print(f"{days} days of {series} series: {rate / 1e6:.2f} M samples/s, {await bench.bytes_a_sample():.2f} bytes a sample in all")
    end_ms = start_ms + days * DAY_MS
    for name, hours in (("last hour", 1), ("last day", 24), (f"{days} days", 24 * days)):
        seconds, got = await bench.seconds(np.array([first_ref + 7], np.int32), end_ms - hours * 3_600_000 - 1, end_ms)
        print(f"{name} of one series: {seconds * 1000:.1f} ms, {got} samples")
    seconds, got = await bench.seconds(np.arange(series, dtype=np.int32) + np.int32(first_ref), end_ms - DAY_MS, end_ms, times=3)
    print(f"last day of {series} series: {seconds * 1000:.0f} ms, {got / seconds / 1e6:.2f} M samples/s")


async def run(arguments: argparse.Namespace) -> None:
    connection = await asyncpg.connect(arguments.url)
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = TimescaleStore(arguments.url, folder=Path(folder), schema=SCHEMA)
            await store.open()
            today = int(time.time() * 1000) // DAY_MS * DAY_MS
            await flushes(Bench(store), arguments.series, arguments.hours, today - 2 * DAY_MS)
            await store.close()
        # Anew: the fleet has the same series, and what is older than another writer's samples of a series is written as late ones are.
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        with tempfile.TemporaryDirectory() as folder:
            store = TimescaleStore(arguments.url, folder=Path(folder), schema=SCHEMA)
            await store.open()
            if arguments.days:
                await month(Bench(store), arguments.month_series, arguments.days, today - (arguments.days + 3) * DAY_MS)
            await store.close()
    finally:
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.timescale", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=2)
    parser.add_argument("--month-series", type=int, default=1000)
    parser.add_argument("--days", type=int, default=30)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
