"""Large appends and many new series beside everything else on the event loop; the log after a clean stop."""

import asyncio
import shutil

import numpy as np

from promlike.model.labels import labels
from promlike.storage.ingest import SAMPLES_AT_ONCE, SERIES_AT_ONCE
from tests.storage.conftest import NOW_MS, Benches, answer


async def test_long_columns_are_taken_in_parts_and_counted_as_one(benches: Benches) -> None:
    bench = await benches()
    n = 2 * SAMPLES_AT_ONCE + 7
    refs = np.full(n, bench.ref("a"), np.int32)
    ts_ms = NOW_MS - n + np.arange(n, dtype=np.int64)
    ts_ms[-3:] = [NOW_MS - n, NOW_MS - n + 1, NOW_MS + 10**9]
    values = np.arange(n, dtype=np.float64)
    values[-3] = 0.0
    fsyncs = bench.storage.wal_fsyncs
    result = await bench.storage.append(refs, ts_ms, values)
    assert (result.appended, result.duplicates, result.overwritten, result.rejected) == (n - 3, 1, 1, 1)
    assert bench.storage.wal_fsyncs - fsyncs == 3
    (rows,) = (await bench.select()).values()
    assert len(rows) == n - 3


async def test_many_new_series_go_to_the_log_before_their_first_samples(benches: Benches) -> None:
    bench = await benches()
    count = 3 * SERIES_AT_ONCE + 5
    refs = [bench.storage.series_ref(labels({"__name__": "up", "instance": str(k)})) for k in range(count)]
    await asyncio.sleep(0.05)
    assert bench.storage.wal_bytes_written > 0
    await bench.storage.append(np.array(refs, np.int32), np.full(count, NOW_MS, np.int64), np.arange(count, dtype=np.float64))
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert await crashed.select() == await bench.select()
    assert crashed.storage.head_series == count


async def test_a_clean_stop_leaves_no_log(benches: Benches) -> None:
    bench = await benches()
    wanted: dict[str, dict[int, float]] = {"a": {}}
    for life in range(3):
        await bench.append([("a", NOW_MS + life, float(life))])
        wanted["a"][NOW_MS + life] = float(life)
        crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name(f"crashed{life}")))
        assert await crashed.select() == answer(wanted)
        await bench.storage.close()
        assert list((bench.folder / "wal").iterdir()) == []
        await bench.start(bench.folder)
        assert await bench.select() == answer(wanted)
