"""Storages on temporary folders, with a clock the test sets."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest

from promlike.model.labels import Labels, labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.access import AppendResult, SelectRequest
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions
from promlike.storage.store import Store
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.postgres import Postgres, postgresql, timescaledb

NOW_MS = 1_700_000_000_000
EVERYTHING = (Matcher("__name__", MatchOp.NOT_EQUAL, ""),)

Answer = dict[Labels, list[tuple[int, int]]]
"""Series to (time, bits of the value)."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """A storage under test, with short words for what tests do over and over."""

    folder: Path
    clock: list[int]
    options: dict[str, Any]
    wrap: Callable[[Store], Store]
    storage: Storage
    make: Callable[[Path], Store] = lambda folder: DuckDBStore(folder / "promlike.duckdb")
    refs: dict[str, int] = field(default_factory=dict)

    def ref(self, instance: str) -> int:
        if instance not in self.refs:
            self.refs[instance] = self.storage.series_ref(labels({"__name__": "up", "instance": instance}))
        return self.refs[instance]

    async def append(self, samples: Sequence[tuple[str, int, float]]) -> AppendResult:
        return await self.storage.append(
            np.array([self.ref(instance) for instance, _, _ in samples], np.int32),
            np.array([ts for _, ts, _ in samples], np.int64),
            np.array([value for _, _, value in samples], np.float64),
        )

    async def select(
        self, matchers: tuple[Matcher, ...] = EVERYTHING, start_ms: int = -(2**53), end_ms: int = 2**53, max_samples: int = 10**9
    ) -> Answer:
        request = SelectRequest(matchers=matchers, start_ms=start_ms, end_ms=end_ms)
        block = (await self.storage.select([request], max_samples=max_samples)).blocks[0]
        samples = block.samples.whole()
        samples.validate()
        found = block.labels.all_labels()
        assert len(found) == samples.series
        assert (np.diff(samples.offsets) > 0).all()
        pairs = list(zip(samples.ts_ms.tolist(), samples.values.view(np.int64).tolist(), strict=True))
        bounds = zip(samples.offsets[:-1].tolist(), samples.offsets[1:].tolist(), strict=True)
        return {series: pairs[a:b] for series, (a, b) in zip(found, bounds, strict=True)}

    async def reopen(self) -> None:
        await self.storage.close()
        await self.start(self.folder)

    async def start(self, folder: Path) -> None:
        """A new storage on a folder; what the old one did not flush comes from the WAL."""
        self.folder = folder
        self.storage = new_storage(self)
        self.refs.clear()
        await self.storage.open(lambda line: None)


def new_storage(bench: Bench) -> Storage:
    options = replace(StorageOptions(data_dir=bench.folder, head_max_bytes=1 << 30), **bench.options)
    return Storage(options, bench.wrap(bench.make(bench.folder)), now_ms=lambda: bench.clock[0])


Benches = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def benches(tmp_path: Path) -> AsyncIterator[Benches]:
    """Opens storages: `await benches(wrap=…, retention_ms=…)`; all are closed at the end."""
    opened: list[Bench] = []

    async def open_bench(
        *,
        wrap: Callable[[Store], Store] = lambda store: store,
        folder: Path | None = None,
        make: Callable[[Path], Store] | None = None,
        **options: Any,
    ) -> Bench:
        where = folder if folder is not None else tmp_path / f"data{len(opened)}"
        where.mkdir(exist_ok=True)
        bench = Bench(folder=where, clock=[NOW_MS], options=options, wrap=wrap, storage=None)  # type: ignore[arg-type]  # set by start
        if make is not None:
            bench.make = make
        await bench.start(where)
        opened.append(bench)
        return bench

    yield open_bench
    for bench in opened:
        await bench.storage.close()


@pytest.fixture(params=["duckdb", "timescaledb", "plain"])
async def any_store(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    """Makes stores in a data folder: all of the same database, for each kind of store."""
    if request.param == "duckdb":
        return lambda folder: DuckDBStore(folder / "promlike.duckdb")
    url = await new_database(request.getfixturevalue("timescale_server" if request.param == "timescaledb" else "plain_server"))
    return lambda folder: TimescaleStore(url, folder=folder)


def bits(value: float) -> int:
    return int(np.array([value]).view(np.int64)[0])


def answer(samples: dict[str, dict[int, float]]) -> Answer:
    """The Answer for instances with these samples."""
    return {
        labels({"__name__": "up", "instance": instance}): [(ts, bits(value)) for ts, value in sorted(rows.items())]
        for instance, rows in sorted(samples.items())
        if rows
    }


_databases = count()


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[Postgres]:
    """One server for all tests; each has a database of its own."""
    with timescaledb() as running:
        yield running


@pytest.fixture(scope="session")
def plain_server() -> Iterator[Postgres]:
    """A server without TimescaleDB."""
    with postgresql() as running:
        yield running


@pytest.fixture
async def plain_database(plain_server: Postgres) -> str:
    """The URL of a new, empty database on a server without TimescaleDB."""
    return await new_database(plain_server)


@pytest.fixture
async def database(timescale_server: Postgres) -> str:
    """The URL of a new, empty database on a server with TimescaleDB."""
    return await new_database(timescale_server)


async def new_database(server: Postgres) -> str:
    """The URL of a new, empty database."""
    name = f"test{next(_databases)}"
    connection = await asyncpg.connect(server.url("postgres"))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.url(name)
