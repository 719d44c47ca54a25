"""Series that are gone for good leave the memory, and their refs go to others; nothing of the ones is ever taken for the others'."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Int32, SampleBlock
from promlike.model.exemplars import Exemplars
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.keep import KeepOptions, KeepRule
from promlike.storage.options import HOUR_MS
from promlike.storage.series_labels import NextGeneration
from promlike.storage.storage import Storage
from promlike.storage.store import FlushBatch, Store
from tests.storage.conftest import NOW_MS, Bench, Benches, answer
from tests.storage.test_recovery import Delegate

Making = Callable[[Path], Store]
TIERS = {300_000: HOUR_MS, HOUR_MS: HOUR_MS}
WAVE = 40


def eager(storage: Storage) -> None:
    """Have it forget also a few series."""
    reclaimer = storage._retention._reclaimer
    reclaimer.least_series, reclaimer.share = 1, 1 << 30


async def opened(benches: Benches, **options: Any) -> Bench:
    bench = await benches(retention_ms=HOUR_MS, tier_retention_ms=TIERS, retention_step_ms=1, **options)
    eager(bench.storage)
    return bench


async def pass_hours(bench: Bench, hours: int = 2) -> None:
    """Let time go by, and all be done that is done in it."""
    await bench.storage.flush()
    bench.clock[0] += hours * HOUR_MS
    for _ in range(2):
        await bench.storage.enforce_retention()


async def forget(bench: Bench) -> None:
    """Let everything go that was appended so far."""
    await pass_hours(bench)
    assert await bench.select() == {}
    bench.refs.clear()


def wave(bench: Bench, number: int) -> dict[str, dict[int, float]]:
    """Samples now of series that were never there before, and of one that stays."""
    now_ms = bench.clock[0]
    return {f"{number}-{i}": {now_ms - 1000: float(i), now_ms: number + 0.5} for i in range(WAVE)} | {"stays": {now_ms: float(number)}}


async def write(bench: Bench, samples: dict[str, dict[int, float]]) -> None:
    bench.refs.clear()
    await bench.append([(name, ts, value) for name, rows in samples.items() for ts, value in rows.items()])


async def test_memory_is_that_of_the_series_that_are_kept(benches: Benches, any_store: Making) -> None:
    bench = await opened(benches, make=any_store)
    counts = []
    for number in range(8):
        samples = wave(bench, number)
        await write(bench, samples)
        assert await bench.select() == answer(samples)
        await bench.storage.flush()
        assert await bench.select() == answer(samples)
        await pass_hours(bench)
        index, head = bench.storage._index, bench.storage._head
        counts.append((index.count, head.series, len(index.symbols), index.added, len(bench.storage._keep._keep_ms), index.sizes["labels"]))
    assert bench.storage.counters.series_forgotten >= 6 * WAVE
    assert index.count == head.series <= 2 * WAVE + 1
    assert [max(column) for column in zip(*counts[-2:], strict=True)] <= [max(column) for column in zip(*counts[:4], strict=True)]
    assert (await bench.storage._store.stats()).series <= WAVE + 1
    samples = wave(bench, 99)
    await write(bench, samples)
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_after_a_crash_refs_are_those_of_their_last_series(benches: Benches, any_store: Making) -> None:
    """Killed with nothing flushed of the new series, with a part of them flushed, and in the middle of forgetting."""
    bench = await opened(benches, make=any_store)
    crashed = None
    for number in range(4):
        samples = wave(bench, number)
        await write(bench, dict(list(samples.items())[::2]))
        if number % 2:
            await bench.storage.flush()
        await write(bench, dict(list(samples.items())[1::2]))
        copy = shutil.copytree(bench.folder, bench.folder.with_name(f"crashed{number}"))
        if crashed is not None:
            await crashed.storage.close()
        await bench.storage._wal.drain()
        crashed = await opened(benches, make=any_store, folder=copy)
        crashed.clock[0] = bench.clock[0]
        assert await crashed.select() == answer(samples)
        await crashed.storage.flush()
        assert await crashed.select() == answer(samples)
        await pass_hours(bench)
    assert bench.storage.counters.series_forgotten


async def test_refs_that_nobody_has_after_a_start_are_given_out(benches: Benches, any_store: Making) -> None:
    bench = await opened(benches, make=any_store)
    await write(bench, wave(bench, 0))
    await pass_hours(bench)
    await write(bench, {"late": {bench.clock[0]: 1.0}})
    await pass_hours(bench, 0)
    await bench.reopen()
    count = bench.storage._index.count
    samples = {"late": {bench.clock[0]: 1.0}} | wave(bench, 1)
    await write(bench, samples)
    assert bench.storage._index.count <= max(count, WAVE + 2)
    assert await bench.select() == answer(samples)
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_a_series_that_comes_back_between_the_rounds_keeps_its_ref(benches: Benches) -> None:
    bench = await opened(benches)
    await bench.append([("back", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    back, gone = bench.ref("back"), bench.ref("gone")
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    bench.refs.clear()
    samples = {"back": {bench.clock[0]: 2.0}}
    await write(bench, samples)
    assert bench.ref("back") == back
    await bench.storage.flush()
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    assert bench.ref("new") == gone
    assert await bench.select() == answer(samples)
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_a_series_that_comes_back_after_it_was_forgotten_is_stored_once(benches: Benches, any_store: Making) -> None:
    bench = await opened(benches, make=any_store)
    await bench.append([("back", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    await forget(bench)
    assert bench.storage.counters.series_forgotten == 2
    head = bench.storage._head
    assert [column[:2].tolist() for column, _ in head._columns()] == [[empty] * 2 for _, empty in head._columns()]
    assert head.used_blocks == 0
    samples = {name: {bench.clock[0]: value} for name, value in (("new", 3.0), ("back", 2.0))}
    await write(bench, samples)
    await bench.storage.flush()
    assert await bench.select() == answer(samples)
    assert (await bench.storage._store.stats()).series == 2
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_nothing_is_forgotten_that_a_replay_of_the_wal_may_meet(benches: Benches) -> None:
    """The WAL counts from the last flush on: here all of them fail."""
    failing: list[bool] = []

    class Failing(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            if failing:
                raise StorageUnavailable("no flush")
            await self.store.write(batch)

    bench = await opened(benches, wrap=Failing)
    await bench.append([("gone", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.append([("stays", bench.clock[0], 1.0)])
    failing.append(True)
    for _ in range(3):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 0
    failing.clear()
    await bench.storage.flush()
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1


async def test_who_holds_or_uses_a_ref_keeps_it(benches: Benches) -> None:
    bench = await opened(benches)

    class Holder:
        held = np.empty(0, np.int32)

        def held_refs(self) -> Int32:
            return self.held

    holder = Holder()
    bench.storage.ref_use.hold(holder)
    await bench.append([("held", NOW_MS, 1.0), ("used", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    holder.held = np.array([bench.ref("held"), -1], np.int32)
    with bench.storage.ref_use.using():
        await forget(bench)
        await pass_hours(bench)
        assert bench.storage.counters.series_forgotten == 0
    await pass_hours(bench)
    assert bench.storage.counters.series_forgotten == 2
    refs = holder.held[:1]
    await bench.storage.append(refs, np.array([bench.clock[0]]), np.array([5.0]))
    assert await bench.select() == answer({"held": {bench.clock[0]: 5.0}})
    holder.held = holder.held[:0]
    await pass_hours(bench)
    assert bench.storage.counters.series_forgotten == 3
    with pytest.raises(ValueError, match="no such series"):
        await bench.storage.append(refs, np.array([bench.clock[0]]), np.array([5.0]))


async def test_what_waits_for_anything_stays(benches: Benches) -> None:
    """A sample in the WAL's queue, exemplars in memory, a deletion on its way."""
    bench = await opened(benches)
    await bench.append([(name, NOW_MS, 1.0) for name in ("sample", "exemplar", "gone")])
    sample, exemplar = bench.ref("sample"), bench.ref("exemplar")
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    bench.storage._ingest.exemplars.append(Exemplars.of([(exemplar, bench.clock[0], 1.0, "{}")]))
    go_on = threading.Event()
    bench.storage._wal._executor.submit(go_on.wait, 30)
    appending = asyncio.create_task(bench.storage.append(np.array([sample], np.int32), np.array([bench.clock[0]]), np.array([2.0])))
    deleting = asyncio.create_task(bench.storage.delete_series([[Matcher("instance", MatchOp.EQUAL, "sample")]], start_ms=0, end_ms=1))
    await asyncio.sleep(0)
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 0
    go_on.set()
    await asyncio.gather(appending, deleting)
    await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    assert await bench.select() == answer({"sample": {bench.clock[0]: 2.0}})


