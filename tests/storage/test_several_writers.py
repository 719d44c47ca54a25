"""Several daemons write into one database: each series has one id, each writer its own refs and its own WAL position."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import orjson
import pytest

from promlike.cache.redis import RedisCache
from promlike.errors import StorageConflict, StorageError
from promlike.model.clock import wall_clock_ms
from promlike.model.flushes import StoredChange
from promlike.storage.store import DAY_MS, FlushBatch, SeriesRecord, WalPosition
from promlike.storage.timescale import flushes
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.shared_ids import SharedIds
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.writer_id import read_writer_id
from tests.cache.redis_server import redis_server
from tests.storage.store_suite import START_MS, batch, deletion, loaded, read, unpacked, up

Writers = Callable[[str], Awaitable[TimescaleStore]]
"""Opens the store of the daemon of that name; the fixture closes it."""


@pytest.fixture
async def writers(database: str, tmp_path: Path) -> AsyncIterator[Writers]:
    opened: list[TimescaleStore] = []

    async def open_writer(name: str) -> TimescaleStore:
        (tmp_path / name).mkdir(exist_ok=True)
        opened.append(TimescaleStore(database, folder=tmp_path / name))
        await opened[-1].open()
        return opened[-1]

    yield open_writer
    for store in opened:
        await store.close()


def series(*named: tuple[int, str]) -> list[SeriesRecord]:
    return [SeriesRecord(ref=ref, labels=up(instance)) for ref, instance in named]


async def test_a_series_that_two_write_has_one_id(writers: Writers, database: str) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS, 2.0)]}, series=series((0, "a"), (1, "b"))))
    await second.write(batch({0: [(START_MS + 1, 3.0)], 1: [(START_MS + 1, 4.0)]}, series=series((0, "b"), (1, "c"))))
    assert await read(first, [0, 1]) == [[(START_MS, 1.0)], [(START_MS, 2.0), (START_MS + 1, 3.0)]]
    assert await read(second, [1, 0]) == [[(START_MS + 1, 4.0)], [(START_MS, 2.0), (START_MS + 1, 3.0)]]
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM promlike.series") == 3
    await connection.close()


async def flush(store: TimescaleStore, given: FlushBatch) -> None:
    """As a flusher does: TimescaleDB compresses chunks as old as these in a job of its own, which may be in the way."""
    for _ in range(20):
        try:
            return await store.write(given)
        except StorageConflict:
            continue
    raise AssertionError("others were always in the way")


async def test_many_series_written_at_once_have_one_id_each(writers: Writers, database: str) -> None:
    stores = [await writers(str(number)) for number in range(3)]
    for number in range(3):
        named = [(number * 200 + k, f"{number}-{k}") for k in range(200)]
        samples = {ref: [(START_MS + number, 1.0)] for ref, _ in named}
        await asyncio.gather(*(flush(store, batch(samples, series=series(*named), position=(1, 8 + number))) for store in stores))
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM promlike.series") == 600
    assert await connection.fetchval("SELECT count(DISTINCT series_id) FROM promlike.writer_series") == 600
    await connection.close()


async def test_writers_get_by_a_job_that_compresses_their_chunk(writers: Writers, database: str) -> None:
    """Late samples go into the chunk that the job works on; each flush has other times, so none replaces another's."""
    stores = [await writers(str(number)) for number in range(2)]
    connection = await asyncpg.connect(database)
    job = await connection.fetchval("SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'samples'")

    async def write(number: int, store: TimescaleStore) -> None:
        for k in range(40):
            new = series(*((ref, str(ref)) for ref in range(50))) if not k else ()
            samples = {ref: [(START_MS + k * 1000 + number, 1.0)] for ref in range(50)}
            await flush(store, batch(samples, late={7: [(START_MS + k * 1000 + 500 + number, 1.0)]}, series=new, position=(1, 8 + k)))

    writing = asyncio.gather(*(write(number, store) for number, store in enumerate(stores)))
    while not writing.done():
        with suppress(asyncpg.PostgresError):  # when a flush was there first
            await connection.execute(f"CALL run_job({job})")
        await asyncio.sleep(0.01)
    await writing
    places = "SELECT count(*), count(DISTINCT (series_id, ts)) FROM promlike.samples"
    assert tuple(await connection.fetchrow(places)) == (2 * 40 * 51, 2 * 40 * 51)
    await connection.close()


