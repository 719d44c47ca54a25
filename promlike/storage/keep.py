"""How long samples are kept: a time for all series, other times for some, and no more bytes than so many."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.matchers import Matcher
from promlike.storage.deletion_kernels import drop_between
from promlike.storage.index import SeriesIndex

ENDLESS_MS = 2**62 + 2**61
"""Longer before any clock than the times of samples reach, -(2^62) ms, and still an int64."""

UNKNOWN = -1
"""Of refs that were not looked at, or that no series has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRule:
    """Series that satisfy all matchers are kept so long; 0: for ever."""

    matchers: tuple[Matcher, ...]
    keep_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOptions:
    """`default_ms` is for series that no rule is about, 0: for ever; of rules the first that fits counts. `max_bytes` 0: no limit."""

    default_ms: int
    max_bytes: int = 0
    rules: tuple[KeepRule, ...] = ()


class Keep:
    """The oldest time of every series that may be seen. Any thread may ask; `change` and `forget_before` belong to the event loop's."""

    def __init__(self, index: SeriesIndex, now_ms: Callable[[], int], options: KeepOptions) -> None:
        self._index = index
        self._now_ms = now_ms
        self._lock = Lock()
        self._forgotten_ms = -ENDLESS_MS
        self.change(options)

    def change(self, options: KeepOptions) -> None:
        """From now on these hold."""
        with self._lock:
            self.options = options
            every = [duration_of(options.default_ms), *(duration_of(rule.keep_ms) for rule in options.rules)]
            self._longest_ms, self._shortest_ms = max(every), min(every)
            self._keep_ms: Int64 = np.empty(0, np.int64)
            self._labels = self._index.view.labels
            self._looked_at = 0

    def forget_before(self, cutoff_ms: int) -> None:
        """Whatever the rules say, nothing before this time may be seen any more."""
        self._forgotten_ms = max(self._forgotten_ms, cutoff_ms)

    @property
    def is_uniform(self) -> bool:
        """Are all series kept equally long?"""
        return self._longest_ms == self._shortest_ms

    def oldest_ms(self) -> int:
        """The oldest time of which any series may be seen."""
        return max(self._now_ms() - self._longest_ms, self._forgotten_ms)

    def whole_from_ms(self) -> int:
        """From this time on all series may be seen."""
        return max(self._now_ms() - self._shortest_ms, self._forgotten_ms)

    def oldest_of(self, refs: Int32 | slice) -> Int64:
        """The oldest time of which each of these series may be seen: int64[S]."""
        if self.is_uniform:
            count = len(range(self._index.count)[refs]) if isinstance(refs, slice) else len(refs)
            return np.full(count, self.oldest_ms(), np.int64)
        return np.maximum(self._now_ms() - self._upto(self._index.count)[refs], self._forgotten_ms)

    def shows_all_from(self, time_ms: int) -> bool:
        """May all series be seen from this time on?"""
        return self.is_uniform or time_ms >= self.whole_from_ms()

    def visible(self, refs: Int32, block: SampleBlock, start_ms: int) -> SampleBlock:
        """What may be seen of samples of `refs int32[S]` that are all after `start_ms`. The block belongs to the callee."""
        if self.shows_all_from(start_ms + 1):
            return block
        first_ms, last_ms = np.full(len(refs), -(2**63), np.int64), self.oldest_of(refs) - 1
        kept = drop_between(block.ts_ms, block.values.view(np.int64), block.offsets, first_ms, last_ms)
        return SampleBlock(ts_ms=block.ts_ms[:kept], values=block.values[:kept], offsets=block.offsets)

    def groups(self) -> list[tuple[int, Int32]]:
        """The series that are kept less long than the longest: their oldest time, and refs int32[S]."""
        if self.is_uniform:
            return []
        keep_ms = self._upto(self._index.count)
        shorter = np.unique(keep_ms[(keep_ms < self._longest_ms) & (keep_ms != UNKNOWN)]).tolist()
        now_ms = self._now_ms()
        return [(now_ms - duration, np.flatnonzero(keep_ms == duration).astype(np.int32)) for duration in shorter]

    def forget(self, refs: Int32) -> None:
        """Other series may get the refs `refs int32[S]`."""
        with self._lock:
            self._keep_ms[refs[refs < len(self._keep_ms)]] = UNKNOWN

    def _upto(self, count: int) -> Int64:
        """How long each of the first `count` refs is kept: int64[count]. The labels of a series never change, so this is found once."""
        with self._lock:
            labels = self._index.view.labels
            if labels is not self._labels:
                self._labels, self._looked_at = labels, 0
            added = labels.added
            fresh = labels.order[self._looked_at : added]
            size = max(count, int(fresh.max(initial=-1)) + 1)
            if size > len(self._keep_ms):
                grown = np.full(size + size // 8, UNKNOWN, np.int64)
                grown[: len(self._keep_ms)] = self._keep_ms
                self._keep_ms = grown
            fresh = fresh[self._keep_ms[fresh] == UNKNOWN]
            self._keep_ms[fresh] = self._durations(fresh)
            self._looked_at = added
            return self._keep_ms[:count]

    def _durations(self, refs: Int32) -> Int64:
        """How long each of these series is kept, by the rules: int64[S]."""
        found = np.full(len(refs), duration_of(self.options.default_ms), np.int64)
        for rule in reversed(self.options.rules) if len(refs) else ():
            found[np.isin(refs, self._index.satisfying(refs, rule.matchers))] = duration_of(rule.keep_ms)
        return found


def duration_of(keep_ms: int) -> int:
    """0 as a time without end."""
    return keep_ms or ENDLESS_MS
