"""What the first query would wait for is done beforehand, and hinders nothing when it cannot be."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.api.first_query import prepare_first_query
from promlike.model.clock import wall_clock_ms
from promlike.model.labels import labels
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.store import Store
from promlike.storage.timescale.store import WARM_CONNECTIONS, TimescaleStore
from tests.storage.conftest import any_store, database, plain_server, timescale_server

__all__ = ["any_store", "database", "plain_server", "timescale_server"]

OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'promlike' AND datname = current_database() ORDER BY pid"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        made = Engine(EngineOptions(), pool)
        yield made
        made.close()


async def opened(store: Store, folder: Path) -> Storage:
    storage = Storage(StorageOptions(data_dir=folder, head_max_bytes=1 << 28), store)
    await storage.open(lambda line: None)
    return storage


async def test_one_series_is_asked_for_when_there_is_one(
    any_store: Callable[[Path], Store], tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    given = engine.range

    async def noted(source: Storage, query: str, *args: object) -> object:
        result = await given(source, query, *args)  # type: ignore[arg-type]  # handed on as they came
        asked.append(f"{query} {result.stats.total_samples > 0}")
        return result

    monkeypatch.setattr(engine, "range", noted)
    storage = await opened(any_store(tmp_path), tmp_path)
    await prepare_first_query(storage, engine)
    assert asked == ["vector(1) False"]
    ref = storage.series_ref(labels({"__name__": "up", "job": 'a "b" \\', "ünit": "x"}))
    await storage.append(np.array([ref], np.int32), np.array([wall_clock_ms() - 60_000]), np.array([1.0]))
    await prepare_first_query(storage, engine)
    selector = r'{__name__="up",job="a \"b\" \\","ünit"="x"}'
    assert asked[1:] == [f"{selector} True", f"sum(rate({selector}[5m])) True"]
    await storage.close()


async def test_queries_find_connections_that_have_read_before(database: str, tmp_path: Path) -> None:
    storage = await opened(TimescaleStore(database, folder=tmp_path), tmp_path)
    await storage._store.warm()
    connection = await asyncpg.connect(database)
    before = [row["pid"] for row in await connection.fetch(OURS)]
    assert len(before) >= WARM_CONNECTIONS
    await asyncio.gather(*(storage.store_stats() for _ in range(WARM_CONNECTIONS)))
    assert [row["pid"] for row in await connection.fetch(OURS)] == before
    await connection.close()
    await storage.close()


async def test_a_store_that_cannot_be_asked_hinders_nothing(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    storage = await opened(store, tmp_path)
    await storage.close()
    await store.warm()
