"""What the views for people must show. A test module subclasses `MetricViewSuite` and provides the fixture `database`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from promlike.model.blocks import STALE_NAN
from promlike.model.labels import labels
from promlike.storage.store import SeriesRecord, Store
from tests.storage.store_suite import START_MS, batch

Rows = list[tuple[Any, ...]]


@dataclass(slots=True, kw_only=True)
class SqlDatabase:
    """A store and a way to ask its database with SQL, as somebody else would. `prefix` stands before names of the store's own schema."""

    open: Callable[[], Awaitable[Store]]
    query: Callable[[str], Awaitable[Rows]]
    prefix: str
    milliseconds: str
    """How the database says a time in milliseconds, with `{}` for the time."""

    async def rows(self, view: str, columns: str = "*") -> Rows:
        return await self.query(f"SELECT {columns} FROM metric.{view} ORDER BY time, value")

    async def columns(self, view: str) -> list[str]:
        query = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'metric' AND table_name = '{}' ORDER BY {}"
        return [name for (name,) in await self.query(query.format(view.replace("'", "''"), "ordinal_position"))]

    async def names(self) -> dict[str, str]:
        """Metric to view name, as the lookup table says."""
        return dict(await self.query(f"SELECT metric, view_name FROM {self.prefix}metric_view"))

    async def views(self) -> set[str]:
        """The views that are really there."""
        return {name for (name,) in await self.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'metric'")}


async def refresh(store: Store) -> int:
    """Everything that is to do; how many metrics it was."""
    total = 0
    while done := await store.refresh_views():
        total += done
    return total


def record(ref: int, metric: str, **more: str) -> SeriesRecord:
    return SeriesRecord(ref=ref, labels=labels({"__name__": metric, **more}))


def named(ref: int, *pairs: tuple[str, str]) -> SeriesRecord:
    return SeriesRecord(ref=ref, labels=labels(pairs))


class MetricViewSuite:
    """The tests; every store runs all of them."""

    async def test_a_metric_has_a_view_with_a_column_for_each_label(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(
            batch(
                {0: [(START_MS, 1.5), (START_MS + 15_000, 2.5)], 1: [(START_MS, 9.0)], 2: [(START_MS, 7.0)]},
                series=[record(0, "up", job="api", instance="a"), record(1, "up", job="db", zone="x"), record(2, "down")],
            )
        )
        assert await refresh(store) == 2
        assert await database.columns("up") == ["time", "value", "series_id", "labels", "instance", "job", "zone"]
        assert await database.columns("down") == ["time", "value", "series_id", "labels"]
        columns = f"{database.milliseconds.format('time')}, value, instance, job, zone"
        assert await database.rows("up", columns) == [
            (START_MS, 1.5, "a", "api", None),
            (START_MS, 9.0, None, "db", "x"),
            (START_MS + 15_000, 2.5, "a", "api", None),
        ]
        assert await database.rows("down", "value") == [(7.0,)]
        assert await refresh(store) == 0

    async def test_stale_markers_are_hidden_and_other_nans_shown(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(
            batch(
                {0: [(START_MS, 1.0), (START_MS + 1, np.nan), (START_MS + 2, STALE_NAN), (START_MS + 3, np.inf)]},
                series=[record(0, "up", job="api")],
                late={0: [(START_MS - 1, STALE_NAN)]},
            )
        )
        await refresh(store)
        found = await database.rows("up", f"{database.milliseconds.format('time')}, CAST(value AS VARCHAR)")
        assert [(ts - START_MS, str(float(value))) for ts, value in found] == [(0, "1.0"), (1, "nan"), (3, "inf")]

    async def test_what_a_late_sample_replaced_is_not_seen(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS + k, float(k)) for k in range(4)]}, series=[record(0, "up", job="api")]))
        await store.write(batch(late={0: [(START_MS + 1, 100.0), (START_MS - 5, 7.0)]}, position=(1, 16)))
        await refresh(store)
        assert await database.rows("up", "value") == [(7.0,), (0.0,), (100.0,), (2.0,), (3.0,)]

    async def test_a_view_grows_with_its_labels_and_keeps_its_columns(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="api", zone="z")]))
        await refresh(store)
        store = await database.open()
        await store.write(batch({1: [(START_MS, 2.0)]}, series=[record(1, "up", job="db", env="e", pod="p")], position=(1, 16)))
        assert await refresh(store) == 1
        assert await database.columns("up") == ["time", "value", "series_id", "labels", "job", "zone", "env", "pod"]
        assert await database.rows("up", "value, job, zone, env") == [(1.0, "api", "z", None), (2.0, "db", None, "e")]
        await store.write(batch({2: [(START_MS, 3.0)]}, series=[record(2, "up", job="x", env="e")], position=(1, 24)))
        assert await refresh(store) == 0

    async def test_a_view_goes_with_the_last_series_and_comes_back(self, database: SqlDatabase) -> None:
        store = await database.open()
        series = [record(0, "up", job="a"), record(1, "up", job="b"), record(2, "down")]
        await store.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS, 1.0)], 2: [(START_MS, 1.0)]}, series=series))
        await refresh(store)
        await store.delete_series(np.array([0, 2], np.int32))
        await refresh(store)
        assert set(await database.names()) == {"up"}
        assert await database.views() == {"up"}
        store = await database.open()
        await store.delete_series(np.array([1], np.int32))
        await store.write(batch({2: [(START_MS + 1, 2.0)]}, series=series[2:], position=(1, 16)))
        await refresh(store)
        assert await database.views() == {"down"}

    async def test_a_metric_that_is_back_before_the_views_are_refreshed_keeps_its_view(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
        await refresh(store)
        await store.delete_series(np.array([0], np.int32))
        await store.write(batch({1: [(START_MS + 1, 2.0)]}, series=[record(1, "up", zone="z")], position=(1, 16)))
        await refresh(store)
        assert (await database.rows("up", "zone"))[-1] == ("z",)

    async def test_views_that_a_crash_prevented_are_made_after_the_next_start(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
        await refresh(store)
        await store.write(batch({1: [(START_MS, 1.0)]}, series=[record(1, "up", zone="z"), record(2, "down", pod="p")], position=(1, 16)))
        store = await database.open()
        assert await refresh(store) == 2
        assert (await database.columns("up"))[4:] == ["job", "zone"]
        assert (await database.columns("down"))[4:] == ["pod"]

    async def test_names_of_any_kind_get_views_and_columns(self, database: SqlDatabase) -> None:
        store = await database.open()
        odd = ["ünit:total", 'quo"ted', "it's", "semi;colon--", "a b", "日本語", "select", "back\\slash", "nul\0name", "%s$1{}"]
        keys = ["ünit", 'quo"ted', "it's", "a/b~c", "$path", "select", "日本語", "nul\0label", "0", "a.b", "[x]", "%s$1{}"]
        series = [named(ref, ("__name__", metric), *((key, f"{key} of {metric}") for key in keys)) for ref, metric in enumerate(odd)]
        await store.write(batch({ref: [(START_MS, float(ref))] for ref in range(len(odd))}, series=series))
        await refresh(store)
        names = await database.names()
        assert len(names) == len(odd)
        for ref, metric in enumerate(odd):
            if "\0" in metric:
                continue
            quoted = names[metric].replace('"', '""')
            rows = await database.rows(f'"{quoted}"')
            assert [row[1] for row in rows] == [float(ref)]
            columns = await database.columns(names[metric])
            found = dict(zip(columns[4:], rows[0][4:], strict=True))
            assert {key: found[key] for key in keys if "\0" not in key} == {k: f"{k} of {metric}" for k in keys if "\0" not in k}
            assert found["nul\ufffdlabel"].endswith(f"label of {metric}")

    async def test_labels_named_like_columns_of_ours_are_shown_under_another_name(self, database: SqlDatabase) -> None:
        store = await database.open()
        shown = {"time": "t", "value": "v", "series_id": "s", "labels": "l", "label_value": "lv", "metric": "m"}
        own = named(0, ("__name__", "up"), *shown.items())
        await store.write(batch({0: [(START_MS, 4.0)]}, series=[own]))
        await refresh(store)
        columns = (await database.columns("up"))[4:]
        assert columns[:4] == ["label_value", "label_labels", "metric", "label_series_id"]
        found = dict(zip(columns, (await database.rows("up"))[0][4:], strict=True))
        other = next(name for name in columns if name.startswith("label_value_"))
        assert found == {
            "label_time": "t", other: "v", "label_series_id": "s", "label_labels": "l", "label_value": "lv", "metric": "m"
        }  # fmt: skip

    async def test_long_names_that_are_equal_at_first_are_told_apart(self, database: SqlDatabase) -> None:
        store = await database.open()
        long = [f"{'m' * 70}{ending}" for ending in "abc"] + ["é" * 40]
        series = [
            named(ref, ("__name__", name), (f"{'l' * 80}1", f"1 of {ref}"), (f"{'l' * 80}2", f"2 of {ref}"))
            for ref, name in enumerate(long)
        ]
        await store.write(batch({ref: [(START_MS, float(ref))] for ref in range(4)}, series=series))
        await refresh(store)
        names = await database.names()
        assert len(set(names.values())) == 4
        assert set(names.values()) == await database.views()
        for ref, name in enumerate(long):
            rows = await database.rows(f'"{names[name]}"')
            assert [(row[1], *row[4:]) for row in rows] == [(float(ref), f"1 of {ref}", f"2 of {ref}")]

    async def test_views_that_somebody_dropped_are_made_again_after_a_start(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=[record(0, "up", job="a")]))
        await refresh(store)
        await database.query("DROP VIEW metric.up")
        store = await database.open()
        assert await refresh(store) == 1
        assert await database.rows("up", "job") == [("a",)]

    async def test_many_new_metrics_are_done_in_portions(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch(series=[record(ref, f"metric_{ref:03}", job="a") for ref in range(250)]))
        portions = [await store.refresh_views() for _ in range(4)]
        assert portions == [100, 100, 50, 0]
        assert len(await database.views()) == 250

    async def test_the_view_of_all_samples_shows_labels(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(batch({0: [(START_MS, 1.0), (START_MS + 1, STALE_NAN)]}, series=[record(0, "up", job="a")]))
        everything = f"{database.prefix}{'labelled_samples' if database.prefix else 'sample'}"
        columns = f"{database.milliseconds.format('time')}, metric, labels->>'job', value"
        assert await database.query(f"SELECT {columns} FROM {everything}") == [(START_MS, "up", "a", 1.0)]


__all__ = ["MetricViewSuite", "SqlDatabase", "named", "record", "refresh"]
