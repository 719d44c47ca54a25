"""A database that hangs is not waited for: every wait ends with an error that a retry may follow."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.errors import StorageUnavailable
from promlike.storage.options import StorageOptions, Timeouts
from promlike.storage.storage import Storage
from promlike.storage.store import DAY_MS
from promlike.storage.timescale import connection as connections
from promlike.storage.timescale import partitions
from promlike.storage.timescale.copy import copy_bytes
from promlike.storage.timescale.store import TimescaleStore
from tests.servers import free_port
from tests.storage.conftest import new_database
from tests.storage.postgres import Postgres
from tests.storage.store_suite import START_MS, batch, read, records

SHORT = Timeouts(connect_s=1.0, statement_s=1.0, lock_s=0.3)


@pytest.mark.parametrize("turns", range(12))
async def test_a_start_that_waits_for_its_database_can_be_cancelled_at_any_moment(tmp_path: Path, turns: int) -> None:
    absent = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    storage = Storage(StorageOptions(data_dir=tmp_path, start_timeout_ms=600_000), TimescaleStore(absent, folder=tmp_path))
    told = asyncio.Event()
    log = logging.getLogger("promlike.storage.storage")
    handler = logging.Handler()
    handler.emit = lambda record: told.set()  # type: ignore[method-assign]  # a handler of one line
    log.addHandler(handler)
    try:
        opening = asyncio.create_task(storage.open())
        await told.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        ended, _ = await asyncio.wait([opening], timeout=5)
        opening.cancel()
        assert ended
        assert opening.cancelled()
    finally:
        log.removeHandler(handler)
        await storage.close()


@pytest.fixture
async def store(plain_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TimescaleStore]:
    monkeypatch.setattr(connections, "GRACE_S", 0.5)
    opened = TimescaleStore(plain_database, folder=tmp_path, timeouts=SHORT)
    await opened.open()
    await opened.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
    yield opened
    await opened.close()


async def server_pids(server: Postgres, url: str) -> list[int]:
    """The process that takes connections, and those of promlike's."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'promlike'")
    await connection.close()
    return [server.pid, *(row["pid"] for row in rows)]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_statement_that_takes_too_long_is_cancelled(store: TimescaleStore) -> None:
    with pytest.raises(StorageUnavailable, match="57014"):
        async with store._database.connection("sleep") as connection:
            await connection.execute("SELECT pg_sleep(30)")
    assert await read(store, [0]) == [[(START_MS, 1.0)]]


