"""Answering selectors: series from the index, recent samples from the head, older ones from the store."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from promlike.errors import StorageUnavailable, StoreAway, TooManySamples
from promlike.model.blocks import Bool, Int32, Int64, SampleBlock, Samples
from promlike.model.clock import Utc
from promlike.model.flushes import FlushNews
from promlike.model.frame import SymbolScope
from promlike.model.threads import worker_pool
from promlike.model.tiers import RESOLUTION_NAMES, Tier
from promlike.model.trace import OFF, Trace
from promlike.storage.access import Loading, Selection, SelectRequest, SeriesBlock, TierChoice, TierOption
from promlike.storage.counters import StorageCounters
from promlike.storage.deferred import DeferredSamples
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.keep import Keep
from promlike.storage.merge import merge_blocks
from promlike.storage.patience import Patience
from promlike.storage.selected_series import SelectedSeries
from promlike.storage.store import Deletion, Store
from promlike.storage.tier_reader import TierReader
from promlike.storage.tombstones import Tombstones, without_deleted

T = TypeVar("T")

DIRECT_SERIES = 2048
DIRECT_SAMPLES = 100_000
"""Up to this much is gathered on the loop itself, in less than a millisecond: ingestion and small queries wait for it meanwhile."""

DEFERRED_SAMPLES = 400_000
"""From this many samples on, those that the head holds are read portion by portion while the query is evaluated."""
MOST_ATTEMPTS = 10
SAMPLE_BYTES = 16
MERGED = 2
"""How many times the samples of the store are in memory while they are merged with those of the head."""
NO_ROWS: Int64 = np.empty(0, np.int64)
NO_SAMPLES = SampleBlock.empty()


class _TooBig(Exception):
    """Not to be gathered on the event loop."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Part:
    """One request on its way: what the head gave, and the rows (int64[R]) for which the store is to be read up to `stored_end_ms`.

    `filled bool[S]`: the series that `samples` are of, when those without samples are left out already. `option`: the tier that answers
    instead, with `rows` once they are read.
    """

    series: SelectedSeries
    samples: Samples
    start_ms: int
    stored_rows: Int64
    stored_end_ms: int
    filled: Bool | None = None
    option: TierOption | None = None
    rows: Tier | None = None

    @property
    def stored_refs(self) -> Int32:
        """Refs of the series that the store is asked for."""
        return np.ascontiguousarray(self.series.refs[self.stored_rows])


