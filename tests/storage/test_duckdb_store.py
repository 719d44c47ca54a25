"""The shared suite on DuckDB, and what is DuckDB's own."""

import asyncio
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
import pytest

from promlike.errors import QueryTimeout, StorageError, StorageUnavailable
from promlike.model.blocks import STALE_NAN
from promlike.model.labels import labels
from promlike.model.tiers import RESOLUTIONS_MS
from promlike.promql.engine import Engine
from promlike.promql.options import Deadline, EngineOptions
from promlike.storage.duckdb import rows
from promlike.storage.duckdb import store as stores_module
from promlike.storage.duckdb.migrations import MIGRATIONS, Migration, migrate, schema_version
from promlike.storage.duckdb.schema import FIRST_TABLES
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.options import HOUR_MS, StorageOptions
from promlike.storage.storage import Storage
from promlike.storage.tiers import Watermark
from tests.storage.store_suite import (
    FLOOR_MS,
    START_MS,
    Stores,
    StoreSuite,
    batch,
    expected_rows,
    loaded,
    read,
    records,
    stores_of,
    tier_batch,
    up,
)
from tests.storage.store_suite import rows as stored_rows


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with stores_of(lambda: DuckDBStore(tmp_path / "promlike.duckdb")) as opening:
        yield opening


class TestDuckDBStore(StoreSuite):
    """Everything a Store must do."""


async def test_people_can_query_the_file(stores: Stores, tmp_path: Path) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    await store.close()
    with duckdb.connect(tmp_path / "promlike.duckdb", read_only=True) as connection:
        rows = connection.execute("SELECT epoch_ms(time), metric, labels->>'instance', value FROM sample").fetchall()
    assert rows == [(START_MS, "up", "a", 1.5)]


async def test_retention_gives_the_space_of_deleted_samples_back(stores: Stores) -> None:
    store = await stores()
    for day in range(6):
        rows = {ref: [(START_MS + day * 86_400_000 + k * 1000, float(hash((ref, k, day)))) for k in range(500)] for ref in range(300)}
        await store.write(batch(rows, series=records(*map(str, range(300))) if not day else (), position=(1, 8 + day * 8)))
        if day == 2:
            size = (await store.stats()).bytes
        deleted = await store.delete_before(START_MS + (day - 1) * 86_400_000)
        assert deleted == (150_000 if day >= 2 else 0)
    assert (await store.stats()).samples == 300_000
    assert (await store.stats()).bytes < 2 * size


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


async def test_a_file_of_the_first_version_is_brought_up_to_date(stores: Stores, tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "promlike.duckdb") as connection:
        for statement in FIRST_TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO state VALUES ('schema_version', 1), ('wal_segment', 3), ('wal_offset', 8)")
        connection.execute("""INSERT INTO series VALUES (4, 'up', '{"__name__":"up","instance":"a"}')""")
        connection.execute("INSERT INTO samples VALUES (4, $1, 1.5)", [START_MS])
        connection.execute("INSERT INTO series_times VALUES (4, $1, $1)", [START_MS])
    store = await stores()
    assert [(series.ref, series.labels, series.max_time_ms) for series in await loaded(store)] == [(4, up("a"), START_MS)]
    assert await read(store, [4]) == [[(START_MS, 1.5)]]
    await store.close()
    with duckdb.connect(tmp_path / "promlike.duckdb", read_only=True) as connection:
        assert schema_version(connection) == len(MIGRATIONS)


def test_a_migration_that_fails_leaves_the_file_as_it_was() -> None:
    broken = Migration(version=len(MIGRATIONS) + 1, name="broken", statements=("CREATE TABLE made (a INTEGER)", "SELECT error('broken')"))
    with duckdb.connect() as connection:
        migrate(connection, "file")
        with pytest.raises(duckdb.Error, match="broken"):
            migrate(connection, "file", (*MIGRATIONS, broken))
        assert schema_version(connection) == len(MIGRATIONS)
        assert connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'made'").fetchall() == [(0,)]