async def test_ids_are_shared_through_redis_which_may_be_away_or_wrong(database: str, tmp_path: Path) -> None:
    named = [(ref, f"i{ref}") for ref in range(300)]
    with redis_server() as redis:
        for round_, name in enumerate(["first", "second", "away", "wrong"]):
            folder = tmp_path / name
            await asyncio.to_thread(folder.mkdir)
            cache = RedisCache(redis.url, timeout_s=5.0)
            if name == "away":
                redis.kill()
            elif name == "wrong":
                redis.start()
                texts = [orjson.dumps(dict(up(instance))).decode() for _, instance in named]
                shared = SharedIds(cache, await database_id(database))
                ids = SeriesIds()
                ids.set(np.arange(300, dtype=np.int32), np.arange(300, dtype=np.int32)[::-1] + 1)
                await shared.find([ref for ref, _ in named], texts)
                await shared.remember(ids)
            store = TimescaleStore(database, folder=folder, cache=cache)
            await store.open()
            await store.write(batch({ref: [(START_MS + round_, float(round_))] for ref, _ in named}, series=series(*named)))
            assert await read(store, [299]) == [[(START_MS + k, float(k)) for k in range(round_ + 1)]]
            assert cache.counters.hits == (300 if name in ("second", "wrong") else 0)
            await store.close()
            await cache.close()
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM promlike.series") == 300
    await connection.close()


async def database_id(database: str) -> str:
    connection = await asyncpg.connect(database)
    found = str(await connection.fetchval("SELECT id FROM promlike.database_state"))
    await connection.close()
    return found


async def test_each_writer_has_its_own_position(writers: Writers) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch(series=series((0, "a")), position=(5, 8)))
    assert await second.load_position() is None
    await second.write(batch(series=series((0, "a")), position=(2, 8)))
    assert await first.load_position() == WalPosition(segment=5, offset=8)
    assert await (await writers("second")).load_position() == WalPosition(segment=2, offset=8)


async def test_a_writer_finds_its_refs_again(writers: Writers) -> None:
    other, store = await writers("other"), await writers("own")
    await other.write(batch({0: [(START_MS, 1.0)]}, series=series((0, "x"))))
    await store.write(batch({5: [(START_MS, 1.0)], 9: [(START_MS, 2.0)]}, series=series((5, "b"), (9, "a"))))
    again = await writers("own")
    assert [(record.ref, record.labels) for record in await loaded(again)] == [(5, up("b")), (9, up("a")), (None, up("x"))]
    assert await read(again, [9, 5]) == [[(START_MS, 2.0)], [(START_MS, 1.0)]]


async def test_what_others_stored_is_news_once(writers: Writers) -> None:
    first, second = await writers("first"), await writers("second")
    assert await loaded(second) == []
    assert await second.load_news() is None
    await first.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS + 5, 2.0)]}, series=series((0, "a"), (1, "b"))))
    news = await second.load_news()
    assert news is not None
    assert not len(news.refs)
    found = [each for portion in news.series for each in unpacked(portion)]
    assert sorted((each.labels, each.min_time_ms, each.max_time_ms) for each in found) == [
        (up("a"), START_MS, START_MS),
        (up("b"), START_MS + 5, START_MS + 5),
    ]
    assert await second.load_news() is None
    refs = np.array([7 if each.labels == up("a") else 8 for each in found], np.int32)
    second.adopt(np.concatenate([portion.ids for portion in news.series]), refs)
    assert await read(second, [7, 8]) == [[(START_MS, 1.0)], [(START_MS + 5, 2.0)]]
    await second.write(batch({3: [(START_MS, 1.0)]}, series=series((3, "own"))))
    await first.write(batch({1: [(START_MS + 9, 1.0)]}, position=(1, 16)))
    news = await second.load_news()
    assert news is not None
    assert not news.series
    assert (news.refs.tolist(), news.min_time_ms.tolist(), news.max_time_ms.tolist()) == ([8], [START_MS + 5], [START_MS + 9])


