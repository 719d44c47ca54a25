"""The server: the only place that constructs and connects. Reads in start order; what starts last stops first."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from pathlib import Path
from time import monotonic, time
from urllib.parse import urljoin

import uvloop
from aiohttp import web

from promlike import __version__
from promlike.api import notices
from promlike.api.connections import Connections, LimitedSite, connection_metrics
from promlike.api.context import Api, Phase, ServerState, WebOptions
from promlike.api.first_query import prepare_first_query
from promlike.api.own_metrics import OwnMetrics
from promlike.api.part_metrics import cache_metrics, remote_write_metrics, result_cache_metrics, shared_runs_metrics, storage_metrics
from promlike.api.query_log import QueryLog
from promlike.api.routes import RUNNER_OPTIONS, build_application
from promlike.api.running import RunningQueries
from promlike.api.sql_turns import SqlTurns
from promlike.api.top_queries import TopQueries
from promlike.cache.shared import SharedCache
from promlike.config.load import builtin_config, load_config, to_yaml
from promlike.config.root import Config, ExemplarsConfig
from promlike.errors import BadRequest, ConfigError, PromlikeError
from promlike.model.blocks import Int32
from promlike.model.clock import wall_clock_ms
from promlike.model.labels import labels
from promlike.model.threads import worker_pool
from promlike.model.url import shown_url
from promlike.process import StartError, bound_sockets, make_folder, prepare_kernels, shown_address
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.fingerprint import fingerprint
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.ranges import SETTLED_MS, CachedRanges
from promlike.promql.cached.shared import SharedRuns
from promlike.promql.engine import SUBQUERY_STEP_MS, Engine
from promlike.promql.options import EngineOptions
from promlike.promql.parser import parse
from promlike.remote_read.service import RemoteRead, RemoteReadOptions
from promlike.remote_write.handler import write_handler
from promlike.remote_write.receiver import RemoteWriteReceiver
from promlike.retention import keep_options
from promlike.scrape.service import ScrapeService
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.memory import keep_freed, share_heaps
from promlike.storage.options import StorageOptions, Timeouts
from promlike.storage.storage import Storage
from promlike.storage.store import Store

log = getLogger(__name__)

SHUTDOWN_SECONDS = 10.0
"""How long requests in flight may take once the server stops."""

STORE_SECONDS = 1.0
"""How often is looked whether the store takes samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the command line decides."""

    config_file: Path
    config_required: bool
    listen: Sequence[str]
    data_dir: Path
    storage_url: str
    redis_url: str
    result_cache_bytes: int
    storage_schema: str
    storage_timeouts: Timeouts
    head_window_ms: int
    flush_interval_ms: int
    retention_ms: int
    tier_retention_ms: Mapping[int, int]
    retention_bytes: int
    wal_max_bytes: int
    start_timeout_ms: int
    remote_write: bool
    remote_write_messages: Sequence[str]
    threads: int
    query: EngineOptions
    remote_read: RemoteReadOptions
    web: WebOptions


def run(options: ServerOptions) -> int:
    """Serve until a signal or a request ends it; returns the exit code. Errors of starting and stopping are one log line each."""
    share_heaps()
    try:
        config = read_config(options)
        make_folder(options.data_dir)
        with bound_sockets(options.listen) as sockets:
            prepare_kernels()
            parse("1", options.query.features)  # builds the parser, 45 ms that the first query would wait for
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(options, config, sockets))
    except ConfigError as error:
        for problem in error.problems:
            log.error("the configuration is invalid: %s", problem)
        return 1
    except PromlikeError as error:
        log.error("%s", error)
        return 1
    return 0


def read_config(options: ServerOptions) -> Config:
    """The configuration file, or the built-in one when none was asked for and none is there. Raises ConfigError."""
    if options.config_required or options.config_file.exists():
        config = load_config(options.config_file)
        keep_options(config)  # an invalid selector is found before anything changes
    else:
        port = options.listen[0].rpartition(":")[2]
        config = builtin_config(f"localhost:{port}")
        log.info("no configuration file, scraping only this server", extra={"looked_for": options.config_file})
    for warning in config.warnings:
        log.warning("%s", warning)
    return config


async def serve(options: ServerOptions, config: Config, sockets: Sequence[socket.socket]) -> None:
    """Construct on the loop that everything will run on."""
    await Server(options, config, sockets).serve()


def storage_options(options: ServerOptions) -> StorageOptions:
    """What storage needs of the options."""
    return StorageOptions(
        data_dir=options.data_dir,
        head_window_ms=options.head_window_ms,
        flush_interval_ms=options.flush_interval_ms,
        retention_ms=options.retention_ms,
        tier_retention_ms=options.tier_retention_ms,
        retention_bytes=options.retention_bytes,
        wal_max_bytes=options.wal_max_bytes,
        start_timeout_ms=options.start_timeout_ms,
    )


def make_store(options: ServerOptions, cache: SharedCache | None) -> Store:
    """The store of a URL. Raises StartError."""
    url = options.storage_url
    scheme, _, rest = url.partition(":")
    if scheme == "duckdb" and rest:
        return DuckDBStore(Path(rest))
    if scheme in ("postgresql", "postgres"):
        from promlike.storage.timescale.store import TimescaleStore  # asyncpg is not loaded for the embedded store

        return TimescaleStore(url, folder=options.data_dir, schema=options.storage_schema, timeouts=options.storage_timeouts, cache=cache)
    raise StartError(f"--storage.url: {shown_url(url)!r} is neither duckdb:PATH nor postgresql://…")


def make_cache(url: str) -> SharedCache | None:
    """The second-level cache of a URL, None without one. Raises StartError."""
    if not url:
        return None
    from promlike.cache.redis import RedisCache  # redis is not loaded where none is used

    try:
        return RedisCache(url)
    except BadRequest as error:
        raise StartError(f"--cache.redis-url: {error}") from error


class Server:
    """Everything that runs, and what connects it."""

    def __init__(self, options: ServerOptions, config: Config, sockets: Sequence[socket.socket]) -> None:
        self._options = options
        self._sockets = sockets
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._state = ServerState(
            config_yaml=to_yaml(config), external_labels=labels(config.global_.external_labels), config_loaded_at=time()
        )
        self._cache = make_cache(options.redis_url)
        self._pool = worker_pool(options.threads, "query")
        self._engine = Engine(options.query, self._pool)
        self._engine.memory.told = lambda strained: keep_freed(not strained)
        self._storage = Storage(storage_options(options), make_store(options, self._cache))
        self._apply(config)
        self._receiver = RemoteWriteReceiver(self._storage, messages=options.remote_write_messages)
        self._remote_read = RemoteRead(self._storage, options.remote_read, lambda: self._state.external_labels, self._engine.new_budget)
        port = sockets[0].getsockname()[1]
        outside = urljoin(f"http://{socket.gethostname()}:{port}/", options.web.external_url)
        self._scrape = ScrapeService(config, self._storage, external_url=outside, listen_port=port)
        self._results = ResultCache(options.result_cache_bytes)
        self._log, self._history = ChangeLog(), StoreHistory()
        self._shared_runs = self._second_level()
        self._ranges = self._cached_ranges()
        self._metrics, self._query_log, self._top_queries = OwnMetrics(), QueryLog(), TopQueries()
        self._query_log.open(config.global_.query_log_file)
        self._sql = SqlTurns(options.query, self._engine)
        self._metrics.add(self._sql.metrics)
        self._queries = RunningQueries(self._query_log.log, self._top_queries.note)
        self._connections = Connections(options.web.max_connections)
        self._metrics.add(partial(connection_metrics, self._connections))
        self._metrics.add(partial(result_cache_metrics, self._results))
        if self._shared_runs is not None:
            self._metrics.add(partial(shared_runs_metrics, self._shared_runs))
        self._metrics.add(lambda: storage_metrics(self._storage))
        self._metrics.add(lambda: remote_write_metrics(self._receiver.counters))
        self._metrics.add(self._scrape.metrics)
        if self._cache is not None:
            self._metrics.add(partial(cache_metrics, self._cache))

    def _second_level(self) -> SharedRuns | None:
        """What keeps answers in the second-level cache; None without one."""
        if self._cache is None or not self._results.max_bytes:
            return None
        return SharedRuns(
            self._cache,
            self._log,
            self._history,
            self._pool,
            database=lambda: self._storage.database,
            fingerprint=fingerprint(self._options.query),
            view=lambda: self._storage.view,
        )

    def _cached_ranges(self) -> CachedRanges:
        """The result cache, told of what changes in the past."""
        log, storage = self._log, self._storage

        def changed(refs: Int32, start_ms: int, end_ms: int) -> None:
            log.changed(storage.metrics_of(refs), start_ms, end_ms)

        storage.changes.subscribe(changed, settled_ms=SETTLED_MS)
        return CachedRanges(
            self._engine,
            self._options.query,
            self._results,
            log,
            self._pool,
            oldest_ms=lambda: storage.oldest_ms,
            history=self._history,
            flushes=storage.flushes,
            choose_tiers=storage.choose_tiers,
            view=lambda: storage.view,
            hurry=storage.hurry,
            now_ms=wall_clock_ms,
            shared=self._shared_runs,
        )

    async def serve(self) -> None:
        """Start from top to bottom, wait for the end, stop from bottom to top."""
        started = monotonic()
        self._handle_signals()
        async with AsyncExitStack() as stack:
            stack.callback(self._query_log.close)
            stack.callback(self._pool.shutdown)
            stack.callback(self._engine.close)
            if self._cache is not None:
                stack.push_async_callback(self._cache.close)
            # Stops after HTTP although HTTP starts first: it answers /-/healthy, and 503 to the rest, while the WAL is replayed.
            stack.push_async_callback(self._storage.close)
            self._state.notices.set(notices.STARTING)
            await stack.enter_async_context(self._listening())
            if not await self._unless_stopped(self._storage.open()):
                return
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._storage.run(), name="storage"),
                    tasks.create_task(self._scrape.run(), name="scrape"),
                    tasks.create_task(self._reload_on_signal(), name="reload"),
                    tasks.create_task(self._watch_store(), name="watch"),
                    tasks.create_task(prepare_first_query(self._storage, self._engine), name="first query"),
                ]
                if self._shared_runs is not None:
                    running.append(tasks.create_task(self._shared_runs.run(), name="shared answers"))
                self._state.phase = Phase.READY
                self._state.notices.set(notices.STARTING, False)
                log.info(
                    "ready",
                    extra={
                        "version": __version__,
                        "address": ",".join(shown_address(bound) for bound in self._sockets),
                        "store": shown_url(self._options.storage_url),
                        "seconds": round(monotonic() - started, 2),
                    },
                )
                await self._stop.wait()
                self._state.phase = Phase.STOPPING
                self._state.notices.set(notices.STOPPING)
                self._state.notices.close()
                log.info("stopping")
                await self._scrape.close()
                for task in running:
                    task.cancel()
        log.info("stopped")

    async def _unless_stopped(self, starting: Coroutine[None, None, None]) -> bool:
        """Do this; when the server is to stop meanwhile, leave off and return False."""
        work, stop = asyncio.ensure_future(starting), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
        if work.cancelled():
            log.info("stopped while starting")
            return False
        await work
        return True

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Serve HTTP. A request whose client goes away is cancelled, and its query with it."""
        application = build_application(
            Api(
                engine=self._engine,
                ranges=self._ranges,
                storage=self._storage,
                scrape=self._scrape,
                remote_read=self._remote_read,
                query_options=self._options.query,
                web=self._options.web,
                server=self._state,
                metrics=self._metrics,
                queries=self._queries,
                sql=self._sql,
                top_queries=self._top_queries,
                query_log=self._query_log,
                reload=self.reload,
                stop=self._stop.set,
            ),
            remote_write=write_handler(self._receiver) if self._options.remote_write else None,
        )
        runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self._options.web.read_timeout_seconds,
            shutdown_timeout=SHUTDOWN_SECONDS,
            **RUNNER_OPTIONS,
        )
        await runner.setup()
        try:
            for bound in self._sockets:
                await LimitedSite(runner, bound, self._connections).start()
            yield
        finally:
            await runner.cleanup()

    def _apply(self, config: Config) -> None:
        """What of the configuration storage and queries act on."""
        self._engine.subquery_step_ms = config.global_.evaluation_interval_ms or SUBQUERY_STEP_MS
        self._storage.set_keep_options(keep_options(config, default_ms=self._options.retention_ms, max_bytes=self._options.retention_bytes))
        self._storage.max_exemplars = (config.storage.exemplars or ExemplarsConfig()).max_exemplars

    async def reload(self) -> None:
        """Read the configuration again; an invalid one changes nothing and raises ConfigError."""
        self._state.config_loaded = False
        try:
            config = await asyncio.to_thread(read_config, self._options)
            await asyncio.to_thread(self._query_log.open, config.global_.query_log_file)
            await self._scrape.reload(config)
            self._apply(config)
            self._state.config_loaded = True
        finally:
            self._state.notices.set(notices.RELOAD_FAILED, not self._state.config_loaded)
        self._state.config_yaml = to_yaml(config)
        self._state.external_labels = labels(config.global_.external_labels)
        self._state.config_loaded_at = time()
        log.info("configuration loaded", extra={"file": self._options.config_file})

    async def _reload_on_signal(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            try:
                await self.reload()
            except ConfigError as error:
                for problem in error.problems:
                    log.error("the configuration was not loaded, the old one stays: %s", problem)

    async def _watch_store(self) -> None:
        """Notify of a store that does not take samples."""
        while True:
            self._state.notices.set(notices.STORE_FAILS, bool(self._storage.gauges.flush_problem))
            await asyncio.sleep(STORE_SECONDS)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
