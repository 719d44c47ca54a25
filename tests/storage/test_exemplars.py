"""Exemplars through storage: acknowledged ones are found, once, whenever the process ends."""

import shutil
from collections.abc import Sequence

import numpy as np
import pytest

from promlike.errors import RejectReason, SampleRejected, StorageUnavailable, StoreAway
from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars, label_text
from promlike.model.labels import labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.access import AppendResult
from promlike.storage.exemplar_buffer import ExemplarBuffer
from promlike.storage.store import FlushBatch, Store
from promlike.storage.wal_records import decode_exemplars, encode_exemplars
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches
from tests.storage.test_recovery import Delegate

TRACE = '{"trace_id":"abc"}'
DAY_MS = 86_400_000

Found = dict[str, list[tuple[int, float, str]]]


async def append(bench: Bench, rows: Sequence[tuple[str, int, float, str]]) -> AppendResult:
    return await bench.storage.append_exemplars(
        Exemplars.of([(bench.ref(instance), ts, value, text) for instance, ts, value, text in rows])
    )


async def found(bench: Bench, start_ms: int = 0, end_ms: int = 2**53) -> Found:
    selection = await bench.storage.exemplars([EVERYTHING], start_ms=start_ms, end_ms=end_ms)
    return {
        dict(one.labels)["instance"]: list(
            zip(one.exemplars.ts_ms.tolist(), one.exemplars.values.tolist(), one.exemplars.labels, strict=True)
        )
        for one in selection.series
    }


def test_a_record_of_the_log_is_read_back() -> None:
    rows = [(0, NOW_MS, np.nan, "{}"), (7, -5, 1.5, '{"ünit":"✓"}'), (3, 2**62, -0.0, TRACE)]
    record = encode_exemplars(Exemplars.of(rows))
    again = decode_exemplars(memoryview(record)[16:])
    assert list(again.identities()) == list(Exemplars.of(rows).identities())


async def test_exemplars_survive_every_kind_of_restart(benches: Benches) -> None:
    bench = await benches()
    await append(bench, [("a", NOW_MS - 5, 1.0, TRACE), ("b", NOW_MS, 2.0, "{}"), ("a", NOW_MS - 9, 3.0, "{}")])
    wanted = {"a": [(NOW_MS - 9, 3.0, "{}"), (NOW_MS - 5, 1.0, TRACE)], "b": [(NOW_MS, 2.0, "{}")]}
    assert await found(bench) == wanted
    crashed = shutil.copytree(bench.folder, bench.folder.with_name("crashed"))
    await bench.storage.flush()
    assert bench.storage.gauges.unflushed_exemplars == (0, 0)
    assert await found(bench) == wanted
    flushed = shutil.copytree(bench.folder, bench.folder.with_name("flushed"))
    await bench.reopen()
    assert await found(bench) == wanted
    for folder, waiting in ((crashed, (3, 2)), (flushed, (0, 0))):
        again = await benches(folder=folder)
        assert again.storage.gauges.unflushed_exemplars == waiting
        assert await found(again) == wanted
        await again.reopen()
        assert await found(again) == wanted


