"""A database is brought to the schema of this promlike, by whoever comes first, once."""

import asyncio
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.errors import StorageError
from promlike.storage.store import SeriesRecord, WalPosition
from promlike.storage.timescale.migrations import MIGRATIONS, Migration, migrate
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.timescale.version1 import first_tables
from tests.storage.store_suite import START_MS, batch, loaded, read, records, up


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
