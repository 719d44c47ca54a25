"""The shared suite on PostgreSQL without TimescaleDB, and what is its own."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.storage.timescale.store import TimescaleStore
from tests.storage.store_suite import DAY_MS, START_MS, Stores, StoreSuite, batch, records, stores_of

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'promlike.samples'::regclass ORDER BY 1"


@pytest.fixture
async def stores(plain_database: str, tmp_path: Path) -> AsyncIterator[Stores]:
    async with stores_of(lambda: TimescaleStore(plain_database, folder=tmp_path)) as opening:
        yield opening


class TestPlainPostgreSQL(StoreSuite):
    """Everything a Store must do."""


async def test_what_is_lacking_is_told_at_the_start(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await stores()
    assert "no TimescaleDB" in caplog.text
    assert "uncompressed" in caplog.text


async def test_days_are_partitions_that_retention_drops(stores: Stores, plain_database: str) -> None:
    store = await stores()
    await store.write(batch({0: [(START_MS + day * DAY_MS, 1.0) for day in range(3)]}, series=records("a")))
    await store.write(batch(late={0: [(START_MS - DAY_MS, 2.0)]}, position=(1, 16)))
    connection = await asyncpg.connect(plain_database)
    names = [f"promlike.samples_202311{day}" for day in (13, 14, 15, 16)]
    assert [row[0] for row in await connection.fetch(PARTITIONS)] == names
    await store.delete_before(START_MS)
    assert [row[0] for row in await connection.fetch(PARTITIONS)] == names[1:]
    await connection.close()
