"""What every `Store` must do. A test module subclasses `StoreSuite` and provides the fixture `stores`."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from promlike.errors import StorageError
from promlike.model.blocks import STALE_NAN, SampleBlock
from promlike.model.exemplars import Exemplars, label_text
from promlike.model.flushes import StoredChange
from promlike.model.labels import Labels, labels
from promlike.model.tiers import ALL_COLUMNS, RESOLUTIONS_MS, TierColumn
from promlike.storage.access import Metadata
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.roll_up import roll_up
from promlike.storage.store import (
    NEVER_FIRST_MS,
    NEVER_LAST_MS,
    NO_REF,
    Deletion,
    FlushBatch,
    SampleChunk,
    SeriesRecord,
    Store,
    StoredSeries,
    WalPosition,
)
from promlike.storage.tiers import Marks, TierBatch, TierState, Watermark

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000

Stores = Callable[[], Awaitable[Store]]
"""Opens a store on the same data each time it is called; the fixture closes them."""

Samples = dict[int, list[tuple[int, float]]]


@asynccontextmanager
async def stores_of(make: Callable[[], Store]) -> AsyncIterator[Stores]:
    """Stores that `make` makes, of which one at a time is open."""
    opened: list[Store] = []

    async def open_store() -> Store:
        for store in opened:
            await store.close()
        opened.append(make())
        await opened[-1].open()
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


def up(instance: str, **more: str) -> Labels:
    return labels({"__name__": "up", "instance": instance, **more})


def chunk(samples: Samples) -> SampleChunk:
    refs = np.array(sorted(samples), np.int32)
    rows = [samples[ref] for ref in sorted(samples)]
    return SampleChunk(
        refs=refs,
        samples=SampleBlock(
            ts_ms=np.array([ts for row in rows for ts, _ in row], np.int64),
            values=np.array([value for row in rows for _, value in row], np.float64),
            offsets=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        ),
    )


def batch(
    samples: Samples | None = None,
    *,
    series: Sequence[SeriesRecord] = (),
    late: Samples | None = None,
    position: tuple[int, int] = (1, 8),
    metadata: Sequence[Metadata] = (),
    deletions: Sequence[Deletion] = (),
    gone: Sequence[int] = (),
    exemplars: Sequence[tuple[int, int, float, str]] = (),
) -> FlushBatch:
    rows = [(ref, ts, value) for ref, row in sorted((late or {}).items()) for ts, value in sorted(row)]
    return FlushBatch(
        new_series=series,
        chunks=[chunk(samples)] if samples else [],
        late_refs=np.array([ref for ref, _, _ in rows], np.int32),
        late_ts_ms=np.array([ts for _, ts, _ in rows], np.int64),
        late_values=np.array([value for _, _, value in rows], np.float64),
        position=WalPosition(segment=position[0], offset=position[1]),
        metadata=metadata,
        deletions=deletions,
        gone=np.array(gone, np.int32),
        exemplars=Exemplars.of(exemplars),
    )


def deletion(refs: Sequence[int], start_ms: int, end_ms: int) -> Deletion:
    return Deletion(refs=np.array(refs, np.int32), start_ms=start_ms, end_ms=end_ms)


def records(*instances: str) -> list[SeriesRecord]:
    return [SeriesRecord(ref=ref, labels=up(instance)) for ref, instance in enumerate(instances)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A series as `load_series` gives it, None for times and refs that there are not."""

    ref: int | None
    labels: Labels
    min_time_ms: int | None
    max_time_ms: int | None


async def loaded(store: Store) -> list[Loaded]:
    """All series of a store, by ref."""
    found = [series async for portion in store.load_series() for series in unpacked(portion)]
    return sorted(found, key=lambda series: (series.ref is None, series.ref, series.labels))


def unpacked(portion: StoredSeries) -> Iterator[Loaded]:
    """The series of a portion, one by one."""
    assert len(portion.refs) == len(portion.ids) == len(portion.labels) == len(portion.min_time_ms) == len(portion.max_time_ms)
    strings, pairs, offsets = portion.labels.strings, portion.labels.pairs.reshape(-1, 2).tolist(), portion.labels.offsets.tolist()
    for s, (ref, first, last) in enumerate(
        zip(portion.refs.tolist(), portion.min_time_ms.tolist(), portion.max_time_ms.tolist(), strict=True)
    ):
        yield Loaded(
            ref=None if ref == NO_REF else ref,
            labels=labels((strings[name], strings[value]) for name, value in pairs[offsets[s] : offsets[s + 1]]),
            min_time_ms=None if first == NEVER_FIRST_MS else first,
            max_time_ms=None if last == NEVER_LAST_MS else last,
        )