async def test_a_replayed_log_of_exemplars_alone_reaches_the_store(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.flush()
    await append(bench, [("a", NOW_MS, 1.0, TRACE)])
    again = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    await again.reopen()
    assert again.storage.gauges.unflushed_exemplars == (0, 0)
    assert await found(again) == {"a": [(NOW_MS, 1.0, TRACE)]}


async def test_an_exemplar_is_kept_once_before_and_after_a_flush(benches: Benches) -> None:
    bench = await benches()
    row = ("a", NOW_MS, 1.0, TRACE)
    assert await append(bench, [row, row]) == AppendResult(appended=1, duplicates=1)
    assert await append(bench, [row]) == AppendResult(appended=0, duplicates=1)
    await bench.storage.flush()
    await append(bench, [row, ("a", NOW_MS, 2.0, TRACE)])
    wanted = {"a": [(NOW_MS, 1.0, TRACE), (NOW_MS, 2.0, TRACE)]}
    assert await found(bench) == wanted
    await bench.reopen()
    assert await found(bench) == wanted


async def test_the_range_is_open_at_its_start(benches: Benches) -> None:
    bench = await benches()
    await append(bench, [("a", NOW_MS + k, float(k), "{}") for k in range(4)])
    for _ in range(2):
        assert await found(bench, NOW_MS, NOW_MS + 2) == {"a": [(NOW_MS + 1, 1.0, "{}"), (NOW_MS + 2, 2.0, "{}")]}
        await bench.storage.flush()


async def test_times_out_of_bounds_are_refused_and_counted(benches: Benches) -> None:
    bench = await benches(retention_ms=DAY_MS)
    result = await append(bench, [("a", NOW_MS - 2 * DAY_MS, 1.0, "{}"), ("a", NOW_MS, 1.0, "{}"), ("a", NOW_MS + DAY_MS, 1.0, "{}")])
    assert (result.appended, result.rejected) == (1, 2)
    assert result.refusal.startswith('{__name__="up", instance="a"} at 2023-11-12T')
    assert bench.storage.counters.exemplars_rejected == {RejectReason.TOO_OLD: 1, RejectReason.TOO_FAR_IN_FUTURE: 1}
    assert await found(bench) == {"a": [(NOW_MS, 1.0, "{}")]}


async def test_retention_hides_exemplars_at_once_and_deletes_them_later(benches: Benches) -> None:
    bench = await benches(retention_ms=DAY_MS)
    await append(bench, [("a", NOW_MS, 1.0, "{}"), ("a", NOW_MS + 1000, 1.0, "{}")])
    await bench.storage.flush()
    bench.clock[0] = NOW_MS + DAY_MS + 500
    assert await found(bench) == {"a": [(NOW_MS + 1000, 1.0, "{}")]}
    await bench.storage.enforce_retention()
    bench.clock[0] = NOW_MS
    assert await found(bench) == {"a": [(NOW_MS + 1000, 1.0, "{}")]}


async def test_only_matching_series_are_given(benches: Benches) -> None:
    bench = await benches()
    await append(bench, [(instance, NOW_MS, 1.0, "{}") for instance in "abc"])
    sets = [(Matcher("instance", MatchOp.EQUAL, "c"),), (Matcher("instance", MatchOp.REGEX, "a|c"),)]
    selection = await bench.storage.exemplars(sets, start_ms=0, end_ms=2**53)
    assert [one.labels for one in selection.series] == [labels({"__name__": "up", "instance": instance}) for instance in "ac"]
    assert not selection.is_cut
    assert (await bench.storage.exemplars([], start_ms=0, end_ms=2**53)).series == []


async def test_of_more_than_the_maximum_the_newest_are_given(benches: Benches) -> None:
    bench = await benches(max_exemplars=8)
    for k in range(20):
        await append(bench, [("a", NOW_MS + k, 1.0, "{}")])
        await bench.storage.flush()
    selection = await bench.storage.exemplars([EVERYTHING], start_ms=0, end_ms=2**53)
    assert selection.is_cut
    assert selection.series[0].exemplars.ts_ms.tolist() == [NOW_MS + k for k in range(12, 20)]


async def test_a_maximum_of_zero_keeps_none(benches: Benches) -> None:
    bench = await benches()
    await append(bench, [("a", NOW_MS, 1.0, "{}")])
    bench.storage.max_exemplars = 0
    assert await append(bench, [("a", NOW_MS + 1, 1.0, "{}")]) == AppendResult(appended=0)
    assert await found(bench) == {}
    bench.storage.max_exemplars = 10
    assert await found(bench) == {"a": [(NOW_MS, 1.0, "{}")]}


async def test_exemplars_of_deleted_samples_go_with_them(benches: Benches) -> None:
    """Those in memory, those that the store is to delete yet, and those of a log that is replayed; what comes later stays."""
    bench = await benches()
    wanted = {"a": [(NOW_MS - 10, 1.0, "{}"), (NOW_MS - 5, 9.0, "{}")], "b": [(NOW_MS - 5, 3.0, "{}")]}
    await bench.append([("a", NOW_MS - 10, 1.0), ("a", NOW_MS - 5, 1.0), ("b", NOW_MS - 5, 1.0)])
    await append(bench, [("a", NOW_MS - 10, 1.0, "{}"), ("a", NOW_MS - 5, 2.0, "{}"), ("b", NOW_MS - 5, 3.0, "{}")])
    await bench.storage.flush()
    await append(bench, [("a", NOW_MS - 4, 4.0, "{}")])
    await bench.storage.delete_series([(Matcher("instance", MatchOp.EQUAL, "a"),)], start_ms=NOW_MS - 6, end_ms=NOW_MS)
    await append(bench, [("a", NOW_MS - 5, 9.0, "{}")])
    seen = await found(bench)
    assert seen["b"] == wanted["b"]
    assert (NOW_MS - 5, 2.0, "{}") not in seen["a"]
    assert (NOW_MS - 4, 4.0, "{}") not in seen["a"]
    crashed = shutil.copytree(bench.folder, bench.folder.with_name("crashed"))
    await bench.reopen()
    assert await found(bench) == wanted
    again = await benches(folder=crashed)
    await again.storage.flush()
    assert await found(again) == wanted


async def test_deleted_exemplars_are_not_seen_while_a_flush_deletes_them(benches: Benches) -> None:
    bench: Bench

    class Overtaken(Delegate):
        """A flush is over before the answer to a question has come back."""

        async def read_exemplars(self, refs: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
            answer = await self.store.read_exemplars(refs, start_ms, end_ms, limit)
            await bench.storage.flush()
            return answer

    bench = await benches(wrap=Overtaken)
    await bench.append([("a", NOW_MS, 1.0), ("a", NOW_MS - 100, 1.0)])
    await append(bench, [("a", NOW_MS, 1.0, TRACE), ("a", NOW_MS - 100, 2.0, TRACE)])
    await bench.storage.flush()
    await bench.storage.delete_series([EVERYTHING], start_ms=NOW_MS - 1, end_ms=NOW_MS)
    assert await found(bench) == {"a": [(NOW_MS - 100, 2.0, TRACE)]}


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_series_that_has_exemplars_alone_can_be_deleted(benches: Benches, flushed: bool) -> None:
    bench = await benches()
    await append(bench, [("a", NOW_MS - 10, 1.0, "{}"), ("a", NOW_MS, 2.0, "{}"), ("b", NOW_MS, 3.0, "{}")])
    if flushed:
        await bench.storage.flush()
    only = [(Matcher("instance", MatchOp.EQUAL, "a"),)]
    assert await bench.storage.delete_series(only, start_ms=NOW_MS - 5, end_ms=NOW_MS) == 1
    wanted: Found = {"a": [(NOW_MS - 10, 1.0, "{}")], "b": [(NOW_MS, 3.0, "{}")]}
    assert await found(bench) == wanted
    crashed = shutil.copytree(bench.folder, bench.folder.with_name("crashed"))
    await bench.reopen()
    assert await found(bench) == wanted
    again = await benches(folder=crashed)
    assert await found(again) == wanted
    for each in (bench, again):
        assert await each.storage.delete_series(only, start_ms=-(2**53), end_ms=2**53) == 1
        assert await found(each) == {"b": wanted["b"]}
        await each.reopen()
        assert await found(each) == {"b": wanted["b"]}
        await append(each, [("a", NOW_MS, 4.0, "{}")])
        assert await found(each) == {"a": [(NOW_MS, 4.0, "{}")], "b": wanted["b"]}


async def test_exemplars_in_memory_that_are_newer_than_the_samples_are_deleted(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 10, 1.0)])
    await append(bench, [("a", NOW_MS - 10, 1.0, "{}"), ("a", NOW_MS, 2.0, "{}")])
    assert await bench.storage.delete_series([EVERYTHING], start_ms=NOW_MS - 5, end_ms=NOW_MS) == 1
    assert await found(bench) == {"a": [(NOW_MS - 10, 1.0, "{}")]}
    await bench.reopen()
    assert await found(bench) == {"a": [(NOW_MS - 10, 1.0, "{}")]}
    assert await bench.select()


