"""The views for people in DuckDB's file."""

from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from promlike.errors import StorageError
from promlike.storage.duckdb import views
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.store import Store
from tests.storage.metric_view_suite import MetricViewSuite, Rows, SqlDatabase, record, refresh
from tests.storage.store_suite import START_MS, batch, stores_of


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqlDatabase]:
    """Queries copy nothing and close nothing: they run on a connection of their own to the file the store has open in this process."""
    path = tmp_path / "promlike.duckdb"
    async with stores_of(lambda: DuckDBStore(path)) as opening:
        opened: list[DuckDBStore] = []

        async def open_store() -> Store:
            store = await opening()
            assert isinstance(store, DuckDBStore)
            opened.append(store)
            return store

        async def query(text: str) -> Rows:
            def ask(connection: duckdb.DuckDBPyConnection) -> Rows:
                return connection.execute(text).fetchall()

            return await opened[-1]._change("answer", ask)

        yield SqlDatabase(open=open_store, query=query, prefix="", milliseconds="epoch_ms({})")


class TestDuckDBViews(MetricViewSuite):
    """Everything a view must show."""


async def test_names_that_differ_in_case_alone_are_told_apart(database: SqlDatabase) -> None:
    store = await database.open()
    await store.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS, 2.0)]}, series=[record(0, "Up", Job="a", job="b"), record(1, "up")]))
    await refresh(store)
    names = await database.names()
    assert names["Up"] == "Up"
    assert names["up"].startswith("up_")
    assert await database.rows('"Up"', "value, labels->>'job'") == [(1.0, "b")]
    assert (await database.rows('"Up"'))[0][4:] == ("a", "b")
    assert await database.rows(f'"{names["up"]}"', "value") == [(2.0,)]


async def test_more_metrics_than_views_are_kept_are_left_to_the_view_of_all(
    database: SqlDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(views, "MAX_VIEWS", 3)
    store = await database.open()
    await store.write(batch(series=[record(ref, f"metric_{ref}") for ref in range(5)]))
    await refresh(store)
    assert await database.views() == {"metric_0", "metric_1", "metric_2"}
    await store.write(batch(series=[record(5, "metric_5"), record(0, "metric_0", job="a")], position=(1, 16)))
    await refresh(store)
    assert await database.views() == {"metric_0", "metric_1", "metric_2"}
    assert (await database.columns("metric_0"))[4:] == ["job"]
    assert [entry.message for entry in caplog.records if entry.levelname == "WARNING"] == [
        "2 metrics get no view, there are 3 already; the view `sample` has their samples"
    ]


async def test_views_of_before_are_made_again_so_that_a_metric_named_like_a_table_is_in_nobodys_way(
    database: SqlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await database.open()
    text = views.view_text
    monkeypatch.setattr(views, "view_text", lambda view: text(view).replace("main.", ""))
    await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up")]))
    await refresh(store)
    await store.write(batch({1: [(START_MS, 2.0)]}, series=[record(1, "series")], position=(1, 16)))
    await refresh(store)
    with pytest.raises(StorageError, match="infinite recursion"):
        await database.rows("up", "value")
    monkeypatch.undo()
    await store.close()
    connection = duckdb.connect(tmp_path / "promlike.duckdb")
    connection.execute("UPDATE state SET value = '8' WHERE key = 'schema_version'")
    connection.close()
    store = await database.open()
    await refresh(store)
    assert await database.rows("up", "value") == [(1.0,)]
    assert await database.rows("series", "value") == [(2.0,)]


async def test_a_filter_on_labels_and_time_reads_the_parts_of_the_file_that_have_them_alone(database: SqlDatabase) -> None:
    store = await database.open()
    flushes, per_flush = 12, 40
    for flush in range(flushes):
        rows = {
            ref: [(START_MS + (flush * per_flush + k) * 15_000, float(k)) for k in range(per_flush)]
            for ref in range(1000)
        }  # fmt: skip
        new = [record(ref, f"metric_{ref // 100}", instance=f"i{ref % 100}") for ref in range(1000)] if not flush else ()
        await store.write(batch(rows, series=new, position=(1, 8 + flush * 8)))
    await refresh(store)
    hour = f"time > to_timestamp({(START_MS + (flushes - 1) * per_flush * 15_000) / 1000})"
    plan = (await database.query(f"EXPLAIN ANALYZE SELECT avg(value) FROM metric.metric_3 WHERE instance = 'i7' AND {hour}"))[0][1]
    scanned, groups = _row_groups(plan)
    assert groups >= 4
    assert scanned < groups / 2
    assert "series_id = 307" in plan


def _row_groups(plan: str) -> tuple[int, int]:
    """How many row groups of `samples` were read, and how many there are."""
    lines = [line.split("Row Groups Scanned:")[1].split("│")[0] for line in plan.splitlines() if "Row Groups Scanned:" in line]
    numbers = [[int(number) for number in line.split("/")] for line in lines]
    scanned, groups = max(numbers, key=lambda pair: pair[1])
    return scanned, groups