async def test_deleted_series_are_forgotten(benches: Benches, any_store: Making) -> None:
    bench = await opened(benches, make=any_store)
    await bench.append([("deleted", NOW_MS, 1.0), ("stays", NOW_MS, 2.0)])
    await bench.storage.flush()
    await bench.storage.delete_series([[Matcher("instance", MatchOp.EQUAL, "deleted")]], start_ms=-(2**60), end_ms=2**60)
    for _ in range(2):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 0
    await bench.storage.flush()
    for _ in range(2):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    bench.refs.pop("deleted")
    await bench.append([("new", NOW_MS, 3.0)])
    wanted = answer({"stays": {NOW_MS: 2.0}, "new": {NOW_MS: 3.0}})
    assert await bench.select() == wanted
    await bench.reopen()
    assert await bench.select() == wanted


async def test_a_query_that_runs_meanwhile_does_not_mix_two_series_of_one_ref(benches: Benches) -> None:
    gate, reading = asyncio.Event(), asyncio.Event()

    class Slow(Delegate):
        async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
            reading.set()
            await gate.wait()
            return await self.store.read(refs, start_ms, end_ms)

    bench = await opened(benches, wrap=Slow, head_cache_bytes=1, head_window_ms=1)
    await bench.append([("old", NOW_MS - 10_000, 1.0)])
    bench.clock[0] += HOUR_MS // 2
    await bench.storage.flush()
    await bench.storage._flusher.collect_before(bench.clock[0])
    old = bench.ref("old")
    querying = asyncio.create_task(bench.select(start_ms=NOW_MS - HOUR_MS))
    await asyncio.wait_for(reading.wait(), 10)
    await pass_hours(bench)
    assert bench.storage.counters.series_forgotten == 1
    bench.refs.clear()
    samples = {"new": {bench.clock[0] - 10_000: 2.0}}
    await write(bench, samples)
    assert bench.ref("new") == old
    await bench.storage.flush()
    gate.set()
    assert await asyncio.wait_for(querying, 10) == answer(samples)


