"""Forgetting series for good: of what is gone from head, index and store, labels leave the memory and refs go to other series.

A ref stands for its series in the WAL, in the store's rows, in the tables of those who write, and in queries that run. So it takes two
rounds. In the first, the series are chosen that left the index, that the store has forgotten with all their samples (`forgotten`), that
nothing here waits for, and that nobody holds (`ref_use.py`). In the second, those of them are forgotten that did not come back since, if

- a flush stored a position of the WAL behind everything that was in it in the first round: no replay will meet them again;
- everybody has finished who used refs in the first round.

The index goes over to its next generation, which is made beside the event loop. Queries of that moment select again, as after a deletion.
"""

import asyncio
import logging
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Int32
from promlike.storage.counters import StorageCounters
from promlike.storage.deletion import Deleter
from promlike.storage.flush import Flusher
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.keep import Keep
from promlike.storage.ref_use import RefUse
from promlike.storage.store import WalPosition
from promlike.storage.tombstones import Tombstones
from promlike.storage.wal import WalCommitter

log = logging.getLogger(__name__)

LEAST_SERIES = 1000
SHARE = 16
"""Series are forgotten when they are more than one for so many that live: it takes a look at all of these."""
SERIES_ON_LOOP = 1000
"""So many that came meanwhile are copied on the event loop."""
REFS_AT_ONCE = 10_000
"""Refs whose books are emptied before the loop gets its turn again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Chosen:
    """The series of a first round, the end of the WAL then, and the mark of those who used refs."""

    refs: Int32
    position: WalPosition
    mark: int


class Reclaimer:
    """Looks at all series that were removed, at every call."""

    def __init__(
        self,
        index: SeriesIndex,
        head: Head,
        ingest: Ingest,
        tombstones: Tombstones,
        deleter: Deleter,
        flusher: Flusher,
        wal: WalCommitter,
        keep: Keep,
        use: RefUse,
        counters: StorageCounters,
    ) -> None:
        self._index = index
        self._head = head
        self._ingest = ingest
        self._tombstones = tombstones
        self._deleter = deleter
        self._flusher = flusher
        self._wal = wal
        self._keep = keep
        self._use = use
        self._counters = counters
        self._chosen: _Chosen | None = None
        self.least_series, self.share = LEAST_SERIES, SHARE

    async def reclaim(self) -> int:
        """Forget the series of the round before, if that may be, and choose those of the next; how many were forgotten."""
        async with self._flusher.paused():
            if self._deleter.running:
                return 0
            chosen, count = self._chosen, 0
            if chosen is not None:
                stored = self._flusher.stored
                if stored is None or (stored.segment, stored.offset) < (chosen.position.segment, chosen.position.offset):
                    return 0
                if not self._use.is_over(chosen.mark):
                    return 0
                refs = chosen.refs[self._index.stayed_away[chosen.refs] & self._unused(chosen.refs)]
                if len(refs) >= max(self.least_series, self._index.living // self.share):
                    count = await self._forget(refs)
            removed = self._index.removed()
            refs = removed[self._unused(removed)]
            self._index.stayed_away[refs] = True
            self._chosen = _Chosen(refs=refs, position=self._wal.applied, mark=self._use.mark())
            return count

    def _unused(self, refs: Int32) -> Bool:
        """Which of the removed series `refs int32[S]` neither the store nor anything here knows or waits for: bool[S]."""
        head = self._head
        used = np.zeros(self._index.count, np.bool_)
        deletions = (deletion.refs for deletion in self._tombstones.current)
        gone = np.fromiter(self._tombstones.gone, np.int32, len(self._tombstones.gone))
        for some in (*self._ingest.awaited(), *deletions, gone, *self._use.held()):
            used[some[some >= 0]] = True
        unused: Bool = self._index.forgotten[refs] & (head.flushed_ms[refs] >= head.last_ms[refs]) & ~used[refs]
        return unused

    async def _forget(self, refs: Int32) -> int:
        index = self._index
        following = index.without(refs)
        while following.left > SERIES_ON_LOOP:
            await asyncio.to_thread(following.advance, index.added)
        # From here to the end of `replace` nothing else runs. What came back meanwhile stays.
        unused = self._unused(refs)
        self._head.outdate_reads()
        index.replace(following, refs[~unused])
        free = refs[unused]
        for low in range(0, len(free), REFS_AT_ONCE):
            part = free[low : low + REFS_AT_ONCE]
            self._head.vacate(part)
            self._keep.forget(part)
            index.release(part)
            await asyncio.sleep(0)
        self._counters.series_forgotten += len(free)
        log.info("%d series that nothing is left of were forgotten, %d live", len(free), index.living)
        return len(free)
