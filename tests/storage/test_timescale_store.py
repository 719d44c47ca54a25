"""The shared suite on TimescaleDB, and what is TimescaleDB's own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.errors import StorageUnavailable
from promlike.model.labels import labels
from promlike.storage.access import Metadata
from promlike.storage.store import DAY_MS, SeriesRecord
from promlike.storage.timescale import delete, series, writers
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.store_suite import START_MS, Stores, StoreSuite, batch, deletion, loaded, read, records, stores_of


@pytest.fixture
async def stores(database: str, tmp_path: Path) -> AsyncIterator[Stores]:
    async with stores_of(lambda: TimescaleStore(database, folder=tmp_path)) as opening:
        yield opening


class TestTimescaleStore(StoreSuite):
    """Everything a Store must do."""


async def test_samples_are_compressed_while_they_are_copied(stores: Stores, database: str) -> None:
    store = await stores()
    rows = {ref: [(START_MS + k * 15_000, float(k)) for k in range(400)] for ref in range(200)}
    await store.write(batch(rows, series=records(*map(str, range(200)))))
    connection = await asyncpg.connect(database)
    batches = await connection.fetchval(
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'samples' AND is_compressed"
    )
    await connection.close()
    assert batches >= 1
    assert (await store.stats()).bytes < 80_000 * 10


async def test_times_of_many_series_are_widened_in_parts(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement for all series at once could take longer than statements may."""
    monkeypatch.setattr(series, "TIMES_AT_ONCE", 2)
    store = await stores()
    await store.write(batch({ref: [(START_MS + ref, 1.0)] for ref in range(5)}, series=records(*"abcde")))
    late = {ref: [(START_MS - ref, 1.0)] for ref in range(1, 5)}
    await store.write(batch({ref: [(START_MS + 100 + ref, 1.0)] for ref in range(5)}, late=late, position=(1, 16)))
    times = [(START_MS - ref, START_MS + 100 + ref) for ref in range(5)]
    assert [(each.min_time_ms, each.max_time_ms) for each in await loaded(store)] == times


