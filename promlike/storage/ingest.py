"""The way in: series and samples through limits and WAL into the head."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

import numpy as np

from promlike.errors import PromlikeError, RejectReason, SampleRejected, StorageUnavailable
from promlike.model.blocks import Bool, Float64, Int32, Int64
from promlike.model.exemplars import Exemplars
from promlike.model.labels import METRIC_NAME, Labels, format_labels
from promlike.storage.access import AppendResult, Metadata
from promlike.storage.changes import Changes
from promlike.storage.counters import StorageCounters
from promlike.storage.exemplar_buffer import ExemplarBuffer
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.keep import Keep
from promlike.storage.limits import MOST_METRIC_BYTES, TimeLimits, is_too_long, utc_text
from promlike.storage.options import StorageOptions
from promlike.storage.store import SeriesRecord
from promlike.storage.unflushed import Unflushed
from promlike.storage.wal import WalCommitter
from promlike.storage.wal_records import encode_exemplars, encode_metadata, encode_samples, encode_series

log = logging.getLogger(__name__)

T = TypeVar("T")


SERIES_AT_ONCE = 1000
"""So many new series go to the WAL without waiting for a sample of theirs, for the same reason as below."""

SAMPLES_AT_ONCE = 20_000
"""Longer columns are taken in parts, so that none keeps the event loop for more than a few milliseconds."""


EXEMPLARS_AT_ONCE = 2000
"""As above, for exemplars, each of which is looked at."""


class Ingest:
    """The SampleSink of storage. Everything runs on the event loop's thread; samples reach the head once the WAL has them."""

    def __init__(
        self,
        options: StorageOptions,
        index: SeriesIndex,
        head: Head,
        wal: WalCommitter,
        keep: Keep,
        counters: StorageCounters,
        changes: Changes,
        now_ms: Callable[[], int],
    ) -> None:
        self._options = options
        self._index = index
        self._head = head
        self._wal = wal
        self._keep = keep
        self._counters = counters
        self._changes = changes
        self._now_ms = now_ms
        self._refusing = False
        self._unlogged: list[SeriesRecord] = []
        self._in_flight: dict[int, Int32] = {}
        self._parts: dict[int, Int32] = {}
        self._flights = count()
        self.unstored: list[int] = []
        """Refs of series that the store has not been given; their labels, ten times as large, stand in the index."""
        self.metadata: dict[str, Metadata] = {}
        self.unstored_metadata: dict[str, Metadata] = {}
        self.unflushed = Unflushed()
        self.exemplars = ExemplarBuffer(options.max_exemplars)
        self.last_exemplar_ms = 0
        self.pressure = asyncio.Event()
        """Set when so many samples wait for a flush that it should not wait for its time."""

    def series_ref(self, series: Labels) -> int:
        """See `SampleSink.series_ref`."""
        index = self._index
        key = index.key(series)
        ref = index.find(key)
        if ref is None:
            self._check_limits(series, key)
            ref = index.add(key)
            self._head.add_series(ref)
            self._announce(SeriesRecord(ref=ref, labels=series))
            self._counters.series_created += 1
        elif not index.ready[ref]:
            if not index.alive[ref]:
                self._check_limits(series, key)
            self._revive(ref)
        return ref

    async def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        """See `SampleSink.append`."""
        refs, ts_ms, values, rejected, refusal = self._in_bounds(refs, ts_ms, values)
        appended = duplicates = overwritten = 0
        with self._coming(refs):
            for start in range(0, len(refs), SAMPLES_AT_ONCE):
                part = slice(start, start + SAMPLES_AT_ONCE)
                result = await self._append(refs[part], ts_ms[part], values[part])
                appended += result.appended
                duplicates += result.duplicates
                overwritten += result.overwritten
        return AppendResult(appended=appended, duplicates=duplicates, overwritten=overwritten, rejected=rejected, refusal=refusal)

    async def _append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        self._check_room(len(refs))
        self.introduce(refs)
        return await self._in_flight_logged(refs, encode_samples(refs, ts_ms, values), lambda: self.apply(refs, ts_ms, values))

    async def append_exemplars(self, exemplars: Exemplars) -> AppendResult:
        """See `SampleSink.append_exemplars`."""
        if self.exemplars.most <= 0 or not len(exemplars):
            return AppendResult(appended=0)
        limits = self._limits(exemplars.refs)
        outside = limits.outside(exemplars.ts_ms, self._counters.exemplars_rejected)
        refusal, rejected = "", 0
        if outside is not None:
            refusal, rejected = self._refusal(limits, exemplars.refs, exemplars.ts_ms, outside), int(outside.sum())
            exemplars = exemplars.take(~outside)
        if not len(exemplars):
            return AppendResult(appended=0, rejected=rejected, refusal=refusal)
        appended = duplicates = 0
        with self._coming(exemplars.refs):
            for start in range(0, len(exemplars), EXEMPLARS_AT_ONCE):
                part = exemplars.take(np.arange(start, min(start + EXEMPLARS_AT_ONCE, len(exemplars))))
                result = await self._append_exemplars(part)
                appended += result.appended
                duplicates += result.duplicates
        return AppendResult(appended=appended, duplicates=duplicates, rejected=rejected, refusal=refusal)

    async def _append_exemplars(self, exemplars: Exemplars) -> AppendResult:
        self._check_room(0)
        self.introduce(exemplars.refs)
        return await self._in_flight_logged(exemplars.refs, encode_exemplars(exemplars), lambda: self.apply_exemplars(exemplars))

    @contextmanager
    def _coming(self, refs: Int32) -> Iterator[None]:
        """Inside, samples of these series (int32[N], some twice) are taken a part at a time."""
        number = next(self._flights)
        self._parts[number] = refs
        try:
            yield
        finally:
            del self._parts[number]

    async def _in_flight_logged(self, refs: Int32, record: bytes, apply: Callable[[], AppendResult]) -> AppendResult:
        """`logged` for what comes of series (refs int32[N], some twice), which stay until it is there."""
        flight = next(self._flights)
        self._in_flight[flight] = refs

        def land() -> AppendResult:
            del self._in_flight[flight]
            return apply()

        return await self.logged(record, land, failed=lambda: self._in_flight.pop(flight))

    async def logged(self, record: bytes, apply: Callable[[], T], failed: Callable[[], object] = lambda: None) -> T:
        """Write a record; once it is on disk, call `apply`, in the order of the log, and return what that returns.

        Raises StorageUnavailable when the WAL cannot take it; `failed` is called then instead.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def applying() -> None:
            try:
                result = apply()
            except PromlikeError as error:
                _fail(done, error)
            else:
                if not done.done():
                    done.set_result(result)

        def failing(error: OSError) -> None:
            failed()
            _fail(done, StorageUnavailable(f"the WAL cannot be written: {error}"))

        self._submit(record, applying, failing)
        return await done

    def _check_room(self, samples: int) -> None:
        """Raise StorageUnavailable when WAL or head have no room; say so in the log once, and when there is room again."""
        try:
            self._wal.check_room()
            self._wal.check_size()
            self._head.check_room(samples)
        except StorageUnavailable as error:
            self._counters.samples_refused += samples
            self.pressure.set()  # a flush may make room
            if not self._refusing:
                self._refusing = True
                log.error("samples are refused: %s", error)
            raise
        if self._refusing:
            self._refusing = False
            log.info("samples are taken again")

    def metric_spans(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]:
        """See `SeriesIndex.metric_spans`."""
        return self._index.metric_spans(refs, first_ms, last_ms)

    def in_flight(self) -> Int32:
        """Refs (int32[N], some twice) of samples on their way through the WAL, so that the head does not know of them yet."""
        return np.concatenate([np.empty(0, np.int32), *self._in_flight.values()])

    def awaited(self) -> list[Int32]:
        """Refs (int32[N], some twice) of series of which something is on its way to the WAL, the head, or the store."""
        announced = (*self.unstored, *(record.ref for record in self._unlogged))
        return [*self._parts.values(), *self._in_flight.values(), np.array(announced, np.int32), *self.exemplars.all_refs()]

    def store_forgot(self, refs: Int32) -> None:
        """See `SeriesIndex.store_forgot`."""
        self._index.store_forgot(refs)

    async def set_metadata(self, metadata: Sequence[Metadata]) -> None:
        """See `SampleSink.set_metadata`."""
        changed = [entry for entry in metadata if self.metadata.get(entry.metric) != entry and not is_too_long(entry.metric)]
        if changed:
            self._wal.check_room()
            await self.logged(encode_metadata(changed), lambda: self.apply_metadata(changed))

    def apply(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        """Put samples that are in the WAL into the head."""
        result = self._head.append(refs, ts_ms, values)
        counters = self._counters
        counters.samples_appended += result.appended
        counters.samples_duplicate += result.duplicates
        counters.samples_overwritten += result.overwritten
        if self._head.unflushed >= self._options.flush_max_samples or self._wal.is_half_full:
            self.pressure.set()
        if len(ts_ms):
            self.unflushed.appended(int(ts_ms.min()))
        self._changes.appended(refs, ts_ms)
        return result

    def apply_exemplars(self, exemplars: Exemplars) -> AppendResult:
        """Keep exemplars that are in the WAL until a flush stores them."""
        appended, dropped = self.exemplars.append(exemplars)
        counters = self._counters
        counters.exemplars_appended += appended
        counters.exemplars_duplicate += len(exemplars) - appended
        counters.exemplars_dropped += dropped
        if 2 * self.exemplars.waiting > self.exemplars.most:
            self.pressure.set()
        if appended:
            self.last_exemplar_ms = max(self.last_exemplar_ms, int(exemplars.ts_ms.max()))
        return AppendResult(appended=appended, duplicates=len(exemplars) - appended)

    def apply_metadata(self, metadata: Sequence[Metadata]) -> None:
        """Remember metadata that is in the WAL."""
        for entry in metadata:
            self.metadata[entry.metric] = entry
            self.unstored_metadata[entry.metric] = entry

    def replay_series(self, record: SeriesRecord) -> None:
        """A series found in the WAL; the store may know it already. Raises ValueError when it, or its ref, is known otherwise."""
        key = self._index.key(record.labels)
        known = self._index.find(key)
        if known is None:
            self._index.add(key, record.ref)
            self._head.add_series(record.ref)
            self.unstored.append(record.ref)
        elif known != record.ref:
            raise ValueError(f"the ref of {format_labels(record.labels)} is {known}, not {record.ref}")

    def records(self, refs: Sequence[int]) -> Iterator[SeriesRecord]:
        """These series, one after the other. From any thread."""
        return (SeriesRecord(ref=ref, labels=self._index.labels_of(ref)) for ref in refs)

    def living(self, refs: Collection[int]) -> list[int]:
        """Those of the series that are in the index."""
        array = np.array(list(refs), np.int32)
        found: list[int] = array[self._index.alive[array]].tolist()
        return found

    def dead(self, refs: Collection[int]) -> Int32:
        """Those of the series that were removed from the index: int32[S], ascending."""
        array = np.array(sorted(refs), np.int32)
        return array[~self._index.alive[array]]

    def _submit(self, data: bytes, apply: Callable[[], None], failed: Callable[[OSError], None]) -> None:
        """Queue a record behind the series it may need; both are written together or not at all."""
        announced, self._unlogged = self._unlogged, []

        def announce_again(error: OSError) -> None:
            self._unlogged = announced + self._unlogged
            failed(error)

        self._wal.submit(encode_series(announced) + data if announced else data, apply, announce_again)

    def _announce(self, record: SeriesRecord) -> None:
        self._unlogged.append(record)
        self.unstored.append(record.ref)
        if len(self._unlogged) >= SERIES_AT_ONCE:
            self._submit(b"", lambda: None, lambda error: None)

    def introduce(self, refs: Int32) -> None:
        """Let WAL and store know the series `refs int32[N]`: some were removed, because callers keep refs, or only others' so far."""
        if len(refs) and (refs.min() < 0 or refs.max() >= self._index.count):
            raise ValueError(f"no such series: ref {refs.min() if refs.min() < 0 else refs.max()} of {self._index.count}")
        unready = refs[~self._index.ready[refs]]
        for ref in np.unique(unready).tolist():
            self._revive(ref)

    def _revive(self, ref: int) -> None:
        if not self._index.has(np.array([ref], np.int32)).all():
            raise ValueError(f"no such series: ref {ref}")
        self._index.revive(ref)
        self._announce(SeriesRecord(ref=ref, labels=self._index.labels_of(ref)))

    def _check_limits(self, series: Labels, key: bytes) -> None:
        options, index = self._options, self._index
        metric = dict(series).get(METRIC_NAME, "")
        if is_too_long(metric):
            size = len(metric.encode())
            self._reject(f"metric name {metric[:50]}… has {size} bytes (limit {MOST_METRIC_BYTES})", RejectReason.METRIC_NAME_TOO_LONG)
        if options.max_series and index.living >= options.max_series:
            self._reject(f"series {format_labels(series)}: {index.living} series exist (limit {options.max_series})")
        if options.max_series_per_metric:
            siblings = index.series_per_metric[index.metric_symbol(key)]
            if siblings >= options.max_series_per_metric:
                self._reject(
                    f"series {format_labels(series)}: its metric has {siblings} series (limit {options.max_series_per_metric} per metric)"
                )

    def _reject(self, message: str, reason: RejectReason = RejectReason.TOO_MANY_SERIES) -> None:
        self._counters.series_rejected[reason] += 1
        raise SampleRejected(reason, message)

    def _in_bounds(self, refs: Int32, ts_ms: Int64, values: Float64) -> tuple[Int32, Int64, Float64, int, str]:
        """The samples that are neither too old nor too far ahead, as kernels take them; how many were left out, and why the first was."""
        refs = np.require(refs, np.int32, ["C", "W"])
        ts_ms = np.require(ts_ms, np.int64, ["C", "W"])
        values = np.require(values, np.float64, ["C", "W"])
        if not len(refs):
            return refs, ts_ms, values, 0, ""
        limits = self._limits(refs)
        outside = limits.outside(ts_ms, self._counters.samples_rejected)
        if outside is None:
            return refs, ts_ms, values, 0, ""
        keep = ~outside
        return refs[keep], ts_ms[keep], values[keep], int(outside.sum()), self._refusal(limits, refs, ts_ms, outside)

    def _limits(self, refs: Int32) -> TimeLimits:
        """For samples of these series, int32[N]."""
        now, options = self._now_ms(), self._options
        return TimeLimits(
            oldest_ms=self._keep.oldest_ms() if self._keep.is_uniform else self._keep.oldest_of(refs),
            newest_ms=now + options.future_limit_ms if options.future_limit_ms else 2**63 - 1,
        )

    def _refusal(self, limits: TimeLimits, refs: Int32, ts_ms: Int64, outside: Bool) -> str:
        """Why the first row (of int32[N], int64[N]) that is `outside bool[N]` was left out."""
        first = int(np.argmax(outside))
        time_ms = int(ts_ms[first])
        oldest_ms = int(np.broadcast_to(limits.oldest_ms, len(refs))[first])
        early = f"before {utc_text(oldest_ms)}, where retention ends"
        limit = early if time_ms < oldest_ms else f"after {utc_text(limits.newest_ms)}, too far ahead of now"
        return f"{format_labels(self._index.labels_of(int(refs[first])))} at {utc_text(time_ms)}: {limit}"


def _fail(done: asyncio.Future[T], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
