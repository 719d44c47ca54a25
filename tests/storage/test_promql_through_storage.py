"""PromQL's cases once more, through the real storage: as samples lie in the head, and after they went to the store."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from promlike.model.labels import Labels
from promlike.model.trace import OFF, Trace
from promlike.promql.engine import Engine
from promlike.storage.access import Loading, Selection, SelectRequest
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions
from tests.promql.promqltest import Source, experimental_engine, run_test
from tests.promql.test_promqltest import ABOUT_HISTOGRAMS, CASES, SHARED, texts


class StorageSource:
    """Loads into a storage; with `flushed`, everything is read back from the store."""

    def __init__(self, folder: Path, *, flushed: bool) -> None:
        # The cases begin in 1970.
        options = StorageOptions(data_dir=folder, retention_ms=0, head_window_ms=1, head_cache_bytes=0 if flushed else 1 << 26)
        self.storage = Storage(options, DuckDBStore(folder / "promlike.duckdb"))
        self._flushed = flushed

    async def load(self, labels: Labels, points: list[tuple[int, float]], starts: list[tuple[int, int]]) -> None:
        ref = self.storage.series_ref(labels)
        times, values = np.array([ts for ts, _ in points], np.int64), np.array([value for _, value in points], np.float64)
        await self.storage.append(np.full(len(points), ref, np.int32), times, values)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        if self._flushed:
            await self.storage.flush()
        return await self.storage.select(requests, max_samples=max_samples)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = experimental_engine(pool)
        yield engine
        engine.close()


@pytest.fixture
async def new_source(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Awaitable[Source]]]:
    opened: list[StorageSource] = []

    async def close() -> None:
        if opened:
            await opened[-1].storage.close()

    async def open_source() -> Source:
        await close()
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(StorageSource(folder, flushed=request.param))
        await opened[-1].storage.open(lambda line: None)
        return opened[-1]

    yield open_source
    await close()


def skip_start_timestamps(text: str) -> None:
    if "@st" in text:
        pytest.skip("storage keeps no start timestamps yet")


@pytest.mark.parametrize("new_source", [False, True], ids=["head", "store"], indirect=True)
@pytest.mark.parametrize("text", texts(CASES))
async def test_our_cases(engine: Engine, new_source: Callable[[], Awaitable[Source]], text: str) -> None:
    skip_start_timestamps(text)
    assert await run_test(text, engine, new_source=new_source) > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases of the Prometheus project do not lie beside this one")
@pytest.mark.parametrize("new_source", [False, True], ids=["head", "store"], indirect=True)
@pytest.mark.parametrize("text", texts(SHARED))
async def test_cases_of_prometheus(engine: Engine, new_source: Callable[[], Awaitable[Source]], text: str) -> None:
    skip_start_timestamps(text)
    assert await run_test(text, engine, ABOUT_HISTOGRAMS, new_source) > 0
