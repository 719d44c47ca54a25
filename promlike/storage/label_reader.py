"""Label look-ups of the API: series, label names, label values."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.frame import SymbolScope
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.series_view import PairCounts

T = TypeVar("T")

DIRECT_SERIES = 2000
"""Up to so many series a look-up runs on the loop itself."""

Matchers = Sequence[Sequence[Matcher]]


class LabelLookup:
    """The LabelReader of storage, metadata aside. `oldest_of(count)`: before which times the first so many series may not be seen."""

    def __init__(self, index: SeriesIndex, head: Head, oldest_of: Callable[[int], int | Int64]) -> None:
        self._index = index
        self._head = head
        self._oldest_of = oldest_of
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="labels")

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    async def series(
        self, matcher_sets: Matchers, *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[Labels], bool]:
        """See `LabelReader.series`."""

        def look_up() -> tuple[list[Labels], bool]:
            found = self._index.ordered(self._matching(matcher_sets, start_ms, end_ms))
            rows = slice(0, limit or None)
            frame = found.frame(SymbolScope(found.symbols)).take(np.arange(len(found.refs))[rows])
            return frame.all_labels(), bool(limit) and len(found.refs) > limit

        return await self._run(look_up)

    async def label_names(
        self, matcher_sets: Matchers, *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]:
        """See `LabelReader.label_names`."""

        def look_up() -> tuple[list[str], bool]:
            return _limited(self._index.names_of(self._matching(matcher_sets, start_ms, end_ms)), limit)

        return await self._run(look_up)

    async def label_values(
        self, name: str, matcher_sets: Matchers, *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]:
        """See `LabelReader.label_values`."""

        def look_up() -> tuple[list[str], bool]:
            if matcher_sets:
                values = self._index.values_of(name, self._matching(matcher_sets, start_ms, end_ms))
            else:
                values = self._index.values_where(name, self._seen(self._index.count, start_ms, end_ms))
            return _limited(values, limit)

        return await self._run(look_up)

    async def label_pairs(self, matcher_sets: Matchers) -> PairCounts:
        """How many series have each label."""
        return await self._run(lambda: self._index.label_pairs(self._matching(matcher_sets, None, None)))

    async def _run(self, look_up: Callable[[], T]) -> T:
        if self._index.count <= DIRECT_SERIES:
            return look_up()
        while True:
            generation = self._index.generation
            found = await asyncio.get_running_loop().run_in_executor(self._executor, look_up)
            if generation == self._index.generation:
                return found

    def _matching(self, matcher_sets: Matchers, start_ms: int | None, end_ms: int | None) -> Int32:
        """Ascending refs that satisfy any of the sets and may have samples in the range."""
        count = self._index.count
        seen = self._seen(count, start_ms, end_ms)
        if not matcher_sets:
            return np.flatnonzero(seen).astype(np.int32)
        parts = [self._index.match(tuple(matchers)) for matchers in matcher_sets]
        refs = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
        refs = refs[refs < count]  # others came meanwhile
        return np.ascontiguousarray(refs[seen[refs]])

    def _seen(self, count: int, start_ms: int | None, end_ms: int | None) -> Bool:
        """Which of the first `count` refs are living and have a first and last time that meet (start, end]: bool[count]."""
        oldest = self._oldest_of(count)
        start = oldest - 1 if start_ms is None else np.maximum(start_ms, oldest - 1)
        seen: Bool = self._index.alive[:count] & (self._head.newest_ms(slice(count)) > start)
        if end_ms is not None:
            seen &= self._head.first_ms[:count] <= end_ms
        return seen


def _limited(texts: list[str], limit: int) -> tuple[list[str], bool]:
    return (texts[:limit], True) if limit and len(texts) > limit else (texts, False)
