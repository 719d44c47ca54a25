"""Which queries were asked most often, took longest, and took most time in all, lately."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from promlike.api.running import RunningQuery

MOST_QUERIES = 20_000
"""So many of the newest queries are remembered."""

MOST_CHARACTERS = 1024
"""Of longer texts the beginning is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopQuery:
    """Queries of one text over one length of time."""

    text: str
    range_seconds: float
    count: int
    seconds: float

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.count


class TopQueries:
    """Remembers queries that ended; `now` is a clock in seconds. Equal texts are kept once."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._ended: deque[tuple[float, str, float, float]] = deque()
        self._texts: dict[str, tuple[str, int]] = {}

    def note(self, query: RunningQuery) -> None:
        """One query that ended."""
        text = query.text[:MOST_CHARACTERS]
        kept, uses = self._texts.get(text, (text, 0))
        self._texts[kept] = (kept, uses + 1)
        self._ended.append((self._now(), kept, (query.end_ms - query.start_ms) / 1000, query.seconds))
        if len(self._ended) > MOST_QUERIES:
            self._forget(self._ended.popleft()[1])

    def _forget(self, text: str) -> None:
        kept, uses = self._texts[text]
        if uses == 1:
            del self._texts[text]
        else:
            self._texts[text] = (kept, uses - 1)

    def of_last(self, seconds: float) -> Sequence[TopQuery]:
        """The queries that ended in the last so many seconds, put together by text and length of time."""
        since = self._now() - seconds
        sums: dict[tuple[str, float], tuple[int, float]] = {}
        for at, text, range_seconds, took in reversed(self._ended):
            if at < since:
                break
            number, total = sums.get((text, range_seconds), (0, 0.0))
            sums[text, range_seconds] = (number + 1, total + took)
        return [TopQuery(text=text, range_seconds=length, count=number, seconds=total) for (text, length), (number, total) in sums.items()]
