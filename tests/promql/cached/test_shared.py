"""Daemons that share answers through Redis: what each is given is, byte for byte, what it would have evaluated itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shutil import copytree
from zlib import crc32

import numpy as np
import pytest
from redis.asyncio import Redis

from promlike.api.encode import encode_value
from promlike.cache.redis import RedisCache
from promlike.model.blocks import Int32, StepGrid
from promlike.model.labels import Labels, labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.fingerprint import fingerprint
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import SETTLED_MS, CachedRanges
from promlike.promql.cached.shared import TRUSTED_S, SharedRuns
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions, Features
from promlike.promql.parser import parse
from promlike.promql.result import QueryResult
from promlike.promql.steady import is_steady
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.store import Store
from promlike.storage.timescale.store import TimescaleStore
from tests.cache.redis_server import RedisServer, redis_server
from tests.differential.data import build
from tests.differential.random_queries import QueryGenerator
from tests.promql.cached.test_ranges import MINUTE_MS, NOW_MS, deal, grid_to, outcome

FEATURES = Features(promql_experimental_functions=True)


@dataclass(slots=True, kw_only=True)
class Daemon:
    """A storage with an engine and both levels of the cache, as they are in one process."""

    storage: Storage
    engine: Engine
    ranges: CachedRanges
    results: ResultCache
    shared: SharedRuns
    cache: RedisCache

    async def append(self, name: str, points: dict[int, float], **pairs: str) -> None:
        ref = self.storage.series_ref(labels({"__name__": name, **pairs}))
        times, values = np.array(list(points), np.int64), np.array(list(points.values()), np.float64)
        await self.storage.append(np.full(len(times), ref, np.int32), times, values)

    async def append_all(self, batch: list[tuple[int, Labels, int, float]]) -> None:
        refs = np.array([self.storage.series_ref(series) for _, series, _, _ in batch], np.int32)
        await self.storage.append(refs, np.array([ts for _, _, ts, _ in batch]), np.array([value for *_, value in batch]))

    async def same(self, query: str, grid: StepGrid, *, with_stats: bool = False) -> QueryResult:
        """The answer, which must be that without any cache. What is to be shared is, afterwards."""
        found = await self.ranges.range(self.storage, query, grid, with_stats=with_stats)
        plain = await self.engine.range(self.storage, query, grid, with_stats=with_stats)
        assert encode_value(found.value) == encode_value(plain.value), (query, grid)
        assert (found.warnings, found.infos) == (plain.warnings, plain.infos)
        assert found.stats.samples_per_step == plain.stats.samples_per_step
        await self.shared.write()
        return found

    def forget(self) -> None:
        """Everything that is in memory."""
        for key in self.results.known():
            self.results.drop(key)

    async def close(self) -> None:
        await self.storage.close()
        self.engine.close()
        await self.cache.close()


Daemons = Callable[..., Awaitable[Daemon]]


@dataclass(slots=True)
class Clock:
    now_ms: int = NOW_MS


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def daemons(tmp_path: Path, redis: RedisServer, clock: Clock) -> AsyncIterator[Daemons]:
    """Starts daemons: `await daemons("one")` on DuckDB, `await daemons("one", database)` on PostgreSQL."""
    opened: list[Daemon] = []
    with ThreadPoolExecutor(2) as pool:

        async def start(name: str, database: str = "", *, cache_bytes: int = 1 << 24) -> Daemon:
            folder = tmp_path / name
            await asyncio.to_thread(folder.mkdir, exist_ok=True)
            options = StorageOptions(data_dir=folder, head_max_bytes=1 << 28)
            store: Store = TimescaleStore(database, folder=folder) if database else DuckDBStore(folder / "promlike.duckdb")
            storage = Storage(options, store, now_ms=lambda: clock.now_ms)
            await storage.open(lambda line: None)
            log, history = ChangeLog(), StoreHistory()

            def changed(refs: Int32, start_ms: int, end_ms: int) -> None:
                log.changed(storage.metrics_of(refs), start_ms, end_ms)

            storage.changes.subscribe(changed, settled_ms=SETTLED_MS)
            engine_options = EngineOptions(features=FEATURES)
            engine, results, cache = (
                Engine(engine_options, pool),
                ResultCache(cache_bytes),
                RedisCache(redis.url, timeout_s=5, pause_s=0.05),
            )
            shared = SharedRuns(
                cache,
                log,
                history,
                pool,
                database=lambda: storage.database,
                fingerprint=fingerprint(engine_options),
                view=lambda: storage.view,
            )

            async def hurry() -> None:
                """Tests say when a daemon follows the others."""

            ranges = CachedRanges(
                engine,
                engine_options,
                results,
                log,
                pool,
                oldest_ms=lambda: storage.oldest_ms,
                history=history,
                flushes=storage.flushes,
                choose_tiers=storage.choose_tiers,
                view=lambda: storage.view,
                hurry=hurry,
                now_ms=lambda: clock.now_ms,
                shared=shared,
            )
            daemon = Daemon(storage=storage, engine=engine, ranges=ranges, results=results, shared=shared, cache=cache)
            opened.append(daemon)
            return daemon

        yield start
        for daemon in opened:
            await daemon.close()


async def fill(daemon: Daemon, *, until_ms: int = NOW_MS, name: str = "m", minutes: int = 80) -> None:
    """`m{n="0".."2"}`, a sample every 15 s."""
    for n in range(3):
        await daemon.append(name, {until_ms - at * 15_000: float(n * at % 7) for at in range(minutes * 4, -1, -1)}, n=str(n))


GRID = grid_to(NOW_MS - 5 * MINUTE_MS)
QUERY = "sum by (n) (avg_over_time(m[5m]))"


async def test_a_daemon_that_starts_again_finds_its_answers(daemons: Daemons) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    assert (await daemon.same(QUERY, GRID)).stats.cached_steps == 0
    assert daemon.shared.counters.written == 0  # its samples are not flushed
    await daemon.storage.flush()
    await daemon.same(QUERY, grid_to(NOW_MS - 5 * MINUTE_MS, minutes=31))  # something is evaluated, and so offered
    assert daemon.shared.counters.written == 1
    await daemon.storage.close()
    again = await daemons("one")
    result = await again.same(QUERY, GRID)
    assert (result.stats.cached_steps, result.stats.shared_steps) == (GRID.count, GRID.count)
    assert again.results.counters.shared_steps == GRID.count
    # From now on it is in memory.
    assert (await again.same(QUERY, GRID)).stats.shared_steps == 0
    assert again.shared.counters.useful == 1


async def test_statistics_per_step_are_shared_with_the_answer(daemons: Daemons) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.same(QUERY, GRID, with_stats=True)
    await daemon.storage.close()
    assert (await (await daemons("one")).same(QUERY, GRID, with_stats=True)).stats.shared_steps == GRID.count


async def test_samples_that_wait_for_a_flush_keep_steps_from_being_shared_and_from_being_taken(daemons: Daemons, clock: Clock) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.same(QUERY, GRID)
    late_ms = NOW_MS - 15 * MINUTE_MS
    await daemon.append("m", {late_ms + 7: 99.0}, n="1")
    daemon.forget()
    result = await daemon.same(QUERY, GRID)
    assert result.stats.shared_steps == sum(ts < late_ms + 7 for ts in GRID.times_ms().tolist())
    daemon.forget()
    await daemon.storage.flush()
    result = await daemon.same(QUERY, GRID)
    assert 0 < result.stats.shared_steps < GRID.count


@pytest.mark.parametrize("crash", [False, True])
async def test_what_came_late_or_was_deleted_before_a_restart_is_not_missed(daemons: Daemons, tmp_path: Path, crash: bool) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.same(QUERY, GRID)
    await daemon.append("m", {NOW_MS - 10 * MINUTE_MS + 7: 99.0}, n="1")
    matchers = (Matcher("n", MatchOp.EQUAL, "2"),)
    assert await daemon.storage.delete_series([matchers], start_ms=NOW_MS - 40 * MINUTE_MS, end_ms=NOW_MS - 30 * MINUTE_MS) == 1
    if crash:
        copy = tmp_path / "copy"
        await asyncio.to_thread(copytree, tmp_path / "one", copy)
        again = await daemons("copy")
    else:
        await daemon.storage.close()
        again = await daemons("one")
    result = await again.same(QUERY, GRID)
    if crash:
        # What was deleted is not in the store yet.
        assert result.stats.shared_steps == 0
        await again.storage.flush()
        again.forget()
        result = await again.same(QUERY, GRID)
    assert 0 < result.stats.shared_steps < GRID.count


async def test_two_daemons_on_one_database_share(daemons: Daemons, database: str) -> None:
    first, second = await daemons("first", database), await daemons("second", database)
    await fill(first)
    await fill(second, name="other")
    await first.storage.flush()
    await second.storage.flush()
    await first.storage.follow()
    await second.storage.follow()
    await first.same(QUERY, GRID)
    result = await second.same(QUERY, GRID)
    assert result.stats.shared_steps == GRID.count
    # A flush of one that changes nothing old leaves the others theirs.
    await second.append("other", {NOW_MS + 1: 1.0}, n="1")
    await second.storage.flush()
    assert (await first.same(QUERY, GRID)).stats.cached_steps == GRID.count
    # A late sample is seen by the others once it was flushed and they followed; in between, what they read decides how much they see.
    await second.append("m", {NOW_MS - 20 * MINUTE_MS + 7: 99.0}, n="4")
    await second.same(QUERY, GRID)
    await second.storage.flush()
    await second.same(QUERY, grid_to(NOW_MS - 5 * MINUTE_MS, minutes=35))
    assert (await first.same(QUERY, GRID)).stats.cached_steps == 0
    assert (await first.same(QUERY, grid_to(NOW_MS - 25 * MINUTE_MS, minutes=10))).stats.cached_steps > 0
    await first.storage.follow()
    assert (await first.same(QUERY, GRID)).stats.shared_steps == GRID.count  # the other has evaluated it
    third = await daemons("third", database)
    assert (await third.same(QUERY, GRID)).stats.shared_steps > 0
    # A deletion of one, which the other shows on as long as it has the samples in memory.
    matchers = (Matcher("n", MatchOp.EQUAL, "2"), Matcher("__name__", MatchOp.EQUAL, "m"))
    await second.storage.delete_series([matchers], start_ms=NOW_MS - 40 * MINUTE_MS, end_ms=NOW_MS - 30 * MINUTE_MS)
    await second.storage.flush()
    await first.storage.follow()
    for daemon in (first, second, third, await daemons("fourth", database)):
        await daemon.same(QUERY, GRID)
        await daemon.same(QUERY, GRID)


async def test_where_two_write_other_values_of_the_same_time_nothing_is_shared(daemons: Daemons, database: str) -> None:
    first, second = await daemons("first", database), await daemons("second", database)
    await fill(first)
    time_ms = NOW_MS - 20 * MINUTE_MS
    await second.append("m", {time_ms: 77.0}, n="1")
    await first.storage.flush()
    await second.storage.flush()
    for daemon in (first, second):
        await daemon.storage.follow()
    before = await first.same(QUERY, GRID)
    after = await second.same(QUERY, GRID)
    assert encode_value(before.value) != encode_value(after.value)
    assert first.shared.counters.written == 1
    assert after.stats.shared_steps < GRID.count
    for daemon in (first, second, await daemons("third", database)):
        for minutes in (30, 35):
            await daemon.same(QUERY, grid_to(NOW_MS - 5 * MINUTE_MS, minutes=minutes))


async def test_redis_that_is_away_or_holds_something_else_is_a_miss(daemons: Daemons, redis: RedisServer) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.same(QUERY, GRID)
    client = Redis.from_url(redis.url)
    (key,) = await client.keys("promlike:range:*")
    good = await client.get(key)
    assert isinstance(good, bytes)
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for bad in (b"", b"x", b"\0" * 100, good[:-1], good + b"\0", bytes(flipped), good[:20]):
        await client.set(key, bad)
        daemon.forget()
        assert (await daemon.same(QUERY, GRID)).stats.shared_steps == 0
    assert daemon.shared.counters.invalid == 7
    # The value of another key.
    await client.set(key, good)
    await daemon.same("m", GRID)
    other = next(found for found in await client.keys("promlike:range:*") if found != key)
    await client.set(other, good)
    daemon.forget()
    assert (await daemon.same("m", GRID)).stats.shared_steps == 0
    assert daemon.shared.counters.invalid == 8
    await client.delete(key)
    daemon.forget()
    await daemon.same(QUERY, GRID)
    assert await client.exists(key)
    assert 0 < await client.ttl(key) <= 86_400
    await client.aclose()
    redis.kill()
    daemon.forget()
    assert (await daemon.same(QUERY, GRID)).stats.cached_steps == 0
    assert not daemon.cache.is_up
    redis.start()
    await asyncio.sleep(0.06)
    daemon.forget()
    await daemon.same(QUERY, GRID)
    daemon.forget()
    assert (await daemon.same(QUERY, GRID)).stats.shared_steps == GRID.count


async def test_what_redis_has_lost_is_written_again_after_a_while(daemons: Daemons, redis: RedisServer) -> None:
    daemon = await daemons("one")
    now = [0.0]
    daemon.shared._now = lambda: now[0]
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.same(QUERY, GRID)
    redis.kill()
    redis.start()
    # Each time a step is evaluated. The first attempt finds the connection broken.
    for step, (seconds, written) in enumerate(((TRUSTED_S - 1, 1), (TRUSTED_S, 1), (TRUSTED_S, 2))):
        now[0] = seconds
        await daemon.same(QUERY, StepGrid(start_ms=GRID.start_ms - 15_000 * step - 15_000, step_ms=15_000, count=100))
        assert daemon.shared.counters.written == written
        await asyncio.sleep(0.06)


async def test_a_database_that_was_restored_does_not_meet_what_came_after(daemons: Daemons, tmp_path: Path) -> None:
    daemon = await daemons("one")
    await fill(daemon)
    await daemon.storage.flush()
    await daemon.storage.close()
    for name in ("two", "three"):
        await asyncio.to_thread(copytree, tmp_path / "one", tmp_path / name)
    for name, value in (("two", 5.0), ("three", 6.0)):
        copy = await daemons(name)
        await copy.append("m", {NOW_MS - 20 * MINUTE_MS + 7: value}, n="1")
        await copy.storage.flush()
        assert (await copy.same(QUERY, GRID)).stats.shared_steps == 0
        assert copy.shared.counters.written == 1
        await copy.storage.close()


@pytest.mark.parametrize("seed", range(4))
async def test_random_queries_of_daemons_that_write_delete_flush_and_start_again(
    daemons: Daemons, database: str, redis: RedisServer, clock: Clock, seed: int
) -> None:
    """Three daemons write into one database, and nobody's answers change by what the others leave in Redis."""
    random = Random(seed)
    begin_ms = NOW_MS // MINUTE_MS * MINUTE_MS
    dealt = deal(build(begin_ms + 60 * MINUTE_MS, seed=seed), random)
    generator = QueryGenerator(seed)
    texts = [generator.query().replace("{at}", str((begin_ms - 20 * MINUTE_MS) // 1000)) for _ in range(400)]
    queries = [text for text in texts if is_steady(parse(text, FEATURES), FEATURES)][:12]
    clock.now_ms = begin_ms
    names = ["one", "two", "three"]
    fleet = {name: await daemons(name, database, cache_bytes=1 << 20) for name in names}
    arrived = shared = 0
    for _ in range(50):
        clock.now_ms += random.choice((15_000, 60_000, 120_000))
        until = arrived
        while until < len(dealt) and dealt[until][0] <= clock.now_ms:
            until += 1
        batches: dict[str, list[tuple[int, Labels, int, float]]] = {name: [] for name in names}
        for entry in dealt[arrived:until]:
            # Mostly each series has its daemon; some samples are written by two, with other values now and then.
            name = names[crc32(repr(entry[1]).encode()) % 3]
            batches[name].append(entry)
            if random.random() < 0.002:
                other = (*entry[:3], entry[3] + random.choice((0.0, 1.0)))
                batches[random.choice(names)].append(other)
        arrived = until
        for name, batch in batches.items():
            if batch:
                await fleet[name].append_all(batch)
        for name in names:
            if random.random() < 0.3:
                await fleet[name].storage.flush()
            if random.random() < 0.3:
                await fleet[name].storage.follow()
            if random.random() < 0.04:
                await fleet[name].storage.close()
                fleet[name] = await daemons(name, database, cache_bytes=1 << 20)
        if random.random() < 0.05:
            matchers = (Matcher("instance", MatchOp.EQUAL, random.choice(("a:1", "b:1"))), Matcher("job", MatchOp.EQUAL, "api"))
            start_ms = clock.now_ms - random.randint(0, 40) * MINUTE_MS
            teller = fleet[random.choice(names)].storage
            await teller.delete_series([matchers], start_ms=start_ms, end_ms=start_ms + random.randint(1, 10) * MINUTE_MS)
        if random.random() < 0.05:
            redis.kill()
            redis.start()
        for query in random.sample(queries, 3):
            step_ms = 15_000 if len(query) % 2 else MINUTE_MS
            end_ms = clock.now_ms // step_ms * step_ms - random.choice((0, 0, 10 * MINUTE_MS)) // step_ms * step_ms
            grid = grid_to(end_ms, minutes=random.choice((20, 20, 35)), step_ms=step_ms)
            for name in random.sample(names, 2):
                daemon = fleet[name]
                if random.random() < 0.3:
                    daemon.forget()
                found = await outcome(daemon.ranges.range(daemon.storage, query, grid))
                assert found == await outcome(daemon.engine.range(daemon.storage, query, grid)), (name, query, grid)
                await daemon.shared.write()
        shared = sum(daemon.results.counters.shared_steps for daemon in fleet.values())
    assert shared > 100
