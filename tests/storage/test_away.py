"""What storage does while its store is away: bounded, told, and whole again afterwards."""

import asyncio
import logging

import pytest

from promlike.errors import StorageConflict, StorageUnavailable, StoreAway
from promlike.model.blocks import Int32, SampleBlock
from promlike.storage.access import SelectRequest
from promlike.storage.store import FlushBatch
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches, answer
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
    assert bench.storage.gauges.wal_disk_bytes <= 50_100
    with pytest.raises(StorageUnavailable, match=r"--storage\.wal-max-size"):
        await bench.append([("a", NOW_MS, 1.0)])
    assert bench.storage.counters.samples_refused == 2
    with pytest.raises(StorageUnavailable, match="gone fishing"):
        await bench.storage.flush()
    assert await fill() == 0
    assert await bench.select() == answer({"a": truth})
    Away.is_away = False
    await bench.storage.flush()
    assert bench.storage.gauges.wal_disk_bytes < 50_000 // 4
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
    assert bench.storage.gauges.wal_disk_bytes < 50_000


class Contended(Delegate):
    """A store where others are in the way of so many writes, each after it has taken the samples."""

    conflicts = 0

    async def write(self, batch: FlushBatch) -> None:
        if Contended.conflicts:
            Contended.conflicts -= 1
            assert sum(len(chunk.samples.ts_ms) for chunk in batch.chunks) == 2
            raise StorageConflict("another transaction was there first")
        await super().write(batch)


async def test_a_flush_that_was_in_the_way_of_others_is_tried_again_at_once(benches: Benches) -> None:
    bench = await benches(wrap=Contended)
    await bench.append([("a", NOW_MS - 1, 1.0), ("b", NOW_MS, 2.0)])
    Contended.conflicts = 10
    with pytest.raises(StorageConflict):
        await bench.storage.flush()
    assert (Contended.conflicts, bench.storage.gauges.unflushed_samples) == (6, 2)
    Contended.conflicts = 3
    await bench.storage.flush()
    assert bench.storage.gauges.unflushed_samples == 0
    assert (bench.storage.counters.flushes, bench.storage.counters.flush_samples) == (1, 2)
    await bench.reopen()
    assert await bench.select() == answer({"a": {NOW_MS - 1: 1.0}, "b": {NOW_MS: 2.0}})


class Hanging(Delegate):
    """A store whose reads take as long as the class says, and which answers a ping unless it is away."""

    go_on = asyncio.Event()
    is_away = False
    reads = 0

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        Hanging.reads += 1
        await Hanging.go_on.wait()
        return await self.store.read(refs, start_ms, end_ms)

    async def ping(self) -> None:
        if Hanging.is_away:
            raise StoreAway("no answer")


async def old_and_recent(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A storage with two samples, of which the older one is in the store alone."""
    monkeypatch.setattr("promlike.storage.patience.DOUBT_S", 0.02)
    monkeypatch.setattr("promlike.storage.patience.RETRY_S", 0.05)
    Hanging.go_on, Hanging.is_away, Hanging.reads = asyncio.Event(), False, 0
    bench = await benches(wrap=Hanging)
    await bench.append([("a", NOW_MS - 1000, 1.0)])
    await bench.reopen()
    await bench.append([("a", NOW_MS, 2.0)])
    return bench


async def test_a_store_that_is_slow_is_waited_for(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await old_and_recent(benches, monkeypatch)
    asyncio.get_running_loop().call_later(0.2, Hanging.go_on.set)
    assert await bench.select() == answer({"a": {NOW_MS - 1000: 1.0, NOW_MS: 2.0}})


async def test_a_store_that_does_not_answer_costs_what_only_it_has(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await old_and_recent(benches, monkeypatch)
    Hanging.is_away = True
    request = SelectRequest(matchers=EVERYTHING, start_ms=0, end_ms=NOW_MS)
    for _ in range(20):
        selection = await bench.storage.select([request], max_samples=100)
        assert selection.blocks[0].samples.whole().values.tolist() == [2.0]
        assert selection.warnings == (
            "the store is away, samples from 2023-11-14T22:13:19.000Z to 2023-11-14T22:13:19.000Z are missing: no answer",
        )
    assert Hanging.reads == 1  # the others did not wait
    assert bench.storage.counters.partial_selections == 20
    recent = SelectRequest(matchers=EVERYTHING, start_ms=NOW_MS - 1, end_ms=NOW_MS)
    assert not (await bench.storage.select([recent], max_samples=100)).warnings
    Hanging.is_away = False
    Hanging.go_on.set()
    await asyncio.sleep(0.06)
    assert await bench.select() == answer({"a": {NOW_MS - 1000: 1.0, NOW_MS: 2.0}})


async def test_other_failures_of_a_store_are_errors(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await old_and_recent(benches, monkeypatch)
    Hanging.go_on.set()

    async def fail(refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        raise StorageUnavailable("out of memory")

    monkeypatch.setattr(bench.storage._querier._store, "read", fail)
    with pytest.raises(StorageUnavailable, match="out of memory"):
        await bench.select()
