"""Views follow flushes, and whatever becomes of them, flushes do not notice."""

import asyncio
from collections.abc import Callable

import duckdb
import pytest

from promlike.errors import StorageUnavailable
from promlike.storage import view_keeper
from promlike.storage.store import Store
from tests.storage.conftest import NOW_MS, Bench, Benches
from tests.storage.test_recovery import Delegate


def views_in(bench: Bench) -> set[str]:
    with duckdb.connect(bench.folder / "promlike.duckdb", read_only=True) as connection:
        return {name for (name,) in connection.execute("SELECT view_name FROM metric_view").fetchall()}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # counters have no event
            await asyncio.sleep(0.01)


async def test_views_are_made_after_a_flush_while_the_server_runs(benches: Benches) -> None:
    bench = await benches()
    running = asyncio.create_task(bench.storage.run())
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.flush()
    await until(lambda: bench.storage.counters.views_refreshed == 1)
    running.cancel()
    await asyncio.wait([running])
    await bench.storage.close()
    assert views_in(bench) == {"up"}


async def test_the_last_flush_has_its_views_too(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.close()
    assert views_in(bench) == {"up"}


class Failing(Delegate):
    """Cannot make views for a while."""

    failures = 2

    async def refresh_views(self) -> int:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("no views today")
        return await self.store.refresh_views()


async def test_views_that_cannot_be_made_are_tried_again_and_flushes_go_on(
    benches: Benches, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(view_keeper, "FIRST_BACKOFF_S", 0.01)

    def wrap(store: Store) -> Store:
        return Failing(store)  # type: ignore[return-value]  # has the rest from the store it wraps

    bench = await benches(wrap=wrap)
    running = asyncio.create_task(bench.storage.run())
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.flush()
    await until(lambda: bench.storage.counters.views_refreshed == 1)
    assert bench.storage.counters.view_failures == 2
    assert bench.storage.counters.flush_failures == 0
    assert "no views today" in caplog.text
    running.cancel()
    await asyncio.wait([running])


async def test_views_that_fail_while_stopping_are_told_of(benches: Benches, caplog: pytest.LogCaptureFixture) -> None:
    bench = await benches(wrap=lambda store: Failing(store))
    await bench.append([("a", NOW_MS, 1.0)])
    await bench.storage.close()
    assert "views were not brought up to date: no views today" in caplog.text
    assert bench.storage.counters.flush_failures == 0
