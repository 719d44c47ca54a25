"""Databases, servers and URLs that are set otherwise than usual, and what is said where that cannot work."""

from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.errors import StorageError, StoreAway
from promlike.storage.timescale import reader, server
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.metric_view_suite import record
from tests.storage.store_suite import START_MS, batch, read

ODD_SETTINGS = (
    "datestyle = 'German, DMY'",
    "extra_float_digits = 0",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "default_transaction_isolation = serializable",
    "timezone = 'Asia/Kathmandu'",
    "bytea_output = escape",
    "intervalstyle = iso_8601",
    "search_path = nowhere",
    "client_encoding = latin1",
    "statement_timeout = 1",
    "lock_timeout = 1",
)


async def run(url: str, *statements: str) -> list[asyncpg.Record]:
    """The rows of the last statement."""
    connection = await asyncpg.connect(url, server_settings={"statement_timeout": "0"})
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        rows: list[asyncpg.Record] = await connection.fetch(statements[-1])
        return rows
    finally:
        await connection.close()


async def test_settings_of_database_and_role_change_nothing(database: str, tmp_path: Path) -> None:
    name = database.rpartition("/")[2]
    await run(database, *(f"ALTER DATABASE {name} SET {setting}" for setting in ODD_SETTINGS))
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    samples = [(START_MS, 0.1 + 0.2), (START_MS + 86_400_001, 1 / 3)]
    await store.write(batch({0: samples}, series=[record(0, "odd", path="c:\\new\\'x'")]))
    await store.refresh_views()
    async with store.sql("SELECT time, value, path, labels FROM metric.odd ORDER BY time", 10, 10.0) as answer:
        assert [column.type for column in answer.columns] == ["timestamp with time zone", "double precision", "text", "jsonb"]
        rows = [row for part in [part async for part in answer.batches] for row in part.to_pylist()]
    assert [(round(row["c0"].timestamp() * 1000), row["c1"]) for row in rows] == samples
    assert {row["c2"] for row in rows} == {"c:\\new\\'x'"}
    assert await read(store, [0]) == [samples]
    await store.close()


async def test_the_url_may_name_the_application(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(f"{database}?application_name=mine", folder=tmp_path)
    await store.open()
    assert await run(database, "SELECT FROM pg_stat_activity WHERE application_name = 'mine' AND datname = current_database()")
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hi/dden@127.0.0.1:1/x",
        "postgresql://me:hi[dden@127.0.0.1:1/x",
        "postgresql://me:hi[dden]@127.0.0.1:1/x",
        "postgresql://me:hidden@127.0.0.1/x?sslmode=odd",
    ],
)
async def test_what_is_wrong_in_a_url_is_said_at_once_without_the_password(url: str, tmp_path: Path) -> None:
    store = TimescaleStore(url, folder=tmp_path)
    with pytest.raises(StorageError, match=r"--storage\.url cannot be used: (a port is no number|.*sslmode)") as error:
        await store.open()
    assert not isinstance(error.value, StoreAway)
    assert "'hi'" not in str(error.value)
    assert "dden" not in str(error.value)
    await store.close()


async def test_why_the_server_closed_the_connection_is_said(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    with pytest.raises(StoreAway, match=r"08003 .*: terminating connection due to administrator command"):
        async with store._database.connection("end") as connection, connection.transaction():
            await connection.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    await store.close()


async def test_an_encoding_without_all_characters_is_refused_before_anything_is_stored(database: str, tmp_path: Path) -> None:
    latin = f"{database}_latin"
    create = f"CREATE DATABASE {latin.rpartition('/')[2]} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    await run(database, create)
    store = TimescaleStore(latin, folder=tmp_path)
    with pytest.raises(StorageError, match=r"the encoding of the database is LATIN1.*ENCODING 'UTF8'"):
        await store.open()
    assert await run(latin, "SELECT FROM pg_namespace WHERE nspname = 'promlike'") == []
    await store.close()


async def test_a_timescaledb_that_is_too_old_is_refused_before_anything_is_made(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "OLDEST_VERSION", (99, 0))
    store = TimescaleStore(database, folder=tmp_path)
    with pytest.raises(StorageError, match=r"TimescaleDB 2\.[0-9.]+ is too old: 99\.0 or newer is needed"):
        await store.open()
    assert await run(database, "SELECT FROM pg_namespace WHERE nspname = 'promlike'") == []
    await store.close()


async def test_a_timescaledb_in_a_schema_of_its_own_is_named(database: str, tmp_path: Path) -> None:
    await run(database, "CREATE SCHEMA apart", "CREATE EXTENSION timescaledb SCHEMA apart")
    store = TimescaleStore(database, folder=tmp_path)
    with pytest.raises(StorageError, match="the extension timescaledb is in the schema 'apart'"):
        await store.open()
    await store.close()


async def test_a_user_who_made_the_role_that_reads_may_act_as_it(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "READER", "someone_who_reads")
    name = database.rpartition("/")[2]
    await run(database, "CREATE EXTENSION IF NOT EXISTS timescaledb", "CREATE ROLE maker LOGIN CREATEROLE")
    await run(database, f"GRANT CREATE ON DATABASE {name} TO maker")
    try:
        store = TimescaleStore(database.replace("//postgres@", "//maker@"), folder=tmp_path)
        await store.open()
        await store.refresh_views()
        assert (await run(database, "SELECT pg_has_role('maker', 'someone_who_reads', 'member')"))[0][0]
        await store.close()
    finally:
        await run(database, "DROP OWNED BY someone_who_reads, maker CASCADE", "DROP ROLE IF EXISTS someone_who_reads, maker")