async def test_samples_of_many_series_are_deleted_in_parts(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """To delete a month of everything in one statement takes longer than statements may, and no flush would come after it."""
    monkeypatch.setattr(delete, "DELETED_AT_ONCE", 8)
    store = await stores()
    rows = {ref: [(START_MS + k, float(k)) for k in range(4)] for ref in range(5)}
    await store.write(batch(rows, series=records(*"abcde")))
    await store.write(batch(deletions=[deletion([0, 1, 2, 4], START_MS, START_MS + 2)], position=(1, 16)))
    left = [(START_MS, 0.0), (START_MS + 3, 3.0)]
    assert await read(store, range(5)) == [left, left, left, rows[3], left]
    assert (await store.stats()).samples == 12


async def test_people_can_query_samples_by_labels(stores: Stores, database: str) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    connection = await asyncpg.connect(database)
    row = await connection.fetchrow("SELECT time, metric, labels->>'instance' AS instance, value FROM promlike.labelled_samples")
    await connection.close()
    assert tuple(row) == (datetime.fromtimestamp(START_MS / 1000, UTC), "up", "a", 1.5)


async def test_a_batch_whose_commit_was_not_heard_of_is_not_stored_twice(stores: Stores) -> None:
    store = await stores()
    again = batch({0: [(START_MS, 1.0)]}, series=records("a"), position=(3, 8))
    await store.write(again)
    await store.write(again)
    assert await read(store, [0]) == [[(START_MS, 1.0)]]


async def test_flushes_and_deletions_of_other_writers_are_told_from_our_own(database: str, tmp_path: Path) -> None:
    stores = [TimescaleStore(database, folder=tmp_path / name) for name in ("one", "other")]
    for name, store in zip(("one", "other"), stores, strict=True):
        (tmp_path / name).mkdir()
        await store.open()
    one, other = stores
    first = await one.foreign_changes()
    await one.write(batch({0: [(START_MS, 1.0)]}, series=records("a"), position=(1, 1)))
    await one.delete_before(0)
    assert await one.foreign_changes() == first
    await other.write(batch({0: [(START_MS + 1, 1.0)]}, series=records("a"), position=(1, 1)))
    await one.write(batch({0: [(START_MS + 2, 1.0)]}, position=(1, 2)))
    second = await one.foreign_changes()
    assert second > first
    assert await one.foreign_changes() == second
    await other.delete_before(0)
    assert await one.foreign_changes() > second
    for store in stores:
        await store.close()


async def test_characters_that_postgresql_refuses_survive(stores: Stores) -> None:
    store = await stores()
    odd = labels({"__name__": "up", "nul": "a\0b", "escape": "\ufdd0", "both": "\ufdd00\0"})
    help_text = Metadata(metric="up", type="gauge", help="\0 help")
    await store.write(batch(series=[SeriesRecord(ref=0, labels=odd)], metadata=[help_text]))
    assert [record.labels for record in await loaded(store)] == [odd]
    assert await store.load_metadata() == [help_text]


async def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    store = TimescaleStore("postgresql://somebody:secret@127.0.0.1:1/nowhere", folder=tmp_path)
    with pytest.raises(StorageUnavailable) as error:
        await store.open()
    assert "secret" not in str(error.value)


async def test_ids_are_those_of_the_last_flush_that_was_committed(
    plain_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that forgets a series and announces it again gives it another id, which means nothing when it is rolled back."""
    async with stores_of(lambda: TimescaleStore(plain_database, folder=tmp_path)) as opening:
        store = await opening()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
        everything = deletion([0], -(2**62), 2**62)
        again = batch({0: [(START_MS + 1, 2.0)]}, series=records("a"), deletions=[everything], gone=[0], position=(1, 16))

        async def break_off(*_: object) -> None:
            raise StorageUnavailable("the server went away")

        with monkeypatch.context() as patch:
            patch.setattr("promlike.storage.timescale.writers.write_position", break_off)
            with pytest.raises(StorageUnavailable):
                await store.write(again)
        assert await read(store, [0]) == [[(START_MS, 1.0)]]
        await store.write(again)
        assert await read(store, [0]) == [[(START_MS + 1, 2.0)]]
        connection = await asyncpg.connect(plain_database)
        assert await connection.fetchval("SELECT count(*) FROM promlike.samples") == 1
        await connection.close()


@pytest.mark.parametrize(("setting", "used"), [("off", "local"), ("remote_write", "remote_write")])
async def test_a_flush_is_on_disk_when_it_is_committed(
    plain_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, used: str
) -> None:
    connection = await asyncpg.connect(plain_database)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
    await connection.close()
    seen = []
    write_position = writers.write_position

    async def look(connection: Any, *given: Any) -> None:
        seen.append(await connection.fetchval("SHOW synchronous_commit"))
        await write_position(connection, *given)

    monkeypatch.setattr(writers, "write_position", look)
    async with stores_of(lambda: TimescaleStore(plain_database, folder=tmp_path)) as opening:
        await (await opening()).write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
    assert seen == [used]


async def test_late_samples_of_many_days_need_no_more_locks(plain_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table that a transaction has dropped stays locked until it ends, and the server has room for some thousand locks."""
    held = []
    write_position = writers.write_position

    async def look(connection: Any, *given: Any) -> None:
        locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'"
        held.append(await connection.fetchval(locks))
        await write_position(connection, *given)

    monkeypatch.setattr(writers, "write_position", look)
    rows = [(START_MS + day * DAY_MS, 1.0) for day in range(6)]
    async with stores_of(lambda: TimescaleStore(plain_database, folder=tmp_path)) as opening:
        store = await opening()
        await store.write(batch({0: rows}, series=records("a")))
        await store.write(batch(late={0: [(ts, 2.0) for ts, _ in rows[:1]]}, position=(1, 16)))
        await store.write(batch(late={0: [(ts, 3.0) for ts, _ in rows]}, position=(1, 24)))
        assert await read(store, [0]) == [[(ts, 3.0) for ts, _ in rows]]
    assert 0 < held[1] == held[2]
