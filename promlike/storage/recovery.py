"""Coming back after a stop or a crash: the store's series, then what the WAL holds beyond the last flush."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from promlike.errors import StorageError
from promlike.storage.counters import StorageCounters
from promlike.storage.deletion import Deleter
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.store import SeriesRecord, Store, WalPosition
from promlike.storage.wal_records import RecordType, SampleColumns, decode_deletion, decode_metadata, decode_samples, decode_series
from promlike.storage.wal_replay import ReplayReport, replay, segments_of

log = logging.getLogger(__name__)

REPLAY_SAMPLES = 500_000
"""Samples that are collected from small records before they go to the head together."""


async def load_store(store: Store, index: SeriesIndex, head: Head, ingest: Ingest) -> None:
    """Enter every stored series, with the times of its samples, and all metadata."""
    records = await store.load_series()
    # In a thread, so that the server can say meanwhile that it is starting; nothing else touches index and head yet.
    await asyncio.to_thread(_enter, records, index, head)
    ingest.metadata = {entry.metric: entry for entry in await store.load_metadata()}


def _enter(records: list[SeriesRecord], index: SeriesIndex, head: Head) -> None:
    for record in records:
        index.add(index.key(record.labels), record.ref)
        head.add_series(record.ref)
    filled = [record for record in records if record.min_time_ms is not None and record.max_time_ms is not None]
    head.set_stored(
        np.array([record.ref for record in filled], np.int32),
        np.array([record.min_time_ms for record in filled], np.int64),
        np.array([record.max_time_ms for record in filled], np.int64),
    )


def replay_wal(
    folder: Path,
    position: WalPosition | None,
    index: SeriesIndex,
    head: Head,
    ingest: Ingest,
    deleter: Deleter,
    counters: StorageCounters,
    progress: Callable[[str], None],
    report: ReplayReport,
) -> int:
    """Apply the WAL after `position`; return the number of the segment to write next. `report` tells how far it is."""
    started = time.monotonic()
    waiting: list[SampleColumns] = []
    samples = count = 0

    def apply() -> None:
        nonlocal waiting, count
        if waiting:
            _apply_samples(waiting, index, ingest, counters)
        waiting, count = [], 0

    for record in replay(folder, position, report):
        if record.kind is RecordType.SAMPLES:
            columns = decode_samples(record.payload)
            waiting.append(columns)
            count += len(columns.refs)
            samples += len(columns.refs)
            if count >= REPLAY_SAMPLES:
                apply()
        elif record.kind is RecordType.SERIES:
            apply()
            _apply_series(record.payload, ingest)
        elif record.kind is RecordType.DELETE:
            apply()
            deleter.replay(decode_deletion(record.payload))
        else:
            ingest.apply_metadata(decode_metadata(record.payload))
    apply()
    deleter.replayed()
    counters.wal_replayed_records += report.records
    counters.wal_torn_bytes += report.torn_bytes
    counters.wal_corruptions += len(report.corruptions)
    progress(f"WAL: {samples} samples of {index.living} series replayed in {time.monotonic() - started:.2f} s")
    return max([*segments_of(folder), position.segment if position is not None else 0]) + 1


def _apply_series(payload: memoryview, ingest: Ingest) -> None:
    for record in decode_series(payload):
        try:
            ingest.replay_series(record)
        except ValueError as error:
            raise StorageError(f"the WAL contradicts the store: {error}") from error


def _apply_samples(waiting: list[SampleColumns], index: SeriesIndex, ingest: Ingest, counters: StorageCounters) -> None:
    """Put replayed samples into the head; those of refs that nobody introduced are counted and left out."""
    refs = np.concatenate([columns.refs for columns in waiting])
    ts_ms = np.concatenate([columns.ts_ms for columns in waiting])
    values = np.concatenate([columns.values for columns in waiting])
    known = (refs >= 0) & (refs < index.count)
    known[known] = index.alive[refs[known]]
    if not known.all():
        counters.replay_unknown_samples += int((~known).sum())
        log.error("the WAL has %d samples of series that it does not introduce; they are left out", int((~known).sum()))
        refs, ts_ms, values = refs[known], ts_ms[known], values[known]
    if len(refs):
        ingest.apply(refs, ts_ms, values)
