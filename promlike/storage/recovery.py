"""Coming back after a stop or a crash: the store's series, then what the WAL holds beyond the last flush."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Bool, Int32
from promlike.storage.counters import StorageCounters
from promlike.storage.deletion import Deleter
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.store import NEVER_LAST_MS, NO_REF, Store, StoredSeries, WalPosition
from promlike.storage.wal_records import (
    RecordType,
    SampleColumns,
    decode_deletion,
    decode_exemplars,
    decode_metadata,
    decode_samples,
    decode_series,
)
from promlike.storage.wal_replay import ReplayReport, end_of_log, gap_behind, replay, segment_path, segments_of, set_aside

log = logging.getLogger(__name__)

REPLAY_SAMPLES = 500_000
"""Samples that are collected from small records before they go to the head together."""


WHAT_TO_DO = (
    "if the store was restored to an earlier time, or is another one than before, start with the right one, or move the folder {folder}"
    " away: what only the log has is lost then"
)


def check_log(folder: Path, stored: WalPosition | None, oldest_ms: int) -> None:
    """Raise StorageError when the log does not go on where what is stored ends: its refs may mean other series, and samples are missing.

    A log of which a store knows nothing that was last written before the oldest time that is kept has nothing to keep, and is set aside: so
    finds a daemon its log that was away for so long that the others have forgotten it.
    """
    gap = gap_behind(folder, stored)
    if gap is None:
        return
    segments = segments_of(folder)
    if stored is None and segment_path(folder, segments[-1]).stat().st_mtime_ns // 10**6 < oldest_ms:
        log.warning("the store knows nothing of the log in %s, which is older than what is kept and set aside as *.expired", folder)
        set_aside(folder, segments, "expired")
        return
    has = "nothing of this log" if stored is None else f"everything up to {_place(stored)}"
    raise StorageError(
        f"log and store do not fit together: the store has {has}, but the first segment that goes on from there, {gap.path},"
        f" follows {_place(gap.follows)}; {WHAT_TO_DO.format(folder=folder)}"
    )


def _place(position: WalPosition) -> str:
    return f"segment {position.segment} offset {position.offset}"


async def load_store(store: Store, index: SeriesIndex, head: Head, ingest: Ingest) -> list[StoredSeries]:
    """Enter every stored series, with the times of its samples, and all metadata.

    Returns the series of other writers: they get refs, by `adopt`, once the WAL has said which refs are taken.
    """
    others = []
    async for portion in store.load_series():
        # In a thread, so that the server can say meanwhile that it is starting; nothing else touches index and head yet.
        own = await asyncio.to_thread(_enter_own, portion, index, head)
        if not own.all():
            others.append(portion.take(~own))
    ingest.metadata = {entry.metric: entry for entry in await store.load_metadata()}
    return others


def _enter_own(portion: StoredSeries, index: SeriesIndex, head: Head) -> Bool:
    """Enter the series of a portion that have a ref; which ones these are, bool[S]."""
    own: Bool = portion.refs != NO_REF
    if own.any():
        enter(portion if own.all() else portion.take(own), index, head)
    return own


def enter(portion: StoredSeries, index: SeriesIndex, head: Head) -> Int32:
    """Enter series; the refs that they have, int32[S]. Raises StorageError when store and WAL contradict each other."""
    try:
        refs = index.add_many(portion.labels, portion.refs)
    except ValueError as error:
        raise StorageError(f"the store contradicts what is known: {error}") from error
    if len(refs):
        head.add_series(int(refs.max()))
    filled = portion.max_time_ms != NEVER_LAST_MS
    head.widen_stored(refs[filled], portion.min_time_ms[filled], portion.max_time_ms[filled])
    return refs


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
) -> WalPosition:
    """Apply the WAL after `position`; return where it ends. `report` tells how far it is."""
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
            _apply_series(record.payload, ingest, folder)
        elif record.kind is RecordType.DELETE:
            apply()
            deleter.replay(decode_deletion(record.payload))
        elif record.kind is RecordType.EXEMPLARS:
            _apply_exemplars(record.payload, index, ingest, counters)
        else:
            ingest.apply_metadata(decode_metadata(record.payload))
    apply()
    deleter.replayed()
    counters.wal_replayed_records += report.records
    counters.wal_torn_bytes += report.torn_bytes
    counters.wal_corruptions += len(report.corruptions)
    progress(f"WAL: {samples} samples of {index.living} series replayed in {time.monotonic() - started:.2f} s")
    return end_of_log(folder, position)


def _apply_series(payload: memoryview, ingest: Ingest, folder: Path) -> None:
    for record in decode_series(payload):
        try:
            ingest.replay_series(record)
        except ValueError as error:
            raise StorageError(f"log and store contradict each other: {error}; {WHAT_TO_DO.format(folder=folder)}") from error


def _apply_samples(waiting: list[SampleColumns], index: SeriesIndex, ingest: Ingest, counters: StorageCounters) -> None:
    """Put replayed samples into the head; those of refs that nobody introduced are counted and left out."""
    refs = np.concatenate([columns.refs for columns in waiting])
    ts_ms = np.concatenate([columns.ts_ms for columns in waiting])
    values = np.concatenate([columns.values for columns in waiting])
    known = _known(refs, index)
    if not known.all():
        counters.replay_unknown_samples += int((~known).sum())
        log.error("the WAL has %d samples of series that it does not introduce; they are left out", int((~known).sum()))
        refs, ts_ms, values = refs[known], ts_ms[known], values[known]
    if len(refs):
        ingest.apply(refs, ts_ms, values)


def _apply_exemplars(payload: memoryview, index: SeriesIndex, ingest: Ingest, counters: StorageCounters) -> None:
    """Keep replayed exemplars; those of refs that nobody introduced are counted and left out."""
    exemplars = decode_exemplars(payload)
    known = _known(exemplars.refs, index)
    if not known.all():
        counters.replay_unknown_exemplars += int((~known).sum())
        exemplars = exemplars.take(known)
    ingest.apply_exemplars(exemplars)


def _known(refs: Int32, index: SeriesIndex) -> Bool:
    """Which of refs int32[N] are those of living series."""
    known: Bool = (refs >= 0) & (refs < index.count)
    known[known] = index.alive[refs[known]]
    return known
