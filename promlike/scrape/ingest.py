"""The samples of one target: from the bytes of an answer to columns for the sink. Knows nothing of HTTP and of time."""

import asyncio
from dataclasses import dataclass, field
from logging import getLogger

import numpy as np

from promlike.config.scrape import ScrapeConfig
from promlike.errors import PromlikeError, SampleRejected
from promlike.model.blocks import STALE_NAN, Float64, Int32, Int64
from promlike.model.exemplars import Exemplars
from promlike.model.labels import Labels
from promlike.scrape.admission import NO_TIME
from promlike.scrape.exemplars import TargetExemplars
from promlike.scrape.exposition import Exposition, read_exposition
from promlike.scrape.families import NO_FAMILIES, Families, FamilyBook
from promlike.scrape.metadata_text import FamilyLines
from promlike.scrape.sample_labels import SampleLabels
from promlike.scrape.series_cache import SeriesCache
from promlike.scrape.series_text import parse_series
from promlike.scrape.status import ScrapeCounters
from promlike.storage.access import Metadata, SampleSink

log = getLogger(__name__)

NEW_SERIES_AT_ONCE = 256
"""How many new series are read before the event loop gets a turn: about 3 ms."""


class SampleLimitExceeded(PromlikeError):
    """More samples than sample_limit allows; the scrape fails as a whole."""


