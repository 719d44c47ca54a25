"""Large appends and many new series beside everything else on the event loop; the log after a clean stop."""

import asyncio
import shutil

import numpy as np
import pytest

from promlike.errors import RejectReason, StorageError
from promlike.model.labels import labels
from promlike.storage.ingest import SAMPLES_AT_ONCE, SERIES_AT_ONCE
from promlike.storage.options import HOUR_MS
from tests.storage.conftest import NOW_MS, Benches, answer


async def test_long_columns_are_taken_in_parts_and_counted_as_one(benches: Benches) -> None:
    bench = await benches()
    n = 2 * SAMPLES_AT_ONCE + 7
    refs = np.full(n, bench.ref("a"), np.int32)
    ts_ms = NOW_MS - n + np.arange(n, dtype=np.int64)
    ts_ms[-3:] = [NOW_MS - n, NOW_MS - n + 1, NOW_MS + 10**9]
    values = np.arange(n, dtype=np.float64)
    values[-3] = 0.0
    fsyncs = bench.storage.gauges.wal_fsyncs
    result = await bench.storage.append(refs, ts_ms, values)
    assert (result.appended, result.duplicates, result.overwritten, result.rejected) == (n - 3, 1, 1, 1)
    assert bench.storage.gauges.wal_fsyncs - fsyncs == 3
    (rows,) = (await bench.select()).values()
    assert len(rows) == n - 3


async def test_many_new_series_go_to_the_log_before_their_first_samples(benches: Benches) -> None:
    bench = await benches()
    count = 3 * SERIES_AT_ONCE + 5
    refs = [bench.storage.series_ref(labels({"__name__": "up", "instance": str(k)})) for k in range(count)]
    await asyncio.sleep(0.05)
    assert bench.storage.gauges.wal_bytes_written > 0
    await bench.storage.append(np.array(refs, np.int32), np.full(count, NOW_MS, np.int64), np.arange(count, dtype=np.float64))
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert await crashed.select() == await bench.select()
    assert crashed.storage.gauges.head_series == count


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


async def test_a_folder_that_cannot_be_used_is_named(benches: Benches) -> None:
    bench = await benches()
    await bench.storage.close()
    (bench.folder / "wal").rmdir()
    (bench.folder / "wal").write_text("in the way")
    with pytest.raises(StorageError, match=r"storage cannot be opened: .*wal"):
        await bench.start(bench.folder)
    await bench.storage.close()
    (bench.folder / "wal").unlink()
    await bench.start(bench.folder)


async def test_what_is_refused_for_its_time_is_counted_by_reason(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS, future_limit_ms=60_000)
    times = [-(2**63), -1, 0, NOW_MS - HOUR_MS - 1, NOW_MS - HOUR_MS, NOW_MS + 60_000, NOW_MS + 60_001, 2**63 - 1]
    result = await bench.append([("a", ts, 1.0) for ts in times])
    assert (result.appended, result.rejected) == (2, 6)
    assert f"{-(2**63)} ms: before 2023-11-14T21:13:20.000+00:00, where retention ends" in result.refusal
    assert bench.storage.counters.samples_rejected == {RejectReason.TOO_OLD: 4, RejectReason.TOO_FAR_IN_FUTURE: 2}
    assert await bench.select() == answer({"a": {NOW_MS - HOUR_MS: 1.0, NOW_MS + 60_000: 1.0}})


async def test_any_time_is_kept_when_nothing_limits_it(benches: Benches) -> None:
    bench = await benches(retention_ms=0, future_limit_ms=0)
    times = [0, -1, -(2**62), 2**62, 5, 1]
    assert (await bench.append([("a", ts, float(k)) for k, ts in enumerate(times)])).appended == 6
    wanted = answer({"a": {ts: float(k) for k, ts in enumerate(times)}})
    assert await bench.select(start_ms=-(2**62) - 1, end_ms=2**62) == wanted
    await bench.reopen()
    assert await bench.select(start_ms=-(2**62) - 1, end_ms=2**62) == wanted
