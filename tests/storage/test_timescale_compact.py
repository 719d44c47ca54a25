"""Small batches of many flushes become full ones once their day is over, and nothing changes for readers."""

from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.storage.timescale import write
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.store_suite import START_MS, batch, read, records

BATCHES = """
SELECT format('%I.%I', compressed.schema_name, compressed.table_name)
FROM _timescaledb_catalog.chunk JOIN _timescaledb_catalog.chunk AS compressed ON compressed.id = chunk.compressed_chunk_id
JOIN _timescaledb_catalog.hypertable ON hypertable.id = chunk.hypertable_id WHERE hypertable.table_name = 'samples'
"""


async def batches(database: str) -> int:
    connection = await asyncpg.connect(database)
    counts = [await connection.fetchval(f"SELECT count(*) FROM {row[0]}") for row in await connection.fetch(BATCHES)]
    await connection.close()
    return sum(counts)


@pytest.fixture
def samples() -> dict[int, list[tuple[int, float]]]:
    return {ref: [(START_MS + k * 1000, float(ref + k)) for k in range(60)] for ref in range(10)}


async def test_batches_are_put_together_and_late_samples_still_find_their_place(
    database: str, tmp_path: Path, samples: dict[int, list[tuple[int, float]]]
) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    for flush in range(6):
        part = {ref: rows[flush * 10 : flush * 10 + 10] for ref, rows in samples.items()}
        await store.write(batch(part, series=records(*map(str, range(10))) if not flush else (), position=(1, 8 + flush)))
    assert await batches(database) == 60
    await store.maintain()
    assert await batches(database) == 10
    assert await read(store, range(10)) == list(samples.values())
    async with store._database.connection("look") as connection:
        assert await connection.fetchval("SELECT bool_and(compacted = samples) FROM sample_days")
    await store.write(batch(late={0: [(START_MS + 500, 7.0)], 1: [(START_MS, -1.0)]}, position=(1, 99)))
    assert (await read(store, [1]))[0][:2] == [(START_MS, -1.0), (START_MS + 1000, 2.0)]
    assert (await read(store, [0]))[0][:2] == [(START_MS, 0.0), (START_MS + 500, 7.0)]
    await store.close()


async def test_late_samples_leave_compressed_what_is_not_theirs(
    database: str, tmp_path: Path, samples: dict[int, list[tuple[int, float]]]
) -> None:
    """To decompress a day of all series for a late sample of one takes longer than a statement may, and no flush would ever succeed."""
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    await store.write(batch(samples, series=records(*map(str, range(10)))))
    await store.write(batch(late={0: [(START_MS + 500, 7.0)], 1: samples[1][:3]}, position=(1, 16)))
    assert await uncompressed(database) == 1
    await store.write(batch(late={2: [(START_MS, -1.0)]}, position=(1, 24)))
    assert await uncompressed(database) == 1 + len(samples[2])
    assert (await store.stats()).samples == 601
    await store.close()


async def uncompressed(database: str) -> int:
    """Rows in row stores."""
    connection = await asyncpg.connect(database)
    rows = await connection.fetch("SELECT chunk FROM show_chunks('promlike.samples') AS chunk")
    counts = [await connection.fetchval(f"SELECT count(*) FROM ONLY {row[0]}") for row in rows]
    await connection.close()
    return sum(counts)


@pytest.mark.parametrize(("at_once", "series_at_once"), [(7, 100), (1000, 3)])
async def test_many_late_samples_go_by_portions(
    database: str,
    tmp_path: Path,
    samples: dict[int, list[tuple[int, float]]],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    series_at_once: int,
) -> None:
    """Each a statement of its own, so that none of them takes longer than it may."""
    monkeypatch.setattr(write, "LATE_AT_ONCE", at_once)
    monkeypatch.setattr(write, "LATE_SERIES_AT_ONCE", series_at_once)
    monkeypatch.setattr(write, "REPLACED_AT_ONCE", 1)
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    day_ms = 86_400_000
    rows = {ref: row + [(ts + day_ms, value) for ts, value in row] for ref, row in samples.items()}
    await store.write(batch(rows, series=records(*map(str, range(10)))))
    sizes = [len(part) for part in write.late_portions(np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10))]
    assert sizes == ([7] * 7 + [1] if at_once == 7 else [15, 15, 15, 5])
    late = {ref: [(ts + ref % 3, value + ref % 2) for ts, value in row[::2]] for ref, row in rows.items()}
    await store.write(batch(late=late, position=(1, 16)))
    expected = [sorted((dict(row) | dict(late[ref])).items()) for ref, row in rows.items()]
    assert await read(store, range(10)) == expected
    assert (await store.stats()).samples == sum(map(len, expected))
    await store.close()