class Absent(Delegate):
    """A store that does not answer for exemplars."""

    async def read_exemplars(self, *_: object) -> Exemplars:
        raise StoreAway("gone fishing")


async def test_while_the_store_is_away_those_in_memory_are_given(benches: Benches) -> None:
    bench = await benches(wrap=Absent)
    await append(bench, [("a", NOW_MS, 1.0, "{}")])
    await bench.storage.flush()
    await append(bench, [("a", NOW_MS + 1, 2.0, "{}")])
    selection = await bench.storage.exemplars([EVERYTHING], start_ms=0, end_ms=2**53)
    assert [one.exemplars.values.tolist() for one in selection.series] == [[2.0]]
    assert selection.warnings == ("the answer lacks exemplars that are not in memory any more: gone fishing",)


class Failing(Delegate):
    """A store whose writes fail while it is told so, before or after they were committed."""

    fails = ""

    async def write(self, batch: FlushBatch) -> None:
        if self.fails == "before":
            raise StorageUnavailable("away")
        await super().write(batch)
        if self.fails == "after":
            raise StorageUnavailable("the answer was lost")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_flush_that_fails_neither_loses_nor_doubles(benches: Benches, when: str) -> None:
    stores: list[Failing] = []

    def wrap(store: Store) -> Store:
        stores.append(Failing(store))
        return stores[-1]  # type: ignore[return-value]  # everything else is the store's own

    bench = await benches(wrap=wrap)
    await append(bench, [("a", NOW_MS, 1.0, "{}")])
    stores[-1].fails = when
    try:
        await bench.storage.flush()
        assert when == "after"
    except StorageUnavailable:
        assert when == "before"
    assert await found(bench) == {"a": [(NOW_MS, 1.0, "{}")]}
    stores[-1].fails = ""
    await append(bench, [("a", NOW_MS + 1, 1.0, "{}")])
    await bench.storage.flush()
    assert await found(bench) == {"a": [(NOW_MS, 1.0, "{}"), (NOW_MS + 1, 1.0, "{}")]}
    await bench.reopen()
    assert await found(bench) == {"a": [(NOW_MS, 1.0, "{}"), (NOW_MS + 1, 1.0, "{}")]}


