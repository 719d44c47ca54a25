"""What storage does while its store is away: bounded, told, and whole again afterwards."""

import logging

import pytest

from promlike.errors import StorageUnavailable
from promlike.storage.store import FlushBatch
from tests.storage.conftest import NOW_MS, Benches, answer
from tests.storage.test_recovery import Delegate


class Away(Delegate):
    """A store that takes nothing while the class says so."""

    is_away = True

    async def write(self, batch: FlushBatch) -> None:
        if Away.is_away:
            raise StorageUnavailable("gone fishing")
        await super().write(batch)


@pytest.fixture(autouse=True)
def away() -> None:
    Away.is_away = True


async def test_a_full_wal_refuses_samples_until_the_store_has_taken_them(benches: Benches, caplog: pytest.LogCaptureFixture) -> None:
    bench = await benches(wrap=Away, wal_max_bytes=50_000)
    truth: dict[int, float] = {}
    caplog.set_level(logging.INFO)

    async def fill() -> int:
        for k in range(10_000):
            ts = NOW_MS - 100_000 + len(truth)
            try:
                await bench.append([("a", ts, float(k))])
            except StorageUnavailable:
                return k
            truth[ts] = float(k)
        raise AssertionError("nothing was refused")

    assert await fill() > 500
    assert bench.storage.wal_disk_bytes <= 50_100
    with pytest.raises(StorageUnavailable, match=r"--storage\.wal-max-size"):
        await bench.append([("a", NOW_MS, 1.0)])
    assert bench.storage.counters.samples_refused == 2
    with pytest.raises(StorageUnavailable, match="gone fishing"):
        await bench.storage.flush()
    assert await fill() == 0
    assert await bench.select() == answer({"a": truth})
    Away.is_away = False
    await bench.storage.flush()
    assert bench.storage.wal_disk_bytes < 50_000 // 4
    Away.is_away = True
    assert await fill() > 500
    assert await bench.select() == answer({"a": truth})
    said = [record.getMessage() for record in caplog.records if "samples are" in record.getMessage()]
    assert [line.partition(":")[0] for line in said] == ["samples are refused", "samples are taken again", "samples are refused"]
    Away.is_away = False
    await bench.reopen()
    assert await bench.select() == answer({"a": truth})


async def test_a_wal_that_fills_asks_for_a_flush(benches: Benches) -> None:
    bench = await benches(wal_max_bytes=50_000)
    for k in range(2000):
        await bench.append([("a", NOW_MS - 3000 + k, 1.0)])
        if bench.storage._ingest.pressure.is_set():
            await bench.storage.flush()
    assert bench.storage.counters.flushes >= 1
    assert bench.storage.counters.samples_refused == 0
    assert bench.storage.wal_disk_bytes < 50_000