async def test_late_samples_that_are_not_stored_keep_their_series(benches: Benches, any_store: Making) -> None:
    """Even in the index: the store would be given samples of a series that it was told to forget."""
    bench = await opened(benches, make=any_store)
    await bench.append([("late", NOW_MS, 1.0)])
    await bench.storage.flush()
    await bench.append([("late", NOW_MS - 60_000, 2.0)])
    bench.clock[0] += 2 * HOUR_MS
    for _ in range(3):
        await bench.storage.enforce_retention()
    assert bench.storage._index.alive[bench.ref("late")]
    await bench.storage.flush()
    for _ in range(2):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    assert (await bench.storage._store.stats()).series == 0


async def test_a_series_that_came_back_and_went_again_is_looked_at_anew(benches: Benches) -> None:
    """What came of it is in the WAL behind the place that counted for it before."""
    bench = await opened(benches)
    await bench.append([("twice", NOW_MS, 1.0), ("gone", NOW_MS, 1.0)])
    twice = bench.ref("twice")
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    bench.storage.set_keep_options(KeepOptions(default_ms=10 * HOUR_MS))
    await bench.append([("twice", NOW_MS + 1, 2.0)])
    await bench.storage.flush()
    bench.storage.set_keep_options(KeepOptions(default_ms=HOUR_MS))
    await bench.storage.enforce_retention()
    assert not bench.storage._index.alive[twice]
    assert bench.storage.counters.series_forgotten == 1
    bench.refs.clear()
    samples = {name: {bench.clock[0]: 3.0} for name in ("new", "newer")}
    await write(bench, samples)
    assert twice not in bench.refs.values()
    await bench.storage.flush()
    assert await bench.select() == answer(samples)
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_a_ref_goes_by_the_rule_of_its_new_series(benches: Benches) -> None:
    bench = await opened(benches)
    short = KeepRule(matchers=(Matcher("instance", MatchOp.REGEX, "short.*"),), keep_ms=HOUR_MS)
    bench.storage.set_keep_options(KeepOptions(default_ms=100 * HOUR_MS, rules=(short,)))
    await bench.append([("short", NOW_MS, 1.0), ("long", NOW_MS, 1.0)])
    ref = bench.ref("short")
    await pass_hours(bench)
    assert bench.storage.counters.series_forgotten == 1
    bench.refs.clear()
    await bench.append([("long2", bench.clock[0], 2.0)])
    assert bench.ref("long2") == ref
    await pass_hours(bench, 5)
    assert await bench.select() == answer({"long": {NOW_MS: 1.0}, "long2": {NOW_MS + 2 * HOUR_MS: 2.0}})