def rows(first: int, count: int) -> Exemplars:
    return Exemplars.of([(k, NOW_MS + k, 1.0, "{}") for k in range(first, first + count)])


def test_a_full_buffer_drops_the_oldest() -> None:
    buffer = ExemplarBuffer(80)
    assert buffer.append(rows(0, 80)) == (80, 0)
    assert buffer.append(rows(80, 1)) == (1, 11)
    assert len(buffer) == buffer.waiting == 70
    assert buffer.read(np.arange(200, dtype=np.int32), 0, 2**60).refs.tolist() == list(range(11, 81))
    assert buffer.append(rows(0, 5)) == (5, 0)  # what was dropped is new again
    assert buffer.series == 75


def test_what_a_flush_has_taken_stays_readable_until_it_is_stored() -> None:
    buffer = ExemplarBuffer(100)
    everyone = np.arange(200, dtype=np.int32)
    buffer.append(rows(0, 10))
    assert len(buffer.begin()) == 10
    buffer.append(rows(5, 10))
    assert buffer.read(everyone, 0, 2**60).refs.tolist() == list(range(15))
    buffer.not_flushed()
    assert len(buffer.begin()) == 15
    buffer.append(rows(15, 1))
    buffer.flushed()
    assert buffer.read(everyone, 0, 2**60).refs.tolist() == [15]
    assert buffer.delete(np.array([15], np.int32), NOW_MS + 15, NOW_MS + 20) == 0
    assert buffer.delete(np.array([15], np.int32), NOW_MS + 14, NOW_MS + 15) == 1
    assert len(buffer) == 0


LABELS = [
    ({}, "{}"),
    ({"trace_id": "abc", "span": ""}, '{"trace_id":"abc"}'),
    ({"b": "2", "a": "1"}, '{"a":"1","b":"2"}'),
    ({"ü": "✓" * 127}, '{"ü":"' + "✓" * 127 + '"}'),
]


@pytest.mark.parametrize(("pairs", "text"), LABELS)
def test_labels_as_text(pairs: dict[str, str], text: str) -> None:
    assert label_text(pairs.items()) == text


REFUSED = [
    ([("", "x")], RejectReason.INVALID_LABEL_NAME, "an exemplar's label has no name"),
    ([("a", "1"), ("b", ""), ("a", "2")], RejectReason.DUPLICATE_LABEL_NAME, 'an exemplar has the label "a" twice'),
    (
        [("trace_id", "✓" * 121)],
        RejectReason.EXEMPLAR_LABELS_TOO_LONG,
        'the labels of an exemplar have 129 characters (limit 128), the first is "trace_id"',
    ),
]


@pytest.mark.parametrize(("pairs", "reason", "text"), REFUSED)
def test_refused_labels(pairs: list[tuple[str, str]], reason: RejectReason, text: str) -> None:
    with pytest.raises(SampleRejected) as caught:
        label_text(pairs)
    assert (caught.value.reason, str(caught.value)) == (reason, text)
