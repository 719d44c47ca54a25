"""The targets of one job: what discoveries find, relabelled, each with its loop."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from logging import getLogger
from time import perf_counter
from typing import Any

import numpy as np

from promlike.config.scrape import ScrapeConfig
from promlike.errors import StorageError
from promlike.model.blocks import Int32
from promlike.model.labels import Labels
from promlike.scrape.client import HttpClient
from promlike.scrape.discovery.file import FileDiscovery
from promlike.scrape.discovery.groups import Publish
from promlike.scrape.discovery.http import HttpDiscovery
from promlike.scrape.families import FamilyBook
from promlike.scrape.ingest import Columns, Ingest
from promlike.scrape.loop import Clock, TargetLoop
from promlike.scrape.relabel import Rule, compile_rules
from promlike.scrape.sample_labels import SampleLabels
from promlike.scrape.status import ActiveTarget, DroppedTarget, ScrapeCounters
from promlike.scrape.target import Target, TargetGroup, build_targets, global_url
from promlike.storage.access import SampleSink

log = getLogger(__name__)

Identity = tuple[Labels, str]
Inherited = dict[Identity, Int32]
"""Series that count as present, by target: what a pool leaves to the one that takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What every pool works with. `seed` sets this server's scrapes apart from those of others."""

    sink: SampleSink
    counters: ScrapeCounters
    clock: Clock
    seed: int
    external_url: str
    listen_port: int | None
    book: FamilyBook


@dataclass(slots=True, eq=False)
class Running:
    """A loop and the task that runs it."""

    loop: TargetLoop
    task: asyncio.Task[None]


@dataclass(slots=True, eq=False, weakref_slot=True)
class ScrapePool:
    """Runs one scrape config."""

    config: ScrapeConfig
    environment: Environment
    inherited: Inherited = field(default_factory=dict)
    _client: HttpClient = field(init=False)
    _rules: tuple[Rule, ...] = field(init=False)
    _sources: dict[tuple[int, str], tuple[TargetGroup, ...]] = field(default_factory=dict)
    _running: dict[Identity, Running] = field(default_factory=dict)
    _dropped: tuple[Labels, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _silent: set[int] = field(default_factory=set)
    """Discoveries that have not said anything yet."""

    def __post_init__(self) -> None:
        self._client = HttpClient(self.config.http)
        self._rules = compile_rules(self.config.relabel_configs)
        self.environment.sink.ref_use.hold(self)

    def held_refs(self) -> Int32:
        """See `RefHolder`; loops hold their own."""
        return np.concatenate([np.empty(0, np.int32), *self.inherited.values()])

    async def run(self) -> None:
        """Discover and scrape until cancelled; then every loop has ended and connections are closed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for discover in self._discoveries():
                    tasks.create_task(discover)
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    started = perf_counter()
                    await self._sync(tasks)
                    self.environment.counters.sync_length[self.config.job_name].add(perf_counter() - started)
        finally:
            await self._client.close()

    async def end(self) -> None:
        """The job is gone: mark the series of all its targets. The pool is not running any more."""
        await self._mark_gone([*self.leave().values()])

    def leave(self) -> Inherited:
        """What a pool with another config needs in order to go on."""
        return {**self.inherited, **{identity: running.loop.present() for identity, running in self._running.items()}}

    def active(self) -> list[ActiveTarget]:
        outside, port = self.environment.external_url, self.environment.listen_port
        return [
            running.loop.status(self.config.job_name, global_url(running.loop.target.url, outside, port))
            for running in self._running.values()
        ]

    def dropped(self) -> list[DroppedTarget]:
        kept = self._dropped[: self.config.keep_dropped_targets or None]
        return [DroppedTarget(discovered_labels=found, scrape_pool=self.config.job_name) for found in kept]

    @property
    def dropped_count(self) -> int:
        """How many targets relabelling dropped, those not kept included."""
        return len(self._dropped)

    @property
    def discovered_count(self) -> int:
        """How many targets were found before relabelling."""
        return sum(len(group.targets) for groups in self._sources.values() for group in groups)

    def _discoveries(self) -> Iterator[Coroutine[Any, Any, None]]:
        discovery = self.config.discovery
        for number, static in enumerate(discovery.static_configs):
            self._sources[-1, str(number)] = (TargetGroup(targets=static.targets, labels=static.labels),)
        runners: list[FileDiscovery | HttpDiscovery] = [
            *map(FileDiscovery, discovery.file_sd_configs),
            *map(HttpDiscovery, discovery.http_sd_configs),
        ]
        self._silent.update(range(len(runners)))
        for number, runner in enumerate(runners):
            yield runner.run(self._publisher(number))
        self._changed.set()

    def _publisher(self, number: int) -> Publish:
        """Sources of different discoveries do not mix."""

        def publish(source: str, groups: tuple[TargetGroup, ...]) -> None:
            if number in self._silent or self._sources.get((number, source)) != groups:
                self._silent.discard(number)
                self._sources[number, source] = groups
                self._changed.set()

        return publish

    async def _sync(self, tasks: asyncio.TaskGroup) -> None:
        """Start loops for new targets, end those of targets that are gone."""
        groups = [group for groups in self._sources.values() for group in groups]
        targets = build_targets(groups, self.config, self._rules)
        self._dropped = targets.dropped
        for problem in targets.problems:
            log.error("a target is left out: %s", problem)
        wanted = {target.identity: target for target in targets.active}
        gone = [self._running.pop(identity) for identity in self._running.keys() - wanted.keys()]
        await stop(running.task for running in gone)
        await self._mark_gone([running.loop.present() for running in gone])
        forced = self._over_limit(len(wanted))
        for identity, target in wanted.items():
            if identity not in self._running:
                loop = self._loop(target)
                self._running[identity] = Running(loop, tasks.create_task(loop.run(self.environment.seed)))
            self._running[identity].loop.forced_error = forced
        if not self._silent:
            # Every discovery has spoken: what the pool before this one had and this one has not is gone.
            inherited, self.inherited = self.inherited, {}
            await self._mark_gone([*inherited.values()])

    async def _mark_gone(self, series: list[Int32]) -> None:
        """Write stale markers, all at once: each append waits for the disk."""
        refs = np.unique(np.concatenate([np.empty(0, np.int32), *series]))
        if not len(refs):
            return
        columns = Columns.stale(refs, self.environment.clock())
        try:
            await self.environment.sink.append(columns.refs, columns.ts_ms, columns.values)
        except StorageError as error:
            log.error("cannot mark series as gone", extra={"job": self.config.job_name, "series": len(refs), "error": str(error)})

    def _loop(self, target: Target) -> TargetLoop:
        ingest = Ingest(
            config=self.config,
            labels=SampleLabels(config=self.config, target=target.labels),
            sink=self.environment.sink,
            counters=self.environment.counters,
            book=self.environment.book,
        )
        ingest.cache.inherit(self.inherited.pop(target.identity, np.empty(0, np.int32)))
        return TargetLoop(
            target=target,
            config=self.config,
            client=self._client,
            sink=self.environment.sink,
            ingest=ingest,
            counters=self.environment.counters,
            clock=self.environment.clock,
        )

    def _over_limit(self, count: int) -> str:
        if 0 < self.config.target_limit < count:
            self.environment.counters.scrape_pool_exceeded_target_limit_total += 1
            return f"target_limit exceeded: {count} targets, {self.config.target_limit} are allowed"
        return ""


async def stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    ending = set(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