async def test_few_series_are_not_worth_it(benches: Benches) -> None:
    bench = await benches(retention_ms=HOUR_MS, tier_retention_ms=TIERS)
    await bench.append([("gone", NOW_MS, 1.0)])
    await forget(bench)
    assert bench.storage.counters.series_forgotten == 0


async def test_series_that_the_store_could_not_forget_go_next_time(benches: Benches) -> None:
    failing = [True]

    class Failing(Delegate):
        async def delete_series(self, refs: Int32) -> None:
            if failing:
                failing.pop()
                raise StorageUnavailable("not now")
            await self.store.delete_series(refs)

    bench = await opened(benches, wrap=Failing)
    await bench.append([("gone", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    with pytest.raises(StorageUnavailable):
        await bench.storage.enforce_retention()
    for _ in range(2):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    assert (await bench.storage._store.stats()).series == 0


async def test_writes_go_on_while_series_are_forgotten(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while the next generation is made is in it, and what comes back is."""
    monkeypatch.setattr("promlike.storage.reclaim.SERIES_ON_LOOP", 5)
    begun, go_on = threading.Event(), threading.Event()
    advance = NextGeneration.advance

    def slow(self: NextGeneration, upto: int) -> None:
        begun.set()
        assert go_on.wait(30)
        advance(self, upto)

    bench = await opened(benches)
    await write(bench, wave(bench, 0))
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    now_ms = bench.clock[0]
    monkeypatch.setattr(NextGeneration, "advance", slow)
    forgetting = asyncio.create_task(bench.storage.enforce_retention())
    assert await asyncio.to_thread(begun.wait, 30)
    samples = {name: {now_ms: 1.0} for name in (*(f"new-{number}" for number in range(50)), *(f"0-{number}" for number in range(10)))}
    await write(bench, samples)
    assert await bench.select() == answer(samples)
    go_on.set()
    await forgetting
    assert bench.storage.counters.series_forgotten == WAVE - 10 + 1
    assert await bench.select() == answer(samples)
    samples |= {f"newest-{number}": {now_ms: 2.0} for number in range(50)}
    await write(bench, samples)
    assert await bench.select() == answer(samples)
    await bench.storage.flush()
    await bench.reopen()
    assert await bench.select() == answer(samples)


async def test_daemons_on_one_database_forget_each_on_its_own(benches: Benches, database: str, tmp_path: Path) -> None:
    from promlike.storage.timescale.store import TimescaleStore  # asyncpg is not needed by the others

    two = [await opened(benches, make=lambda folder: TimescaleStore(database, folder=folder)) for _ in range(2)]
    for number in range(4):
        samples: dict[str, dict[int, float]] = {}
        for part, bench in enumerate(two):
            now_ms = bench.clock[0]
            own = {f"{number}-{part}-{i}": {now_ms: float(i)} for i in range(WAVE)} | {"both": {now_ms + part: float(part)}}
            await write(bench, own)
            await bench.storage.flush()
            for name, rows in own.items():
                samples.setdefault(name, {}).update(rows)
        for bench in two:
            await bench.storage.follow()
            assert await bench.select() == answer(samples)
        for bench in two:
            bench.clock[0] += 2 * HOUR_MS
        for _ in range(3):
            for bench in two:
                await bench.storage.flush()
                await bench.storage.enforce_retention()
                await bench.storage.follow()
    for bench in two:
        assert bench.storage.counters.series_forgotten >= 2 * 2 * WAVE
        assert bench.storage._index.count <= 2 * (2 * WAVE + 1)
    assert (await two[0].storage._store.stats()).series <= 1
