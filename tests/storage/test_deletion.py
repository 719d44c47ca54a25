"""Deleted samples are gone at once, everywhere and for good; others stay, and later ones live."""

import asyncio
import random
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.errors import SelectionChanged, StorageUnavailable
from promlike.model.blocks import SampleBlock
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.access import SelectRequest
from promlike.storage.store import FlushBatch
from promlike.storage.tombstones import without_deleted
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches, answer, bits
from tests.storage.store_suite import deletion
from tests.storage.test_recovery import Delegate, rows_in_sql

ALWAYS = (-(2**53), 2**53)


async def delete(bench: Bench, instances: str, start_ms: int = ALWAYS[0], end_ms: int = ALWAYS[1]) -> int:
    matchers = (Matcher("instance", MatchOp.REGEX, instances),)
    return await bench.storage.delete_series([matchers], start_ms=start_ms, end_ms=end_ms)


async def instances(bench: Bench, start_ms: int | None = None, end_ms: int | None = None) -> list[str]:
    return (await bench.storage.label_values("instance", [], start_ms=start_ms, end_ms=end_ms))[0]


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
async def test_samples_leave_head_store_and_label_lists_at_once(benches: Benches, flushed: bool, in_memory: bool) -> None:
    bench = await benches(**({} if in_memory else {"head_window_ms": 0, "head_cache_bytes": 0}))
    times = [NOW_MS - 100 + k * 10 for k in range(10)]
    await bench.append([(name, ts, 1.0) for name in "abc" for ts in times])
    if flushed:
        await bench.storage.flush()
        await bench.storage._flusher.collect_before(NOW_MS)
    assert await delete(bench, "a") == 1
    assert await delete(bench, "b|c", times[2], times[5]) == 2
    assert await delete(bench, "nobody") == 0
    rest = {ts: 1.0 for ts in times if not times[2] < ts <= times[5]}
    wanted = answer({"b": rest, "c": rest})
    for _ in range(2):
        assert await bench.select() == wanted
        assert await instances(bench) == ["b", "c"]
        assert bench.storage.gauges.head_series == 2
        await bench.storage.flush()
    await bench.reopen()
    assert await bench.select() == wanted
    assert await instances(bench) == ["b", "c"]
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == sorted((name, ts, bits(1.0)) for name in "bc" for ts in rest)


async def test_label_lists_forget_the_times_that_are_gone(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 100, 1.0), ("a", NOW_MS - 50, 1.0), ("a", NOW_MS, 1.0)])
    await delete(bench, "a", NOW_MS - 60, NOW_MS)
    assert await instances(bench, NOW_MS - 90, None) == []
    assert await instances(bench, NOW_MS - 101, None) == ["a"]
    assert bench.storage.gauges.max_time_ms == NOW_MS - 100
    await delete(bench, "a", NOW_MS - 200, NOW_MS - 100)
    assert await instances(bench) == []
    await bench.append([("a", NOW_MS - 70, 1.0)])
    assert await instances(bench, NOW_MS - 80, NOW_MS - 65) == ["a"]
    assert bench.storage.gauges.max_time_ms == NOW_MS - 70


async def test_samples_that_come_after_a_deletion_live(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 10, 1.0), ("a", NOW_MS, 1.0)])
    await bench.storage.flush()
    await delete(bench, "a")
    await bench.append([("a", NOW_MS - 10, 2.0), ("a", NOW_MS - 20, 3.0), ("a", NOW_MS + 1, 4.0)])
    wanted = answer({"a": {NOW_MS - 20: 3.0, NOW_MS - 10: 2.0, NOW_MS + 1: 4.0}})
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    for each in (bench, crashed):
        assert await each.select() == wanted
        await each.storage.flush()
        assert await each.select() == wanted
        await each.reopen()
        assert await each.select() == wanted


