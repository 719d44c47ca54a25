"""Nothing acknowledged is lost and nothing is there twice, whenever the process ends."""

import asyncio
import random
import shutil
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from promlike.errors import StorageError, StorageUnavailable
from promlike.model.blocks import STALE_NAN
from promlike.model.labels import labels
from promlike.storage.access import Metadata
from promlike.storage.store import FlushBatch, Store, WalPosition
from tests.storage.conftest import NOW_MS, Bench, Benches, answer, bits


class Delegate:
    """A store that does what another does; tests override what they want to go wrong."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def write(self, batch: FlushBatch) -> None:
        await self.store.write(batch)

    async def load_position(self) -> WalPosition | None:
        return await self.store.load_position()


def rows_in_sql(folder: Path) -> list[tuple[str, int, int]]:
    """(instance, time, bits) of every stored sample, straight from the file."""
    with duckdb.connect(folder / "promlike.duckdb", read_only=True) as connection:
        table = connection.sql(
            "SELECT labels->>'instance' AS i, ts, value FROM samples JOIN series ON id = series_id ORDER BY i, ts"
        ).to_arrow_table()
    values = np.array(table.column(2).to_numpy()).view(np.int64).tolist()
    return list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), values, strict=True))


async def test_samples_survive_every_kind_of_restart(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 30, 1.0), ("b", NOW_MS - 20, np.nan), ("a", NOW_MS - 10, STALE_NAN)])
    wanted = {"a": {NOW_MS - 30: 1.0, NOW_MS - 10: STALE_NAN}, "b": {NOW_MS - 20: np.nan}}
    assert await bench.select() == answer(wanted)
    crashed = shutil.copytree(bench.folder, bench.folder.with_name("crashed"))
    await bench.reopen()
    assert await bench.select() == answer(wanted)
    again = await benches(folder=crashed)
    assert again.storage.gauges.unflushed_samples == 3
    assert await again.select() == answer(wanted)
    await again.append([("b", NOW_MS, 5.0), ("c", NOW_MS, 6.0)])
    wanted["b"][NOW_MS] = 5.0
    wanted["c"] = {NOW_MS: 6.0}
    assert await again.select() == answer(wanted)
    await again.reopen()
    assert await again.select() == answer(wanted)


async def test_what_was_flushed_and_sent_again_is_there_once(benches: Benches) -> None:
    bench = await benches()
    samples = [(name, NOW_MS - 1000 + k * 10, float(k)) for name in "ab" for k in range(50)]
    await bench.append(samples)
    await bench.reopen()
    await bench.append(samples)
    await bench.append([("a", NOW_MS - 1000, 77.0)])
    await bench.storage.flush()
    await bench.append([("a", NOW_MS - 990, 78.0), ("a", NOW_MS - 995, 79.0)])
    await bench.storage.close()
    wanted = {(name, ts): value for name, ts, value in samples}
    wanted |= {("a", NOW_MS - 1000): 77.0, ("a", NOW_MS - 990): 78.0, ("a", NOW_MS - 995): 79.0}
    assert rows_in_sql(bench.folder) == sorted((name, ts, bits(value)) for (name, ts), value in wanted.items())


async def test_replaying_twice_changes_nothing(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS + k, float(k)) for k in range(5)])
    copies = [shutil.copytree(bench.folder, bench.folder.with_name(f"copy{k}")) for k in range(2)]
    first = await benches(folder=copies[0])
    again = shutil.copytree(copies[0], bench.folder.with_name("again"))
    second = await benches(folder=again)
    assert await first.select() == await second.select() == await bench.select()


@pytest.mark.parametrize("segment_bytes", [200, 64 << 20])
async def test_a_flush_after_a_crash_stores_where_the_log_really_ends(benches: Benches, segment_bytes: int) -> None:
    """A segment may be longer than it should, and the size it should have may be another at the next start."""
    bench = await benches(wal_segment_bytes=segment_bytes)
    truth = {"a": {NOW_MS + k: float(k) for k in range(60)}}
    for low in (0, 30):
        await bench.append([("a", NOW_MS + k, float(k)) for k in range(low, low + 30)])
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")), wal_segment_bytes=200)
    await crashed.storage.flush()
    await crashed.append([("a", NOW_MS + 100, 1.0)])
    truth["a"][NOW_MS + 100] = 1.0
    again = await benches(folder=shutil.copytree(crashed.folder, crashed.folder.with_name("again")))
    assert again.storage.replay.corruptions == []
    assert again.storage.gauges.unflushed_samples == 1
    assert await again.select() == answer(truth)


@pytest.mark.parametrize("seed", range(12))
async def test_random_lives_with_crashes_lose_and_double_nothing(benches: Benches, tmp_path: Path, seed: int) -> None:
    """Appends (new, late, repeated), flushes, restarts, crashes between and inside flushes, against a dict."""
    pick = random.Random(seed)
    crashes: list[Path] = []

    class Crashing(Delegate):
        """Copies the folder before and after the store's transaction, as a crash there would leave it."""

        async def write(self, batch: FlushBatch) -> None:
            crash()
            await super().write(batch)
            crash()

    def crash() -> None:
        if pick.random() < 0.4:
            crashes.append(shutil.copytree(bench.folder, tmp_path / f"crash{len(list(tmp_path.iterdir()))}"))

    bench = await benches(wrap=Crashing, head_window_ms=0, head_cache_bytes=0, wal_segment_bytes=2000)
    truth: dict[str, dict[int, float]] = {}
    for _ in range(60):
        action = pick.random()
        if action < 0.6:
            samples = [
                (pick.choice("abcdef"), NOW_MS + pick.choice([0, -1, pick.randrange(-500, 500)]) * 10, float(pick.randrange(3)))
                for _ in range(pick.randrange(1, 30))
            ]
            await bench.append(samples)
            for name, ts, value in samples:
                truth.setdefault(name, {})[ts] = value
        elif action < 0.8:
            await bench.storage.flush()
        elif action < 0.9:
            await bench.reopen()
        if crashes and pick.random() < 0.5:
            old = bench.storage
            await bench.start(crashes[-1])
            await old.close()
        crashes.clear()
        assert await bench.select() == answer(truth)
        low = NOW_MS + pick.randrange(-5000, 5000)
        part = {name: {ts: value for ts, value in rows.items() if low < ts <= low + 900} for name, rows in truth.items()}
        assert await bench.select(start_ms=low, end_ms=low + 900) == answer(part)
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == sorted((name, ts, bits(value)) for name, rows in truth.items() for ts, value in rows.items())


