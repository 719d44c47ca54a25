"""The views for people in PostgreSQL, with TimescaleDB and without."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.storage.store import Store
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.conftest import new_database
from tests.storage.metric_view_suite import MetricViewSuite, Rows, SqlDatabase, record, refresh
from tests.storage.store_suite import DAY_MS, START_MS, batch, stores_of


@pytest.fixture(params=["timescale_server", "plain_server"])
async def url(request: pytest.FixtureRequest) -> str:
    """A new, empty database on either server."""
    return await new_database(request.getfixturevalue(request.param))


@pytest.fixture
async def database(url: str, tmp_path: Path) -> AsyncIterator[SqlDatabase]:
    async with stores_of(lambda: TimescaleStore(url, folder=tmp_path)) as opening:

        async def open_store() -> Store:
            return await opening()

        async def query(text: str) -> Rows:
            return await ask(url, text)

        yield SqlDatabase(open=open_store, query=query, prefix="promlike.", milliseconds="CAST(extract(epoch FROM {}) * 1000 AS bigint)")


async def ask(url: str, text: str) -> Rows:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(text)]
    finally:
        await connection.close()


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))


class TestPostgreSQLViews(MetricViewSuite):
    """Everything a view must show."""


async def two_days(store: Store) -> None:
    """100 series of 10 metrics over two days, with the labels job and instance."""
    series = [record(ref, f"metric_{ref // 10}", job=f"job{ref % 2}", instance=f"i{ref % 10}") for ref in range(100)]
    for day in range(2):
        first = START_MS // DAY_MS * DAY_MS + day * DAY_MS
        rows = {ref: [(first + k * 60_000, float(k)) for k in range(1440)] for ref in range(100)}
        await store.write(batch(rows, series=series if not day else (), position=(1, 8 + day * 8)))
    await refresh(store)


@pytest.mark.parametrize("where", ["job = 'job1' AND instance = 'i7'", 'labels @> \'{"job": "job1", "instance": "i7"}\''])
async def test_one_series_over_one_hour_is_found_by_index_in_one_chunk(database: SqlDatabase, where: str) -> None:
    await two_days(await database.open())
    hour = START_MS // DAY_MS * DAY_MS // 1000 + 86_400 + 3600
    text = f"SELECT avg(value) FROM metric.metric_3 WHERE {where} AND time > to_timestamp({hour}) AND time <= to_timestamp({hour + 3600})"
    plan = "\n".join(line for (line,) in await database.query(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}"))
    assert "Nested Loop" in plan
    scanned = set(re.findall(r"on (_hyper_\d+_\d+_chunk|samples_\d{8})", plan))
    assert len(scanned) == 1, plan
    assert re.search(r"Index Cond: \(\(series_id = series\.id\)", plan), plan
    assert not re.search(r"Seq Scan on (_hyper|samples_|compress)", plan), plan
    assert await database.query(text) == [(90.5,)]


async def test_what_two_writers_both_wrote_is_seen_once(url: str, database: SqlDatabase, tmp_path: Path) -> None:
    store = await database.open()
    await store.write(batch({0: [(START_MS, 1.0), (START_MS + 1, 2.0)]}, series=[record(0, "up", job="a")]))
    other = TimescaleStore(url, folder=tmp_path / "other")
    (tmp_path / "other").mkdir()
    await other.open()
    await other.write(batch({5: [(START_MS + 1, 2.0), (START_MS + 2, 3.0)]}, series=[record(5, "up", job="a")]))
    await other.close()
    await refresh(store)
    assert await database.rows("up", "value") == [(1.0,), (2.0,), (3.0,)]


async def test_a_view_that_another_server_dropped_is_made_again_with_the_next_series(
    url: str, database: SqlDatabase, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    store, other = await database.open(), TimescaleStore(url, folder=tmp_path / "other")
    await other.open()
    await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
    await refresh(store)
    await refresh(other)
    await store.delete_series(np.array([0], np.int32))
    await refresh(other)
    assert await database.views() == set()
    await store.write(batch({1: [(START_MS + 1, 2.0)]}, series=[record(1, "up", job="a")], position=(1, 16)))
    await other.write(batch({1: [(START_MS + 1, 2.0)]}, series=[record(1, "up", job="b")]))
    await refresh(other)
    assert await database.views() == {"up"}
    await other.close()


async def test_a_view_that_is_being_read_is_put_off_and_the_others_are_made(url: str, database: SqlDatabase) -> None:
    store = await database.open()
    await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
    await refresh(store)
    reader = await asyncpg.connect(url)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM metric.up")
        await store.write(batch(series=[record(1, "up", zone="z"), record(2, "down")], position=(1, 16)))
        assert await store.refresh_views() == 1
        assert await database.views() == {"up", "down"}
    await reader.close()
    assert (await database.columns("up"))[4:] == ["job"]
    assert await refresh(store) == 1
    assert (await database.columns("up"))[4:] == ["job", "zone"]


async def test_what_people_built_on_a_view_keeps_it_and_goes_on_working(database: SqlDatabase, caplog: pytest.LogCaptureFixture) -> None:
    store = await database.open()
    await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
    await refresh(store)
    await database.query("CREATE VIEW jobs AS SELECT job, value FROM metric.up")
    await store.write(batch({1: [(START_MS, 2.0)]}, series=[record(1, "up", env="e", job="b")], position=(1, 16)))
    await refresh(store)
    assert await database.query("SELECT * FROM jobs ORDER BY job") == [("a", 1.0), ("b", 2.0)]
    await store.delete_series(np.array([0, 1], np.int32))
    await refresh(store)
    assert "the view of metric 'up' stays as it is" in caplog.text
    assert await database.query("SELECT * FROM jobs") == []
    await store.write(batch({2: [(START_MS, 3.0)]}, series=[record(2, "up", job="c")], position=(1, 24)))
    await refresh(store)
    assert await database.query("SELECT * FROM jobs") == [("c", 3.0)]


async def test_a_table_that_has_a_metrics_name_stays(database: SqlDatabase, caplog: pytest.LogCaptureFixture) -> None:
    store = await database.open()
    await refresh(store)
    await database.query("CREATE TABLE metric.up (mine int)")
    await store.write(batch(series=[record(0, "up"), record(1, "down")]))
    await refresh(store)
    assert "the view of metric 'up' stays as it is" in caplog.text
    assert await database.columns("up") == ["mine"]
    assert "down" in await database.views()


async def test_the_reader_may_read_views_made_later_and_change_nothing(url: str, database: SqlDatabase) -> None:
    store = await database.open()
    await refresh(store)
    await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
    await refresh(store)
    await database.query("CREATE ROLE someone LOGIN IN ROLE promlike_reader")
    try:
        mine = as_user(url, "someone")
        assert await ask(mine, "SELECT value FROM metric.up") == [(1.0,)]
        assert await ask(mine, "SELECT value FROM promlike.labelled_samples") == [(1.0,)]
        assert await ask(mine, "SELECT view_name FROM promlike.metric_view") == [("up",)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(mine, "DELETE FROM promlike.series")
    finally:
        await database.query("DROP ROLE someone")


async def test_a_user_who_may_create_nothing_is_told_what_to_run(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await ask(url, "CREATE ROLE limited LOGIN")
    try:
        await ask(url, "CREATE SCHEMA promlike AUTHORIZATION limited")
        store = TimescaleStore(as_user(url, "limited"), folder=tmp_path)
        await store.open()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
        assert await store.refresh_views() == 0
        assert await store.refresh_views() == 0
        assert caplog.text.count('CREATE SCHEMA "metric" AUTHORIZATION "limited"') == 1
        await ask(url, 'CREATE SCHEMA "metric" AUTHORIZATION "limited"')
        assert await refresh(store) == 1
        await store.close()
    finally:
        await ask(url, "DROP OWNED BY limited CASCADE")
        await ask(url, "DROP ROLE limited")


async def test_stores_in_schemas_of_their_own_have_views_of_their_own(url: str, database: SqlDatabase, tmp_path: Path) -> None:
    store = await database.open()
    (tmp_path / "other").mkdir()
    other = TimescaleStore(url, folder=tmp_path / "other", schema='te"st')
    await other.open()
    for number, each in enumerate((store, other)):
        await each.write(batch({0: [(START_MS, float(number))]}, series=[record(0, "up", job="a")]))
        await refresh(each)
    assert await database.rows("up", "value") == [(0.0,)]
    assert await database.query('SELECT value FROM "te""st_metric".up') == [(1.0,)]
    await other.close()


async def test_views_are_made_beside_a_flush_that_has_not_ended(url: str, database: SqlDatabase) -> None:
    """A flush and a refresh wait for nothing of each other: here the flush stands still while views are made."""
    store = await database.open()
    await store.write(batch(series=[record(ref, f"metric_{ref}") for ref in range(3)]))
    waiting = await asyncpg.connect(url)
    async with waiting.transaction():
        await waiting.execute("UPDATE promlike.database_state SET last_flush = last_flush")
        writing = asyncio.create_task(store.write(batch(series=[record(3, "metric_3")], position=(1, 16))))
        await asyncio.sleep(0.1)
        assert await refresh(store) == 3
        assert not writing.done()
    await writing
    await waiting.close()
    assert await refresh(store) == 1
