"""Following what other daemons write into the same database, so that queries here see it."""

import asyncio
import logging
from contextlib import suppress

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Int32, Int64
from promlike.storage.changes import Changes
from promlike.storage.flush import Flusher
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.recovery import enter
from promlike.storage.store import NEVER_LAST_MS, Store, StoredSeries

log = logging.getLogger(__name__)

LEAST_INTERVAL_S = 1.0
"""Between two looks, whoever hurries."""
LONGEST_WAIT_S = 0.5
"""Of who hurries."""

SERIES_AT_ONCE = 2000
"""Series that are entered before the loop gets its turn again."""


class Follower:
    """Asks the store for news at every interval. What others store is seen here that much later, and only once they have flushed it."""

    def __init__(self, interval_ms: int, store: Store, index: SeriesIndex, head: Head, flusher: Flusher, changes: Changes) -> None:
        self._interval_ms = interval_ms
        self._store = store
        self._index = index
        self._head = head
        self._flusher = flusher
        self._changes = changes
        self._before = 0
        self.is_behind = False
        """Is news being entered, or could it not be?"""
        self._wanted, self._ended = asyncio.Event(), asyncio.Event()

    @property
    def followed(self) -> int:
        """The number of a flush after which everything is known here. The store may know of news that are not entered yet."""
        return self._before if self.is_behind else self._store.followed

    async def hurry(self) -> None:
        """Somebody has seen that there is news, and waits for it, but not for long."""
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._ended.wait()

    async def run(self) -> None:
        """Follow until cancelled; a store that is away is asked again next time."""
        while True:
            await asyncio.sleep(min(LEAST_INTERVAL_S, self._interval_ms / 1000))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_ms / 1000 - LEAST_INTERVAL_S):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.follow()
            except StorageError as error:
                log.warning("cannot see what others have stored, next attempt in %.0f s: %s", self._interval_ms / 1000, error)
            self._ended.set()
            self._ended = asyncio.Event()

    async def follow(self) -> None:
        """Learn what others have stored since the last time. Raises StorageError."""
        async with self._flusher.paused():
            await self.catch_up()

    async def catch_up(self) -> None:
        """As `follow`, for whom the flusher pauses already."""
        self._before, self.is_behind = self.followed, True
        news = await self._store.load_news()
        if news is not None:
            for portion in news.series:
                await self.adopt(portion)
            self._index.revive_for_reading(news.refs)
            self._head.widen_stored(news.refs, news.min_time_ms, news.max_time_ms)
            self._tell(news.refs, news.min_time_ms, news.max_time_ms, news.changed_ms)
        self.is_behind = False

    async def adopt(self, series: StoredSeries) -> None:
        """Give series of other writers refs. Nothing is flushed meanwhile."""
        for low in range(0, len(series.refs), SERIES_AT_ONCE):
            rows = np.zeros(len(series.refs), np.bool_)
            rows[low : low + SERIES_AT_ONCE] = True
            portion = series.take(rows)
            refs = enter(portion, self._index, self._head)
            self._store.adopt(portion.ids, refs)
            filled = portion.max_time_ms != NEVER_LAST_MS
            self._tell(refs[filled], portion.min_time_ms[filled], portion.max_time_ms[filled])
            await asyncio.sleep(0)

    def _tell(self, refs: Int32, from_ms: Int64, to_ms: Int64, changed_ms: tuple[int, int] | None = None) -> None:
        """Without `changed_ms`, where among the stored times the new samples are is not known."""
        if len(refs):
            start_ms, end_ms = (int(from_ms.min()) - 1, int(to_ms.max())) if changed_ms is None else changed_ms
            self._changes.stored_elsewhere(refs, start_ms, end_ms)