async def test_a_store_that_is_away_stops_neither_appends_nor_queries(benches: Benches) -> None:
    away = [True]

    class Away(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            if away[0]:
                next(iter(batch.chunks), None)
                raise StorageUnavailable("gone fishing")
            await super().write(batch)

    bench = await benches(wrap=Away)
    truth: dict[str, dict[int, float]] = {"a": {}}
    for k in range(4):
        await bench.append([("a", NOW_MS + k, float(k)), ("a", NOW_MS - 100 - k, float(k))])
        truth["a"] |= {NOW_MS + k: float(k), NOW_MS - 100 - k: float(k)}
        with pytest.raises(StorageUnavailable, match="gone fishing"):
            await bench.storage.flush()
        assert await bench.select() == answer(truth)
    assert bench.storage.counters.flush_failures == 4
    assert bench.storage.gauges.flush_problem == "gone fishing"
    away[0] = False
    await bench.storage.flush()
    assert bench.storage.gauges.flush_problem == ""
    assert bench.storage.gauges.unflushed_samples == 0
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == sorted(("a", ts, bits(value)) for ts, value in truth["a"].items())


@pytest.mark.parametrize("position_too", [False, True])
async def test_a_commit_whose_confirmation_was_lost_is_not_repeated(benches: Benches, position_too: bool) -> None:
    failing: list[str] = []

    class Unconfirmed(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            await super().write(batch)
            if "write" in failing:
                failing.remove("write")
                raise StorageUnavailable("connection lost")

        async def load_position(self) -> WalPosition | None:
            if "position" in failing:
                failing.remove("position")
                raise StorageUnavailable("still no connection")
            return await super().load_position()

    bench = await benches(wrap=Unconfirmed)
    await bench.append([("a", NOW_MS, 1.0)])
    failing += ["write", "position"] if position_too else ["write"]
    if position_too:
        with pytest.raises(StorageUnavailable):
            await bench.storage.flush()
    await bench.append([("a", NOW_MS + 1, 2.0), ("a", NOW_MS, 3.0)])
    await bench.storage.flush()
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == [("a", NOW_MS, bits(3.0)), ("a", NOW_MS + 1, bits(2.0))]


async def test_a_cancelled_flush_is_seen_to_its_end(benches: Benches) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    class Slow(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            started.set()
            await go.wait()
            await super().write(batch)

    bench = await benches(wrap=Slow)
    await bench.append([("a", NOW_MS, 1.0)])
    flushing = asyncio.create_task(bench.storage.flush())
    await started.wait()
    flushing.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert bench.storage.gauges.unflushed_samples == 0
    await bench.storage.flush()
    await bench.storage.close()
    assert rows_in_sql(bench.folder) == [("a", NOW_MS, bits(1.0))]


async def test_a_cancelled_append_leaves_the_others_whole(benches: Benches) -> None:
    bench = await benches()
    appends = [asyncio.create_task(bench.append([(f"s{k}", NOW_MS, float(k))])) for k in range(20)]
    await asyncio.sleep(0)
    for task in appends[::2]:
        task.cancel()
    done = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in done[::2])
    # What was handed to the WAL may be kept, though nobody was told so; after the log is drained, memory and log agree.
    await bench.append([("last", NOW_MS, 0.0)])
    before = await bench.select()
    assert len(before) >= 11
    again = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("copy")))
    assert await again.select() == before


async def test_metadata_survives(benches: Benches) -> None:
    bench = await benches()
    up = Metadata(metric="up", type="gauge", help="is it up?")
    await bench.storage.set_metadata([up])
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert crashed.storage.metadata() == {"up": up}
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.reopen()
    assert bench.storage.metadata() == {"up": up}
    newer = replace(up, help="newer")
    await bench.storage.set_metadata([newer])
    await bench.reopen()
    assert bench.storage.metadata() == {"up": newer}


