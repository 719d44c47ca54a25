"""Scraping as a whole: one pool a job, changed while running when the configuration is."""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from logging import getLogger

import xxhash
from prometheus_client.core import Metric

from promlike.config.root import Config
from promlike.config.scrape import ScrapeConfig
from promlike.model.clock import wall_clock_ms
from promlike.scrape.families import FamilyBook
from promlike.scrape.loop import Clock
from promlike.scrape.own_metrics import collect
from promlike.scrape.pool import Environment, Inherited, ScrapePool, stop
from promlike.scrape.status import ActiveTarget, DroppedTarget, ScrapeCounters
from promlike.storage.access import SampleSink

log = getLogger(__name__)

RESTART_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Supervised:
    """A pool and the task that keeps it running."""

    pool: ScrapePool
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """One, or none while the service is not running."""


class ScrapeService:
    """Scrapes the targets of a configuration into a sink. `run` in a task of its own; `close` ends it.

    `external_url` and `listen_port` say how this server is reached, for the global URLs of targets.
    """

    def __init__(
        self, config: Config, sink: SampleSink, *, external_url: str = "", listen_port: int | None = None, clock: Clock = wall_clock_ms
    ) -> None:
        self.counters = ScrapeCounters()
        self._config = config
        self._sink = sink
        self._external_url = external_url
        self._listen_port = listen_port
        self._clock = clock
        self._book = FamilyBook()
        self._pools: dict[str, _Supervised] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Scrape until `close`. Stopping marks no series as gone: the server may be back before anybody misses them."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._apply(self._config)
                await self._stopping.wait()
                async with self._changing:
                    await stop(task for pool in self._pools.values() for task in pool.tasks)
        finally:
            self._tasks = None
            self._stopped.set()

    async def reload(self, config: Config) -> None:
        """Go over to another configuration. Jobs that stay as they are go on undisturbed; series of those that are gone are marked."""
        if self._tasks is None or self._stopping.is_set():
            self._config = config
        else:
            await self._apply(config)
        self.counters.scrape_pool_reloads_total += 1

    async def close(self) -> None:
        """End `run` and wait for it; idempotent."""
        self._stopping.set()
        if self._tasks is not None:
            await self._stopped.wait()

    def active_targets(self) -> list[ActiveTarget]:
        """Every target that is scraped, by job, in the order of the configuration."""
        return [target for supervised in self._pools.values() for target in supervised.pool.active()]

    def dropped_targets(self) -> list[DroppedTarget]:
        """Targets that relabelling dropped, as many as keep_dropped_targets keeps."""
        return [target for supervised in self._pools.values() for target in supervised.pool.dropped()]

    def dropped_counts(self) -> dict[str, int]:
        """How many targets relabelling dropped, by job."""
        return {job: supervised.pool.dropped_count for job, supervised in self._pools.items()}

    def scrape_pools(self) -> list[str]:
        """The names of all jobs."""
        return list(self._pools)

    def config_of(self, scrape_pool: str) -> ScrapeConfig | None:
        """The configuration of a job."""
        return next((job for job in self._config.scrape_configs if job.job_name == scrape_pool), None)

    def metrics(self) -> Iterable[Metric]:
        """`prometheus_target_*` and `prometheus_sd_*`, for /metrics."""
        discovered = {job: supervised.pool.discovered_count for job, supervised in self._pools.items()}
        return collect(self.counters, discovered, self.active_targets())

    async def _apply(self, config: Config) -> None:
        async with self._changing:
            self._config = config
            wanted = {job.job_name: job for job in config.scrape_configs}
            seed = _seed(config)
            for name in self._pools.keys() - wanted.keys():
                gone = self._pools.pop(name)
                await stop(gone.tasks)
                await gone.pool.end()
            pools = {}
            for name, job in wanted.items():
                known = self._pools.get(name)
                same = known is not None and known.pool.config == job and known.pool.environment.seed == seed
                pools[name] = known if known is not None and same else await self._replace(known, job, seed)
            self._pools = pools

    async def _replace(self, known: _Supervised | None, job: ScrapeConfig, seed: int) -> _Supervised:
        inherited: Inherited = {}
        if known is not None:
            await stop(known.tasks)
            inherited = known.pool.leave()
        environment = Environment(
            sink=self._sink,
            counters=self.counters,
            clock=self._clock,
            seed=seed,
            external_url=self._external_url,
            listen_port=self._listen_port,
            book=self._book,
        )
        supervised = _Supervised(ScrapePool(job, environment, inherited))
        if self._tasks is not None:
            supervised.tasks.append(self._tasks.create_task(self._supervise(supervised)))
        self.counters.scrape_pools_total += 1
        return supervised

    async def _supervise(self, supervised: _Supervised) -> None:
        """Run a pool; should it ever fail, start it again with what it knew."""
        while True:
            try:
                await supervised.pool.run()
            except Exception:
                self.counters.scrape_pools_failed_total += 1
                log.exception("the pool of a job failed, starting it again", extra={"job": supervised.pool.config.job_name})
            await asyncio.sleep(RESTART_SECONDS)
            supervised.pool = ScrapePool(supervised.pool.config, supervised.pool.environment, supervised.pool.leave())


def _seed(config: Config) -> int:
    """Servers of a pair have different hosts or external labels, and so scrape at different times."""
    labels = "".join(f"\0{name}\0{value}" for name, value in config.global_.external_labels)
    return xxhash.xxh64_intdigest(socket.gethostname() + labels)
