"""The loop of one target: fetch, read, store, report, again and again."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path

import numpy as np

from promlike.config.scrape import ScrapeConfig
from promlike.errors import PromlikeError, SampleRejected, StorageError
from promlike.model.blocks import Int32
from promlike.model.clock import wall_clock_ms
from promlike.model.durations import format_duration
from promlike.model.exemplars import Exemplars
from promlike.scrape.client import BodyTooLarge, HttpClient
from promlike.scrape.ingest import Columns, Ingest, Scraped, ScrapeReport
from promlike.scrape.protocols import accept_header, is_openmetrics
from promlike.scrape.status import ActiveTarget, Health, ScrapeCounters
from promlike.scrape.target import Target
from promlike.storage.access import SampleSink

log = getLogger(__name__)

TOLERANCE_MS = 2
"""A scrape this close to its planned time is stored under the planned time: even distances compress far better."""

REPORT = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added")
EXTRA_REPORT = ("scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes")

Clock = Callable[[], int]


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Planned times of scrapes: every `interval_ms` after the first. Times are those of the wall clock, waiting is not."""

    interval_ms: int
    planned_ms: int

    def stamp(self, now_ms: int) -> int:
        """The time to store for a scrape that starts now. A clock that drifts or jumps moves the plan."""
        tolerance = TOLERANCE_MS if self.interval_ms > 100 * TOLERANCE_MS else 0
        if abs(now_ms - self.planned_ms) > tolerance:
            self.planned_ms = now_ms
        return self.planned_ms

    def next_wait_ms(self, now_ms: int) -> int:
        """How long to wait for the next scrape; those that were missed are left out."""
        self.planned_ms += self.interval_ms
        while self.planned_ms < now_ms:
            self.planned_ms += self.interval_ms
        return min(self.planned_ms - now_ms, self.interval_ms)