@dataclass(slots=True, kw_only=True)
class ScrapeReport:
    """What the series about a scrape say."""

    scraped: int = 0
    kept: int = 0
    added: int = 0
    body_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Samples for the sink: `refs int32[N]`, `ts_ms int64[N]`, `values float64[N]`."""

    refs: Int32
    ts_ms: Int64
    values: Float64

    @classmethod
    def joined(cls, *parts: "Columns") -> "Columns":
        return cls(
            refs=np.concatenate([part.refs for part in parts]),
            ts_ms=np.concatenate([part.ts_ms for part in parts]),
            values=np.concatenate([part.values for part in parts]),
        )

    @classmethod
    def at(cls, refs: Int32, ts_ms: int, values: Float64 | float) -> "Columns":
        """One sample for each of `refs int32[N]`, all at one time; `values float64[N]`, or one for all."""
        return cls(refs=refs, ts_ms=np.full(len(refs), ts_ms, np.int64), values=np.full(len(refs), values, np.float64))

    @classmethod
    def stale(cls, refs: Int32, ts_ms: int) -> "Columns":
        """A stale marker for each of `refs int32[N]`."""
        return cls.at(refs, ts_ms, STALE_NAN)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scraped:
    """What of an answer is to be stored; metadata only when it changed, exemplars only when the target did not show them last time."""

    columns: Columns
    exemplars: Exemplars
    metadata: list[Metadata]

    @classmethod
    def nothing(cls) -> "Scraped":
        return cls(columns=Columns.at(np.empty(0, np.int32), 0, 0.0), exemplars=Exemplars.empty(), metadata=[])


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class Ingest:
    """Turns the answers of one target into columns, one scrape after the other."""

    config: ScrapeConfig
    labels: SampleLabels
    sink: SampleSink
    counters: ScrapeCounters
    cache: SeriesCache = field(default_factory=SeriesCache)
    exemplars: TargetExemplars = field(default_factory=TargetExemplars)
    book: FamilyBook = field(default_factory=FamilyBook)
    families: Families = NO_FAMILIES
    """What the last answer that was read says of its metric families."""
    _metadata_hash: int | None = None
    _reported: tuple[str, ...] = ()
    _report_refs: list[int] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sink.ref_use.hold(self)

    def held_refs(self) -> Int32:
        """See `RefHolder`."""
        return np.concatenate([self.cache.held_refs(), self.known_report_refs()])

    async def read(self, body: bytearray, *, openmetrics: bool, scrape_ms: int, report: ScrapeReport) -> Scraped:
        """What is to be stored of an answer. Fills `report` even when it raises.

        Raise PromlikeError (ExpositionError, SampleLimitExceeded) when the scrape fails; nothing is remembered of it then.
        """
        report.body_bytes = len(body)
        try:
            found = read_exposition(body, self.cache.table, openmetrics=openmetrics)
        except PromlikeError as error:
            report.scraped = report.kept = getattr(error, "samples", 0)
            raise
        report.scraped = found.samples
        series = await self._new_series(found)
        metadata = self._changed_metadata(found)
        exemplars = self.exemplars.read(found)
        report.kept = int((found.which >= 0).sum()) + sum(labels is not None for labels in series)
        if 0 < self.config.sample_limit < report.kept:
            self.counters.scrapes_exceeded_sample_limit_total += 1
            raise SampleLimitExceeded(f"sample_limit exceeded: {report.kept} samples, {self.config.sample_limit} are allowed")
        self._count_rejected(self.cache.retry_refused(found, self.sink))
        for first in range(0, len(series), NEW_SERIES_AT_ONCE):
            self._count_rejected(self.cache.enter(found, first, series[first : first + NEW_SERIES_AT_ONCE], self.sink))
            await asyncio.sleep(0)
        admitted = self.cache.admit(
            found,
            scrape_ms,
            honor_times=self.config.honor_timestamps,
            track_times=self.config.track_timestamps_staleness,
        )
        of_samples = found.ts_ms[exemplars.samples]
        times = np.where(self.config.honor_timestamps & (of_samples != NO_TIME), of_samples, scrape_ms)
        fresh = self.exemplars.fresh(exemplars, self.cache.refs_of(found.which[exemplars.samples]), times)
        self.cache.trim(found.samples)
        if metadata is not None:
            self._metadata_hash = found.metadata_hash
            self.families = self.book.families(metadata)
        report.added = admitted.added
        self._count_duplicates(admitted.duplicates)
        self._count_exemplars(exemplars.refusals)
        return Scraped(
            columns=Columns(refs=admitted.refs, ts_ms=admitted.ts_ms, values=admitted.values),
            exemplars=fresh,
            metadata=metadata or [],
        )

    def report_refs(self, names: tuple[str, ...]) -> Int32:
        """Refs of the series about the scrape itself. Raise SampleRejected when a limit forbids one."""
        if self._reported != names:
            self._report_refs = [self.sink.series_ref(self.labels.report(name)) for name in names]
            self._reported = names
        return np.array(self._report_refs, np.int32)

    def known_report_refs(self) -> Int32:
        """Refs of the series about the scrape that were stored so far."""
        return np.array(self._report_refs, np.int32)

    async def _new_series(self, found: Exposition) -> list[Labels | None]:
        """Labels of the series not seen before, None where relabelling drops them."""
        series: list[Labels | None] = []
        for start, end, sample in found.unseen.tolist():
            try:
                series.append(self.labels.of(parse_series(found.text(start, end), openmetrics=found.openmetrics)))
            except ValueError as error:
                raise found.error(start, str(error), sample) from error
            if len(series) % NEW_SERIES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return series

    def _changed_metadata(self, found: Exposition) -> list[Metadata] | None:
        if found.metadata_hash == self._metadata_hash:
            return None
        lines = FamilyLines(openmetrics=found.openmetrics)
        for start, end, sample in found.metadata.tolist():
            try:
                lines.add(found.text(start, end))
            except ValueError as error:
                raise found.error(start, str(error), sample) from error
        return lines.metadata()

    def _count_rejected(self, rejected: list[SampleRejected]) -> None:
        for error in rejected:
            self.counters.series_rejected_total[error.reason] += 1
        if rejected:
            self._warn("new series are refused", {"count": len(rejected), "first": str(rejected[0])})

    def _count_exemplars(self, refusals: list[SampleRejected]) -> None:
        if refusals:
            self.counters.exemplars_rejected_total += len(refusals)
            self._warn("exemplars are refused", {"count": len(refusals), "first": str(refusals[0])})

    def _count_duplicates(self, duplicates: int) -> None:
        if duplicates:
            self.counters.scrapes_sample_duplicate_timestamp_total += duplicates
            self._warn("the target exposes the same series more than once", {"samples": duplicates})

    def _warn(self, message: str, details: dict[str, object]) -> None:
        """Say it once a target: what is wrong with one scrape is wrong with the next, and the counters go on."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, extra={"job": self.config.job_name, "target": dict(self.labels.target).get("instance"), **details})
