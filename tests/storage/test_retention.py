"""Retention beside appends."""

import asyncio
import threading

from promlike.storage.options import HOUR_MS
from tests.storage.conftest import NOW_MS, Benches, answer


async def test_a_series_whose_sample_is_on_its_way_through_the_wal_stays(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS)
    await bench.append([("back", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    go_on = threading.Event()
    bench.storage._wal._executor.submit(go_on.wait, 30)
    appending = asyncio.create_task(bench.append([("back", bench.clock[0], 2.0)]))
    await asyncio.sleep(0)
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_removed == 1
    go_on.set()
    assert (await appending).appended == 1
    wanted = answer({"back": {bench.clock[0]: 2.0}})
    assert await bench.select() == wanted
    await bench.reopen()
    assert await bench.select() == wanted
