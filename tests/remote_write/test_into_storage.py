"""Remote write into the real storage: what was acknowledged is found, before and after a restart."""

import re
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import numpy as np

from promlike.model.blocks import STALE_BITS
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.remote_write.receiver import RemoteWriteReceiver
from promlike.storage.access import Metadata, SelectRequest
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.options import HOUR_MS
from promlike.storage.storage import Storage, StorageOptions
from tests.remote_write import wire

NOW = time.time_ns() // 1_000_000

Found = dict[Labels, list[tuple[int, int]]]
"""Time and bits of the value of each sample, by series."""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Storage]:
    storage = Storage(StorageOptions(data_dir=folder), DuckDBStore(folder / "samples.duckdb", threads=1, readers=1))
    await storage.open(lambda _: None)
    try:
        yield storage
    finally:
        await storage.close()


async def everything(storage: Storage) -> Found:
    request = SelectRequest(matchers=(Matcher("__name__", MatchOp.NOT_EQUAL, ""),), start_ms=0, end_ms=NOW + 10**7)
    block = (await storage.select([request], max_samples=10**6)).blocks[0]
    samples = block.samples.whole()
    bits = samples.values.view(np.uint64).tolist()
    times, offsets = samples.ts_ms.tolist(), samples.offsets.tolist()
    return {
        labels: list(zip(times[start:end], bits[start:end], strict=True))
        for labels, start, end in zip(block.labels.all_labels(), offsets, offsets[1:], strict=False)
    }


def bits_of(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


async def test_a_sender_never_writes_into_the_series_that_got_a_ref(tmp_path: Path) -> None:
    """Label bytes that are known stand for a ref until they are swept; then they come as those of a new series."""
    clock = [NOW - 4 * HOUR_MS]
    options = StorageOptions(data_dir=tmp_path, retention_ms=HOUR_MS, tier_retention_ms={300_000: HOUR_MS, HOUR_MS: HOUR_MS})
    storage = Storage(options, DuckDBStore(tmp_path / "samples.duckdb", threads=1, readers=1), now_ms=lambda: clock[0])
    await storage.open(lambda _: None)
    storage._retention._reclaimer.least_series = 1
    receiver = RemoteWriteReceiver(storage)

    async def pass_hours() -> int:
        await storage.flush()
        clock[0] += 2 * HOUR_MS
        for _ in range(2):
            await storage.enforce_retention()
        return storage.counters.series_forgotten

    for number in range(3):
        await receiver.write(wire.snappy(wire.simple("up", [(1.0, clock[0])], job=f"old{number}")))
    assert await pass_hours() == 0
    for table in receiver.tables:
        table.sweep()
        table.sweep()
    assert await pass_hours() == 3
    jobs = [f"new{number}" for number in range(3)] + [f"old{number}" for number in range(3)]
    for value, job in enumerate(jobs):
        await receiver.write(wire.snappy(wire.simple("up", [(float(value), NOW)], job=job)))
    assert storage._index.count == 6
    assert await everything(storage) == {(("__name__", "up"), ("job", job)): [(NOW, bits_of(value))] for value, job in enumerate(jobs)}
    await storage.close()


async def test_acknowledged_samples_are_found_before_and_after_a_restart(tmp_path: Path) -> None:
    first = wire.simple("up", [(1.0, NOW - 2000), (0.0, NOW - 1000)], job="api") + wire.simple("up", [(-0.0, NOW)], job="web")
    stale = wire.message(2, wire.value_field(struct.pack("<Q", int(STALE_BITS))) + wire.time_field(NOW))
    second = wire.series(wire.labels(("__name__", "up"), ("job", "api"), ("zone", "")), stale)  # other bytes, the same series
    expected: Found = {
        (("__name__", "up"), ("job", "api")): [(NOW - 2000, bits_of(1.0)), (NOW - 1000, 0), (NOW, int(STALE_BITS))],
        (("__name__", "up"), ("job", "web")): [(NOW, bits_of(-0.0))],
    }
    async with opened(tmp_path) as storage:
        receiver = RemoteWriteReceiver(storage)
        for body in (first, second, first):
            assert (await receiver.write(wire.snappy(body))).status is HTTPStatus.NO_CONTENT
        assert await everything(storage) == expected
        assert storage.gauges.head_series == 2
    async with opened(tmp_path) as storage:
        assert await everything(storage) == expected
        again = RemoteWriteReceiver(storage)
        assert (await again.write(wire.snappy(wire.simple("up", [(5.0, NOW + 1)], job="web")))).status is HTTPStatus.NO_CONTENT
        assert (await everything(storage))[(("__name__", "up"), ("job", "web"))] == [(NOW, bits_of(-0.0)), (NOW + 1, bits_of(5.0))]


async def test_the_last_of_two_values_at_one_time_in_one_body_is_kept(tmp_path: Path) -> None:
    plain = wire.simple("m", [(1.0, NOW)], a="b")
    odd = wire.series(wire.sample(2.0, NOW), wire.labels(("__name__", "m"), ("a", "b")))
    async with opened(tmp_path) as storage:
        receiver = RemoteWriteReceiver(storage)
        for body, value in ((plain + odd, 2.0), (odd + plain, 1.0)):
            assert (await receiver.write(wire.snappy(body))).status is HTTPStatus.NO_CONTENT
            assert list((await everything(storage)).values()) == [[(NOW, bits_of(value))]]


async def test_times_out_of_bounds_are_refused_beside_good_ones(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        outcome = await RemoteWriteReceiver(storage).write(wire.snappy(wire.simple("m", [(1.0, 0), (2.0, NOW), (3.0, NOW + 10**10)])))
        assert outcome.status is HTTPStatus.BAD_REQUEST
        assert re.fullmatch(
            r'2 of 3 samples have times that storage does not take; the first: \{__name__="m"\} at 1970-01-01T00:00:00\.000\+00:00: '
            r"before [-\dT:.+]+, where retention ends",
            outcome.text,
        )
        assert list((await everything(storage)).values()) == [[(NOW, bits_of(2.0))]]


async def test_metadata_reaches_storage(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        body = wire.message(3, b"\x08\x01" + wire.message(2, b"requests_total") + wire.message(4, b"How many."))
        assert (await RemoteWriteReceiver(storage).write(wire.snappy(body))).status is HTTPStatus.NO_CONTENT
        assert storage.metadata() == {"requests_total": Metadata(metric="requests_total", type="counter", help="How many.")}


async def test_a_storage_that_is_not_open_asks_to_try_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        receiver = RemoteWriteReceiver(storage)
    for _ in range(2):
        assert (await receiver.write(wire.snappy(wire.simple("m", [(1.0, NOW)])))).status is HTTPStatus.SERVICE_UNAVAILABLE