class Querier:
    """The Queryable of storage."""

    def __init__(
        self,
        index: SeriesIndex,
        head: Head,
        store: Store,
        tombstones: Tombstones,
        counters: StorageCounters,
        tiers: TierReader,
        keep: Keep,
        *,
        threads: int = 4,
    ) -> None:
        self._index = index
        self._head = head
        self._store = store
        self._patience = Patience(store)
        self._tombstones = tombstones
        self._counters = counters
        self._tiers = tiers
        self._keep = keep
        self._executor = worker_pool(threads, "select")

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        """See `Queryable.select`. All of the answer is from before a deletion, or all from after it."""
        for _ in range(MOST_ATTEMPTS):
            deletions = self._head.deletions
            selection = await self._select(requests, max_samples, loading, trace)
            if deletions == self._head.deletions:
                return selection
            trace.add("again, because samples were deleted meanwhile")
        raise StorageUnavailable(f"samples were deleted during each of {MOST_ATTEMPTS} attempts to read some")

    def select_at_once(self, requests: Sequence[SelectRequest], *, max_samples: int, trace: Trace = OFF) -> Selection | None:
        """See `Immediate.select_at_once`."""
        parts = self._gather_directly(requests, max_samples, trace)
        if parts is None or any(len(part.stored_rows) or part.option is not None for part in parts):
            return None
        scope = SymbolScope(self._index.symbols)
        return Selection(symbols=scope, blocks=_answers(parts, scope))

    async def _select(self, requests: Sequence[SelectRequest], max_samples: int, loading: Loading | None, trace: Trace) -> Selection:
        deleted = self._tombstones.current
        scope = SymbolScope(self._index.symbols)
        loop = asyncio.get_running_loop()
        direct = self._gather_directly(requests, max_samples, trace)
        if direct is None:
            parts = await loop.run_in_executor(self._executor, self._gather, requests, max_samples, None, trace, loading)
        else:
            parts = direct
        warnings: tuple[str, ...] = ()
        if any(len(part.stored_rows) for part in parts):
            try:
                await self._add_stored(parts, deleted, max_samples, loading, trace)
            except StoreAway as error:
                self._counters.partial_selections += 1
                warnings = (self._missing(parts, error),)
        if any(part.option is not None for part in parts):
            warnings += await self._add_rows(parts, max_samples, loading, trace)
        if direct is None:
            blocks = await loop.run_in_executor(self._executor, _answers, parts, scope)
        else:
            blocks = _answers(parts, scope)
        return Selection(symbols=scope, blocks=blocks, warnings=warnings)

    def _missing(self, parts: Sequence[_Part], error: StoreAway) -> str:
        """What an answer lacks without the store."""
        wanted = [part for part in parts if len(part.stored_rows)]
        first_ms = min(max(part.start_ms + 1, int(self._head.stored_from_ms[part.stored_refs].min())) for part in wanted)
        last_ms = max(part.stored_end_ms for part in wanted)
        return _absence(first_ms, last_ms, error)

    def _gather_directly(self, requests: Sequence[SelectRequest], max_samples: int, trace: Trace) -> list[_Part] | None:
        """The head's part, when all series are known already and few samples are asked for; else None."""
        series = picked = 0
        for request in requests:
            known = self._index.memoised(request.matchers)
            asked = self._index.count if known is None else len(known.refs)
            series += asked
            picked += asked * request.instants.count if request.instants is not None else 0
            # What instants pick is known only once all of it was looked up, so it is judged before.
            if series > DIRECT_SERIES or picked > DIRECT_SAMPLES:
                return None
        with trace.child("on the spot") as attempt:
            try:
                return self._gather(requests, max_samples, DIRECT_SAMPLES, attempt)
            except _TooBig:
                trace.drop(attempt)
                return None

    def _gather(
        self, requests: Sequence[SelectRequest], max_samples: int, most: int | None, trace: Trace, loading: Loading | None = None
    ) -> list[_Part]:
        """The head's part of every request. Raises _TooBig when there are more than `most` samples (None: gather in parallel)."""
        loaded = held = 0
        oldest = self._keep.oldest_ms()

        def check(count: int) -> None:
            if loaded + count > max_samples:
                raise _over_budget(loaded + count, max_samples)
            if most is not None and loaded + count > most:
                raise _TooBig

        def room(count: int) -> None:
            if loading is not None:
                loading.load((held + count) * SAMPLE_BYTES)

        parts = []
        for request in requests:
            step = _begun(trace, request)
            series = self._index.select(request.matchers)
            step.add("series=%d", len(series.refs))
            option = self._tiers.choose(request, series.refs)
            if option is not None:
                step.add("rollup=%s", RESOLUTION_NAMES[option.resolution_ms])
                step.end()
                parts.append(_Part(series=series, samples=NO_SAMPLES, start_ms=0, stored_rows=NO_ROWS, stored_end_ms=0, option=option))
                continue
            start_ms = max(request.start_ms, oldest - 1)
            if most is None and request.instants is None and not request.at_once and self._keep.shows_all_from(start_ms + 1):
                deferred = self._deferred(series, start_ms, request.end_ms)
                if deferred is not None:
                    if loaded + deferred.samples.count > max_samples:
                        raise _over_budget(loaded + deferred.samples.count, max_samples)
                    loaded += deferred.samples.count
                    step.add("samples in memory=%d, read when they are needed", deferred.samples.count)
                    step.end()
                    parts.append(deferred)
                    continue
            bounds = np.array([start_ms], np.int64), np.array([request.end_ms], np.int64)
            read = self._head.reader.read(series.refs, *bounds, instants=request.instants, check=check, room=room, parallel=most is None)
            loaded += read.samples.count
            held += read.samples.count
            rows, end_ms = self._stored_rows(series.refs, read.covered_ms, start_ms, request.end_ms)
            samples = self._keep.visible(series.refs, read.samples, start_ms)
            step.add("samples in memory=%d", samples.count)
            if len(rows):
                step.add("series perhaps in the store=%d", len(rows))
            step.end()
            parts.append(_Part(series=series, samples=samples, start_ms=start_ms, stored_rows=rows, stored_end_ms=end_ms))
        return parts

    def _deferred(self, series: SelectedSeries, start_ms: int, end_ms: int) -> _Part | None:
        """The part to be read later, when it is in the head as a whole and large; else None."""
        counted = self._head.reader.count(series.refs, start_ms, end_ms)
        if counted.counts.sum() < DEFERRED_SAMPLES or len(self._stored_rows(series.refs, counted.covered_ms, start_ms, end_ms)[0]):
            return None
        filled = counted.counts > 0
        samples = DeferredSamples(self._head.reader, counted.take(filled))
        return _Part(series=series, samples=samples, filled=filled, start_ms=start_ms, stored_rows=NO_ROWS, stored_end_ms=start_ms)

    def _stored_rows(self, refs: Int32, covered_ms: Int64, start_ms: int, end_ms: int) -> tuple[Int64, int]:
        """For which rows the store may hold samples that the head does not cover, and up to when."""
        upto = np.minimum(covered_ms, end_ms)
        needed = np.flatnonzero((upto > start_ms) & (self._head.stored_from_ms[refs] <= upto))
        return needed, int(upto[needed].max()) if len(needed) else start_ms

    async def choose_tiers(self, requests: Sequence[SelectRequest]) -> TierChoice:
        """What would answer these requests now: tiers or samples?"""
        concerned = [request for request in requests if request.tiers]
        known = [self._index.memoised(request.matchers) for request in concerned]
        if sum(DIRECT_SERIES if series is None else len(series.refs) for series in known) < DIRECT_SERIES:
            return self._choose_tiers(concerned)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._choose_tiers, concerned)

    def _choose_tiers(self, requests: Sequence[SelectRequest]) -> TierChoice:
        chosen: set[int] = set()
        is_mixed, is_settled = False, True
        for request in requests:
            refs = self._index.select(request.matchers).refs
            option = self._tiers.choose(request, refs)
            if option is None:
                is_mixed |= len(refs) > 0
            else:
                chosen.add(option.resolution_ms)
                is_settled = is_settled and self._tiers.is_settled(refs, option.resolution_ms, self._keep.oldest_of(refs))
        return TierChoice(
            resolutions_ms=frozenset(chosen),
            is_mixed=is_mixed,
            is_settled=is_settled,
            oldest_row_ms=max(map(self._tiers.oldest_row_ms, chosen), default=0),
        )

    async def flushes(self, after: int) -> FlushNews:
        """See `Store.load_flushes`."""
        return await self._patience.ask(lambda: self._store.load_flushes(after))

    async def _ask(self, question: Callable[[Int32, int, int], Coroutine[Any, Any, T]], part: _Part) -> T:
        """Put a question about a part to the store, which may be away."""
        return await self._patience.ask(lambda: question(part.stored_refs, part.start_ms, part.stored_end_ms))

    async def _add_stored(
        self, parts: list[_Part], deleted: Sequence[Deletion], max_samples: int, loading: Loading | None, trace: Trace
    ) -> None:
        """Read what the head does not cover, all parts at once, and merge it, without what is deleted."""
        loaded = sum(part.samples.count for part in parts)
        held = sum(part.samples.count for part in parts if isinstance(part.samples, SampleBlock))
        wanted = [part for part in parts if len(part.stored_rows)]

        def check(stored: int) -> None:
            if loaded + stored > max_samples:
                raise _over_budget(loaded + stored, max_samples)
            if loading is not None:
                loading.load((held + stored) * MERGED * SAMPLE_BYTES)

        # A sample a second is denser than nearly all data: only what could be over budget at that density is counted first.
        room = max_samples if loading is None else min(max_samples, loading.room() // (MERGED * SAMPLE_BYTES))
        if loaded + sum(len(part.stored_rows) * ((part.stored_end_ms - part.start_ms) // 1000 + 1) for part in wanted) > room:
            with trace.child("count the samples in the store"):
                check(sum(await asyncio.gather(*(self._ask(self._store.count, part) for part in wanted))))
        with trace.child("read the store") as step:
            blocks = await asyncio.gather(*(self._ask(self._store.read, part) for part in wanted))
            for part, block in zip(wanted, blocks, strict=True):
                step.add(
                    "samples=%d of series=%d in (%s, %s]", block.count, len(part.stored_rows), Utc(part.start_ms), Utc(part.stored_end_ms)
                )
        check(sum(len(block.ts_ms) for block in blocks))
        loop = asyncio.get_running_loop()
        for part, found in zip(wanted, blocks, strict=True):
            block = without_deleted(found, part.stored_refs, deleted)
            block = self._keep.visible(part.stored_refs, block, part.start_ms)
            recent = part.samples.whole()
            if block.count + recent.count > DIRECT_SAMPLES:
                part.samples = await loop.run_in_executor(self._executor, merge_blocks, recent, block, part.stored_rows)
            else:
                part.samples = merge_blocks(recent, block, part.stored_rows)

    async def _add_rows(self, parts: list[_Part], max_samples: int, loading: Loading | None, trace: Trace) -> tuple[str, ...]:
        """Read what tiers answer, one after the other: each takes as many threads as are useful. What is missing of it is the result."""
        loaded = sum(part.samples.count for part in parts)
        held = loaded * SAMPLE_BYTES
        missing: dict[str, None] = {}
        for part in parts:
            if part.option is None:
                continue
            rows = self._tiers.count(part.series.refs, part.option)
            if loaded + rows > max_samples:
                raise _over_budget(loaded + rows, max_samples)
            if loading is not None:
                loading.load(held + rows * part.option.row_bytes)
            with trace.child("read the %s rollup", RESOLUTION_NAMES[part.option.resolution_ms]) as step:
                reading = partial(self._tiers.read, part.series.refs, part.option, step)
                try:
                    part.rows = await self._patience.ask(reading)
                except StoreAway as error:
                    self._counters.partial_selections += 1
                    part.rows, upto_ms = self._tiers.read_head(part.series.refs, part.option)
                    missing[_absence(part.option.start_ms, upto_ms, error)] = None
                    step.add("the store is away")
                step.add("rows=%d", part.rows.count)
            loaded += part.rows.count
            held += part.rows.nbytes
        return tuple(missing)


def _begun(trace: Trace, request: SelectRequest) -> Trace:
    """The step of a request."""
    if not trace.is_on:
        return trace
    selector = "{" + ",".join(map(str, request.matchers)) + "}"
    return trace.child("%s in (%s, %s]", selector, Utc(request.start_ms), Utc(request.end_ms))


def _absence(first_ms: int, last_ms: int, error: StoreAway) -> str:
    return f"the store is away, samples from {Utc(first_ms)} to {Utc(last_ms)} are missing: {error}"


def _answers(parts: list[_Part], scope: SymbolScope) -> list[SeriesBlock]:
    return [_answer(part, scope) for part in parts]


def _answer(part: _Part, scope: SymbolScope) -> SeriesBlock:
    """Labels and samples, without the series that have none."""
    frame, samples, filled, tier = part.series.frame(scope), part.samples, part.filled, part.rows
    if tier is not None:
        filled, tier = tier.filled_series()
        samples = SampleBlock.empty(tier.series)
    elif filled is None:
        block = samples.whole()
        filled = block.offsets[1:] > block.offsets[:-1]
        samples = SampleBlock(ts_ms=block.ts_ms, values=block.values, offsets=np.append(0, block.offsets[1:][filled]))
    if filled.all():
        return SeriesBlock(labels=frame, samples=samples, tier=tier)
    labels = frame.take(filled)
    used = (labels.codes != 0).any(axis=0)
    if not used.all():
        labels = labels.keep({name for name, column in zip(labels.names, used.tolist(), strict=True) if column})
    return SeriesBlock(labels=labels, samples=samples, tier=tier)


def _over_budget(asked: int, allowed: int) -> TooManySamples:
    return TooManySamples(f"query processing would load {asked} samples into memory, more than the allowed {allowed}")
