"""Two daemons on one database: each sees what the other has flushed, and what both write stands once."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.errors import StorageUnavailable
from promlike.model.blocks import StepGrid
from promlike.model.clock import wall_clock_ms
from promlike.model.labels import labels
from promlike.model.tiers import ALL_COLUMNS, floor_ms
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.promql.result import Matrix
from promlike.storage import follow
from promlike.storage.options import HOUR_MS
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.roller import GRACE_MS
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.tiers import TierBatch, Watermark
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.conftest import NOW_MS, Bench, answer
from tests.storage.store_suite import tier_batch


@pytest.fixture
async def pair(database: str, tmp_path: Path) -> AsyncIterator[tuple[Bench, Bench]]:
    benches = [await open_bench(database, tmp_path / name) for name in ("first", "second")]
    yield benches[0], benches[1]
    for bench in benches:
        await bench.storage.close()


async def open_bench(database: str, folder: Path, *, now_ms: int = NOW_MS) -> Bench:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    options = StorageOptions(data_dir=folder, head_max_bytes=1 << 28)
    storage = Storage(options, TimescaleStore(database, folder=folder), now_ms=lambda: now_ms)
    await storage.open(lambda line: None)
    return Bench(folder=folder, clock=[now_ms], options={}, wrap=lambda store: store, storage=storage)


async def test_each_sees_what_the_other_has_flushed(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await first.append([("a", NOW_MS - 100, 1.0), ("b", NOW_MS - 50, 2.0)])
    await second.append([("b", NOW_MS - 40, 3.0), ("c", NOW_MS - 30, 4.0)])
    await first.storage.flush()
    assert await second.select() == answer({"b": {NOW_MS - 40: 3.0}, "c": {NOW_MS - 30: 4.0}})
    await second.storage.follow()
    seen = {"a": {NOW_MS - 100: 1.0}, "b": {NOW_MS - 50: 2.0, NOW_MS - 40: 3.0}, "c": {NOW_MS - 30: 4.0}}
    assert await second.select() == answer(seen)
    found, _ = await second.storage.label_values("instance", [], start_ms=None, end_ms=None)
    assert found == ["a", "b", "c"]
    await second.storage.flush()
    await first.storage.follow()
    assert await first.select() == answer(seen)


async def test_news_that_got_lost_with_a_connection_is_asked_for_again(pair: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    await first.append([("a", NOW_MS, 1.0)])
    await first.storage.flush()
    database = second.storage._store._database  # type: ignore[attr-defined]  # of this store

    @asynccontextmanager
    async def broken(what: str, **options: Any) -> AsyncIterator[Any]:
        async with transaction(what, **options) as connection:
            yield connection
        raise StorageUnavailable("the connection broke")

    transaction = database.transaction
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", broken)
        with pytest.raises(StorageUnavailable):
            await second.storage.follow()
    await second.storage.follow()
    assert await second.select() == answer({"a": {NOW_MS: 1.0}})


async def test_a_series_of_another_writer_may_be_written_and_survives_a_crash(pair: tuple[Bench, Bench], database: str) -> None:
    first, second = pair
    await first.append([("a", NOW_MS - 100, 1.0)])
    await first.storage.flush()
    await second.storage.follow()
    await second.append([("a", NOW_MS - 100, 7.0), ("a", NOW_MS - 120, 5.0), ("a", NOW_MS - 20, 6.0)])
    merged = {"a": {NOW_MS - 120: 5.0, NOW_MS - 100: 7.0, NOW_MS - 20: 6.0}}
    assert await second.select() == answer(merged)
    copy = second.folder.with_name("copy")
    copy.mkdir()
    for file in ("writer_id", *(path.relative_to(second.folder).as_posix() for path in (second.folder / "wal").iterdir())):
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes((second.folder / file).read_bytes())
    again = await open_bench(database, copy)
    assert await again.select() == answer(merged)
    await again.storage.close()
    await first.storage.follow()
    # Of a time that it has itself in memory, a daemon shows what it was given.
    assert await first.select() == answer({"a": merged["a"] | {NOW_MS - 100: 1.0}})


async def test_news_that_somebody_needs_are_entered_soon(pair: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LEAST_INTERVAL_S", 0.01)
    first, second = pair
    await first.append([("a", NOW_MS - 100, 1.0)])
    await first.storage.flush()
    assert second.storage.view.flush < first.storage.view.flush
    monkeypatch.setattr(follow, "LONGEST_WAIT_S", 30.0)
    running = asyncio.create_task(second.storage.run())
    try:
        await second.storage.hurry()
        assert second.storage.view.flush >= first.storage.view.flush
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await second.select() == answer({"a": {NOW_MS - 100: 1.0}})


async def test_a_new_data_folder_sees_what_the_database_holds(pair: tuple[Bench, Bench], database: str, tmp_path: Path) -> None:
    first, _ = pair
    await first.append([(f"{k}", NOW_MS - 100 + k, float(k)) for k in range(50)])
    await first.storage.flush()
    new = await open_bench(database, tmp_path / "new")
    everything = {f"{k}": {NOW_MS - 100 + k: float(k)} for k in range(50)}
    assert await new.select() == answer(everything)
    await new.append([("7", NOW_MS, 1.0), ("fresh", NOW_MS, 2.0)])
    everything["7"][NOW_MS], everything["fresh"] = 1.0, {NOW_MS: 2.0}
    assert await new.select() == answer(everything)
    await new.storage.flush()
    await new.storage.close()
    again = await open_bench(database, tmp_path / "new")
    assert await again.select() == answer(everything)
    await again.storage.close()


async def test_samples_that_wait_for_a_flush_are_not_taken_for_stored(pair: tuple[Bench, Bench], database: str, tmp_path: Path) -> None:
    first, second = pair
    await second.append([("a", NOW_MS - 90, 1.0)])
    await second.storage.flush()
    await second.append([("a", NOW_MS - 80, 2.0), ("a", NOW_MS - 60, 3.0)])
    await first.append([("a", NOW_MS - 70, 9.0), ("a", NOW_MS - 60, 9.0)])
    await first.storage.flush()
    await second.storage.follow()
    both = {"a": {NOW_MS - 90: 1.0, NOW_MS - 80: 2.0, NOW_MS - 70: 9.0, NOW_MS - 60: 3.0}}
    assert await second.select() == answer(both)
    await second.storage.flush()
    assert await second.select() == answer(both)
    new = await open_bench(database, tmp_path / "new")
    assert await new.select() == answer(both)
    await new.storage.close()


async def test_retention_of_one_leaves_series_that_the_other_still_writes(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    day = 86_400_000
    await first.append([("a", NOW_MS - 14 * day, 1.0)])
    await first.storage.flush()
    await second.append([("a", NOW_MS - 1000, 2.0)])
    await second.storage.flush()
    moved = first.storage
    moved._keep._now_ms = lambda: NOW_MS + 2 * day  # the clock of one daemon
    await moved.enforce_retention()
    await second.append([("a", NOW_MS, 3.0)])
    await second.storage.flush()
    assert second.storage.series_ref(labels({"__name__": "up", "instance": "a"})) == second.ref("a")
    assert np.diff([len(rows) for rows in (await second.select()).values()]).sum() == 0
    await first.storage.follow()
    assert (await first.select())[labels({"__name__": "up", "instance": "a"})][-1][0] == NOW_MS


async def test_a_series_that_both_write_is_rolled_up_from_both(pair: tuple[Bench, Bench]) -> None:
    start = NOW_MS // HOUR_MS * HOUR_MS - 4 * HOUR_MS
    grid = StepGrid(start_ms=start + HOUR_MS, step_ms=HOUR_MS, count=4)
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        for late in (0, 7):
            for number, bench in enumerate(pair):
                times = range(start + number * 30_000 + late, start + 4 * HOUR_MS, 60_000)
                await bench.append([("a", ts, float(ts % 1000 + number)) for ts in times])
                await bench.storage.flush()
            for bench in (*pair, *pair):
                await bench.storage.follow()
                await bench.storage.roll_up()
            for bench in pair:
                answers = [await engine.range(bench.storage, "sum_over_time(up[1h])", grid, resolution_ms=ms) for ms in (0, HOUR_MS)]
                raw, rolled = (one.value for one in answers)
                assert isinstance(raw, Matrix)
                assert isinstance(rolled, Matrix)
                assert "read from the 1h rollup" in answers[1].infos[0]
                np.testing.assert_allclose(rolled.samples.values, raw.samples.values, rtol=1e-12)
        engine.close()


async def test_rows_made_of_samples_that_another_has_changed_since_are_refused(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await first.append([("a", NOW_MS - 100, 1.0)])
    await first.storage.flush()
    store = first.storage._store
    before = await store.foreign_changes()
    await second.append([("a", NOW_MS - 90, 2.0)])
    await second.storage.flush()
    with pytest.raises(StorageUnavailable, match="another daemon stored samples"):
        await store.write_tiers(tier_batch({0: [(NOW_MS - 100, 1.0)]}, Watermark.at(0), foreign=before))
    assert (await store.load_tier_state()).watermark is None
    await store.write_tiers(tier_batch({0: [(NOW_MS - 100, 1.0)]}, Watermark.at(0), foreign=await store.foreign_changes()))
    for each in (store, second.storage._store):
        state = await each.load_tier_state()
        assert state.watermark == Watermark.at(0)
        assert state.others_ms is not None  # the other has stored something just now


FULL_MS = NOW_MS // HOUR_MS * HOUR_MS
HOURS = StepGrid(start_ms=FULL_MS - 9 * HOUR_MS, step_ms=HOUR_MS, count=10)


async def assert_rolled_up(bench: Bench, grid: StepGrid = HOURS) -> None:
    """Rows say what samples say."""
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        for query in ("sum_over_time(up[1h])", "increase(up[1h])"):
            answers = [await engine.range(bench.storage, query, grid, resolution_ms=ms) for ms in (0, HOUR_MS)]
            raw, rolled = (one.value for one in answers)
            assert isinstance(raw, Matrix)
            assert isinstance(rolled, Matrix)
            assert "read from the 1h rollup" in answers[1].infos[0]
            np.testing.assert_allclose(rolled.samples.values, raw.samples.values, rtol=1e-12)
        engine.close()


async def rows_of(bench: Bench, name: str, resolution_ms: int = HOUR_MS) -> list[tuple[int, int, float]]:
    """End, count and sum of each row that the database has of a series."""
    refs = np.array([bench.ref(name)], np.int32)
    parts = await bench.storage._store.read_tier(resolution_ms, refs, -(2**53), 2**53, ALL_COLUMNS)
    rows = pack_into_tier(resolution_ms, refs, parts).part(0, 1).rows
    return list(zip(rows.ends_ms.tolist(), rows.counts.tolist(), rows.sums.tolist(), strict=True))


def hours_of(first: int, last: int, value: float = 1.0) -> list[tuple[str, int, float]]:
    """A sample every ten minutes of the series `a`, between two hours counted from FULL_MS."""
    return [("a", ts, value) for ts in range(FULL_MS + first * HOUR_MS + 300_000, FULL_MS + last * HOUR_MS, 600_000)]


async def test_rows_are_made_of_what_another_has_stored_a_moment_ago(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await second.append(hours_of(-8, -2))
    await second.storage.flush()
    await first.append([(name, ts + 1, 5.0) for name, ts, _ in hours_of(-6, -2)])
    await first.storage.flush()
    await second.storage.roll_up()  # without having followed
    assert [count for _, count, _ in await rows_of(second, "a")] == [6, 6, 12, 12, 12, 12]
    await assert_rolled_up(second)


async def test_a_daemon_that_joins_goes_on_where_rolling_up_is_and_keeps_what_is_older(
    pair: tuple[Bench, Bench], database: str, tmp_path: Path
) -> None:
    first, _ = pair
    await first.append(hours_of(-300, -290) + hours_of(-6, -2))
    await first.storage.flush()
    await first.storage.roll_up()
    rows = await rows_of(first, "a")
    await first.storage._store.delete_before(FULL_MS - 48 * HOUR_MS)
    new = await open_bench(database, tmp_path / "new")
    assert new.storage._tiers.watermark == first.storage._tiers.watermark
    await new.append([("b", FULL_MS - HOUR_MS, 1.0)])
    await new.storage.flush()
    await new.storage.roll_up()
    assert await rows_of(new, "a") == rows
    assert len(rows) == 14
    await new.storage.close()


async def test_late_samples_are_marked_also_where_another_has_rolled_up(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await first.append(hours_of(-8, -2))
    await first.storage.flush()
    await first.storage.roll_up()
    assert second.storage._tiers.watermark is None
    await second.append([(name, ts + 1, 3.0) for name, ts, _ in hours_of(-7, -5)])
    await second.storage.flush()
    assert len(await second.storage._store.load_marks(None)) == 1
    await first.storage.follow()
    await first.storage._roller.load()
    await assert_rolled_up(first)  # from samples, where rows are known to be wrong
    await first.storage.roll_up()
    assert [count for _, count, _ in await rows_of(first, "a")] == [6, 12, 12, 6, 6, 6]
    for bench in pair:
        assert not len(await bench.storage._store.load_marks(None))
        await bench.storage.follow()
        await bench.storage.roll_up()
        await assert_rolled_up(bench)


async def test_marks_of_a_daemon_that_is_gone_are_heeded_by_another(pair: tuple[Bench, Bench], database: str, tmp_path: Path) -> None:
    first, second = pair
    await first.append(hours_of(-8, -2))
    await first.storage.flush()
    await first.storage.roll_up()
    await first.append([("a", FULL_MS - 7 * HOUR_MS + 1, 100.0)])
    await first.storage.close()
    await second.storage.roll_up()
    rows = await rows_of(second, "a")
    assert [count for _, count, _ in rows] == [6, 7, 6, 6, 6, 6]
    assert rows[1][2] == 106.0
    assert not len(await second.storage._store.load_marks(None))


async def test_one_daemon_at_a_time_rolls_up(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await first.append(hours_of(-8, -2))
    for bench in pair:
        await bench.storage.flush()
    async with first.storage._store.alone("roll up") as alone:
        assert alone
        await second.storage.roll_up()
        assert await rows_of(second, "a") == []
    await second.storage.roll_up()
    assert len(await rows_of(second, "a")) == 6
    await first.storage.roll_up()
    assert first.storage._tiers.watermark == second.storage._tiers.watermark
    assert first.storage.counters.rollup_samples == 0  # what the other has done is done


async def test_a_portion_is_made_again_when_another_stores_something_meanwhile(pair: tuple[Bench, Bench]) -> None:
    first, second = pair
    await first.append(hours_of(-8, -2))
    await first.storage.flush()
    store = first.storage._store
    write_tiers, disturbed = store.write_tiers, [3]

    async def disturb(batch: TierBatch) -> None:
        if disturbed[0]:
            disturbed[0] -= 1
            await second.append([("a", FULL_MS - 3 * HOUR_MS + disturbed[0], 7.0)])
            await second.storage.flush()
        await write_tiers(batch)

    store.write_tiers = disturb  # type: ignore[method-assign]  # calls the real one
    await first.storage.roll_up()
    assert disturbed == [0]
    assert [count for _, count, _ in await rows_of(first, "a")] == [6, 6, 6, 6, 7, 8]
    await assert_rolled_up(first)


async def test_the_end_of_an_hour_waits_for_those_who_have_not_stored_it_yet(database: str, tmp_path: Path) -> None:
    now_ms = wall_clock_ms()
    hour_ago_ms = now_ms - HOUR_MS
    benches = [await open_bench(database, tmp_path / name, now_ms=now_ms) for name in ("first", "second")]
    for number, bench in enumerate(benches):
        await bench.append([("a", now_ms - 5 * HOUR_MS + number, 1.0), ("a", now_ms - number - 1, 1.0)])
        await bench.storage.flush()
    first, second = benches
    connection = await asyncpg.connect(database)

    async def reached_ms() -> int:
        await second.storage.roll_up()
        reached = second.storage._tiers.watermark
        assert reached is not None
        return reached.upto_ms

    # The first one has something that it has not stored for an hour.
    await first.append([("b", now_ms - 1, 1.0)])
    await connection.execute("UPDATE promlike.writers SET stored_until = now() - INTERVAL '1 hour' WHERE number = 1")
    await first.storage._store.note_presence(has_stored_all=first.storage._flusher.has_stored_all())
    assert hour_ago_ms - GRACE_MS - HOUR_MS < await reached_ms() <= hour_ago_ms - GRACE_MS + 10_000
    # Nor when it stores is known any more once it is not there.
    await connection.execute("UPDATE promlike.writers SET last_seen_at = now() - INTERVAL '6 minutes' WHERE number = 1")
    assert await reached_ms() == floor_ms(now_ms - GRACE_MS, HOUR_MS)
    await connection.close()
    for bench in benches:
        await bench.storage.close()


async def test_nobody_waits_for_a_daemon_that_gets_no_samples(database: str, tmp_path: Path) -> None:
    now_ms = wall_clock_ms()
    busy, idle = [await open_bench(database, tmp_path / name, now_ms=now_ms) for name in ("busy", "idle")]
    for bench in (busy, idle):
        await bench.append([("a", now_ms - 5 * HOUR_MS, 1.0)])
        await bench.storage.flush()
    await busy.append([("a", now_ms - 1, 1.0)])
    await busy.storage.flush()
    connection = await asyncpg.connect(database)
    await connection.execute(
        "UPDATE promlike.writers SET stored_until = now() - INTERVAL '3 hours', last_seen_at = now() - INTERVAL '4 minutes'"
    )
    await idle.storage.roll_up()  # as it does every minute
    await busy.storage.roll_up()
    reached = busy.storage._tiers.watermark
    assert reached is not None
    assert reached.upto_ms == floor_ms(now_ms - GRACE_MS, HOUR_MS)
    await connection.close()
    for bench in (busy, idle):
        await bench.storage.close()
