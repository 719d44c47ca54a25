"""The HTTP API over real storage and a real engine, in this process."""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest_asyncio
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from promlike.api.context import Api, Phase, ServerState, WebOptions
from promlike.api.own_metrics import OwnMetrics
from promlike.api.part_metrics import remote_write_metrics, storage_metrics
from promlike.api.query_log import QueryLog
from promlike.api.routes import RUNNER_OPTIONS, build_application
from promlike.api.running import RunningQueries
from promlike.api.sql_turns import SqlTurns
from promlike.api.top_queries import TopQueries
from promlike.config.load import parse_config, to_yaml
from promlike.errors import ConfigError
from promlike.model.clock import wall_clock_ms
from promlike.model.labels import labels
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import CachedRanges
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.remote_read.service import RemoteRead, RemoteReadOptions
from promlike.remote_write.handler import write_handler
from promlike.remote_write.receiver import RemoteWriteReceiver
from promlike.scrape.service import ScrapeService
from promlike.storage.access import Metadata
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.storage import Storage, StorageOptions

NOW_MS = 1_700_000_000_000
STEP_MS = 15_000

CONFIG = """
global: {scrape_interval: 1h}
scrape_configs:
  - job_name: kept
    static_configs: [{targets: ["127.0.0.1:1"]}]
  - job_name: dropped
    static_configs: [{targets: ["127.0.0.1:1"]}]
    relabel_configs: [{action: drop, source_labels: [job], regex: dropped}]
"""


@dataclass(slots=True, kw_only=True)
class Client:
    """Calls one application; redirects are not followed and bodies stay as they were sent."""

    application: web.Application
    session: ClientSession
    url: str
    state: ServerState
    calls: list[str] = field(default_factory=list)

    async def request(self, method: str, path: str, **how: Any) -> tuple[int, bytes, Any]:
        async with self.session.request(method, self.url + path, allow_redirects=False, **how) as answer:
            return answer.status, await answer.read(), answer.headers

    async def get(self, path: str, *pairs: tuple[str, str], **params: str) -> Any:
        status, body, _ = await self.request("GET", f"/api/v1/{path}", params=[*pairs, *params.items()])
        return orjson.loads(body) | {"code": status}

    async def post(self, path: str, *pairs: tuple[str, str], url_params: Sequence[tuple[str, str]] = (), **form: str) -> Any:
        status, body, _ = await self.request("POST", f"/api/v1/{path}", data=[*pairs, *form.items()], params=list(url_params))
        return orjson.loads(body) | {"code": status}


async def fill(storage: Storage) -> None:
    """`requests{job="api"|"web",code="200"|"500"}` counting up over ten minutes, and `http.status` with a dotted label."""
    for number, (job, code) in enumerate([("api", "200"), ("api", "500"), ("web", "200")]):
        ref = storage.series_ref(labels({"__name__": "requests", "job": job, "code": code}))
        ts_ms = np.arange(NOW_MS - 600_000, NOW_MS + 1, STEP_MS, dtype=np.int64)
        values = np.arange(len(ts_ms), dtype=np.float64) * (number + 0.5)
        await storage.append(np.full(len(ts_ms), ref, np.int32), ts_ms, values)
    ref = storage.series_ref(labels({"__name__": "http.status", "http.code": "404"}))
    await storage.append(np.array([ref], np.int32), np.array([NOW_MS], np.int64), np.array([1e21]))
    await storage.set_metadata(
        [Metadata(metric="requests", type="counter", help="Requests."), Metadata(metric="zzz", type="gauge", help="Last.", unit="bytes")]
    )


async def application(folder: Path, web_options: WebOptions, query_options: EngineOptions) -> AsyncIterator[Client]:
    """Start everything, hand out a client, stop everything."""
    config = parse_config(CONFIG, file="test.yml")
    options = StorageOptions(data_dir=folder, retention_ms=20 * 365 * 86_400_000)
    storage = Storage(options, DuckDBStore(folder / "promlike.duckdb"))
    scrape = ScrapeService(config, storage)
    state = ServerState(config_yaml=to_yaml(config), phase=Phase.READY)
    metrics = OwnMetrics()
    receiver = RemoteWriteReceiver(storage)
    metrics.add(lambda: storage_metrics(storage))
    metrics.add(lambda: remote_write_metrics(receiver.counters))
    calls: list[str] = []
    top_queries = TopQueries()

    async def reload() -> None:
        calls.append("reload")
        if len(calls) > 1:
            raise ConfigError(["test.yml:1: no"])

    with ThreadPoolExecutor(2) as pool:
        engine = Engine(query_options, pool)
        api = Api(
            engine=engine,
            ranges=CachedRanges(
                engine,
                query_options,
                ResultCache(1 << 20),
                ChangeLog(),
                pool,
                oldest_ms=lambda: storage.oldest_ms,
                history=StoreHistory(),
                flushes=storage.flushes,
                choose_tiers=storage.choose_tiers,
                view=lambda: storage.view,
                hurry=storage.hurry,
                now_ms=wall_clock_ms,
            ),
            storage=storage,
            scrape=scrape,
            remote_read=RemoteRead(
                storage, RemoteReadOptions(sample_limit=100, max_samples=100_000), lambda: state.external_labels, engine.new_budget
            ),
            query_options=query_options,
            web=web_options,
            server=state,
            metrics=metrics,
            queries=RunningQueries(top_queries.note),
            sql=SqlTurns(query_options, engine),
            top_queries=top_queries,
            query_log=QueryLog(),
            reload=reload,
            stop=lambda: calls.append("stop"),
        )
        await storage.open()
        await fill(storage)
        await scrape.reload(config)
        built = build_application(api, remote_write=write_handler(receiver))
        server = TestServer(built, skip_url_asserts=True)
        await server.start_server(**RUNNER_OPTIONS)
        try:
            async with ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"}) as session:
                yield Client(application=built, session=session, url=f"http://127.0.0.1:{server.port}", state=state, calls=calls)
        finally:
            await server.close()
            await storage.close()
            engine.close()


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """The API with default settings."""
    async for one in application(tmp_path, WebOptions(flags={"log.level": "info"}, enable_sql_api=True), EngineOptions()):
        yield one


@pytest_asyncio.fixture
async def open_client(tmp_path: Path) -> AsyncIterator[Client]:
    """The API with everything switched on, under a prefix, with small limits."""
    options = WebOptions(
        flags={},
        route_prefix="/prom",
        cors_origin=r"https?://(a|b)\.org",
        enable_lifecycle=True,
        enable_admin_api=True,
        enable_sql_api=True,
        sql_max_rows=50,
    )
    (folder := tmp_path / "open").mkdir()
    async for one in application(folder, options, EngineOptions(max_samples=50)):
        yield one
