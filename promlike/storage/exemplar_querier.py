"""Answering for exemplars: those that wait for a flush, and those in the store."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from promlike.errors import StoreAway
from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher
from promlike.storage.exemplar_buffer import ExemplarBuffer
from promlike.storage.index import SeriesIndex
from promlike.storage.patience import Patience
from promlike.storage.store import Deletion, Store
from promlike.storage.tombstones import Tombstones

DIRECT_SERIES = 2000
"""With up to so many series in the index, matchers are looked up on the loop itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesExemplars:
    """The exemplars of one series, by time."""

    labels: Labels
    exemplars: Exemplars


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExemplarSelection:
    """Series with exemplars, sorted by labels. `is_cut`: there were more than may be given. `warnings`: what is missing."""

    series: list[SeriesExemplars]
    is_cut: bool = False
    warnings: tuple[str, ...] = ()


class ExemplarQuerier:
    """`oldest_ms()` is the time before which retention lets nothing be seen."""

    def __init__(
        self, index: SeriesIndex, buffer: ExemplarBuffer, store: Store, tombstones: Tombstones, oldest_ms: Callable[[], int]
    ) -> None:
        self._index = index
        self._buffer = buffer
        self._store = store
        self._patience = Patience(store)
        self._tombstones = tombstones
        self._oldest_ms = oldest_ms

    async def select(self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int, end_ms: int) -> ExemplarSelection:
        """Exemplars in (start_ms, end_ms] of the series that satisfy all matchers of any set; of more than the buffer may hold, the newest.

        While the store is away, those in memory, with a warning. Raises StorageError.
        """
        while True:
            generation = self._index.generation
            found = await self._select(matcher_sets, start_ms, end_ms)
            if generation == self._index.generation:
                return found

    async def _select(self, matcher_sets: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int) -> ExemplarSelection:
        limit = self._buffer.most
        if limit <= 0:
            return ExemplarSelection(series=[])
        look_up = self._index.count > DIRECT_SERIES
        refs = await asyncio.to_thread(self._refs, matcher_sets) if look_up else self._refs(matcher_sets)
        start_ms = max(start_ms, self._oldest_ms() - 1)
        # The buffer first: what a flush takes away meanwhile, the store has then. Deletions now: a flush may carry them out meanwhile too.
        deleted = self._tombstones.current
        recent = self._buffer.read(refs, start_ms, end_ms)
        stored = Exemplars.empty()
        warnings: tuple[str, ...] = ()
        if len(refs):
            try:
                stored = await self._patience.ask(lambda: self._store.read_exemplars(refs, start_ms, end_ms, limit + 1))
            except StoreAway as error:
                warnings = (f"the answer lacks exemplars that are not in memory any more: {error}",)
        found = _once(Exemplars.joined([_without_deleted(stored, deleted), recent]))
        newest = found.take(np.sort(np.argsort(found.ts_ms, kind="stable")[-limit:])) if len(found) > limit else found
        return ExemplarSelection(series=self._by_series(newest), is_cut=len(found) > limit, warnings=warnings)

    def _refs(self, matcher_sets: Sequence[Sequence[Matcher]]) -> Int32:
        """Refs of the matching series, int32[S], ascending."""
        found = [self._index.select(tuple(matchers)).refs for matchers in matcher_sets]
        refs: Int32 = np.unique(np.concatenate([np.empty(0, np.int32), *found]))
        return refs

    def _by_series(self, exemplars: Exemplars) -> list[SeriesExemplars]:
        ordered = exemplars.take(np.lexsort((exemplars.ts_ms, exemplars.refs)))
        starts = np.flatnonzero(np.diff(ordered.refs, prepend=-1))
        bounds = zip(starts.tolist(), np.append(starts, len(ordered))[1:].tolist(), strict=True)
        series = [
            SeriesExemplars(labels=self._index.labels_of(int(ordered.refs[start])), exemplars=ordered.take(np.arange(start, end)))
            for start, end in bounds
        ]
        return sorted(series, key=lambda one: one.labels)


def _without_deleted(exemplars: Exemplars, deletions: Sequence[Deletion]) -> Exemplars:
    """What the store gave, without what it is to delete yet."""
    kept = np.ones(len(exemplars), np.bool_)
    for deletion in deletions:
        inside = (exemplars.ts_ms > deletion.start_ms) & (exemplars.ts_ms <= deletion.end_ms)
        kept &= ~(inside & np.isin(exemplars.refs, deletion.refs))
    return exemplars if kept.all() else exemplars.take(kept)


def _once(exemplars: Exemplars) -> Exemplars:
    """The first of equal ones."""
    first = {key: row for row, key in reversed(list(enumerate(exemplars.identities())))}
    return exemplars if len(first) == len(exemplars) else exemplars.take(np.array(sorted(first.values()), np.int64))