async def test_a_folder_has_one_owner(benches: Benches) -> None:
    bench = await benches()
    with pytest.raises(StorageError, match="in use by another"):
        await benches(folder=bench.folder)


CHILD = """
import asyncio, os, resource, sys, time
from pathlib import Path
import numpy as np
from promlike.errors import StorageUnavailable
from promlike.model.labels import labels
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions

async def main(folder, mode):
    options = StorageOptions(data_dir=folder, flush_interval_ms=150, head_max_bytes=1 << 30, wal_segment_bytes=200_000)
    storage = Storage(options, DuckDBStore(folder / "promlike.duckdb"))
    await storage.open()
    running = asyncio.create_task(storage.run()) if mode == "kill" else None
    base = int(time.time() * 1000) - 3_600_000
    if mode == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))

    async def write(worker):
        k = 0
        while k < 3000:
            names = [f"{worker}-{k // 50}-{i}" for i in range(5)]
            refs = np.array([storage.series_ref(labels({"__name__": "up", "instance": name})) for name in names], np.int32)
            try:
                await storage.append(refs, np.full(5, base + k, np.int64), np.full(5, float(k)))
            except StorageUnavailable as error:
                os.write(1, b"refused\\n")
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                continue
            os.write(1, f"{worker} {k} {base + k}\\n".encode())
            k += 1
            if mode == "full" and k == 300:
                break

    await asyncio.gather(*(write(worker) for worker in range(4)))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
os._exit(0)
"""


async def run_child(folder: Path, mode: str, kill_after_s: float | None) -> list[str]:
    """Run CHILD, kill it when told so, return the lines it wrote."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(folder), mode, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(120):
            first = await child.stdout.readline()
            async with asyncio.TaskGroup() as tasks:
                rest = tasks.create_task(child.stdout.read())
                if kill_after_s is not None:
                    await asyncio.sleep(kill_after_s)
                    child.kill()
            return (first + rest.result()).decode().splitlines()
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def acknowledged(lines: list[str]) -> dict[str, dict[int, float]]:
    wanted: dict[str, dict[int, float]] = {}
    for line in lines:
        if len(line.split()) == 3:
            worker, k, ts = map(int, line.split())
            for i in range(5):
                wanted.setdefault(f"{worker}-{k // 50}-{i}", {})[ts] = float(k)
    return wanted


@pytest.mark.parametrize("kill_after_s", [0.05, 0.33, 0.8])
async def test_kill_9_loses_and_doubles_nothing(benches: Benches, tmp_path: Path, kill_after_s: float) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    lines = await run_child(folder, "kill", kill_after_s)
    wanted = acknowledged(lines)
    bench = await real_time(benches, folder)
    await holds(bench, wanted)
    await bench.reopen()
    await holds(bench, wanted)
    await bench.storage.close()
    counted = Counter((name, ts) for name, ts, _ in rows_in_sql(folder))
    assert max(counted.values()) == 1
    assert all(counted[name, ts] == 1 for name, rows in wanted.items() for ts in rows)


async def test_a_full_disk_refuses_and_recovers(benches: Benches, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    lines = await run_child(folder, "full", None)
    assert "refused" in lines
    wanted = acknowledged(lines)
    assert sum(map(len, wanted.values())) == 4 * 300 * 5
    bench = await real_time(benches, folder)
    assert not bench.storage.counters.wal_corruptions
    assert not bench.storage.counters.replay_unknown_samples
    await holds(bench, wanted)


async def real_time(benches: Benches, folder: Path) -> Bench:
    return await benches(folder=folder, retention_ms=0)


async def holds(bench: Bench, wanted: dict[str, dict[int, float]]) -> None:
    """Everything wanted is there once; beside it only what was written but not yet told."""
    found = await bench.select()
    for instance, rows in wanted.items():
        series = dict(found[labels({"__name__": "up", "instance": instance})])
        assert {ts: series.get(ts) for ts in rows} == {ts: bits(value) for ts, value in rows.items()}
    assert sum(map(len, found.values())) <= sum(map(len, wanted.values())) + 4 * 5


async def test_a_flush_may_begin_between_two_records_that_were_written_together(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promlike.storage.wal.TURN_SECONDS", 0.0)
    bench = await benches()
    truth = {f"s{k}": {NOW_MS + i * 10: float(i) for i in range(4)} for k in range(40)}
    for i in range(4):
        appends = [asyncio.create_task(bench.append([(name, NOW_MS + i * 10, float(i))])) for name in truth]
        flushes = [asyncio.create_task(bench.storage.flush())]
        for _ in range(12):
            await asyncio.sleep(0.0005)
            flushes.append(asyncio.create_task(bench.storage.flush()))
        await asyncio.gather(*appends, *flushes)
    crashed = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("crashed")))
    assert await crashed.select() == await bench.select() == answer(truth)
    await crashed.storage.close()
    assert rows_in_sql(crashed.folder) == sorted((name, ts, bits(value)) for name, rows in truth.items() for ts, value in rows.items())
