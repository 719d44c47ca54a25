"""What endpoints work with, handed over by `app` when it builds the web application."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from time import time

from aiohttp.web import Request

from promlike.api.notices import Notices
from promlike.api.own_metrics import OwnMetrics
from promlike.api.params import Params
from promlike.api.query_log import QueryLog
from promlike.api.running import Origin, RunningQueries, RunningQuery
from promlike.api.sql_turns import SqlTurns
from promlike.api.top_queries import TopQueries
from promlike.model.labels import Labels
from promlike.promql.cached.ranges import CachedRanges
from promlike.promql.engine import Engine
from promlike.promql.options import Deadline, EngineOptions
from promlike.remote_read.service import RemoteRead
from promlike.scrape.service import ScrapeService
from promlike.storage.storage import Storage


class Phase(Enum):
    """Where the server is in its life."""

    STARTING = auto()
    READY = auto()
    STOPPING = auto()


@dataclass(slots=True, kw_only=True)
class ServerState:
    """What changes while the server runs. `app` writes it, endpoints read it."""

    phase: Phase = Phase.STARTING
    started_at: float = field(default_factory=time)
    config_yaml: str = ""
    external_labels: Labels = ()
    config_loaded: bool = True
    config_loaded_at: float = 0.0
    notices: Notices = field(default_factory=Notices)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WebOptions:
    """Settings of the HTTP side."""

    flags: Mapping[str, str]
    route_prefix: str = ""
    external_url: str = ""
    page_title: str = "promlike"
    cors_origin: str = ".*"
    read_timeout_seconds: float = 300.0
    max_connections: int = 512
    enable_lifecycle: bool = False
    enable_admin_api: bool = False
    enable_sql_api: bool = False
    sql_max_rows: int = 1_000_000
    search_max_limit: int = 10_000
    max_notifications_subscribers: int = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Api:
    """Everything an endpoint may use."""

    engine: Engine
    ranges: CachedRanges
    storage: Storage
    scrape: ScrapeService
    remote_read: RemoteRead
    query_options: EngineOptions
    web: WebOptions
    server: ServerState
    metrics: OwnMetrics
    queries: RunningQueries
    sql: SqlTurns
    top_queries: TopQueries
    query_log: QueryLog
    reload: Callable[[], Awaitable[None]]
    stop: Callable[[], None]

    @contextmanager
    def running(self, params: Params, request: Request, *, start_ms: int, end_ms: int, step_ms: int) -> Iterator[RunningQuery]:
        """Around a query. Its deadline is the server's, or `timeout` when that is shorter, and is cancelled when the request ends."""
        asked_ms = params.duration_ms("timeout")
        allowed = self.query_options.timeout_seconds
        deadline = Deadline.after(allowed if asked_ms is None else min(allowed, asked_ms / 1000))
        origin = Origin.of(request)
        text = params.text("query")
        with (
            self.metrics.queries.running(),
            self.queries.run(text, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms, origin=origin, deadline=deadline) as query,
        ):
            yield query
            if query.stats is not None:
                self.metrics.queries.observe(query.stats)