async def test_a_lock_is_waited_for_for_a_limited_time(store: TimescaleStore, plain_database: str) -> None:
    other = await asyncpg.connect(plain_database)
    async with other.transaction():
        await other.execute("LOCK TABLE promlike.samples IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StorageUnavailable, match="55P03"):
            await read(store, [0])
    await other.close()
    assert await read(store, [0]) == [[(START_MS, 1.0)]]


@pytest.mark.parametrize("server", ["timescale_server", "plain_server"])
async def test_retention_does_not_let_readers_wait_behind_a_long_one(
    request: pytest.FixtureRequest, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What drops a chunk waits for those who read it, such as pg_dump, and all who come later wait behind it."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    url = await new_database(request.getfixturevalue(server))
    store = TimescaleStore(url, folder=tmp_path)
    await store.open()
    await store.write(batch({0: [(START_MS, 1.0)]}, series=records("a")))
    reader = await asyncpg.connect(url)
    async with reader.transaction():
        assert await reader.fetchval("SELECT count(*) FROM promlike.labelled_samples") == 1
        async with asyncio.timeout(10):
            with pytest.raises(StorageUnavailable, match="55P03"):
                await store.delete_before(START_MS + 9 * DAY_MS)
            assert await read(store, [0]) == [[(START_MS, 1.0)]]
    await reader.close()
    await store.delete_before(START_MS + 9 * DAY_MS)
    assert await read(store, [0]) == [[]]
    await store.close()


async def test_a_server_that_stands_still_is_given_up_and_used_again_afterwards(
    store: TimescaleStore, plain_server: Postgres, plain_database: str
) -> None:
    started = time.monotonic()
    with stopped(await server_pids(plain_server, plain_database)):
        with pytest.raises(StorageUnavailable, match="did not answer in time"):
            await read(store, [0])
        with pytest.raises(StorageUnavailable, match=r"did not answer in time|cannot be reached"):
            await store.write(batch({0: [(START_MS + 1, 2.0)]}, position=(1, 16)))
    assert time.monotonic() - started < 30
    assert await read(store, [0]) in ([[(START_MS, 1.0)]], [[(START_MS, 1.0), (START_MS + 1, 2.0)]])
    await store.write(batch({0: [(START_MS + 1, 2.0)]}, position=(1, 16)))
    assert await read(store, [0]) == [[(START_MS, 1.0), (START_MS + 1, 2.0)]]


async def test_a_write_that_is_cancelled_leaves_nothing_and_no_lock(store: TimescaleStore, plain_database: str) -> None:
    other = await asyncpg.connect(plain_database)
    async with other.transaction():
        await other.execute("LOCK TABLE promlike.samples IN ACCESS EXCLUSIVE MODE")
        writing = asyncio.create_task(store.write(batch({0: [(START_MS + 1, 2.0)]}, position=(1, 16))))
        await asyncio.sleep(0.15)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    await other.close()
    await store.write(batch({0: [(START_MS + 2, 3.0)]}, position=(1, 24)))
    assert await read(store, [0]) == [[(START_MS, 1.0), (START_MS + 2, 3.0)]]


async def working(url: str) -> int:
    """How many statements the server works on for promlike."""
    connection = await asyncpg.connect(url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'promlike' AND state = 'active'"
    found: int = await connection.fetchval(query)
    await connection.close()
    return found


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("copied", [False, True])
async def test_the_server_stops_a_read_that_is_cancelled(
    plain_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_transaction: bool, copied: bool
) -> None:
    monkeypatch.setattr(connections, "CHECK_CLIENT_MS", 0)  # so that the server does not find out by itself
    store = TimescaleStore(plain_database, folder=tmp_path, timeouts=Timeouts(connect_s=5.0, statement_s=60.0, lock_s=5.0))
    await store.open()

    async def long_read() -> None:
        query = "SELECT pg_sleep(0.01) FROM generate_series(1, 100000)"
        database = store._database
        async with database.transaction("wait", readonly=True) if in_transaction else database.connection("wait") as connection:
            await (copy_bytes(connection, query) if copied else connection.fetch(query))

    reading = asyncio.create_task(long_read())
    await asyncio.sleep(0.3)
    assert await working(plain_database) == 1
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await working(plain_database) == 0
    await store.close()


async def test_the_position_waits_for_a_flush_whose_process_is_gone(store: TimescaleStore, plain_database: str) -> None:
    ghost = await asyncpg.connect(plain_database, server_settings={"search_path": "promlike"})
    transaction = ghost.transaction()
    await transaction.start()
    await ghost.execute("UPDATE writers SET segment = 9, byte_offset = 8")
    asking = asyncio.create_task(store.load_position())
    await asyncio.sleep(0.1)
    assert not asking.done()
    await transaction.commit()
    found = await asking
    assert found is not None
    assert found.segment == 9
    await ghost.close()


async def test_statistics_read_no_samples(store: TimescaleStore) -> None:
    await store.write(batch({0: [(START_MS + k, 1.0) for k in range(1, 50)]}, late={0: [(START_MS, 5.0)]}, position=(1, 16)))
    async with store._database.connection("hide the samples") as connection:
        await connection.execute("ALTER TABLE samples RENAME TO hidden")
        await connection.execute("CREATE VIEW samples AS SELECT ts, series_id, value / 0 AS value FROM hidden")
    assert (await store.stats()).samples == 50
    async with store._database.connection("show them again") as connection:
        await connection.execute("DROP VIEW samples")
        await connection.execute("ALTER TABLE hidden RENAME TO samples")
    await store.delete_series(np.array([0], np.int32))