async def read(store: Store, refs: Sequence[int], start_ms: int = 0, end_ms: int = 2**52) -> list[list[tuple[int, float]]]:
    block = await store.read(np.array(refs, np.int32), start_ms, end_ms)
    block.validate()
    assert block.series == len(refs)
    pairs = list(zip(block.ts_ms.tolist(), block.values.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(block.offsets[:-1].tolist(), block.offsets[1:].tolist(), strict=True)]


async def read_exemplars(
    store: Store, refs: Sequence[int], start_ms: int = 0, end_ms: int = 2**52, limit: int = 1000
) -> list[tuple[int, int, str, str]]:
    """Ref, time, value as text (so that NaN equals itself) and labels of each, sorted."""
    found = await store.read_exemplars(np.array(refs, np.int32), start_ms, end_ms, limit)
    columns = (found.refs.tolist(), found.ts_ms.tolist(), map(repr, found.values.tolist()), found.labels)
    return sorted(zip(*columns, strict=True))


def tier_batch(
    samples: Samples, watermark: Watermark, *, foreign: int, replaced: Marks | None = None, done: Marks | None = None
) -> TierBatch:
    """Both tiers of these samples."""
    given = chunk(samples) if samples else SampleChunk(refs=np.empty(0, np.int32), samples=SampleBlock.empty())
    return TierBatch(
        refs=given.refs,
        blocks=[roll_up(given.samples, resolution) for resolution in RESOLUTIONS_MS.values()],
        watermark=watermark,
        replaced=replaced or Marks.none(),
        done=done or Marks.none(),
        foreign=foreign,
    )


def marks(*rows: tuple[int, int, int]) -> Marks:
    """Of (ref, start, end)."""
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return Marks(refs=columns[0].astype(np.int32), start_ms=columns[1].copy(), end_ms=columns[2].copy())


async def rows(store: Store, resolution_ms: int, ref: int, start_ms: int = 0, end_ms: int = 2**52) -> list[tuple[object, ...]]:
    """All columns of the rows of a series, by bucket."""
    parts = await store.read_tier(resolution_ms, np.array([ref], np.int32), start_ms, end_ms, ALL_COLUMNS)
    refs = np.array([ref], np.int32)
    block = pack_into_tier(resolution_ms, refs, parts, after_ms=start_ms, upto_ms=np.array([end_ms], np.int64)).part(0, 1)
    block.validate()
    return list(zip(*(column.tolist() for column in block.rows.columns().values()), strict=True))


def expected_rows(samples: list[tuple[int, float]], resolution_ms: int) -> list[tuple[Any, ...]]:
    block = roll_up(chunk({0: samples}).samples, resolution_ms)
    return list(zip(*(column.tolist() for column in block.rows.columns().values()), strict=True))


FIVE_MS, HOUR_MS = RESOLUTIONS_MS["5m"], RESOLUTIONS_MS["1h"]
FLOOR_MS = START_MS // HOUR_MS * HOUR_MS


class StoreSuite:
    """The tests; every store runs all of them."""

    async def test_a_new_store_is_empty(self, stores: Stores) -> None:
        store = await stores()
        assert await loaded(store) == []
        assert await store.load_metadata() == []
        assert await store.load_position() is None
        assert await read(store, [0, 7]) == [[], []]
        stats = await store.stats()
        assert (stats.series, stats.samples, stats.min_time_ms, stats.max_time_ms) == (0, 0, None, None)

    async def test_what_was_written_is_read_back_row_for_row(self, stores: Stores) -> None:
        store = await stores()
        await store.write(
            batch(
                {0: [(START_MS, 1.0), (START_MS + 5, 2.0)], 1: [(START_MS + 1, 3.0)], 2: [(START_MS, 4.0)]}, series=records("a", "b", "c")
            )
        )
        assert await read(store, [2, 0, 9, 1]) == [
            [(START_MS, 4.0)],
            [(START_MS, 1.0), (START_MS + 5, 2.0)],
            [],
            [(START_MS + 1, 3.0)],
        ]

    async def test_the_start_of_a_range_is_open_and_its_end_closed(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS + k, float(k)) for k in range(5)]}, series=records("a")))
        assert await read(store, [0], START_MS + 1, START_MS + 3) == [[(START_MS + 2, 2.0), (START_MS + 3, 3.0)]]
        assert await read(store, [0], START_MS + 3, START_MS + 3) == [[]]

    async def test_every_bit_of_a_value_survives(self, stores: Stores) -> None:
        store = await stores()
        payload = np.array([0x7FF8000000001234, 0xFFF8000000000001], np.uint64).view(np.float64)
        values = np.array([np.nan, STALE_NAN, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308, *payload])
        samples = SampleBlock(
            ts_ms=START_MS + np.arange(len(values), dtype=np.int64), values=values, offsets=np.array([0, len(values)], np.int64)
        )
        whole = batch(series=records("a"), late={0: [(START_MS - 1, STALE_NAN)]})
        await store.write(
            FlushBatch(
                new_series=whole.new_series,
                chunks=[SampleChunk(refs=np.array([0], np.int32), samples=samples)],
                late_refs=whole.late_refs,
                late_ts_ms=whole.late_ts_ms,
                late_values=whole.late_values,
                position=whole.position,
            )
        )
        block = await store.read(np.array([0], np.int32), 0, 2**52)
        np.testing.assert_array_equal(block.values.view(np.uint64), np.append([STALE_NAN], values).view(np.uint64))

    async def test_series_come_back_with_labels_and_times(self, stores: Stores) -> None:
        store = await stores()
        odd = labels({"__name__": "ünit:total", "quote": 'a"b\\c\n', "héllo.wörld": "✓", "empty_after": " "})
        series = [SeriesRecord(ref=3, labels=up("a")), SeriesRecord(ref=5, labels=odd), SeriesRecord(ref=9, labels=up("b"))]
        await store.write(batch({3: [(START_MS, 1.0), (START_MS + 9, 1.0)], 5: [(START_MS + 2, 1.0)]}, series=series))
        await store.write(batch({3: [(START_MS + 20, 1.0)]}, late={5: [(START_MS - 7, 0.0)]}, position=(1, 16)))
        again = await stores()
        assert [(s.ref, s.labels, s.min_time_ms, s.max_time_ms) for s in await loaded(again)] == [
            (3, up("a"), START_MS, START_MS + 20),
            (5, odd, START_MS - 7, START_MS + 2),
            (9, up("b"), None, None),
        ]
        assert await read(again, [3, 5]) == [
            [(START_MS, 1.0), (START_MS + 9, 1.0), (START_MS + 20, 1.0)],
            [(START_MS - 7, 0.0), (START_MS + 2, 1.0)],
        ]

    async def test_late_samples_replace_or_join_what_is_stored(self, stores: Stores) -> None:
        store = await stores()
        await store.write(
            batch({0: [(START_MS + k * 10, float(k)) for k in range(4)], 1: [(START_MS + 10, 1.0)]}, series=records("a", "b"))
        )
        await store.write(batch(late={0: [(START_MS + 10, 100.0), (START_MS + 15, 200.0)]}, position=(1, 16)))
        assert await read(store, [0, 1]) == [
            [(START_MS, 0.0), (START_MS + 10, 100.0), (START_MS + 15, 200.0), (START_MS + 20, 2.0), (START_MS + 30, 3.0)],
            [(START_MS + 10, 1.0)],
        ]
        assert (await store.stats()).samples == 6

    async def test_the_position_is_stored_with_the_samples(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch(series=records("a"), position=(1, 8)))
        await store.write(batch({0: [(START_MS, 1.0)]}, position=(7, 123_456_789_012)))
        assert await (await stores()).load_position() == WalPosition(segment=7, offset=123_456_789_012)

    async def test_a_write_that_fails_half_way_leaves_nothing(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a"), position=(1, 8)))
        good = batch({0: [(START_MS + 1, 2.0)]}, series=[SeriesRecord(ref=1, labels=up("b"))], position=(2, 8))

        def chunks() -> Iterator[SampleChunk]:
            yield from good.chunks
            raise StorageError("no more samples")

        with pytest.raises(StorageError, match="no more samples"):
            await store.write(
                FlushBatch(
                    new_series=good.new_series,
                    chunks=chunks(),
                    late_refs=good.late_refs,
                    late_ts_ms=good.late_ts_ms,
                    late_values=good.late_values,
                    position=good.position,
                )
            )
        assert await store.load_position() == WalPosition(segment=1, offset=8)
        assert [s.ref for s in await loaded(store)] == [0]
        assert await read(store, [0]) == [[(START_MS, 1.0)]]
        await store.write(good)
        assert await read(store, [0]) == [[(START_MS, 1.0), (START_MS + 1, 2.0)]]

    async def test_metadata_keeps_the_newest(self, stores: Stores) -> None:
        store = await stores()
        old = Metadata(metric="up", type="gauge", help="old")
        new = Metadata(metric="up", type="counter", help='new "help"\n', unit="s")
        other = Metadata(metric="down", type="unknown", help="")
        await store.write(batch(metadata=[old, other]))
        await store.write(batch(metadata=[new], position=(1, 16)))
        assert await (await stores()).load_metadata() == [other, new]

    async def test_a_series_that_is_announced_again_is_kept_once(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
        await store.write(batch({0: [(START_MS + 1, 1.0)]}, series=records("a"), position=(1, 16)))
        assert [(s.ref, s.labels, s.max_time_ms) for s in await loaded(store)] == [(0, up("a"), START_MS + 1)]

    async def test_retention_forgets_old_samples_and_no_series(self, stores: Stores) -> None:
        store = await stores()
        old, new = START_MS - 40 * DAY_MS, START_MS
        await store.write(batch({0: [(old, 1.0)], 1: [(old, 1.0)]}, series=records("a", "b", "c")))
        await store.write(batch({1: [(new, 2.0)], 2: [(new, 3.0)]}, position=(1, 16)))
        await store.delete_before(START_MS - 10 * DAY_MS)
        assert await read(store, [0, 1, 2]) == [[], [(new, 2.0)], [(new, 3.0)]]
        assert [s.ref for s in await loaded(store)] == [0, 1, 2]

    async def test_deleted_series_are_gone_until_they_are_announced_again(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({1: [(START_MS, 2.0)]}, series=records("a", "b", "c")))
        await store.delete_series(np.array([0, 2], np.int32))
        assert [s.ref for s in await loaded(store)] == [1]
        await store.write(batch({2: [(START_MS, 3.0)]}, series=records("a", "b", "c")[2:], position=(1, 16)))
        assert [(s.ref, s.min_time_ms) for s in await loaded(store)] == [(1, START_MS), (2, START_MS)]

    async def test_the_ref_of_a_deleted_series_may_go_to_another(self, stores: Stores) -> None:
        store = await stores()
        samples = {ref: [(FLOOR_MS + k * 100_000, 1.0) for k in range(1, 150)] for ref in range(2)}
        exemplars = [(ref, FLOOR_MS + 1, 1.0, "{}") for ref in range(2)]
        written = batch(samples, series=records("a", "b"), exemplars=exemplars)
        await store.write(replace(written, marks=lambda reached: marks((0, FLOOR_MS, FLOOR_MS + 1), (1, FLOOR_MS, FLOOR_MS + 1))))
        await store.write_tiers(tier_batch(samples, Watermark.at(FLOOR_MS + 5 * HOUR_MS), foreign=await store.foreign_changes()))
        await store.delete_series(np.array([0], np.int32))
        other = [SeriesRecord(ref=0, labels=up("other"))]
        await store.write(batch({0: [(FLOOR_MS + 1, 7.0)]}, series=other, position=(1, 16)))
        assert await read(store, [0, 1]) == [[(FLOOR_MS + 1, 7.0)], samples[1]]
        for resolution in (FIVE_MS, HOUR_MS):
            assert await rows(store, resolution, 0) == []
            assert await rows(store, resolution, 1) == expected_rows(samples[1], resolution)
        assert [row[0] for row in await read_exemplars(store, [0, 1])] == [1]
        assert (await store.load_marks(None)).refs.tolist() == [1]
        assert sorted((s.ref, s.labels, s.min_time_ms) for s in await loaded(store)) == [
            (0, up("other"), FLOOR_MS + 1),
            (1, up("b"), FLOOR_MS + 100_000),
        ]

    async def test_deletions_spare_other_series_other_times_and_the_batch_they_come_with(self, stores: Stores) -> None:
        store = await stores()
        rows = [(START_MS + k * 10, float(k)) for k in range(10)]
        await store.write(batch({0: rows, 1: rows, 2: rows}, series=records("a", "b", "c")))
        gone = [deletion([0, 2], START_MS + 20, START_MS + 40), deletion([2], START_MS + 60, START_MS + 200)]
        late = {0: [(START_MS + 30, -1.0)]}
        await store.write(batch({2: [(START_MS + 95, -2.0)]}, late=late, deletions=gone, position=(1, 16)))
        assert await read(store, [0, 1, 2]) == [
            [*rows[:3], (START_MS + 30, -1.0), *rows[5:]],
            rows,
            [*rows[:3], *rows[5:7], (START_MS + 95, -2.0)],
        ]
        assert [(s.ref, s.max_time_ms) for s in await loaded(store)] == [(0, rows[-1][0]), (1, rows[-1][0]), (2, START_MS + 95)]

    async def test_the_newest_time_is_that_of_what_is_left(self, stores: Stores) -> None:
        store = await stores()
        rows = [(START_MS + k * DAY_MS, float(k)) for k in range(5)]
        await store.write(batch({0: rows, 1: rows}, series=records("a", "b")))
        await store.delete_samples([deletion([0], START_MS + DAY_MS, START_MS + 9 * DAY_MS), deletion([1], -(2**62), 2**62)])
        assert await read(store, [0, 1]) == [rows[:2], []]
        assert [(s.ref, s.max_time_ms) for s in await loaded(store)] == [(0, START_MS + DAY_MS), (1, None)]
        assert (await store.stats()).max_time_ms == START_MS + DAY_MS

    async def test_a_series_that_is_gone_may_come_back_in_the_same_batch(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS, 1.0)]}, series=records("a", "b")))
        everything = deletion([0, 1], -(2**62), 2**62)
        again = {1: [(START_MS + 1, 2.0)]}
        await store.write(batch(again, series=records("a", "b")[1:], deletions=[everything], gone=[0, 1], position=(1, 16)))
        assert [(s.ref, s.max_time_ms) for s in await loaded(store)] == [(1, START_MS + 1)]
        assert await read(store, [0, 1]) == [[], again[1]]

    async def test_scattered_series_of_many_flushes_are_read_in_order(self, stores: Stores) -> None:
        store = await stores()
        series = 300
        for flush in range(3):
            samples = {
                ref: [(START_MS + flush * 1000 + k * 10, float(ref * 1000 + flush * 10 + k)) for k in range(10)] for ref in range(series)
            }
            await store.write(batch(samples, series=records(*map(str, range(series))) if not flush else (), position=(1, 8 + 8 * flush)))
        refs = [299, 3, 150, 7, 288]
        found = await read(store, refs, START_MS + 15, START_MS + 2030)
        for ref, row in zip(refs, found, strict=True):
            times = [START_MS + flush * 1000 + k * 10 for flush in range(3) for k in range(10)]
            wanted = [t for t in times if START_MS + 15 < t <= START_MS + 2030]
            assert [ts for ts, _ in row] == wanted
            assert [value for _, value in row] == [ref * 1000 + (t - START_MS) // 1000 * 10 + (t - START_MS) % 1000 // 10 for t in wanted]
        assert await store.count(np.array(refs, np.int32), START_MS + 15, START_MS + 2030) >= sum(map(len, found))

    async def test_stats_count_what_is_stored(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS, 1.0), (START_MS + 9, 1.0)], 1: [(START_MS + 4, 1.0)]}, series=records("a", "b")))
        stats = await store.stats()
        assert (stats.series, stats.samples, stats.min_time_ms, stats.max_time_ms) == (2, 3, START_MS, START_MS + 9)
        assert stats.bytes > 0

    async def test_days_are_counted(self, stores: Stores) -> None:
        store = await stores()
        assert await store.days() == []
        day = START_MS // DAY_MS * DAY_MS
        early, late = [-1, 0, DAY_MS - 1, DAY_MS], [day + 5, day + 6, day + DAY_MS]
        await store.write(batch({0: [(ts, 1.0) for ts in early], 1: [(ts, 1.0) for ts in late]}, series=records("a", "b")))
        found = [(one.start_ms, one.samples) for one in await store.days()]
        assert found == [(-DAY_MS, 1), (0, 2), (DAY_MS, 1), (day, 2), (day + DAY_MS, 1)]

    async def test_readers_see_whole_flushes_while_one_is_written(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch(series=records("a", "b")))

        async def write_all() -> None:
            for k in range(1, 20):
                await store.write(batch({0: [(START_MS + k, 1.0)], 1: [(START_MS + k, 1.0)]}, position=(1, 8 + 8 * k)))

        writing = asyncio.create_task(write_all())
        while not writing.done():
            first, second = await read(store, [0, 1])
            assert first == second
        await writing
        assert len((await read(store, [0]))[0]) == 19

    async def test_exemplars_are_read_back(self, stores: Stores) -> None:
        store = await stores()
        odd = label_text({"trace_id": 'a"b\\c\n\0', "ünit": "✓"}.items())
        rows = [(0, START_MS, 1.5, odd), (0, START_MS + 7, float("nan"), "{}"), (1, START_MS + 7, -0.5, '{"trace_id":"x"}')]
        await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a", "b"), exemplars=rows))
        again = await stores()
        assert await read_exemplars(again, [0]) == [(0, START_MS, "1.5", odd), (0, START_MS + 7, "nan", "{}")]
        assert await read_exemplars(again, [1, 0, 9], START_MS, START_MS + 7) == [
            (0, START_MS + 7, "nan", "{}"),
            (1, START_MS + 7, "-0.5", '{"trace_id":"x"}'),
        ]
        assert await read_exemplars(again, [0, 1], START_MS + 7) == []
        assert await read_exemplars(again, []) == []

    async def test_an_exemplar_is_stored_once(self, stores: Stores) -> None:
        store = await stores()
        row, later = (0, START_MS, 1.0, '{"a":"1","b":"2"}'), (0, START_MS + 1, 1.0, '{"a":"1","b":"2"}')
        other, number = (0, START_MS, 1.0, '{"a":"1"}'), (0, START_MS, float("nan"), "{}")
        await store.write(batch(series=records("a"), exemplars=[row, later, number]))
        await store.write(batch(exemplars=[later, row, other, row, number], position=(1, 16)))
        assert await read_exemplars(store, [0]) == sorted((r, t, repr(v), text) for r, t, v, text in (row, later, other, number))

    async def test_of_too_many_exemplars_the_newest_are_read(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch(series=records("a", "b"), exemplars=[(k % 2, START_MS + k, 1.0, "{}") for k in range(20)]))
        assert [row[1] - START_MS for row in await read_exemplars(store, [1], limit=3)] == [15, 17, 19]

    async def test_exemplars_go_with_retention_and_with_their_series(self, stores: Stores) -> None:
        store = await stores()
        rows = [(ref, START_MS + day * DAY_MS, 1.0, "{}") for ref in range(3) for day in (0, 5)]
        await store.write(batch(series=records("a", "b", "c"), exemplars=rows))
        await store.delete_before(START_MS + 5 * DAY_MS)
        assert [row[:2] for row in await read_exemplars(store, [0, 1, 2])] == [(ref, START_MS + 5 * DAY_MS) for ref in range(3)]
        await store.delete_series(np.array([0, 2], np.int32))
        await store.write(batch(series=records("a", "b", "c"), position=(1, 16)))
        assert [row[0] for row in await read_exemplars(store, [0, 1, 2])] == [1]

    async def test_exemplars_of_a_write_that_fails_are_not_kept(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch(series=records("a")))

        def chunks() -> Iterator[SampleChunk]:
            yield from ()
            raise StorageError("no samples")

        failing = replace(batch(exemplars=[(0, START_MS, 1.0, "{}")], position=(1, 16)), chunks=chunks())
        with pytest.raises(StorageError, match="no samples"):
            await store.write(failing)
        assert await read_exemplars(store, [0]) == []

    async def test_rows_of_tiers_are_read_back_with_the_columns_asked_for(self, stores: Stores) -> None:
        store = await stores()
        assert await store.load_tier_state() == TierState()
        samples = {ref: [(FLOOR_MS + k * 100_000 + ref, float(k % 5 * ref)) for k in range(1, 80)] for ref in range(3)}
        await store.write(batch(samples, series=records("a", "b", "c")))
        watermark = Watermark(upto_ms=FLOOR_MS, next_ms=FLOOR_MS + 3 * HOUR_MS, next_ref=2)
        await store.write_tiers(tier_batch(samples, watermark, foreign=await store.foreign_changes()))
        store = await stores()
        assert (await store.load_tier_state()).watermark == watermark
        for resolution in (FIVE_MS, HOUR_MS):
            for ref in range(3):
                assert await rows(store, resolution, ref) == expected_rows(samples[ref], resolution)
        inside = await rows(store, FIVE_MS, 1, FLOOR_MS + FIVE_MS, FLOOR_MS + 3 * FIVE_MS)
        assert [row[0] for row in inside] == [FLOOR_MS + 2 * FIVE_MS, FLOOR_MS + 3 * FIVE_MS]
        refs = np.array([2, 7, 0], np.int32)
        parts = await store.read_tier(HOUR_MS, refs, 0, 2**52, TierColumn.SUM | TierColumn.STALE)
        for part in parts:
            assert set(part.columns) == {"ends_ms", "sums", "stale"}
        assert {0, 2} <= {ref for part in parts for ref in part.refs.tolist()}
        assert await rows(store, HOUR_MS, 7) == []

    async def test_every_bit_of_a_row_survives(self, stores: Stores) -> None:
        store = await stores()
        samples = {
            0: [(FLOOR_MS + 1, math.inf), (FLOOR_MS + 2, -0.0), (FLOOR_MS + FIVE_MS + 1, math.nan), (FLOOR_MS + 2 * FIVE_MS, STALE_NAN)]
        }
        samples[0].append((FLOOR_MS + 2 * FIVE_MS + 1, STALE_NAN))
        await store.write(batch(samples, series=records("a")))
        await store.write_tiers(tier_batch(samples, Watermark.at(FLOOR_MS + HOUR_MS), foreign=await store.foreign_changes()))
        assert str(await rows(store, FIVE_MS, 0)) == str(expected_rows(samples[0], FIVE_MS))

    async def test_rows_are_replaced_in_the_times_that_are_named(self, stores: Stores) -> None:
        store = await stores()
        samples = {ref: [(FLOOR_MS + k * 600_000, 1.0 + ref) for k in range(1, 19)] for ref in range(2)}
        await store.write(batch(samples, series=records("a", "b")))
        watermark = Watermark.at(FLOOR_MS + 3 * HOUR_MS)
        await store.write_tiers(tier_batch(samples, watermark, foreign=await store.foreign_changes()))
        changed = {0: [(FLOOR_MS + HOUR_MS + 1, 9.0)]}
        again = marks((0, FLOOR_MS + HOUR_MS, FLOOR_MS + 2 * HOUR_MS))
        for _ in range(2):
            await store.write_tiers(tier_batch(changed, watermark, foreign=await store.foreign_changes(), replaced=again))
        kept = [(ts, value) for ts, value in samples[0] if not FLOOR_MS + HOUR_MS < ts <= FLOOR_MS + 2 * HOUR_MS]
        for resolution in (FIVE_MS, HOUR_MS):
            assert await rows(store, resolution, 0) == expected_rows(sorted(kept + changed[0]), resolution)
            assert await rows(store, resolution, 1) == expected_rows(samples[1], resolution)

    async def test_marks_are_kept_with_the_flush_until_they_are_done(self, stores: Stores) -> None:
        store = await stores()
        given = marks((1, FLOOR_MS + 5, FLOOR_MS + 7), (0, FLOOR_MS, FLOOR_MS + 1), (1, FLOOR_MS + 5, FLOOR_MS + 8))
        await store.write(replace(batch({0: [(START_MS, 1.0)]}, series=records("a", "b")), marks=lambda reached: given))
        store = await stores()
        found = await store.load_marks(None)
        assert sorted(zip(found.refs.tolist(), found.start_ms.tolist(), found.end_ms.tolist(), strict=True)) == [
            (0, FLOOR_MS, FLOOR_MS + 1),
            (1, FLOOR_MS + 5, FLOOR_MS + 7),
            (1, FLOOR_MS + 5, FLOOR_MS + 8),
        ]
        assert (await store.load_marks(1)).refs.tolist() == [0]
        done = marks((1, FLOOR_MS + 5, FLOOR_MS + 7), (0, FLOOR_MS, FLOOR_MS + 1))
        await store.write_tiers(tier_batch({}, Watermark.at(FLOOR_MS), foreign=await store.foreign_changes(), done=done))
        left = await store.load_marks(None)
        assert (left.refs.tolist(), left.end_ms.tolist()) == ([1], [FLOOR_MS + 8])

    async def test_a_deletion_takes_the_rows_of_all_buckets_it_touches(self, stores: Stores) -> None:
        store = await stores()
        samples = {ref: [(FLOOR_MS + k * 100_000, 1.0) for k in range(1, 150)] for ref in range(2)}
        await store.write(batch(samples, series=records("a", "b")))
        await store.write_tiers(tier_batch(samples, Watermark.at(FLOOR_MS + 5 * HOUR_MS), foreign=await store.foreign_changes()))
        start, end = FLOOR_MS + HOUR_MS + 400_000, FLOOR_MS + 3 * HOUR_MS
        await store.delete_samples([Deletion(refs=np.array([0], np.int32), start_ms=start, end_ms=end)])
        for resolution in (FIVE_MS, HOUR_MS):
            whole = expected_rows(samples[0], resolution)
            ends = [row[0] for row in whole if isinstance(row[0], int) and (row[0] <= start or row[0] - resolution >= end)]
            assert [row[0] for row in await rows(store, resolution, 0)] == ends
            assert await rows(store, resolution, 1) == expected_rows(samples[1], resolution)
        left = await store.load_marks(None)
        assert list(zip(left.refs.tolist(), left.start_ms.tolist(), left.end_ms.tolist(), strict=True)) == [(0, FLOOR_MS + HOUR_MS, start)]

    async def test_series_whose_samples_are_gone_keep_the_times_of_their_rows(self, stores: Stores) -> None:
        store = await stores()
        old, new = FLOOR_MS - 40 * DAY_MS, FLOOR_MS
        await store.write(batch({0: [(old + 1, 1.0), (new + 1, 2.0)]}, series=records("a")))
        await store.write_tiers(tier_batch({0: [(old + 1, 1.0)]}, Watermark.at(new), foreign=await store.foreign_changes()))
        await store.delete_before(new - 10 * DAY_MS)
        await store.delete_samples([Deletion(refs=np.array([0], np.int32), start_ms=new, end_ms=new + HOUR_MS)])
        assert [(s.min_time_ms, s.max_time_ms) for s in await loaded(store)] == [(old + 1, old + 1)]
        assert len(await rows(store, HOUR_MS, 0)) == 1

    async def test_each_tier_is_forgotten_by_its_own_retention(self, stores: Stores) -> None:
        store = await stores()
        old, new = FLOOR_MS - 100 * DAY_MS, FLOOR_MS
        samples = {0: [(old, 1.0), (new, 2.0)]}
        await store.write(batch(samples, series=records("a")))
        await store.write_tiers(tier_batch(samples, Watermark.at(new), foreign=await store.foreign_changes()))
        await store.delete_tier_before(FIVE_MS, new - 50 * DAY_MS)
        assert [row[0] for row in await rows(store, FIVE_MS, 0)] == [new]
        assert [row[0] for row in await rows(store, HOUR_MS, 0)] == [old, new]

    async def test_flushes_tell_what_they_changed(self, stores: Stores) -> None:
        store = await stores()
        first = await store.load_flushes(0)
        assert (first.last, first.records) == (store.followed, ())
        change = StoredChange(metric="it's \0 \u20ac", start_ms=-5, end_ms=START_MS)
        await store.write(replace(batch({0: [(START_MS, 1.0)]}, series=records("a")), changes=lambda: (change,)))
        await store.write(replace(batch({0: [(START_MS + 1, 1.0)]}, position=(1, 16)), changes=lambda: ()))
        news = await store.load_flushes(first.last)
        assert [(each.number, each.own, each.changes) for each in news.records] == [
            (first.last + 1, True, (change,)),
            (first.last + 2, True, ()),
        ]
        assert store.followed == news.last == first.last + 2
        assert len({each.token for each in news.records}) == 2
        assert (await store.load_flushes(news.last)).records == ()
        await store.delete_before(START_MS + 1)
        (deleted,) = (await store.load_flushes(news.last)).records
        assert [(each.metric, each.end_ms) for each in deleted.changes] == [(None, START_MS)]
        assert [(each.metric, each.end_ms) for each in (await store.load_flushes(news.last)).disputes] == [(None, START_MS)]
        again = await stores()
        assert (await again.load_flushes(first.last)).records == (*news.records, deleted)
        assert again.database == store.database != ""
        await loaded(again)
        assert again.followed == deleted.number

    async def test_deletions_of_retention_are_told_as_changes_and_as_disputes(self, stores: Stores) -> None:
        store = await stores()
        await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
        before = store.followed
        await store.delete_samples([deletion([0], -DAY_MS, START_MS)])
        news = await store.load_flushes(before)
        assert news.records[-1].changes[0].end_ms == START_MS
        assert max(each.end_ms for each in news.disputes) == START_MS

    async def test_closing_twice_is_once(self, stores: Stores) -> None:
        store = await stores()
        await store.close()
        await store.close()
        with pytest.raises(StorageError):
            await loaded(store)


__all__ = ["StoreSuite", "Stores", "batch", "deletion", "loaded", "read", "records", "unpacked", "up"]
