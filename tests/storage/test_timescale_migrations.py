"""A database is brought to the schema of this promlike, by whoever comes first, once."""

import asyncio
import logging
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.errors import StorageError
from promlike.model.blocks import STALE_NAN
from promlike.model.tiers import RESOLUTIONS_MS
from promlike.storage.options import Timeouts
from promlike.storage.store import SeriesRecord, WalPosition
from promlike.storage.timescale import version7
from promlike.storage.timescale.migrations import MIGRATIONS, Migration, migrate
from promlike.storage.timescale.partitions import make_partitions
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.timescale.times import to_time
from promlike.storage.timescale.version1 import first_tables
from tests.storage.conftest import new_database
from tests.storage.store_suite import FLOOR_MS, START_MS, batch, expected_rows, loaded, read, records, up
from tests.storage.store_suite import rows as stored_rows


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


async def test_stores_that_open_a_new_database_at_once_make_one_schema(database: str, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    stores = [TimescaleStore(database, folder=folder) for folder in folders]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    connection = await asyncpg.connect(database)
    versions = await connection.fetch("SELECT version FROM promlike.schema_version ORDER BY version")
    await connection.close()
    assert [row["version"] for row in versions] == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("ended", ["done", "gone", "cancelled"])
async def test_a_store_waits_for_another_that_works_on_the_schema(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, ended: str
) -> None:
    other = await asyncpg.connect(database)
    await other.execute("BEGIN")
    await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('promlike schema promlike', 0))")
    pid = other.get_server_pid()
    store = TimescaleStore(database, folder=tmp_path, timeouts=Timeouts(lock_s=0.2))
    with caplog.at_level(logging.INFO, "promlike.storage.timescale.migrations"):
        opening = asyncio.create_task(store.open())
        await asyncio.wait([opening], timeout=2.0)
        assert not opening.done()  # long after a lock would have been waited for
        (told,) = caplog.messages
        assert told.startswith(
            "the start waits for another daemon, which brings the schema of the database up to date, on 127.0.0.1 since 20"
        )
        assert told.endswith(f"(pid {pid})")
        if ended == "cancelled":
            opening.cancel()
            await asyncio.wait([opening], timeout=5)
            assert opening.cancelled()
        if ended == "done":
            await other.execute("COMMIT")
            await other.close()
        else:
            other.terminate()
        if ended != "cancelled":
            await opening
            assert caplog.messages[1:] == ["the other daemon is done with the schema of the database, the start goes on"]
    await store.close()


async def test_a_newer_schema_is_refused_with_both_versions(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    await store.close()
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO promlike.schema_version (version, name) VALUES (99, 'of the future')")
    await connection.close()
    store = TimescaleStore(database, folder=tmp_path)
    with pytest.raises(StorageError, match=f"has version 99, this promlike knows versions up to {len(MIGRATIONS)}"):
        await store.open()
    await store.close()


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    await store.close()
    broken = Migration(version=len(MIGRATIONS) + 1, name="broken", statements=lambda timescale: ("CREATE TABLE made (a int)", "SELECT 1/0"))
    connection = await asyncpg.connect(database, server_settings={"search_path": "promlike, public"})
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, "promlike", (*MIGRATIONS, broken))
    assert await connection.fetchval("SELECT max(version) FROM schema_version") == len(MIGRATIONS)
    assert await connection.fetchval("SELECT to_regclass('made')") is None
    await connection.close()