async def test_a_sample_on_its_way_through_the_wal_is_deleted_and_one_behind_lives(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    go_on = threading.Event()
    bench.storage._wal._executor.submit(go_on.wait, 30)
    before = asyncio.create_task(bench.append([("a", NOW_MS + 1, 1.0), ("new", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)]))
    await asyncio.sleep(0)
    deleting = asyncio.create_task(delete(bench, "a|new|gone"))
    await asyncio.sleep(0)
    behind = asyncio.create_task(bench.append([("a", NOW_MS + 1, 2.0), ("new", NOW_MS, 2.0)]))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(before, deleting, behind)
    wanted = answer({"a": {NOW_MS + 1: 2.0}, "new": {NOW_MS: 2.0}})
    assert await bench.select() == wanted
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert await crashed.select() == wanted
    assert await instances(crashed) == ["a", "new"]


async def test_a_deletion_while_the_store_is_away_hides_at_once_and_is_carried_out_later(benches: Benches) -> None:
    away = [False]

    class Away(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            if away[0]:
                raise StorageUnavailable("gone fishing")
            await super().write(batch)

    bench = await benches(wrap=Away, head_window_ms=0, head_cache_bytes=0)
    await bench.append([(name, NOW_MS - k, 1.0) for name in "ab" for k in range(5)])
    await bench.storage.flush()
    away[0] = True
    await bench.append([("a", NOW_MS - 2, 2.0), ("b", NOW_MS - 2, 2.0)])
    with pytest.raises(StorageUnavailable):
        await bench.storage.flush()
    await delete(bench, "a")
    wanted = answer({"b": {NOW_MS - k: 2.0 if k == 2 else 1.0 for k in range(5)}})
    assert await bench.select() == wanted
    with pytest.raises(StorageUnavailable):
        await bench.storage.flush()
    assert await bench.select() == wanted
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert await crashed.select() == wanted
    away[0] = False
    await bench.storage.flush()
    assert await bench.select() == wanted
    await bench.storage.close()
    assert [row[0] for row in rows_in_sql(bench.folder)] == ["b"] * 5


async def test_a_deletion_during_a_flush_reaches_what_the_flush_stores(benches: Benches) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    class Slow(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            started.set()
            await go.wait()
            await super().write(batch)

    bench = await benches(wrap=Slow)
    await bench.append([("a", NOW_MS - 5, 1.0), ("b", NOW_MS, 1.0)])
    flushing = asyncio.create_task(bench.storage.flush())
    await started.wait()
    await delete(bench, "a")
    await bench.append([("a", NOW_MS - 5, 2.0)])
    go.set()
    await flushing
    wanted = answer({"a": {NOW_MS - 5: 2.0}, "b": {NOW_MS: 1.0}})
    assert await bench.select() == wanted
    await bench.reopen()
    assert await bench.select() == wanted


@pytest.mark.parametrize("seed", range(16))
async def test_random_lives_with_deletions_and_crashes(benches: Benches, tmp_path: Path, seed: int) -> None:
    """Appends (new, late, repeated), deletions, flushes that work or not, restarts, crashes anywhere, against a dict."""
    pick = random.Random(seed)
    crashes: list[Path] = []

    class Unreliable(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            crash()
            if pick.random() < 0.3:
                next(iter(batch.chunks), None)
                raise StorageUnavailable("gone fishing")
            await super().write(batch)
            crash()

    def crash() -> None:
        if pick.random() < 0.4:
            crashes.append(shutil.copytree(bench.folder, tmp_path / f"crash{len(list(tmp_path.iterdir()))}"))

    async def flush() -> None:
        with suppress(StorageUnavailable):
            await bench.storage.flush()

    bench = await benches(wrap=Unreliable, head_window_ms=0, head_cache_bytes=0, wal_segment_bytes=2000)
    truth: dict[str, dict[int, float]] = {}
    for _ in range(80):
        action = pick.random()
        if action < 0.5:
            samples = [
                (pick.choice("abcdef"), NOW_MS + pick.choice([0, -1, pick.randrange(-300, 300)]) * 10, float(pick.randrange(3)))
                for _ in range(pick.randrange(1, 60))
            ]
            await bench.append(samples)
            for name, ts, value in samples:
                truth.setdefault(name, {})[ts] = value
        elif action < 0.7:
            names = pick.choice(["a", "a|b", "c|d|e", ".*"])
            low, high = sorted(NOW_MS + pick.randrange(-310, 310) * 10 for _ in range(2))
            low, high = pick.choice([(low, high), (low, high), (ALWAYS[0], high), (low, ALWAYS[1]), ALWAYS])
            await delete(bench, names, low, high)
            for name in truth:
                if names == ".*" or name in names.split("|"):
                    truth[name] = {ts: value for ts, value in truth[name].items() if not low < ts <= high}
        elif action < 0.85:
            await flush()
        elif action < 0.92:
            await bench.reopen()
        if pick.random() < 0.1:
            crash()
        if crashes and pick.random() < 0.5:
            old = bench.storage
            await bench.start(crashes[-1])
            await old.close()
        crashes.clear()
        assert await bench.select() == answer(truth)
        found = await instances(bench)
        assert found == sorted(found)
        assert {name for name, rows in truth.items() if rows} <= set(found)
        assert bench.storage.gauges.unflushed_samples >= 0
    while bench.storage._flusher.stored != bench.storage._wal.applied:
        await flush()
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == sorted((name, ts, bits(value)) for name, rows in truth.items() for ts, value in rows.items())


async def test_readers_see_all_of_a_deletion_or_nothing(benches: Benches) -> None:
    bench = await benches(head_window_ms=0, head_cache_bytes=0)
    names = [f"i{k:02}" for k in range(40)]
    await bench.append([(name, NOW_MS - k, 1.0) for name in names for k in range(100)])
    await bench.storage.flush()
    await bench.append([(name, NOW_MS + k, 1.0) for name in names for k in range(1, 100)])
    counts: set[int] = set()

    async def look() -> None:
        counts.add(sum(map(len, (await bench.select()).values())))

    for step in range(8):
        looking = [asyncio.create_task(look()) for _ in range(4)]
        for _ in range(step):
            await asyncio.sleep(0)
        await delete(bench, ".*", NOW_MS - 100 + 20 * step, NOW_MS - 80 + 20 * step)
        await asyncio.gather(*looking)
    assert counts <= {40 * (199 - 20 * step) for step in range(9)}
    assert len(counts) > 1


async def test_samples_that_a_query_reads_later_are_fetched_again_after_a_deletion(benches: Benches) -> None:
    bench = await benches()
    refs = np.array([bench.ref(f"i{k}") for k in range(100)], np.int32)
    for k in range(5000):
        await bench.storage.append(refs, np.full(100, NOW_MS - 5000 + k, np.int64), np.full(100, 1.0))
    request = SelectRequest(matchers=EVERYTHING, start_ms=0, end_ms=NOW_MS)
    samples = (await bench.storage.select([request], max_samples=10**7)).blocks[0].samples
    assert not isinstance(samples, SampleBlock)
    assert samples.rows(0, 10).count >= 0
    await delete(bench, "i99", NOW_MS - 100, NOW_MS)

    def read_all() -> None:
        for row in range(samples.series):
            samples.rows(row, row + 1)

    with pytest.raises(SelectionChanged, match="deleted"):
        read_all()


async def test_who_caches_answers_is_told_what_is_gone(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS, 1.0)])
    told: list[tuple[list[int], int, int]] = []
    bench.storage.changes.subscribe(lambda refs, start, end: told.append((refs.tolist(), start, end)), settled_ms=60_000)
    await delete(bench, "b", NOW_MS - 10, NOW_MS + 10)
    assert told == [([bench.ref("b")], NOW_MS - 10, NOW_MS + 10)]
    await bench.storage.flush()
    assert len(told) == 1


@given(
    rows=st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=1, max_size=4),
    gone=st.lists(st.tuples(st.sets(st.integers(0, 3)), st.integers(-2, 32), st.integers(-2, 32)), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_what_a_store_gives_is_stripped_of_what_is_deleted(rows: list[set[int]], gone: list[tuple[set[int], int, int]]) -> None:
    refs = np.arange(len(rows), dtype=np.int32)[::-1].copy()
    times = [ts for row in rows for ts in sorted(row)]
    block = SampleBlock(
        ts_ms=np.array(times, np.int64),
        values=np.array(times, np.float64) / 2,
        offsets=np.cumsum([0, *map(len, rows)]).astype(np.int64),
    )
    found = without_deleted(block, refs, [deletion(sorted(who), start, end) for who, start, end in gone])
    found.validate()
    left = [
        [ts for ts in sorted(row) if not any(ref in who and start < ts <= end for who, start, end in gone)]
        for ref, row in zip(refs.tolist(), rows, strict=True)
    ]
    bounds = zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True)
    assert [found.ts_ms[a:b].tolist() for a, b in bounds] == left
    assert (found.values * 2).tolist() == [ts for row in left for ts in row]


async def test_a_snapshot_that_was_being_made_when_the_process_ended_is_deleted(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    name = await bench.storage.snapshot(with_head=True)
    snapshots = bench.folder / "snapshots"
    (half := snapshots / ".20260102T030405Z-0123456789abcdef").mkdir()
    (half / "promlike.duckdb").write_bytes(b"half of a file")
    await bench.reopen()
    assert [path.name for path in snapshots.iterdir()] == [name]
    assert rows_in_sql(snapshots / name) == [("a", NOW_MS, bits(1.0))]


async def test_a_series_that_comes_back_while_a_flush_forgets_it_is_stored_once(benches: Benches) -> None:
    bench: Bench

    class Meanwhile(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            if len(batch.gone):
                await bench.append([("a", NOW_MS - 5, 2.0)])
            await super().write(batch)

    bench = await benches(wrap=Meanwhile)
    await bench.append([("a", NOW_MS, 1.0)])
    assert await delete(bench, "a") == 1
    await bench.storage.flush()
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    for one in (bench, crashed):
        assert await one.select() == answer({"a": {NOW_MS - 5: 2.0}})
        await one.storage.close()
        assert rows_in_sql(one.folder) == [("a", NOW_MS - 5, bits(2.0))]
