"""Storage from outside: selection, look-ups, limits, retention."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promlike.errors import NotReady, RejectReason, SampleRejected, StorageUnavailable, TooManySamples
from promlike.model.labels import labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.access import AppendResult, Metadata, SelectRequest
from promlike.storage.limits import MOST_METRIC_BYTES
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.store import Store
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches, answer, new_storage

HOUR_MS = 3_600_000


def instance(value: str) -> tuple[Matcher, ...]:
    return (Matcher("instance", MatchOp.EQUAL, value),)


async def test_a_selection_answers_all_requests_in_their_order(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("b", NOW_MS, 1.0), ("a", NOW_MS, 2.0), ("a", NOW_MS - 5, 3.0)])
    requests = [
        SelectRequest(matchers=instance("b"), start_ms=NOW_MS - 1, end_ms=NOW_MS),
        SelectRequest(matchers=EVERYTHING, start_ms=NOW_MS - 5, end_ms=NOW_MS),
        SelectRequest(matchers=instance("nobody"), start_ms=0, end_ms=NOW_MS),
        SelectRequest(matchers=EVERYTHING, start_ms=NOW_MS - 6, end_ms=NOW_MS - 5),
    ]
    selection = await bench.storage.select(requests, max_samples=100)
    assert [[dict(series)["instance"] for series in block.labels.all_labels()] for block in selection.blocks] == [
        ["b"],
        ["a", "b"],
        [],
        ["a"],
    ]
    assert [block.samples.whole().values.tolist() for block in selection.blocks] == [[1.0], [2.0, 1.0], [], [3.0]]
    assert all(block.labels.symbols is selection.symbols for block in selection.blocks)


async def test_labels_that_no_answering_series_has_are_left_out(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    ref = bench.storage.series_ref(labels({"__name__": "up", "zone": "x"}))
    await bench.storage.append(np.array([ref], np.int32), np.array([NOW_MS - 100], np.int64), np.array([1.0]))
    request = SelectRequest(matchers=EVERYTHING, start_ms=NOW_MS - 10, end_ms=NOW_MS)
    block = (await bench.storage.select([request], max_samples=10)).blocks[0]
    assert block.labels.names == ("__name__", "instance")


@pytest.mark.parametrize("flushed", [False, True])
async def test_too_many_samples_are_refused_saying_how_many(benches: Benches, flushed: bool) -> None:
    bench = await benches(head_cache_bytes=0, head_window_ms=0)
    await bench.append([("a", NOW_MS - k * 1000, 1.0) for k in range(100)])
    if flushed:
        await bench.reopen()
    assert len((await bench.select(max_samples=100)).popitem()[1]) == 100
    with pytest.raises(TooManySamples, match=r"100 samples.* 99$"):
        await bench.select(max_samples=99)
    both = [SelectRequest(matchers=EVERYTHING, start_ms=0, end_ms=NOW_MS)] * 2
    with pytest.raises(TooManySamples, match=r"200 samples.* 150$"):
        await bench.storage.select(both, max_samples=150)


async def test_what_memory_let_go_comes_from_the_store(benches: Benches) -> None:
    bench = await benches(head_cache_bytes=0, head_window_ms=HOUR_MS)
    rows = {NOW_MS - k * 60_000: float(k) for k in range(600)}
    await bench.append([("a", ts, value) for ts, value in sorted(rows.items())])
    await bench.append([("b", NOW_MS, 1.0)])
    await bench.storage.flush()
    assert bench.storage.counters.head_blocks_collected > 5
    assert await bench.select() == answer({"a": rows, "b": {NOW_MS: 1.0}})
    await bench.append([("a", NOW_MS - 5 * HOUR_MS, -1.0), ("a", NOW_MS - 5 * HOUR_MS + 1, -2.0)])
    rows |= {NOW_MS - 5 * HOUR_MS: -1.0, NOW_MS - 5 * HOUR_MS + 1: -2.0}
    assert await bench.select() == answer({"a": rows, "b": {NOW_MS: 1.0}})
    await bench.storage.flush()
    assert await bench.select() == answer({"a": rows, "b": {NOW_MS: 1.0}})


async def test_large_selections_run_in_threads_beside_appends(benches: Benches) -> None:
    bench = await benches()
    names = [f"i{k:04d}" for k in range(600)]
    refs = np.array([bench.ref(name) for name in names], np.int32)

    async def write() -> None:
        for k in range(1000):
            await bench.storage.append(refs, np.full(600, NOW_MS - 1_000_000 + k * 1000, np.int64), np.full(600, float(k)))

    writing = asyncio.create_task(write())
    while not writing.done():
        request = SelectRequest(matchers=EVERYTHING, start_ms=0, end_ms=NOW_MS)
        samples = (await bench.storage.select([request], max_samples=10**7)).blocks[0].samples.whole()
        samples.validate()
        lengths = np.diff(samples.offsets)
        assert len(lengths) == 0 or lengths.max() - lengths.min() <= 1
        await asyncio.sleep(0)
    await writing
    assert bench.storage.gauges.unflushed_samples == 600_000


async def test_counts_of_an_append_leave_out_what_is_rejected(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS, future_limit_ms=60_000)
    result = await bench.append(
        [
            ("a", NOW_MS, 1.0),
            ("a", NOW_MS, 1.0),
            ("a", NOW_MS - HOUR_MS, 2.0),
            ("a", NOW_MS - HOUR_MS - 1, 3.0),
            ("a", NOW_MS + 60_001, 4.0),
        ]
    )
    refusal = '{__name__="up", instance="a"} at 2023-11-14T21:13:19.999+00:00: before 2023-11-14T21:13:20.000+00:00, where retention ends'
    assert result == AppendResult(appended=2, duplicates=1, rejected=2, refusal=refusal)
    assert bench.storage.counters.samples_rejected == {RejectReason.TOO_OLD: 1, RejectReason.TOO_FAR_IN_FUTURE: 1}
    ahead = await bench.append([("a", NOW_MS + 2**60, 1.0)])
    assert (ahead.appended, ahead.rejected) == (0, 1)
    assert ahead.refusal.endswith(f"at {NOW_MS + 2**60} ms: after 2023-11-14T22:14:20.000+00:00, too far ahead of now")
    assert await bench.append([]) == AppendResult(appended=0)


async def test_read_only_columns_are_taken(benches: Benches) -> None:
    bench = await benches()
    refs = np.frombuffer(np.array([bench.ref("a")], np.int32).tobytes(), np.int32)
    times = np.frombuffer(np.array([NOW_MS, 0], np.int64).tobytes(), np.int64)[::2]
    assert (await bench.storage.append(refs, times, np.frombuffer(np.array([1.0]).tobytes()))).appended == 1


async def test_an_unknown_ref_is_a_mistake_of_the_caller(benches: Benches) -> None:
    bench = await benches()
    for ref in (-1, 0):
        with pytest.raises(ValueError, match="no such series"):
            await bench.storage.append(np.array([ref], np.int32), np.array([NOW_MS], np.int64), np.array([1.0]))


async def test_limits_refuse_new_series_only(benches: Benches) -> None:
    bench = await benches(max_series=3, max_series_per_metric=2)
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS, 1.0)])
    with pytest.raises(SampleRejected, match=r"2 series .limit 2 per metric") as refused:
        bench.ref("c")
    assert refused.value.reason is RejectReason.TOO_MANY_SERIES
    bench.storage.series_ref(labels({"__name__": "other"}))
    with pytest.raises(SampleRejected, match=r"3 series exist .limit 3"):
        bench.storage.series_ref(labels({"__name__": "third"}))
    assert (await bench.append([("a", NOW_MS + 1, 1.0)])).appended == 1
    assert bench.storage.counters.series_rejected == {RejectReason.TOO_MANY_SERIES: 2}


async def test_the_longest_metric_name_is_stored_and_longer_ones_are_refused(benches: Benches, any_store: Callable[[Path], Store]) -> None:
    """What an index of PostgreSQL cannot hold would make every flush fail."""
    bench = await benches(make=any_store)
    name = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, 682))) + "ab"  # which does not compress
    assert len(name.encode()) == MOST_METRIC_BYTES
    ref = bench.storage.series_ref(labels({"__name__": name}))
    await bench.storage.append(np.array([ref], np.int32), np.array([NOW_MS], np.int64), np.array([1.0]))
    known = Metadata(metric=name, type="gauge", help="", unit="")
    await bench.storage.set_metadata([known, Metadata(metric=name + "c", type="gauge", help="", unit="")])
    with pytest.raises(SampleRejected, match=r"has 2049 bytes .limit 2048") as refused:
        bench.storage.series_ref(labels({"__name__": name + "c"}))
    assert refused.value.reason is RejectReason.METRIC_NAME_TOO_LONG
    await bench.storage.flush()
    await bench.reopen()
    assert list(await bench.select()) == [labels({"__name__": name})]
    assert bench.storage.metadata() == {name: known}


async def test_retention_hides_at_once_and_deletes_later(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS)
    await bench.append([("old", NOW_MS - 1000, 1.0), ("both", NOW_MS - 1000, 2.0)])
    bench.clock[0] += HOUR_MS - 500
    await bench.append([("both", bench.clock[0], 3.0)])
    await bench.storage.flush()
    assert await bench.select() == answer({"both": {bench.clock[0]: 3.0}})
    assert (await bench.storage.label_values("instance", [], start_ms=None, end_ms=None))[0] == ["both"]
    await bench.storage.enforce_retention()
    assert bench.storage.gauges.head_series == 1
    assert bench.storage.counters.series_removed == 1
    assert bench.storage.gauges.min_time_ms is not None
    assert bench.storage.gauges.min_time_ms >= bench.clock[0] - HOUR_MS
    await bench.reopen()
    assert bench.storage.gauges.head_series == 1
    await bench.append([("old", bench.clock[0], 4.0)])
    assert await bench.select(instance("old")) == answer({"old": {bench.clock[0]: 4.0}})


async def test_a_removed_series_is_revived_by_its_ref(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS)
    await bench.append([("old", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    assert bench.storage.gauges.head_series == 0
    await bench.append([("old", bench.clock[0], 2.0)])
    wanted = answer({"old": {bench.clock[0]: 2.0}})
    assert await bench.select() == wanted
    await bench.reopen()
    assert await bench.select() == wanted


async def test_series_and_their_labels_are_listed(benches: Benches) -> None:
    bench = await benches()
    storage = bench.storage
    for k, name in enumerate(["up", "up", "down"]):
        ref = storage.series_ref(labels({"__name__": name, "instance": f"i{k}", f"only{k}": "x"}))
        await storage.append(np.array([ref], np.int32), np.array([NOW_MS + k * 100], np.int64), np.array([1.0]))
    up, down = [Matcher("__name__", MatchOp.EQUAL, "up")], [Matcher("__name__", MatchOp.EQUAL, "down")]
    i1 = [Matcher("instance", MatchOp.EQUAL, "i1")]
    series = [labels({"__name__": n, "instance": f"i{k}", f"only{k}": "x"}) for k, n in ((2, "down"), (0, "up"), (1, "up"))]
    for reopened in (False, True):
        if reopened:
            await bench.reopen()
            storage = bench.storage
        assert await storage.series([], start_ms=None, end_ms=None) == (series, False)
        assert await storage.series([up, i1], start_ms=None, end_ms=None) == (series[1:], False)
        assert await storage.series([up, down], start_ms=None, end_ms=None, limit=2) == (series[:2], True)
        assert await storage.series([up], start_ms=NOW_MS, end_ms=None) == (series[2:], False)
        assert await storage.series([], start_ms=NOW_MS - 1, end_ms=NOW_MS) == (series[1:2], False)
        assert await storage.label_names([], start_ms=None, end_ms=None) == (["__name__", "instance", "only0", "only1", "only2"], False)
        assert await storage.label_names([down], start_ms=None, end_ms=None) == (["__name__", "instance", "only2"], False)
        assert await storage.label_names([], start_ms=None, end_ms=NOW_MS + 100, limit=3) == (["__name__", "instance", "only0"], True)
        assert await storage.label_values("instance", [], start_ms=None, end_ms=None) == (["i0", "i1", "i2"], False)
        assert await storage.label_values("instance", [up], start_ms=None, end_ms=None, limit=1) == (["i0"], True)
        assert await storage.label_values("only1", [up, down], start_ms=None, end_ms=None) == (["x"], False)
        assert await storage.label_values("instance", [], start_ms=NOW_MS + 100, end_ms=None) == (["i2"], False)
        assert await storage.label_values("nothing", [], start_ms=None, end_ms=None) == ([], False)


async def test_pressure_brings_a_flush_forward(benches: Benches) -> None:
    bench = await benches(flush_max_samples=10)
    running = asyncio.create_task(bench.storage.run())
    await bench.append([("a", NOW_MS + k, 1.0) for k in range(10)])
    async with asyncio.timeout(5):
        while bench.storage.counters.flushes == 0:  # noqa: ASYNC110 - counters are plain numbers that nobody announces
            await asyncio.sleep(0.01)
    assert bench.storage.gauges.unflushed_samples == 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_flushed_wal_segments_are_dropped(benches: Benches) -> None:
    bench = await benches(wal_segment_bytes=1000)
    for k in range(50):
        await bench.append([("a", NOW_MS + k, 1.0)])
    before = bench.storage.gauges.wal_disk_bytes
    await bench.storage.flush()
    assert bench.storage.gauges.wal_disk_bytes <= 1200 < before
    assert bench.storage.counters.wal_segments_dropped >= 2


async def test_a_full_head_refuses_before_the_wal_takes_anything(benches: Benches) -> None:
    bench = await benches(head_max_bytes=1)
    refs = np.array([bench.ref(f"i{k}") for k in range(2000)], np.int32)
    await bench.storage.append(refs[:1000], np.full(1000, NOW_MS, np.int64), np.zeros(1000))
    written = bench.storage.gauges.wal_bytes_written
    with pytest.raises(StorageUnavailable, match="full"):
        await bench.storage.append(refs[1000:], np.full(1000, NOW_MS, np.int64), np.zeros(1000))
    assert bench.storage.gauges.wal_bytes_written == written


async def test_storage_says_when_it_is_not_ready(benches: Benches) -> None:
    bench = await benches()
    await bench.storage.close()
    await bench.storage.close()
    with pytest.raises(NotReady, match="stopped"):
        await bench.append([("a", NOW_MS, 1.0)])
    with pytest.raises(NotReady, match="starting"):
        new_storage(bench).series_ref(labels({"a": "b"}))


async def test_status_figures(benches: Benches) -> None:
    bench: Bench = await benches()
    storage: Storage = bench.storage
    assert (storage.gauges.min_time_ms, storage.gauges.max_time_ms, storage.gauges.head_series) == (None, None, 0)
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS + 5, 1.0)])
    assert (storage.gauges.min_time_ms, storage.gauges.max_time_ms, storage.gauges.head_series) == (NOW_MS, NOW_MS + 5, 2)
    assert storage.gauges.series_per_metric(10) == [("up", 2)]
    assert storage.gauges.head_bytes > 0
    assert storage.gauges.wal_fsyncs == 1
    assert storage.gauges.wal_write_failures == 0
    assert storage.gauges.wal_pending_bytes == 0
    assert isinstance(storage.options, StorageOptions)