@pytest.mark.parametrize("own_wal", [True, False])
async def test_tables_from_before_the_versions_are_taken_over_by_whoever_has_their_wal(
    database: str, tmp_path: Path, own_wal: bool
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute('CREATE EXTENSION IF NOT EXISTS timescaledb; CREATE SCHEMA promlike; SET search_path = "promlike", public')
    for statement in first_tables(True):
        await connection.execute(statement)
    await connection.execute("""INSERT INTO series (id, metric, labels) VALUES (7, 'up', '{"__name__": "up", "instance": "a"}')""")
    await connection.execute("UPDATE series SET min_time = 'epoch', max_time = '2001-01-01T00:00Z'")
    await connection.execute("INSERT INTO samples VALUES ('2001-01-01T00:00Z', 7, 1.5)")
    await connection.execute("INSERT INTO wal_position (segment, byte_offset) VALUES (3, 8)")
    await connection.close()
    if own_wal:
        (tmp_path / "wal").mkdir()
        (tmp_path / "wal" / "00000003").touch()
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    assert await store.load_position() == (WalPosition(segment=3, offset=8) if own_wal else None)
    if own_wal:
        assert [(record.ref, record.labels) for record in await loaded(store)] == [(7, records("a")[0].labels)]
        assert await read(store, [7]) == [[(978_307_200_000, 1.5)]]
    await store.write(batch({8: [(START_MS, 1.0)]}, series=[SeriesRecord(ref=8, labels=up("b"))], position=(4, 8)))
    assert await read(store, [8]) == [[(START_MS, 1.0)]]
    await store.close()


@pytest.mark.parametrize("schema", ["metrics", 'Odd "name"; --', "ünit"])
async def test_the_schema_may_have_any_name(database: str, tmp_path: Path, schema: str) -> None:
    store = TimescaleStore(database, folder=tmp_path, schema=schema)
    other = TimescaleStore(database, folder=tmp_path, schema="other")
    await store.open()
    await other.open()
    await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
    assert await read(store, [0]) == [[(START_MS, 1.0)]]
    assert await read(other, [0]) == [[]]
    await store.close()
    await other.close()


@pytest.mark.parametrize("server", ["timescale_server", "plain_server"])
async def test_rows_of_rollups_that_were_stored_one_by_one_are_packed(
    request: pytest.FixtureRequest, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promlike.storage.timescale.convert.ROWS_AT_ONCE", 600)
    url = await new_database(request.getfixturevalue(server))
    samples = {ref: [(FLOOR_MS + k * 700_000 + ref, float(k % 40)) for k in range(1, 900 + ref)] for ref in range(7)}
    samples[7] = [(FLOOR_MS + 1, STALE_NAN)]
    connection = await asyncpg.connect(url, server_settings={"search_path": "promlike, public"})
    timescale = await migrate(connection, "promlike", MIGRATIONS[:10])
    assert timescale == (server == "timescale_server")
    for ref in samples:
        await connection.execute("INSERT INTO series (id, metric, labels) VALUES ($1, 'up', $2)", ref, f'{{"n": "{ref}"}}')
        for name, resolution_ms in RESOLUTIONS_MS.items():
            rows = expected_rows(samples[ref], resolution_ms)
            if not timescale:
                days = version7.PARTITION_DAYS[name]
                await make_partitions(connection, f"rollup_{name}", np.array([row[0] for row in rows]), days=days)
            times = [[to_time(row[k]) if k in (0, 5, 7) else row[k] for k in range(11)] for row in rows]
            order = "bucket, count, sum, min, max, first_time, first_value, last_time, last_value, reset_sum, ends_stale"
            places = ", ".join(f"${k + 2}" for k in range(11))
            insert = f"INSERT INTO rollup_{name} (series_id, {order}) VALUES ($1, {places})"
            await connection.executemany(insert, [(ref, *row) for row in times])
    await connection.close()
    store = TimescaleStore(url, folder=tmp_path)
    await store.open()
    store.adopt(np.arange(8), np.arange(8, dtype=np.int32))
    for ref in samples:
        for resolution_ms in RESOLUTIONS_MS.values():
            assert str(await stored_rows(store, resolution_ms, ref)) == str(expected_rows(samples[ref], resolution_ms))
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT to_regclass('promlike.rows_5m')") is None
    newest = await connection.fetchval("SELECT max(last_time) FROM promlike.rollup_1h WHERE series_id = 3")
    assert newest == to_time(samples[3][-1][0])
    await connection.close()
    await store.close()