@dataclass(slots=True, kw_only=True, eq=False)
class TargetLoop:
    """Scrapes one target. `forced_error` fails every scrape without asking the target, as over target_limit."""

    target: Target
    config: ScrapeConfig
    client: HttpClient
    sink: SampleSink
    ingest: Ingest
    counters: ScrapeCounters
    clock: Clock = wall_clock_ms
    forced_error: str = ""
    _health: Health = Health.UNKNOWN
    _last_error: str = ""
    _last_scrape_ms: int | None = None
    _last_duration_s: float = 0.0
    _headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._headers = {
            "Accept": accept_header(self.config),
            "Accept-Encoding": "gzip" if self.config.enable_compression else "identity",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{self.target.timeout_ms / 1000:.15g}",
        }

    async def run(self, seed: int) -> None:
        """Scrape until cancelled. Nothing that goes wrong in one scrape ends the loop."""
        wait_ms = self.target.offset_ms(self.clock(), seed)
        schedule = Schedule(interval_ms=self.target.interval_ms, planned_ms=self.clock() + wait_ms)
        lengths = self.counters.interval_length[format_duration(self.target.interval_ms)]
        before: float | None = None
        while True:
            await asyncio.sleep(wait_ms / 1000)
            now = time.monotonic()
            if before is not None:
                lengths.add(now - before)
            before = now
            try:
                await self.scrape(schedule.stamp(self.clock()))
            except Exception:
                log.exception("a scrape failed unexpectedly", extra={"job": self.config.job_name, "url": self.target.url})
            wait_ms = schedule.next_wait_ms(self.clock())

    async def scrape(self, scrape_ms: int) -> None:
        """One scrape, stored under `scrape_ms` together with what is reported about it."""
        started = time.perf_counter()
        report = ScrapeReport()
        scraped, error = Scraped.nothing(), ""
        try:
            scraped = await self._read(scrape_ms, report)
        except PromlikeError as failure:
            error = str(failure)
            self.ingest.cache.fail()
            self._log_failure(error)
            self.counters.scrapes_failed_total += 1
        duration_s = time.perf_counter() - started
        self._health, self._last_error = (Health.DOWN, error) if error else (Health.UP, "")
        self._last_scrape_ms, self._last_duration_s = scrape_ms, duration_s
        about = self._report(report, scrape_ms, duration_s)
        # Inherited refs may be those of the series about the scrape, which go on.
        gone = np.setdiff1d(self.ingest.cache.gone(), about.refs)
        columns = Columns.joined(scraped.columns, Columns.stale(gone, scrape_ms), about)
        await self._store(replace(scraped, columns=columns))

    def present(self) -> Int32:
        """Refs of all series that count as present, those about the scrapes too: what to mark when the target goes."""
        return np.union1d(self.ingest.cache.present(), self.ingest.known_report_refs()).astype(np.int32)

    def status(self, pool: str, url: str) -> ActiveTarget:
        """What is known of the target; `url` is how others reach it."""
        return ActiveTarget(
            discovered_labels=self.target.discovered,
            labels=self.target.labels,
            scrape_pool=pool,
            scrape_url=self.target.url,
            global_url=url,
            last_error=self._last_error,
            last_scrape_ms=self._last_scrape_ms,
            last_scrape_duration_s=self._last_duration_s,
            health=self._health,
            scrape_interval_ms=self.target.interval_ms,
            scrape_timeout_ms=self.target.timeout_ms,
            families=self.ingest.families,
        )

    async def _read(self, scrape_ms: int, report: ScrapeReport) -> Scraped:
        if self.forced_error:
            raise PromlikeError(self.forced_error)
        try:
            answer = await self.client.get(
                self.target.url, self._headers, timeout_ms=self.target.timeout_ms, max_bytes=self.config.body_size_limit
            )
        except BodyTooLarge:
            report.body_bytes = -1
            self.counters.scrapes_exceeded_body_size_limit_total += 1
            raise
        try:
            openmetrics = is_openmetrics(answer.content_type, self.config)
        except ValueError as error:
            raise PromlikeError(str(error)) from error
        return await self.ingest.read(answer.body, openmetrics=openmetrics, scrape_ms=scrape_ms, report=report)

    def _report(self, report: ScrapeReport, scrape_ms: int, duration_s: float) -> Columns:
        names: tuple[str, ...] = REPORT
        extra = (self.target.timeout_ms / 1000, self.config.sample_limit, report.body_bytes)
        values = [float(self._health is Health.UP), duration_s, report.scraped, report.kept, report.added]
        if self.config.extra_scrape_metrics:
            names, values = names + EXTRA_REPORT, [*values, *extra]
        try:
            return Columns.at(self.ingest.report_refs(names), scrape_ms, np.array(values, np.float64))
        except SampleRejected as error:
            log.warning("the series about a scrape are refused", extra={"url": self.target.url, "error": str(error)})
            self.counters.series_rejected_total[error.reason] += 1
            return Columns.at(np.empty(0, np.int32), scrape_ms, 0.0)

    async def _store(self, scraped: Scraped) -> None:
        """Hand everything to the sink; when it cannot take samples they are lost, stale markers excepted, which are tried again."""
        columns = scraped.columns
        try:
            result = await self.sink.append(columns.refs, columns.ts_ms, columns.values)
            self.ingest.cache.written()
            if scraped.metadata:
                await self.sink.set_metadata(scraped.metadata)
            if len(scraped.exemplars):
                await self._store_exemplars(scraped.exemplars)
        except StorageError as error:
            self.counters.lost_scrapes_total += 1
            self.ingest.exemplars.forget()
            log.error("a scrape could not be stored", extra={"url": self.target.url, "error": str(error)})
            return
        self.counters.samples_total += result.appended
        self.counters.scrapes_sample_out_of_bounds_total += result.rejected

    async def _store_exemplars(self, exemplars: Exemplars) -> None:
        result = await self.sink.append_exemplars(exemplars)
        self.counters.exemplars_total += result.appended
        self.counters.exemplars_rejected_total += result.rejected

    def _log_failure(self, error: str) -> None:
        log.debug("scrape failed", extra={"job": self.config.job_name, "url": self.target.url, "error": error})
        if not self.config.scrape_failure_log_file:
            return
        line = {"time": time.time(), "job": self.config.job_name, "target": self.target.url, "err": error}
        try:
            with Path(self.config.scrape_failure_log_file).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as problem:
            log.error("cannot write scrape_failure_log_file", extra={"error": str(problem)})
