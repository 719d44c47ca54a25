"""Retention beside appends."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promlike.errors import StorageUnavailable
from promlike.model.matchers import Matcher, MatchOp
from promlike.model.tiers import TierColumn
from promlike.storage.keep import KeepOptions, KeepRule
from promlike.storage.options import HOUR_MS
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.store import Store
from promlike.storage.tiers import TierBatch
from tests.storage.conftest import NOW_MS, Bench, Benches, answer

DAY_MS = 24 * HOUR_MS
Making = Callable[[Path], Store]


async def test_a_series_whose_sample_is_on_its_way_through_the_wal_stays(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS)
    await bench.append([("back", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    go_on = threading.Event()
    bench.storage._wal._executor.submit(go_on.wait, 30)
    appending = asyncio.create_task(bench.append([("back", bench.clock[0], 2.0)]))
    await asyncio.sleep(0)
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_removed == 1
    go_on.set()
    assert (await appending).appended == 1
    wanted = answer({"back": {bench.clock[0]: 2.0}})
    assert await bench.select() == wanted
    await bench.reopen()
    assert await bench.select() == wanted


def kept(*rules: tuple[str, int], default_ms: int = 10 * DAY_MS, max_bytes: int = 0) -> KeepOptions:
    """Rules for instances that match an expression."""
    return KeepOptions(
        default_ms=default_ms,
        max_bytes=max_bytes,
        rules=tuple(KeepRule(matchers=(Matcher("instance", MatchOp.REGEX, text),), keep_ms=keep_ms) for text, keep_ms in rules),
    )


async def instances(bench: Bench) -> list[str]:
    return (await bench.storage.label_values("instance", [], start_ms=None, end_ms=None))[0]


async def stored_times(bench: Bench, name: str) -> list[int]:
    """The times of the samples that the store itself has."""
    block = await bench.storage._store.read(np.array([bench.ref(name)], np.int32), -(2**53), 2**53)
    return [int(ts) for ts in block.ts_ms]


async def hours_with_rows(bench: Bench, name: str) -> list[int]:
    """The ends of the hours of which the store has a row."""
    refs = np.array([bench.ref(name)], np.int32)
    parts = await bench.storage._store.read_tier(HOUR_MS, refs, -(2**53), 2**53, TierColumn.SUM)
    return [int(end) for end in pack_into_tier(HOUR_MS, refs, parts, columns=TierColumn.SUM).part(0, 1).rows.ends_ms]


@pytest.mark.parametrize("stored", [False, True])
async def test_of_the_rules_the_first_that_fits_says_how_long_a_series_is_kept(benches: Benches, any_store: Making, stored: bool) -> None:
    bench = await benches(head_window_ms=0, head_cache_bytes=0, make=any_store)
    bench.storage.set_keep_options(kept((".*", 0)))
    times = [NOW_MS - day * DAY_MS - HOUR_MS for day in (30, 12, 8, 3, 0)]
    await bench.append([(name, ts, 1.0) for name in ("debug", "long", "ever", "other") for ts in times])
    if stored:
        await bench.storage.flush()
        await bench.storage.roll_up()
    options = kept(("debug|nobody", 2 * DAY_MS), ("long", 20 * DAY_MS), ("debug|long|ever", 0))
    truth = {"debug": times[4:], "long": times[1:], "ever": times, "other": times[2:]}
    wanted = answer({name: dict.fromkeys(rows, 1.0) for name, rows in truth.items()})
    bench.storage.set_keep_options(options)
    assert await bench.select() == wanted
    for _ in range(2):
        await bench.storage.flush()
        await bench.storage.enforce_retention()
        assert await bench.select() == wanted
    # The store deletes whole days of those that are kept less long than the longest.
    assert {name: await stored_times(bench, name) for name in truth} == truth
    if stored:  # rules are about samples
        assert [len(await hours_with_rows(bench, name)) for name in truth] == [5, 5, 5, 5]
        assert not len(await bench.storage._store.load_marks(None))


async def test_a_sample_is_refused_that_its_rule_does_not_keep(benches: Benches) -> None:
    bench = await benches()
    bench.storage.set_keep_options(kept(("debug", DAY_MS), ("long", 20 * DAY_MS)))
    old = NOW_MS - 2 * DAY_MS
    result = await bench.append(
        [("debug", old, 1.0), ("long", old - 10 * DAY_MS, 1.0), ("other", old, 1.0), ("other", old - 10 * DAY_MS, 1.0)]
    )
    assert (result.appended, result.rejected) == (2, 2)
    assert 'instance="debug"' in result.refusal
    assert await instances(bench) == ["long", "other"]


async def test_a_series_leaves_the_index_when_its_own_time_is_over(benches: Benches) -> None:
    bench = await benches()
    bench.storage.set_keep_options(kept(("debug", DAY_MS)))
    await bench.append([("debug", NOW_MS, 1.0), ("other", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * DAY_MS
    assert await instances(bench) == ["other"]
    await bench.storage.enforce_retention()
    assert bench.storage.gauges.head_series == 1
    assert bench.storage.counters.series_removed == 1
    await bench.append([("debug", bench.clock[0], 2.0)])
    assert await instances(bench) == ["debug", "other"]


async def test_new_rules_are_told_to_who_caches_answers(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    told: list[list[int]] = []
    bench.storage.changes.subscribe(lambda refs, start, end: told.append(refs.tolist()), settled_ms=0)
    bench.storage.set_keep_options(kept(("a", DAY_MS)))
    bench.storage.set_keep_options(kept(("a", DAY_MS)))
    assert told == [[0]]
    assert bench.storage.oldest_ms == NOW_MS - DAY_MS


async def twenty_days(bench: Bench) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """100,000 samples of 200 series on each of the last twenty days; the refs of the series."""
    pick = np.random.default_rng(1)
    refs = np.array([bench.ref(f"i{k}") for k in range(200)], np.int32)
    for day in range(20, 0, -1):
        for k in range(10):
            at = NOW_MS - day * DAY_MS + k * 2 * HOUR_MS
            ts_ms = np.repeat(at + np.arange(50, dtype=np.int64) * 1000, len(refs))
            await bench.storage.append(np.tile(refs, 50), ts_ms, pick.random(len(ts_ms)))
        await bench.storage.flush()
    return refs


SEVENTH = (Matcher("instance", MatchOp.EQUAL, "i7"),)


async def test_retention_by_size_deletes_the_oldest_samples(benches: Benches, any_store: Making) -> None:
    bench = await benches(head_window_ms=0, head_cache_bytes=0, wal_segment_bytes=200_000, make=any_store)
    bench.storage.set_keep_options(kept(default_ms=0))
    refs, pick = await twenty_days(bench), np.random.default_rng(2)
    await bench.storage.roll_up()
    before = await bench.storage.store_stats()
    rows = await hours_with_rows(bench, "i7")
    limit = (before.bytes - before.free_bytes) // 2  # rollups, which stay, take a third
    bench.storage.set_keep_options(kept(default_ms=0, max_bytes=limit))
    await bench.storage.enforce_retention()
    after = await bench.storage.store_stats()
    assert after.bytes - after.free_bytes + bench.storage.gauges.wal_disk_bytes <= limit
    assert 0 < bench.storage.counters.size_retentions < 30
    assert before.samples // 20 < after.samples < before.samples * 3 // 4
    found = next(iter((await bench.select(SEVENTH)).values()))
    assert found[0][0] >= bench.storage.oldest_ms > NOW_MS - 20 * DAY_MS
    assert found[-1][0] == NOW_MS - DAY_MS + 18 * HOUR_MS + 49_000
    assert await hours_with_rows(bench, "i7") == rows  # they stay
    for lap in range(5):  # what is free is used again
        await bench.storage.append(refs, np.full(len(refs), NOW_MS + lap, np.int64), pick.random(len(refs)))
        await bench.storage.flush()
        await bench.storage.enforce_retention()
    assert (await bench.storage.store_stats()).bytes < 1.5 * before.bytes


async def test_what_is_not_rolled_up_yet_is_not_deleted_for_its_size(
    benches: Benches, any_store: Making, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await benches(head_window_ms=0, head_cache_bytes=0, wal_segment_bytes=200_000, make=any_store)
    bench.storage.set_keep_options(kept(default_ms=0))
    await twenty_days(bench)
    stats = await bench.storage.store_stats()
    bench.storage.set_keep_options(kept(default_ms=0, max_bytes=(stats.bytes - stats.free_bytes) // 3))
    everything = await bench.select(SEVENTH)
    await bench.storage.enforce_retention()  # nothing is rolled up
    assert await bench.select(SEVENTH) == everything
    assert "not rolled up yet" in caplog.text
    monkeypatch.setattr("promlike.storage.roller.PORTION_SAMPLES", 300_000)
    write_tiers, left = bench.storage._store.write_tiers, [4]

    async def fail(batch: TierBatch) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StorageUnavailable("the store is full")
        await write_tiers(batch)

    bench.storage._store.write_tiers = fail  # type: ignore[method-assign]  # calls the real one
    with pytest.raises(StorageUnavailable):
        await bench.storage.roll_up()
    bench.storage._store.write_tiers = write_tiers  # type: ignore[method-assign]  # the real one again
    reached = bench.storage._tiers.watermark
    assert reached is not None
    assert reached.upto_ms < NOW_MS - 10 * DAY_MS
    await bench.storage.enforce_retention()  # some is
    times = [ts for ts, _ in next(iter(everything.values()))]
    assert {ts for ts in times if ts > reached.upto_ms} <= set(await stored_times(bench, "i7"))
    await bench.storage.roll_up()
    hours = {-(-ts // HOUR_MS) * HOUR_MS for ts in times}
    assert set(await hours_with_rows(bench, "i7")) == hours
    late = [("i7", times[-1] - 3 * DAY_MS - HOUR_MS + k, 1.0) for k in range(3)]
    await bench.append(late)
    await bench.storage.flush()
    bench.storage.set_keep_options(kept(default_ms=0, max_bytes=1))
    await bench.storage.enforce_retention()  # all but what came late is
    assert {ts for _, ts, _ in late} <= set(await stored_times(bench, "i7"))
    await bench.storage.roll_up()
    assert set(await hours_with_rows(bench, "i7")) == hours | {-(-ts // HOUR_MS) * HOUR_MS for _, ts, _ in late}


async def test_what_has_only_recent_samples_is_not_emptied_for_its_size(benches: Benches, any_store: Making) -> None:
    bench = await benches(make=any_store)
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.storage.set_keep_options(kept(max_bytes=1))
    await bench.storage.enforce_retention()
    assert await bench.select() == answer({"a": {NOW_MS: 1.0}})