async def test_of_equal_times_the_last_write_stands(writers: Writers, database: str) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch({0: [(START_MS + k, 1.0) for k in range(4)]}, series=series((0, "a"))))
    await second.write(batch({2: [(START_MS + k, 2.0) for k in range(2, 6)]}, series=series((2, "a"))))
    expected = [(START_MS, 1.0), (START_MS + 1, 1.0), *((START_MS + k, 2.0) for k in range(2, 6))]
    assert await read(first, [0]) == [expected]
    await first.write(batch({0: [(START_MS + 5, 3.0), (START_MS + 7, 3.0)]}, late={0: [(START_MS + 2, 3.0)]}, position=(1, 16)))
    expected[2], expected[5:] = (START_MS + 2, 3.0), [(START_MS + 5, 3.0), (START_MS + 7, 3.0)]
    assert await read(second, [2]) == [expected]
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM promlike.samples") == len(expected)
    await connection.close()


async def test_where_writers_may_see_different_samples_is_told_to_all(writers: Writers) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch({0: [(START_MS + k, 1.0) for k in range(4)]}, series=series((0, "a"))))
    await first.write(batch(late={0: [(START_MS, 2.0)]}, position=(1, 16)))
    assert (await second.load_flushes(0)).disputes == ()  # there is nobody else who could have something in memory
    # The same value twice, or a time that nobody has, is nothing to dispute.
    await second.write(batch({2: [(START_MS + k, 1.0) for k in (1, 9)]}, series=series((2, "a"))))
    assert (await second.load_flushes(0)).disputes == ()
    await second.write(batch(late={2: [(START_MS + 1, -0.0), (START_MS + 2, 1.0), (START_MS + 3, 5.0)]}, position=(1, 16)))
    dispute = StoredChange(metric="up", start_ms=START_MS, end_ms=START_MS + 3)
    assert (await first.load_flushes(0)).disputes == (dispute,)
    last = (await first.load_flushes(0)).last
    await first.write(batch(deletions=[deletion([0], START_MS + 5, START_MS + 9)], position=(1, 24)))
    news = await second.load_flushes(last)
    assert news.disputes == (StoredChange(metric="up", start_ms=START_MS + 5, end_ms=START_MS + 9),)
    assert [(each.number, each.own) for each in news.records] == [(last + 1, False)]
    # What retention deletes takes the disputes of its times with it.
    await first.delete_before(START_MS + 4)
    assert [(each.metric, each.end_ms) for each in (await second.load_flushes(0)).disputes] == [("up", START_MS + 9), (None, START_MS + 3)]


async def test_of_too_many_disputes_one_is_kept_that_covers_them(writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushes, "MOST_DISPUTES", 3)
    first, second = await writers("first"), await writers("second")
    await second.write(batch({0: [(START_MS, 1.0)]}, series=series((0, "a"))))
    await first.write(batch({0: [(START_MS + k, 1.0) for k in range(9)]}, series=series((0, "a"))))
    for k in range(4):
        gone = deletion([0], START_MS + 2 * k, START_MS + 2 * k + 1)
        await first.write(batch(deletions=[gone], position=(1, 16 + k)))
    assert (await second.load_flushes(0)).disputes == (StoredChange(metric=None, start_ms=START_MS, end_ms=START_MS + 7),)


async def test_a_flush_of_a_writer_that_tells_nothing_leaves_a_gap(writers: Writers, database: str) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch({0: [(START_MS, 1.0)]}, series=series((0, "a"))))
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE promlike.database_state SET last_flush = last_flush + 1")
    await connection.close()
    news = await second.load_flushes(0)
    assert [each.number for each in news.records] == list(range(1, news.last))


async def test_a_series_is_dropped_when_its_last_writer_drops_it(writers: Writers) -> None:
    first, second = await writers("first"), await writers("second")
    await first.write(batch({0: [(START_MS, 1.0)]}, series=series((0, "a"))))
    await second.write(batch({3: [(START_MS + 1, 1.0)]}, series=series((3, "a"))))
    await first.delete_series(np.array([0], np.int32))
    assert [record.ref for record in await loaded(first)] == [None]
    assert [record.ref for record in await loaded(second)] == [3]
    await second.write(batch({3: [(START_MS + 2, 1.0)]}, position=(1, 16)))
    await second.delete_series(np.array([3], np.int32))
    await first.write(batch({0: [(START_MS + 3, 1.0)]}, series=series((0, "a")), position=(1, 16)))
    assert await read(first, [0]) == [[(START_MS + 3, 1.0)]]