async def test_a_file_of_a_newer_schema_is_refused(stores: Stores, tmp_path: Path) -> None:
    store = await stores()
    await store.close()
    with duckdb.connect(tmp_path / "promlike.duckdb") as connection:
        connection.execute("UPDATE state SET value = 99 WHERE key = 'schema_version'")
    with pytest.raises(StorageError, match=f"schema version 99, this promlike knows versions up to {len(MIGRATIONS)}"):
        await stores()


async def test_a_file_that_another_process_holds_is_unavailable(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "promlike.duckdb").mkdir()
    with pytest.raises(StorageUnavailable, match=r"cannot open .*promlike\.duckdb"):
        await stores()


@pytest.mark.parametrize("damage", ["cut", "header", "block", "no database"])
async def test_a_damaged_file_is_named(stores: Stores, tmp_path: Path, damage: str) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    await store.close()
    path = tmp_path / "promlike.duckdb"
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[4096:12288] = bytes(8192)
    elif damage == "block":
        data[20_000:20_100] = bytes(100)
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"no database" * 1000 if damage == "no database" else data)
    with pytest.raises(StorageError, match=r"cannot open .*promlike\.duckdb"):
        await stores()


async def test_a_start_that_was_killed_while_it_made_the_file_leaves_nothing_in_the_way(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "promlike.duckdb").touch()  # as earlier versions left it
    (tmp_path / "promlike.duckdb.new").write_bytes(b"the first of three headers")
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    assert await read(store, [0]) == [[(START_MS, 1.5)]]
    await store.close()
    assert names(tmp_path) == ["promlike.duckdb"]
    assert await read(await stores(), [0]) == [[(START_MS, 1.5)]]


async def test_a_snapshot_leaves_the_file_locked(stores: Stores, tmp_path: Path) -> None:
    """The samples are in DuckDB's own log still, which is copied as well."""
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    await store.snapshot(tmp_path / "snapshots" / "copy")
    assert "Conflicting lock" in opened_elsewhere(tmp_path / "promlike.duckdb")
    assert opened_elsewhere(tmp_path / "snapshots" / "copy" / "promlike.duckdb") == ""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def opened_elsewhere(path: Path) -> str:
    """What another process is told that opens a database; nothing when it can."""
    code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False).stderr


async def test_a_snapshot_that_cannot_be_made_says_why_and_leaves_nothing(stores: Stores, tmp_path: Path) -> None:
    store = await stores()
    (tmp_path / "promlike.duckdb").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailable, match=r"cannot copy .*promlike\.duckdb.* No such file"):
        await store.snapshot(tmp_path / "snapshots" / "copy")
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_statement_that_fails_is_not_hidden_by_what_follows() -> None:
    with duckdb.connect() as connection:
        for _ in range(2):
            connection.execute("BEGIN")
            with pytest.raises(duckdb.Error, match="gone wrong"):
                rows.insert(connection, pa.table({"a": [1]}), "SELECT error('gone wrong') FROM incoming")
            connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        rows.insert(connection, pa.table({"a": [7]}), "CREATE TABLE kept AS SELECT a FROM incoming")
        connection.execute("COMMIT")
        assert connection.execute("SELECT a FROM kept").fetchall() == [(7,)]


async def test_late_samples_of_a_batch_may_touch_its_own_samples(stores: Stores) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.0), (START_MS + 1, 1.0)]}, series=records("a"), late={0: [(START_MS, 2.0)]}))
    assert await read(store, [0]) == [[(START_MS, 2.0), (START_MS + 1, 1.0)]]
    assert (await loaded(store))[0].labels == up("a")


def endless(cursor: duckdb.DuckDBPyConnection, *_: object) -> int:
    """Reads for minutes, in two statements."""
    for _again in range(2):
        cursor.sql("SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b").to_arrow_table()
    return 0


