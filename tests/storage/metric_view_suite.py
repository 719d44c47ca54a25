"""What the views for people must show. A test module subclasses `MetricViewSuite` and provides the fixture `database`."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from promlike.model.blocks import STALE_NAN
from promlike.model.labels import labels
from promlike.model.tiers import RESOLUTIONS_MS
from promlike.storage.store import SeriesRecord, Store
from promlike.storage.tiers import Watermark
from tests.storage.store_suite import START_MS, batch, expected_rows, tier_batch

HOUR_MS = START_MS // 3_600_000 * 3_600_000

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


def at(ts_ms: int) -> str:
    """A time as SQL."""
    return f"to_timestamp({ts_ms / 1000})"


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

    async def test_metrics_may_be_named_like_our_tables_and_views(self, database: SqlDatabase) -> None:
        names = ["series", "sample", "samples", "sample_value", "labelled_samples", "metric", "metric_view", "main", "promlike", "up"]
        store = await database.open()
        await store.write(
            batch(
                {ref: [(START_MS, float(ref))] for ref in range(len(names))}, series=[record(ref, name) for ref, name in enumerate(names)]
            )
        )
        await refresh(store)
        assert [await database.rows(f'"{name}"', "value") for name in names] == [[(float(ref),)] for ref in range(len(names))]

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

    async def test_increases_are_summed_up_by_bucket_across_resets(self, database: SqlDatabase) -> None:
        store = await database.open()
        minute = [5.0, 10.0, 10.0, 2.0, 4.0, 9.0]  # begins again before 2.0
        await store.write(
            batch(
                {0: [(HOUR_MS + k * 60_000, value) for k, value in enumerate(minute)], 1: [(HOUR_MS - 1000, 1.0), (HOUR_MS + 1000, 4.0)]},
                series=[record(0, "requests", job="a"), record(1, "requests", job="b"), record(2, "requests", job="none")],
            )
        )
        arguments = f"'requests', INTERVAL '3 minutes', {at(HOUR_MS)}, {at(HOUR_MS + 360_000)}"
        moment = database.milliseconds.format("time")
        rows = await database.query(
            f"SELECT {moment} - {HOUR_MS}, labels->>'job', increase FROM {database.prefix}metric_increase({arguments}) ORDER BY 2, 1"
        )
        assert rows == [(0, "a", 5.0), (180_000, "a", 9.0), (0, "b", 3.0)]
        rates = await database.query(f"SELECT labels->>'job', rate FROM {database.prefix}metric_rate({arguments}) ORDER BY 1, 2")
        assert rates == [("a", 5 / 180), ("a", 9 / 180), ("b", 3 / 180)]

    async def test_a_rate_at_the_borders_counts_the_seconds_that_were_asked_for(self, database: SqlDatabase) -> None:
        store = await database.open()
        rows = [(HOUR_MS + k * 10_000, k * 20.0) for k in range(100)]
        await store.write(batch({0: rows}, series=[record(0, "requests", job="a")]))
        start, end = HOUR_MS + 120_000, HOUR_MS + 720_000
        rates = await database.query(
            f"SELECT rate FROM {database.prefix}metric_rate('requests', INTERVAL '5 minutes', {at(start)}, {at(end)}) ORDER BY time"
        )
        assert rates == [(2.0,), (2.0,), (2.0,)]

    async def test_the_last_values_leave_out_series_that_ended(self, database: SqlDatabase) -> None:
        store = await database.open()
        await store.write(
            batch(
                {
                    0: [(HOUR_MS, 1.0), (HOUR_MS + 1000, 2.0)],
                    1: [(HOUR_MS, 1.0), (HOUR_MS + 1000, STALE_NAN)],
                    2: [(HOUR_MS - 3_600_000, 1.0)],
                    3: [(HOUR_MS + 1, np.nan)],
                },
                series=[record(ref, "up", job="abcd"[ref]) for ref in range(4)],
            )
        )
        query = "SELECT labels->>'job', CAST(value AS VARCHAR) FROM {}metric_last('up', {}) ORDER BY 1"
        rows = await database.query(query.format(database.prefix, at(HOUR_MS + 1000)))
        assert [(job, str(float(value))) for job, value in rows] == [("a", "2.0"), ("d", "nan")]
        rows = await database.query(query.format(database.prefix, at(HOUR_MS)))
        assert [(job, float(value)) for job, value in rows] == [("a", 1.0), ("b", 1.0)]
        rows = await database.query(query.format(database.prefix, f"{at(HOUR_MS)}, INTERVAL '2 hours'"))
        assert [job for job, _ in rows] == ["a", "b", "c"]

    async def test_functions_take_the_series_with_given_labels(self, database: SqlDatabase) -> None:
        store = await database.open()
        series = [record(ref, "up", job="ab"[ref % 2], zone="xy"[ref // 2]) for ref in range(4)]
        await store.write(batch({ref: [(HOUR_MS, float(ref))] for ref in range(4)}, series=series))

        async def found(matching: str) -> list[float]:
            arguments = f"'up', {at(HOUR_MS)}, INTERVAL '1 minute', '{matching}'"
            rows = await database.query(f"SELECT value FROM {database.prefix}metric_last({arguments}) ORDER BY 1")
            return [value for (value,) in rows]

        assert await found('{"job": "b"}') == [1.0, 3.0]
        assert await found('{"job": "b", "zone": "y"}') == [3.0]
        assert await found('{"job": "c"}') == []
        assert await found("{}") == [0.0, 1.0, 2.0, 3.0]

    @pytest.mark.parametrize(
        ("step", "moment", "start"),
        [
            ("5 minutes", "2026-03-11 12:34:56", "2026-03-11 12:30:00"),
            ("1 day", "2026-03-11 12:34:56", "2026-03-11 00:00:00"),
            ("7 days", "2026-03-11 12:34:56", "2026-03-09 00:00:00"),
            ("1 hour", "1999-03-11 12:00:00", "1999-03-11 12:00:00"),
        ],
    )
    async def test_buckets_begin_with_days_and_weeks(self, database: SqlDatabase, step: str, moment: str, start: str) -> None:
        await database.open()
        found = f"{database.prefix}bucket(INTERVAL '{step}', TIMESTAMPTZ '{moment}+00')"
        assert await database.query(f"SELECT {found} = TIMESTAMPTZ '{start}+00'") == [(True,)]

    async def test_rollups_can_be_read_row_by_row(self, database: SqlDatabase) -> None:
        store = await database.open()
        odd = [math.nan, math.inf, -0.25, 1e300, 5e-324, -7.0, 0.1, 12345.678, 2.0**60]
        samples = {
            0: [(HOUR_MS + k * 100_000, float(k % 50)) for k in range(1, 1200)],
            1: [(HOUR_MS + k * 1_000_000, odd[k % len(odd)]) for k in range(60)],
            2: [(HOUR_MS + 1, STALE_NAN)],
        }
        await store.write(batch(samples, series=[record(ref, "up", job=f"j{ref}") for ref in range(3)]))
        await store.write_tiers(tier_batch(samples, Watermark.at(HOUR_MS), foreign=await store.foreign_changes()))
        for name, resolution_ms in RESOLUTIONS_MS.items():
            for ref in (0, 1, 2):
                found = await database.query(
                    f"SELECT {database.milliseconds.format('time')}, count, sum, min, max, first_value, last_value, increase"
                    f" FROM {database.prefix}labelled_rollups"
                    f" WHERE metric = 'up' AND labels->>'job' = 'j{ref}' AND resolution = '{name}' ORDER BY time"
                )
                wanted = [
                    (ends, count, total, least, most, first, last, last - first + resets)
                    for ends, count, total, least, most, _, first, _, last, resets, _ in expected_rows(samples[ref], resolution_ms)
                    if count
                ]
                np.testing.assert_array_equal(np.array(found, np.float64), np.array(wanted, np.float64))
        later = f"until > {at(HOUR_MS + 3 * 86_400_000)}"
        recent = f"SELECT count(*) FROM {database.prefix}labelled_rollups WHERE resolution = '5m' AND {later}"
        assert await database.query(recent) == [(0,)]


__all__ = ["MetricViewSuite", "SqlDatabase", "named", "record", "refresh"]
