"""The memory of the result cache: runs by key, the least recently used leave first."""

from collections import OrderedDict
from dataclasses import dataclass

from promlike.promql.cached.run import Run, RunKey

LARGEST_SHARE = 4
"""No run may take more than this part of the cache."""


@dataclass(slots=True, kw_only=True)
class ResultCacheCounters:
    """Totals since the start. Queries are `whole`, `partial` or `missed` by what the cache had of them, `uncacheable`, or `bypassed` when
    the request said so. `shared_steps` are those of the cached ones that came from the cache that daemons share.
    """

    whole: int = 0
    partial: int = 0
    missed: int = 0
    uncacheable: int = 0
    bypassed: int = 0
    steps: int = 0
    cached_steps: int = 0
    shared_steps: int = 0
    evicted: int = 0
    invalidated: int = 0


class ResultCache:
    """Keeps runs in so many bytes; 0 keeps none. One thread."""

    def __init__(self, max_bytes: int) -> None:
        self.counters = ResultCacheCounters()
        self.max_bytes = max_bytes
        self.bytes = 0
        self._runs: OrderedDict[RunKey, Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def known(self) -> list[RunKey]:
        """Of everything that is kept."""
        return list(self._runs)

    def get(self, key: RunKey) -> Run | None:
        run = self._runs.get(key)
        if run is not None:
            self._runs.move_to_end(key)
        return run

    def put(self, key: RunKey, run: Run) -> None:
        """Keep a run in place of what was kept under its key, unless it is too large; others make room."""
        self.drop(key)
        size = _size(key, run)
        if size * LARGEST_SHARE > self.max_bytes:
            return
        self._runs[key] = run
        self.bytes += size
        while self.bytes > self.max_bytes:
            oldest, evicted = self._runs.popitem(last=False)
            self.bytes -= _size(oldest, evicted)
            self.counters.evicted += 1

    def drop(self, key: RunKey) -> None:
        run = self._runs.pop(key, None)
        if run is not None:
            self.bytes -= _size(key, run)


def _size(key: RunKey, run: Run) -> int:
    return run.bytes + 2 * len(key.text)