async def test_reads_that_are_cancelled_stop(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS, 1.5)]}, series=records("a")))
    with monkeypatch.context() as patch:
        patch.setattr(stores_module, "count_samples", endless)
        reads = [asyncio.create_task(store.count(np.array([0], np.int32), 0, START_MS)) for _ in range(8)]  # more than there are threads
        await asyncio.sleep(0.3)
        for reading in reads:
            reading.cancel()
        found = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in found)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*(read(store, [0]) for _ in range(4))) == [[[(START_MS, 1.5)]]] * 4


async def test_a_query_that_times_out_stops_its_read(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores_module, "read_samples", endless)
    now_ms = int(time.time() * 1000)
    storage = Storage(StorageOptions(data_dir=tmp_path), DuckDBStore(tmp_path / "other.duckdb", readers=1))
    await storage.open()
    with ThreadPoolExecutor(1) as pool:
        engine = Engine(EngineOptions(), pool)
        await storage.append(np.array([storage.series_ref(labels({"__name__": "up"}))], np.int32), np.array([now_ms]), np.array([1.0]))
        await storage.flush()
        storage._head.collect(0, 1, now_ms)
        with pytest.raises(QueryTimeout):
            await engine.instant(storage, "up", now_ms, deadline=Deadline.after(0.3))
        engine.close()
    async with asyncio.timeout(20):
        assert (await storage.store_stats()).samples == 1
        await storage.close()


async def test_rows_of_rollups_that_were_stored_one_by_one_are_packed(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promlike.storage.duckdb.packed.ROWS_AT_ONCE", 600)
    samples = {ref: [(FLOOR_MS + k * 700_000 + ref, float(k % 40)) for k in range(1, 900 + ref)] for ref in range(7)}
    samples[7] = [(FLOOR_MS + 1, STALE_NAN), (FLOOR_MS + 2, math.inf), (FLOOR_MS + 3, math.nan)]
    with duckdb.connect(tmp_path / "promlike.duckdb") as connection:
        migrate(connection, "file", MIGRATIONS[:6])
        connection.executemany("INSERT INTO series VALUES (?, 'up', '{}')", [(ref,) for ref in samples])
        for name, resolution_ms in RESOLUTIONS_MS.items():
            for ref in samples:
                rows = [(ref, *row) for row in expected_rows(samples[ref], resolution_ms)]
                connection.executemany(f"INSERT INTO rollup_{name} VALUES ({', '.join('?' * 12)})", rows)
    store = await stores()
    for ref in samples:
        for resolution_ms in RESOLUTIONS_MS.values():
            assert str(await stored_rows(store, resolution_ms, ref)) == str(expected_rows(samples[ref], resolution_ms))
    await store.close()
    with duckdb.connect(tmp_path / "promlike.duckdb", read_only=True) as connection:
        assert schema_version(connection) == len(MIGRATIONS)
        assert connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'rows_%'").fetchall() == [(0,)]


async def test_no_table_keeps_rows_of_a_series_whose_id_may_go_to_another(stores: Stores, tmp_path: Path) -> None:
    """Also one that somebody adds later."""
    store = await stores()
    samples = {ref: [(FLOOR_MS + 1, 1.0)] for ref in range(2)}
    await store.write(batch(samples, series=records("a", "b"), exemplars=[(ref, FLOOR_MS + 1, 1.0, "{}") for ref in range(2)]))
    await store.write_tiers(tier_batch(samples, Watermark.at(FLOOR_MS + HOUR_MS), foreign=0))
    await store.delete_series(np.array([0], np.int32))
    await store.close()
    with duckdb.connect(tmp_path / "promlike.duckdb") as connection:
        views = "SELECT view_name FROM duckdb_views()"
        query = f"SELECT table_name FROM duckdb_columns() WHERE column_name = 'series_id' AND table_name NOT IN ({views})"
        tables = [name for (name,) in connection.execute(query).fetchall()]
        found = {name: connection.execute(f"SELECT DISTINCT series_id FROM {name}").fetchall() for name in tables}
    assert {"samples", "exemplars", "series_times", "rollup_5m", "rollup_1h", "rollup_marks"} <= set(tables)
    assert {name: rows for name, rows in found.items() if rows not in ([], [(1,)])} == {}