async def test_a_writer_that_was_away_longer_than_samples_are_kept_is_forgotten(writers: Writers, database: str) -> None:
    gone, store = await writers("gone"), await writers("store")
    await gone.write(batch({0: [(START_MS, 1.0)], 1: [(START_MS, 1.0)]}, series=series((0, "a"), (1, "b"))))
    await store.write(batch({0: [(START_MS + 1, 1.0)]}, series=series((0, "b"))))
    await store.delete_before(START_MS - 1)
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM promlike.series") == 2
    await connection.execute("UPDATE promlike.writers SET last_seen_at = $1", datetime.fromtimestamp(START_MS / 1000, UTC))
    await store.delete_before(START_MS + 1)
    assert await connection.fetchval("SELECT count(*) FROM promlike.series") == 1
    assert [record.labels for record in await loaded(store)] == [up("b")]
    await connection.close()


async def test_a_daemon_whose_clock_is_ahead_forgets_nobody_who_is_there(writers: Writers, database: str) -> None:
    here, ahead = await writers("here"), await writers("ahead")
    for store in (here, ahead):
        await store.write(batch({0: [(START_MS, 1.0)]}, series=series((0, "a"))))
    await ahead.delete_before(wall_clock_ms() + 30 * DAY_MS)
    for store in (here, ahead):
        await store.write(batch({0: [(START_MS + 1, 1.0)]}, position=(1, 16)))
        assert await store.load_position() == WalPosition(segment=1, offset=16)


@pytest.mark.parametrize("change", ["DELETE FROM promlike.writers", "UPDATE promlike.writers SET byte_offset = 8"])
async def test_a_flush_into_a_database_that_went_back_fails(writers: Writers, database: str, change: str) -> None:
    """Or that knows this daemon no more: samples would be stored under ids that no series has, or another."""
    store = await writers("store")
    for k in (0, 1):
        await store.write(batch({0: [(START_MS + k, 1.0)]}, series=series((0, "a")), position=(1, 8 + 8 * k)))
    connection = await asyncpg.connect(database)
    await connection.execute(change)
    for _ in range(2):
        with pytest.raises(StorageError, match="less than this daemon stored"):
            await store.write(batch({0: [(START_MS + 2, 1.0)]}, position=(1, 24)))
        assert await store.load_position() != WalPosition(segment=1, offset=16)
    assert await connection.fetchval("SELECT count(*) FROM promlike.samples") == 2
    await connection.close()


async def test_samples_of_a_series_that_was_never_announced_are_refused(writers: Writers) -> None:
    store = await writers("own")
    with pytest.raises(StorageError, match="series 4 has samples to store"):
        await store.write(batch({4: [(START_MS, 1.0)]}))
    assert await store.load_position() is None


def test_a_folder_keeps_its_writer_id(tmp_path: Path) -> None:
    made, is_new = read_writer_id(tmp_path)
    assert is_new
    assert read_writer_id(tmp_path) == (made, False)
    (tmp_path / "writer_id").write_text("somebody")
    with pytest.raises(StorageError, match="'somebody', which is no id of a writer"):
        read_writer_id(tmp_path)


def test_ids_and_refs_find_each_other() -> None:
    ids = SeriesIds()
    assert ids.refs_of(np.array([7], np.int32)).tolist() == [-1]
    ids.set(np.array([0, 5000, 2], np.int32), np.array([70, 1, 30], np.int32))
    assert ids.ids_of(np.array([5000, 1, 0, 99_999], np.int32)).tolist() == [1, -1, 70, -1]
    assert ids.refs_of(np.array([30, 2, 70, 71, 1], np.int32)).tolist() == [2, -1, 0, -1, 5000]
    ids.forget(np.array([5000, 99_999], np.int32))
    assert ids.ids_of(np.array([5000], np.int32)).tolist() == [-1]
    assert ids.refs_of(np.array([1], np.int32)).tolist() == [-1]
